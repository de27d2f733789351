//! What can go wrong, each with the step, on what, and why.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::spec::HostReport;

/// A step of the spawner or of a sandbox's construction that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{step}: {detail}{}", errno_text(*.errno))]
pub struct StepError {
    /// The step's name, as in `docs/sandbox.md`.
    pub step: String,
    /// errno; 0 when no system call failed.
    pub errno: i32,
    /// On what.
    pub detail: String,
}

impl StepError {
    pub(super) fn new(step: &str, errno: nix::errno::Errno, detail: impl Into<String>) -> Self {
        Self {
            step: step.to_owned(),
            errno: errno as i32,
            detail: detail.into(),
        }
    }

    pub(super) fn io(step: &str, error: &io::Error, detail: impl Into<String>) -> Self {
        Self {
            step: step.to_owned(),
            errno: error.raw_os_error().unwrap_or(0),
            detail: detail.into(),
        }
    }
}

fn errno_text(errno: i32) -> String {
    if errno == 0 {
        return String::new();
    }
    format!(": {}", nix::errno::Errno::from_raw(errno))
}

/// A step that failed, on what, and why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An image file that cannot be read.
    #[error("cannot read image file {}", path.display())]
    ReadImage {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An image file that does not say what it must.
    #[error("bad image file {}: {reason}", path.display())]
    BadImage {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// The spawner process could not be started.
    #[error("cannot start the spawner: {what}")]
    StartSpawner {
        /// The step.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// This host lacks something nothing untrusted may run without.
    #[error("this host cannot isolate enough: {}", refusals(.0))]
    HostRefused(HostReport),
    /// The spawner refused or failed at a step.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The request itself is wrong.
    #[error("invalid sandbox request: {0}")]
    Invalid(String),
    /// The spawner has ended; nothing runs any more.
    #[error("the spawner has ended")]
    SpawnerDied,
    /// What the spawner sent makes no sense.
    #[error("broken message from the spawner: {0}")]
    Protocol(String),
    /// The daemon could not give up root.
    #[error("cannot drop privileges to uid {uid}: {step}")]
    DropPrivileges {
        /// The uid.
        uid: u32,
        /// The call that failed.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// errno of the system call that failed, if one did.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Step(step) => Some(step.errno).filter(|&errno| errno != 0),
            _ => None,
        }
    }
}

fn refusals(report: &HostReport) -> String {
    report
        .refused()
        .map(|probe| {
            format!(
                "{}: {}. Remedy: {}",
                probe.mechanism, probe.detail, probe.remedy
            )
        })
        .collect::<Vec<_>>()
        .join("; ")
}
