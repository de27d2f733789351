//! The driver: the one task that owns the hub's state. It never waits for the browser or for a
//! client: what cannot be queued is refused, and a client whose queue is full is disconnected.
//!
//! Here: the state, the loop and its clock. Clients come and go in `driver/clients.rs`; requests and
//! answers are in `driver/requests.rs`, events in `driver/events.rs`, new pages that wait in
//! `driver/held.rs`, downloads in `driver/downloads.rs`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::held::Hold;
use super::dialogs::Dialogs;
use super::downloads::{Downloads, Wishes};
use super::heavy::{Captures, Recordings};
use super::hub::{Hub, Shared};
use super::human::InControl;
use super::message::{Message, code, error_payload, payload};
use super::pipe::Incoming;
use super::queue::Queue;
use super::{ClientKind, Error};
use crate::id::ClientId;

mod behind;
pub(crate) mod clients;
mod downloads;
mod events;
mod heavy_work;
mod held;
mod requests;
mod withheld;

/// Chromium's ids are 32-bit.
const LAST_ID: i64 = i32::MAX as i64;
/// Sessions of one client; one that has more is disconnected.
const MAX_SESSIONS: usize = 4096;

/// The JSON text of a CDP error object.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Bytes);

/// The outcome of a call: the result's JSON text, or an error.
pub(crate) type Answer = Result<Bytes, Failure>;

/// Where a client's connection leads.
#[derive(Clone, Debug)]
pub(crate) enum Root {
    /// To the browser.
    Browser,
    /// To one page, by its target id.
    Page(String),
}

/// What others ask of the driver.
#[derive(Debug)]
pub(crate) enum Command {
    /// A new client.
    Connect {
        kind: ClientKind,
        root: Root,
        queue: Queue,
        ended: CancellationToken,
        reply: oneshot::Sender<Result<ClientId, Error>>,
    },
    /// A client has gone.
    Gone(ClientId),
    /// A client's request.
    Request(Request),
    /// A request of the hub's own; the session is the browser's name for it.
    Own {
        session: Option<String>,
        method: &'static str,
        params: Option<Bytes>,
        reply: oneshot::Sender<Answer>,
    },
    /// Lets a target go on that any client holds at its start.
    Release { target: String },
    /// A finished download lies where clients look for it.
    Placed {
        params: serde_json::Value,
        paths: Vec<(ClientId, Option<PathBuf>)>,
    },
    /// A finished download could not be put there.
    NotPlaced {
        params: serde_json::Value,
        clients: Vec<ClientId>,
    },
}

/// A client's request, in its own words.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) client: ClientId,
    pub(crate) session: Option<String>,
    pub(crate) method: String,
    pub(crate) params: Option<Bytes>,
    pub(crate) reply: Reply,
    /// Held until it is answered: the client's requests in flight are bounded.
    pub(crate) slot: Option<OwnedSemaphorePermit>,
    /// Held until it is written: bytes on their way to the browser are bounded.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// Where an answer goes.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Into the client's queue, under the id and session the client named.
    Queue { id: i64, session: Option<String> },
    /// To a waiting caller in the daemon.
    Call(oneshot::Sender<Answer>),
    /// To nobody.
    Nobody,
}

/// A message to the browser.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) message: Message,
    _room: Option<OwnedSemaphorePermit>,
}

/// A request the browser has not answered.
#[derive(Debug)]
struct Pending {
    /// Whose it is; none for the hub's own.
    client: Option<ClientId>,
    /// The browser's name for the session it went to.
    session: Option<String>,
    reply: Reply,
    then: Then,
    _slot: Option<OwnedSemaphorePermit>,
}

/// What to do with an answer before it is passed on.
#[derive(Debug)]
enum Then {
    Nothing,
    /// Its session belongs to the client.
    Attach,
    /// Targets told of in the meantime are delivered, the active page first.
    Enumerate,
    /// The active page goes first.
    ListTargets,
    /// Downloads of the new context are taken over.
    CreateContext,
    /// It describes a page.
    Look,
    /// The hub is told of that page's events from now on.
    Watch(String),
    /// Who holds that new page at its start is known by now.
    Settle(String),
    /// A new client's root session.
    Connect(Box<Connecting>),
}

#[derive(Debug)]
struct Connecting {
    kind: ClientKind,
    target: Option<String>,
    queue: Queue,
    ended: CancellationToken,
    reply: oneshot::Sender<Result<ClientId, Error>>,
}

/// A session of the browser's, by its id.
#[derive(Debug)]
struct Session {
    /// None for the hub's own.
    owner: Option<ClientId>,
    target: String,
    parent: Option<String>,
    hold: Hold,
}

/// A connected client.
#[derive(Debug)]
struct Member {
    kind: ClientKind,
    root: String,
    queue: Queue,
    ended: CancellationToken,
    wishes: Wishes,
    sessions: usize,
    arriving: Option<Arriving>,
}

/// News of targets, kept to be put in order until a client's look at them is answered.
#[derive(Debug)]
struct Arriving {
    /// The request.
    until: i64,
    news: Vec<Message>,
    /// Of the news; bounded as the client's queue is.
    bytes: usize,
}

/// The hub's state.
pub(crate) struct Driver {
    hub: Hub,
    shared: Arc<Shared>,
    to_browser: mpsc::Sender<Upstream>,
    last_id: i64,
    last_client: u64,
    pending: HashMap<i64, Pending>,
    sessions: HashMap<String, Session>,
    clients: HashMap<ClientId, Member>,
    dialogs: Dialogs,
    downloads: Downloads,
    /// Sessions whose target is paused, the oldest first.
    paused: VecDeque<(Instant, String)>,
    captures: Captures,
    recordings: Recordings,
    /// Input of code, until a person lets go.
    withheld: VecDeque<Request>,
}

impl Driver {
    pub(crate) fn new(hub: Hub, to_browser: mpsc::Sender<Upstream>) -> Self {
        Self {
            shared: hub.0.clone(),
            hub,
            to_browser,
            last_id: 0,
            last_client: 0,
            pending: HashMap::new(),
            sessions: HashMap::new(),
            clients: HashMap::new(),
            dialogs: Dialogs::default(),
            downloads: Downloads::default(),
            paused: VecDeque::new(),
            captures: Captures::default(),
            recordings: Recordings::default(),
            withheld: VecDeque::new(),
        }
    }

    /// Runs until the pipe has closed or the hub is shut down. Every waiting caller and every
    /// client then finds its channel closed.
    pub(crate) async fn run(
        mut self,
        mut browser: mpsc::Receiver<Incoming>,
        mut commands: mpsc::Receiver<Command>,
    ) {
        let closed = self.shared.closed.clone();
        loop {
            let deadline = self.deadline();
            tokio::select! {
                () = closed.cancelled() => break,
                incoming = browser.recv() => match incoming {
                    Some(incoming) => self.incoming(incoming),
                    None => break,
                },
                // The hub holds a sender itself: never `None`.
                Some(command) = commands.recv() => self.command(command),
                () = self.shared.clone().touched_wait() => self.board_touched(),
                () = sleep_until(deadline) => self.tick(Instant::now()),
            }
        }
        closed.cancel();
        // It is nobody's any more: code need not wait to find out.
        let board = self.shared.board();
        board.control.send_replace(InControl::Code);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Connect {
                kind,
                root,
                queue,
                ended,
                reply,
            } => {
                self.connect(kind, root, queue, ended, reply);
            }
            Command::Gone(client) => self.disconnect(client),
            Command::Request(request) => self.request(request),
            Command::Own {
                session,
                method,
                params,
                reply,
            } => {
                let pending = Pending {
                    client: None,
                    session,
                    reply: Reply::Call(reply),
                    then: Then::Nothing,
                    _slot: None,
                };
                self.forward(method.to_owned(), params, pending, None);
            }
            Command::Release { target } => self.release(&target),
            Command::Placed { params, paths } => self.placed(&params, &paths),
            Command::NotPlaced { params, clients } => self.not_placed(&params, &clients),
        }
    }

    fn incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Message(message) => match message.id {
                Some(id) => self.answered(id, message),
                None => self.event(message),
            },
            Incoming::TooLong { id } => {
                let error = error_payload(
                    code::SERVER,
                    &format!(
                        "the answer is larger than {}",
                        self.shared.config.max_message
                    ),
                );
                let message = Message {
                    error: Some(error),
                    ..Message::default()
                };
                self.answered(id, message);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let config = &self.shared.config;
        let paused = self
            .paused
            .front()
            .map(|(since, _)| *since + config.pause_limit);
        let others = [
            self.dialogs.deadline(config.dialog_hold),
            self.captures.deadline(config.capture_limit),
            self.recordings.deadline(config.recording_limit),
        ];
        paused.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// Ends what has lasted too long.
    fn tick(&mut self, now: Instant) {
        self.release_expired(now);
        let config = self.shared.config.clone();
        for target in self.dialogs.expired(now, config.dialog_hold) {
            let board = self.shared.board();
            let session = board
                .pages
                .get(&target)
                .and_then(|entry| entry.session.clone());
            drop(board);
            if let Some(session) = session {
                tracing::debug!("a dialog was open too long: dismissed");
                let params = payload(&json!({ "accept": false }));
                self.own(Some(session), "Page.handleJavaScriptDialog", Some(params));
            }
        }
        self.give_up_captures(now);
        let limit = config.recording_limit;
        self.end_recordings(|_, since| now >= since + limit);
    }

    /// The board was written to by a handle.
    fn board_touched(&mut self) {
        let mut board = self.shared.board();
        let forgotten = std::mem::take(&mut board.forgotten);
        let ended = std::mem::take(&mut board.ended);
        let idle = !board.is_running();
        drop(board);
        let is_closing = self.shared.closing.load(Ordering::Relaxed);
        let is_gone = |kind: &ClientKind| match kind {
            ClientKind::Runner { token } => is_closing || forgotten.contains(token),
            ClientKind::External => is_closing,
            ClientKind::Internal | ClientKind::Live => false,
        };
        let gone: Vec<ClientId> = self
            .clients
            .iter()
            .filter(|(_, member)| is_gone(&member.kind))
            .map(|(id, _)| *id)
            .collect();
        for client in gone {
            self.disconnect(client);
        }
        if let Some(last) = ended.last().map(|(_, when)| *when) {
            let over = |kind: &ClientKind| match kind {
                ClientKind::Runner { token } => {
                    idle || ended.iter().any(|(ended, _)| ended == token)
                }
                _ => false,
            };
            let clients = self.clients.iter();
            let over: HashSet<ClientId> = clients
                .filter(|(_, member)| over(&member.kind))
                .map(|(id, _)| *id)
                .collect();
            // What the next execution began meanwhile stays.
            self.end_recordings(|client, since| since <= last && over.contains(&client));
        }
        self.release_held();
        self.let_input_go();
    }

    /// Has a page described anew: Chromium does not tell of every change of a title.
    fn look(&mut self, target: &str) {
        let params = payload(&json!({ "targetId": target }));
        self.ask(None, "Target.getTargetInfo", Some(params), Then::Look);
    }

    /// A request of the hub's own whose answer it reads itself.
    fn ask(&mut self, session: Option<String>, method: &str, params: Option<Bytes>, then: Then) {
        let pending = Pending {
            client: None,
            session,
            reply: Reply::Nobody,
            then,
            _slot: None,
        };
        self.forward(method.to_owned(), params, pending, None);
    }

    /// A request of the hub's own that nobody waits for.
    fn own(&mut self, session: Option<String>, method: &str, params: Option<Bytes>) {
        self.ask(session, method, params, Then::Nothing);
    }
}

impl ClientKind {
    /// Whether it is the daemon itself.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Self::Internal | Self::Live)
    }

    /// For logs: without the token.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Runner { .. } => "runner",
            Self::External => "external",
            Self::Internal => "internal",
            Self::Live => "live",
        }
    }
}

impl Shared {
    async fn touched_wait(self: Arc<Self>) {
        self.touched.notified().await;
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// The `sessionId` of a payload.
fn session_id(payload: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        session_id: String,
    }
    serde_json::from_slice::<Named>(payload)
        .ok()
        .map(|named| named.session_id)
}
