//! The daemon's side: handles on the spawner, its spaces and its sandboxes.
//!
//! One task reads what the spawner says; requests are written in order by another. Each request
//! has a reply; a caller that has gone away by then drops what the reply brings, and dropping a
//! handle ends what it stands for, so a cancelled call leaves nothing.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};

use crate::id::SandboxId;

use super::error::{Error, StepError};
use super::process::SpawnerProcess;
use super::spec::{Control, Exit, ExitStatus, HostReport, SpaceSpec, Usage};
use super::sys;
use super::usage::Counters;
use super::wire::{self, Command, Message, Reply, Request};

mod handle;

pub use self::handle::{ControlEnd, Sandbox, Scratch, Space};

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
    Usage,
    Done,
}

#[derive(Debug)]
enum Answered {
    Space(Space),
    Sandbox(Sandbox),
    Fd(OwnedFd),
    Usage(Usage),
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
        memory_reached: 0,
        space_memory_reached: 0,
        forks_refused: 0,
        cpu_throttled: std::time::Duration::ZERO,
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
        (Kind::Usage, Reply::Usage(usage)) => Ok(Answered::Usage(usage)),
        (Kind::Fd | Kind::Done, Reply::Done) => Ok(Answered::Done),
        (kind, reply) => Err(Error::Protocol(format!(
            "{reply:?} as the reply to {kind:?}"
        ))),
    }
}
