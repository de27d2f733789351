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
mod log;
mod options;
mod places;
mod policy;
mod proxy;
mod recorded;
mod rules;
mod session_policy;
mod target;
mod uplink;
mod usage;
mod watched;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

pub use log::{Log, LoggedRequest, NetworkUsage, Verdict};
pub use options::{NetworkOptions, Proxy, ProxyError};
pub use places::Places;
pub use policy::{Policy, Refusal};
pub use rules::{Rule, RuleError};

use crate::limits::Bytes;

use dial::Room;
use session_policy::SessionPolicy;
use uplink::Uplink;

/// Config section `[egress]`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Ports of the host's own loopback that `http://localhost:PORT` in a page or code reaches:
    /// `"8080"`, `"3000-3999"`, or `"*"` for all. None by default.
    pub host_loopback: Vec<String>,
    /// Opens what is closed by default: other ports, private networks.
    pub allow: Vec<Rule>,
    /// Closes what is open; wins over `allow` and `host_loopback`.
    pub deny: Vec<Rule>,
    /// Most bytes of one session, both ways together; a session may ask for less.
    pub max_bytes: Bytes,
    /// Connections at once from one session's browser, and as many from its code; more wait.
    pub connections: usize,
    /// Newest requests of a session that are remembered.
    pub log: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host_loopback: Vec::new(),
            allow: Vec::new(),
            deny: Vec::new(),
            // 22 Mbit/s for the whole of the longest life a session can have.
            max_bytes: Bytes::gib(10),
            // Chromium opens at most 32 plain connections through a proxy, and 255 WebSockets.
            connections: 256,
            log: 256,
        }
    }
}

/// Most connections of one listener that may be configured: each has two file descriptors of the
/// daemon and up to 256 KiB of buffers.
const MAX_CONNECTIONS: usize = 4096;
/// Most requests remembered that may be configured: each takes up to 1 KiB, in every session.
const MAX_LOG: usize = 4096;

impl Config {
    /// Checks each number.
    ///
    /// # Errors
    /// The first key whose value cannot be used, and what is wrong with it.
    pub fn check_numbers(&self) -> Result<(), (&'static str, String)> {
        if self.max_bytes == Bytes(0) {
            return Err((
                "egress.max_bytes",
                r#"must be at least 1; deny = ["*"] is how nothing may be reached"#.to_owned(),
            ));
        }
        if !(1..=MAX_CONNECTIONS).contains(&self.connections) {
            let message = format!("is {}, must be 1 to {MAX_CONNECTIONS}", self.connections);
            return Err(("egress.connections", message));
        }
        if self.log > MAX_LOG {
            let message = format!("is {}, must be at most {MAX_LOG}", self.log);
            return Err(("egress.log", message));
        }
        Ok(())
    }
}

/// Bounds on one listener.
#[derive(Clone, Copy, Debug)]
struct Limits {
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
    log: Arc<Log>,
    places: Places,
    limits: Limits,
    browser_room: Room,
    code_room: Room,
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
    /// The daemon's rules narrowed by a session's options; `log` is told of every request, and
    /// each listener takes as many connections as `places` gives it.
    #[must_use]
    pub fn new(
        policy: Arc<Policy>,
        options: NetworkOptions,
        own_loopback: Arc<dyn OwnLoopback>,
        log: Arc<Log>,
        places: Places,
    ) -> Self {
        Self {
            policy: SessionPolicy::new(policy, options),
            uplink: Box::new(uplink::Direct::new()),
            own_loopback,
            log,
            places,
            limits: Limits::default(),
            browser_room: Room::new(),
            code_room: Room::new(),
        }
    }

    fn room(&self, source: Source) -> &Room {
        match source {
            Source::Browser => &self.browser_room,
            Source::Code => &self.code_room,
        }
    }
}

/// Serves proxy clients on `listener` until `cancel`, then ends every connection at once.
///
/// At most as many connections at a time as the session may have. Returns when nothing of it is left.
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
