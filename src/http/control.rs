//! Who may watch a session, and who controls its browser, as its owner says by the API.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::base::Base;
use super::error::{ErrorBody, Failures, NoSession};
use super::extract::{Body, Caller, Session};
use super::live_view::live_urls;
use super::{ApiError, Gateway};

/// What to do with the control of a session.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ControlRequest {
    /// `take` or `release`.
    #[schema(pattern = "^(take|release)$")]
    action: String,
}

/// Who is in control.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Controlled {
    success: bool,
    /// `human` or `code`.
    holder: &'static str,
}

/// Takes control of a session's browser from its code, or gives it back. Meanwhile input of running code
/// waits, and new code waits or fails as it asks to (`onHumanControl`). Taken again, it is kept for as long
/// again; it goes back by itself after five minutes (`session.human_control`).
#[utoipa::path(
    post, path = "/{id}/control", tag = "sessions", operation_id = "controlSession",
    params(("id" = uuid::Uuid, Path)),
    request_body = ControlRequest,
    responses(
        (status = 200, body = Controlled),
        (status = 409, body = ErrorBody, description = "Somebody is in control by the live view"),
        Failures, NoSession
    )
)]
pub(super) async fn control(
    State(gateway): State<Gateway>,
    Caller(caller): Caller,
    Session(id): Session,
    Body(request): Body<ControlRequest>,
) -> Result<Json<Controlled>, ApiError> {
    let registry = &gateway.registry;
    let view = match &*request.action {
        "take" => registry.take_control(&caller.owner, id).await?,
        "release" => registry.give_control_back(&caller.owner, id).await?,
        _ => return Err(ApiError::bad_field("action", "must be take or release")),
    };
    Ok(Json(Controlled {
        success: true,
        holder: match view.human_control {
            true => "human",
            false => "code",
        },
    }))
}

/// New links to a session's live view.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Relinked {
    success: bool,
    /// To watch; a secret.
    live_view_url: String,
    /// To act too; a secret.
    interactive_live_view_url: String,
}

/// Withdraws the links to a session's live view, lets out whoever came by them, and makes others.
#[utoipa::path(
    post, path = "/{id}/live-view", tag = "sessions", operation_id = "renewLiveView",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = Relinked), Failures, NoSession)
)]
pub(super) async fn renew_live_view(
    State(gateway): State<Gateway>,
    Caller(caller): Caller,
    Session(id): Session,
    base: Base,
) -> Result<Json<Relinked>, ApiError> {
    let view = gateway.registry.revoke_live_view(&caller.owner, id).await?;
    let urls = live_urls(&base, &view);
    Ok(Json(Relinked {
        success: true,
        live_view_url: urls.view,
        interactive_live_view_url: urls.control,
    }))
}
