//! What handlers take from a request.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::{self, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::ApiError;
use crate::id::SessionId;
use crate::limits;
use crate::tenant;

/// Largest request body.
const MAX_BODY: limits::Bytes = limits::Bytes::mib(10);
/// How much more of one that is larger is read, and thrown away.
const MAX_DISCARDED: limits::Bytes = limits::Bytes::mib(100);
/// And for how long.
const DISCARD_TIME: Duration = Duration::from_secs(30);

/// A JSON body, whatever its content type says; none at all is `{}`.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let encoding = request.headers().get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| encoding != "identity") {
            let message = "bodies must be sent without a content encoding";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let bytes = whole(request.into_body()).await?;
        let bytes: &[u8] = match bytes.trim_ascii() {
            b"" => b"{}",
            text => text,
        };
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| {
            let message = format!("Bad request, malformed JSON: {error}");
            ApiError::new(StatusCode::BAD_REQUEST, message).code("BAD_REQUEST_INVALID_JSON")
        })?;
        serde_path_to_error::deserialize(value)
            .map(Self)
            .map_err(|error| {
                let field = match error.path().to_string() {
                    whole if whole == "." => "body".to_owned(),
                    field => field,
                };
                ApiError::bad_field(&field, &format!("is wrong: {}", error.inner()))
            })
    }
}

/// All of a body, unless it is too large.
async fn whole(mut body: body::Body) -> Result<Bytes, ApiError> {
    let read = Limited::new(&mut body, MAX_BODY.as_usize()).collect().await;
    match read {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            discard(body).await;
            let message = format!("the body is larger than {MAX_BODY}");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message))
        }
        Err(error) => {
            let message = format!("the body could not be read: {error}");
            Err(ApiError::new(StatusCode::BAD_REQUEST, message))
        }
    }
}

/// Reads the rest of a body: many callers look for an answer only when they have sent all of it, and
/// a connection that is closed before loses it.
pub(super) async fn discard(body: body::Body) {
    let mut rest = Limited::new(body, MAX_DISCARDED.as_usize());
    let read = async { while let Some(Ok(_)) = rest.frame().await {} };
    if tokio::time::timeout(DISCARD_TIME, read).await.is_err() {
        tracing::debug!("a body that is too large did not end in time");
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

/// Parameters of a path.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read = Path::<T>::from_request_parts(parts, state).await;
        read.map(|Path(values)| Self(values))
            .map_err(|error| ApiError::new(error.status(), error.body_text()))
    }
}

/// The session that the parameter `id` of a path names.
#[derive(Debug)]
pub(super) struct Session(pub(super) SessionId);

impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Params(values) =
            Params::<HashMap<String, String>>::from_request_parts(parts, state).await?;
        let id = values.get("id").and_then(|id| id.parse().ok());
        id.map(Self).ok_or_else(|| {
            let message = "Invalid session ID format. Session ID must be a valid UUID.";
            ApiError::bad_field("id", "is not a UUID").message(message)
        })
    }
}

/// The first value of this name in the query.
pub(super) fn query_value(uri: &Uri, name: &str) -> Option<String> {
    let query = uri.query()?;
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}
