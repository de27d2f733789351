//! The handle others hold, and what it shares with the driver.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::Instrument as _;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::board::{Board, web_origin};
use super::driver::clients::OWN_CLIENTS;
use super::driver::{Answer, Command, Driver, Failure, Root};
use super::handoff::Handoff;
use super::message::payload;
use super::pages::Entry;
use super::queue::{Outbox, queue};
use super::{ClientKind, Config, Error, Files, HubEvent, Page, download_dir, pipe};
use crate::id::ClientId;

/// Commands on their way to the driver; when full, the sender waits.
const COMMANDS: usize = 1024;
/// Page events kept for a subscriber that lags; the oldest are lost first, and it is told.
const EVENTS: usize = 256;
/// Messages read ahead of the driver; when full, the pipe is not read.
const READ_AHEAD: usize = 16;
/// Requests one client may have unanswered; when reached, it is not read.
pub(crate) const MAX_IN_FLIGHT: usize = 4096;
/// How long the browser may take for what it does at once unless it hangs.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(10);

/// A browser's hub; cheap to clone. Lives until the pipe closes or [`Hub::shutdown`].
#[derive(Clone, Debug)]
pub struct Hub(pub(crate) Arc<Shared>);

/// What the driver and all handles share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) commands: mpsc::Sender<Command>,
    board: Mutex<Board>,
    /// The board has changed in a way the driver must act on.
    pub(crate) touched: Notify,
    /// Counts changes of the pages.
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) events: broadcast::Sender<HubEvent>,
    /// Code that waits for a person.
    pub(crate) handoffs: watch::Sender<Vec<Handoff>>,
    /// KiB of requests on their way to the browser.
    pub(crate) upstream: Arc<Semaphore>,
    /// Held while a client's message of more than a few MiB comes in.
    pub(crate) large: Arc<Semaphore>,
    /// One repair of the active page at a time.
    pub(crate) repair: tokio::sync::Mutex<()>,
    /// `Browser.getVersion`'s answer, for `/json/version`.
    pub(crate) version: Mutex<Value>,
    pub(crate) closed: CancellationToken,
    /// The browser is about to end.
    pub(crate) closing: AtomicBool,
    pub(crate) tasks: TaskTracker,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn board(&self) -> MutexGuard<'_, Board> {
        // No panic can leave the board half changed: each change is one call.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of page events, and that pages have changed.
    pub(crate) fn tell(&self, events: impl IntoIterator<Item = HubEvent>) {
        for event in events {
            // Nobody listening is fine.
            let _ = self.events.send(event);
        }
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Hub {
    /// Takes over a browser's pipe: attaches to every page from birth, waits until one page
    /// exists. The fds are the ends of two pipes; they are made non-blocking.
    pub async fn start(
        to_browser: OwnedFd,
        from_browser: OwnedFd,
        files: Arc<dyn Files>,
        config: Config,
    ) -> Result<Self, Error> {
        let max_message = config.max_message.as_usize();
        let reader = pipe::Reader::new(from_browser, max_message).map_err(Error::Pipe)?;
        let writer = pipe::Writer::new(to_browser).map_err(Error::Pipe)?;
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let kib = u32::try_from(max_message >> 10).unwrap_or(u32::MAX >> 4);
        let in_flight = MAX_IN_FLIGHT * (config.max_clients + OWN_CLIENTS + 1);
        let shared = Arc::new(Shared {
            config,
            files,
            commands,
            board: Mutex::default(),
            touched: Notify::new(),
            changes: watch::Sender::new(0),
            events: broadcast::Sender::new(EVENTS),
            handoffs: watch::Sender::default(),
            upstream: Arc::new(Semaphore::new(kib.max(1) as usize)),
            large: Arc::new(Semaphore::new(1)),
            repair: tokio::sync::Mutex::default(),
            version: Mutex::new(Value::Null),
            closed: CancellationToken::new(),
            closing: AtomicBool::new(false),
            tasks: TaskTracker::new(),
        });
        let hub = Self(shared.clone());
        // Has room for every request that may be unanswered, so the driver never waits for it.
        let (to_writer, outgoing) = mpsc::channel(in_flight);
        let (to_driver, incoming) = mpsc::channel(READ_AHEAD);
        shared
            .tasks
            .spawn(write(writer, outgoing, shared.closed.clone()).in_current_span());
        shared
            .tasks
            .spawn(read(reader, to_driver, shared.closed.clone()).in_current_span());
        shared.tasks.spawn(
            Driver::new(hub.clone(), to_writer)
                .run(incoming, inbox)
                .in_current_span(),
        );
        match hub.set_up().await {
            Ok(()) => Ok(hub),
            Err(error) => {
                hub.shutdown().await;
                Err(error)
            }
        }
    }

    async fn set_up(&self) -> Result<(), Error> {
        let files = self.0.files.clone();
        let path = download_dir();
        let made = tokio::task::spawn_blocking(move || files.create_dir_all(&download_dir())).await;
        made.unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(|source| Error::DownloadDirectory { path, source })?;
        let pages_only = json!([{ "type": "page" }, { "exclude": true }]);
        // The first answer comes when Chromium has started: who starts it says how long that may be.
        let first = "Target.getBrowserContexts";
        let contexts = flatten(first, self.start_call(None, first, None).await?.await)?;
        if let Ok(answer) = serde_json::from_slice::<Value>(&contexts) {
            let default = answer["defaultBrowserContextId"]
                .as_str()
                .map(str::to_owned);
            self.0.board().pages.set_default_context(default);
        }
        let discover = json!({ "discover": true, "filter": pages_only });
        self.call(None, "Target.setDiscoverTargets", Some(discover))
            .await?;
        let attach = json!({
            "autoAttach": true, "waitForDebuggerOnStart": false, "flatten": true,
            "filter": pages_only,
        });
        self.call(None, "Target.setAutoAttach", Some(attach))
            .await?;
        self.call(
            None,
            "Browser.setDownloadBehavior",
            Some(take_downloads(None)),
        )
        .await?;
        let version = self.call(None, "Browser.getVersion", None).await?;
        if let Ok(version) = serde_json::from_slice(&version) {
            *self
                .0
                .version
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = version;
        }
        if self.0.board().pages.active().is_none() {
            self.open_blank().await?;
        }
        self.active_attached().await?;
        Ok(())
    }

    /// Calls the browser on the hub's own behalf.
    pub(crate) async fn call(
        &self,
        session: Option<&str>,
        method: &'static str,
        params: Option<Value>,
    ) -> Result<Bytes, Error> {
        let limit = CALL_LIMIT;
        let answer = self.start_call(session, method, params).await?;
        match timeout(limit, answer).await {
            Ok(answer) => flatten(method, answer),
            Err(_) => Err(Error::Timeout {
                what: method,
                limit,
            }),
        }
    }

    /// The same, with the waiting left to the caller.
    pub(crate) async fn start_call(
        &self,
        session: Option<&str>,
        method: &'static str,
        params: Option<Value>,
    ) -> Result<oneshot::Receiver<Answer>, Error> {
        let (reply, answer) = oneshot::channel();
        let params = params.as_ref().map(payload);
        let session = session.map(str::to_owned);
        self.send(Command::Own {
            session,
            method,
            params,
            reply,
        })
        .await?;
        Ok(answer)
    }

    pub(crate) async fn send(&self, command: Command) -> Result<(), Error> {
        tokio::select! {
            biased;
            () = self.0.closed.cancelled() => Err(Error::Closed),
            sent = self.0.commands.send(command) => sent.map_err(|_| Error::Closed),
        }
    }

    /// Makes room for a client and attaches it.
    pub(crate) async fn connect(&self, kind: ClientKind, root: Root) -> Result<Connected, Error> {
        if self.0.closing.load(Ordering::Relaxed) && !kind.is_own() {
            return Err(Error::Closed);
        }
        let (queue, outbox) = queue(self.0.config.client_queue.as_usize());
        let ended = self.0.closed.child_token();
        let (reply, answer) = oneshot::channel();
        self.send(Command::Connect {
            kind,
            root,
            queue,
            ended: ended.clone(),
            reply,
        })
        .await?;
        let limit = CALL_LIMIT;
        let id = match timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|_| Error::Closed)??,
            Err(_) => {
                return Err(Error::Timeout {
                    what: "attaching a client",
                    limit,
                });
            }
        };
        Ok(Connected {
            id,
            outbox,
            ended,
            hub: self.clone(),
        })
    }

    /// Dialog and file-chooser events go to clients of this token from now on (the execution that
    /// runs), to external clients, and to no idle runner. Several may run at once (node, python…);
    /// calls of one token are counted.
    pub fn execution_started(&self, token: &str) {
        self.0.board().execution_started(token);
        self.0.touched.notify_one();
    }

    /// Ends what [`Hub::execution_started`] began, and the traces, profiles and screencasts that
    /// clients of this token left running; when nothing runs any more, those of every token.
    pub fn execution_ended(&self, token: &str) {
        let runs = {
            let mut board = self.0.board();
            board.execution_ended(token);
            board.runs(token)
        };
        if !runs {
            self.forget_handoffs(token);
        }
        self.0.touched.notify_one();
    }

    /// Dismisses open dialogs that no running execution can answer, nor a person who is in control: a
    /// client that connects to a page behind a dialog waits until it is closed.
    pub async fn dismiss_unattended_dialogs(&self) {
        let sessions: Vec<String> = {
            let board = self.0.board();
            let is_closing = self.0.closing.load(Ordering::Relaxed);
            if board.is_running() || (board.is_held() && !is_closing) {
                return;
            }
            let open = board.pages.entries().iter().filter(|entry| entry.dialog);
            open.filter_map(|entry| entry.session.clone()).collect()
        };
        for session in sessions {
            let params = serde_json::json!({ "accept": false });
            let method = "Page.handleJavaScriptDialog";
            // It may have closed meanwhile.
            let asked = self.start_call(Some(&session), method, Some(params)).await;
            drop(asked);
        }
    }

    /// Disconnects everyone but the daemon's own clients, and closes what dialogs are open: the browser
    /// is about to be closed.
    pub async fn retire(&self) {
        self.0.closing.store(true, Ordering::Relaxed);
        self.0.touched.notify_one();
        self.dismiss_unattended_dialogs().await;
    }

    /// Asks the browser to write its files and end.
    pub async fn close_browser(&self) -> Result<(), Error> {
        self.call(None, "Browser.close", None).await.map(drop)
    }

    /// What the browser calls itself: its name and version.
    #[must_use]
    pub fn browser_version(&self) -> String {
        let version = self.0.version.lock();
        let version = version.unwrap_or_else(PoisonError::into_inner);
        version["product"].as_str().unwrap_or_default().to_owned()
    }

    /// The origin of the active page, if it is a web page.
    #[must_use]
    pub fn active_origin(&self) -> Option<String> {
        web_origin(&self.active_page().url)
    }

    /// The origins of web pages that its pages and their frames have shown; the first
    /// [`MAX_ORIGINS`](super::MAX_ORIGINS) of them.
    #[must_use]
    pub fn origins(&self) -> BTreeSet<String> {
        self.0.board().origins.clone()
    }

    /// What a page cannot answer because a dialog is open on it is refused to clients of this token, and
    /// does not wait until the dialog is closed.
    pub fn refuse_behind_dialogs(&self, token: &str) {
        self.0.board().impatient.insert(token.to_owned());
    }

    /// Disconnects every client of that token (its runner died) and undoes what it held.
    pub fn forget_token(&self, token: &str) {
        self.0.board().forget(token);
        self.forget_handoffs(token);
        self.0.touched.notify_one();
    }

    /// The active page; an empty one in the moment between the last page's end and a new one.
    #[must_use]
    pub fn active_page(&self) -> Page {
        self.0
            .board()
            .pages
            .active()
            .map(|entry| entry.page.clone())
            .unwrap_or_default()
    }

    /// Moves the active page; unknown ids are ignored (the page may just have closed).
    pub fn set_active_page(&self, target_id: &str) {
        let event = self.0.board().pages.activate(target_id);
        self.0.tell(event);
    }

    /// All pages, oldest first.
    #[must_use]
    pub fn pages(&self) -> Vec<Page> {
        self.0
            .board()
            .pages
            .entries()
            .iter()
            .map(|entry| entry.page.clone())
            .collect()
    }

    /// All pages with the active one first: clients outside take the first one.
    pub(crate) fn pages_active_first(&self) -> Vec<Entry> {
        let board = self.0.board();
        let active = board
            .pages
            .active()
            .map(|entry| entry.page.target_id.clone());
        let mut entries = board.pages.entries().to_vec();
        entries.sort_by_key(|entry| Some(&entry.page.target_id) != active.as_ref());
        entries
    }

    /// Page events from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<HubEvent> {
        self.0.events.subscribe()
    }

    /// Resolves when the pipe has closed, or the hub was shut down.
    pub async fn closed(&self) {
        self.0.closed.cancelled().await;
    }

    /// Whether the browser is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.closed.is_cancelled()
    }

    /// Disconnects all clients and ends the hub's tasks.
    pub async fn shutdown(&self) {
        self.0.closed.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    pub(crate) fn allows(&self, path: &Path) -> bool {
        self.0.files.allowed(path)
    }
}

/// A client's place on the hub. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) id: ClientId,
    pub(crate) outbox: Outbox,
    /// Cancelled when the hub has disconnected the client.
    pub(crate) ended: CancellationToken,
    pub(crate) hub: Hub,
}

impl Drop for Connected {
    fn drop(&mut self) {
        if self.ended.is_cancelled() {
            return;
        }
        let command = Command::Gone(self.id);
        if let Err(mpsc::error::TrySendError::Full(command)) = self.hub.0.commands.try_send(command)
        {
            let hub = self.hub.clone();
            // Fails only when the hub has ended, and all clients with it.
            self.hub
                .0
                .tasks
                .spawn(async move { drop(hub.send(command).await) });
        }
    }
}

/// Parameters that make the browser save downloads for the hub.
pub(crate) fn take_downloads(context: Option<&str>) -> Value {
    let mut params = json!({
        "behavior": "allowAndName", "downloadPath": download_dir(), "eventsEnabled": true,
    });
    if let Some(context) = context {
        params["browserContextId"] = context.into();
    }
    params
}

/// Makes an error of an answer that is one.
pub(crate) fn flatten(
    method: &str,
    answer: Result<Answer, oneshot::error::RecvError>,
) -> Result<Bytes, Error> {
    match answer {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(Failure(error))) => {
            let error: Value = serde_json::from_slice(&error).unwrap_or_default();
            Err(Error::Refused {
                method: method.to_owned(),
                code: error["code"].as_i64().unwrap_or_default(),
                message: error["message"]
                    .as_str()
                    .unwrap_or("no reason given")
                    .to_owned(),
            })
        }
        Err(_) => Err(Error::Closed),
    }
}

async fn read(
    mut reader: pipe::Reader,
    driver: mpsc::Sender<pipe::Incoming>,
    closed: CancellationToken,
) {
    let end = closed.clone().run_until_cancelled_owned(async move {
        loop {
            match reader.next().await {
                Ok(Some(incoming)) => {
                    if driver.send(incoming).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return tracing::debug!("the browser has closed its pipe"),
                Err(error) => return tracing::warn!(%error, "reading the browser's pipe failed"),
            }
        }
    });
    end.await;
    closed.cancel();
}

async fn write(
    mut writer: pipe::Writer,
    mut outgoing: mpsc::Receiver<super::driver::Upstream>,
    closed: CancellationToken,
) {
    let end = closed.clone().run_until_cancelled_owned(async move {
        while let Some(upstream) = outgoing.recv().await {
            if let Err(error) = writer.send(&upstream.message).await {
                return tracing::debug!(%error, "writing to the browser's pipe failed");
            }
        }
    });
    end.await;
    closed.cancel();
}
