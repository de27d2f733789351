//! The HTTP gateway: Firecrawl's API over the same sessions as gRPC.
//!
//! Decides what a request says, how a reply is written, and which status an error becomes
//! (`error`). Every body is a JSON object with `success`; clients count on it. Knows nothing of
//! ports or connections; the server does.

mod error;
mod extract;

use axum::Router;
use axum::routing::get;

use crate::session::Registry;

pub use error::ApiError;

/// What the gateway serves from; cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Sessions.
    pub registry: Registry,
}

/// Every path of the gateway.
pub fn router(gateway: Gateway) -> Router {
    Router::new()
        .route("/health", get(health))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .with_state(gateway)
}

async fn health() -> axum::Json<serde_json::Value> {
    axum::Json(serde_json::json!({ "status": "ok" }))
}
