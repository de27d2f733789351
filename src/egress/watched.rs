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

    /// Whether more may pass; to be asked before each read and write.
    ///
    /// # Errors
    /// When the session's byte limit is reached.
    pub(super) fn check(&self) -> io::Result<()> {
        match &self.session {
            Some(session) if session.is_used_up() => {
                Err(io::Error::other("the session's byte limit is reached"))
            }
            _ => Ok(()),
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
    /// used up, reads and writes fail. Each connection may be one read or write late to see it.
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
        self.traffic.check()?;
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.traffic.add_read(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.traffic.check()?;
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count_written(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.traffic.check()?;
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
