//! The HTTP gateway against the real daemon: what clients send, and what they count on.

mod advertised;
mod cdp;
mod existing;
mod guards;
mod interact;
mod live;
mod load;
mod server;
mod sessions;
mod wire;

use serde_json::{Value, json};

use crate::http_client::Http;
use crate::shared::daemon;

/// The shared daemon, over HTTP.
fn http() -> Http {
    Http::new(&daemon().url())
}

/// A new session; its reply.
async fn created(http: &Http) -> Value {
    http.post("/v2/browser", &json!({})).await.good()
}

/// Where a session is.
fn path(session: &Value) -> String {
    format!("/v2/browser/{}", session["id"].as_str().expect("an id"))
}

/// Runs code in a session.
async fn execute(http: &Http, session: &Value, language: &str, code: &str) -> Value {
    let body = json!({ "code": code, "language": language, "origin": "test" });
    let path = format!("{}/execute", path(session));
    http.post(&path, &body).await.good()
}
