//! Connections: accepting them within a bound, HTTP/1.1 and HTTP/2 on each, and the router.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Json;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Version, header};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tower::{Layer as _, ServiceExt as _};

use super::authentication::identify;
use super::tls::HTTP2;
use crate::grpc;
use crate::http::{self, Front, Peer};
use crate::tenant::Keys;

/// A caller whose machine vanished is noticed after both: only then is its execution killed.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls open at once on one connection.
const MAX_STREAMS: u32 = 256;
/// Time to say which HTTP it is, and then to send a whole HTTP/1.1 header, so that idle openers do
/// not hold connections.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How every HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Between two looks at a preface of which only a part has come.
const PREFACE_STEP: Duration = Duration::from_millis(20);
/// After an accept that failed (out of file descriptors), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until stopped; at most `limit` connections at once, more wait in the kernel's backlog.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    limit: usize,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = async {
                let permit = Arc::clone(&room).acquire_owned().await;
                (permit, listener.accept().await)
            } => accepted,
        };
        let (permit, socket, address) = match accepted {
            (Ok(permit), Ok((socket, address))) => (permit, socket, address.ip()),
            (_, Err(error)) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
            // The semaphore is never closed.
            (Err(_), _) => return,
        };
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let peer = Peer {
            address,
            // Unknown only when the peer has gone already.
            reached: socket.local_addr().map_or(address, |local| local.ip()),
            tls: tls.is_some(),
        };
        let (router, stop, tls) = (router.clone(), stop.clone(), tls.clone());
        tasks.spawn(async move {
            let _permit = permit;
            let begun = tokio::select! {
                () = stop.cancelled() => return,
                begun = tokio::time::timeout(HEADER_TIMEOUT, begin(socket, tls)) => begun,
            };
            let served = match begun {
                Ok(Ok(Begun::Plain(socket))) => {
                    serve(socket, Speaks::Either, peer, router, stop).await
                }
                Ok(Ok(Begun::Tls(socket, speaks))) => {
                    serve(socket, speaks, peer, router, stop).await
                }
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err("it said nothing".into()),
            };
            if let Err(error) = served {
                tracing::debug!(error, "connection ended");
            }
        });
    }
}

/// A connection on which something was said.
enum Begun {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>, Speaks),
}

/// Which versions of HTTP a connection may speak.
#[derive(Clone, Copy, Debug)]
pub(super) enum Speaks {
    Http1,
    Http2,
    Either,
}

/// Waits for the first words, or for TLS, which says more.
async fn begin(socket: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Begun> {
    let Some(tls) = tls else {
        first_words(&socket).await?;
        return Ok(Begun::Plain(socket));
    };
    let socket = tls.accept(socket).await?;
    let speaks = match socket.get_ref().1.alpn_protocol() {
        Some(HTTP2) => Speaks::Http2,
        _ => Speaks::Http1,
    };
    Ok(Begun::Tls(Box::new(socket), speaks))
}

/// Waits until the version of HTTP is known, reading nothing: hyper itself would wait for ever.
async fn first_words(socket: &TcpStream) -> io::Result<()> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let length = socket.peek(&mut seen).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if length == PREFACE.len() || !PREFACE.starts_with(&seen[..length]) {
            return Ok(());
        }
        // The part that is there keeps the socket readable.
        tokio::time::sleep(PREFACE_STEP).await;
    }
}

/// Serves one connection until it closes; when stopped, until its open calls have ended.
pub(super) async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    speaks: Speaks,
    peer: Peer,
    router: Router,
    stop: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let builder = Builder::new(TokioExecutor::new());
    let mut builder = match speaks {
        Speaks::Http1 => builder.http1_only(),
        Speaks::Http2 => builder.http2_only(),
        Speaks::Either => builder,
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS);
    let service = TowerToHyperService::new(Extension(peer).layer(router));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// gRPC services where they belong, the HTTP gateway everywhere else, for whoever has one of the keys.
pub(super) fn router(
    routes: Routes,
    http: Router,
    front: Arc<Front>,
    keys: Option<Keys>,
) -> Router {
    routes
        .into_axum_router()
        .route_layer(map_response(async |response: Response| {
            grpc::complete(response)
        }))
        .route_layer(from_fn(only_grpc))
        .fallback(async move |request: Request| {
            if is_grpc(request.headers()) {
                return grpc::unknown_method(request.uri().path()).into_http();
            }
            match http.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        })
        .layer(from_fn_with_state(keys, identify))
        .layer(from_fn_with_state(front, web_pages))
}

/// Refuses web pages before anything else is asked; [`only_grpc`] does it for gRPC.
async fn web_pages(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    if is_grpc(request.headers()) {
        return next.run(request).await;
    }
    http::cross_origin(&front, request, next).await
}

pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Lets only gRPC through to the services. A browser can send none: requests with an Origin are
/// refused, so no web page reaches the daemon by way of its user's own machine.
async fn only_grpc(request: Request, next: Next) -> Response {
    if !is_grpc(request.headers()) {
        return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "this path speaks gRPC");
    }
    if request.version() != Version::HTTP_2 {
        return plain(StatusCode::UPGRADE_REQUIRED, "gRPC needs HTTP/2");
    }
    if request.headers().contains_key(header::ORIGIN) {
        return plain(StatusCode::FORBIDDEN, "requests of web pages are refused");
    }
    next.run(request).await
}

fn plain(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "success": false, "error": message }))).into_response()
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Empty};
    use hyper_util::client::legacy::Client;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tonic::codegen::Bytes;
    use tonic::service::RoutesBuilder;
    use tonic::transport::Channel;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::{HealthCheckRequest, health_server::HealthServer};
    use tonic_health::server::{HealthReporter, HealthService};
    use tonic_types::StatusExt as _;

    use super::*;

    struct TestServer {
        address: std::net::SocketAddr,
        stop: CancellationToken,
        tasks: TaskTracker,
    }

    /// The real thing on a real port, with the health service only.
    async fn start(limit: usize) -> TestServer {
        let mut routes = RoutesBuilder::default();
        routes.add_service(HealthServer::new(HealthService::from_health_reporter(
            HealthReporter::new(),
        )));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = TestServer {
            address: listener.local_addr().unwrap(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        tokio::spawn(accept(
            listener,
            None,
            router(routes.routes(), Router::new(), Arc::default(), None),
            limit,
            server.tasks.clone(),
            server.stop.clone(),
        ));
        server
    }

    async fn connect(
        server: &TestServer,
    ) -> Result<HealthClient<Channel>, tonic::transport::Error> {
        let url = format!("http://{}", server.address);
        let channel = Channel::from_shared(url).unwrap().connect().await?;
        Ok(HealthClient::new(channel))
    }

    async fn ask(
        server: &TestServer,
        version: Version,
        path: &str,
        headers: &[(&str, &str)],
    ) -> axum::http::Response<Bytes> {
        let client = Client::builder(TokioExecutor::new())
            .http2_only(version == Version::HTTP_2)
            .build_http::<Empty<Bytes>>();
        let mut request = axum::http::Request::builder()
            .method("POST")
            .uri(format!("http://{}{path}", server.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = client.request(request.body(Empty::new()).unwrap()).await;
        let (parts, body) = response.unwrap().into_parts();
        axum::http::Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }

    const GRPC: (&str, &str) = ("content-type", "application/grpc");
    const CHECK: &str = "/grpc.health.v1.Health/Check";

    #[tokio::test]
    async fn health_answers_and_errors_carry_an_error_info() {
        let server = start(8).await;
        let mut client = connect(&server).await.unwrap();
        client.check(HealthCheckRequest::default()).await.unwrap();
        let request = HealthCheckRequest {
            service: "no.such.Service".into(),
        };
        let status = client.check(request).await.unwrap_err();
        assert_eq!(
            status.get_details_error_info().unwrap().reason,
            "SERVICE_UNKNOWN"
        );
    }

    #[tokio::test]
    async fn unknown_paths_are_answered_in_the_callers_protocol() {
        let server = start(8).await;
        for path in ["/no.Such/Method", "/grpc.health.v1.Health/Nothing"] {
            let response = ask(&server, Version::HTTP_2, path, &[GRPC]).await;
            let status = tonic::Status::from_header_map(response.headers()).unwrap();
            assert_eq!(status.code(), tonic::Code::Unimplemented, "{path}");
            let info = status.get_details_error_info().unwrap();
            assert_eq!(info.reason, "METHOD_UNKNOWN", "{path}");
        }
        let response = ask(&server, Version::HTTP_11, "/v2/browser", &[]).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn only_grpc_reaches_the_services_and_never_from_a_web_page() {
        let server = start(8).await;
        let origin = ("origin", "https://evil.example");
        for (version, headers, expected) in [
            (
                Version::HTTP_11,
                &[][..],
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ),
            (Version::HTTP_11, &[GRPC], StatusCode::UPGRADE_REQUIRED),
            (Version::HTTP_2, &[GRPC, origin], StatusCode::FORBIDDEN),
        ] {
            let response = ask(&server, version, CHECK, headers).await;
            assert_eq!(response.status(), expected);
        }
    }

    #[tokio::test]
    async fn one_port_speaks_http1_too() {
        let server = start(8).await;
        let response = Client::builder(TokioExecutor::new())
            .build_http::<Empty<Bytes>>()
            .get(format!("http://{}/x", server.address).parse().unwrap())
            .await
            .unwrap();
        assert_eq!(response.version(), Version::HTTP_11);
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn stopping_closes_idle_connections_and_refuses_new_ones() {
        let server = start(8).await;
        let mut client = connect(&server).await.unwrap();
        client.check(HealthCheckRequest::default()).await.unwrap();
        server.stop.cancel();
        server.tasks.close();
        tokio::time::timeout(Duration::from_secs(5), server.tasks.wait())
            .await
            .expect("the idle connection was closed");
        assert!(connect(&server).await.is_err());
    }

    /// Those that say nothing, and those that stop within the words that tell the version.
    #[tokio::test]
    async fn who_opens_a_connection_and_says_nothing_does_not_keep_it() {
        let server = start(2).await;
        let mut silent = Vec::new();
        for said in ["", "PRI * HT"] {
            let mut socket = TcpStream::connect(server.address).await.unwrap();
            socket.write_all(said.as_bytes()).await.unwrap();
            silent.push(socket);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        tokio::time::pause();
        tokio::time::advance(HEADER_TIMEOUT).await;
        for mut socket in silent {
            assert!(matches!(socket.read(&mut [0]).await, Ok(0) | Err(_)));
        }
        tokio::time::resume();
        let mut client = connect(&server).await.unwrap();
        client.check(HealthCheckRequest::default()).await.unwrap();
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait_for_room() {
        let server = start(1).await;
        let mut first = connect(&server).await.unwrap();
        first.check(HealthCheckRequest::default()).await.unwrap();
        let second = tokio::spawn(async move {
            let mut client = connect(&server).await.unwrap();
            client.check(HealthCheckRequest::default()).await
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!second.is_finished());
        drop(first);
        tokio::time::timeout(Duration::from_secs(5), second)
            .await
            .expect("the second was let in")
            .unwrap()
            .unwrap();
    }
}
