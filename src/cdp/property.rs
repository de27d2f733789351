//! What holds of whatever comes from a browser or a client: for property tests and fuzzing.

use std::path::Path;

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use serde_json::Value;
use tokio_util::io::StreamReader;

use super::message::Message;
use super::pipe::{HEAD, Incoming, Reader, leading_id};
use super::{Config, policy};

const KEYS: [&str; 6] = ["id", "method", "sessionId", "params", "result", "error"];

/// A message that is read is written so that it reads the same, holds nothing but the envelope, and
/// says what a slow reader of JSON sees in it.
pub(crate) fn message(raw: &[u8]) {
    let Ok(message) = Message::parse(&Bytes::copy_from_slice(raw)) else {
        return;
    };
    let written = message.encode();
    let again = Message::parse(&Bytes::copy_from_slice(&written)).expect("what we write we read");
    assert_eq!(again, message);
    // serde_json bounds the depth and the numbers of a `Value`, not those of a payload.
    if let (Ok(before), Ok(after)) = (
        serde_json::from_slice::<Value>(raw),
        serde_json::from_slice::<Value>(&written),
    ) {
        let after = after.as_object().expect("an object");
        assert!(after.keys().all(|key| KEYS.contains(&&**key)), "{after:?}");
        for key in KEYS {
            let value = |value: Option<&Value>| value.cloned().unwrap_or_default();
            assert_eq!(value(after.get(key)), value(before.get(key)), "{key}");
        }
    }
    if let Some(method) = &message.method {
        let checked = policy::check(
            method,
            message.params.as_deref(),
            &Config::default(),
            &|path| is_below_tmp(path),
        );
        if let Ok(policy::Verdict::Instead(params)) = checked {
            serde_json::from_slice::<Value>(&params).expect("what takes its place is JSON");
        }
    }
}

/// A URL that clients may send a page to, where they may name files below `/tmp`, names no other
/// file to a reader of the URL standard.
pub(crate) fn navigation(text: &str) {
    if policy::url(text, &|path| is_below_tmp(path)).is_err() {
        return;
    }
    let Ok(url) = url::Url::parse(text) else {
        return;
    };
    assert!(
        [
            "http",
            "https",
            "data",
            "blob",
            "javascript",
            "about",
            "file"
        ]
        .contains(&url.scheme()),
        "{url}"
    );
    if url.scheme() == "file" {
        let path = url.to_file_path().expect("a file of this host");
        assert!(is_below_tmp(&path), "{text:?} is {}", path.display());
    }
}

fn is_below_tmp(path: &Path) -> bool {
    path.starts_with("/tmp")
}

/// A stream is cut at NUL however it is read: in pieces of these sizes, over and over; none is none.
/// `max_message` is at least 256.
pub(crate) fn pipe(sent: &[u8], pieces: &[usize], max_message: usize) {
    let mut reader = Reader::over(StreamReader::new(in_pieces(sent, pieces)), max_message);
    let mut seen = Vec::new();
    while let Some(incoming) = reader
        .next()
        .now_or_never()
        .expect("all of it is there")
        .expect("it does not break")
    {
        seen.push(format!("{incoming:?}"));
    }
    let mut messages: Vec<&[u8]> = sent.split(|byte| *byte == 0).collect();
    // What has no end is no message.
    messages.pop();
    let expected = messages.into_iter().filter_map(|raw| {
        if raw.len() > max_message {
            let id = leading_id(&raw[..HEAD.min(raw.len())])?;
            return Some(Incoming::TooLong { id });
        }
        let message = Message::parse(&Bytes::copy_from_slice(raw)).ok()?;
        Some(Incoming::Message(message))
    });
    let expected: Vec<String> = expected.map(|incoming| format!("{incoming:?}")).collect();
    assert_eq!(seen, expected);
}

fn in_pieces(
    sent: &[u8],
    pieces: &[usize],
) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> + Unpin {
    let mut rest = Bytes::copy_from_slice(sent);
    let mut cut = Vec::new();
    let sizes = pieces.iter().copied().filter(|size| *size > 0);
    let mut sizes = sizes.collect::<Vec<_>>().into_iter().cycle();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(rest.len()).min(rest.len());
        cut.push(Ok(rest.split_to(size)));
    }
    stream::iter(cut)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// JSON that may be anywhere in a message, as text with odd spellings.
    fn json_text() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|value| value.to_string()),
            any::<i64>().prop_map(|value| value.to_string()),
            "-?[1-9][0-9]{0,30}(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?",
            ".{0,12}".prop_map(|text| json!(text).to_string()),
            "(\\\\u[0-9a-f]{4}|\\\\n|[a-z ])*".prop_map(|text| format!("\"{text}\"")),
            (1usize..400).prop_map(|depth| "[".repeat(depth) + &"]".repeat(depth)),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let pair = ("\"[a-z/]{1,4}\"", inner.clone());
            prop_oneof![
                prop::collection::vec(inner, 0..4)
                    .prop_map(|items| format!("[ {}\t]", items.join(" , "))),
                prop::collection::vec(pair, 0..4).prop_map(|pairs| {
                    let pairs: Vec<_> = pairs.iter().map(|(k, v)| format!("{k}:{v}")).collect();
                    format!("{{{}\n}}", pairs.join(","))
                }),
            ]
        })
    }

    /// A key in one of the spellings JSON has for it.
    fn spelled(key: &str, escaped: u16) -> String {
        let letters = key.chars().enumerate().map(|(at, letter)| {
            if escaped >> at & 1 == 1 {
                format!("\\u{:04X}", u32::from(letter))
            } else {
                letter.to_string()
            }
        });
        format!("\"{}\"", letters.collect::<String>())
    }

    fn envelope() -> impl Strategy<Value = Vec<(&'static str, String)>> {
        let field = prop_oneof![
            any::<i64>().prop_map(|id| ("id", id.to_string())),
            any::<u64>().prop_map(|id| ("id", id.to_string())),
            "\\PC{0,20}".prop_map(|text| ("method", json!(text).to_string())),
            "\\PC{0,20}".prop_map(|text| ("sessionId", json!(text).to_string())),
            json_text().prop_map(|text| ("params", text)),
            json_text().prop_map(|text| ("result", text)),
            json_text().prop_map(|text| ("error", text)),
            json_text().prop_map(|text| ("extra", text)),
            json_text().prop_map(|text| ("ID", text)),
        ];
        prop::collection::vec(field, 0..7)
    }

    fn nul_separated() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            any::<i64>().prop_map(|id| format!("{{\"id\":{id},\"result\":{{}}}}").into_bytes()),
            "[a-z]{1,8}"
                .prop_map(|name| format!("{{\"method\":\"A.{name}\",\"params\":{{}}}}").into()),
            (any::<u16>(), 200usize..900).prop_map(|(id, long)| format!(
                "{{\"id\":{id},\"result\":\"{}\"}}",
                "x".repeat(long)
            )
            .into()),
            (200usize..900)
                .prop_map(|long| format!("{{\"method\":\"{}\"}}", "x".repeat(long)).into()),
            prop::collection::vec(any::<u8>(), 0..40),
            Just(Vec::new()),
        ];
        let joined = prop::collection::vec(part, 0..12).prop_map(|parts| parts.join(&0));
        (joined, any::<bool>()).prop_map(|(mut all, ended)| {
            if ended {
                all.push(0);
            }
            all
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        /// 1,024 cases.
        #[test]
        fn a_message_is_read_as_its_parts_or_not_at_all(fields in envelope(), escaped: [u16; 7]) {
            let written = fields.iter().zip(escaped);
            let written: Vec<_> = written
                .map(|((key, value), escaped)| format!("{} :{value}", spelled(key, escaped)))
                .collect();
            let text = format!("\r{{ {} }}\n", written.join(", "));
            message(text.as_bytes());
            let known = fields.iter().filter(|(key, _)| KEYS.contains(key));
            let mut seen = std::collections::BTreeMap::new();
            let mut is_good = true;
            for (key, value) in known {
                is_good &= seen.insert(*key, value.clone()).is_none();
                is_good &= *key != "id" || value.parse::<i64>().is_ok();
            }
            let read = Message::parse(&Bytes::from(text.clone()));
            prop_assert_eq!(read.is_ok(), is_good, "{}", text);
            let Ok(read) = read else { return Ok(()) };
            for (key, part) in [("params", &read.params), ("result", &read.result), ("error", &read.error)] {
                let value = seen.get(key).filter(|value| *value != "null");
                prop_assert_eq!(part.as_deref(), value.map(String::as_bytes));
            }
        }

        /// 1,024 cases.
        #[test]
        fn bytes_are_a_message_that_reads_back_or_an_error(
            bytes in prop::collection::vec(prop_oneof![
                3 => prop::sample::select(&b"{}[]\":,\\u0019-.eE \"idmethodparams\xff\xc3\xa9"[..]),
                1 => any::<u8>(),
            ], 0..60),
        ) {
            message(&bytes);
        }

        /// 1,024 cases.
        #[test]
        fn messages_are_cut_at_nul_however_they_are_read(
            sent in nul_separated(),
            pieces in prop::collection::vec(1usize..700, 0..6),
            max_message in 256usize..800,
        ) {
            pipe(&sent, &pieces, max_message);
        }

        /// 1,024 cases.
        #[test]
        fn no_url_names_a_file_that_its_client_may_not_name(
            text in "[ \t]?(file|FILE|fi\nle|http|data|view-source|filesystem)?:?[/\\\\]{0,4}(localhost|tmp|c:|\\.\\.|%2e%2E|[.?#]|\\PC){0,2}([/\\\\](tmp|etc|\\.\\.?|%2[eEfF]{1}\\.?|%5c|a)){0,5}"
        ) {
            navigation(&text);
        }
    }

    /// A payload may be as deep as it likes; the envelope's own reader does not recurse into it.
    #[test]
    fn depth_is_no_matter() {
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        message(format!("{{\"id\":1,\"extra\":{deep},\"params\":{deep}}}").as_bytes());
    }

    /// Nothing is read between them: reading must not recurse once for each.
    #[test]
    fn many_long_events_in_a_row_are_dropped() {
        let event = format!("{{\"method\":\"{}\"}}\0", "x".repeat(300));
        pipe(event.repeat(20_000).as_bytes(), &[7000], 256);
    }
}
