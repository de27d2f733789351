//! The browser's pipe: NUL-delimited messages each way.
//!
//! Knows nothing of clients or sessions.

use std::io;
use std::os::fd::OwnedFd;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::message::Message;

/// Read buffer's free room at least; the size of a pipe on Linux.
const READ_ROOM: usize = 64 << 10;

/// What is kept of a message that is too long: enough to find its id.
pub(super) const HEAD: usize = 256;

/// What came from the browser.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A message.
    Message(Message),
    /// A response longer than the bound, thrown away as it came.
    TooLong {
        /// Its id.
        id: i64,
    },
}

/// Reads messages.
#[derive(Debug)]
pub(crate) struct Reader<R = pipe::Receiver> {
    pipe: R,
    buffer: BytesMut,
    /// Bytes of `buffer` known to hold no NUL.
    scanned: usize,
    /// Of a message that is too long and whose end is still to come: how it began.
    skipping: Option<Vec<u8>>,
    max_message: usize,
}

impl Reader {
    /// Takes the fd the browser writes to; a read end of a pipe.
    pub(crate) fn new(from_browser: OwnedFd, max_message: usize) -> io::Result<Self> {
        let pipe = pipe::Receiver::from_owned_fd(from_browser)?;
        Ok(Self::over(pipe, max_message))
    }
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn over(pipe: R, max_message: usize) -> Self {
        Self {
            pipe,
            buffer: BytesMut::new(),
            scanned: 0,
            skipping: None,
            max_message,
        }
    }

    /// The next message; `None` at the end of the pipe. Messages that are no JSON, and events
    /// longer than the bound, are skipped. Cancel safe.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Incoming>> {
        loop {
            let Some(end) = self.find_end() else {
                if self.skipping.is_none() && self.buffer.len() > self.max_message {
                    self.skipping = Some(head(&self.buffer));
                }
                if self.skipping.is_some() {
                    self.buffer.clear();
                    self.scanned = 0;
                }
                self.buffer.reserve(READ_ROOM);
                if self.pipe.read_buf(&mut self.buffer).await? == 0 {
                    return Ok(None);
                }
                continue;
            };
            let mut raw = self.buffer.split_to(end + 1);
            self.scanned = 0;
            raw.truncate(end);
            let too_long = (raw.len() > self.max_message).then(|| head(&raw));
            if let Some(head) = self.skipping.take().or(too_long) {
                drop(raw);
                // A fresh buffer, so that the long one's memory is given back.
                self.buffer = BytesMut::from(&self.buffer[..]);
                match leading_id(&head) {
                    Some(id) => return Ok(Some(Incoming::TooLong { id })),
                    None => tracing::warn!("an event longer than the bound was dropped"),
                }
                continue;
            }
            match Message::parse(&raw.freeze()) {
                Ok(message) => return Ok(Some(Incoming::Message(message))),
                Err(error) => tracing::warn!(%error, "the browser sent what is no CDP message"),
            }
        }
    }

    fn find_end(&mut self) -> Option<usize> {
        let found = memchr::memchr(0, &self.buffer[self.scanned..]);
        let end = found.map(|at| self.scanned + at);
        self.scanned = self.buffer.len();
        end
    }
}

fn head(message: &[u8]) -> Vec<u8> {
    message[..HEAD.min(message.len())].to_vec()
}

/// The id of a response, which Chromium writes first.
pub(super) fn leading_id(head: &[u8]) -> Option<i64> {
    let digits = head.strip_prefix(b"{\"id\":")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// Writes messages.
#[derive(Debug)]
pub(crate) struct Writer(pipe::Sender);

impl Writer {
    /// Takes the fd the browser reads from; a write end of a pipe.
    pub(crate) fn new(to_browser: OwnedFd) -> io::Result<Self> {
        pipe::Sender::from_owned_fd(to_browser).map(Self)
    }

    /// Writes one message.
    pub(crate) async fn send(&mut self, message: &Message) -> io::Result<()> {
        let mut bytes = message.encode();
        bytes.push(0);
        self.0.write_all_buf(&mut Bytes::from(bytes)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(max_message: usize) -> (pipe::Sender, Reader) {
        let (to, from) = pipe::pipe().unwrap();
        let from = from.into_nonblocking_fd().unwrap();
        (to, Reader::new(from, max_message).unwrap())
    }

    #[tokio::test]
    async fn messages_are_cut_at_nul_wherever_reads_end() {
        let (mut to, mut reader) = pair(1 << 20);
        let big = format!(r#"{{"id":2,"result":"{}"}}"#, "x".repeat(300_000));
        let text = format!("{{\"id\":1}}\0{big}\0not json\0{{\"method\":\"A.b\"}}\0");
        let writer = tokio::spawn(async move { to.write_all(text.as_bytes()).await });
        let mut seen = Vec::new();
        while let Some(Incoming::Message(message)) = reader.next().await.unwrap() {
            seen.push((
                message.id,
                message.method,
                message.result.map_or(0, |r| r.len()),
            ));
        }
        writer.await.unwrap().unwrap();
        assert_eq!(
            seen,
            vec![
                (Some(1), None, 0),
                (Some(2), None, 300_002),
                (None, Some("A.b".into()), 0)
            ]
        );
    }

    #[tokio::test]
    async fn a_reply_too_long_is_skipped_and_named_and_the_next_one_read() {
        let (mut to, mut reader) = pair(100_000);
        let big = "x".repeat(400_000);
        let text =
            format!("{{\"id\":9,\"result\":\"{big}\"}}\0{{\"method\":\"{big}\"}}\0{{\"id\":3}}\0");
        let writer = tokio::spawn(async move { to.write_all(text.as_bytes()).await });
        assert!(matches!(
            reader.next().await.unwrap(),
            Some(Incoming::TooLong { id: 9 })
        ));
        let Some(Incoming::Message(message)) = reader.next().await.unwrap() else {
            panic!()
        };
        assert_eq!(message.id, Some(3));
        assert!(reader.next().await.unwrap().is_none());
        writer.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn no_more_is_kept_of_a_message_without_end_than_the_bound() {
        let (mut to, mut reader) = pair(100_000);
        let flood = tokio::spawn(async move { to.write_all(&vec![b'x'; 4 << 20]).await });
        assert!(reader.next().await.unwrap().is_none());
        flood.await.unwrap().unwrap();
        // Twice, as a buffer grows.
        assert!(reader.buffer.capacity() <= 2 * (100_000 + READ_ROOM));
    }
}
