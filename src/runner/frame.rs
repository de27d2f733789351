//! Frames: one JSON object per line over the runner's file descriptor 3.
//!
//! What a runner sends is untrusted: user code can write to the descriptor too. A frame can claim a
//! result; sizes are bounded here, and anything unreadable ends the runner.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::limits::Bytes;

#[cfg(any(test, fuzzing))]
pub(crate) mod property;

/// Longest line of a runner that has nothing to report: what is beyond `ready` and `failed`.
pub(super) const SHORT_LINE: Bytes = Bytes::mib(1);
/// What a `finished` frame holds besides its result: names, and an error of 64 KiB, escaped.
const LINE_ROOM: u64 = 1 << 20;
/// JSON writes one byte as six at most (`\u0000`).
const ESCAPED: u64 = 6;

/// Longest line that can carry a result of at most `result`.
pub(super) fn finished_line(result: Bytes) -> Bytes {
    Bytes(result.0.saturating_mul(ESCAPED).saturating_add(LINE_ROOM))
}

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
        /// Pages have gone elsewhere since the execution before began.
        navigated: bool,
        /// Longest result.
        result_limit_bytes: u64,
        /// Added to the environment.
        environment: &'a BTreeMap<String, String>,
        /// The code.
        code: &'a str,
    },
}

/// What a runner tells the daemon.
#[derive(Debug)]
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
    /// And the runner is at rest: what a `finished` frame with `settles` is followed by.
    Settled {
        /// Of that frame.
        id: String,
        /// The page it is on, if that is another one than the one it was given.
        page: Option<String>,
    },
}

/// The end of an execution, as the runner claims it.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) id: String,
    pub(super) exit_code: i32,
    pub(super) result: Option<String>,
    pub(super) result_truncated: bool,
    pub(super) error: Option<ClaimedError>,
    pub(super) page: Option<String>,
    /// A `settled` frame follows.
    pub(super) settles: bool,
}

/// The fields of every frame of a runner. Not a tagged enum: for one, serde keeps all values of a
/// line, unknown ones too, as a tree of 32 bytes for each `0,`.
#[derive(Debug, Deserialize)]
struct Fields {
    #[serde(rename = "type")]
    kind: Kind,
    message: Option<String>,
    id: Option<String>,
    exit_code: Option<i32>,
    result: Option<String>,
    #[serde(default)]
    result_truncated: bool,
    error: Option<ClaimedError>,
    page: Option<String>,
    #[serde(default)]
    settles: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Ready,
    Failed,
    Finished,
    Settled,
}

impl FromRunner {
    fn parse(line: &[u8]) -> io::Result<Self> {
        let fields: Fields = serde_json::from_slice(line)?;
        let missing = |name| io::Error::other(format!("the frame has no {name}"));
        Ok(match fields.kind {
            Kind::Ready => Self::Ready,
            Kind::Failed => Self::Failed {
                message: fields.message.ok_or_else(|| missing("message"))?,
            },
            Kind::Finished => Self::Finished(Finished {
                id: fields.id.ok_or_else(|| missing("id"))?,
                exit_code: fields.exit_code.ok_or_else(|| missing("exit_code"))?,
                result: fields.result,
                result_truncated: fields.result_truncated,
                error: fields.error,
                page: fields.page,
                settles: fields.settles,
            }),
            Kind::Settled => Self::Settled {
                id: fields.id.ok_or_else(|| missing("id"))?,
                page: fields.page,
            },
        })
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct ClaimedError {
    pub(super) name: String,
    pub(super) message: String,
}

/// The daemon's end of a runner's channel.
#[derive(Debug)]
pub(super) struct Channel {
    reader: Reader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

/// What comes from a runner.
#[derive(Debug)]
struct Reader<R> {
    bytes: BufReader<R>,
    /// What is read of a line that is not whole yet.
    line: Vec<u8>,
}

impl Channel {
    pub(super) fn new(socket: StdUnixStream) -> io::Result<Self> {
        let (reader, writer) = UnixStream::from_std(socket)?.into_split();
        Ok(Self {
            reader: Reader::new(reader),
            writer,
        })
    }

    /// Not cancel safe: a dropped call may leave half a frame written; the runner is then ended.
    pub(super) async fn send(&mut self, frame: &ToRunner<'_>) -> io::Result<()> {
        let mut line = serde_json::to_vec(frame)?;
        line.push(b'\n');
        self.writer.write_all(&line).await
    }

    /// The next frame, of at most `longest`; `None` when the runner closed its end. Cancel safe:
    /// what was read of a line is kept.
    pub(super) async fn receive(&mut self, longest: Bytes) -> io::Result<Option<FromRunner>> {
        self.reader.receive(longest).await
    }
}

impl<R: AsyncRead + Unpin> Reader<R> {
    fn new(bytes: R) -> Self {
        Self {
            bytes: BufReader::with_capacity(16 << 10, bytes),
            line: Vec::new(),
        }
    }

    async fn receive(&mut self, longest: Bytes) -> io::Result<Option<FromRunner>> {
        loop {
            let chunk = self.bytes.fill_buf().await?;
            if chunk.is_empty() {
                return Ok(None);
            }
            let end = memchr::memchr(b'\n', chunk);
            let taken = end.map_or(chunk.len(), |at| at + 1);
            self.line.extend_from_slice(&chunk[..end.unwrap_or(taken)]);
            self.bytes.consume(taken);
            if self.line.len() > longest.as_usize() {
                return Err(io::Error::other("frame longer than its bound"));
            }
            if end.is_some() {
                let frame = FromRunner::parse(&self.line);
                self.line.clear();
                // A large result must not keep its memory for the life of the context.
                self.line.shrink_to(64 << 10);
                return frame.map(Some);
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
            channel.receive(SHORT_LINE).await.unwrap(),
            Some(FromRunner::Ready)
        ));
        let early = tokio::time::timeout(
            std::time::Duration::from_millis(20),
            channel.receive(SHORT_LINE),
        )
        .await;
        assert!(early.is_err(), "half a frame is none");
        peer.write_all(b"\"exit_code\":3}\n").await.unwrap();
        let Some(FromRunner::Finished(finished)) = channel.receive(SHORT_LINE).await.unwrap()
        else {
            panic!("no finished frame");
        };
        assert_eq!((finished.id.as_str(), finished.exit_code), ("1", 3));
        drop(peer);
        assert!(channel.receive(SHORT_LINE).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn nonsense_is_an_error() {
        let (mut channel, mut peer) = pair();
        for line in [
            &b"{\"type\":\"outcome\"}"[..],
            b"{\"type\":\"failed\"}",
            b"{\"type\":\"finished\",\"id\":\"1\"}",
            b"{\"type\":\"finished\",\"id\":\"1\",\"exit_code\":4294967296}",
            b"{\"type\":\"finished\",\"id\":\"1\",\"id\":\"2\",\"exit_code\":0}",
            b"{\"type\":\"ready\"} {\"type\":\"ready\"}",
            b"[]",
            b"",
            b"\0",
            b"\xff",
        ] {
            peer.write_all(&[line, b"\n"].concat()).await.unwrap();
            let received = channel.receive(SHORT_LINE).await;
            assert!(received.is_err(), "{line:?}: {received:?}");
        }
    }

    #[tokio::test]
    async fn a_line_is_kept_no_longer_than_what_is_awaited() {
        let (mut channel, mut peer) = pair();
        let flood = tokio::spawn(async move {
            let piece = vec![b'a'; 64 << 10];
            // An end, so that a reader without a bound is found out.
            for _ in 0..64 {
                if peer.write_all(&piece).await.is_err() {
                    break;
                }
            }
        });
        assert!(channel.receive(Bytes::kib(256)).await.is_err());
        assert!(channel.reader.line.capacity() <= 1 << 20);
        drop(channel);
        flood.await.unwrap();
    }

    #[tokio::test]
    async fn the_memory_of_a_long_line_is_given_back() {
        let (mut channel, mut peer) = pair();
        let result = "x".repeat(512 << 10);
        let line = format!(
            "{{\"type\":\"finished\",\"id\":\"1\",\"exit_code\":0,\"result\":\"{result}\"}}\n"
        );
        let sent = tokio::spawn(async move { peer.write_all(line.as_bytes()).await });
        assert!(channel.receive(SHORT_LINE).await.unwrap().is_some());
        assert!(channel.reader.line.capacity() <= 64 << 10);
        sent.await.unwrap().unwrap();
    }

    #[test]
    fn a_line_has_room_for_every_result_within_its_limit() {
        let result = "\u{0}".repeat(1000);
        let line = serde_json::to_string(&result).unwrap();
        assert!(line.len() as u64 <= finished_line(Bytes(1000)).0);
        assert!(finished_line(Bytes::mib(32)).0 < Bytes::mib(224).0);
    }

    #[test]
    fn code_is_the_last_field() {
        let frame = ToRunner::Execute {
            id: "i".into(),
            page: "p",
            navigated: false,
            result_limit_bytes: 5,
            environment: &BTreeMap::from([("A".into(), "b".into())]),
            code: "x\n",
        };
        assert_eq!(
            serde_json::to_string(&frame).unwrap(),
            r#"{"type":"execute","id":"i","page":"p","navigated":false,"result_limit_bytes":5,"environment":{"A":"b"},"code":"x\n"}"#
        );
    }
}
