//! The CDP hub: one browser pipe, many clients. SKELETON
//!
//! Knows nothing of sessions, sandboxes or languages.
#![allow(missing_docs, clippy::todo, unused_variables, clippy::unused_async)]

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::sync::broadcast;

use crate::id::ClientId;
use crate::limits::Bytes;

/// Bounds of a hub.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Largest CDP message either way.
    pub max_message: Bytes,
    /// Bytes queued for a client that does not read before it is disconnected.
    pub client_queue: Bytes,
    /// How long a client may hold a new target it asked to pause at start.
    pub pause_limit: Duration,
    /// How long the active page may take to answer a probe.
    pub probe_timeout: Duration,
    /// How long a dialog or file chooser is held when no client that may see it is there.
    pub dialog_hold: Duration,
    pub max_clients: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_message: Bytes::mib(256),
            client_queue: Bytes::mib(128),
            pause_limit: Duration::from_secs(2),
            probe_timeout: Duration::from_secs(1),
            dialog_hold: Duration::from_secs(300),
            max_clients: 64,
        }
    }
}

/// Where the browser's files may be: the scratch, as the browser and the runners see it, plus
/// what the hub needs done to files there (the layer above implements it over `sandbox::Scratch`).
pub trait Files: Send + Sync + 'static {
    /// Whether code may name this path to the browser (below /tmp or /workspace).
    fn allowed(&self, path: &Path) -> bool;
    fn create_dir_all(&self, path: &Path) -> std::io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()>;
}

/// What kind of peer a client is; decides which dialogs it sees.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClientKind {
    /// Code in the session, by the token it connected with (one token per context).
    Runner { token: String },
    /// A tool outside, by a capability URL.
    External,
    /// The daemon's own code.
    Internal,
}

#[derive(Clone, Debug)]
pub struct Hub(Arc<()>);

impl Hub {
    /// Takes over a browser's pipe (non-blocking fds): attaches to every page from birth, waits
    /// until one page exists.
    pub async fn start(
        to_browser: OwnedFd,
        from_browser: OwnedFd,
        files: Arc<dyn Files>,
        config: Config,
    ) -> Result<Self, Error> {
        todo!()
    }

    /// Serves `/json/version`, `/json/list` and WebSockets on a listener of the runners'
    /// namespace. `ws://…/devtools/browser/TOKEN` names the client's context; any other id under
    /// /devtools/browser/ is a client without one. Refuses requests with an Origin header.
    pub async fn serve(&self, listener: TcpListener) {
        todo!()
    }

    /// A client inside the daemon.
    pub async fn client(&self, kind: ClientKind) -> Result<Client, Error> {
        todo!()
    }

    /// Dialog and file-chooser events go to clients of this token from now on (the execution that
    /// runs), to external clients, and to no idle runner. Several may run at once (node, python…).
    pub fn execution_started(&self, token: &str) {}
    pub fn execution_ended(&self, token: &str) {}
    /// Disconnects every client of that token (its runner died) and undoes what it held.
    pub fn forget_token(&self, token: &str) {}

    pub fn active_page(&self) -> Page {
        todo!()
    }
    /// Moves the active page; unknown ids are ignored (the page may just have closed).
    pub fn set_active_page(&self, target_id: &str) {}
    pub fn pages(&self) -> Vec<Page> {
        todo!()
    }

    /// Makes sure the active page answers: none open → opens a blank one; no answer within
    /// `probe_timeout` → terminateExecution, then closes it and opens a blank one.
    /// Returns the active page and whether it was replaced. Waits out an in-flight navigation no
    /// longer than the bound.
    pub async fn ensure_active_page(&self) -> Result<(Page, bool), Error> {
        todo!()
    }

    /// Loads a URL in the active page and waits for `load`, at most `timeout`.
    pub async fn navigate(&self, url: &str, timeout: Duration) -> Result<(), Error> {
        todo!()
    }

    pub fn events(&self) -> broadcast::Receiver<HubEvent> {
        todo!()
    }

    /// Resolves when the pipe has closed.
    pub async fn closed(&self) {
        todo!()
    }

    /// Disconnects all clients and ends the hub's tasks.
    pub async fn shutdown(&self) {
        todo!()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub target_id: String,
    pub url: String,
    pub title: String,
}

#[derive(Clone, Debug)]
pub enum HubEvent {
    PageOpened(Page),
    PageChanged(Page),
    PageClosed(Page),
    PageActivated(Page),
}

/// An in-process client: typed commands from `chromiumoxide::cdp`, raw events.
#[derive(Debug)]
pub struct Client(());

impl Client {
    pub fn id(&self) -> ClientId {
        todo!()
    }
    /// Runs a typed command; `session` as given by `Target.attachToTarget`, or `None` for the root.
    pub async fn call<C>(&self, session: Option<&str>, command: C) -> Result<C::Response, Error>
    where
        C: chromiumoxide::types::Command + serde::Serialize,
    {
        todo!()
    }
    /// The next event: method, session, parameters; `None` when disconnected.
    pub async fn event(&mut self) -> Option<(String, Option<String>, Box<RawValue>)> {
        todo!()
    }
    /// Attaches to a page and returns the session id.
    pub async fn attach(&self, target_id: &str) -> Result<String, Error> {
        todo!()
    }
}

/// Kept so that the skeleton names the type; downloads land here inside the scratch.
pub fn download_dir() -> PathBuf {
    PathBuf::from("/tmp/.pagebox-downloads")
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("SKELETON")]
    Skeleton,
}
