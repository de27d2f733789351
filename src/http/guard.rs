//! Who may call from a browser. A web page reaches a daemon on its visitor's own machine, or
//! beside it, without being asked for anything: it may do nothing here.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
    VARY,
};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::base::peer_of;
use super::{ApiError, Front};
use crate::tenant::{Caller, Owner};

/// How long a browser may remember a preflight's answer, in seconds.
const MAX_AGE: &str = "600";
const METHODS: &str = "GET, POST, DELETE";
const ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");
const REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");

/// Refuses requests of web pages, but for those of origins that the configuration lists and of the
/// daemon's own pages. To stand before anything asks for a key: a preflight has none.
pub async fn cross_origin(front: &Front, request: Request, next: Next) -> Response {
    let (uri, headers) = (request.uri(), request.headers());
    let Some(origin) = headers.get(ORIGIN).cloned() else {
        return next.run(request).await;
    };
    let several = headers.get_all(ORIGIN).iter().count() > 1;
    let said = origin.to_str().unwrap_or_default();
    let is_socket = uri.path().starts_with(super::cdp::PREFIX);
    if several || is_socket {
        return refused("requests of web pages are refused here");
    }
    if front.cors.iter().any(|listed| listed == said) {
        let asked = &request.headers();
        let preflight = request.method() == Method::OPTIONS
            && asked.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let mut response = if preflight {
            preflighted(&request)
        } else {
            next.run(request).await
        };
        let answer = response.headers_mut();
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        answer.append(VARY, HeaderValue::from_static("origin"));
        return response;
    }
    let own = front.own_origin(peer_of(request.extensions()), uri, headers);
    if own.is_some_and(|own| own == said) {
        return next.run(request).await;
    }
    refused("requests of web pages are refused; http.cors_origins lists the origins that may call")
}

fn preflighted(request: &Request) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let answer = response.headers_mut();
    answer.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static(METHODS),
    );
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    // The origin is trusted; which headers its pages send is theirs to say.
    if let Some(wanted) = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    if request.headers().contains_key(REQUEST_PRIVATE_NETWORK) {
        answer.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    response
}

/// Refuses callers without a key that name another host: a page whose domain leads here (DNS
/// rebinding) sends no Origin with a GET.
pub(super) async fn only_known_hosts(
    State(front): State<Arc<Front>>,
    request: Request,
    next: Next,
) -> Response {
    let caller = request.extensions().get::<Caller>();
    let keyless = caller.is_some_and(|caller| caller.owner == Owner::anonymous());
    let peer = peer_of(request.extensions());
    if keyless && !front.is_named(peer, request.uri(), request.headers()) {
        return refused(
            "the request names a host that is not this daemon's: use a loopback address, or set \
             http.public_url to the URL that callers know",
        );
    }
    next.run(request).await
}

fn refused(message: &str) -> Response {
    ApiError::new(StatusCode::FORBIDDEN, message).into_response()
}
