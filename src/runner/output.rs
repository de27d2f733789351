//! The read ends of a sandbox's stdout and stderr.

use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use tokio::net::unix::pipe;

/// One read takes at most this much: a pipe's usual capacity.
const CHUNK: usize = 64 << 10;
/// A pipe never holds more than this (`/proc/sys/fs/pipe-max-size`, default), so what an ended
/// program left in one is read by taking at most this much.
const MAX_PIPE: usize = 1 << 20;

/// One output pipe; after its end it stays silent.
#[derive(Debug)]
pub(super) struct Pipe {
    receiver: Option<pipe::Receiver>,
    buffer: Vec<u8>,
}

impl Pipe {
    pub(super) fn new(fd: Option<OwnedFd>) -> io::Result<Self> {
        Ok(Self {
            receiver: fd.map(pipe::Receiver::from_owned_fd).transpose()?,
            buffer: Vec::new(),
        })
    }

    /// The next piece. Waits for ever after the end. Cancel safe.
    pub(super) async fn read(&mut self) -> Bytes {
        loop {
            let Some(receiver) = &self.receiver else {
                return std::future::pending().await;
            };
            if receiver.readable().await.is_err() {
                self.receiver = None;
                continue;
            }
            if let Some(chunk) = self.try_read() {
                return chunk;
            }
        }
    }

    /// A piece that is there already.
    fn try_read(&mut self) -> Option<Bytes> {
        let receiver = self.receiver.as_ref()?;
        self.buffer.resize(CHUNK, 0);
        match receiver.try_read(&mut self.buffer) {
            Ok(0) => {
                self.receiver = None;
                None
            }
            Ok(n) => Some(Bytes::copy_from_slice(&self.buffer[..n])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Some(Bytes::new()),
            Err(_) => {
                self.receiver = None;
                None
            }
        }
    }

    /// What is in the pipe now.
    pub(super) fn drain(&mut self) -> Vec<Bytes> {
        let mut total = 0;
        let mut pieces = Vec::new();
        while total < MAX_PIPE {
            let Some(piece) = self.try_read() else { break };
            total += piece.len();
            if !piece.is_empty() {
                pieces.push(piece);
            }
        }
        pieces
    }
}

/// Reads a pipe to its end and keeps the last `keep` bytes as text, for a message about a program
/// that did not start.
pub(super) fn tail(pipe: &mut Pipe, keep: usize) -> String {
    let bytes = pipe.drain().concat();
    let from = bytes.len().saturating_sub(keep);
    String::from_utf8_lossy(&bytes[from..]).trim().to_owned()
}
