//! The handles: spaces, scratches, sandboxes. Each holds what ends it when it is dropped.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use crate::id::{SandboxId, SpaceId};

use super::super::error::Error;
use super::super::spec::{Exit, IpFamily, SandboxSpec, Usage, Weight};
use super::super::usage::Counters;
use super::super::wire::{Command, FileOperation};
use super::{Answered, EndOnDrop, KILLED, Kind, Shared, unexpected};

/// A session's ground: uid, scratch, two network namespaces, a cgroup.
#[derive(Debug)]
pub struct Space {
    /// In the order of `SpaceSpec::runner_ports`; non-blocking.
    pub runner_listeners: Vec<TcpListener>,
    /// In the order of `SpaceSpec::browser_ports`; non-blocking.
    pub browser_listeners: Vec<TcpListener>,
    pub(super) scratch: Scratch,
    pub(super) end: EndOnDrop,
}

impl Space {
    /// Its number; never used again.
    pub fn id(&self) -> SpaceId {
        self.scratch.space
    }

    /// The session's files.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Builds a sandbox and starts its program; returns when execve has succeeded. Cancel safe: a
    /// dropped call leaves nothing.
    ///
    /// # Errors
    /// A spec that makes no sense, or the step that failed.
    pub async fn spawn(&self, spec: SandboxSpec) -> Result<Sandbox, Error> {
        let kind = Kind::Sandbox(spec.control);
        let command = Command::Spawn(self.id(), spec);
        match self.end.shared.call(kind, command).await? {
            Answered::Sandbox(sandbox) => Ok(sandbox),
            other => Err(unexpected(&other)),
        }
    }

    /// Says how much of the cores it gets while others want them too; at first [`Weight::Normal`].
    /// Where no cgroup limits cpu this does nothing.
    ///
    /// # Errors
    /// When the space is gone, or the kernel refuses.
    pub async fn weigh(&self, weight: Weight) -> Result<(), Error> {
        let command = Command::Weigh(self.id(), weight);
        self.end.shared.call(Kind::Done, command).await.map(drop)
    }

    /// Opens a socket inside the runners' network namespace, not yet connected, non-blocking.
    ///
    /// # Errors
    /// When the space is gone or no socket can be made.
    pub fn runner_socket(
        &self,
        family: IpFamily,
    ) -> impl Future<Output = Result<TcpStream, Error>> + Send + use<> {
        let shared = Arc::clone(&self.end.shared);
        let command = Command::RunnerSocket(self.id(), family);
        async move {
            match shared.call(Kind::Fd, command).await? {
                Answered::Fd(fd) => Ok(TcpStream::from(fd)),
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Kills what is left, and returns when processes, mounts, cgroups and namespaces are gone.
    /// Dropping a space does the same in the background.
    ///
    /// # Errors
    /// When the spawner died, which ends the space too.
    pub async fn close(mut self) -> Result<(), Error> {
        match self.end.command.take() {
            Some(command) => self.end.shared.call(Kind::Done, command).await.map(drop),
            None => Ok(()),
        }
    }
}

/// The scratch as seen from outside; paths as inside, below `/tmp`, `/workspace` or
/// `/run/agent-browser`. Everything is
/// done by the spawner as the session's own user, never following a link. Cheap to clone; fails
/// once the space is closed.
#[derive(Clone, Debug)]
pub struct Scratch {
    pub(super) space: SpaceId,
    pub(super) shared: Arc<Shared>,
}

impl Scratch {
    async fn file(&self, operation: FileOperation) -> Result<Answered, Error> {
        self.shared
            .call(Kind::Fd, Command::File(self.space, operation))
            .await
    }

    async fn open_with(&self, operation: FileOperation) -> Result<File, Error> {
        match self.file(operation).await? {
            Answered::Fd(fd) => Ok(File::from(fd)),
            other => Err(unexpected(&other)),
        }
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// errno of the open; EINVAL for what is not a regular file or not in the scratch; ELOOP for
    /// a link on the way.
    pub async fn open(&self, path: &Path) -> Result<File, Error> {
        self.open_with(FileOperation::Open(path.to_owned())).await
    }

    /// Makes a new regular file (mode 0600, owned by the session's uid) and opens it for writing;
    /// missing parent directories are made.
    ///
    /// # Errors
    /// As [`Scratch::open`]; EEXIST when there is something.
    pub async fn create(&self, path: &Path) -> Result<File, Error> {
        self.open_with(FileOperation::Create(path.to_owned())).await
    }

    /// Makes a regular file appear at a second path too, by hard link; missing parent directories
    /// are made (mode 0700, owned by the session's uid).
    ///
    /// # Errors
    /// As [`Scratch::open`]; EEXIST when there is something; EXDEV never: the scratch is one file
    /// system here.
    pub async fn link(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let operation = FileOperation::Link {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        self.file(operation).await.map(drop)
    }

    /// Removes a file, socket or link itself; not a directory.
    ///
    /// # Errors
    /// As [`Scratch::open`]; ENOENT when there is none.
    pub async fn remove(&self, path: &Path) -> Result<(), Error> {
        self.file(FileOperation::Remove(path.to_owned()))
            .await
            .map(drop)
    }

    /// Makes a directory, and those above it, readable and writable by the session's uid only.
    ///
    /// # Errors
    /// As [`Scratch::open`].
    pub async fn create_dir_all(&self, path: &Path) -> Result<(), Error> {
        self.file(FileOperation::CreateDirs(path.to_owned()))
            .await
            .map(drop)
    }
}

/// The daemon's ends of a sandbox's control fds.
#[derive(Debug)]
pub enum ControlEnd {
    /// There are none.
    None,
    /// Non-blocking stream socket.
    Frames(UnixStream),
    /// Chromium's debugging pipe; both non-blocking.
    CdpPipe {
        /// Writes to its fd 3.
        to: OwnedFd,
        /// Reads its fd 4.
        from: OwnedFd,
    },
}

/// A running sandbox. Dropping it kills it.
#[derive(Debug)]
pub struct Sandbox {
    /// Read end of its stdout pipe; non-blocking.
    pub stdout: Option<OwnedFd>,
    /// Read end of its stderr pipe; non-blocking.
    pub stderr: Option<OwnedFd>,
    /// The other ends of its fds 3 and up.
    pub control: ControlEnd,
    pub(super) id: SandboxId,
    pub(super) counters: Counters,
    pub(super) exit: watch::Receiver<Option<Exit>>,
    pub(super) end: EndOnDrop,
}

impl Sandbox {
    /// Its number; never used again.
    pub fn id(&self) -> SandboxId {
        self.id
    }

    /// Starts killing it; idempotent, does not wait.
    pub fn kill(&self) {
        if self.exit.borrow().is_none() {
            self.end.shared.post(Command::Kill(self.id));
        }
    }

    /// Waits until nothing of it is left (pid 1 reaped by the spawner). Cancel safe, callable
    /// by several, also after it ended.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await;
        ended.ok().and_then(|exit| *exit).unwrap_or(KILLED)
    }

    /// Whether nothing of it is left.
    pub fn has_ended(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// What it used so far. Where a cgroup counts, this reads open files, in microseconds; else it
    /// asks the spawner, which adds up the processes.
    pub async fn usage(&self) -> Usage {
        if let Some(exit) = *self.exit.borrow() {
            return exit.usage;
        }
        if self.counters.count_cpu() {
            return self.counters.read();
        }
        match self
            .end
            .shared
            .call(Kind::Usage, Command::Usage(self.id))
            .await
        {
            Ok(Answered::Usage(usage)) => usage,
            // The spawner is gone, and with it the sandbox.
            _ => Usage::default(),
        }
    }

    /// Starts a new peak: `usage().peak_memory` then counts from now. Without effect where the
    /// kernel cannot (cgroup version 2 before Linux 6.12).
    pub fn reset_peak(&self) {
        self.counters.reset_peak();
    }
}
