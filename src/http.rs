//! The HTTP gateway: Firecrawl's API over the same sessions as gRPC.
//!
//! Decides what a request says, how a reply is written, and which status an error becomes
//! (`error`). Every body is a JSON object with `success`; clients count on it. Knows nothing of
//! ports or connections; the server does.
//!
//! ```text
//! cross_origin ── (the server finds out who calls) ── only_known_hosts ── handlers
//! ```

mod base;
mod cdp;
mod config;
mod control;
mod error;
mod execution;
mod extract;
mod guard;
mod health;
mod home;
mod live_view;
mod openapi;
mod prompt;
mod scrape;
mod scrape_request;
mod sessions;
mod team;
mod time;

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use tracing::{Instrument as _, debug, info_span};

use crate::agent::Agent;
use crate::execution::OutputLimits;
use crate::live::LiveViews;
use crate::scrape::Scrapes;
use crate::session::Registry;

pub use base::{Front, Peer};
pub use config::Config;
pub use error::ApiError;
pub use execution::{Asked, Code, Ran, run};
pub use guard::cross_origin;

/// What the gateway serves from; cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Sessions.
    pub registry: Registry,
    /// Prompts, in these sessions.
    pub agent: Agent,
    /// Scrapes, on these sessions.
    pub scrapes: Scrapes,
    /// Who watches sessions.
    pub views: LiveViews,
    /// How the daemon is reached, and by which web pages.
    pub front: Arc<Front>,
    /// What an execution may give back.
    pub output: OutputLimits,
}

/// Every path of the gateway.
pub fn router(gateway: Gateway) -> Router {
    let front = Arc::clone(&gateway.front);
    openapi::router()
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(from_fn_with_state(front, guard::only_known_hosts))
        .layer(from_fn(log))
        .with_state(gateway)
}

/// One span and one line for each request. Of its path only the pattern: the rest may be a secret.
async fn log(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let span =
        info_span!("http", method = %request.method(), route = route.map(MatchedPath::as_str));
    async {
        let response = next.run(request).await;
        debug!(status = response.status().as_u16(), "answered");
        response
    }
    .instrument(span)
    .await
}
