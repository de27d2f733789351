//! The way out through a proxy: the daemon's upstream, a session's own, or the one behind the other.
//!
//! ```text
//! session's proxy: its name looked up, every address checked ── inner: Direct, or the daemon's ──┐
//! daemon's proxy:  its name looked up, not checked           ── inner: Direct                  ──┤
//!                                                      handshake for the target ── TcpStream ────┘
//! ```
//!
//! What is asked of a proxy is the address that was checked, so a name that changes its address
//! changes nothing; only the daemon's, told to look names up itself, is given names. What a proxy
//! answers is hostile: bounded in size and time, and shown cut. Decides nothing about targets.

pub(super) mod config;
mod error;
mod handshake;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::Proxy;
use super::dial::{LOOKUP_FILES, MAX_TRIES, first_connected, look_up};
use super::options::ProxyScheme;
use super::policy::{Policy, Refusal, Route};
use super::target::Host;
use super::uplink::{ConnectError, LookupError, Uplink};

pub use config::{Resolve, Secret, Upstream, UpstreamConfig};
pub(super) use error::{Fault, ProxyFailure};

/// Lookups of one proxy's name at once; more wait, within the time a connection has.
const LOOKUPS: usize = 2;
/// Addresses of one proxy tried at once beside first ones.
const EXTRA_TRIES: usize = 2;
/// File descriptors of the daemon a session takes to reach proxies on its way, at most two, beside
/// the connections to them.
pub(super) const EXTRA_FILES: usize = 2 * (LOOKUP_FILES * LOOKUPS + EXTRA_TRIES);

/// The way out over `direct`, through the daemon's proxy if there is one, then through the session's
/// if there is one: what an operator sends through a proxy, no session takes past it.
pub(super) fn chain(
    direct: Box<dyn Uplink>,
    daemon: Option<&Upstream>,
    session: Option<Proxy>,
    policy: &Arc<Policy>,
) -> Box<dyn Uplink> {
    let mut uplink = direct;
    if let Some(Upstream { proxy, resolve }) = daemon {
        uplink = Box::new(Via::new(proxy.clone(), Owner::Daemon(*resolve), uplink));
    }
    if let Some(proxy) = session {
        uplink = Box::new(Via::new(proxy, Owner::Session(Arc::clone(policy)), uplink));
    }
    uplink
}

/// What a proxy is asked to connect to.
#[derive(Clone, Copy, Debug)]
enum Peer<'a> {
    /// An address that was checked.
    Address(SocketAddr),
    /// A name the proxy is to look up.
    Name(&'a str, u16),
}

impl fmt::Display for Peer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Whose proxy it is, and what follows from that.
#[derive(Debug)]
enum Owner {
    /// The operator's: reached without rules, given names when told so.
    Daemon(Resolve),
    /// A caller's: reached only as the daemon's rules allow.
    Session(Arc<Policy>),
}

/// A way out through one proxy.
#[derive(Debug)]
struct Via {
    proxy: Proxy,
    owner: Owner,
    /// How the proxy itself is reached, and names are looked up.
    inner: Box<dyn Uplink>,
    lookups: Semaphore,
    extra_tries: Semaphore,
    /// Whether its failing was said once at a level operators see.
    reported: AtomicBool,
}

impl Via {
    fn new(proxy: Proxy, owner: Owner, inner: Box<dyn Uplink>) -> Self {
        Self {
            proxy,
            owner,
            inner,
            lookups: Semaphore::new(LOOKUPS),
            extra_tries: Semaphore::new(EXTRA_TRIES),
            reported: AtomicBool::new(false),
        }
    }

    async fn through(&self, peer: Peer<'_>, until: Instant) -> Result<TcpStream, ConnectError> {
        let connected = match self.reach(until).await {
            Ok(stream) => self.ask(stream, peer, until).await,
            Err(fault) => Err(fault),
        };
        connected.map_err(|fault| self.failed(fault).into())
    }

    /// A connection to the proxy itself.
    async fn reach(&self, until: Instant) -> Result<TcpStream, Fault> {
        let target = self.proxy.target();
        let addresses = match &self.owner {
            Owner::Daemon(_) if target.host.is_localhost() => loopback(),
            Owner::Daemon(_) => self.addresses(until).await?,
            Owner::Session(policy) => match policy.check_target(&target)? {
                Route::HostLoopback => loopback(),
                // A proxy is a way out, and the session's own code is no way out.
                Route::OwnLoopback => return Err(Refusal::Range("loopback".to_owned()).into()),
                Route::Outside => {
                    let addresses = self.addresses(until).await?;
                    policy.check_addresses(&target, &addresses)?;
                    addresses
                }
            },
        };
        let sockets: Vec<SocketAddr> = addresses
            .into_iter()
            .take(MAX_TRIES)
            .map(|address| SocketAddr::new(address, target.port))
            .collect();
        let (stream, address) = first_connected(&*self.inner, &sockets, until, &self.extra_tries)
            .await
            .map_err(|error| Fault::Unreachable(Box::new(error)))?;
        if let Owner::Session(policy) = &self.owner
            && !address.ip().is_loopback()
        {
            let unreachable = |error: io::Error| Fault::Unreachable(Box::new(error.into()));
            let local = stream.local_addr().map_err(unreachable)?;
            policy.check_connected(&target, address.ip(), local.ip())?;
        }
        Ok(stream)
    }

    async fn addresses(&self, until: Instant) -> Result<Vec<IpAddr>, LookupError> {
        match &self.proxy.host {
            Host::Address(address) => Ok(vec![*address]),
            Host::Name(name) => look_up(&*self.inner, name, until, &self.lookups).await,
        }
    }

    /// Asks the proxy at the other end of `stream` for a connection to `peer`.
    async fn ask(
        &self,
        stream: TcpStream,
        peer: Peer<'_>,
        until: Instant,
    ) -> Result<TcpStream, Fault> {
        let credentials = self.proxy.credentials.as_ref();
        let asking = async {
            match self.proxy.scheme {
                ProxyScheme::Http => handshake::connect(stream, peer, credentials).await,
                ProxyScheme::Socks5 => handshake::socks5(stream, peer, credentials).await,
            }
        };
        timeout_at(until, asking)
            .await
            .unwrap_or(Err(Fault::Silent))
    }

    fn failed(&self, fault: Fault) -> ProxyFailure {
        let failure = ProxyFailure {
            proxy: match &self.owner {
                Owner::Daemon(_) => None,
                Owner::Session(_) => Some(self.proxy.to_string()),
            },
            fault,
        };
        // An operator must know that their proxy does not work, but once a session is enough:
        // requests come as often as a session likes. What is about one target is not theirs to
        // read: a proxy's words may name it.
        let is_operators = failure.proxy.is_none() && failure.is_of_proxy();
        if is_operators && !self.reported.swap(true, Ordering::Relaxed) {
            tracing::warn!(proxy = %self.proxy, "{failure}");
        }
        failure
    }
}

fn loopback() -> Vec<IpAddr> {
    vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
}

impl Uplink for Via {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupError>> {
        self.inner.resolve(name)
    }

    fn connect(
        &self,
        address: SocketAddr,
        until: Instant,
    ) -> BoxFuture<'_, Result<TcpStream, ConnectError>> {
        if address.ip().is_loopback() {
            // The policy lets loopback through only as this host's own, which is not the proxy's.
            return self.inner.connect(address, until);
        }
        Box::pin(self.through(Peer::Address(address), until))
    }

    fn connect_by_name<'a>(
        &'a self,
        name: &'a str,
        port: u16,
        until: Instant,
    ) -> Option<BoxFuture<'a, Result<TcpStream, ConnectError>>> {
        match self.owner {
            Owner::Daemon(Resolve::Upstream) => {
                Some(Box::pin(self.through(Peer::Name(name, port), until)))
            }
            Owner::Daemon(Resolve::Local) | Owner::Session(_) => None,
        }
    }
}
