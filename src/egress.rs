//! Egress: the one policed way out of a session.
//!
//! ```text
//!  client in a sandbox ── proxy ── policy: by name ── uplink: look up ── policy: by address
//!                           │                                                    │
//!                           └──────────── uplink: connect to the checked address ┘
//! ```
//!
//! A forward proxy per listener: http in absolute form (WebSocket included) and CONNECT. A name is
//! looked up once, every address of the answer is checked, and the connection goes to a checked
//! address, so what was checked is what is reached. `docs/egress.md` has the rules.
//!
//! It does not know sessions, browsers or sandboxes: the listener it is given may live in any
//! network namespace, and whoever connects to it is taken for hostile.

mod address;
mod answer;
mod copy;
mod dial;
mod forward;
mod host_addresses;
mod policy;
mod proxy;
mod rules;
mod target;
mod uplink;
mod watched;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use policy::{Policy, Refusal};
pub use rules::{Rule, RuleError};

use crate::limits::Bytes;

/// Config section `[egress]`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Ports of the host's own loopback that `http://localhost:PORT` in a page or code reaches:
    /// `"8080"`, `"3000-3999"`, or `"*"` for all. None by default.
    pub host_loopback: Vec<String>,
    /// Opens what is closed by default: other ports, private networks.
    pub allow: Vec<Rule>,
    /// Closes what is open; wins over `allow` and `host_loopback`.
    pub deny: Vec<Rule>,
}

/// Bounds on one listener.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at once; more wait in the listener's backlog.
    connections: usize,
    /// To look a name up, and again to connect to its addresses.
    connect: Duration,
    /// To send one request's header; also how long an unused connection is kept.
    header_wait: Duration,
    /// A connection over which no byte passes, tunnels included, is ended.
    silence: Duration,
    /// Header of a request or an answer, and the buffer of each side of a connection.
    header: Bytes,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Chromium opens at most 32 plain connections through a proxy, and 255 WebSockets.
            connections: 256,
            connect: Duration::from_secs(10),
            header_wait: Duration::from_secs(60),
            silence: Duration::from_secs(300),
            // Four buffers a connection: 64 MiB a listener at the very worst.
            header: Bytes::kib(64),
        }
    }
}

/// Serves proxy clients on `listener` until `cancel`, then ends every connection at once.
///
/// At most 256 connections at a time. Returns when nothing of it is left.
pub async fn serve(listener: TcpListener, policy: Arc<Policy>, cancel: CancellationToken) {
    let shared = proxy::Shared {
        policy,
        uplink: Box::new(uplink::Direct::new()),
        limits: Limits::default(),
    };
    proxy::run(listener, Arc::new(shared), cancel).await;
}

/// What is wrong with a config, or with a URL asked about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An entry of the config.
    #[error("egress.{list}: entry {entry:?}: {source}")]
    Entry {
        /// The list it stands in.
        list: &'static str,
        /// As written.
        entry: String,
        /// What is wrong.
        source: RuleError,
    },
    /// Not a URL a session can open.
    #[error("not a URL to open: {0}")]
    Url(String),
    /// A rule refuses it.
    #[error("{target} is refused by the egress rule \"{refusal}\"")]
    Refused {
        /// Host and port.
        target: String,
        /// The rule.
        refusal: Refusal,
    },
}

/// Why a text is not a host and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum BadTarget {
    /// The host.
    #[error("not a valid host")]
    Host,
    /// The port.
    #[error("the port is missing or not valid")]
    Port,
    /// `user:password@`.
    #[error("it must not hold a user name or password")]
    UserInfo,
}
