//! What the proxy itself answers: refusals and failures.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::BadTarget;
use super::policy::Refusal;
use super::recorded::Recorded;
use super::uplink::LookupError;

/// Names the rule that refused a request.
pub(super) const RULE_HEADER: HeaderName = HeaderName::from_static("x-pagebox-egress");

/// An upstream's body, or the proxy's own.
pub(super) type Body = Either<Recorded, Full<Bytes>>;

/// Why a request got no answer from its host.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Not a request a proxy takes.
    #[error("{0}")]
    BadRequest(&'static str),
    /// Not a host and port.
    #[error("the request's target: {0}")]
    BadTarget(#[from] BadTarget),
    /// A rule refuses it.
    #[error("refused by rule \"{refusal}\": {host}")]
    Refused { host: String, refusal: Refusal },
    /// Its name has no addresses.
    #[error("cannot resolve {host}: {source}")]
    Unresolved { host: String, source: LookupError },
    /// None of its addresses takes a connection.
    #[error("cannot connect to {host}: {source}")]
    Unreachable {
        host: String,
        /// The address tried last.
        address: Option<SocketAddr>,
        source: std::io::Error,
    },
    /// It took too long to connect.
    #[error("connecting to {host} took too long")]
    ConnectTimeout {
        host: String,
        /// All that were tried, with commas.
        addresses: String,
    },
    /// It does not speak HTTP, or stopped in the middle.
    #[error("{host} gave no valid answer: {source}")]
    Upstream { host: String, source: hyper::Error },
    /// It answers with a switch of protocols no one asked for.
    #[error("{host} switched protocols without being asked to")]
    UnaskedUpgrade { host: String },
}

impl Failure {
    /// Its text, with the addresses that were tried: the session's owner may see them, its pages
    /// need not.
    pub(super) fn for_log(&self) -> String {
        match self {
            Self::Unreachable {
                address: Some(address),
                source,
                ..
            } => format!("cannot connect to {address}: {source}"),
            Self::ConnectTimeout { addresses, .. } => {
                format!("connecting to {addresses} took too long")
            }
            _ => self.to_string(),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::BadTarget(_) => StatusCode::BAD_REQUEST,
            Self::Refused { .. } => StatusCode::FORBIDDEN,
            Self::Unresolved { .. }
            | Self::Unreachable { .. }
            | Self::Upstream { .. }
            | Self::UnaskedUpgrade { .. } => StatusCode::BAD_GATEWAY,
            Self::ConnectTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The answer the client gets.
    pub(super) fn into_response(self) -> Response<Body> {
        let text = format!("pagebox: {self}\n");
        let mut response = Response::new(Either::Right(Full::new(Bytes::from(text))));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        // The text names a host the client chose: it must never be read as a page.
        headers.insert(
            HeaderName::from_static("x-content-type-options"),
            HeaderValue::from_static("nosniff"),
        );
        if let Self::Refused { refusal, .. } = &self {
            let rule = HeaderValue::from_str(&refusal.to_string())
                .expect("rules are printable ASCII: names are punycode, ranges a fixed table");
            headers.insert(RULE_HEADER, rule);
        }
        response
    }
}

/// The answer to a CONNECT that worked; the tunnel follows.
pub(super) fn connected() -> Response<Body> {
    Response::new(Either::Right(Full::default()))
}
