//! A session's own loopback, as its egress proxy reaches it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};

use futures_util::future::BoxFuture;
use tokio::net::{TcpSocket, TcpStream};

use crate::egress::OwnLoopback;
use crate::sandbox::Space;

/// The loopback of the runners' network namespace. Does not keep the space alive.
#[derive(Debug)]
pub(super) struct Loopback(Weak<Space>);

impl Loopback {
    pub(super) fn new(space: &Arc<Space>) -> Self {
        Self(Arc::downgrade(space))
    }
}

impl OwnLoopback for Loopback {
    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(async move {
            let space = self
                .0
                .upgrade()
                .ok_or_else(|| io::Error::other("the session has ended"))?;
            let socket = space.runner_socket().await.map_err(io::Error::other)?;
            TcpSocket::from_std_stream(socket)
                .connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
                .await
        })
    }
}
