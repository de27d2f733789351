//! What the proxy itself answers: refusals and failures.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::ext::ReasonPhrase;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::BadTarget;
use super::policy::Refusal;
use super::recorded::Recorded;
use super::uplink::{ConnectError, LookupError};

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
        /// Those that were tried, for the log.
        addresses: Vec<SocketAddr>,
        source: ConnectError,
    },
    /// No server of the session's own code is there.
    #[error(
        "nothing listens on port {port} of the session's own localhost; servers started by earlier \
         executions live as long as their context; a port of this host is reached by its entry in \
         host_loopback"
    )]
    NothingListens { port: u16 },
    /// `host_loopback` sends its port to this host, where no server is.
    #[error(
        "nothing listens on port {port} of the host that runs pagebox (127.0.0.1:{port} and \
         [::1]:{port}), where its host_loopback leads; a server of the session is not looked for there"
    )]
    NothingListensOnHost { port: u16 },
    /// It does not speak HTTP, or stopped in the middle.
    #[error("{host} gave no valid answer: {source}")]
    Upstream { host: String, source: hyper::Error },
    /// It answers with a switch of protocols no one asked for.
    #[error("{host} switched protocols without being asked to")]
    UnaskedUpgrade { host: String },
}

/// What kind of thing kept a request from its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// A rule.
    Refused,
    /// Its name has no addresses.
    Unresolved,
    /// Anything else.
    Other,
}

impl Failure {
    pub(super) fn kind(&self) -> FailureKind {
        match self {
            Self::Refused { .. } => FailureKind::Refused,
            Self::Unresolved { .. } => FailureKind::Unresolved,
            _ => FailureKind::Other,
        }
    }

    /// Its text, with the addresses that were tried: the session's owner may see them, its pages
    /// need not.
    pub(super) fn for_log(&self) -> String {
        match self {
            Self::Unreachable { addresses, .. } if !addresses.is_empty() => {
                let tried: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                format!("{self} (tried {})", tried.join(", "))
            }
            _ => self.to_string(),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::BadTarget(_) => StatusCode::BAD_REQUEST,
            Self::Refused { .. } => StatusCode::FORBIDDEN,
            Self::Unreachable { source, .. } if source.is_timeout() => StatusCode::GATEWAY_TIMEOUT,
            Self::Unresolved { .. }
            | Self::Unreachable { .. }
            | Self::NothingListens { .. }
            | Self::NothingListensOnHost { .. }
            | Self::Upstream { .. }
            | Self::UnaskedUpgrade { .. } => StatusCode::BAD_GATEWAY,
        }
    }

    /// Why, in the status line: of a refused CONNECT, that is all that most clients show.
    fn reason_phrase(&self) -> Option<ReasonPhrase> {
        let usual = self.status().canonical_reason().unwrap_or_default();
        let phrase = match self {
            Self::Refused { refusal, .. } => format!("{usual}: {refusal}"),
            _ => format!("{usual}: {self}"),
        };
        // Invalid only if an error of the system held a line break; the body says it all the same.
        ReasonPhrase::try_from(phrase).ok()
    }

    /// The answer the client gets.
    pub(super) fn into_response(self) -> Response<Body> {
        let text = format!("pagebox: {self}\n");
        let phrase = self.reason_phrase();
        let mut response = Response::new(Either::Right(Full::new(Bytes::from(text))));
        *response.status_mut() = self.status();
        if let Some(phrase) = phrase {
            response.extensions_mut().insert(phrase);
        }
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
