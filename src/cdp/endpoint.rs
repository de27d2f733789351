//! The endpoint inside the session: `/json/…`, `/handoff/…` and WebSockets on a loopback listener.
//!
//! A web page can reach a loopback port too: any request with an `Origin` is refused, and so is a
//! `Host` that is no loopback name (DNS rebinding).

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tracing::{Instrument as _, field, info_span};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::ClientKind;
use super::driver::Root;
use super::handoff::handoff_path;
use super::handshake::accept_websocket;
use super::hub::Hub;

/// Connections at a time for each client there may be; more wait to be accepted.
const CONNECTIONS_PER_CLIENT: usize = 2;
/// How long a connection may take to send its request.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// After a listener's error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Hub {
    /// Serves `/json/version`, `/json/list`, `/handoff/TOKEN` and WebSockets on a listener of the runners'
    /// namespace, until the hub ends or the future is dropped. `ws://…/devtools/browser/TOKEN`
    /// names the client's context; any other id under /devtools/browser/ is a client without one.
    pub async fn serve(&self, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(
            self.0.config.max_clients * CONNECTIONS_PER_CLIENT,
        ));
        // Connections end with the hub, or with this future.
        let until = self.0.closed.child_token();
        let _end = until.clone().drop_guard();
        let accepting = async {
            loop {
                let Ok(permit) = room.clone().acquire_owned().await else {
                    return;
                };
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let (hub, until) = (self.clone(), until.clone());
                        let serve = async move {
                            until
                                .run_until_cancelled(hub.connection(stream, &until))
                                .await;
                            drop(permit);
                        };
                        self.0.tasks.spawn(serve.in_current_span());
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the CDP listener failed to accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        until.run_until_cancelled(accepting).await;
    }

    async fn connection(&self, stream: TcpStream, until: &CancellationToken) {
        // Without it only latency suffers.
        let _ = stream.set_nodelay(true);
        let service = hyper::service::service_fn(|request| {
            let (hub, until) = (self.clone(), until.clone());
            async move { Ok::<_, Infallible>(hub.respond(request, until).await) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_LIMIT)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await;
        if let Err(error) = served {
            tracing::trace!(%error, "a CDP connection ended badly");
        }
    }

    async fn respond(
        &self,
        mut request: Request<Incoming>,
        until: CancellationToken,
    ) -> Response<Full<Bytes>> {
        let Some(host) = loopback_host(request.headers()) else {
            return plain(
                StatusCode::FORBIDDEN,
                "the Host header names no loopback address",
            );
        };
        if request.headers().contains_key(ORIGIN) {
            return plain(StatusCode::FORBIDDEN, "web pages may not use this endpoint");
        }
        let path = request.uri().path().to_owned();
        if let Some(token) = handoff_path(&path)
            && request.method() == Method::POST
        {
            return self.answer_handoff(token, request).await;
        }
        let (kind, root) = match socket_path(&path) {
            Some(place) => place,
            None if request.method() != Method::GET => {
                return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here");
            }
            None => return self.information(path.trim_end_matches('/'), &host),
        };
        let accepted = match accept_websocket(request.headers()) {
            Ok(accepted) => accepted,
            Err((status, text)) => return plain(status, text),
        };
        let upgraded = hyper::upgrade::on(&mut request);
        let hub = self.clone();
        let span = info_span!("cdp_client", kind = kind.name(), client_id = field::Empty);
        let serve = async move {
            let socket = until.run_until_cancelled(async {
                let upgraded = upgraded.await.ok()?;
                // The connection as it was, without hyper in between.
                let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
                Some((parts.io.into_inner(), parts.read_buf))
            });
            let Some(Some((stream, read))) = socket.await else {
                return;
            };
            let serving = hub.serve_stream(stream, read, kind, root, &|| {});
            if let Some(Err(error)) = until.run_until_cancelled(serving).await {
                tracing::debug!(%error, "a CDP client was not connected");
            }
        };
        self.0.tasks.spawn(serve.instrument(span));
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = accepted;
        response
    }

    /// What Chromium's `/json/version` says, with this URL as the place to connect to.
    #[must_use]
    pub fn version(&self, socket_url: &str) -> Value {
        let version = self.0.version.lock();
        let version = version.unwrap_or_else(PoisonError::into_inner).clone();
        json!({
            "Browser": version["product"],
            "Protocol-Version": version["protocolVersion"],
            "User-Agent": version["userAgent"],
            "V8-Version": version["jsVersion"],
            "WebKit-Version": version["revision"],
            "webSocketDebuggerUrl": socket_url,
        })
    }

    fn information(&self, path: &str, host: &str) -> Response<Full<Bytes>> {
        let body = match path {
            "/json/version" => self.version(&format!("ws://{host}/devtools/browser/client")),
            "/json" | "/json/list" => {
                let pages = self
                    .pages_active_first()
                    .into_iter()
                    .map(|entry| entry.page);
                let shown = pages.map(|page| {
                    json!({
                        "description": "",
                        "id": page.target_id,
                        "title": page.title,
                        "type": "page",
                        "url": page.url,
                        "webSocketDebuggerUrl":
                            format!("ws://{host}/devtools/page/{}", page.target_id),
                    })
                });
                Value::Array(shown.collect())
            }
            _ => return plain(StatusCode::NOT_FOUND, "no such path"),
        };
        let mut response = Response::new(Full::from(body.to_string()));
        let json = HeaderValue::from_static("application/json; charset=UTF-8");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

/// What a path asks for, when it is a WebSocket's.
fn socket_path(path: &str) -> Option<(ClientKind, Root)> {
    let (place, id) = path
        .strip_prefix("/devtools/")?
        .trim_end_matches('/')
        .split_once('/')?;
    match place {
        "browser" => Some((
            ClientKind::Runner {
                token: id.to_owned(),
            },
            Root::Browser,
        )),
        // No token, no execution: it sees no dialogs.
        "page" => Some((
            ClientKind::Runner {
                token: String::new(),
            },
            Root::Page(id.to_owned()),
        )),
        _ => None,
    }
}

/// The Host header, if it names this machine.
fn loopback_host(headers: &HeaderMap) -> Option<String> {
    let host = headers.get(HOST)?.to_str().ok()?;
    let name = match host.parse::<SocketAddr>() {
        Ok(address) => return address.ip().is_loopback().then(|| host.to_owned()),
        Err(_) => host.rsplit_once(':').map_or(host, |(name, port)| {
            if port.bytes().all(|byte| byte.is_ascii_digit()) {
                name
            } else {
                host
            }
        }),
    };
    is_loopback_name(name).then(|| host.to_owned())
}

/// Whether the host of a URL is this machine to itself, whatever DNS says.
#[must_use]
pub fn is_loopback_name(name: &str) -> bool {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
