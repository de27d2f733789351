//! Plain http: a request in absolute form, sent on to its host in origin form.
//!
//! The URI decides where it goes and what `Host` says. Header fields meant for one connection only
//! stay on that connection; everything else, bodies included, passes through as it comes.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tracing::Instrument as _;

use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;

use super::Egress;
use super::answer::{Body, Failure};
use super::dial::{Dialled, check_again, dial, refused};
use super::log::Recording;
use super::proxy::{Client, HostEnd, MAX_HEADERS, Tunnel, take};
use super::recorded::Recorded;
use super::target::Target;
use super::watched::Traffic;

/// How long a kept connection may take to be ready again after an answer was read to its end.
const READY_WAIT: Duration = Duration::from_millis(50);

/// A request's body, or none when it is sent a second time.
type RequestBody = Either<Incoming, Empty<Bytes>>;

/// An http connection to a host. Dropping it closes it.
pub(super) struct Upstream {
    target: Target,
    /// None when its name was left to an upstream proxy.
    address: Option<IpAddr>,
    traffic: Arc<Traffic>,
    sender: http1::SendRequest<RequestBody>,
    /// Moves its bytes.
    _task: AbortOnDropHandle<()>,
}

impl Upstream {
    /// Speaks HTTP over a new connection.
    async fn open(
        egress: &Egress,
        target: &Target,
        dialled: Dialled,
    ) -> Result<(Self, Recording), Failure> {
        let mut recording = dialled.recording;
        let limit = egress.limits.header.as_usize();
        let (sender, connection) = http1::Builder::new()
            .max_header_size(limit)
            .max_buf_size(limit)
            .max_headers(MAX_HEADERS)
            .preserve_header_case(true)
            // Browsers read such answers too.
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .handshake(TokioIo::new(dialled.stream))
            .await
            .map_err(|source| failed(target, source, &mut recording))?;
        let serve = async move {
            // Its error reaches the request or the body it belongs to as well.
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "egress connection to a host ended early");
            }
        };
        let task = tokio::spawn(serve.in_current_span());
        let upstream = Self {
            target: target.clone(),
            address: dialled.address,
            traffic: dialled.traffic,
            sender,
            _task: AbortOnDropHandle::new(task),
        };
        Ok((upstream, recording))
    }
}

/// What a broken exchange means: no valid answer, or the end of the session's bytes.
fn failed(target: &Target, source: hyper::Error, recording: &mut Recording) -> Failure {
    let failure = match recording.check() {
        Err(refusal) => refused(target.to_string(), refusal),
        Ok(()) => Failure::Upstream {
            host: target.to_string(),
            source,
        },
    };
    recording.failed(&failure);
    failure
}

impl Client {
    /// Answers a request that is not CONNECT.
    pub(super) async fn forward(
        &self,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Failure> {
        let target = http_target(request.uri())?;
        let websocket = wants_websocket(&request).then(|| hyper::upgrade::on(&mut request));
        let (mut parts, body) = request.into_parts();
        rewrite_request(&mut parts, &target, websocket.is_some())?;

        let (mut response, upstream, mut recording) = self.exchange(&target, parts, body).await?;
        let mut of_body = None;

        match (response.status(), websocket) {
            (StatusCode::SWITCHING_PROTOCOLS, Some(client)) => {
                let host = hyper::upgrade::on(&mut response);
                self.become_tunnel(Tunnel {
                    client,
                    host: HostEnd::Upgrade(host, upstream),
                    recording,
                });
                strip_connection_fields(response.headers_mut());
                set_websocket_fields(response.headers_mut());
            }
            (StatusCode::SWITCHING_PROTOCOLS, None) => {
                let failure = Failure::UnaskedUpgrade {
                    host: target.to_string(),
                };
                recording.failed(&failure);
                return Err(failure);
            }
            (_, _) => {
                strip_connection_fields(response.headers_mut());
                *self.upstream.lock().unwrap_or_else(PoisonError::into_inner) = Some(upstream);
                of_body = Some(recording);
            }
        }
        // The host's version is the host connection's affair; the client's is answered in its own.
        *response.version_mut() = Version::HTTP_11;
        Ok(response.map(|body| Either::Left(Recorded::new(body, of_body))))
    }

    /// Sends a request over the kept connection, if it goes to the same host and still lives, or
    /// over a new one.
    async fn exchange(
        &self,
        target: &Target,
        parts: request::Parts,
        body: Incoming,
    ) -> Result<(Response<Incoming>, Upstream, Recording), Failure> {
        let mut request = Request::from_parts(parts, Either::Left(body));
        let mut earlier = None;
        if let Some((mut kept, mut recording)) = self.kept(target).await? {
            // The host may close a kept connection just as it is used again. What was not sent
            // comes back and goes out anew; of what was sent only a request that changes nothing
            // may be repeated, and only without a body, which is gone.
            let repeatable = request.method().is_safe() && request.body().is_end_stream();
            let copy = repeatable.then(|| without_body(&request));
            match kept.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, kept, recording)),
                Err(mut error) => {
                    request = match (error.take_message(), copy) {
                        (Some(unsent), _) => unsent,
                        (None, Some(copy)) => copy,
                        (None, None) => {
                            let error = error.into_error();
                            return Err(failed(target, error, &mut recording));
                        }
                    };
                }
            }
            earlier = Some(recording);
        }
        let dialled = dial(&self.egress, self.source, target, earlier).await?;
        let (mut upstream, mut recording) = Upstream::open(&self.egress, target, dialled).await?;
        match upstream.sender.send_request(request).await {
            Ok(response) => Ok((response, upstream, recording)),
            Err(source) => Err(failed(target, source, &mut recording)),
        }
    }

    /// The kept connection, if it goes to this host and still lives, and the request's log entry.
    async fn kept(&self, target: &Target) -> Result<Option<(Upstream, Recording)>, Failure> {
        let Some(mut kept) = take(&self.upstream).filter(|kept| kept.target == *target) else {
            return Ok(None);
        };
        let route = check_again(&self.egress, self.source, target, kept.address)?;
        let ready = tokio::time::timeout(READY_WAIT, kept.sender.ready()).await;
        if !matches!(ready, Ok(Ok(()))) {
            return Ok(None);
        }
        let log = self.egress.log(route);
        let recording = log.allowed(self.source, target, kept.address, &kept.traffic);
        Ok(Some((kept, recording)))
    }
}

/// The same request without its body.
fn without_body(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(Either::Right(Empty::new()));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    copy
}

fn http_target(uri: &Uri) -> Result<Target, Failure> {
    let authority = match (uri.scheme_str(), uri.authority()) {
        (Some("http"), Some(authority)) => authority,
        (Some("https"), Some(_)) => {
            return Err(Failure::BadRequest("https needs CONNECT"));
        }
        (Some(_), _) => return Err(Failure::BadRequest("the scheme must be http")),
        (None, _) => {
            return Err(Failure::BadRequest(
                "this is a proxy: the request line must hold the whole URL",
            ));
        }
    };
    Ok(Target::parse(authority.as_str(), Some(80))?)
}

fn rewrite_request(
    parts: &mut request::Parts,
    target: &Target,
    websocket: bool,
) -> Result<(), Failure> {
    strip_connection_fields(&mut parts.headers);
    // Already answered on this side: the body is on its way.
    parts.headers.remove(EXPECT);
    if websocket {
        set_websocket_fields(&mut parts.headers);
    }
    let host = HeaderValue::from_str(&target.host_header())
        .map_err(|_| Failure::BadRequest("the host is not valid in a header"))?;
    parts.headers.insert(HOST, host);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = Uri::builder()
        .path_and_query(path)
        .build()
        .map_err(|_| Failure::BadRequest("the path is not valid"))?;
    parts.version = Version::HTTP_11;
    Ok(())
}

fn wants_websocket(request: &Request<Incoming>) -> bool {
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has_token(request.headers(), &CONNECTION, "upgrade")
        && has_token(request.headers(), &UPGRADE, "websocket")
}

fn set_websocket_fields(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

fn tokens(headers: &HeaderMap, name: &HeaderName) -> impl Iterator<Item = String> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|token| token.trim().to_ascii_lowercase())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    tokens(headers, name).any(|token| token == wanted)
}

/// Removes what concerns one connection only (RFC 9110, 7.6.1), and what a proxy is told in person.
fn strip_connection_fields(headers: &mut HeaderMap) {
    // A length beside a transfer encoding is wrong, and the encoding is what was read.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let named: Vec<String> = tokens(headers, &CONNECTION)
        // Fields without which the message itself would be another.
        .filter(|name| name != "host" && name != "content-length")
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        CONNECTION,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
}
