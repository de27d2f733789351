//! Output within a limit: byte-exact up to it, counted beyond it.

use crate::limits::Bytes;

/// Which of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

/// Counts one stream's bytes against its limit. Holds no bytes itself.
#[derive(Debug)]
pub struct BoundedOutput {
    left: u64,
    truncated: bool,
}

impl BoundedOutput {
    /// Lets `limit` bytes through.
    #[must_use]
    pub fn new(limit: Bytes) -> Self {
        Self {
            left: limit.0,
            truncated: false,
        }
    }

    /// Cuts `chunk` to what the limit still allows.
    pub fn admit(&mut self, mut chunk: bytes::Bytes) -> bytes::Bytes {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        if chunk.len() > room {
            self.truncated = true;
            chunk.truncate(room);
        }
        self.left -= chunk.len() as u64;
        chunk
    }

    /// Whether anything was cut.
    #[must_use]
    pub fn truncated(&self) -> bool {
        self.truncated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_up_to_the_limit_pass_exactly() {
        let mut output = BoundedOutput::new(Bytes(5));
        assert_eq!(output.admit(bytes::Bytes::from_static(b"abc")), "abc");
        assert_eq!(output.admit(bytes::Bytes::from_static(b"de")), "de");
        assert!(!output.truncated());
        assert_eq!(output.admit(bytes::Bytes::from_static(b"f")), "");
        assert!(output.truncated());
    }

    #[test]
    fn a_chunk_across_the_limit_is_cut_there() {
        let mut output = BoundedOutput::new(Bytes(4));
        assert_eq!(output.admit(bytes::Bytes::from_static(b"abcdef")), "abcd");
        assert!(output.truncated());
    }
}
