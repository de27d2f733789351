//! A session's own loopback, as its egress proxy reaches it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Weak};

use futures_util::future::BoxFuture;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::egress::OwnLoopback;
use crate::sandbox::{IpFamily, Space};

/// Sockets asked of the spawner at once: a page that opens hundreds of connections must not hold up
/// what other sessions ask of it.
const REQUESTS: usize = 4;

/// The loopback of the runners' network namespace. Does not keep the space alive.
#[derive(Debug)]
pub(super) struct Loopback {
    space: Weak<Space>,
    requests: Arc<Semaphore>,
}

impl Loopback {
    pub(super) fn new(space: &Arc<Space>) -> Self {
        Self {
            space: Arc::downgrade(space),
            requests: Arc::new(Semaphore::new(REQUESTS)),
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
        let place = Arc::clone(&self.requests).acquire_owned().await;
        let place = place.map_err(io::Error::other)?;
        let ended = || io::Error::other("the session has ended");
        // The request outlives a caller that goes away, so it must not hold the space.
        let space = self.space.upgrade().ok_or_else(ended)?;
        let asking = space.runner_socket(family);
        drop(space);
        let socket = until_answered(place, asking).await?;
        let socket = socket.map_err(io::Error::other)?;
        Ok(TcpSocket::from_std_stream(socket))
    }
}

/// Makes a request, and holds its place until the answer is there, even when the caller has gone: a
/// request that was sent is not taken back, and whoever opens and closes connections fast enough
/// could send any number of them.
async fn until_answered<T: Send + 'static>(
    place: OwnedSemaphorePermit,
    request: impl Future<Output = T> + Send + 'static,
) -> io::Result<T> {
    let asking = tokio::spawn(async move {
        let answer = request.await;
        drop(place);
        answer
    });
    asking.await.map_err(io::Error::other)
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_request_keeps_its_place_until_it_is_answered_though_the_caller_went_away() {
        let places = Arc::new(Semaphore::new(1));
        let (answer, answered) = oneshot::channel::<()>();
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let mut asking = Box::pin(until_answered(place, answered));
        assert!(asking.as_mut().now_or_never().is_none());
        drop(asking);
        tokio::task::yield_now().await;
        assert_eq!(places.available_permits(), 0);
        answer.send(()).unwrap();
        let place = places.acquire_owned().await.unwrap();
        assert_eq!(until_answered(place, async { 7 }).await.unwrap(), 7);
    }
}
