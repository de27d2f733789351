//! From a target to a connection: policy, lookup, policy, connect.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::Failure;
use super::log::Recording;
use super::policy::Route;
use super::target::{Host, Target};
use super::uplink::{ConnectError, LookupError, Uplink};
use super::watched::{Traffic, Watched};
use super::{Egress, Refusal, Source};

/// A second address is tried beside the first after this long (RFC 8305 recommends 250 ms): a host
/// without working IPv6 must not wait for the whole timeout.
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses tried of one answer; all of them are checked.
pub(super) const MAX_TRIES: usize = 8;

/// Names looked up at once for one listener; more wait, within the time a lookup has. Each lookup
/// holds a few sockets of the daemon.
const LOOKUPS: usize = 8;
/// Addresses tried at once beside first ones for one listener; without room an address is tried
/// when the one before it has failed.
const EXTRA_TRIES: usize = 8;
/// File descriptors of the daemon a lookup takes: IPv4 and IPv6, at two name servers.
pub(super) const LOOKUP_FILES: usize = 4;
/// File descriptors of the daemon one listener takes beside those of its connections.
pub(super) const EXTRA_FILES: usize = LOOKUP_FILES * LOOKUPS + EXTRA_TRIES;

/// What one listener may do at once.
#[derive(Debug)]
pub(super) struct Room {
    lookups: Semaphore,
    extra_tries: Semaphore,
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            lookups: Semaphore::new(LOOKUPS),
            extra_tries: Semaphore::new(EXTRA_TRIES),
        }
    }
}

/// A connection to a host for one request.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) stream: Watched,
    pub(super) traffic: Arc<Traffic>,
    /// None when the name was left to an upstream proxy.
    pub(super) address: Option<IpAddr>,
    pub(super) recording: Recording,
}

/// Connects to `target` if the policy allows it, and logs what came of it. `earlier` is the same
/// request when it is sent again.
pub(super) async fn dial(
    egress: &Egress,
    source: Source,
    target: &Target,
    earlier: Option<Recording>,
) -> Result<Dialled, Failure> {
    let (log, connected) = match check_target(egress, source, target) {
        Ok(route) => (
            egress.log(route),
            connect(egress, source, target, route).await,
        ),
        Err(refusal) => (&egress.log, Err(refused(target.to_string(), refusal))),
    };
    let (stream, address) = match connected {
        Ok(connected) => connected,
        Err(failure) => {
            match earlier {
                Some(mut recording) => recording.failed(&failure),
                None => log.denied(source, target, &failure),
            }
            return Err(failure);
        }
    };
    let (stream, traffic) = Watched::host(stream, log.meter());
    let recording = match earlier {
        Some(mut recording) => {
            recording.moved(address, &traffic);
            recording
        }
        None => log.allowed(source, target, address, &traffic),
    };
    Ok(Dialled {
        stream,
        traffic,
        address,
        recording,
    })
}

/// The rules of the host and the port, the block list, then the byte limit of what leaves the session.
fn check_target(egress: &Egress, source: Source, target: &Target) -> Result<Route, Refusal> {
    let route = egress.policy.check_target(target)?;
    egress.check_blocked(source, target)?;
    egress.log(route).check()?;
    Ok(route)
}

async fn connect(
    egress: &Egress,
    source: Source,
    target: &Target,
    route: Route,
) -> Result<(TcpStream, Option<IpAddr>), Failure> {
    let (stream, address) = match route {
        Route::OwnLoopback => own_loopback(egress, target).await?,
        // A development server may listen on either.
        Route::HostLoopback => {
            let addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            let connected = connect_to(egress, source, target, addresses).await;
            let (stream, address) = connected.map_err(of_host_loopback)?;
            (stream, Some(address))
        }
        Route::Outside => match by_name(egress, target).await? {
            Some(stream) => (stream, None),
            None => {
                let addresses = outside_addresses(egress, source, target).await?;
                let (stream, address) = connect_to(egress, source, target, addresses).await?;
                check_connected(egress, target, &stream, address)?;
                (stream, Some(address))
            }
        },
    };
    // Small writes of interactive protocols must not wait for each other's ACKs.
    stream
        .set_nodelay(true)
        .map_err(|source| not_connected(target, Vec::new(), source.into()))?;
    Ok((stream, address))
}

async fn own_loopback(
    egress: &Egress,
    target: &Target,
) -> Result<(TcpStream, Option<IpAddr>), Failure> {
    let connecting = egress.own_loopback.connect(target.port);
    let Ok(connected) = timeout(egress.limits.connect, connecting).await else {
        return Err(not_connected(target, Vec::new(), ConnectError::TimedOut));
    };
    let usable = connected.and_then(|stream| {
        let address = stream.peer_addr()?.ip();
        Ok((stream, Some(address)))
    });
    usable.map_err(|source| match source.kind() {
        io::ErrorKind::ConnectionRefused => Failure::NothingListens { port: target.port },
        _ => not_connected(target, Vec::new(), source.into()),
    })
}

/// Says where nothing listens: "localhost" alone could be the session's own.
fn of_host_loopback(failure: Failure) -> Failure {
    match &failure {
        Failure::Unreachable {
            addresses,
            source: ConnectError::Tcp(error),
            ..
        } if error.kind() == io::ErrorKind::ConnectionRefused
            && let Some(tried) = addresses.first() =>
        {
            Failure::NothingListensOnHost { port: tried.port() }
        }
        _ => failure,
    }
}

async fn connect_to(
    egress: &Egress,
    source: Source,
    target: &Target,
    addresses: Vec<IpAddr>,
) -> Result<(TcpStream, IpAddr), Failure> {
    let sockets: Vec<SocketAddr> = addresses
        .into_iter()
        .take(MAX_TRIES)
        .map(|address| SocketAddr::new(address, target.port))
        .collect();
    let until = Instant::now() + egress.limits.connect;
    let extra = &egress.room(source).extra_tries;
    match first_connected(&*egress.uplink, &sockets, until, extra).await {
        Ok((stream, address)) => Ok((stream, address.ip())),
        Err(error) => Err(not_connected(target, sockets, error)),
    }
}

/// Refuses a connection that turns out to be to this host. Nothing was sent over it yet.
fn check_connected(
    egress: &Egress,
    target: &Target,
    stream: &TcpStream,
    address: IpAddr,
) -> Result<(), Failure> {
    let local = stream
        .local_addr()
        .map_err(|source| not_connected(target, Vec::new(), source.into()))?;
    egress
        .policy
        .check_connected(target, address, local.ip())
        .map_err(|refusal| refused(target.to_string(), refusal))
}

/// Connects by name where names are looked up by an upstream proxy.
async fn by_name(egress: &Egress, target: &Target) -> Result<Option<TcpStream>, Failure> {
    let Host::Name(name) = &target.host else {
        return Ok(None);
    };
    let until = Instant::now() + egress.limits.connect;
    let Some(connecting) = egress.uplink.connect_by_name(name, target.port, until) else {
        return Ok(None);
    };
    let checked = egress.policy.check_unresolved(target);
    checked.map_err(|refusal| refused(target.to_string(), refusal))?;
    let connected = connecting.await;
    connected
        .map(Some)
        .map_err(|error| not_connected(target, Vec::new(), error))
}

fn not_connected(target: &Target, addresses: Vec<SocketAddr>, error: ConnectError) -> Failure {
    if let ConnectError::Proxy(failure) = &error
        && let Some((proxy, refusal)) = failure.refusal()
    {
        return refused(proxy, refusal.clone());
    }
    Failure::Unreachable {
        host: target.to_string(),
        addresses,
        source: error,
    }
}

/// Checks what was connected to earlier, as [`dial`] gave it, for another request; logs it if it is
/// refused.
pub(super) fn check_again(
    egress: &Egress,
    source: Source,
    target: &Target,
    address: Option<IpAddr>,
) -> Result<Route, Failure> {
    let checked = check_target(egress, source, target).and_then(|route| {
        match (route, address) {
            (Route::HostLoopback | Route::OwnLoopback, _) => {}
            (Route::Outside, Some(address)) => {
                egress.policy.check_addresses(target, &[address])?;
            }
            (Route::Outside, None) => egress.policy.check_unresolved(target)?,
        }
        Ok(route)
    });
    checked.map_err(|refusal| {
        let failure = refused(target.to_string(), refusal);
        egress.log.denied(source, target, &failure);
        failure
    })
}

async fn outside_addresses(
    egress: &Egress,
    source: Source,
    target: &Target,
) -> Result<Vec<IpAddr>, Failure> {
    let addresses = match &target.host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => {
            let until = Instant::now() + egress.limits.connect;
            let lookups = &egress.room(source).lookups;
            let answer = look_up(&*egress.uplink, name, until, lookups).await;
            answer.map_err(|source| Failure::Unresolved {
                host: target.host.to_string(),
                source,
            })?
        }
    };
    egress
        .policy
        .check_addresses(target, &addresses)
        .map_err(|refusal| refused(target.to_string(), refusal))?;
    Ok(addresses)
}

/// Every address of a name; at least one. Waits until there is room for one more lookup.
pub(super) async fn look_up(
    uplink: &dyn Uplink,
    name: &str,
    until: Instant,
    room: &Semaphore,
) -> Result<Vec<IpAddr>, LookupError> {
    let lookup = async {
        // Never closed, so this only waits.
        let _room = room.acquire().await;
        uplink.resolve(name).await
    };
    let answer = timeout_at(until, lookup).await;
    match answer.unwrap_or(Err(LookupError::TimedOut)) {
        Ok(addresses) if addresses.is_empty() => Err(LookupError::NoAddress),
        answer => answer,
    }
}

pub(super) fn refused(host: String, refusal: Refusal) -> Failure {
    tracing::debug!(rule = %refusal, "request refused");
    Failure::Refused { host, refusal }
}

/// The first of `addresses` that takes a connection. A proxy on the way that fails by itself is not
/// asked for the next one.
pub(super) async fn first_connected(
    uplink: &dyn Uplink,
    addresses: &[SocketAddr],
    until: Instant,
    extra: &Semaphore,
) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let mut waiting = addresses.iter().copied().peekable();
    let mut tries = FuturesUnordered::new();
    let mut last_error = ConnectError::from(io::Error::from(io::ErrorKind::AddrNotAvailable));
    loop {
        // Beside others only if there is room.
        let room = match tries.is_empty() {
            true => Some(None),
            false => extra.try_acquire().ok().map(Some),
        };
        if let Some(room) = room
            && let Some(address) = waiting.next()
        {
            tries.push(async move {
                let _room = room;
                (address, uplink.connect(address, until).await)
            });
        }
        let ended = if waiting.peek().is_some() {
            match timeout(STAGGER, tries.next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        } else {
            tries.next().await
        };
        match ended {
            Some((address, Ok(stream))) => return Ok((stream, address)),
            Some((_, Err(ConnectError::Proxy(failure)))) if failure.is_of_proxy() => {
                return Err(failure.into());
            }
            Some((_, Err(error))) => last_error = error,
            None => return Err(last_error),
        }
    }
}
