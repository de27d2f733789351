//! The daemon's side: handles on the spawner, its spaces and its sandboxes.
//!
//! One task reads what the spawner says; requests are written in order by another. Each request
//! has a reply; a caller that has gone away by then drops what the reply brings, and dropping a
//! handle ends what it stands for, so a cancelled call leaves nothing.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};

use crate::id::{SandboxId, SpaceId};

use super::error::{Error, StepError};
use super::process::SpawnerProcess;
use super::spec::{Control, Exit, ExitStatus, HostReport, SandboxSpec, SpaceSpec, Usage};
use super::sys;
use super::usage::Counters;
use super::wire::{self, Command, FileOperation, Message, Reply, Request};

/// Handle on the spawner; cheap to clone.
#[derive(Clone, Debug)]
pub struct Sandboxes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    report: HostReport,
    /// Unbounded, because a `Drop` cannot wait; holds one message per caller that waits for a
    /// reply, and at most two per live handle.
    requests: mpsc::UnboundedSender<Request>,
    state: Mutex<State>,
    /// True when the spawner is gone.
    died: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    next_request: u64,
    /// Callers that wait; `None` as the sender when no one does.
    waiting: HashMap<u64, Waiting>,
    sandboxes: HashMap<SandboxId, watch::Sender<Option<Exit>>>,
    dead: bool,
}

type Answer = Result<Answered, Error>;

#[derive(Debug)]
struct Waiting {
    kind: Kind,
    answer: oneshot::Sender<Answer>,
}

/// What a reply is turned into.
#[derive(Debug)]
enum Kind {
    Space { runner_ports: usize },
    Sandbox(Control),
    Fd,
    Done,
}

#[derive(Debug)]
enum Answered {
    Space(Space),
    Sandbox(Sandbox),
    Fd(OwnedFd),
    Done,
}

/// One of the spawner's ends that a handle closes or kills when dropped.
#[derive(Debug)]
struct EndOnDrop {
    shared: Arc<Shared>,
    command: Option<Command>,
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if let Some(command) = self.command.take() {
            self.shared.post(command);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request and registers who waits for its reply.
    fn ask(&self, kind: Kind, command: Command) -> Result<oneshot::Receiver<Answer>, Error> {
        let (answer, receiver) = oneshot::channel();
        let mut state = self.state();
        if state.dead {
            return Err(Error::SpawnerDied);
        }
        state.next_request += 1;
        let id = state.next_request;
        state.waiting.insert(id, Waiting { kind, answer });
        // Under the lock, so that death either sees this entry or is seen above.
        self.requests
            .send(Request { id, command })
            .map_err(|_| Error::SpawnerDied)?;
        Ok(receiver)
    }

    /// Sends a request whose reply no one waits for.
    fn post(&self, command: Command) {
        // A dead spawner has nothing left to end.
        let _ = self.ask(Kind::Done, command);
    }

    async fn call(&self, kind: Kind, command: Command) -> Result<Answered, Error> {
        self.ask(kind, command)?
            .await
            .unwrap_or(Err(Error::SpawnerDied))
    }

    fn end(&self) {
        let mut state = self.state();
        state.dead = true;
        state.waiting.clear();
        for (_, exit) in state.sandboxes.drain() {
            exit.send_replace(Some(KILLED));
        }
        drop(state);
        self.died.send_replace(true);
    }
}

/// What is known of a sandbox whose spawner died: it died with it.
const KILLED: Exit = Exit {
    status: ExitStatus::Killed,
    usage: Usage {
        cpu_time: std::time::Duration::ZERO,
        peak_memory: None,
        oom_kills: 0,
    },
};

impl Sandboxes {
    /// Takes over the command socket inside a tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be registered with the runtime.
    pub fn connect(process: SpawnerProcess) -> Result<Self, Error> {
        let SpawnerProcess {
            socket,
            child,
            report,
        } = process;
        let failed = |source| Error::StartSpawner {
            what: "connect",
            source,
        };
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|errno| failed(io::Error::from(errno)))?;
        let socket = sys::async_fd(socket).map_err(failed)?;
        let (requests, queue) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            report,
            requests,
            state: Mutex::default(),
            died: watch::Sender::new(false),
        });
        tokio::spawn(run(Arc::clone(&shared), socket, queue, child));
        Ok(Self(shared))
    }

    /// What this host isolates, probed by using it.
    pub fn report(&self) -> &HostReport {
        &self.0.report
    }

    /// Makes a session's ground. Cancel safe: a dropped call leaves nothing.
    ///
    /// # Errors
    /// A spec that makes no sense, no uid left, or a step that failed.
    pub async fn create_space(&self, spec: SpaceSpec) -> Result<Space, Error> {
        let kind = Kind::Space {
            runner_ports: spec.runner_ports.len(),
        };
        match self.0.call(kind, Command::CreateSpace(spec)).await? {
            Answered::Space(space) => Ok(space),
            other => Err(unexpected(&other)),
        }
    }

    /// Resolves when the spawner has died (the daemon must then exit: fail closed).
    pub async fn died(&self) {
        // The sender lives in `self`, so this ends only when the value is true.
        let _ = self.0.died.subscribe().wait_for(|died| *died).await;
    }

    /// Ends the spawner and everything in it; returns when it is gone.
    pub async fn shutdown(&self) {
        self.0.post(Command::Shutdown);
        self.died().await;
    }
}

fn unexpected(answer: &Answered) -> Error {
    Error::Protocol(format!("unexpected answer {answer:?}"))
}

/// The task behind the handles: reads messages and writes requests until the spawner is gone.
async fn run(
    shared: Arc<Shared>,
    socket: AsyncFd<OwnedFd>,
    mut queue: mpsc::UnboundedReceiver<Request>,
    mut child: Child,
) {
    let read = async {
        loop {
            let received = socket
                .async_io(Interest::READABLE, |fd| wire::receive::<Message>(fd))
                .await;
            match received {
                Ok(Some((message, fds))) => handle(&shared, message, fds),
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "cannot read from the spawner");
                    return;
                }
            }
        }
    };
    let write = async {
        while let Some(request) = queue.recv().await {
            let sent = socket
                .async_io(Interest::WRITABLE, |fd| {
                    wire::send(fd.as_fd(), &request, &[])
                })
                .await;
            match sent {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::ArgumentListTooLong => {
                    let reason = Error::Invalid("arguments and environment are too long".into());
                    if let Some(waiting) = shared.state().waiting.remove(&request.id) {
                        // Nobody may be waiting any more.
                        let _ = waiting.answer.send(Err(reason));
                    }
                }
                // The reader sees the same end.
                Err(_) => std::future::pending().await,
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
    // Closing the socket ends a spawner that still lives.
    drop(socket);
    let ended = tokio::task::spawn_blocking(move || child.wait()).await;
    tracing::debug!(?ended, "spawner ended");
    shared.end();
}

fn handle(shared: &Arc<Shared>, message: Message, fds: Vec<OwnedFd>) {
    match message {
        Message::Hello(_) => tracing::error!("a second hello from the spawner"),
        Message::Exited(id, exit) => {
            if let Some(sender) = shared.state().sandboxes.remove(&id) {
                sender.send_replace(Some(exit));
            }
        }
        Message::Reply(id, result) => {
            let Some(waiting) = shared.state().waiting.remove(&id) else {
                tracing::error!(id, "a reply no one asked for");
                return;
            };
            let answer = answer(shared, waiting.kind, result, fds);
            // A caller that went away drops the handle in here, which ends what it stands for.
            drop(waiting.answer.send(answer));
        }
    }
}

/// Makes handles of a reply. Every path keeps or drops the handle, never leaks what it stands for.
fn answer(
    shared: &Arc<Shared>,
    kind: Kind,
    result: Result<Reply, StepError>,
    fds: Vec<OwnedFd>,
) -> Answer {
    let mut fds = fds.into_iter();
    let too_few = || Error::Protocol("too few descriptors".to_owned());
    match (kind, result?) {
        (Kind::Space { runner_ports }, Reply::Space(id)) => {
            let end = EndOnDrop {
                shared: Arc::clone(shared),
                command: Some(Command::CloseSpace(id)),
            };
            let runner_listeners = fds
                .by_ref()
                .take(runner_ports)
                .map(TcpListener::from)
                .collect();
            Ok(Answered::Space(Space {
                runner_listeners,
                browser_listeners: fds.map(TcpListener::from).collect(),
                scratch: Scratch {
                    space: id,
                    shared: Arc::clone(shared),
                },
                end,
            }))
        }
        (Kind::Sandbox(control), Reply::Spawned(id, counters)) => {
            let end = EndOnDrop {
                shared: Arc::clone(shared),
                command: Some(Command::Kill(id)),
            };
            let stdout = fds.next().ok_or_else(too_few)?;
            let stderr = fds.next().ok_or_else(too_few)?;
            let control = match control {
                Control::None => ControlEnd::None,
                Control::Frames => {
                    ControlEnd::Frames(UnixStream::from(fds.next().ok_or_else(too_few)?))
                }
                Control::CdpPipe => ControlEnd::CdpPipe {
                    to: fds.next().ok_or_else(too_few)?,
                    from: fds.next().ok_or_else(too_few)?,
                },
            };
            let files = counters.into_iter().zip(fds.map(File::from)).collect();
            let sender = watch::Sender::new(None);
            let exit = sender.subscribe();
            shared.state().sandboxes.insert(id, sender);
            Ok(Answered::Sandbox(Sandbox {
                stdout: Some(stdout),
                stderr: Some(stderr),
                control,
                id,
                counters: Counters::new(files),
                exit,
                end,
            }))
        }
        (Kind::Fd, Reply::Fd) => fds.next().map(Answered::Fd).ok_or_else(too_few),
        (Kind::Fd | Kind::Done, Reply::Done) => Ok(Answered::Done),
        (kind, reply) => Err(Error::Protocol(format!(
            "{reply:?} as the reply to {kind:?}"
        ))),
    }
}

/// A session's ground: uid, scratch, two network namespaces, a cgroup.
#[derive(Debug)]
pub struct Space {
    /// In the order of `SpaceSpec::runner_ports`; non-blocking.
    pub runner_listeners: Vec<TcpListener>,
    /// In the order of `SpaceSpec::browser_ports`; non-blocking.
    pub browser_listeners: Vec<TcpListener>,
    scratch: Scratch,
    end: EndOnDrop,
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

    /// Opens a socket inside the runners' network namespace, not yet connected, non-blocking.
    ///
    /// # Errors
    /// When the space is gone or no socket can be made.
    pub async fn runner_socket(&self) -> Result<TcpStream, Error> {
        match self
            .end
            .shared
            .call(Kind::Fd, Command::RunnerSocket(self.id()))
            .await?
        {
            Answered::Fd(fd) => Ok(TcpStream::from(fd)),
            other => Err(unexpected(&other)),
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

/// The scratch as seen from outside; paths as inside, below `/tmp` or `/workspace`. Everything is
/// done by the spawner as the session's own user, never following a link. Cheap to clone; fails
/// once the space is closed.
#[derive(Clone, Debug)]
pub struct Scratch {
    space: SpaceId,
    shared: Arc<Shared>,
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

    /// Moves a regular file within the scratch, replacing what is there; missing parent
    /// directories are made (mode 0700, owned by the session's uid).
    ///
    /// # Errors
    /// As [`Scratch::open`]; EXDEV never: `/tmp` and `/workspace` are one file system here.
    pub async fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let operation = FileOperation::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        self.file(operation).await.map(drop)
    }

    /// Makes a regular file appear at a second path too (hard link); missing parent directories
    /// are made.
    ///
    /// # Errors
    /// As [`Scratch::open`]; EEXIST when there is something.
    pub async fn link(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let operation = FileOperation::Link { from: from.to_owned(), to: to.to_owned() };
        self.file(operation).await.map(drop)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// As [`Scratch::open`].
    pub async fn remove(&self, path: &Path) -> Result<(), Error> {
        self.file(FileOperation::Remove(path.to_owned())).await.map(drop)
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
    id: SandboxId,
    counters: Counters,
    exit: watch::Receiver<Option<Exit>>,
    end: EndOnDrop,
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

    /// What it used so far; reads counters directly, microseconds, no spawner round trip.
    pub fn usage(&self) -> Usage {
        match *self.exit.borrow() {
            Some(exit) => exit.usage,
            None => self.counters.read(),
        }
    }

    /// Starts a new peak: `usage().peak_memory` then counts from now. Without effect where the
    /// kernel cannot (cgroup version 2 before Linux 6.12).
    pub fn reset_peak(&self) {
        self.counters.reset_peak();
    }
}
