//! From a target to a connection: policy, lookup, policy, connect.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Egress;
use super::answer::Failure;
use super::policy::Route;
use super::target::{Host, Target};
use super::uplink::{LookupError, Uplink};

/// A second address is tried beside the first after this long (RFC 8305 recommends 250 ms): a host
/// without working IPv6 must not wait for the whole timeout.
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses tried of one answer; all of them are checked.
const MAX_TRIES: usize = 8;

/// Connects to `target` if the policy allows it. The address is the one connected to.
pub(super) async fn dial(egress: &Egress, target: &Target) -> Result<(TcpStream, IpAddr), Failure> {
    let route = egress.policy.check_target(target);
    let route = route.map_err(|refusal| refused(target, refusal))?;
    let addresses = match route {
        Route::OwnLoopback => return dial_own_loopback(egress, target).await,
        // A development server may listen on either.
        Route::HostLoopback => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        Route::Outside => outside_addresses(egress, target).await?,
    };
    let sockets = addresses
        .into_iter()
        .take(MAX_TRIES)
        .map(|address| SocketAddr::new(address, target.port));
    let connecting = first_connected(&*egress.uplink, sockets);
    match timeout(egress.limits.connect, connecting).await {
        Ok(Ok((stream, address))) => {
            // Small writes of interactive protocols must not wait for each other's ACKs.
            stream
                .set_nodelay(true)
                .map_err(|source| unreachable_host(target, source))?;
            Ok((stream, address.ip()))
        }
        Ok(Err(source)) => Err(unreachable_host(target, source)),
        Err(_) => Err(Failure::ConnectTimeout {
            host: target.to_string(),
        }),
    }
}

async fn dial_own_loopback(
    egress: &Egress,
    target: &Target,
) -> Result<(TcpStream, IpAddr), Failure> {
    let connecting = egress.own_loopback.connect(target.port);
    let Ok(connected) = timeout(egress.limits.connect, connecting).await else {
        return Err(Failure::ConnectTimeout {
            host: target.to_string(),
        });
    };
    let usable = connected.and_then(|stream| {
        stream.set_nodelay(true)?;
        let address = stream.peer_addr()?.ip();
        Ok((stream, address))
    });
    usable.map_err(|source| match source.kind() {
        io::ErrorKind::ConnectionRefused => Failure::NothingListens { port: target.port },
        _ => unreachable_host(target, source),
    })
}

fn unreachable_host(target: &Target, source: io::Error) -> Failure {
    Failure::Unreachable {
        host: target.to_string(),
        source,
    }
}

/// Checks an address that was connected to earlier, for another request.
pub(super) fn check_again(
    egress: &Egress,
    target: &Target,
    address: IpAddr,
) -> Result<(), Failure> {
    let checked = egress
        .policy
        .check_target(target)
        .and_then(|route| match route {
            Route::HostLoopback | Route::OwnLoopback => Ok(()),
            Route::Outside => egress.policy.check_addresses(target, &[address]),
        });
    checked.map_err(|refusal| refused(target, refusal))
}

async fn outside_addresses(egress: &Egress, target: &Target) -> Result<Vec<IpAddr>, Failure> {
    let addresses = match &target.host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => {
            let lookup = timeout(egress.limits.connect, egress.uplink.resolve(name));
            let answer = lookup.await.unwrap_or(Err(LookupError::TimedOut));
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
        .map_err(|refusal| refused(target, refusal))?;
    Ok(addresses)
}

fn refused(target: &Target, refusal: super::Refusal) -> Failure {
    tracing::debug!(rule = %refusal, "request refused");
    Failure::Refused {
        host: target.to_string(),
        refusal,
    }
}

async fn first_connected(
    uplink: &dyn Uplink,
    addresses: impl Iterator<Item = SocketAddr>,
) -> io::Result<(TcpStream, SocketAddr)> {
    let mut waiting = addresses.peekable();
    let mut tries = FuturesUnordered::new();
    let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = waiting.next() {
            tries.push(async move { (address, uplink.connect(address).await) });
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
            Some((_, Err(error))) => last_error = error,
            None => return Err(last_error),
        }
    }
}
