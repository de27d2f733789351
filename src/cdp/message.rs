//! The CDP envelope: `id`, `method`, `sessionId` and one payload.
//!
//! Payloads (`params`, `result`, `error`) are slices of the bytes they came in: checked to be one
//! JSON value each, not looked into and not copied until they are written out. The envelope is
//! always written anew from its parts. Knows no method by name.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// One message, either way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// Of a request or a response.
    pub(crate) id: Option<i64>,
    /// Of a request or an event.
    pub(crate) method: Option<String>,
    /// The flat session it belongs to; none for the connection itself.
    pub(crate) session: Option<String>,
    /// One JSON value.
    pub(crate) params: Option<Bytes>,
    /// One JSON value.
    pub(crate) result: Option<Bytes>,
    /// One JSON value.
    pub(crate) error: Option<Bytes>,
}

/// Keys named twice are an error of the derive: two readers could see two different messages.
/// Keys not named here are left out of what is passed on.
#[derive(Deserialize)]
struct Envelope<'a> {
    id: Option<i64>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "sessionId")]
    session: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// JSON-RPC and CDP error codes the hub itself answers with.
pub(crate) mod code {
    /// Not JSON, or a key twice.
    pub(crate) const PARSE: i64 = -32700;
    /// No integer `id` or no `method`.
    pub(crate) const INVALID_REQUEST: i64 = -32600;
    /// Parameters the policy cannot read.
    pub(crate) const INVALID_PARAMS: i64 = -32602;
    /// Refused by policy, and what Chromium calls a server error.
    pub(crate) const SERVER: i64 = -32000;
    /// Chromium's code for an unknown session.
    pub(crate) const NO_SESSION: i64 = -32001;
}

impl Message {
    /// Reads one message, sharing its bytes.
    pub(crate) fn parse(raw: &Bytes) -> serde_json::Result<Self> {
        let envelope: Envelope<'_> = serde_json::from_slice(raw)?;
        let share = |value: Option<&RawValue>| value.map(|v| raw.slice_ref(v.get().as_bytes()));
        Ok(Self {
            id: envelope.id,
            method: envelope.method.map(Cow::into_owned),
            session: envelope.session.map(Cow::into_owned),
            params: share(envelope.params),
            result: share(envelope.result),
            error: share(envelope.error),
        })
    }

    /// A request.
    pub(crate) fn request(
        id: i64,
        session: Option<String>,
        method: impl Into<String>,
        params: Option<Bytes>,
    ) -> Self {
        Self {
            id: Some(id),
            method: Some(method.into()),
            session,
            params,
            ..Self::default()
        }
    }

    /// A response; `Err` holds the error object.
    pub(crate) fn response(
        id: i64,
        session: Option<String>,
        outcome: Result<Bytes, Bytes>,
    ) -> Self {
        let (result, error) = match outcome {
            Ok(result) => (Some(result), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            id: Some(id),
            session,
            result,
            error,
            ..Self::default()
        }
    }

    /// An event.
    pub(crate) fn event(method: impl Into<String>, session: Option<String>, params: Bytes) -> Self {
        Self {
            method: Some(method.into()),
            session,
            params: Some(params),
            ..Self::default()
        }
    }

    /// Bytes it takes written out, about.
    pub(crate) fn size(&self) -> usize {
        let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        let text = |part: &Option<String>| part.as_ref().map_or(0, String::len);
        80 + text(&self.method)
            + text(&self.session)
            + length(&self.params)
            + length(&self.result)
            + length(&self.error)
    }

    /// Writes the message out, with room for one more byte.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size() + 1);
        out.push(b'{');
        if let Some(id) = self.id {
            out.extend_from_slice(b"\"id\":");
            out.extend_from_slice(id.to_string().as_bytes());
        }
        for (name, text) in [("method", &self.method), ("sessionId", &self.session)] {
            if let Some(text) = text {
                key(&mut out, name);
                out.extend_from_slice(json_string(text).as_bytes());
            }
        }
        for (name, value) in [
            ("params", &self.params),
            ("result", &self.result),
            ("error", &self.error),
        ] {
            if let Some(value) = value {
                key(&mut out, name);
                out.extend_from_slice(value);
            }
        }
        out.push(b'}');
        out
    }
}

fn key(out: &mut Vec<u8>, name: &str) {
    if out.len() > 1 {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Brackets within each other in a request's parameters. Chromium reads some 300.
pub(crate) const MAX_DEPTH: usize = 256;

/// Why Chromium could not read parameters that are JSON; it answers such a request without its id,
/// and so nobody.
pub(crate) fn unreadable(json: &[u8]) -> Option<String> {
    let is_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'"' => loop {
                at += memchr::memchr2(b'"', b'\\', &json[at..])?;
                // What is escaped is skipped too.
                let escape = json[at] == b'\\';
                at += 1 + usize::from(escape);
                if !escape {
                    break;
                }
            },
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Some(format!("params are more than {MAX_DEPTH} brackets deep"));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'-' | b'0'..=b'9' => {
                let start = at - 1;
                at += json[at..].iter().take_while(|byte| is_number(byte)).count();
                let number = std::str::from_utf8(&json[start..at]).ok()?;
                if number.parse().is_ok_and(f64::is_infinite) {
                    return Some("params hold a number that is too large".to_owned());
                }
            }
            _ => {}
        }
    }
    None
}

/// A string as JSON.
pub(crate) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A value of ours as a payload.
pub(crate) fn payload(value: &serde_json::Value) -> Bytes {
    Bytes::from(value.to_string())
}

/// An error object of ours as a payload.
pub(crate) fn error_payload(code: i64, message: &str) -> Bytes {
    payload(&serde_json::json!({ "code": code, "message": message }))
}

/// `{}`.
pub(crate) fn empty() -> Bytes {
    Bytes::from_static(b"{}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> serde_json::Result<Message> {
        Message::parse(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_message_is_written_as_it_was_read() {
        for text in [
            r#"{"id":7,"method":"A.b","sessionId":"S","params":{"x":[1, 2]}}"#,
            r#"{"id":7,"sessionId":"S","result":{}}"#,
            r#"{"id":7,"error":{"code":-1,"message":"no"}}"#,
            r#"{"method":"A.c","params":{"url":"\u0000é"}}"#,
        ] {
            let message = parse(text).unwrap();
            assert_eq!(String::from_utf8(message.encode()).unwrap(), text);
            assert!(message.size() + 1 >= text.len());
        }
    }

    #[test]
    fn strings_of_the_envelope_are_escaped_again() {
        let text = r#"{"id":1,"method":"A\u0022,\u0022id\u0022:2","sessionId":"a\"b"}"#;
        let message = parse(text).unwrap();
        let again = Message::parse(&Bytes::from(message.encode())).unwrap();
        assert_eq!(again, message);
        assert_eq!(again.id, Some(1));
    }

    #[test]
    fn a_key_named_twice_is_an_error_however_it_is_spelled() {
        for text in [
            r#"{"id":1,"id":2,"method":"A.b"}"#,
            r#"{"id":1,"method":"A.b","\u006dethod":"B.c"}"#,
            r#"{"id":1,"method":"A.b","params":{},"params":{"a":1}}"#,
            r#"{"id":1,"method":"A.b","sessionId":"x","sessionId":"y"}"#,
        ] {
            assert!(
                parse(text)
                    .unwrap_err()
                    .to_string()
                    .contains("duplicate field"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_one_json_object_is_an_error() {
        for text in [
            "",
            "1",
            "{",
            "{}{}",
            r#"{"id":1.5}"#,
            r#"{"id":"1"}"#,
            "{\"params\":\u{1}}",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(Message::parse(&Bytes::from_static(b"{\"params\":\"\xff\"}")).is_err());
    }

    #[test]
    fn parameters_chromium_could_not_read_are_told() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for text in [
            nested(MAX_DEPTH),
            format!("[{0},{0}]", nested(MAX_DEPTH - 1)),
            r#"{"a":"[[\"[[\\","b\u005b":-1.5e+308,"c":[0,-0,1e-999]}"#.to_owned(),
            format!("\"{}\"", nested(1000)),
        ] {
            assert_eq!(unreadable(text.as_bytes()), None, "{text}");
        }
        for text in [
            nested(MAX_DEPTH + 1),
            nested(100_000),
            r#"{"a":"\\","b":1e999}"#.to_owned(),
            format!("[-{}]", "9".repeat(400)),
            format!("{{\"[\":{}}}", nested(MAX_DEPTH)),
        ] {
            assert!(unreadable(text.as_bytes()).is_some(), "{text}");
        }
    }

    #[test]
    fn unknown_keys_are_left_out() {
        let message = parse(r#"{"id":1,"method":"A.b","extra":{"id":2}}"#).unwrap();
        assert_eq!(
            String::from_utf8(message.encode()).unwrap(),
            r#"{"id":1,"method":"A.b"}"#
        );
    }
}
