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
//! network namespace, and whoever connects to it is taken for hostile. What is behind a session's
//! own `localhost` it is given too ([`OwnLoopback`]).

mod address;
mod answer;
mod block_list;
mod copy;
mod dial;
mod forward;
mod host_addresses;
mod log;
mod names;
mod options;
mod places;
mod policy;
#[cfg(any(test, fuzzing))]
pub(crate) mod property;
mod proxy;
mod recorded;
mod relay;
mod rules;
mod session_policy;
mod target;
mod uplink;
mod upstream;
mod usage;
mod watched;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::Uri;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

pub use block_list::BlockList;
pub use log::{Log, LoggedRequest, NetworkUsage, Verdict};
pub use options::{MAX_RULES, NetworkOptions, OptionsError, Proxy, ProxyError};
pub use places::Places;
pub use policy::{Policy, Refusal};
pub use rules::{Rule, RuleError};
pub use upstream::{Resolve, Secret, Upstream, UpstreamConfig};

use crate::limits::Bytes;

use answer::Failure;
pub use answer::FailureKind;
use block_list::Blocked;
use copy::Buffers;
use dial::Room;
use policy::Route;
use session_policy::SessionPolicy;
use target::{Host, Target};
use uplink::Uplink;

/// Config section `[egress]`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Ports of the host's own loopback that `http://localhost:PORT` in a page or code reaches,
    /// instead of the session's own: `"8080"`, `"3000-3999"`, or `"*"` for all. None by default.
    /// With more than 64 ports, code reaches them through the proxy only.
    pub host_loopback: Vec<String>,
    /// Opens what is closed by default: other ports, private networks.
    pub allow: Vec<Rule>,
    /// Closes what is open; wins over `allow` and `host_loopback`.
    pub deny: Vec<Rule>,
    /// Most bytes of one session, both ways together; a session may ask for less.
    pub max_bytes: Bytes,
    /// Connections at once from one session's browser, as many from its code, and as many to ports
    /// of `host_loopback` without the proxy; more wait.
    pub connections: usize,
    /// Newest requests of a session that are remembered.
    pub log: usize,
    /// The proxy everything goes through.
    pub upstream: UpstreamConfig,
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
            upstream: UpstreamConfig::default(),
        }
    }
}

/// Most connections of one listener that may be configured: each has two file descriptors of the
/// daemon and up to 256 KiB of buffers.
const MAX_CONNECTIONS: usize = 4096;
/// Most requests remembered that may be configured: each takes up to 1 KiB, in every session.
const MAX_LOG: usize = 4096;

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

/// Bounds on what one connection takes.
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
            // Four buffers a connection: 64 MiB for the 256 connections a listener has by default.
            header: Bytes::kib(64),
        }
    }
}

/// The way out of one session, for all its listeners.
#[derive(Debug)]
pub struct Egress {
    policy: SessionPolicy,
    blocked: Mutex<Option<Blocked>>,
    uplink: Box<dyn Uplink>,
    own_loopback: Arc<dyn OwnLoopback>,
    log: Arc<Log>,
    /// Of the session's own loopback, which is no way out: nobody reads it.
    own_log: Arc<Log>,
    places: Places,
    limits: Limits,
    /// What the browser asked for last and got no answer to from its host, and why.
    failed: Mutex<Option<(Uri, FailureKind, String)>>,
    browser_room: Room,
    code_room: Room,
    buffers: Buffers,
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
    /// A connection to this port of it, IPv4 or IPv6; `ConnectionRefused` where nothing listens.
    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>>;
}

/// What the way out of one session is put together from.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The daemon's rules.
    pub policy: Arc<Policy>,
    /// The daemon's upstream proxy.
    pub upstream: Option<&'a Upstream>,
    /// What narrows the rules for this session.
    pub options: NetworkOptions,
    /// The session's own servers.
    pub own_loopback: Arc<dyn OwnLoopback>,
    /// Told of every request that leaves the session.
    pub log: Arc<Log>,
    /// Where each listener takes places for its connections.
    pub places: Places,
}

impl Egress {
    /// Straight out of this host, or through the proxies its parts name.
    #[must_use]
    pub fn new(parts: Parts<'_>) -> Self {
        Self::over(Box::new(uplink::Direct::new()), parts, Limits::default())
    }

    fn over(direct: Box<dyn Uplink>, parts: Parts<'_>, limits: Limits) -> Self {
        let Parts {
            policy,
            upstream,
            options,
            own_loopback,
            log,
            places,
        } = parts;
        let uplink = upstream::chain(direct, upstream, options.proxy.clone(), &policy);
        Self {
            policy: SessionPolicy::new(policy, options),
            blocked: Mutex::default(),
            uplink,
            own_loopback,
            own_log: Arc::new(Log::unread()),
            log,
            places,
            limits,
            failed: Mutex::default(),
            browser_room: Room::new(),
            code_room: Room::new(),
            buffers: Buffers::new(),
        }
    }

    /// Refuses the browser what is on a list, but `page`'s own host, until what this gives is dropped.
    #[must_use]
    pub fn block(self: &Arc<Self>, list: Arc<BlockList>, page: &str) -> Blocking {
        let page = url::Url::parse(page).ok();
        let host = page.as_ref().and_then(url::Url::host_str);
        let but = host.and_then(|host| Host::parse(host).ok());
        *self.blocked() = Some(Blocked { list, but });
        Blocking(Arc::clone(self))
    }

    fn blocked(&self) -> MutexGuard<'_, Option<Blocked>> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_blocked(&self, source: Source, target: &Target) -> Result<(), Refusal> {
        let blocked = self.blocked();
        let blocked = blocked.as_ref().filter(|_| source == Source::Browser);
        match blocked.and_then(|blocked| blocked.entry(&target.host)) {
            Some(entry) => Err(Refusal::Blocked(entry.to_owned())),
            None => Ok(()),
        }
    }

    /// Why the page at `url`, plain http, is this proxy's own answer, if it is.
    #[must_use]
    pub fn failed_page(&self, url: &str) -> Option<String> {
        let (address, _) = url.split_once('#').unwrap_or((url, ""));
        self.failed(|uri| uri.scheme().is_some() && *uri == address)
    }

    /// Why the browser's newest tunnel came to nothing, if no other request has failed since.
    /// Chromium itself says only `ERR_TUNNEL_CONNECTION_FAILED`.
    #[must_use]
    pub fn failed_tunnel(&self) -> Option<String> {
        self.failed(|uri| uri.scheme().is_none())
    }

    fn failed(&self, is_meant: impl Fn(&Uri) -> bool) -> Option<String> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, _, why) = failed.as_ref().filter(|(uri, ..)| is_meant(uri))?;
        Some(why.clone())
    }

    /// Of what kind the failure of [`Self::failed_page`] or [`Self::failed_tunnel`] was: the newest.
    #[must_use]
    pub fn failure_kind(&self) -> Option<FailureKind> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.as_ref().map(|(_, kind, _)| *kind)
    }

    fn note_failure(&self, source: Source, uri: Uri, failure: &Failure) {
        if source == Source::Browser {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            *failed = Some((uri, failure.kind(), failure.to_string()));
        }
    }

    fn log(&self, route: Route) -> &Arc<Log> {
        match route {
            Route::Outside | Route::HostLoopback => &self.log,
            Route::OwnLoopback => &self.own_log,
        }
    }

    fn room(&self, source: Source) -> &Room {
        match source {
            Source::Browser => &self.browser_room,
            Source::Code => &self.code_room,
        }
    }
}

/// While a block list holds.
#[derive(Debug)]
pub struct Blocking(Arc<Egress>);

impl Drop for Blocking {
    fn drop(&mut self) {
        *self.0.blocked() = None;
    }
}

/// Serves proxy clients on `listener` until `cancel`, then ends every connection at once.
///
/// At most [`Config::connections`] at a time. Returns when nothing of it is left.
pub async fn serve(
    listener: TcpListener,
    source: Source,
    egress: Arc<Egress>,
    cancel: CancellationToken,
) {
    proxy::run(listener, source, egress, cancel).await;
}

/// Leads connections to `listeners`, on ports of [`Policy::relayed_ports`] inside a session, to the
/// same ports of the host's loopback, as far as the session may reach them.
///
/// As many connections at a time as [`serve`] takes. Ends as it does.
pub async fn relay(listeners: Vec<TcpListener>, egress: Arc<Egress>, cancel: CancellationToken) {
    relay::run(listeners, egress, cancel).await;
}

/// What is wrong with a config.
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
