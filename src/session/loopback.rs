//! A session's own loopback, as its egress proxy reaches it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Weak};

use futures_util::future::BoxFuture;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use crate::egress::OwnLoopback;
use crate::sandbox::{IpFamily, Space};

/// Sockets asked of the spawner at once: a page that opens hundreds of connections must not hold up
/// what other sessions ask of it.
const REQUESTS: usize = 4;

/// The loopback of the runners' network namespace. Does not keep the space alive.
#[derive(Debug)]
pub(super) struct Loopback {
    space: Weak<Space>,
    requests: Semaphore,
}

impl Loopback {
    pub(super) fn new(space: &Arc<Space>) -> Self {
        Self {
            space: Arc::downgrade(space),
            requests: Semaphore::new(REQUESTS),
        }
    }

    async fn connect_to(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = self.socket(address).await?.connect(address).await?;
        // Where nothing listens, a connection may get the port it wants to reach as its own, and so
        // reach itself.
        if stream.local_addr()? == address {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(stream)
    }

    async fn socket(&self, address: SocketAddr) -> io::Result<TcpSocket> {
        let family = match address {
            SocketAddr::V4(_) => IpFamily::V4,
            SocketAddr::V6(_) => IpFamily::V6,
        };
        let _place = self.requests.acquire().await.map_err(io::Error::other)?;
        let ended = || io::Error::other("the session has ended");
        let space = self.space.upgrade().ok_or_else(ended)?;
        let socket = space
            .runner_socket(family)
            .await
            .map_err(io::Error::other)?;
        Ok(TcpSocket::from_std_stream(socket))
    }
}

impl OwnLoopback for Loopback {
    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(async move {
            match self.connect_to((Ipv4Addr::LOCALHOST, port).into()).await {
                // A server may listen on either. A host without IPv6 has no second place to look.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    let second = self.connect_to((Ipv6Addr::LOCALHOST, port).into()).await;
                    second.map_err(|_| error)
                }
                first => first,
            }
        })
    }
}
