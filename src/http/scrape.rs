//! Scrapes, and the session that goes on from one.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::base::Base;
use super::cdp::cdp_url;
use super::error::{ErrorBody, Failures, NoSession, NotStarted};
use super::execution::{Code, Ran, run};
use super::extract::{Body, Caller, Params};
use super::live_view::live_urls;
use super::scrape_request::ScrapeRequest;
use super::sessions::{ACTIVITY_TTL_SECONDS, Deleted, TTL_SECONDS, seconds};
use super::{ApiError, Gateway};
use crate::id::ScrapeId;
use crate::scrape::{Begin, Document, Error, Life, ScrapeOptions};

/// A page as a document.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Scraped {
    success: bool,
    #[schema(value_type = Object)]
    data: Document,
}

/// A name without addresses is no failure of HTTP: clients look for its `code` in a 200.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, clippy::large_enum_variant, reason = "says what there is")]
enum ScrapedOrNot {
    Scraped(Scraped),
    NoSuchName(ErrorBody),
}

/// Loads a page. A caller that goes away gives it up.
#[utoipa::path(
    post, path = "/v2/scrape", tag = "scrape", operation_id = "scrape",
    request_body = ScrapeRequest,
    responses(
        (status = 200, body = inline(ScrapedOrNot)),
        (status = 408, body = ErrorBody, description = "It took longer than `timeout`"),
        Failures, NotStarted
    )
)]
pub(super) async fn create(
    State(gateway): State<Gateway>,
    Caller(caller): Caller,
    Body(request): Body<Value>,
) -> Result<Json<Scraped>, ApiError> {
    let options = ScrapeOptions::from_json(request)?;
    let data = gateway.scrapes.scrape(&caller, options).await?;
    Ok(Json(Scraped {
        success: true,
        data,
    }))
}

/// A document that was made before.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Kept {
    success: bool,
    #[schema(value_type = Object)]
    data: Box<RawValue>,
}

/// Reads a scrape's document.
#[utoipa::path(
    get, path = "/v2/scrape/{id}", tag = "scrape", operation_id = "getScrape",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = Kept), Failures, NoSession)
)]
pub(super) async fn get(
    State(gateway): State<Gateway>,
    Caller(caller): Caller,
    Params(id): Params<String>,
) -> Result<Json<Kept>, ApiError> {
    let document = gateway.scrapes.document(&caller.owner, job(&id)?).await?;
    // Written as JSON; the store's file may have been changed by hand.
    let data = RawValue::from_string(document).map_err(|_| Error::Conversion)?;
    Ok(Json(Kept {
        success: true,
        data,
    }))
}

/// What to do on a scraped page.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct InteractRequest {
    #[serde(flatten)]
    code: Code,
    /// Of the session, in seconds; said with the first call, later ones do not change it.
    #[schema(minimum = 30, maximum = 3600)]
    ttl: Option<u64>,
    /// Without an execution, in seconds; likewise.
    #[schema(minimum = 10, maximum = 3600)]
    activity_ttl: Option<u64>,
    /// With the first call: a session of the caller's to load the page in, which keeps its own life.
    #[schema(value_type = Option<uuid::Uuid>)]
    existing_session_id: Option<String>,
}

/// What became of it on a scraped page. `success` says how the code, or the task, ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Interacted {
    success: bool,
    session_id: String,
    cdp_url: String,
    /// A page to watch the session; a secret.
    live_view_url: String,
    /// A page to watch it and to act on it; a secret.
    interactive_live_view_url: String,
    #[serde(flatten)]
    ran: Ran,
}

/// Runs code on a scraped page, or does a task there. The first call makes a session of it.
#[utoipa::path(
    post, path = "/v2/scrape/{id}/interact", tag = "scrape", operation_id = "interact",
    params(("id" = uuid::Uuid, Path)),
    request_body = InteractRequest,
    responses(
        (status = 200, body = Interacted),
        (status = 409, body = ErrorBody, description = "The page could not be loaded again"),
        Failures, NoSession, NotStarted
    )
)]
pub(super) async fn interact(
    State(gateway): State<Gateway>,
    Caller(caller): Caller,
    Params(id): Params<String>,
    base: Base,
    Body(request): Body<InteractRequest>,
) -> Result<Json<Interacted>, ApiError> {
    let id = job(&id)?;
    let default = Life::default();
    let life = Life {
        ttl: seconds("ttl", request.ttl, TTL_SECONDS, default.ttl)?,
        idle_ttl: seconds(
            "activityTtl",
            request.activity_ttl,
            ACTIVITY_TTL_SECONDS,
            default.idle_ttl,
        )?,
    };
    let asked = request.code.asked(gateway.output)?;
    let begin = match &request.existing_session_id {
        None => Begin::Anew(life),
        Some(session) => {
            let bad = |_| ApiError::bad_field("existingSessionId", "is not a UUID");
            Begin::In(session.parse().map_err(bad)?)
        }
    };
    let session = gateway.scrapes.session(&caller, id, begin).await?;
    let (view, _) = gateway.registry.get(&caller.owner, session).await?;
    let cdp_url = cdp_url(&base, &view);
    let live = live_urls(&base, &view);
    let ran = run(&gateway, &caller, session, asked).await?;
    Ok(Json(Interacted {
        success: ran.succeeded(),
        session_id: session.to_string(),
        cdp_url,
        live_view_url: live.view,
        interactive_live_view_url: live.control,
        ran,
    }))
}

/// Ends the session of a scrape. Idempotent.
#[utoipa::path(
    delete, path = "/v2/scrape/{id}/interact", tag = "scrape", operation_id = "stopInteract",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = Deleted), Failures, NoSession)
)]
pub(super) async fn stop(
    State(gateway): State<Gateway>,
    Caller(caller): Caller,
    Params(id): Params<String>,
) -> Result<Json<Deleted>, ApiError> {
    let settled = gateway.scrapes.stop(&caller.owner, job(&id)?).await?;
    Ok(Json(Deleted::of(settled)))
}

fn job(id: &str) -> Result<ScrapeId, ApiError> {
    id.parse().map_err(|_| {
        let message = "Invalid job ID format. Job ID must be a valid UUID.";
        ApiError::new(StatusCode::BAD_REQUEST, message)
    })
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let (status, code) = match error {
            Error::BadRequest(bad) => return Self::bad_field(&bad.field, &bad.message),
            Error::Session(error) => return error.into(),
            Error::NoModel(error) => return (*error).into(),
            // Not 502, which clients send again: it costs each time.
            Error::Extract(_) => (StatusCode::INTERNAL_SERVER_ERROR, "SCRAPE_MODEL_FAILED"),
            // Clients look for it in a reply that is no failure of HTTP.
            Error::Dns(_) => (StatusCode::OK, "SCRAPE_DNS_RESOLUTION_ERROR"),
            Error::Tls(_) => (StatusCode::INTERNAL_SERVER_ERROR, "SCRAPE_SSL_ERROR"),
            Error::Unreachable(_) => (StatusCode::INTERNAL_SERVER_ERROR, "SCRAPE_SITE_ERROR"),
            Error::Refused(_) => (StatusCode::FORBIDDEN, "UNSUPPORTED_SITE"),
            Error::Timeout { .. } => (StatusCode::REQUEST_TIMEOUT, "SCRAPE_TIMEOUT"),
            Error::NoPage => {
                let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
                (status, "SCRAPE_UNSUPPORTED_FILE_ERROR")
            }
            Error::Action { .. } | Error::Element(_) | Error::Script(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "SCRAPE_ACTION_ERROR")
            }
            Error::TooLarge { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "SCRAPE_PAGE_TOO_LARGE"),
            Error::Crashed | Error::Cdp(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "SCRAPE_ALL_ENGINES_FAILED",
            ),
            Error::NotSupported(_) => (StatusCode::NOT_IMPLEMENTED, "NOT_IMPLEMENTED"),
            Error::Conversion | Error::Store(_) => {
                tracing::error!(error = %crate::telemetry::Chain(&error), "scrape failed");
                (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN_ERROR")
            }
            Error::Unknown(_) | Error::NeverInteracted(_) => {
                return Self::new(StatusCode::NOT_FOUND, error.to_string());
            }
            Error::Foreign(_) => return Self::new(StatusCode::FORBIDDEN, error.to_string()),
            Error::NotKept(_) | Error::Destroyed(_) => {
                return Self::new(StatusCode::GONE, error.to_string());
            }
            Error::NoReplay | Error::Replay(_) => {
                return Self::new(StatusCode::CONFLICT, error.to_string());
            }
        };
        Self::new(status, error.to_string()).code(code)
    }
}
