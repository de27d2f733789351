//! `/cdp/{session}`: a session's browser for CDP clients outside, by the token in the URL.
//!
//! The token is all that is asked for. Web pages are refused before this (`guard`): they may open
//! WebSockets to anywhere.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tracing::{Instrument as _, debug, field, info_span};

use super::base::Base;
use super::error::{Failures, NoSession};
use super::extract::{Session, query_value};
use super::{ApiError, Gateway};
use crate::cdp::accept_websocket;
use crate::id::SessionId;
use crate::session::{CdpAccess, SessionView};

/// How every path of CDP begins.
pub(super) const PREFIX: &str = "/cdp/";

/// Where CDP clients connect to a session; empty once it has ended. A secret.
pub(super) fn cdp_url(base: &Base, view: &SessionView) -> String {
    if view.state.ended() {
        return String::new();
    }
    socket_url(base, view.id, view.cdp_token.as_str())
}

fn socket_url(base: &Base, id: SessionId, token: &str) -> String {
    base.socket(&format!("{PREFIX}{id}?token={token}"))
}

async fn open(
    gateway: &Gateway,
    id: SessionId,
    uri: &Uri,
) -> Result<(CdpAccess, String), ApiError> {
    let token = query_value(uri, "token").unwrap_or_default();
    let access = gateway.registry.cdp(id, &token).await?;
    Ok((access, token))
}

/// The browser of a session as a WebSocket that speaks CDP: for Playwright's `connectOverCDP`,
/// Puppeteer's `connect` and `agent-browser --cdp`, several at once.
#[utoipa::path(
    get, path = "/cdp/{id}", tag = "cdp", operation_id = "connectCdp", security(()),
    params(("id" = uuid::Uuid, Path), ("token" = String, Query)),
    responses(
        (status = 101, description = "The connection is a WebSocket from here on"),
        (status = 426, body = super::error::ErrorBody, description = "It asks for no WebSocket"),
        Failures, NoSession
    )
)]
pub(super) async fn socket(
    State(gateway): State<Gateway>,
    Session(id): Session,
    mut request: Request,
) -> Result<Response, ApiError> {
    let (access, _) = open(&gateway, id, request.uri()).await?;
    let accepted = accept_websocket(request.headers());
    let headers = accepted.map_err(|(status, message)| ApiError::new(status, message))?;
    let upgraded = hyper::upgrade::on(&mut request);
    let span = info_span!(
        parent: None, "cdp_client", session_id = %id, kind = "external", client_id = field::Empty
    );
    // Ends with the connection, or with the session's hub.
    let serving = async move {
        let served = match upgraded.await {
            Ok(upgraded) => access.serve(TokioIo::new(upgraded)).await,
            Err(error) => return debug!(%error, "a CDP client did not stay for its WebSocket"),
        };
        if let Err(error) = served {
            debug!(%error, "a CDP client was not connected");
        }
    };
    tokio::spawn(serving.instrument(span));
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// Where to connect to, as Chromium's own `/json/version` says it: for clients that are given an
/// `http` URL.
#[utoipa::path(
    get, path = "/cdp/{id}/json/version", tag = "cdp", operation_id = "cdpVersion", security(()),
    params(("id" = uuid::Uuid, Path), ("token" = String, Query)),
    responses((status = 200, body = Object), Failures, NoSession)
)]
pub(super) async fn version(
    State(gateway): State<Gateway>,
    Session(id): Session,
    base: Base,
    uri: Uri,
) -> Result<Json<Value>, ApiError> {
    let (access, token) = open(&gateway, id, &uri).await?;
    Ok(Json(access.version(&socket_url(&base, id, &token))))
}
