//! A connection whose bytes are counted: a client's, so that a silent one can be ended, and a
//! host's, for the session's log and its byte limit.
//!
//! Bytes that are moved past [`Watched`], by whatever means, must be counted in its [`Traffic`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::usage::Meter;
use crate::limits::Bytes;

/// Bytes that passed one connection.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    read: AtomicU64,
    written: AtomicU64,
    /// The session's, for a connection to a host.
    session: Option<Arc<Meter>>,
}

impl Traffic {
    /// Read from it so far.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Written to it so far.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// How many bytes may pass next, at least 1; to be asked before each read and write.
    ///
    /// # Errors
    /// When the session's byte limit is reached.
    pub(super) fn room(&self) -> io::Result<usize> {
        match self.session.as_ref().map(|session| session.left()) {
            None => Ok(usize::MAX),
            Some(Bytes(0)) => Err(io::Error::other("the session's byte limit is reached")),
            Some(left) => Ok(left.as_usize()),
        }
    }

    /// Bytes were read from it.
    pub(super) fn add_read(&self, bytes: usize) {
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(session) = &self.session {
            session.add_received(bytes as u64);
        }
    }

    /// Bytes were written to it.
    pub(super) fn add_written(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(session) = &self.session {
            session.add_sent(bytes as u64);
        }
    }

    /// Resolves when no byte has passed for `limit`, looking eight times in that time.
    pub(super) async fn silent_for(&self, limit: Duration) {
        let total = || self.read() + self.written();
        let mut seen = total();
        let mut since = Instant::now();
        while since.elapsed() < limit {
            tokio::time::sleep(limit / 8).await;
            let now = total();
            if now != seen {
                seen = now;
                since = Instant::now();
            }
        }
    }
}

/// A stream that counts.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TcpStream,
    traffic: Arc<Traffic>,
}

impl Watched {
    /// A client's connection, and its count.
    pub(super) fn client(stream: TcpStream) -> (Self, Arc<Traffic>) {
        Self::new(stream, Traffic::default())
    }

    /// A connection to a host, and its count. What passes is the session's too; when `session` is
    /// used up, reads and writes fail. Connections that move bytes in the same moment may each pass
    /// the limit by what they move then.
    pub(super) fn host(stream: TcpStream, session: &Arc<Meter>) -> (Self, Arc<Traffic>) {
        let traffic = Traffic {
            session: Some(Arc::clone(session)),
            ..Traffic::default()
        };
        Self::new(stream, traffic)
    }

    fn new(stream: TcpStream, traffic: Traffic) -> (Self, Arc<Traffic>) {
        let traffic = Arc::new(traffic);
        let watched = Self {
            stream,
            traffic: Arc::clone(&traffic),
        };
        (watched, traffic)
    }

    fn count_written(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = result {
            self.traffic.add_written(bytes);
        }
        result
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = self.traffic.room()?;
        let stream = Pin::new(&mut self.stream);
        let bytes = if buf.remaining() <= room {
            let before = buf.filled().len();
            ready!(stream.poll_read(cx, buf))?;
            buf.filled().len() - before
        } else {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
            ready!(stream.poll_read(cx, &mut part))?;
            let bytes = part.filled().len();
            buf.advance(bytes);
            bytes
        };
        self.traffic.add_read(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = self.traffic.room()?.min(buf.len());
        let result = Pin::new(&mut self.stream).poll_write(cx, &buf[..room]);
        self.count_written(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if length > self.traffic.room()? {
            // The last bytes there are: one piece after the other.
            let first = bufs.iter().find(|buf| !buf.is_empty());
            return self.poll_write(cx, first.map_or(&[], |buf| buf));
        }
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count_written(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
