//! Sessions: the registry everyone holds, and one task per live session that owns its state.
//!
//! ```text
//! starting --> ready --> stopping --> stopped
//!     \          \           \
//!      +----------+-----------+----> failed      (start failed, browser crashed)
//! ```
//!
//! Knows nothing of the wire.

mod activity;
mod capability;
mod collect;
mod driver;
mod executions;
mod kit;
mod loopback;
mod options;
mod pool;
mod profiles;
mod records;
mod registry;
mod room;
mod shared;
mod takeover;
mod viewing;
mod watch;

pub use capability::{CdpAccess, LiveTokens, May, Token};
pub use collect::{Collected, Text, text_of};
pub use options::SessionOptions;
pub use pool::Config as PoolConfig;
pub use profiles::ProfileInUse;
pub use records::Bill;
pub use registry::{Execution, Lent, Live, Place, Registry, RegistryError, Settled, Task};
pub use takeover::{Asked, Control, PersonId};
pub use viewing::{Person, Viewing};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::execution::{BadRequest, ExecutionLimits, Language, SessionLimits};
use crate::id::{ExecutionId, SessionId};
use crate::limits::Bytes;
use crate::{browser, cdp, egress, profile, runner, sandbox, store};

/// Config section `[session]`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Live sessions at most.
    pub max_sessions: usize,
    /// Executions waiting per context at most, beyond the running one.
    pub queue_per_context: usize,
    /// `fresh` executions at once per session at most.
    pub fresh_at_once: usize,
    /// Ended sessions, and as many ended executions, remembered.
    pub remembered: usize,
    /// Size of a session's scratch.
    pub scratch: Bytes,
    /// Files and directories in a session's scratch at most.
    pub scratch_inodes: u64,
    /// Most memory of all sandboxes of a session together.
    pub memory: Bytes,
    /// Most processes and threads of all sandboxes of a session together.
    pub processes: u32,
    /// Hundredths of a core for all sandboxes of a session together; 200 is two cores.
    pub cpu_percent: u32,
    /// How long a start url may take to load.
    #[serde(with = "humantime_serde")]
    pub start_url_timeout: Duration,
    /// How long a person may be in control without doing anything, and new code wait for them.
    #[serde(with = "humantime_serde")]
    pub human_control: Duration,
    /// Whether a session that somebody looks at is not idle.
    pub watching_is_activity: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_sessions: 20,
            queue_per_context: 16,
            fresh_at_once: 8,
            remembered: 4096,
            scratch: Bytes::mib(512),
            scratch_inodes: 65_536,
            memory: Bytes::gib(3),
            processes: 2048,
            cpu_percent: 200,
            start_url_timeout: Duration::from_secs(30),
            human_control: Duration::from_secs(300),
            watching_is_activity: false,
        }
    }
}

impl Config {
    /// The most a session may ask for, and has when it asks for nothing.
    #[must_use]
    pub fn limits(&self) -> SessionLimits {
        SessionLimits {
            memory: self.memory,
            processes: self.processes,
            cpu_percent: self.cpu_percent,
            scratch: self.scratch,
            scratch_inodes: self.scratch_inodes,
        }
    }
}

/// The configuration of everything a session is made of.
#[derive(Clone, Debug)]
pub struct Configs {
    /// Sessions themselves.
    pub session: Config,
    /// What stands ready for them.
    pub pool: PoolConfig,
    /// Their browsers.
    pub browser: browser::Config,
    /// Their runners.
    pub runner: runner::Config,
    /// Their hubs.
    pub cdp: cdp::Config,
    /// Their way out.
    pub egress: egress::Config,
    /// The connections they may have.
    pub places: egress::Places,
    /// The daemon's own ports on this host, which no egress rule opens.
    pub own_ports: Vec<u16>,
    /// How long a caller may wait for room for a session.
    pub wait: Duration,
    /// How long the store knows ended sessions.
    pub retention: Duration,
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The browser is being started.
    Starting,
    /// Executions are accepted.
    Ready,
    /// Being ended.
    Stopping,
    /// Ended.
    Stopped,
    /// Ended by a fault.
    Failed,
}

impl State {
    /// Whether nothing more will happen.
    #[must_use]
    pub fn ended(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// It was stopped.
    Stopped,
    /// Its total life was over.
    TtlExpired,
    /// Nothing ran for its idle life.
    IdleExpired,
    /// It was made for one execution, and that is done.
    OneShotDone,
    /// The daemon is shutting down.
    Drained,
    /// Chromium crashed or was killed.
    BrowserCrashed,
    /// It could not be started.
    StartFailed,
    /// The caller went away before it was ready.
    Abandoned,
}

impl EndReason {
    /// The state a session ends in for this reason.
    #[must_use]
    pub fn state(self) -> State {
        match self {
            Self::BrowserCrashed | Self::StartFailed => State::Failed,
            Self::Stopped
            | Self::TtlExpired
            | Self::IdleExpired
            | Self::OneShotDone
            | Self::Drained
            | Self::Abandoned => State::Stopped,
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Self::Stopped => "it was stopped",
            Self::TtlExpired => "its time to live was over",
            Self::IdleExpired => "it was idle for too long",
            Self::OneShotDone => "its one execution is done",
            Self::Drained => "the daemon shut down",
            Self::BrowserCrashed => "its browser crashed",
            Self::StartFailed => "it could not be started",
            Self::Abandoned => "its caller went away before it was ready",
        }
    }
}

/// A session as seen from outside.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// Where it is in its life.
    pub state: State,
    /// Why it ended.
    pub end_reason: Option<EndReason>,
    /// What ended it, for a person; empty while it lives.
    pub end_detail: String,
    /// When it was asked for.
    pub create_time: SystemTime,
    /// When its total life ends at the latest.
    pub expire_time: SystemTime,
    /// When it ended.
    pub end_time: Option<SystemTime>,
    /// Total life.
    pub ttl: Duration,
    /// Longest time without an execution.
    pub idle_ttl: Duration,
    /// When something last ran in it, or a CDP client outside sent a command.
    pub last_activity: SystemTime,
    /// What opens its browser to CDP clients outside, while it lives.
    pub cdp_token: Token,
    /// What opens its live view, while it lives; none for one that is to have no live view.
    pub live_tokens: Option<LiveTokens>,
    /// Whether a person is in control of its browser.
    pub human_control: bool,
    /// Executions running or queued.
    pub running_executions: u32,
    /// Executions so far.
    pub total_executions: u64,
    /// URL of the active page.
    pub url: String,
    /// Title of the active page.
    pub title: String,
    /// The caller's labels.
    pub labels: BTreeMap<String, String>,
    /// Why the start url did not load.
    pub start_error: Option<String>,
    /// What is weaker than designed on this host; empty means full isolation.
    pub degraded: Arc<[String]>,
    /// Its traffic so far.
    pub network: egress::NetworkUsage,
    /// Limits in force on all of it together.
    pub limits: SessionLimits,
    /// Limits in force on each context.
    pub execution_limits: ExecutionLimits,
    /// Its profile, if it has one.
    pub profile: Option<ProfileInUse>,
    /// Whether its browser stood ready before it was asked for.
    pub warm: bool,
}

/// What a watcher sees.
#[derive(Clone, Debug)]
pub enum SessionEvent {
    /// The session as it now is; first, and at each change of state.
    State(Box<SessionView>),
    /// Something happened to a page.
    Page(SystemTime, cdp::HubEvent),
    /// A network request was decided, or has ended.
    Request(egress::LoggedRequest),
    /// A person has taken control of the browser, or code has it back.
    Control {
        /// When.
        time: SystemTime,
        /// Whether it is a person's.
        human: bool,
    },
    /// Code asks for a person, or does not any more.
    Asked {
        /// When.
        time: SystemTime,
        /// What for.
        reason: Option<String>,
    },
    /// The watcher was too slow for this many events of pages and of the network.
    Dropped(u64),
}

/// Why nothing was started. The status of each on the wire is decided in the wire's layer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A field of the request.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// No such session, now or remembered.
    #[error("no session {0}")]
    SessionUnknown(SessionId),
    /// No such execution, now or remembered.
    #[error("no execution {0}: never seen, or ended too long ago")]
    ExecutionUnknown(ExecutionId),
    /// It belongs to somebody else.
    #[error("session {0} belongs to another owner")]
    ForeignSession(SessionId),
    /// It belongs to somebody else.
    #[error("execution {0} belongs to another owner")]
    ForeignExecution(ExecutionId),
    /// No session has this id and this token; which of the two is wrong is not told.
    #[error("no session {0} with this token")]
    CdpRefused(SessionId),
    /// A person is in control of its browser.
    #[error("a person is in control of session {0}; try again when they are done")]
    HumanInControl(SessionId),
    /// It was cancelled while it waited.
    #[error("execution {0} was cancelled before it started")]
    ExecutionCancelled(ExecutionId),
    /// The session has ended.
    #[error("session {id} has ended: {detail}")]
    SessionEnded {
        /// Which.
        id: SessionId,
        /// Why.
        detail: String,
    },
    /// Too many sessions.
    #[error("{limit} sessions are open, the most this daemon allows; stop one first")]
    SessionLimit {
        /// The limit.
        limit: usize,
    },
    /// Too many sessions of one owner.
    #[error("{limit} sessions of yours are open, the most you may have; stop one first")]
    OwnerSessionLimit {
        /// The limit.
        limit: usize,
    },
    /// Too much use of one owner.
    #[error(transparent)]
    Spent(store::Spent),
    /// Too many executions.
    #[error("{waiting} executions are already waiting there, the most allowed; try again later")]
    QueueFull {
        /// The limit.
        waiting: usize,
    },
    /// Its profile.
    #[error(transparent)]
    Profile(Arc<profile::Error>),
    /// The daemon is shutting down.
    #[error("the daemon is shutting down")]
    Draining,
    /// The store could not be read or written.
    #[error(transparent)]
    Store(Arc<store::Error>),
    /// A sandbox could not be built.
    #[error("could not make the session's ground: {0}")]
    Sandbox(#[source] Arc<sandbox::Error>),
    /// The browser could not be started.
    #[error("could not start the browser: {0}")]
    Browser(#[source] Arc<browser::Error>),
    /// A runner could not be started.
    #[error("could not start the {language} runner: {source}")]
    Runner {
        /// Of which language.
        language: Language,
        /// Why.
        source: Arc<runner::Error>,
    },
    /// A listener from the sandbox could not be used.
    #[error("could not use a listener of the sandbox: {0}")]
    Listener(#[source] Arc<std::io::Error>),
}
