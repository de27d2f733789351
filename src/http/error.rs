//! Errors on the wire: always `{"success": false, "error": "…"}`, with `code` and `details` where
//! clients look at them.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::{session, tenant};

/// When to ask again for room that comes free with a session's end, which nobody knows.
const ROOM_RETRY: Duration = Duration::from_secs(5);

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

    /// A field that is not as it must be.
    pub fn bad_field(field: &str, message: &str) -> Self {
        let mut error = Self::new(StatusCode::BAD_REQUEST, format!("{field} {message}"));
        error.details = vec![json!({ "path": [field], "message": message })];
        error.code("BAD_REQUEST")
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
            S::SessionUnknown(_) | S::ExecutionUnknown(_) => StatusCode::NOT_FOUND,
            S::ForeignSession(_) | S::ForeignExecution(_) => StatusCode::FORBIDDEN,
            S::SessionEnded { .. } => StatusCode::GONE,
            S::SessionLimit { .. } | S::OwnerSessionLimit { .. } | S::QueueFull { .. } => {
                let error = Self::new(StatusCode::TOO_MANY_REQUESTS, error.to_string());
                return error.retry_after(ROOM_RETRY);
            }
            S::Spent(_) => StatusCode::PAYMENT_REQUIRED,
            S::Draining => StatusCode::SERVICE_UNAVAILABLE,
            S::ExecutionCancelled(_) => StatusCode::CONFLICT,
            S::Store(_) | S::Sandbox(_) | S::Browser(_) | S::Runner { .. } | S::Listener(_) => {
                tracing::error!(error = %crate::telemetry::Chain(&error), "request failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::new(status, error.to_string())
    }
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
