//! The CDP hub: one browser pipe, many clients.
//!
//! ```text
//! WebSocket ─ endpoint ─┐                 ┌─ policy      what a client may ask
//! WebSocket ─ endpoint ─┤  queue          ├─ pages       what is open, which is active
//! in-process ── client ─┴──────── driver ─┼─ dialogs     held from idle runners
//!                                   │     └─ downloads   one file, every client's path
//!                                  pipe ── browser
//! ```
//!
//! Every client has a browser session of its own, so Chromium itself keeps what clients set
//! (domains, emulation, interception) apart and undoes it when they leave. The hub rewrites message
//! ids and puts that session where a message names none. Knows nothing of sessions of the daemon,
//! of sandboxes or of languages.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::limits::Bytes;

mod active;
mod board;
mod client;
mod dialogs;
mod downloads;
mod driver;
mod endpoint;
mod handoff;
mod handshake;
mod heavy;
mod hub;
mod human;
mod message;
mod pages;
mod pipe;
mod policy;
#[cfg(any(test, fuzzing))]
pub(crate) mod property;
mod queue;
mod socket;
#[cfg(test)]
mod tests;

pub use active::Asked;
pub use client::{Client, Sent};
pub use endpoint::is_loopback_name;
pub use handoff::Handoff;
pub use handshake::{accept_websocket, wants_websocket};
pub use hub::Hub;
pub use human::InControl;

/// Origins a hub remembers at most.
pub const MAX_ORIGINS: usize = 256;

/// Bounds of a hub.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Largest CDP message either way.
    pub max_message: Bytes,
    /// Bytes queued for a client that does not read before it is disconnected.
    pub client_queue: Bytes,
    /// How long a client may hold a new target it asked to pause at start.
    #[serde(with = "humantime_serde")]
    pub pause_limit: Duration,
    /// How long the active page may take to answer a probe.
    #[serde(with = "humantime_serde")]
    pub probe_timeout: Duration,
    /// How long a dialog may stay open, and a file chooser be held for a client.
    #[serde(with = "humantime_serde")]
    pub dialog_hold: Duration,
    /// Clients at a time, of code and of tools outside; the daemon's own come on top.
    pub max_clients: usize,
    /// Pages of one browser, popups included; one more is refused to a client, and closed at once when
    /// a page opened it.
    pub max_pages: usize,
    /// How long a PDF, a picture or a heap snapshot may take. Then it is given up, and a page that
    /// it keeps busy is closed.
    #[serde(with = "humantime_serde")]
    pub capture_limit: Duration,
    /// How many of those may be under way, of all clients together.
    pub captures: usize,
    /// Most pixels of a screenshot, and of a page's or window's size.
    pub capture_pixels: u64,
    /// How long a trace, a profile or a screencast may go on within its execution.
    #[serde(with = "humantime_serde")]
    pub recording_limit: Duration,
    /// How long code may wait for a person it asks for, an hour at most, and how long an execution's clock
    /// stands still for people in all.
    #[serde(with = "humantime_serde")]
    pub handoff_limit: Duration,
    /// Most memory the browser may use for a trace.
    pub trace_buffer: Bytes,
    /// Most memory a page may use for the bodies of responses, for each client that asks.
    pub network_buffer: Bytes,
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
            max_pages: 50,
            capture_limit: Duration::from_secs(30),
            captures: 32,
            capture_pixels: 100_000_000,
            recording_limit: Duration::from_secs(300),
            handoff_limit: Duration::from_secs(3600),
            trace_buffer: Bytes::mib(100),
            network_buffer: Bytes::mib(200),
        }
    }
}

/// Where the browser's files may be: the scratch, as the browser and the runners see it, plus
/// what the hub needs done to files there (the layer above implements it over the scratch).
/// Paths are absolute and hold no `..`. Called from threads that may block.
pub trait Files: Send + Sync + 'static {
    /// Whether code may name this path to the browser (below /tmp or /workspace).
    fn allowed(&self, path: &Path) -> bool;
    /// Makes a directory and those above it; no error when it is there.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes a file appear at a second path too: by hard link, else as a copy. The session's code
    /// must be able to read it. `AlreadyExists` when there is something.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// What kind of peer a client is; decides which dialogs it sees.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClientKind {
    /// Code in the session, by the token it connected with (one token per context).
    Runner {
        /// The last part of the URL's path.
        token: String,
    },
    /// A tool outside, by a capability URL.
    External,
    /// The daemon's own code.
    Internal,
    /// The daemon's live view: who only looks ends no page, however long that keeps a picture.
    Live,
}

/// A page (a tab).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// CDP's id of it.
    pub target_id: String,
    /// Where it is, cut to [`MAX_PAGE_TEXT`].
    pub url: String,
    /// Its title, or its URL while it has none; cut likewise.
    pub title: String,
}

/// Longest URL and title told of a page, in bytes; what is cut ends in `…`. Chromium's own bound of
/// a URL is 2 MiB, and each is kept for every session remembered and every event that waits.
pub(crate) const MAX_PAGE_TEXT: usize = 32 << 10;

impl Page {
    pub(crate) fn new(target_id: String, mut url: String, mut title: String) -> Self {
        const CUT: &str = "…";
        for text in [&mut url, &mut title] {
            if text.len() > MAX_PAGE_TEXT {
                text.truncate(text.floor_char_boundary(MAX_PAGE_TEXT - CUT.len()));
                text.push_str(CUT);
                text.shrink_to_fit();
            }
        }
        Self {
            target_id,
            url,
            title,
        }
    }
}

/// A dialog that a page waits for; its texts are cut to [`MAX_DIALOG_TEXT`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialog {
    /// Which one of this browser's: a later one has a higher number.
    pub id: u64,
    /// `alert`, `confirm`, `prompt` or `beforeunload`.
    pub kind: String,
    /// What it says.
    pub message: String,
    /// What a prompt begins with.
    pub value: String,
}

/// Longest text of a dialog that is kept, in bytes; a page may give it any length.
const MAX_DIALOG_TEXT: usize = 4 << 10;

/// What happens to pages. Every one can be told twice.
#[derive(Clone, Debug)]
pub enum HubEvent {
    /// A page is there.
    PageOpened(Page),
    /// Its URL or title has changed.
    PageChanged(Page),
    /// It is gone.
    PageClosed(Page),
    /// It is the active page now.
    PageActivated(Page),
}

/// Where the browser saves downloads before each client gets its own, inside the scratch.
#[must_use]
pub fn download_dir() -> PathBuf {
    PathBuf::from("/tmp/.pagebox-downloads")
}

/// Why something asked of the hub was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The fds handed over are no pipe.
    #[error("could not take over the browser's pipe: {0}")]
    Pipe(#[source] io::Error),
    /// The directory for downloads could not be made.
    #[error("could not make the download directory {path}: {source}")]
    DownloadDirectory {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The browser has gone, or the hub was shut down, or this client was disconnected.
    #[error("the browser is no longer connected")]
    Closed,
    /// The browser, or the hub's policy, answered with an error.
    #[error("{method}: {message}")]
    Refused {
        /// What was asked.
        method: String,
        /// The CDP error code.
        code: i64,
        /// In the browser's words.
        message: String,
    },
    /// The browser answered with something else than the method's response.
    #[error("{method}: unexpected answer: {source}")]
    Response {
        /// What was asked.
        method: String,
        /// What is wrong with the answer.
        source: serde_json::Error,
    },
    /// Parameters that cannot be written as JSON.
    #[error("{method}: cannot be sent: {source}")]
    Parameters {
        /// What was asked.
        method: String,
        /// Why.
        source: serde_json::Error,
    },
    /// No answer in time.
    #[error("{what} took longer than {limit:?}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        limit: Duration,
    },
    /// The page could not be loaded.
    #[error("the page could not be loaded: {error_text}")]
    Navigation {
        /// Chromium's words, such as `net::ERR_CONNECTION_REFUSED`.
        error_text: String,
    },
    /// No room for another client.
    #[error("{limit} clients are connected to the browser, the most allowed")]
    TooManyClients {
        /// How many.
        limit: usize,
    },
    /// There is no page of this id.
    #[error("no page {target_id}")]
    NoPage {
        /// The id.
        target_id: String,
    },
}
