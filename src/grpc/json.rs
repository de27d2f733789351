//! Messages in the proto3 JSON mapping, default values included: `"success": false` must show.

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use super::DESCRIPTORS;

/// Writes a message of `pagebox.v1` as one JSON object on one line.
///
/// # Errors
/// When `name` is not the message's type.
pub fn to_json(name: &str, message: &impl Message) -> Result<String, JsonError> {
    let pool = DescriptorPool::decode(DESCRIPTORS)?;
    let full_name = format!("pagebox.v1.{name}");
    let descriptor = pool
        .get_message_by_name(&full_name)
        .ok_or(JsonError::UnknownType(full_name))?;
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.merge(message.encode_to_vec().as_slice())?;
    let mut json = Vec::new();
    dynamic.serialize_with_options(
        &mut serde_json::Serializer::new(&mut json),
        &SerializeOptions::new().skip_default_fields(false),
    )?;
    String::from_utf8(json).map_err(|_| JsonError::NotText)
}

/// Why a message cannot be written as JSON.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The descriptor set built into the program cannot be read.
    #[error("cannot read the descriptor set: {0}")]
    Descriptors(#[from] prost_reflect::DescriptorError),
    /// No such message type.
    #[error("no message type {0}")]
    UnknownType(String),
    /// The message is of another type.
    #[error("cannot read the message back: {0}")]
    OtherType(#[from] prost::DecodeError),
    /// A value JSON cannot hold, such as a timestamp out of range.
    #[error("cannot write the message as JSON: {0}")]
    Write(#[from] serde_json::Error),
    /// The JSON is not UTF-8; `serde_json` never does that.
    #[error("the JSON is not UTF-8")]
    NotText,
}

#[cfg(test)]
mod tests {
    use super::super::v1;
    use super::*;

    #[test]
    fn defaults_are_written_and_absent_messages_are_not() {
        let reply = v1::ExecuteResponse {
            outcome: v1::Outcome::TimedOut.into(),
            exit_code: 137,
            killed: true,
            peak_memory_bytes: 5,
            duration: Some(prost_types::Duration {
                seconds: 1,
                nanos: 500_000_000,
            }),
            ..v1::ExecuteResponse::default()
        };
        let json: serde_json::Value =
            serde_json::from_str(&to_json("ExecuteResponse", &reply).unwrap()).unwrap();
        assert_eq!(json["success"], false);
        assert_eq!(json["outcome"], "OUTCOME_TIMED_OUT");
        assert_eq!(json["exitCode"], 137);
        assert_eq!(json["stdout"], "");
        assert_eq!(json["stdoutTruncated"], false);
        assert_eq!(json["peakMemoryBytes"], "5");
        assert_eq!(json["duration"], "1.500s");
        assert!(json.get("result").is_none());
        assert!(json.get("error").is_none());
    }

    #[test]
    fn a_session_has_its_id() {
        let session = v1::Session {
            id: "x".into(),
            ..v1::Session::default()
        };
        let json = to_json("Session", &session).unwrap();
        assert!(json.starts_with("{\"id\":\"x\",\"state\":"), "{json}");
        assert!(!json.contains('\n'));
    }
}
