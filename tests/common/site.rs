//! The fixture site: `tests/fixtures/site` plus the endpoints its pages need, on a free loopback port.
//!
//! Used by the tests, the demo and the benchmarks. Knows nothing of Pagebox.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{DefaultBodyLimit, Form, Path, Query};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Json, Redirect, Response};
use axum::routing::{get, post};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

/// What `/download/report.csv` holds.
pub(crate) const REPORT: &str = "harbour,height\nSkerry Haven,3.9\nOld Quay,4.1\n";
/// What `/api/stats` answers.
pub(crate) const STATS: [&str; 2] = ["979,503,976", "315"];
/// Size of `/big`, roughly.
const BIG_PAGE_BYTES: usize = 5 << 20;
/// Largest upload and generated download.
const MAX_BYTES: usize = 128 << 20;

/// The running site; stops when dropped.
#[derive(Debug)]
pub(crate) struct Site {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Site {
    /// Starts it on 127.0.0.1 and a free port.
    pub(crate) async fn start() -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router()).await {
                eprintln!("fixture site: {error}");
            }
        });
        Ok(Self { address, task })
    }

    /// Its port, the same on 127.0.0.1 and localhost.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// A URL on it, by the name localhost.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.port())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn router() -> Router {
    Router::new()
        .route("/", get(|| file(Path("index.html".to_owned()))))
        .route("/{file}", get(file))
        .route("/search", get(search))
        .route("/login", post(login))
        .route("/account", get(account))
        .route("/member/login", post(member_login))
        .route("/member/who", get(member_who))
        .route("/api/stats", get(stats))
        .route("/headers", get(echo_headers))
        .route("/cookies/set", get(set_cookies))
        .route("/slow", get(slow))
        .route("/big", get(big))
        .route("/redirect", get(redirect))
        .route("/status/{code}", get(status))
        .route("/download/report.csv", get(report))
        .route("/download/zeros", get(zeros))
        .route("/upload", post(upload))
        .route("/ws", get(socket))
        .layer(DefaultBodyLimit::max(MAX_BYTES))
}

/// Reads a file of the site. The directory is part of the source tree, read at run time so that
/// pages can be edited without a build.
fn read(name: &str) -> Option<Vec<u8>> {
    let safe = !name.starts_with('.') && !name.contains(['/', '\\']);
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/site");
    safe.then(|| std::fs::read(directory.join(name)).ok())
        .flatten()
}

async fn file(Path(name): Path<String>) -> Response {
    let content_type = match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("ico") => return StatusCode::NO_CONTENT.into_response(),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    match read(&name) {
        Some(content) => ([(header::CONTENT_TYPE, content_type)], content).into_response(),
        None => (
            StatusCode::NOT_FOUND,
            Html("<title>Not found</title><h1>Not found</h1>"),
        )
            .into_response(),
    }
}

/// Fills `{{name}}` places of a page; every value but `results` is text and gets escaped.
fn page(name: &str, values: &[(&str, &str)]) -> Html<String> {
    let mut text = String::from_utf8_lossy(&read(name).unwrap_or_default()).into_owned();
    for (place, value) in values {
        let value = if *place == "results" {
            (*value).to_owned()
        } else {
            escape(value)
        };
        text = text.replace(&format!("{{{{{place}}}}}"), &value);
    }
    Html(text)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

async fn search(Query(query): Query<HashMap<String, String>>) -> Html<String> {
    let Some(term) = query.get("q").filter(|term| !term.is_empty()) else {
        return page(
            "search.html",
            &[("title", "Search"), ("query", ""), ("results", "")],
        );
    };
    let results: String = (1..=3)
        .map(|n| format!("<li class=\"result\">{} in edition {n}</li>", escape(term)))
        .collect();
    page(
        "search.html",
        &[
            ("title", &format!("Results for {term}")),
            ("query", term),
            ("results", &results),
        ],
    )
}

async fn login(Form(form): Form<HashMap<String, String>>) -> Response {
    let user = form.get("email").cloned().unwrap_or_default();
    if user.is_empty() || user.contains([';', '\r', '\n']) {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let cookie = format!("user={user}; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600");
    ([(header::SET_COOKIE, cookie)], Redirect::to("/account")).into_response()
}

async fn account(headers: HeaderMap) -> Html<String> {
    let user = headers
        .get(header::COOKIE)
        .and_then(|value| value.to_str().ok())
        .and_then(|cookies| cookies.split("; ").find_map(|c| c.strip_prefix("user=")));
    match user {
        Some(user) => page(
            "account.html",
            &[
                ("title", "Your account"),
                ("greeting", &format!("Welcome, {user}")),
                ("detail", "You are logged in."),
            ],
        ),
        None => page(
            "account.html",
            &[
                ("title", "Logged out"),
                ("greeting", "Nobody is logged in"),
                ("detail", "Log in first."),
            ],
        ),
    }
}

/// One cookie that is kept, and one for as long as the browser runs.
async fn member_login(Query(query): Query<HashMap<String, String>>) -> Response {
    let who = query.get("who").map_or("", String::as_str);
    let mut response = StatusCode::NO_CONTENT.into_response();
    for cookie in [
        format!("member={who}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=3600"),
        format!("visit={who}; Path=/member; HttpOnly; SameSite=Lax"),
    ] {
        if let Ok(cookie) = cookie.parse() {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
    response
}

/// The cookies that came.
async fn member_who(headers: HeaderMap) -> Json<HashMap<String, String>> {
    let cookies = headers.get_all(header::COOKIE).iter();
    let pairs = cookies.filter_map(|value| value.to_str().ok());
    let pairs = pairs.flat_map(|value| value.split("; "));
    let named = pairs.filter_map(|pair| pair.split_once('='));
    Json(
        named
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    )
}

/// A little late, so that the numbers are not there before hydration.
async fn stats() -> Json<[&'static str; 2]> {
    tokio::time::sleep(Duration::from_millis(150)).await;
    Json(STATS)
}

async fn echo_headers(headers: HeaderMap) -> Json<std::collections::BTreeMap<String, String>> {
    Json(
        headers
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.to_string(), value)
            })
            .collect(),
    )
}

/// Every query entry becomes a cookie.
async fn set_cookies(Query(query): Query<HashMap<String, String>>) -> Response {
    let mut response = Html("<title>Cookies</title>set").into_response();
    for (name, value) in query {
        if let Ok(cookie) = format!("{name}={value}; Path=/; Max-Age=3600").parse() {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
    response
}

/// Answers after `ms`, one minute at most.
async fn slow(Query(query): Query<HashMap<String, String>>) -> Html<&'static str> {
    let wait: u64 = query.get("ms").and_then(|ms| ms.parse().ok()).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(wait.min(60_000))).await;
    Html("<title>Slow</title>at last")
}

async fn big() -> Html<String> {
    let line = "<p>The quay was long and the evening longer than the quay.</p>\n";
    let body = line.repeat(BIG_PAGE_BYTES / line.len());
    Html(format!("<!doctype html><title>Big page</title>{body}"))
}

async fn redirect(Query(query): Query<HashMap<String, String>>) -> Redirect {
    Redirect::to(query.get("to").map_or("/", String::as_str))
}

async fn status(Path(code): Path<u16>) -> Response {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
    (status, Html(format!("<title>Status {code}</title>{code}"))).into_response()
}

async fn report() -> impl IntoResponse {
    let attachment = "attachment; filename=\"report.csv\"";
    let headers = [
        (header::CONTENT_TYPE, "text/csv"),
        (header::CONTENT_DISPOSITION, attachment),
    ];
    (headers, REPORT)
}

/// `bytes` zeros as an attachment.
async fn zeros(Query(query): Query<HashMap<String, String>>) -> impl IntoResponse {
    let bytes: usize = query.get("bytes").and_then(|n| n.parse().ok()).unwrap_or(0);
    let attachment = "attachment; filename=\"zeros.bin\"";
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, attachment),
    ];
    (headers, vec![0u8; bytes.min(MAX_BYTES)])
}

/// Answers `name size sha256` of the body.
async fn upload(Query(query): Query<HashMap<String, String>>, body: Bytes) -> String {
    let name = query.get("name").map_or("", String::as_str);
    format!("{name} {} {}", body.len(), sha256(&body))
}

/// Hexadecimal SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn socket(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(echo)
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}
