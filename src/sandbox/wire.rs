//! What daemon and spawner say to each other: one JSON message per SEQPACKET datagram, file
//! descriptors beside it. Both ends are ours and of one build, so there is no version in it.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::id::{SandboxId, SpaceId};

use super::error::StepError;
use super::spec::{
    Exit, HostReport, IpFamily, SandboxSpec, SpaceSpec, SpawnerConfig, Usage, Weight,
};
use super::sys;

/// Longest message: fits the default socket buffer of 208 KiB with room for overhead.
pub(super) const MAX_MESSAGE: usize = 128 << 10;
/// Most descriptors in one message; the kernel's own limit is 253.
const MAX_FDS: usize = 192;

/// First message to the spawner; with it comes a memfd that holds the config as JSON.
#[derive(Serialize, Deserialize)]
pub(super) struct Start {
    /// The daemon's process id, to detect that it died before the spawner could watch it.
    pub(super) daemon_pid: i32,
}

/// What that memfd holds.
pub(super) type StartConfig = SpawnerConfig;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) id: u64,
    pub(super) command: Command,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Command {
    CreateSpace(SpaceSpec),
    CloseSpace(SpaceId),
    Weigh(SpaceId, Weight),
    Spawn(SpaceId, SandboxSpec),
    Kill(SandboxId),
    /// What a sandbox used; for those without counters.
    Usage(SandboxId),
    RunnerSocket(SpaceId, IpFamily),
    File(SpaceId, FileOperation),
    Shutdown,
}

/// One operation in a scratch; paths as inside.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FileOperation {
    Open(PathBuf),
    Create(PathBuf),
    Link { from: PathBuf, to: PathBuf },
    CreateDirs(PathBuf),
    Remove(PathBuf),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// First message of the spawner.
    Hello(Result<HostReport, Refusal>),
    Reply(u64, Result<Reply, StepError>),
    Exited(SandboxId, Exit),
}

/// Why the spawner does not start.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Refusal {
    Host(HostReport),
    Step(StepError),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// fds: the runners' listeners, then the browser's.
    Space(SpaceId),
    /// fds: stdout, stderr, control ends, then one per counter.
    Spawned(SandboxId, Vec<CounterKind>),
    /// fds: one.
    Fd,
    Usage(Usage),
    Done,
}

/// What an open cgroup file counts, and how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum CounterKind {
    /// A number of bytes; writing starts a new peak.
    MemoryPeak,
    /// Lines of words; `oom_kill N`, and on version 2 `oom N`.
    MemoryEvents,
    /// A number of times.
    MemoryReached,
    /// The space's: a number of times, or on version 2 lines of words; `oom N`.
    SpaceMemoryReached,
    /// Lines of words; `max N`.
    PidsEvents,
    /// A number of nanoseconds.
    CpuNanoseconds,
    /// Lines of words; `usage_usec N` and `throttled_usec N`.
    CpuStat,
    /// Lines of words; `throttled_time N` in nanoseconds.
    CpuThrottled,
}

/// Sends one message; blocks when the peer does not read, unless the socket is non-blocking.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
        return Err(io::Error::from(io::ErrorKind::ArgumentListTooLong));
    }
    let fds: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &[][..] } else { &rights[..] };
    loop {
        let sent = sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(&bytes)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        match sent {
            Err(nix::errno::Errno::EINTR) => {}
            other => return other.map(drop).map_err(Into::into),
        }
    }
}

/// Receives one message with its descriptors (all close-on-exec); `None` when the peer is gone.
pub(super) fn receive<T: DeserializeOwned>(
    socket: impl AsFd,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MAX_MESSAGE];
    let mut space = cmsg_space!([RawFd; MAX_FDS]);
    let (length, cut, fds) = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg::<()>(
            socket.as_fd().as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        let mut fds = Vec::new();
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = message {
                fds.extend(numbers.into_iter().map(sys::owned));
            }
        }
        let cut = MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC;
        (received.bytes, received.flags.intersects(cut), fds)
    };
    if length == 0 {
        return Ok(None);
    }
    if cut {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "message was cut",
        ));
    }
    let message = serde_json::from_slice(&bytes[..length])?;
    Ok(Some((message, fds)))
}
