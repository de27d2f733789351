//! Errors on the wire: always `{"success": false, "error": "…"}`, with `code` and `details` where
//! clients look at them.

use axum::Json;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::session;

/// An error as a client gets it.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    code: Option<&'static str>,
    details: Vec<Value>,
}

impl ApiError {
    /// With a text for the person who reads it.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            code: None,
            details: Vec::new(),
        }
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
        (self.status, Json(body)).into_response()
    }
}

impl From<session::Error> for ApiError {
    fn from(error: session::Error) -> Self {
        use session::Error as S;
        let status = match &error {
            S::BadRequest(bad) => return Self::bad_field(&bad.field, &bad.message),
            S::SessionUnknown(_) | S::ExecutionUnknown(_) => StatusCode::NOT_FOUND,
            S::ForeignSession(_) | S::ForeignExecution(_) | S::CdpRefused(_) => {
                StatusCode::FORBIDDEN
            }
            S::SessionEnded { .. } => StatusCode::GONE,
            S::SessionLimit { .. } | S::OwnerSessionLimit { .. } | S::QueueFull { .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            S::Draining => StatusCode::SERVICE_UNAVAILABLE,
            S::ExecutionCancelled(_) => StatusCode::CONFLICT,
            S::Sandbox(_) | S::Browser(_) | S::Runner { .. } | S::Listener(_) => {
                tracing::error!(error = %crate::telemetry::Chain(&error), "request failed");
                StatusCode::INTERNAL_SERVER_ERROR
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
