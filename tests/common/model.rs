//! Language models on a free loopback port, in the wire formats of OpenAI and Anthropic, as strict about
//! them as the services are. What they say they decide from what they are sent: they look names, roles
//! and refs up in the snapshot they get. How well they do is a matter of the model's name (`brain`).
//!
//! Used by the tests and the benchmarks. Knows nothing of Pagebox but what it sends.

#[path = "model/brain.rs"]
mod brain;
#[path = "model/wire.rs"]
mod wire;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use brain::{Said, decide};
use wire::Format;

/// What callers must have.
pub(crate) const KEY: &str = "sk-test-0123456789abcdef";
/// What each answer is said to have cost.
pub(crate) const TOKENS: (u64, u64) = (100, 10);

/// What the models have in common.
#[derive(Debug, Default)]
struct Shared {
    /// Bodies that came, oldest first.
    requests: Mutex<Vec<String>>,
    /// Questions so far, by model and task.
    asked: Mutex<HashMap<(String, String), usize>>,
}

/// The running models; they stop when this is dropped.
#[derive(Debug)]
pub(crate) struct Models {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Models {
    /// Starts them on 127.0.0.1 and a free port.
    pub(crate) async fn start() -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let router = Router::new()
            .route("/v1/chat/completions", post(openai))
            .route("/v1/messages", post(anthropic))
            .route("/moved/chat/completions", post(moved))
            .layer(DefaultBodyLimit::max(64 << 20))
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("models: {error}");
            }
        });
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// Where both formats are spoken.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1/", self.address)
    }

    /// Where callers are sent on to [`Models::url`].
    pub(crate) fn moved_url(&self) -> String {
        format!("http://{}/moved/", self.address)
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared
            .requests
            .lock()
            .expect("no thread panics with it")
            .clone()
    }

    /// Those about a task that has this in it.
    pub(crate) fn requests_with(&self, text: &str) -> Vec<Value> {
        let all = self.requests();
        let about = all.iter().filter(|body| body.contains(text));
        about
            .map(|body| serde_json::from_str(body).expect("JSON"))
            .collect()
    }
}

impl Drop for Models {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn openai(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let has_key = header(&headers, "authorization") == format!("Bearer {KEY}");
    answer(&shared, Format::OpenAi, has_key, &body).await
}

async fn anthropic(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let has_key =
        header(&headers, "x-api-key") == KEY && !header(&headers, "anthropic-version").is_empty();
    answer(&shared, Format::Anthropic, has_key, &body).await
}

/// A place that sends its callers elsewhere: their key must not go there.
async fn moved() -> Response {
    (
        StatusCode::TEMPORARY_REDIRECT,
        [("location", "/v1/chat/completions")],
    )
        .into_response()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

async fn answer(shared: &Shared, format: Format, has_key: bool, body: &[u8]) -> Response {
    if !has_key {
        return failure(format, 401, "authentication_error", "invalid key");
    }
    let text = String::from_utf8_lossy(body).into_owned();
    shared
        .requests
        .lock()
        .expect("no thread panics with it")
        .push(text);
    let seen = serde_json::from_slice(body)
        .map_err(|error| error.to_string())
        .and_then(|body: Value| format.read(&body));
    let seen = match seen {
        Ok(seen) => seen,
        Err(why) => return failure(format, 400, "invalid_request_error", &why),
    };
    let nth = {
        let mut asked = shared.asked.lock().expect("no thread panics with it");
        let count = asked
            .entry((seen.model.clone(), seen.task.clone()))
            .or_default();
        *count += 1;
        *count
    };
    match decide(&seen, nth) {
        Said::Text(text) => Json(format.text(&seen.model, &text)).into_response(),
        Said::Calls(calls) => Json(format.calls(&seen.model, &calls)).into_response(),
        Said::Garbage => Json(format.garbage(&seen.model)).into_response(),
        Said::Status(status) => {
            let mut response = failure(format, status, "overloaded_error", "try again later");
            let soon = "0".parse().expect("a header value");
            response.headers_mut().insert("retry-after", soon);
            response
        }
        Said::Nothing => {
            std::future::pending::<()>().await;
            unreachable!("it is pending")
        }
    }
}

fn failure(format: Format, status: u16, kind: &str, message: &str) -> Response {
    let error = json!({ "type": kind, "message": message });
    let body = match format {
        Format::OpenAi => json!({ "error": error }),
        Format::Anthropic => json!({ "type": "error", "error": error }),
    };
    let status = StatusCode::from_u16(status).expect("a status");
    (status, Json(body)).into_response()
}
