//! Frames: one JSON object per line over the runner's file descriptor 3.
//!
//! What a runner sends is untrusted: user code can write to the descriptor too. A frame can claim a
//! result; sizes are bounded here, and anything unreadable ends the runner.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// Longest line either way: the largest result (32 MiB) with every byte escaped, and some room.
const MAX_LINE: usize = 224 << 20;

/// What the daemon tells a runner. `code` is last: the bash runner relies on the order.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ToRunner<'a> {
    /// First, once.
    Init {
        /// Where the browser is.
        cdp_url: &'a str,
    },
    /// Run this.
    Execute {
        /// Echoed in `finished`.
        id: String,
        /// What `page` is to be.
        page: &'a str,
        /// Longest result.
        result_limit_bytes: u64,
        /// Added to the environment.
        environment: &'a BTreeMap<String, String>,
        /// The code.
        code: &'a str,
    },
}

/// What a runner tells the daemon.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum FromRunner {
    /// Connected to the browser.
    Ready,
    /// Will not be ready.
    Failed {
        /// Why.
        message: String,
    },
    /// The code has ended.
    Finished(Finished),
}

/// The end of an execution, as the runner claims it.
#[derive(Debug, Deserialize)]
pub(super) struct Finished {
    pub(super) id: String,
    pub(super) exit_code: i32,
    #[serde(default)]
    pub(super) result: Option<String>,
    #[serde(default)]
    pub(super) result_truncated: bool,
    #[serde(default)]
    pub(super) error: Option<ClaimedError>,
    #[serde(default)]
    pub(super) page: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ClaimedError {
    pub(super) name: String,
    pub(super) message: String,
}

/// The daemon's end of a runner's channel.
#[derive(Debug)]
pub(super) struct Channel {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    line: Vec<u8>,
}

impl Channel {
    pub(super) fn new(socket: StdUnixStream) -> io::Result<Self> {
        let (reader, writer) = UnixStream::from_std(socket)?.into_split();
        Ok(Self {
            reader: BufReader::with_capacity(16 << 10, reader),
            writer,
            line: Vec::new(),
        })
    }

    /// Not cancel safe: a dropped call may leave half a frame written; the runner is then ended.
    pub(super) async fn send(&mut self, frame: &ToRunner<'_>) -> io::Result<()> {
        let mut line = serde_json::to_vec(frame)?;
        line.push(b'\n');
        self.writer.write_all(&line).await
    }

    /// The next frame; `None` when the runner closed its end. Cancel safe: what was read of a line
    /// is kept.
    pub(super) async fn receive(&mut self) -> io::Result<Option<FromRunner>> {
        loop {
            let chunk = self.reader.fill_buf().await?;
            if chunk.is_empty() {
                return Ok(None);
            }
            let end = memchr::memchr(b'\n', chunk);
            let taken = end.map_or(chunk.len(), |at| at + 1);
            self.line.extend_from_slice(&chunk[..end.unwrap_or(taken)]);
            self.reader.consume(taken);
            if self.line.len() > MAX_LINE {
                return Err(io::Error::other("frame longer than its bound"));
            }
            if end.is_some() {
                let frame = serde_json::from_slice(&self.line);
                self.line.clear();
                // A large result must not keep its memory for the life of the context.
                self.line.shrink_to(64 << 10);
                return Ok(Some(frame?));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Channel, UnixStream) {
        let (ours, theirs) = StdUnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        (
            Channel::new(ours).unwrap(),
            UnixStream::from_std(theirs).unwrap(),
        )
    }

    #[tokio::test]
    async fn frames_arrive_whole_however_they_are_cut() {
        let (mut channel, mut peer) = pair();
        peer.write_all(b"{\"type\":\"ready\"}\n{\"type\":\"finished\",\"id\":\"1\",")
            .await
            .unwrap();
        assert!(matches!(
            channel.receive().await.unwrap(),
            Some(FromRunner::Ready)
        ));
        let early =
            tokio::time::timeout(std::time::Duration::from_millis(20), channel.receive()).await;
        assert!(early.is_err(), "half a frame is none");
        peer.write_all(b"\"exit_code\":3}\n").await.unwrap();
        let Some(FromRunner::Finished(finished)) = channel.receive().await.unwrap() else {
            panic!("no finished frame");
        };
        assert_eq!((finished.id.as_str(), finished.exit_code), ("1", 3));
        drop(peer);
        assert!(channel.receive().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn nonsense_is_an_error() {
        let (mut channel, mut peer) = pair();
        peer.write_all(b"{\"type\":\"outcome\"}\n").await.unwrap();
        assert!(channel.receive().await.is_err());
    }

    #[test]
    fn code_is_the_last_field() {
        let frame = ToRunner::Execute {
            id: "i".into(),
            page: "p",
            result_limit_bytes: 5,
            environment: &BTreeMap::from([("A".into(), "b".into())]),
            code: "x\n",
        };
        assert_eq!(
            serde_json::to_string(&frame).unwrap(),
            r#"{"type":"execute","id":"i","page":"p","result_limit_bytes":5,"environment":{"A":"b"},"code":"x\n"}"#
        );
    }
}
