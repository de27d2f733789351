//! Bytes between the two ends of a tunnel.
//!
//! Buffers belong to the thread, not to the tunnel: one is taken when there is something to read and
//! given back when all of it is written, so a tunnel at rest has none, and large ones, which save
//! processor time, cost little. Only an end that does not take its bytes keeps one, and only so many of
//! a session may: its other tunnels then read less at once.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes read at once. At 64 KiB a fast download takes a quarter to a half more processor time, over
/// 256 KiB hardly less.
const BUFFER: usize = 256 << 10;
/// Buffers of that size one session has at once: 16 MiB.
const BUFFERS: usize = 64;
/// Bytes read at once while there are none left. The 768 tunnels of a session's three listeners keep
/// at most 24 MiB in such buffers, if no end of any takes its bytes.
const SMALL_BUFFER: usize = 16 << 10;

/// The large buffers of one session.
#[derive(Debug)]
pub(super) struct Buffers(Semaphore);

impl Buffers {
    pub(super) fn new() -> Self {
        Self(Semaphore::new(BUFFERS))
    }
}

thread_local! {
    /// Kept for the next tunnel that has something to read, of whichever session: what is written
    /// on is only ever what that tunnel has just read.
    static SPARE: RefCell<Option<Box<[u8]>>> = const { RefCell::new(None) };
}

/// Copies both ways until both ends have closed, passing each end's close on by itself.
///
/// # Errors
/// The first one of either end.
pub(super) async fn copy(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    mut host: impl AsyncRead + AsyncWrite + Unpin,
    buffers: &Buffers,
) -> io::Result<()> {
    let mut up = Way::new(buffers);
    let mut down = Way::new(buffers);
    poll_fn(|cx| {
        let up = up.poll(cx, &mut client, &mut host)?;
        let down = down.poll(cx, &mut host, &mut client)?;
        match (up, down) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
            (_, _) => Poll::Pending,
        }
    })
    .await
}

/// One direction.
struct Way<'a> {
    buffers: &'a Buffers,
    /// What is read and not yet written.
    rest: Option<Rest<'a>>,
    state: State,
}

struct Rest<'a> {
    buffer: Box<[u8]>,
    /// Of the buffer.
    start: usize,
    end: usize,
    /// Of a large buffer.
    large: Option<SemaphorePermit<'a>>,
}

#[derive(Clone, Copy)]
enum State {
    Open,
    /// Written, not flushed.
    Unflushed,
    /// The reader has ended; the writer is told.
    Ending,
    Ended,
}

impl<'a> Way<'a> {
    fn new(buffers: &'a Buffers) -> Self {
        Self {
            buffers,
            rest: None,
            state: State::Open,
        }
    }

    /// Ready when the reader has ended and the writer knows. Other tunnels get their turn although
    /// this loops: tokio's streams are `Pending` after a while even if there is more to read.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        loop {
            if let Some(rest) = &mut self.rest {
                ready!(rest.poll_write(cx, to))?;
                self.rest.take().into_iter().for_each(Rest::give_back);
                self.state = State::Unflushed;
            }
            match self.state {
                State::Open | State::Unflushed => match self.poll_read(cx, from) {
                    Poll::Ready(read) => read?,
                    Poll::Pending if matches!(self.state, State::Unflushed) => {
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        self.state = State::Open;
                        return Poll::Pending;
                    }
                    Poll::Pending => return Poll::Pending,
                },
                State::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = State::Ended;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Fills `rest`, or finds the end.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
    ) -> Poll<io::Result<()>> {
        let mut rest = Rest::take(self.buffers);
        let mut space = ReadBuf::new(&mut rest.buffer);
        let read = Pin::new(from).poll_read(cx, &mut space);
        rest.end = space.filled().len();
        match read {
            Poll::Ready(Ok(())) if rest.end > 0 => self.rest = Some(rest),
            Poll::Ready(Ok(())) => {
                rest.give_back();
                self.state = State::Ending;
            }
            Poll::Ready(Err(_)) | Poll::Pending => {
                rest.give_back();
                return read;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<'a> Rest<'a> {
    fn take(buffers: &'a Buffers) -> Self {
        let large = buffers.0.try_acquire().ok();
        let new = |size| vec![0; size].into_boxed_slice();
        let buffer = match &large {
            Some(_) => SPARE
                .with_borrow_mut(Option::take)
                .unwrap_or_else(|| new(BUFFER)),
            None => new(SMALL_BUFFER),
        };
        Self {
            buffer,
            start: 0,
            end: 0,
            large,
        }
    }

    fn give_back(self) {
        if self.large.is_none() {
            return;
        }
        // Dropped if there is one already.
        SPARE.with_borrow_mut(|spare| {
            spare.get_or_insert(self.buffer);
        });
    }

    /// Writes all of it.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        while self.start < self.end {
            let left = &self.buffer[self.start..self.end];
            let written = ready!(Pin::new(&mut *to).poll_write(cx, left))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.start += written;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;

    /// The two far ends of a tunnel whose near ends hold `room` bytes each.
    fn tunnel(room: usize) -> (DuplexStream, DuplexStream, JoinHandle<io::Result<()>>) {
        let (client, near_client) = duplex(room);
        let (host, near_host) = duplex(room);
        let task = tokio::spawn(async move { copy(near_client, near_host, &Buffers::new()).await });
        (client, host, task)
    }

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|n| (n % 251) as u8).collect()
    }

    #[tokio::test]
    async fn every_byte_passes_both_ways_through_ends_that_take_few_at_a_time() {
        let sent = bytes(3 * BUFFER + 7);
        let (client, host, task) = tunnel(1000);
        let exchange = |mut end: DuplexStream| {
            let sent = sent.clone();
            async move {
                let (mut read, mut write) = tokio::io::split(&mut end);
                let mut got = vec![0; sent.len()];
                let (written, count) =
                    tokio::join!(write.write_all(&sent), read.read_exact(&mut got));
                written.unwrap();
                count.unwrap();
                got
            }
        };
        let (at_client, at_host) = tokio::join!(exchange(client), exchange(host));
        assert!(at_client == sent && at_host == sent);
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_end_that_has_sent_everything_still_gets_its_answer() {
        let (mut client, mut host, task) = tunnel(64);
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        host.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"question");
        assert!(!task.is_finished());
        host.write_all(b"answer").await.unwrap();
        drop(host);
        got.clear();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"answer");
        task.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_way_that_is_stuck_does_not_stop_the_other() {
        let (mut client, mut host, _task) = tunnel(64);
        // Nobody reads it: `host` takes 64 bytes and no more.
        let flood = bytes(2 * BUFFER);
        let stuck = tokio::time::timeout(Duration::from_secs(1), client.write_all(&flood));
        assert!(stuck.await.is_err());
        for _ in 0..3 {
            host.write_all(b"news").await.unwrap();
            let mut got = [0; 4];
            client.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"news");
        }
    }

    #[tokio::test]
    async fn an_end_that_takes_no_more_ends_the_tunnel() {
        let (mut client, host, task) = tunnel(64);
        drop(host);
        client.write_all(b"to nobody").await.unwrap();
        let error = task.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_tunnel_at_rest_has_no_buffer_and_the_thread_has_one() {
        let (mut far, mut near) = duplex(4096);
        let (mut to, mut got) = duplex(4096);
        let buffers = Buffers::new();
        let mut ways = [Way::new(&buffers), Way::new(&buffers)];
        for way in &mut ways {
            far.write_all(b"some bytes").await.unwrap();
            poll_fn(|cx| {
                assert!(way.poll(cx, &mut near, &mut to).is_pending());
                Poll::Ready(())
            })
            .await;
            got.read_exact(&mut [0; 10]).await.unwrap();
            assert!(way.rest.is_none());
        }
        assert!(SPARE.with_borrow(Option::is_some));
    }

    #[tokio::test]
    async fn tunnels_that_are_stuck_keep_few_large_buffers_and_the_others_still_move_bytes() {
        let buffers = Buffers::new();
        let mut stuck = Vec::new();
        for _ in 0..=BUFFERS {
            let (mut far, mut near) = duplex(BUFFER);
            far.write_all(&bytes(BUFFER)).await.unwrap();
            let (mut to, reader) = duplex(1);
            let mut way = Way::new(&buffers);
            poll_fn(|cx| {
                assert!(way.poll(cx, &mut near, &mut to).is_pending());
                Poll::Ready(())
            })
            .await;
            stuck.push((way, reader));
        }
        let kept = |way: &Way<'_>| way.rest.as_ref().map(|rest| rest.buffer.len());
        let sizes: Vec<_> = stuck.iter().filter_map(|(way, _)| kept(way)).collect();
        assert_eq!(sizes[..BUFFERS], [BUFFER; BUFFERS]);
        assert_eq!(sizes[BUFFERS..], [SMALL_BUFFER]);

        let sent = bytes(3 * SMALL_BUFFER + 7);
        let (mut client, near_client) = duplex(1000);
        let (mut host, near_host) = duplex(1000);
        let mut got = Vec::new();
        let (copied, written, read) = tokio::join!(
            copy(near_client, near_host, &buffers),
            async {
                client.write_all(&sent).await?;
                client.shutdown().await
            },
            async {
                let read = host.read_to_end(&mut got).await;
                drop(host);
                read
            },
        );
        copied.unwrap();
        written.unwrap();
        read.unwrap();
        assert!(got == sent);

        drop(stuck);
        assert_eq!(buffers.0.available_permits(), BUFFERS);
    }
}
