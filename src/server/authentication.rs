//! Who calls: asked of every request before anything else is done with it.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::connection::is_grpc;
use crate::tenant::{Caller, Credentials, Error, Keys};
use crate::{grpc, http};

const AUTHORIZATION: &str = "authorization";
const OWNER: &str = "pagebox-owner";

/// Puts the [`Caller`] into the request, or refuses it in its own protocol. Without keys to ask for,
/// in the process of the caller itself, everyone is anonymous.
pub(super) async fn identify(
    State(keys): State<Option<Keys>>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = match &keys {
        None => Ok(Caller::anonymous()),
        // Nobody called: a handler that needs to know who did, fails.
        Some(keys) if keys.asked_for() && is_open(request.uri().path()) => {
            return next.run(request).await;
        }
        Some(keys) => match credentials(request.headers()) {
            Ok(credentials) => keys.admit(credentials).await,
            Err(error) => Err(error),
        },
    };
    match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => {
            tracing::debug!(%error, "request refused");
            match is_grpc(request.headers()) {
                true => grpc::not_let_in(error).into_http(),
                false => http::ApiError::from(error).into_response(),
            }
        }
    }
}

/// What says nothing of any tenant, or asks for a secret of its own (the token of a `cdpUrl`, or of a
/// live view).
fn is_open(path: &str) -> bool {
    matches!(path, "/" | "/health" | "/ready" | "/openapi.json")
        || path.starts_with("/grpc.health.v1.Health/")
        || path.starts_with("/cdp/")
        || path.starts_with("/live/")
}

fn credentials(headers: &HeaderMap) -> Result<Credentials<'_>, Error> {
    let mut owners = headers.get_all(OWNER).iter().map(HeaderValue::as_bytes);
    let owner = owners.next();
    // A second one may be what the gateway's own caller has smuggled in.
    if owners.next().is_some() {
        return Err(Error::OwnerUnreadable);
    }
    Ok(Credentials {
        authorization: headers.get(AUTHORIZATION).map(HeaderValue::as_bytes),
        owner,
    })
}
