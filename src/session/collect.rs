//! An execution's output, from events to one reply.

use crate::execution::{ExecutionEvent, ExecutionReport, Stream};

use super::Execution;

/// Output of an execution as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// The output.
    pub text: String,
    /// It held bytes that are not UTF-8, replaced by U+FFFD.
    pub lossy: bool,
}

/// A whole execution.
#[derive(Clone, Debug)]
pub struct Collected {
    /// How it went.
    pub report: ExecutionReport,
    /// What it wrote to file descriptor 1.
    pub stdout: Text,
    /// What it wrote to file descriptor 2.
    pub stderr: Text,
}

impl Execution {
    /// Waits for the end and gives all of it; `None` when its events ended without a report.
    /// Dropping the call kills the execution.
    pub async fn collect(mut self) -> Option<Collected> {
        // The limits of the execution bound these two.
        let mut stdout = Vec::new();
        let mut stderr = Vec::new();
        while let Some(event) = self.events.recv().await {
            match event {
                ExecutionEvent::Started { .. } => {}
                ExecutionEvent::Output(Stream::Stdout, piece) => append(&mut stdout, piece),
                ExecutionEvent::Output(Stream::Stderr, piece) => append(&mut stderr, piece),
                ExecutionEvent::Finished(report) => {
                    return Some(Collected {
                        stdout: text_of(stdout, report.stdout_truncated),
                        stderr: text_of(stderr, report.stderr_truncated),
                        report: *report,
                    });
                }
            }
        }
        None
    }
}

/// The first piece is taken as it is; later ones are copied once. Keeping the pieces themselves
/// would keep their buffers, which may be far larger than what was written.
fn append(output: &mut Vec<u8>, piece: bytes::Bytes) {
    if output.is_empty() {
        *output = piece.into();
    } else {
        output.extend_from_slice(&piece);
    }
}

/// Output as text, and whether it held bytes that are not UTF-8 (replaced by U+FFFD). A character
/// that the limit cut in two is left out and does not count.
#[must_use]
pub fn text_of(mut bytes: Vec<u8>, truncated: bool) -> Text {
    if truncated
        && let Err(error) = std::str::from_utf8(&bytes)
        && error.error_len().is_none()
    {
        bytes.truncate(error.valid_up_to());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Text { text, lossy: false },
        Err(error) => Text {
            text: String::from_utf8_lossy(error.as_bytes()).into_owned(),
            lossy: true,
        },
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::mpsc;

    use super::*;

    fn text(text: &str, lossy: bool) -> Text {
        Text {
            text: text.to_owned(),
            lossy,
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_flagged() {
        assert_eq!(text_of(b"ok".to_vec(), false), text("ok", false));
        assert_eq!(text_of(b"a\xffb".to_vec(), false), text("a\u{fffd}b", true));
        assert_eq!(text_of(b"a\xc3".to_vec(), false), text("a\u{fffd}", true));
    }

    #[test]
    fn a_character_cut_by_the_limit_is_left_out() {
        assert_eq!(text_of(b"a\xe2\x82".to_vec(), true), text("a", false));
        assert_eq!(
            text_of(b"\xff\xe2\x82".to_vec(), true),
            text("\u{fffd}\u{fffd}", true)
        );
    }

    #[tokio::test]
    async fn pieces_join_per_stream_and_split_characters_heal() {
        let (sender, events) = mpsc::channel(8);
        let execution = Execution::of_events(events);
        for (stream, piece) in [
            (Stream::Stdout, &b"\xe2\x82"[..]),
            (Stream::Stderr, b"e"),
            (Stream::Stdout, b"\xac!"),
        ] {
            let event = ExecutionEvent::Output(stream, Bytes::from_static(piece));
            sender.send(event).await.unwrap();
        }
        drop(sender);
        // No report: there is nothing to tell, whatever was written.
        assert!(execution.collect().await.is_none());

        let mut stdout = Vec::new();
        append(&mut stdout, Bytes::from_static(b"\xe2\x82"));
        append(&mut stdout, Bytes::from_static(b"\xac!"));
        assert_eq!(text_of(stdout, false), text("€!", false));
    }
}
