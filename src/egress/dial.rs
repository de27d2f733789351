//! From a target to a connection: policy, lookup, policy, connect.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::answer::Failure;
use super::log::Recording;
use super::policy::Route;
use super::target::{Host, Target};
use super::uplink::{LookupError, Uplink};
use super::watched::{Traffic, Watched};
use super::{Egress, Refusal, Source};

/// A second address is tried beside the first after this long (RFC 8305 recommends 250 ms): a host
/// without working IPv6 must not wait for the whole timeout.
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses tried of one answer; all of them are checked.
const MAX_TRIES: usize = 8;
/// Names looked up at once for one listener; more wait, within the time a lookup has. Each lookup
/// holds a few sockets of the daemon.
const LOOKUPS: usize = 16;
/// Addresses tried at once beside first ones for one listener; without room an address is tried
/// when the one before it has failed.
const EXTRA_TRIES: usize = 8;
/// File descriptors of the daemon one listener takes beside those of its connections: four
/// sockets a lookup (IPv4 and IPv6, at two name servers), and the extra tries.
pub(super) const EXTRA_FILES: usize = 4 * LOOKUPS + EXTRA_TRIES;

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
    pub(super) address: IpAddr,
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
    let (stream, address) = match connect(egress, source, target).await {
        Ok(connected) => connected,
        Err(failure) => {
            match earlier {
                Some(mut recording) => recording.failed(&failure),
                None => egress.log.denied(source, target, &failure),
            }
            return Err(failure);
        }
    };
    let (stream, traffic) = Watched::host(stream, egress.log.meter());
    let recording = match earlier {
        Some(mut recording) => {
            recording.moved(address, &traffic);
            recording
        }
        None => egress.log.allowed(source, target, address, &traffic),
    };
    Ok(Dialled {
        stream,
        traffic,
        address,
        recording,
    })
}

async fn connect(
    egress: &Egress,
    source: Source,
    target: &Target,
) -> Result<(TcpStream, IpAddr), Failure> {
    let addresses = allowed_addresses(egress, source, target).await?;
    let sockets: Vec<SocketAddr> = addresses
        .into_iter()
        .take(MAX_TRIES)
        .map(|address| SocketAddr::new(address, target.port))
        .collect();
    let extra = &egress.room(source).extra_tries;
    let connecting = first_connected(&*egress.uplink, &sockets, extra);
    match timeout(egress.limits.connect, connecting).await {
        Ok(Ok((stream, address))) => {
            // Small writes of interactive protocols must not wait for each other's ACKs.
            stream
                .set_nodelay(true)
                .map_err(|source| unreachable_host(target, Some(address), source))?;
            Ok((stream, address.ip()))
        }
        Ok(Err((address, source))) => Err(unreachable_host(target, address, source)),
        Err(_) => Err(Failure::ConnectTimeout {
            host: target.to_string(),
            addresses: sockets
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

fn unreachable_host(target: &Target, address: Option<SocketAddr>, source: io::Error) -> Failure {
    Failure::Unreachable {
        host: target.to_string(),
        address,
        source,
    }
}

/// Checks an address that was connected to earlier, for another request; logs it if it is refused.
pub(super) fn check_again(
    egress: &Egress,
    source: Source,
    target: &Target,
    address: IpAddr,
) -> Result<(), Failure> {
    let checked = check_target(egress, target).and_then(|route| match route {
        Route::HostLoopback => Ok(()),
        Route::Outside => egress.policy.check_addresses(target, &[address]),
    });
    checked.map_err(|refusal| {
        let failure = refused(target, refusal);
        egress.log.denied(source, target, &failure);
        failure
    })
}

/// The rules of the host and the port, then the byte limit.
fn check_target(egress: &Egress, target: &Target) -> Result<Route, Refusal> {
    let route = egress.policy.check_target(target)?;
    egress.log.check()?;
    Ok(route)
}

async fn allowed_addresses(
    egress: &Egress,
    source: Source,
    target: &Target,
) -> Result<Vec<IpAddr>, Failure> {
    let refused = |refusal| refused(target, refusal);
    let route = check_target(egress, target).map_err(refused)?;
    let addresses = match (route, &target.host) {
        // A development server may listen on either.
        (Route::HostLoopback, _) => {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        (Route::Outside, Host::Address(address)) => vec![*address],
        (Route::Outside, Host::Name(name)) => {
            let lookup = async {
                // Never closed, so this only waits.
                let _room = egress.room(source).lookups.acquire().await;
                egress.uplink.resolve(name).await
            };
            let answer = timeout(egress.limits.connect, lookup).await;
            let answer = answer.unwrap_or(Err(LookupError::TimedOut));
            let answer = answer.and_then(|addresses| match addresses.is_empty() {
                true => Err(LookupError::NoAddress),
                false => Ok(addresses),
            });
            answer.map_err(|source| Failure::Unresolved {
                host: target.host.to_string(),
                source,
            })?
        }
    };
    egress
        .policy
        .check_addresses(target, &addresses)
        .map_err(refused)?;
    Ok(addresses)
}

pub(super) fn refused(target: &Target, refusal: Refusal) -> Failure {
    tracing::debug!(rule = %refusal, "request refused");
    Failure::Refused {
        host: target.to_string(),
        refusal,
    }
}

/// The first of `addresses` that takes a connection; otherwise the last error and its address.
async fn first_connected(
    uplink: &dyn Uplink,
    addresses: &[SocketAddr],
    extra: &Semaphore,
) -> Result<(TcpStream, SocketAddr), (Option<SocketAddr>, io::Error)> {
    let mut waiting = addresses.iter().copied().peekable();
    let mut tries = FuturesUnordered::new();
    let mut last_error = (None, io::Error::from(io::ErrorKind::AddrNotAvailable));
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
                (address, uplink.connect(address).await)
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
            Some((address, Err(error))) => last_error = (Some(address), error),
            None => return Err(last_error),
        }
    }
}
