//! The one place where an error becomes a gRPC status.
//!
//! Every status carries `google.rpc.ErrorInfo` with domain "pagebox"; INVALID_ARGUMENT also carries
//! `google.rpc.BadRequest`. Statuses that tonic makes itself get theirs in [`complete`].

use std::collections::HashMap;
use std::time::Duration;

use tonic::codegen::http::{HeaderMap, Response};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::MAX_REQUEST;
use super::field::FieldError;
use crate::execution::MAX_CODE_BYTES;
use crate::id::ExecutionId;
use crate::limits::Bytes;
use crate::{agent, live, profile, session, store, tenant};

const DOMAIN: &str = "pagebox";
/// A status travels in HTTP/2 headers, twice and encoded; clients refuse more than 8 KiB of them.
const MAX_MESSAGE_BYTES: usize = 1000;
/// How tonic and prost begin the message for bytes that are not the request's type.
const UNDECODABLE: &str = "failed to decode Protobuf message: ";

const INVALID_FIELD: &str = "INVALID_FIELD";

/// Why a call ends with a status other than OK.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A field is not as it must be.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The session layer refused, or could not start it.
    #[error(transparent)]
    Session(#[from] session::Error),
    /// A prompt did not begin.
    #[error(transparent)]
    Prompt(agent::Error),
    /// The request is not let in.
    #[error(transparent)]
    Tenant(#[from] tenant::Error),
    /// There is no room for another viewer.
    #[error("{0}")]
    TooManyViewers(String),
    /// The reply does not fit a message.
    #[error(
        "the reply is {0}, more than the {1} of one message; \
         use ExecuteStream, or ask for lower output_limits"
    )]
    ReplyTooLarge(Bytes, Bytes),
    /// The caller's own deadline has passed.
    #[error("the call's own deadline of {0:?} has passed")]
    DeadlineExceeded(Duration),
    /// The events of an execution ended without a report.
    #[error("execution {0} ended without a report")]
    NoReport(ExecutionId),
    /// The request came past the server's authentication.
    #[error("nobody found out who called; this is a fault of the daemon")]
    NoCaller,
}

impl From<agent::Error> for Error {
    fn from(error: agent::Error) -> Self {
        match error {
            agent::Error::BadRequest(bad) => {
                FieldError::new(format!("options.{}", bad.field), bad.message).into()
            }
            agent::Error::Session(error) => error.into(),
            other => Self::Prompt(other),
        }
    }
}

/// Code, reason and metadata of an error.
struct Class {
    code: Code,
    reason: &'static str,
    metadata: HashMap<String, String>,
}

fn class(code: Code, reason: &'static str) -> Class {
    Class {
        code,
        reason,
        metadata: HashMap::new(),
    }
}

impl Class {
    fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }
}

fn classify(error: &Error) -> Class {
    use session::Error as S;
    match error {
        Error::Field(_) | Error::Session(S::BadRequest(_)) => {
            class(Code::InvalidArgument, INVALID_FIELD)
        }
        Error::Session(S::SessionUnknown(id)) => {
            class(Code::NotFound, "SESSION_UNKNOWN").with("session_id", id)
        }
        Error::Session(S::ExecutionUnknown(id)) => {
            class(Code::NotFound, "EXECUTION_UNKNOWN").with("execution_id", id)
        }
        Error::Session(S::ForeignSession(id)) => {
            class(Code::PermissionDenied, "FOREIGN_SESSION").with("session_id", id)
        }
        Error::Session(S::ForeignExecution(id)) => {
            class(Code::PermissionDenied, "FOREIGN_EXECUTION").with("execution_id", id)
        }
        Error::Session(S::CdpRefused(id)) => {
            class(Code::PermissionDenied, "CDP_REFUSED").with("session_id", id)
        }
        Error::Session(S::HumanInControl(id)) => {
            class(Code::FailedPrecondition, "HUMAN_IN_CONTROL").with("session_id", id)
        }
        Error::Session(S::ExecutionCancelled(id)) => {
            class(Code::Cancelled, "EXECUTION_CANCELLED").with("execution_id", id)
        }
        Error::Session(S::SessionEnded { id, .. }) => {
            class(Code::FailedPrecondition, "SESSION_ENDED").with("session_id", id)
        }
        Error::Session(S::SessionLimit { limit }) => {
            class(Code::ResourceExhausted, "SESSION_LIMIT").with("limit", limit)
        }
        Error::Session(S::OwnerSessionLimit { limit }) => {
            class(Code::ResourceExhausted, "OWNER_SESSION_LIMIT").with("limit", limit)
        }
        Error::Session(S::QueueFull { waiting }) => {
            class(Code::ResourceExhausted, "QUEUE_FULL").with("waiting", waiting)
        }
        Error::Session(S::Profile(error)) => profile_class(error),
        Error::Session(S::Draining) => class(Code::Unavailable, "DRAINING"),
        Error::Session(S::Sandbox(_) | S::Listener(_)) => class(Code::Internal, "SANDBOX_FAILED"),
        Error::Session(S::Browser(_)) => class(Code::Internal, "BROWSER_FAILED"),
        Error::Session(S::Runner { language, .. }) => {
            class(Code::Internal, "RUNNER_FAILED").with("language", language)
        }
        Error::Session(S::Spent(store::Spent::Minutes { allowed, left, .. })) => {
            class(Code::ResourceExhausted, "SESSION_MINUTES_SPENT")
                .with("session_minutes", allowed)
                .with("left", left)
        }
        Error::Session(S::Spent(store::Spent::Credits { budget, left, .. })) => {
            class(Code::ResourceExhausted, "BUDGET_SPENT")
                .with("budget", budget)
                .with("left", left)
        }
        Error::Session(S::Store(_)) => class(Code::Internal, "STORE_FAILED"),
        Error::Tenant(tenant::Error::KeyMissing) => class(Code::Unauthenticated, "KEY_MISSING"),
        Error::Tenant(tenant::Error::KeyUnknown) => class(Code::Unauthenticated, "KEY_UNKNOWN"),
        Error::Tenant(tenant::Error::OwnerMissing | tenant::Error::OwnerUnreadable) => {
            class(Code::InvalidArgument, INVALID_FIELD)
        }
        Error::Tenant(tenant::Error::OwnerNotAllowed) => {
            class(Code::PermissionDenied, "OWNER_NOT_ALLOWED")
        }
        Error::Tenant(tenant::Error::TooManyRequests { rate, .. }) => {
            class(Code::ResourceExhausted, "RATE_LIMIT").with("requests_per_minute", rate)
        }
        Error::Prompt(error) => prompt_class(error),
        Error::TooManyViewers(_) => class(Code::ResourceExhausted, "TOO_MANY_VIEWERS"),
        Error::ReplyTooLarge(bytes, limit) => class(Code::ResourceExhausted, "REPLY_TOO_LARGE")
            .with("reply_bytes", bytes.0)
            .with("limit_bytes", limit.0),
        Error::DeadlineExceeded(_) => class(Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        Error::NoCaller => class(Code::Internal, "CALLER_UNKNOWN"),
        Error::NoReport(id) => class(Code::Internal, "RUNNER_FAILED").with("execution_id", id),
    }
}

fn prompt_class(error: &agent::Error) -> Class {
    use agent::Error as A;
    match error {
        A::NoModel { missing } => {
            class(Code::FailedPrecondition, "MODEL_MISSING").with("setting", missing)
        }
        A::Model { model, .. } => class(Code::Unavailable, "MODEL_FAILED").with("model", model),
        A::Busy { waiting } => {
            class(Code::ResourceExhausted, "PROMPTS_WAITING").with("waiting", waiting)
        }
        A::Late(_) => class(Code::DeadlineExceeded, "PROMPT_LATE"),
        A::Page(_) | A::Cdp(_) => class(Code::Internal, "BROWSER_FAILED"),
        // Taken apart before.
        A::BadRequest(_) | A::Session(_) => class(Code::Internal, "BROWSER_FAILED"),
    }
}

impl From<live::Error> for Error {
    fn from(error: live::Error) -> Self {
        match error {
            live::Error::Session(error) => Self::Session(error),
            live::Error::TooManyViewers => Self::TooManyViewers(error.to_string()),
        }
    }
}

fn profile_class(error: &profile::Error) -> Class {
    use profile::Error as P;
    match error {
        P::Busy { writer } | P::BeingSaved { writer } => {
            class(Code::FailedPrecondition, "PROFILE_BUSY").with("session_id", writer)
        }
        P::Outdated { .. } => class(Code::Aborted, "PROFILE_OUTDATED"),
        P::Unknown(name) => class(Code::NotFound, "PROFILE_UNKNOWN").with("name", name),
        P::TooNew { .. } => class(Code::FailedPrecondition, "PROFILE_TOO_NEW"),
        P::TooLarge { most, .. } => {
            class(Code::ResourceExhausted, "PROFILE_TOO_LARGE").with("limit_bytes", most.0)
        }
        P::Unreadable { .. } => class(Code::Internal, "PROFILE_UNREADABLE"),
        P::Archive { .. } | P::State { .. } | P::Store(_) | P::Directory { .. } | P::Key(_) => {
            class(Code::Internal, "PROFILE_FAILED")
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let class = classify(&error);
        if class.code == Code::Internal {
            tracing::error!(reason = class.reason, error = %crate::telemetry::Chain(&error), "call failed");
        } else {
            tracing::debug!(reason = class.reason, code = ?class.code, "call refused");
        }
        let mut details = ErrorDetails::with_error_info(class.reason, DOMAIN, class.metadata);
        match &error {
            Error::Field(FieldError { field, message }) => {
                details.add_bad_request_violation(field, bounded(message));
            }
            Error::Session(session::Error::BadRequest(bad)) => {
                details.add_bad_request_violation(&*bad.field, bounded(&bad.message));
            }
            Error::Tenant(tenant::Error::OwnerMissing | tenant::Error::OwnerUnreadable) => {
                details.add_bad_request_violation("pagebox-owner", error.to_string());
            }
            Error::Tenant(tenant::Error::TooManyRequests { retry_after, .. }) => {
                details.set_retry_info(Some(*retry_after));
            }
            _ => {}
        }
        Status::with_error_details(class.code, bounded(&error.to_string()), details)
    }
}

fn bounded(message: &str) -> &str {
    let mut end = message.len().min(MAX_MESSAGE_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

/// The status for a request that is not let in.
#[must_use]
pub fn not_let_in(error: tenant::Error) -> Status {
    Error::Tenant(error).into()
}

/// The status for a method there is none of.
#[must_use]
pub fn unknown_method(path: &str) -> Status {
    Status::with_error_details(
        Code::Unimplemented,
        bounded(&format!("no method {path}")),
        ErrorDetails::with_error_info("METHOD_UNKNOWN", DOMAIN, HashMap::new()),
    )
}

/// Gives a status that tonic itself made (undecodable or too large message, unknown method) the
/// details every other one has, and the code the API promises.
#[must_use]
pub fn complete<B>(mut response: Response<B>) -> Response<B> {
    let headers = response.headers_mut();
    if headers.contains_key(Status::GRPC_STATUS)
        && !headers.contains_key("grpc-status-details-bin")
        && let Some(status) = foreign(headers)
    {
        headers.remove(Status::GRPC_STATUS);
        headers.remove("grpc-message");
        // On failure the headers stay without a status, which every client reads as an error.
        if let Err(error) = status.add_header(headers) {
            tracing::warn!(%error, "a status could not be written as headers");
        }
    }
    response
}

fn foreign(headers: &HeaderMap) -> Option<Status> {
    let status = Status::from_header_map(headers)?;
    if status.code() == Code::Ok {
        return None;
    }
    let message = bounded(status.message());
    let with = |class: Class, message: &str| {
        let details = ErrorDetails::with_error_info(class.reason, DOMAIN, class.metadata);
        Status::with_error_details(class.code, message, details)
    };
    Some(match status.code() {
        Code::Internal if message.starts_with(UNDECODABLE) => {
            FieldError::undecodable(&message[UNDECODABLE.len()..]).into_status()
        }
        // tonic's code for a request above the largest message.
        Code::OutOfRange => {
            let class = class(Code::ResourceExhausted, "REQUEST_TOO_LARGE");
            // "…, the limit is: 1048576 bytes"
            let limit = message.rsplit("limit is: ").next().unwrap_or_default();
            let limit = limit.split(' ').next().and_then(|limit| limit.parse().ok());
            let limit = limit.map_or(MAX_REQUEST, Bytes);
            let message = format!(
                "the request is larger than {limit}, the most it may be; code may have \
                 {MAX_CODE_BYTES} bytes"
            );
            with(class.with("limit_bytes", limit.0), &message)
        }
        Code::Unimplemented => with(class(Code::Unimplemented, "METHOD_UNKNOWN"), message),
        Code::NotFound => with(class(Code::NotFound, "SERVICE_UNKNOWN"), message),
        code => with(class(code, "BAD_CALL"), message),
    })
}

impl FieldError {
    fn into_status(self) -> Status {
        Error::Field(self).into()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prost::Message as _;

    use super::*;
    use crate::execution::{BadRequest, Language};
    use crate::id::SessionId;

    fn reason_of(status: &Status) -> String {
        let info = status.get_details_error_info().expect("an ErrorInfo");
        assert_eq!(info.domain, "pagebox");
        info.reason
    }

    fn parts(error: impl Into<Error>) -> (Code, String) {
        let status = Status::from(error.into());
        (status.code(), reason_of(&status))
    }

    #[test]
    fn every_error_has_its_code_and_reason() {
        use session::Error as S;
        let session = SessionId::generate();
        let execution = ExecutionId::generate();
        let cases: Vec<(Error, Code, &str)> = vec![
            (
                FieldError::new("code", "x").into(),
                Code::InvalidArgument,
                "INVALID_FIELD",
            ),
            (
                S::BadRequest(BadRequest::new("idempotency_key", "x")).into(),
                Code::InvalidArgument,
                "INVALID_FIELD",
            ),
            (
                S::SessionUnknown(session).into(),
                Code::NotFound,
                "SESSION_UNKNOWN",
            ),
            (
                S::ExecutionUnknown(execution).into(),
                Code::NotFound,
                "EXECUTION_UNKNOWN",
            ),
            (
                S::ExecutionCancelled(execution).into(),
                Code::Cancelled,
                "EXECUTION_CANCELLED",
            ),
            (
                S::SessionEnded {
                    id: session,
                    detail: "x".into(),
                }
                .into(),
                Code::FailedPrecondition,
                "SESSION_ENDED",
            ),
            (
                S::Spent(store::Spent::Minutes {
                    allowed: 1,
                    left: 0,
                    needed: 1,
                })
                .into(),
                Code::ResourceExhausted,
                "SESSION_MINUTES_SPENT",
            ),
            (
                S::Spent(store::Spent::Credits {
                    budget: 1,
                    left: 0,
                    needed: 2,
                    ttl: 30,
                })
                .into(),
                Code::ResourceExhausted,
                "BUDGET_SPENT",
            ),
            (
                S::Store(Arc::new(store::Error::Closed)).into(),
                Code::Internal,
                "STORE_FAILED",
            ),
            (
                tenant::Error::KeyMissing.into(),
                Code::Unauthenticated,
                "KEY_MISSING",
            ),
            (
                tenant::Error::KeyUnknown.into(),
                Code::Unauthenticated,
                "KEY_UNKNOWN",
            ),
            (
                tenant::Error::OwnerMissing.into(),
                Code::InvalidArgument,
                "INVALID_FIELD",
            ),
            (
                tenant::Error::OwnerNotAllowed.into(),
                Code::PermissionDenied,
                "OWNER_NOT_ALLOWED",
            ),
            (
                tenant::Error::TooManyRequests {
                    rate: 1,
                    retry_after: Duration::from_secs(1),
                }
                .into(),
                Code::ResourceExhausted,
                "RATE_LIMIT",
            ),
            (
                S::SessionLimit { limit: 1 }.into(),
                Code::ResourceExhausted,
                "SESSION_LIMIT",
            ),
            (
                S::QueueFull { waiting: 1 }.into(),
                Code::ResourceExhausted,
                "QUEUE_FULL",
            ),
            (S::Draining.into(), Code::Unavailable, "DRAINING"),
            (
                S::Runner {
                    language: Language::Bash,
                    source: std::sync::Arc::new(crate::runner::Error::Cancelled),
                }
                .into(),
                Code::Internal,
                "RUNNER_FAILED",
            ),
            (
                Error::ReplyTooLarge(Bytes(2), Bytes(1)),
                Code::ResourceExhausted,
                "REPLY_TOO_LARGE",
            ),
            (
                Error::DeadlineExceeded(Duration::from_secs(1)),
                Code::DeadlineExceeded,
                "DEADLINE_EXCEEDED",
            ),
            (Error::NoReport(execution), Code::Internal, "RUNNER_FAILED"),
        ];
        for (error, code, reason) in cases {
            let name = format!("{error:?}");
            assert_eq!(parts(error), (code, reason.to_owned()), "{name}");
        }
    }

    #[test]
    fn a_bad_field_is_named() {
        for (error, field) in [
            (
                Error::from(FieldError::new("options.code", "x")),
                "options.code",
            ),
            (
                session::Error::from(BadRequest::new("idempotency_key", "x")).into(),
                "idempotency_key",
            ),
        ] {
            let status = Status::from(error);
            let bad = status.get_details_bad_request().unwrap();
            assert_eq!(bad.field_violations[0].field, field);
            assert!(status.message().contains(field));
        }
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let status = Status::from(Error::from(FieldError::new("code", "ä".repeat(5000))));
        assert!(status.message().len() <= MAX_MESSAGE_BYTES);
        let mut headers = HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        let total: usize = headers
            .iter()
            .map(|(k, v)| k.as_str().len() + v.len())
            .sum();
        assert!(total < 8 << 10, "{total}");
    }

    fn completed(status: Status) -> Status {
        let response = complete(status.into_http::<()>());
        Status::from_header_map(response.headers()).unwrap()
    }

    #[test]
    fn an_undecodable_message_names_its_field() {
        // ExecuteRequest{options{code: b"\xff"}}
        let bytes: &[u8] = &[0x0a, 0x03, 0x22, 0x01, 0xff];
        let error = super::super::v1::ExecuteRequest::decode(bytes).unwrap_err();
        let status = completed(Status::internal(error.to_string()));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(reason_of(&status), "INVALID_FIELD");
        let bad = status.get_details_bad_request().unwrap();
        assert_eq!(bad.field_violations[0].field, "options.code");
    }

    #[test]
    fn statuses_made_by_tonic_get_an_error_info() {
        for (status, code, reason) in [
            (
                Status::out_of_range("too large"),
                Code::ResourceExhausted,
                "REQUEST_TOO_LARGE",
            ),
            (
                Status::unimplemented(""),
                Code::Unimplemented,
                "METHOD_UNKNOWN",
            ),
            (Status::not_found("x"), Code::NotFound, "SERVICE_UNKNOWN"),
            (Status::internal("x"), Code::Internal, "BAD_CALL"),
        ] {
            let status = completed(status);
            assert_eq!((status.code(), reason_of(&status).as_str()), (code, reason));
        }
        assert_eq!(reason_of(&unknown_method("/a/b")), "METHOD_UNKNOWN");
    }

    #[test]
    fn a_complete_status_and_success_are_left_alone() {
        let status = Status::from(Error::from(session::Error::Draining));
        assert_eq!(reason_of(&completed(status)), "DRAINING");
        let mut response = Response::new(());
        response
            .headers_mut()
            .insert("grpc-status", "0".parse().unwrap());
        assert_eq!(complete(response).headers().len(), 1);
    }
}
