//! The way out: names to addresses, and connections to addresses that were checked.
//!
//! A seam: ways through proxies (`upstream`) are stacked on the direct one, which is here. It
//! decides nothing about targets; the proxy asks it only what the policy has allowed.
//!
//! Names are looked up by hickory, not by the C library: a lookup is a future that ends with its
//! request, where `getaddrinfo` would hold a thread of a pool all sessions share for as long as a
//! name server likes. It reads `/etc/resolv.conf` and `/etc/hosts`, anew for each session. So is
//! [`Names`], what is remembered of the answers: one session cannot see from timing what another
//! looked up. Names are always looked up as absolute ones: with a search list, `intranet` could be
//! `intranet.example.com`, past a rule that denies the latter.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverConfig};
use hickory_resolver::name_server::TokioConnectionProvider;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::names::Names;
use super::upstream::ProxyFailure;

/// One try at one name server; with one more it stays within the time the proxy gives a lookup.
const LOOKUP_TRY: Duration = Duration::from_secs(4);
const LOOKUP_RETRIES: usize = 1;

/// Looks up and connects.
pub(super) trait Uplink: Send + Sync + fmt::Debug {
    /// Every address `name` has. Dropping the future ends the lookup.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupError>>;
    /// A connection to exactly this address; gives up at `until`.
    fn connect(
        &self,
        address: SocketAddr,
        until: Instant,
    ) -> BoxFuture<'_, Result<TcpStream, ConnectError>>;
    /// A connection to a name that is looked up elsewhere; `None` where names are looked up here.
    fn connect_by_name<'a>(
        &'a self,
        _name: &'a str,
        _port: u16,
        _until: Instant,
    ) -> Option<BoxFuture<'a, Result<TcpStream, ConnectError>>> {
        None
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// No connection over TCP.
    #[error(transparent)]
    Tcp(#[from] io::Error),
    /// No connection over TCP in time.
    #[error("it took too long")]
    TimedOut,
    /// A proxy on the way does not make it.
    #[error(transparent)]
    Proxy(#[from] ProxyFailure),
}

impl ConnectError {
    /// Whether the time ran out.
    pub(super) fn is_timeout(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::TimedOut => true,
            Self::Proxy(failure) => failure.is_timeout(),
        }
    }
}

/// Why a name has no addresses.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    /// The name servers say it has none.
    #[error("no such host")]
    NoAddress,
    /// They did not answer, or not sensibly.
    #[error("the name servers did not answer")]
    Failed(#[source] hickory_resolver::ResolveError),
    /// Not a name DNS can carry.
    #[error("not a name that can be looked up")]
    Name(#[source] hickory_resolver::proto::ProtoError),
    /// No answer in time.
    #[error("the lookup took too long")]
    TimedOut,
}

/// Straight out of this host.
pub(super) struct Direct {
    resolver: TokioResolver,
    names: Names,
}

impl Direct {
    /// With the host's own name servers and hosts file, as they are now.
    pub(super) fn new() -> Self {
        let builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            // The hosts file and literal addresses still work; names get a clear refusal.
            tracing::warn!(%error, "no name servers: /etc/resolv.conf could not be read");
            TokioResolver::builder_with_config(
                ResolverConfig::new(),
                TokioConnectionProvider::default(),
            )
        });
        Self::build(builder)
    }

    fn build(mut builder: hickory_resolver::ResolverBuilder<TokioConnectionProvider>) -> Self {
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Always;
        options.timeout = LOOKUP_TRY;
        options.attempts = LOOKUP_RETRIES;
        // `Names` is the cache.
        options.cache_size = 0;
        Self {
            resolver: builder.build(),
            names: Names::default(),
        }
    }

    /// With a name server of its own.
    #[cfg(test)]
    pub(super) fn with_name_server(server: SocketAddr) -> Self {
        use hickory_resolver::config::NameServerConfig;
        use hickory_resolver::proto::xfer::Protocol;
        let mut config = ResolverConfig::new();
        config.add_name_server(NameServerConfig::new(server, Protocol::Udp));
        Self::build(TokioResolver::builder_with_config(
            config,
            TokioConnectionProvider::default(),
        ))
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct").finish_non_exhaustive()
    }
}

impl Uplink for Direct {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupError>> {
        Box::pin(async move {
            if let Some(addresses) = self.names.get(name, std::time::Instant::now()) {
                return Ok(addresses);
            }
            let mut absolute =
                hickory_resolver::Name::from_ascii(name).map_err(LookupError::Name)?;
            absolute.set_fqdn(true);
            match self.resolver.lookup_ip(absolute).await {
                Ok(answer) => {
                    let addresses: Vec<IpAddr> = answer.iter().collect();
                    let now = std::time::Instant::now();
                    self.names.keep(name, &addresses, answer.valid_until(), now);
                    Ok(addresses)
                }
                Err(error) if error.is_no_records_found() => Err(LookupError::NoAddress),
                Err(error) => Err(LookupError::Failed(error)),
            }
        })
    }

    fn connect(
        &self,
        address: SocketAddr,
        until: Instant,
    ) -> BoxFuture<'_, Result<TcpStream, ConnectError>> {
        Box::pin(async move {
            match timeout_at(until, TcpStream::connect(address)).await {
                Ok(connected) => Ok(connected?),
                Err(_) => Err(ConnectError::TimedOut),
            }
        })
    }
}
