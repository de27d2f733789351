//! Why a prompt, or a question about a page, comes to nothing.

use std::time::Duration;

use crate::execution::BadRequest;
use crate::{cdp, session};

/// Why a prompt did not begin. What goes wrong later is in its report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the request.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// The daemon has no model.
    #[error(
        "no model is configured: set {missing} (docs/prompt.md shows how), or send code instead"
    )]
    NoModel {
        /// The setting.
        missing: &'static str,
    },
    /// The model gave no answer, and nothing was done on the page.
    #[error("the model {model} failed before anything was done on the page: {why}")]
    Model {
        /// Its name.
        model: String,
        /// Why.
        why: ModelFailure,
    },
    /// Too many prompts of one session.
    #[error("{waiting} prompts already wait for this session, the most allowed; try again later")]
    Busy {
        /// The limit.
        waiting: usize,
    },
    /// It was not begun in time.
    #[error("the prompt could not begin within its {0:?}: the session was busy")]
    Late(Duration),
    /// Its session.
    #[error(transparent)]
    Session(#[from] session::Error),
    /// The page could not be looked at.
    #[error("the page could not be looked at: {0}")]
    Page(String),
    /// The session's browser.
    #[error("the browser failed: {0}")]
    Cdp(#[from] cdp::Error),
}

/// Why a model gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelFailure {
    /// Its provider refused, or failed.
    #[error("its provider answered with status {status}{}", said(message))]
    Status {
        /// HTTP's.
        status: u16,
        /// In the provider's words, cut; may be empty.
        message: String,
    },
    /// There is no connection.
    #[error("its provider cannot be reached{}", said(.0))]
    Unreachable(String),
    /// It took too long.
    #[error("it gave no answer within {0:?}")]
    Slow(Duration),
    /// Its answer cannot be read.
    #[error("its answer cannot be understood: {0}")]
    Garbage(String),
}

fn said(message: &str) -> String {
    match message.is_empty() {
        true => String::new(),
        false => format!(": {message}"),
    }
}

impl ModelFailure {
    /// Whether the same question may get an answer a little later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Status { status, .. } => {
                matches!(status, 408 | 425 | 429) || (500..600).contains(status)
            }
            Self::Unreachable(_) => true,
            Self::Slow(_) | Self::Garbage(_) => false,
        }
    }
}
