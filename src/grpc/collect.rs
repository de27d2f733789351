//! Output of an execution, from events to one reply.

use crate::execution::{ExecutionEvent, ExecutionReport, Stream};
use crate::session::Execution;

use super::status::Error;
use super::v1;
use super::view::{self, Text};

/// Waits for the end and returns the whole reply. Dropping the call kills the execution.
pub(super) async fn collect(mut execution: Execution) -> Result<v1::ExecuteResponse, Error> {
    // The limits of the execution bound these two.
    let mut stdout = Vec::new();
    let mut stderr = Vec::new();
    while let Some(event) = execution.events.recv().await {
        match event {
            ExecutionEvent::Started { .. } => {}
            ExecutionEvent::Output(Stream::Stdout, piece) => append(&mut stdout, piece),
            ExecutionEvent::Output(Stream::Stderr, piece) => append(&mut stderr, piece),
            ExecutionEvent::Finished(report) => return Ok(reply(*report, stdout, stderr)),
        }
    }
    Err(Error::NoReport(execution.id))
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

fn reply(report: ExecutionReport, stdout: Vec<u8>, stderr: Vec<u8>) -> v1::ExecuteResponse {
    let text = |bytes, truncated| {
        let (text, lossy) = text_of(bytes, truncated);
        Text { text, lossy }
    };
    let stdout = text(stdout, report.stdout_truncated);
    let stderr = text(stderr, report.stderr_truncated);
    view::report(report, stdout, stderr)
}

/// Output as text, and whether it held bytes that are not UTF-8 (replaced by U+FFFD). A character
/// that the limit cut in two is left out and does not count.
#[must_use]
pub fn text_of(mut bytes: Vec<u8>, truncated: bool) -> (String, bool) {
    if truncated
        && let Err(error) = std::str::from_utf8(&bytes)
        && error.error_len().is_none()
    {
        bytes.truncate(error.valid_up_to());
    }
    match String::from_utf8(bytes) {
        Ok(text) => (text, false),
        Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned(), true),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_flagged() {
        assert_eq!(text_of(b"ok".to_vec(), false), ("ok".into(), false));
        assert_eq!(
            text_of(b"a\xffb".to_vec(), false),
            ("a\u{fffd}b".into(), true)
        );
        assert_eq!(
            text_of(b"a\xc3".to_vec(), false),
            ("a\u{fffd}".into(), true)
        );
    }

    #[test]
    fn a_character_cut_by_the_limit_is_left_out() {
        assert_eq!(text_of(b"a\xe2\x82".to_vec(), true), ("a".into(), false));
        assert_eq!(
            text_of(b"\xff\xe2\x82".to_vec(), true),
            ("\u{fffd}\u{fffd}".into(), true)
        );
    }

    #[tokio::test]
    async fn pieces_join_per_stream_and_split_characters_heal() {
        let (sender, events) = mpsc::channel(8);
        let execution = Execution::of_events(events);
        let id = execution.id;
        for (stream, piece) in [
            (Stream::Stdout, &b"\xe2\x82"[..]),
            (Stream::Stderr, b"e"),
            (Stream::Stdout, b"\xac!"),
        ] {
            let event = ExecutionEvent::Output(stream, Bytes::from_static(piece));
            sender.send(event).await.unwrap();
        }
        drop(sender);
        // No report: the reply is an error, whatever was written.
        let error = collect(execution).await.unwrap_err();
        assert!(matches!(error, Error::NoReport(of) if of == id));

        let mut stdout = Vec::new();
        append(&mut stdout, Bytes::from_static(b"\xe2\x82"));
        append(&mut stdout, Bytes::from_static(b"\xac!"));
        assert_eq!(text_of(stdout, false), ("€!".into(), false));
    }
}
