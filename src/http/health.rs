//! Whether the daemon runs, and whether it takes work.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{ErrorBody, Failures};
use super::{ApiError, Gateway};

/// How the daemon is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    success: bool,
    /// `ok` or `ready`.
    status: &'static str,
}

/// Whether the daemon runs.
#[utoipa::path(
    get, path = "/health", tag = "daemon", security(()),
    responses((status = 200, body = Health), Failures)
)]
pub(super) async fn health() -> Json<Health> {
    Json(Health {
        success: true,
        status: "ok",
    })
}

/// Whether the daemon takes new work; 503 once it is shutting down.
#[utoipa::path(
    get, path = "/ready", tag = "daemon", security(()),
    responses(
        (status = 200, body = Health),
        (status = 503, body = ErrorBody, description = "It is shutting down"),
        Failures
    )
)]
pub(super) async fn ready(State(gateway): State<Gateway>) -> Result<Json<Health>, ApiError> {
    if gateway.registry.is_draining() {
        let message = "the daemon is shutting down";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message));
    }
    Ok(Json(Health {
        success: true,
        status: "ready",
    }))
}
