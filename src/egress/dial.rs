//! From a target to a connection: policy, lookup, policy, connect.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::Failure;
use super::policy::Route;
use super::target::{Host, Target};
use super::uplink::{ConnectError, LookupError, Uplink};
use super::{Egress, Refusal};

/// A second address is tried beside the first after this long (RFC 8305 recommends 250 ms): a host
/// without working IPv6 must not wait for the whole timeout.
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses tried of one answer; all of them are checked.
pub(super) const MAX_TRIES: usize = 8;

/// Connects to `target` if the policy allows it. The address is the one connected to; there is none
/// when the name was left to an upstream proxy.
pub(super) async fn dial(
    egress: &Egress,
    target: &Target,
) -> Result<(TcpStream, Option<IpAddr>), Failure> {
    let route = egress.policy.check_target(target);
    let route = route.map_err(|refusal| refused(target.to_string(), refusal))?;
    let (stream, address) = match route {
        Route::OwnLoopback => own_loopback(egress, target).await?,
        // A development server may listen on either.
        Route::HostLoopback => {
            let addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            connect_to(egress, target, addresses).await?
        }
        Route::Outside => match by_name(egress, target).await? {
            Some(stream) => (stream, None),
            None => {
                let addresses = outside_addresses(egress, target).await?;
                connect_to(egress, target, addresses).await?
            }
        },
    };
    // Small writes of interactive protocols must not wait for each other's ACKs.
    stream
        .set_nodelay(true)
        .map_err(|source| not_connected(target, source.into()))?;
    Ok((stream, address))
}

async fn own_loopback(
    egress: &Egress,
    target: &Target,
) -> Result<(TcpStream, Option<IpAddr>), Failure> {
    let connecting = egress.own_loopback.connect(target.port);
    let Ok(connected) = timeout(egress.limits.connect, connecting).await else {
        return Err(not_connected(target, ConnectError::TimedOut));
    };
    let usable = connected.and_then(|stream| {
        let address = stream.peer_addr()?.ip();
        Ok((stream, Some(address)))
    });
    usable.map_err(|source| match source.kind() {
        io::ErrorKind::ConnectionRefused => Failure::NothingListens { port: target.port },
        _ => not_connected(target, source.into()),
    })
}

async fn connect_to(
    egress: &Egress,
    target: &Target,
    addresses: Vec<IpAddr>,
) -> Result<(TcpStream, Option<IpAddr>), Failure> {
    let sockets = addresses
        .into_iter()
        .take(MAX_TRIES)
        .map(|address| SocketAddr::new(address, target.port));
    let until = Instant::now() + egress.limits.connect;
    let connected = first_connected(&*egress.uplink, sockets, until).await;
    let (stream, address) = connected.map_err(|error| not_connected(target, error))?;
    Ok((stream, Some(address.ip())))
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
        .map_err(|error| not_connected(target, error))
}

fn not_connected(target: &Target, error: ConnectError) -> Failure {
    if let ConnectError::Proxy(failure) = &error
        && let Some((proxy, refusal)) = failure.refusal()
    {
        return refused(proxy, refusal.clone());
    }
    Failure::Unreachable {
        host: target.to_string(),
        source: error,
    }
}

/// Checks what was connected to earlier, as [`dial`] gave it, for another request.
pub(super) fn check_again(
    egress: &Egress,
    target: &Target,
    address: Option<IpAddr>,
) -> Result<(), Failure> {
    let checked = egress
        .policy
        .check_target(target)
        .and_then(|route| match route {
            Route::HostLoopback | Route::OwnLoopback => Ok(()),
            Route::Outside => match address {
                Some(address) => egress.policy.check_addresses(target, &[address]),
                None => egress.policy.check_unresolved(target),
            },
        });
    checked.map_err(|refusal| refused(target.to_string(), refusal))
}

async fn outside_addresses(egress: &Egress, target: &Target) -> Result<Vec<IpAddr>, Failure> {
    let addresses = match &target.host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => {
            let until = Instant::now() + egress.limits.connect;
            let answer = look_up(&*egress.uplink, name, until).await;
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

/// Every address of a name; at least one.
pub(super) async fn look_up(
    uplink: &dyn Uplink,
    name: &str,
    until: Instant,
) -> Result<Vec<IpAddr>, LookupError> {
    let answer = timeout_at(until, uplink.resolve(name)).await;
    match answer.unwrap_or(Err(LookupError::TimedOut)) {
        Ok(addresses) if addresses.is_empty() => Err(LookupError::NoAddress),
        answer => answer,
    }
}

fn refused(host: String, refusal: Refusal) -> Failure {
    tracing::debug!(rule = %refusal, "request refused");
    Failure::Refused { host, refusal }
}

/// The first of `addresses` that takes a connection. A proxy on the way that fails by itself is not
/// asked for the next one.
pub(super) async fn first_connected(
    uplink: &dyn Uplink,
    addresses: impl Iterator<Item = SocketAddr>,
    until: Instant,
) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let mut waiting = addresses.peekable();
    let mut tries = FuturesUnordered::new();
    let mut last_error = ConnectError::from(io::Error::from(io::ErrorKind::AddrNotAvailable));
    loop {
        if let Some(address) = waiting.next() {
            tries.push(async move { (address, uplink.connect(address, until).await) });
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
