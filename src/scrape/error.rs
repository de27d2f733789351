//! Why a scrape, or what follows it, came to nothing.

use std::time::Duration;

use crate::execution::BadRequest;
use crate::id::ScrapeId;
use crate::limits::Bytes;
use crate::{agent, cdp, session, store};

/// Why there is no document, or no session for it. The status of each on the wire is decided in the
/// wire's layer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the request.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// Known, and not there yet.
    #[error("{0} is not available: it is not there yet")]
    NotSupported(String),
    /// The page's name has no addresses.
    #[error("the page's name could not be resolved: {0}")]
    Dns(String),
    /// Its certificate is not good, or there is no common way to encrypt.
    #[error("no secure connection: {0}; skipTlsVerification: true loads it all the same")]
    Tls(String),
    /// A rule of the network refuses it.
    #[error("the page may not be loaded: {0}")]
    Refused(String),
    /// Its server does not answer as it must.
    #[error("the page could not be loaded: {0}")]
    Unreachable(String),
    /// It is a file to be saved, or nothing.
    #[error(
        "the URL leads to no page: a file that a browser only saves (a PDF, an archive), or an \
         answer without a body"
    )]
    NoPage,
    /// It took too long.
    #[error("the scrape was not done after {limit:?}; a longer timeout may help")]
    Timeout {
        /// How long it was given.
        limit: Duration,
    },
    /// An action failed.
    #[error("actions[{index}] ({name}): {why}")]
    Action {
        /// Which, from 0.
        index: usize,
        /// Its type.
        name: &'static str,
        /// Why.
        why: String,
    },
    /// A script threw.
    #[error("a script failed: {0}")]
    Script(String),
    /// Nothing to act on.
    #[error("{0}")]
    Element(String),
    /// Its HTML is more than is taken.
    #[error("the page's HTML is larger than {most}, the most this server takes")]
    TooLarge {
        /// The limit.
        most: Bytes,
    },
    /// The page or its browser crashed.
    #[error("the page crashed")]
    Crashed,
    /// A fault of this program.
    #[error("the page could not be converted; this is a fault of the server")]
    Conversion,
    /// There is no model for what is asked for.
    #[error(transparent)]
    NoModel(#[from] Box<agent::Error>),
    /// The model made nothing of the page.
    #[error(transparent)]
    Extract(#[from] agent::ExtractError),
    /// The browser.
    #[error("the browser failed: {0}")]
    Cdp(#[from] cdp::Error),
    /// Its session.
    #[error(transparent)]
    Session(#[from] session::Error),
    /// What was to be kept or read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// No such scrape, or it was forgotten.
    #[error("Job not found.")]
    Unknown(ScrapeId),
    /// It is another owner's.
    #[error("Forbidden.")]
    Foreign(ScrapeId),
    /// Its document was too large to be kept.
    #[error("the document of scrape {0} was not kept; scrape the page again")]
    NotKept(ScrapeId),
    /// It cannot be done again.
    #[error("Replay context is unavailable for this scrape job. Please rerun the scrape.")]
    NoReplay,
    /// It was done again, and that failed.
    #[error("Failed to initialize browser session from the original scrape context: {0}")]
    Replay(#[source] Box<Error>),
    /// No session was ever made of it.
    #[error("Browser session not found.")]
    NeverInteracted(ScrapeId),
    /// Its session has ended.
    #[error("Browser session has been destroyed.")]
    Destroyed(ScrapeId),
}
