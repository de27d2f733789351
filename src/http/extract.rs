//! What handlers take from a request.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::ApiError;
use crate::tenant;

/// A JSON body, whatever its content type says; none at all is `{}`.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let read = Bytes::from_request(request, state).await;
        let bytes = read.map_err(|error| ApiError::new(error.status(), error.body_text()))?;
        let bytes: &[u8] = match bytes.trim_ascii() {
            b"" => b"{}",
            text => text,
        };
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| {
            let message = format!("Bad request, malformed JSON: {error}");
            ApiError::new(StatusCode::BAD_REQUEST, message).code("BAD_REQUEST_INVALID_JSON")
        })?;
        T::deserialize(value).map(Self).map_err(|error| {
            ApiError::new(StatusCode::BAD_REQUEST, error.to_string()).code("BAD_REQUEST")
        })
    }
}

/// Who called, as the server found out before it let the request in.
#[derive(Debug)]
pub(super) struct Caller(pub(super) tenant::Caller);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<tenant::Caller>().cloned();
        caller.map(Self).ok_or_else(|| {
            let message = "nobody found out who called; this is a fault of the daemon";
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
        })
    }
}
