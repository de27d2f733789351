//! The host that is downloaded from: pages and bytes, as fast as loopback goes or like a host that is
//! some way off.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt as _;
use futures_util::stream;
use tokio::net::TcpSocket;
use tokio::time::Instant;

/// Subresources of the page.
pub(crate) const SUBRESOURCES: usize = 30;
/// Bytes of one subresource; with 30 of them the page weighs 1.2 MB, like the lighter half of the web.
const SUBRESOURCE_BYTES: usize = 40 << 10;
/// Far more than connect at once: one more would try again only after a second.
const BACKLOG: u32 = 1024;
/// Bytes given to the connection at a time.
const CHUNK: usize = 128 << 10;
static ZEROS: [u8; CHUNK] = [b' '; CHUNK];

/// How fast it answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Before the first byte of every answer.
    pub(crate) wait: Duration,
    /// Of one connection; none: as fast as it is read.
    pub(crate) bytes_per_second: Option<f64>,
}

/// As fast as this machine can.
pub(crate) const LOOPBACK: Pace = Pace {
    wait: Duration::ZERO,
    bytes_per_second: None,
};
/// A well connected host some way off: 20 ms to the first byte, 1 Gbit/s.
pub(crate) const GIGABIT: Pace = Pace {
    wait: Duration::from_millis(20),
    bytes_per_second: Some(125e6),
};

/// Starts one on 127.0.0.1; it runs until the process ends.
pub(crate) async fn start(pace: Pace) -> anyhow::Result<SocketAddr> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener = socket
        .listen(BACKLOG)
        .context("cannot listen on 127.0.0.1")?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/page", get(page))
        .route("/part/{name}", get(part))
        .route("/bytes", get(bytes))
        .with_state(pace);
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            eprintln!("origin: {error}");
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

/// The page: a third each of scripts, style sheets and images.
async fn page(State(pace): State<Pace>) -> Html<String> {
    tokio::time::sleep(pace.wait).await;
    let parts: String = (0..SUBRESOURCES)
        .map(|number| match number % 3 {
            0 => format!("<link rel=stylesheet href=/part/{number}.css>"),
            1 => format!("<script src=/part/{number}.js></script>"),
            _ => format!("<img src=/part/{number}.svg width=9 height=9>"),
        })
        .collect();
    Html(format!(
        "<!doctype html><title>Parts</title><body>{parts}</body>"
    ))
}

async fn part(State(pace): State<Pace>, Path(name): Path<String>) -> Response {
    let (kind, open, close) = match name.rsplit('.').next() {
        Some("css") => ("text/css", "/*", "*/"),
        Some("js") => ("text/javascript", "/*", "*/"),
        _ => (
            "image/svg+xml",
            "<svg xmlns='http://www.w3.org/2000/svg'><!--",
            "--></svg>",
        ),
    };
    tokio::time::sleep(pace.wait).await;
    let filling = " ".repeat(SUBRESOURCE_BYTES - open.len() - close.len());
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")];
    (headers, format!("{open}{filling}{close}")).into_response()
}

#[derive(serde::Deserialize)]
struct Wanted {
    count: usize,
}

async fn bytes(State(pace): State<Pace>, Query(wanted): Query<Wanted>) -> Response {
    tokio::time::sleep(pace.wait).await;
    let began = Instant::now();
    let total = wanted.count;
    let body = stream::unfold(0, move |sent| async move {
        if sent == total {
            return None;
        }
        if let Some(rate) = pace.bytes_per_second {
            #[allow(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
            let due = Duration::from_secs_f64(sent as f64 / rate);
            tokio::time::sleep_until(began + due).await;
        }
        let size = CHUNK.min(total - sent);
        let chunk = Bytes::from_static(&ZEROS[..size]);
        Some((Ok::<_, std::convert::Infallible>(chunk), sent + size))
    });
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, total.to_string()),
    ];
    (headers, Body::from_stream(body)).into_response()
}
