//! Errors on the wire: always `{"success": false, "error": "…"}`, with `code` and `details` where
//! clients look at them.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{IntoResponses, ToSchema};

use crate::{agent, profile, session, tenant};

/// When to ask again for room that comes free with a session's end, which nobody knows.
const ROOM_RETRY: Duration = Duration::from_secs(5);

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
#[allow(dead_code, reason = "says how `ApiError` is written")]
pub(super) struct ErrorBody {
    /// Always false.
    success: bool,
    /// For a person.
    error: String,
    /// For a program, where it has to decide.
    code: Option<String>,
    /// What more there is to say; of a bad request, which field.
    details: Option<Vec<Value>>,
}

/// Failures that each path may have.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "says which statuses there are")]
pub(super) enum Failures {
    /// The request is not as it must be.
    #[response(status = 400)]
    BadRequest(ErrorBody),
    /// No key, or none that is known.
    #[response(status = 401)]
    Unauthorized(ErrorBody),
    /// A web page asked, a host that is not the daemon's was named, it is somebody else's, or the page
    /// may not be reached.
    #[response(status = 403)]
    Forbidden(ErrorBody),
    /// The path takes other methods.
    #[response(status = 405)]
    MethodNotAllowed(ErrorBody),
    /// Too many requests, or too much at once.
    #[response(status = 429)]
    Rate(ErrorBody),
    /// Something here is broken; the log says what.
    #[response(status = 500)]
    Internal(ErrorBody),
}

/// Failures that paths of one session have too.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "says which statuses there are")]
pub(super) enum NoSession {
    /// There is no such session.
    #[response(status = 404)]
    Unknown(ErrorBody),
    /// The session has ended.
    #[response(status = 410)]
    Ended(ErrorBody),
}

/// Failures of paths that start something.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "says which statuses there are")]
pub(super) enum NotStarted {
    /// What the key may use is used up.
    #[response(status = 402)]
    Spent(ErrorBody),
    /// The body is larger than 10 MB.
    #[response(status = 413)]
    TooLarge(ErrorBody),
    /// The body has a content encoding, or the page is no page.
    #[response(status = 415)]
    Encoded(ErrorBody),
    /// The request asks for what is not there yet; the text names it.
    #[response(status = 501)]
    NotThere(ErrorBody),
    /// The model failed before anything was done on the page.
    #[response(status = 502)]
    ModelFailed(ErrorBody),
    /// The daemon is shutting down, or has no model for a prompt.
    #[response(status = 503)]
    Draining(ErrorBody),
}

/// Failures of what uses a profile.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "says which statuses there are")]
pub(super) enum ProfileInUse {
    /// Another session saves this profile.
    #[response(status = 409)]
    Busy(ErrorBody),
    /// The profiles cannot be reached, or this one is damaged.
    #[response(status = 502)]
    Failed(ErrorBody),
}

/// An error as a client gets it.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    code: Option<&'static str>,
    details: Vec<Value>,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// With a text for the person who reads it.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            code: None,
            details: Vec::new(),
            retry_after: None,
        }
    }

    /// With the time after which it may be another answer.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// With one of the contract's words for programs.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// With another text for people.
    #[must_use]
    pub fn message(mut self, message: &str) -> Self {
        message.clone_into(&mut self.message);
        self
    }

    /// What a request asks for, and Pagebox does not do yet.
    pub fn not_there(what: &str, why: &str) -> Self {
        let message = format!("{what} is not available: {why}");
        Self::new(StatusCode::NOT_IMPLEMENTED, message).code("NOT_IMPLEMENTED")
    }

    /// Of a session that has ended: the contract's words, and why in the details.
    fn ended(why: &str) -> Self {
        let mut error = Self::new(StatusCode::GONE, "Browser session has been destroyed.");
        error.details = vec![json!({ "message": why })];
        error
    }

    /// A field that is not as it must be.
    pub fn bad_field(field: &str, message: &str) -> Self {
        let mut error = Self::new(StatusCode::BAD_REQUEST, format!("{field} {message}"));
        error.details = vec![json!({ "path": [field], "message": message })];
        error.code("BAD_REQUEST")
    }
}

impl ApiError {
    /// Of a profile that cannot be used.
    pub(super) fn of_profile(error: &profile::Error) -> Self {
        use profile::Error as P;
        let status = match error {
            P::Busy { .. } | P::BeingSaved { .. } | P::Outdated { .. } | P::TooNew { .. } => {
                StatusCode::CONFLICT
            }
            P::Unknown(_) => StatusCode::NOT_FOUND,
            P::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            P::Unreadable { .. }
            | P::Archive { .. }
            | P::State { .. }
            | P::Store(_)
            | P::Directory { .. }
            | P::Key(_) => {
                tracing::error!(error = %crate::telemetry::Chain(error), "request failed");
                StatusCode::BAD_GATEWAY
            }
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({ "success": false, "error": self.message });
        if let Some(code) = self.code {
            body["code"] = code.into();
        }
        if !self.details.is_empty() {
            body["details"] = self.details.into();
        }
        let mut response = (self.status, Json(body)).into_response();
        if let Some(after) = self.retry_after {
            let seconds = HeaderValue::from(tenant::whole_seconds(after));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

impl From<session::Error> for ApiError {
    fn from(error: session::Error) -> Self {
        use session::Error as S;
        let status = match &error {
            S::BadRequest(bad) => return Self::bad_field(&bad.field, &bad.message),
            S::SessionUnknown(_) => {
                return Self::new(StatusCode::NOT_FOUND, "Browser session not found.");
            }
            S::ForeignSession(_) => return Self::new(StatusCode::FORBIDDEN, "Forbidden."),
            S::SessionEnded { detail, .. } => return Self::ended(detail),
            S::ExecutionUnknown(_) => StatusCode::NOT_FOUND,
            S::ForeignExecution(_) | S::CdpRefused(_) => StatusCode::FORBIDDEN,
            S::SessionLimit { .. } | S::OwnerSessionLimit { .. } | S::QueueFull { .. } => {
                let error = Self::new(StatusCode::TOO_MANY_REQUESTS, error.to_string());
                return error.retry_after(ROOM_RETRY);
            }
            S::Spent(_) => StatusCode::PAYMENT_REQUIRED,
            S::Draining => StatusCode::SERVICE_UNAVAILABLE,
            S::ExecutionCancelled(_) | S::HumanInControl(_) => StatusCode::CONFLICT,
            S::Profile(error) => return Self::of_profile(error),
            S::Store(_) | S::Sandbox(_) | S::Browser(_) | S::Runner { .. } | S::Listener(_) => {
                tracing::error!(error = %crate::telemetry::Chain(&error), "request failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::new(status, error.to_string())
    }
}

impl From<agent::Error> for ApiError {
    fn from(error: agent::Error) -> Self {
        use agent::Error as A;
        let text = error.to_string();
        match error {
            A::BadRequest(bad) => Self::bad_field(&camel_case(&bad.field), &bad.message),
            A::Session(error) => error.into(),
            A::NoModel { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, text).code("MODEL_MISSING")
            }
            // Clients send it again, which is harmless: nothing was done.
            A::Model { .. } => {
                let message = "Browser agent failed to execute the task.";
                let mut error = Self::new(StatusCode::BAD_GATEWAY, format!("{message} {text}"));
                error.details = vec![json!({ "message": text })];
                error.code("MODEL_FAILED")
            }
            A::Busy { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, text).retry_after(ROOM_RETRY)
            }
            A::Late(_) => Self::new(StatusCode::REQUEST_TIMEOUT, text),
            A::Page(_) | A::Cdp(_) => {
                tracing::error!(error = %text, "request failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
        }
    }
}

/// `allow_navigation[0]` as HTTP has it. What stands below `secrets` is named by the caller.
fn camel_case(field: &str) -> String {
    if field.starts_with("secrets.") {
        return field.to_owned();
    }
    let mut parts = field.split('_');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

impl From<tenant::Error> for ApiError {
    fn from(error: tenant::Error) -> Self {
        use tenant::Error as T;
        let status = match &error {
            T::KeyMissing | T::KeyUnknown => StatusCode::UNAUTHORIZED,
            T::OwnerMissing | T::OwnerUnreadable => StatusCode::BAD_REQUEST,
            T::OwnerNotAllowed => StatusCode::FORBIDDEN,
            T::TooManyRequests { retry_after, .. } => {
                let refused = Self::new(StatusCode::TOO_MANY_REQUESTS, error.to_string());
                return refused.retry_after(*retry_after);
            }
        };
        Self::new(status, error.to_string())
    }
}

/// For paths nothing is served at.
pub(super) async fn no_such_path(method: Method, uri: Uri) -> ApiError {
    let message = format!("there is no {method} {}", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, message)
}

/// For paths that take other methods.
pub(super) async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Spent;

    #[test]
    fn who_may_not_yet_is_told_when() {
        let limited = tenant::Error::TooManyRequests {
            rate: 60,
            retry_after: Duration::from_millis(1500),
        };
        let spent = Spent::Credits {
            budget: 10,
            left: 1,
            needed: 20,
            ttl: 600,
        };
        for (error, status, retry) in [
            (limited.into(), 429, Some("2")),
            (
                session::Error::OwnerSessionLimit { limit: 1 }.into(),
                429,
                Some("5"),
            ),
            (session::Error::Spent(spent).into(), 402, None),
            (tenant::Error::KeyMissing.into(), 401, None),
            (tenant::Error::OwnerMissing.into(), 400, None),
            (tenant::Error::OwnerNotAllowed.into(), 403, None),
        ] {
            let error: ApiError = error;
            let response = error.into_response();
            let found = response.headers().get(header::RETRY_AFTER);
            let found = found.map(|value| value.to_str().unwrap());
            assert_eq!((response.status().as_u16(), found), (status, retry));
        }
    }
}
