//! Sessions: the registry, and one task per live session. SKELETON
#![allow(missing_docs, clippy::todo, unused_variables, clippy::unused_async)]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;

use crate::execution::{BadRequest, ExecutionEvent, ExecutionOptions};
use crate::id::{ExecutionId, SessionId};
use crate::limits::Bytes;
use crate::{browser, cdp, egress, runner, sandbox};

/// Config section `[session]`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Live sessions at most.
    pub max_sessions: usize,
    /// Executions waiting per context at most, beyond the running one.
    pub queue_per_context: usize,
    /// Ended sessions remembered.
    pub remembered: usize,
    /// Scratch size and inodes.
    pub scratch: Bytes,
    pub scratch_inodes: u64,
    /// Limits on all sandboxes of a session together.
    pub memory: Bytes,
    pub processes: u32,
    pub cpu_percent: u32,
    /// How long the start url may take to load.
    #[serde(with = "humantime_serde")]
    pub start_url_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_sessions: 20,
            queue_per_context: 16,
            remembered: 10_000,
            scratch: Bytes::mib(512),
            scratch_inodes: 65_536,
            memory: Bytes::gib(2),
            processes: 1024,
            cpu_percent: 200,
            start_url_timeout: Duration::from_secs(30),
        }
    }
}

/// Everything below the session layer that it needs.
#[derive(Clone, Debug)]
pub struct Configs {
    pub session: Config,
    pub browser: browser::Config,
    pub runner: runner::Config,
    pub cdp: cdp::Config,
    pub egress: egress::Config,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    pub ttl: Duration,
    pub idle_ttl: Duration,
    pub start_url: Option<String>,
    /// CSS pixels.
    pub viewport: (u32, u32),
    pub user_agent: Option<String>,
    pub labels: BTreeMap<String, String>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(600),
            idle_ttl: Duration::from_secs(300),
            start_url: None,
            viewport: (1280, 720),
            user_agent: None,
            labels: BTreeMap::new(),
        }
    }
}

impl SessionOptions {
    /// Checks every field; names are the proto's.
    pub fn validate(&self) -> Result<(), BadRequest> {
        todo!()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    Starting,
    Ready,
    Stopping,
    Stopped,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    Stopped,
    TtlExpired,
    IdleExpired,
    OneShotDone,
    Drained,
    BrowserCrashed,
    StartFailed,
    Abandoned,
}

/// A session as seen from outside.
#[derive(Clone, Debug)]
pub struct SessionView {
    pub id: SessionId,
    pub state: State,
    pub end_reason: Option<EndReason>,
    pub end_detail: String,
    pub create_time: SystemTime,
    pub expire_time: SystemTime,
    pub end_time: Option<SystemTime>,
    pub ttl: Duration,
    pub idle_ttl: Duration,
    pub running_executions: u32,
    pub total_executions: u64,
    pub url: String,
    pub title: String,
    pub labels: BTreeMap<String, String>,
    pub start_error: Option<String>,
    /// What is weaker than designed on this host; empty means full isolation.
    pub degraded: std::sync::Arc<[String]>,
}

#[derive(Clone, Debug)]
pub enum SessionEvent {
    State(Box<SessionView>),
    Page(SystemTime, cdp::HubEvent),
    Dropped(u64),
}

#[derive(Clone, Debug)]
pub enum Place {
    Session(SessionId),
    OneShot(SessionOptions),
}

/// A started call: events until `Finished`. Dropping it kills the execution.
#[derive(Debug)]
pub struct Execution {
    pub id: ExecutionId,
    pub session_id: SessionId,
    /// Bounded; a reader that stalls pauses the code's output, not the daemon.
    pub events: mpsc::Receiver<ExecutionEvent>,
}

/// All sessions; cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry(());

impl Registry {
    pub fn new(sandboxes: sandbox::Sandboxes, configs: Configs) -> Result<Self, Error> {
        todo!()
    }
    /// Cancel safe: a dropped call abandons the session.
    pub async fn create(
        &self,
        options: SessionOptions,
        idempotency_key: Option<String>,
    ) -> Result<SessionView, Error> {
        todo!()
    }
    pub fn get(&self, id: SessionId) -> Result<SessionView, Error> {
        todo!()
    }
    /// Newest first; `after` is the last id of the page before.
    pub fn list(
        &self,
        states: &[State],
        after: Option<SessionId>,
        limit: usize,
    ) -> (Vec<SessionView>, Option<SessionId>) {
        todo!()
    }
    pub async fn stop(&self, id: SessionId) -> Result<SessionView, Error> {
        todo!()
    }
    /// First event is the state now; the receiver ends after the last state.
    pub fn watch(&self, id: SessionId) -> Result<mpsc::Receiver<SessionEvent>, Error> {
        todo!()
    }
    pub async fn execute(
        &self,
        place: Place,
        options: ExecutionOptions,
    ) -> Result<Execution, Error> {
        todo!()
    }
    /// `false` when it had already ended.
    pub async fn cancel(&self, id: ExecutionId) -> Result<bool, Error> {
        todo!()
    }
    /// Refuses new work, lets executions run for at most `grace`, then ends every session.
    pub async fn drain(&self, grace: Duration) {
        todo!()
    }
}

/// Why nothing was started. The gRPC status and reason of each are decided in `grpc/status.rs`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    #[error("no session {0}")]
    SessionUnknown(SessionId),
    #[error("no execution {0}: never seen, or ended too long ago")]
    ExecutionUnknown(ExecutionId),
    #[error("session {id} has ended: {detail}")]
    SessionEnded { id: SessionId, detail: String },
    #[error("{limit} sessions are open, the most this daemon allows; stop one first")]
    SessionLimit { limit: usize },
    #[error("{waiting} executions are already waiting for this context; try again later")]
    QueueFull { waiting: usize },
    #[error("the daemon is shutting down")]
    Draining,
    #[error("could not build the sandbox: {0}")]
    Sandbox(#[source] std::sync::Arc<sandbox::Error>),
    #[error("could not start the browser: {0}")]
    Browser(#[source] std::sync::Arc<browser::Error>),
    #[error("could not start the {language} runner: {detail}")]
    Runner {
        language: crate::execution::Language,
        detail: String,
    },
}
