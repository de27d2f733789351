//! Network namespaces: each has only `lo`; sockets made in them are passed out to the daemon.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket,
    sockopt,
};

use super::error::StepError;
use super::spec::IpFamily;
use super::sys;

/// Connections a listener holds before the daemon accepts them. One more than these waits a second
/// until it tries again, so a browser's burst must fit: Chromium opens up to 32 plain connections and
/// 255 WebSockets, while the daemon may just be busy.
const BACKLOG: i32 = 512;

/// A network namespace, held open.
pub(super) struct Netns(File);

fn failed(detail: &str) -> impl FnOnce(Errno) -> StepError + '_ {
    move |errno| StepError::new("network-namespace", errno, detail)
}

impl Netns {
    /// The one this process is in.
    pub(super) fn current() -> Result<Self, StepError> {
        File::open("/proc/self/ns/net")
            .map(Self)
            .map_err(|error| StepError::io("network-namespace", &error, "/proc/self/ns/net"))
    }

    /// Moves this process into a new namespace with `lo` up.
    pub(super) fn enter_new() -> Result<Self, StepError> {
        unshare(CloneFlags::CLONE_NEWNET).map_err(failed("unshare"))?;
        sys::loopback_up(tcp_socket(IpFamily::V4)?).map_err(failed("lo up"))?;
        Self::current()
    }

    /// Moves this process into it.
    pub(super) fn enter(&self) -> Result<(), StepError> {
        setns(&self.0, CloneFlags::CLONE_NEWNET).map_err(failed("setns"))
    }
}

/// A TCP socket of the current namespace, not connected, non-blocking.
pub(super) fn tcp_socket(family: IpFamily) -> Result<OwnedFd, StepError> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let family = match family {
        IpFamily::V4 => AddressFamily::Inet,
        IpFamily::V6 => AddressFamily::Inet6,
    };
    socket(family, SockType::Stream, flags, None).map_err(failed("socket"))
}

/// A non-blocking listener on 127.0.0.1 of the current namespace.
pub(super) fn listener(port: u16) -> Result<TcpListener, StepError> {
    let detail = format!("listen on 127.0.0.1:{port}");
    let socket = tcp_socket(IpFamily::V4)?;
    let address = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    setsockopt(&socket, sockopt::ReuseAddr, &true)
        .and_then(|()| bind(socket.as_raw_fd(), &address))
        .and_then(|()| listen(&socket, Backlog::new(BACKLOG)?))
        .map_err(failed(&detail))?;
    Ok(TcpListener::from(socket))
}
