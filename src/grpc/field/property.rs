//! What holds of whatever a caller asks for: nothing panics, what is good arrives as it was said,
//! and what is refused is refused by the name of a field that is bad.

mod execution;
mod session;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;
use prost_reflect::{DescriptorPool, Kind};

use execution::asked_execution;
use session::session;

use super::*;
use crate::grpc::DESCRIPTORS;

/// Different ones, so that none is taken for another.
const LIMITS: Limits = Limits {
    output: OutputLimits {
        stdout: Bytes::mib(10),
        stderr: Bytes::mib(11),
        result: Bytes::mib(12),
    },
    message: Bytes::mib(64),
    traffic: Bytes::gib(1),
};

/// The wire's own view: a path of fields of this message, with an index where a field has many.
fn is_field(message: &str, path: &str) -> bool {
    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).unwrap());
    let mut message = POOL.get_message_by_name(&format!("pagebox.v1.{message}"));
    path.split('.').all(|part| {
        let (name, index) = match part.split_once('[') {
            Some((name, index)) => (name, Some(index)),
            None => (part, None),
        };
        let Some(field) = message.take().and_then(|of| of.get_field_by_name(name)) else {
            return false;
        };
        if let Kind::Message(inner) = field.kind() {
            message = Some(inner);
        }
        let is_place = |text: &str| {
            text.strip_suffix(']')
                .is_some_and(|n| n.parse::<u32>().is_ok())
        };
        index.is_none_or(|index| field.is_list() && is_place(index))
    })
}

fn check<T: std::fmt::Debug + PartialEq>(
    message: &str,
    got: Result<T, FieldError>,
    expected: &T,
    bad: &BTreeSet<String>,
) -> Result<(), TestCaseError> {
    match got {
        Ok(read) => {
            prop_assert!(bad.is_empty(), "{bad:?} went through");
            prop_assert_eq!(&read, expected);
        }
        Err(error) => {
            prop_assert!(
                bad.contains(&error.field),
                "{}, where {:?} are bad",
                error,
                bad
            );
            prop_assert!(is_field(message, &error.field), "{}", error.field);
            prop_assert!(!error.message.is_empty());
        }
    }
    Ok(())
}

/// Base64 of what is nearly a token, and other text.
fn a_token() -> impl Strategy<Value = String> {
    let id = any::<u128>().prop_map(uuid::Uuid::from_u128);
    let spelled = (id, 0..5).prop_map(|(id, spelling)| match spelling {
        0 => id.simple().to_string(),
        1 => id.urn().to_string(),
        2 => id.braced().to_string(),
        3 => id.hyphenated().to_string().to_uppercase(),
        _ => id.hyphenated().to_string(),
    });
    let prefix = prop_oneof![4 => Just("after:"), 1 => Just(""), 1 => Just("before:")];
    prop_oneof![
        4 => (prefix, spelled).prop_map(|(prefix, id)| URL_SAFE_NO_PAD.encode(format!("{prefix}{id}"))),
        1 => prop::collection::vec(any::<u8>(), 0..50).prop_map(|bytes| URL_SAFE_NO_PAD.encode(bytes)),
        1 => "\\PC{0,20}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// 512 cases.
    #[test]
    fn a_sessions_options_arrive_or_a_bad_one_is_named((wire, expected, bad) in session()) {
        let got = session_options("options.", Some(wire), LIMITS);
        let bad = bad.iter().map(|field| format!("options.{field}")).collect();
        check("CreateSessionRequest", got, &expected, &bad)?;
    }

    /// 512 cases.
    #[test]
    fn an_executions_options_arrive_or_a_bad_one_is_named((wire, expected, bad) in asked_execution()) {
        check("ExecuteRequest", execution(Some(wire), LIMITS), &expected, &bad)?;
    }

    /// 512 cases.
    #[test]
    fn a_page_token_is_one_that_was_given_out_or_refused(token in a_token(), id: u128) {
        let id: SessionId = uuid::Uuid::from_u128(id).to_string().parse().unwrap();
        prop_assert_eq!(page_token(&next_page_token(Some(id))), Ok(Some(id)));
        match page_token(&token) {
            Ok(read) => prop_assert_eq!(next_page_token(read), token),
            Err(error) => prop_assert_eq!(error.field, "page_token"),
        }
    }

    /// 512 cases.
    #[test]
    fn the_fields_of_a_listing_are_checked(
        size in prop_oneof![0u32..=1001, any::<u32>()],
        key in "\\PC{0,60}",
        wire in prop::collection::vec(prop_oneof![9 => 1..=5, 1 => any::<i32>()], 0..9),
        id in "\\PC{0,40}",
    ) {
        match page_size(size) {
            Ok(read) => {
                prop_assert!(size <= 1000);
                prop_assert_eq!(read, if size == 0 { 100 } else { size as usize });
            }
            Err(error) => prop_assert!(size > 1000 && error.field == "page_size"),
        }
        match idempotency_key(key.clone()) {
            Ok(read) => prop_assert!(key.len() <= 128 && read.unwrap_or_default() == key),
            Err(error) => prop_assert!(key.len() > 128 && error.field == "idempotency_key"),
        }
        match states(&wire) {
            Ok(read) => prop_assert!(read.len() == wire.len() && wire.iter().all(|s| (1..=5).contains(s))),
            Err(error) => {
                prop_assert!(wire.iter().any(|s| !(1..=5).contains(s)) && error.field == "states");
            }
        }
        if let Err(error) = session_id("session_id", &id) {
            prop_assert_eq!(error.field, "session_id");
        }
    }
}
