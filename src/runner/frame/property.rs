//! What holds of whatever comes from a runner: for property tests and fuzzing.

use bytes::Bytes as Piece;
use futures_util::{FutureExt, stream};
use tokio_util::io::StreamReader;

use super::{FromRunner, Reader};
use crate::limits::Bytes;

/// Frames are cut at line ends however they come: in pieces of these sizes, over and over; none is
/// none. The first bad one is the end, a line beyond `longest` is bad, and no more than that is
/// kept.
pub(crate) fn frames(sent: &[u8], pieces: &[usize], longest: usize) {
    let mut rest = Piece::copy_from_slice(sent);
    let sizes = pieces.iter().copied().filter(|size| *size > 0);
    let mut sizes = sizes.collect::<Vec<_>>().into_iter().cycle();
    let mut cut = Vec::new();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(rest.len()).min(rest.len());
        cut.push(std::io::Result::Ok(rest.split_to(size)));
    }
    let mut reader = Reader::new(StreamReader::new(stream::iter(cut)));
    let mut seen = Vec::new();
    loop {
        let frame = reader.receive(Bytes(longest as u64)).now_or_never();
        // Twice, as a vector grows, of the line and one read of the buffer before it.
        assert!(reader.line.capacity() <= 2 * (longest + (16 << 10)).max(64 << 10));
        match frame.expect("all of it is there") {
            Ok(Some(frame)) => seen.push(format!("{frame:?}")),
            Ok(None) => break,
            Err(_) => {
                seen.push("bad".to_owned());
                break;
            }
        }
    }
    assert_eq!(seen, expected(sent, longest));
}

fn expected(sent: &[u8], longest: usize) -> Vec<String> {
    let mut lines: Vec<&[u8]> = sent.split(|byte| *byte == b'\n').collect();
    let unfinished = lines.pop().unwrap_or_default();
    let mut expected = Vec::new();
    for line in lines {
        let frame = (line.len() <= longest).then(|| FromRunner::parse(line));
        match frame {
            Some(Ok(frame)) => expected.push(format!("{frame:?}")),
            _ => {
                expected.push("bad".to_owned());
                return expected;
            }
        }
    }
    if unfinished.len() > longest {
        expected.push("bad".to_owned());
    }
    expected
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line() -> impl Strategy<Value = String> {
        let text = "(\\\\u[0-9a-f]{4}|\\\\[nrt\"]|[a-z]|\\\\ud800){0,20}";
        prop_oneof![
            4 => Just("{\"type\":\"ready\"}".to_owned()),
            2 => text.prop_map(|message| format!("{{\"message\":\"{message}\",\"type\":\"failed\"}}")),
            4 => (text, any::<i64>(), text).prop_map(|(id, code, result)| format!(
                " {{\"type\":\"finished\",\"id\":\"{id}\",\"exit_code\":{code},\"result\":\"{result}\"}}\r"
            )),
            1 => Just("{\"type\":\"finished\",\"id\":\"a\",\"id\":\"b\",\"exit_code\":0}".to_owned()),
            1 => text.prop_map(|id| format!("{{\"type\":\"settled\",\"id\":\"{id}\",\"page\":null}}")),
            1 => Just("{\"type\":\"ready\",\"type\":\"failed\",\"message\":\"\"}".to_owned()),
            1 => (1usize..300).prop_map(|deep| format!(
                "{{\"type\":\"ready\",\"x\":{}{}}}", "[".repeat(deep), "]".repeat(deep)
            )),
            1 => "-?[0-9]{1,40}(\\.[0-9]+)?([eE][0-9]{1,4})?".prop_map(|number| format!(
                "{{\"type\":\"finished\",\"id\":\"\",\"exit_code\":{number}}}"
            )),
            1 => "\\PC{0,40}",
            1 => (1usize..400).prop_map(|long| "x".repeat(long)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        /// 1,024 cases.
        #[test]
        fn frames_are_lines_however_they_are_read(
            lines in prop::collection::vec(line(), 0..8),
            ended: bool,
            pieces in prop::collection::vec(1usize..200, 0..6),
            longest in 16usize..300,
        ) {
            let end = if ended { "\n" } else { "" };
            frames((lines.join("\n") + end).as_bytes(), &pieces, longest);
        }

        /// 1,024 cases.
        #[test]
        fn any_bytes_are_frames_or_an_error(
            sent in prop::collection::vec(prop_oneof![
                3 => prop::sample::select(&b"{}\":,\n\\readytypfinshcoxl0123456789\0\xff"[..]),
                1 => any::<u8>(),
            ], 0..200),
            pieces in prop::collection::vec(1usize..20, 0..4),
        ) {
            frames(&sent, &pieces, 64);
        }
    }
}
