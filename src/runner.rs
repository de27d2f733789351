//! Runners: the programs in `runners/`, driven inside sandboxes.
//!
//! A [`Context`] is one task that owns one runner and runs executions in it, one after the other.
//! It knows the frame protocol (`runners/README.md`) and what each language needs; it knows nothing
//! of session life or of the wire.

mod agent;
mod check;
mod clock;
mod context;
mod drive;
mod ending;
mod frame;
mod language;
mod output;
mod queue;
mod spares;
mod start;

#[cfg(fuzzing)]
pub(crate) use frame::property;

pub use agent::AgentService;
pub use clock::time_is_over;
pub use context::{Context, ContextEnv, Job, OnDrop};
pub use language::argv;
pub use spares::Spares;
pub use start::Launched;

use std::time::Duration;

use crate::execution::ExecutionLimits;
use crate::limits::Bytes;
use crate::sandbox;

/// Port of the CDP endpoint inside the runners' network namespace.
pub const CDP_PORT: u16 = 9222;
/// Port of the egress proxy inside both network namespaces.
pub const PROXY_PORT: u16 = 3128;
/// Port of agent-browser's own screen stream inside the runners' network namespace; it cannot be
/// turned off.
pub const STREAM_PORT: u16 = 9223;
/// Every port inside the runners' network namespace that is not the session's code's.
pub const OWN_PORTS: [u16; 3] = [CDP_PORT, PROXY_PORT, STREAM_PORT];

/// Config section `[runner]`: limits on each runner sandbox.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most memory of one runner sandbox.
    pub memory: Bytes,
    /// Most processes and threads of one runner sandbox.
    pub processes: u32,
    /// Hundredths of a core one runner sandbox may use; 200 is two cores.
    pub cpu_percent: u32,
    /// Most open files of one process.
    pub open_files: u64,
    /// Largest file a process may write.
    pub file_size: Bytes,
    /// How long a runner may take until it is connected to the browser.
    #[serde(with = "humantime_serde")]
    pub start_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            memory: Bytes::gib(1),
            processes: 256,
            cpu_percent: 200,
            open_files: 1024,
            file_size: Bytes::mib(512),
            start_timeout: Duration::from_secs(20),
        }
    }
}

impl Config {
    /// The most an execution may ask for, and has when it asks for nothing.
    #[must_use]
    pub fn limits(&self) -> ExecutionLimits {
        ExecutionLimits {
            memory: self.memory,
            processes: self.processes,
            cpu_percent: self.cpu_percent,
            open_files: self.open_files,
            file_size: self.file_size,
        }
    }
}

fn sandbox_limits(limits: ExecutionLimits) -> sandbox::SandboxLimits {
    sandbox::SandboxLimits {
        group: sandbox::GroupLimits {
            memory: limits.memory,
            processes: limits.processes,
            cpu_percent: limits.cpu_percent,
        },
        open_files: limits.open_files,
        file_size: limits.file_size,
    }
}

/// Why a runner could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its sandbox could not be built.
    #[error("could not build its sandbox: {0}")]
    Sandbox(#[from] sandbox::Error),
    /// It ended, or closed its channel, before it was ready.
    #[error("it ended before it was ready ({exit}){stderr}")]
    Ended {
        /// How it ended.
        exit: String,
        /// The end of what it wrote to stderr, after a separator; or empty.
        stderr: String,
    },
    /// It said itself what was wrong.
    #[error("it reported: {0}")]
    Reported(String),
    /// It was not ready in time.
    #[error("it was not ready within {0:?}")]
    Slow(Duration),
    /// Its channel failed.
    #[error("its channel failed: {0}")]
    Channel(#[from] std::io::Error),
    /// Too many wait already.
    #[error("{waiting} executions wait already")]
    QueueFull {
        /// The limit.
        waiting: usize,
    },
    /// A person is in control, and it does not wait for them, or has for too long.
    #[error("a person is in control of the browser")]
    HumanInControl,
    /// The session ended meanwhile.
    #[error("the session ended meanwhile")]
    Cancelled,
}
