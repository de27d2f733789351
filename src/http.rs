//! The HTTP gateway: Firecrawl's API over the same sessions as gRPC.
//!
//! Decides what a request says, how a reply is written, and which status an error becomes
//! (`error`). Every body is a JSON object with `success`; clients count on it. Knows nothing of
//! ports or connections; the server does.

mod error;
mod execution;
mod extract;
mod scrape;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::execution::OutputLimits;
use crate::limits::Bytes;
use crate::scrape::Scrapes;
use crate::session::Registry;

pub use error::ApiError;
pub use execution::{Code, Ran, run};

/// Largest request body.
const MAX_BODY: Bytes = Bytes::mib(10);

/// What the gateway serves from; cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Sessions.
    pub registry: Registry,
    /// Scrapes, on these sessions.
    pub scrapes: Scrapes,
    /// What an execution may give back.
    pub output: OutputLimits,
}

/// Every path of the gateway.
pub fn router(gateway: Gateway) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/v2/scrape", post(scrape::create))
        .route("/v2/scrape/{id}", get(scrape::get))
        .route(
            "/v2/scrape/{id}/interact",
            post(scrape::interact).delete(scrape::stop),
        )
        .layer(DefaultBodyLimit::max(MAX_BODY.as_usize()))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .with_state(gateway)
}

async fn health() -> axum::Json<serde_json::Value> {
    axum::Json(serde_json::json!({ "status": "ok" }))
}
