//! Web servers that answer on every address there is, and keep what reached them.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, Query, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt as _;
use tower::ServiceExt as _;

/// A piece of `/endless` and `/bytes`.
const PIECE: &[u8] = &[b'x'; 64 << 10];
/// Largest datagram looked at.
const DATAGRAM_BYTES: usize = 2048;

/// Something that reached an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A TCP connection.
    Connection {
        /// The address it was made to.
        to: SocketAddr,
    },
    /// A datagram, to this port of any address.
    Datagram {
        /// The port.
        port: u16,
    },
    /// A request on a connection.
    Request {
        /// The address its connection was made to.
        to: SocketAddr,
        /// The `Host` header.
        host: String,
        /// Path and query.
        path: String,
    },
}

/// Everything that reached one place.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    all: Mutex<Vec<Arrival>>,
    /// Path and query of the last request of every connection that is open.
    open: Mutex<HashMap<u64, String>>,
    connections: AtomicU64,
}

/// A connection, until it is dropped.
struct Open {
    arrivals: Arc<Arrivals>,
    number: u64,
}

impl Open {
    fn new(arrivals: Arc<Arrivals>) -> Self {
        let number = arrivals.connections.fetch_add(1, Relaxed);
        Self { arrivals, number }
    }

    fn asks_for(&self, path: &str) {
        let mut open = self.arrivals.open.lock().unwrap();
        open.insert(self.number, path.to_owned());
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.arrivals.open.lock().unwrap().remove(&self.number);
    }
}

impl Arrivals {
    fn push(&self, arrival: Arrival) {
        self.all.lock().unwrap().push(arrival);
    }

    /// All of it, in order.
    pub(crate) fn all(&self) -> Vec<Arrival> {
        self.all.lock().unwrap().clone()
    }

    /// How many connections are open whose last request's path and query hold `mark`.
    pub(crate) fn open(&self, mark: &str) -> usize {
        let open = self.open.lock().unwrap();
        open.values().filter(|path| path.contains(mark)).count()
    }

    /// Where the connections went to that carried a request whose path and query hold `mark`.
    pub(crate) fn of_request(&self, mark: &str) -> Vec<SocketAddr> {
        let arrivals = self.all.lock().unwrap();
        let marked = arrivals.iter().filter_map(|arrival| match arrival {
            Arrival::Request { to, path, .. } if path.contains(mark) => Some(*to),
            _ => None,
        });
        marked.collect()
    }

    /// Where connections went to, one entry each.
    pub(crate) fn connections(&self) -> Vec<SocketAddr> {
        let arrivals = self.all.lock().unwrap();
        let connections = arrivals.iter().filter_map(|arrival| match arrival {
            Arrival::Connection { to } => Some(*to),
            _ => None,
        });
        connections.collect()
    }

    /// Ports that got datagrams.
    pub(crate) fn datagrams(&self) -> Vec<u16> {
        let arrivals = self.all.lock().unwrap();
        let datagrams = arrivals.iter().filter_map(|arrival| match arrival {
            Arrival::Datagram { port } => Some(*port),
            _ => None,
        });
        datagrams.collect()
    }
}

/// What every connection of one listener has in common.
#[derive(Clone)]
struct Place {
    arrivals: Arc<Arrivals>,
    router: Router,
    tls: Option<TlsAcceptor>,
}

/// Serves http, or https, on a port of every address until the runtime ends: its own pages and `more`.
pub(super) async fn serve(
    port: u16,
    tls: Option<TlsAcceptor>,
    more: Router,
    arrivals: Arc<Arrivals>,
) -> io::Result<()> {
    let listener = TcpListener::bind(("::", port)).await?;
    accept(listener, tls, router().merge(more), arrivals);
    Ok(())
}

/// The same on a listener of another namespace.
pub(super) fn serve_on(listener: std::net::TcpListener, arrivals: Arc<Arrivals>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    accept(TcpListener::from_std(listener)?, None, router(), arrivals);
    Ok(())
}

fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    arrivals: Arc<Arrivals>,
) {
    let place = Place {
        arrivals,
        router,
        tls,
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(take(stream, place.clone()));
        }
    });
}

/// Keeps datagrams to a port, and answers none.
pub(super) async fn watch_datagrams(port: u16, arrivals: Arc<Arrivals>) -> io::Result<()> {
    let socket = UdpSocket::bind(("::", port)).await?;
    tokio::spawn(async move {
        let mut buffer = [0; DATAGRAM_BYTES];
        while socket.recv_from(&mut buffer).await.is_ok() {
            arrivals.push(Arrival::Datagram { port });
        }
    });
    Ok(())
}

async fn take(stream: TcpStream, place: Place) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let to = SocketAddr::new(local.ip().to_canonical(), local.port());
    place.arrivals.push(Arrival::Connection { to });
    match place.tls.clone() {
        None => talk(stream, to, place).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                talk(stream, to, place).await;
            }
        }
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    to: SocketAddr,
    place: Place,
) {
    let open = Arc::new(Open::new(Arc::clone(&place.arrivals)));
    let answer = hyper::service::service_fn(move |request: hyper::Request<_>| {
        let (place, open) = (place.clone(), Arc::clone(&open));
        async move {
            let mut request: Request = request.map(Body::new);
            let host = host_of(request.headers());
            let path = request.uri().path_and_query();
            let path = path.map(ToString::to_string).unwrap_or_default();
            open.asks_for(&path);
            place.arrivals.push(Arrival::Request { to, host, path });
            request.extensions_mut().insert(to);
            Ok::<_, Infallible>(place.router.oneshot(request).await.into_response())
        }
    });
    // A client may leave in the middle, and many tests make one do so.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades()
        .await;
}

fn host_of(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST);
    host.map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned())
        .unwrap_or_default()
}

type Parameters = Query<HashMap<String, String>>;

fn router() -> Router {
    Router::new()
        .route("/", get(home))
        .route("/page", get(page))
        .route("/redirect", get(redirect).post(redirect))
        .route("/headers", get(headers))
        .route("/silent", get(std::future::pending::<()>))
        .route("/drip", get(drip))
        .route("/endless", get(endless))
        .route("/bytes", get(bytes))
        .route("/pixel.gif", get(pixel))
        .route("/script.js", get(script))
        .route("/events", get(events))
        .route("/ws", get(web_socket))
        .fallback(home)
        .layer(axum::middleware::map_response(open_to_every_page))
        .layer(axum::middleware::from_fn(close_when_asked))
}

/// `?close` ends the connection after the answer.
async fn close_when_asked(request: Request, next: Next) -> Response {
    let closes = request.uri().query().is_some_and(|q| q.contains("close"));
    let mut response = next.run(request).await;
    if closes {
        let close = header::HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// Pages of other sites may read every answer; https sites claim to speak HTTP/3.
async fn open_to_every_page(mut response: Response) -> Response {
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ALT_SVC, "h3=\":443\"; ma=86400"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response
            .headers_mut()
            .insert(name, value.parse().expect("a header"));
    }
    response
}

/// `reached ADDRESS:PORT as HOST`, titled "reached".
async fn home(Extension(to): Extension<SocketAddr>, headers: HeaderMap) -> Html<String> {
    let host = host_of(&headers).replace('<', "&lt;");
    Html(format!(
        "<!doctype html><title>reached</title>reached {to} as {host}"
    ))
}

/// A page with `?html=` in its body.
async fn page(Query(query): Parameters) -> Html<String> {
    let html = query.get("html").map_or("", String::as_str);
    Html(format!(
        "<!doctype html><title>page</title><body>{html}</body>"
    ))
}

/// To `?to=`, with status `?status=` or 302.
async fn redirect(Query(query): Parameters) -> Response {
    let to = query.get("to").map_or("/", String::as_str).to_owned();
    let status = query.get("status").and_then(|text| text.parse().ok());
    (
        status.unwrap_or(StatusCode::FOUND),
        [(header::LOCATION, to)],
    )
        .into_response()
}

async fn headers(headers: HeaderMap) -> Json<BTreeMap<String, String>> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let all = headers.iter();
    Json(
        all.map(|(name, value)| (name.to_string(), text(value.as_bytes())))
            .collect(),
    )
}

/// One byte every 100 ms, for ever.
async fn drip() -> Response {
    let clock = tokio::time::interval(Duration::from_millis(100));
    let pieces = tokio_stream::wrappers::IntervalStream::new(clock);
    let pieces = pieces.map(|_| Ok::<_, Infallible>(Bytes::from_static(b".")));
    Body::from_stream(pieces).into_response()
}

/// As fast as it is read, for ever.
async fn endless() -> Response {
    let pieces = std::iter::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(PIECE)));
    Body::from_stream(tokio_stream::iter(pieces)).into_response()
}

/// `?count=` bytes.
async fn bytes(Query(query): Parameters) -> Response {
    let count = query.get("count").and_then(|text| text.parse().ok());
    let count: usize = count.unwrap_or(0);
    let whole = std::iter::repeat_n(PIECE, count / PIECE.len());
    let pieces = whole.chain([&PIECE[..count % PIECE.len()]]);
    let pieces = pieces.map(|piece| Ok::<_, Infallible>(Bytes::from_static(piece)));
    let length = [(header::CONTENT_LENGTH, count.to_string())];
    (length, Body::from_stream(tokio_stream::iter(pieces))).into_response()
}

async fn pixel() -> impl IntoResponse {
    let gif: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";
    ([(header::CONTENT_TYPE, "image/gif")], gif)
}

async fn script() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/javascript")],
        "self.reached = true;",
    )
}

async fn events() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/event-stream")],
        "data: reached\n\n",
    )
}

async fn web_socket(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|mut socket: WebSocket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    })
}
