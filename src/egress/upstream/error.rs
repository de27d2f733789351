//! What can go wrong with a proxy on the way.

use std::fmt;

use hyper::StatusCode;

use crate::egress::Refusal;
use crate::egress::uplink::{ConnectError, LookupError};

/// A proxy on the way that did not connect. Never holds credentials.
#[derive(Debug)]
pub(in crate::egress) struct ProxyFailure {
    /// The session's, as it gave it; `None` is the daemon's, whose address is not a session's
    /// business.
    pub(super) proxy: Option<String>,
    pub(super) fault: Fault,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(in crate::egress) enum Fault {
    /// A rule of the daemon refuses the proxy itself.
    #[error("is refused by rule \"{0}\"")]
    Refused(Refusal),
    /// Its name has no addresses.
    #[error("cannot be resolved: {0}")]
    Unresolved(#[from] LookupError),
    /// No connection to the proxy itself.
    #[error("cannot be reached: {0}")]
    Unreachable(#[source] Box<ConnectError>),
    /// Connected, but no answer in time.
    #[error("did not answer in time")]
    Silent,
    /// It wants credentials and there are none.
    #[error("wants credentials")]
    CredentialsWanted,
    /// It does not accept those there are.
    #[error("does not accept the credentials")]
    CredentialsRefused,
    /// An answer to CONNECT that is no success, with the reason it gave.
    #[error("answered {} {reason}", .status.as_u16())]
    Status {
        /// Its status.
        status: StatusCode,
        /// Its words, printable and cut; the usual ones when it gave none.
        reason: String,
    },
    /// A SOCKS reply that is no success, in the words of RFC 1928.
    #[error("answered \"{0}\"")]
    Reply(&'static str),
    /// Something that is no answer.
    #[error("gave no valid answer: {0}")]
    Garbage(String),
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl ProxyFailure {
    /// The proxy and the rule that refuses it.
    pub(in crate::egress) fn refusal(&self) -> Option<(String, &Refusal)> {
        match &self.fault {
            Fault::Refused(refusal) => Some((self.name(), refusal)),
            _ => None,
        }
    }

    /// Whether the time ran out.
    pub(in crate::egress) fn is_timeout(&self) -> bool {
        match &self.fault {
            Fault::Silent | Fault::Unresolved(LookupError::TimedOut) => true,
            Fault::Unreachable(error) => error.is_timeout(),
            _ => false,
        }
    }

    /// Whether the proxy would fail every other address too.
    pub(in crate::egress) fn is_of_proxy(&self) -> bool {
        !matches!(self.fault, Fault::Status { .. } | Fault::Reply(_))
    }

    fn name(&self) -> String {
        match &self.proxy {
            Some(proxy) => format!("the session's proxy {proxy}"),
            None => "the daemon's upstream proxy".to_owned(),
        }
    }
}

impl fmt::Display for ProxyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name(), self.fault)
    }
}

impl std::error::Error for ProxyFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.fault)
    }
}
