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
mod dial;
mod forward;
mod host_addresses;
mod options;
mod policy;
mod proxy;
mod rules;
mod session_policy;
mod target;
mod uplink;
mod upstream;
mod watched;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

pub use options::{NetworkOptions, Proxy, ProxyError};
pub use policy::{Policy, Refusal};
pub use rules::{Rule, RuleError};
pub use upstream::{Resolve, Secret, Upstream, UpstreamConfig};

use crate::limits::Bytes;

use session_policy::SessionPolicy;
use uplink::Uplink;

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
    /// The proxy everything goes through.
    pub upstream: UpstreamConfig,
}

impl Config {
    /// Reads what it names files for. To be done once, before privileges are dropped.
    ///
    /// # Errors
    /// The file that cannot be read, or does not hold what it must.
    pub fn read_files(&mut self) -> Result<(), Error> {
        self.upstream.read_password()
    }

    /// What is weaker than designed because of these settings, for people; to be shown in every
    /// report of the host's isolation.
    #[must_use]
    pub fn weakening(&self) -> Option<String> {
        self.upstream.weakening()
    }
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

/// The way out of one session, for all its listeners.
#[derive(Debug)]
pub struct Egress {
    policy: SessionPolicy,
    uplink: Box<dyn Uplink>,
    own_loopback: Arc<dyn OwnLoopback>,
    limits: Limits,
}

/// Whose requests a listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The browser, for its pages.
    Browser,
    /// The session's code.
    Code,
}

/// A session's own loopback, where its code may run servers.
pub trait OwnLoopback: Send + Sync + std::fmt::Debug {
    /// A connection to this port of it.
    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>>;
}

impl Egress {
    /// The daemon's rules and upstream proxy, narrowed by a session's options.
    #[must_use]
    pub fn new(
        policy: Arc<Policy>,
        upstream: Option<&Upstream>,
        options: NetworkOptions,
        own_loopback: Arc<dyn OwnLoopback>,
    ) -> Self {
        let uplink = Box::new(uplink::Direct::new());
        let uplink = upstream::chain(uplink, upstream, options.proxy.clone(), &policy);
        Self {
            policy: SessionPolicy::new(policy, options),
            uplink,
            own_loopback,
            limits: Limits::default(),
        }
    }
}

/// Serves proxy clients on `listener` until `cancel`, then ends every connection at once.
///
/// At most 256 connections at a time. Returns when nothing of it is left.
pub async fn serve(
    listener: TcpListener,
    source: Source,
    egress: Arc<Egress>,
    cancel: CancellationToken,
) {
    proxy::run(listener, source, egress, cancel).await;
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
    /// A key of the upstream proxy.
    #[error("egress.upstream.{key}: {message}")]
    Upstream {
        /// The key.
        key: &'static str,
        /// What is wrong.
        message: String,
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
