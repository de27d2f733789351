//! Executions: what is asked for, what comes back while it runs, how it ended.
//!
//! Pure values and decisions. Knows nothing of sandboxes, browsers or the wire.

mod limits;
mod outcome;
mod output;
mod request;

pub use limits::{ExecutionLimits, SessionLimits};
pub use outcome::{Ending, MemoryLimit, Outcome, Verdict, decide};
pub use output::{BoundedOutput, Stream};
pub use request::{
    BadRequest, DEFAULT_TIMEOUT, ExecutionOptions, Language, MAX_CODE_BYTES, MAX_TIMEOUT,
    MIN_TIMEOUT, OnHumanControl, OutputLimits,
};

use std::time::{Duration, SystemTime};

use crate::id::{ExecutionId, SessionId};
use crate::limits::Bytes;

/// An error the code did not catch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionError {
    /// Its class, such as `TypeError`.
    pub name: String,
    /// Its message.
    pub message: String,
}

/// What an execution sends while it runs, in this order: one `Started`, output as it comes, one
/// `Finished`.
#[derive(Clone, Debug)]
pub enum ExecutionEvent {
    /// The code was started.
    Started {
        /// When.
        time: SystemTime,
    },
    /// A piece of output, as written, already within the stream's limit.
    Output(Stream, bytes::Bytes),
    /// The end.
    Finished(Box<ExecutionReport>),
}

/// Limits an execution ran into, as the kernel counted it for its sandbox; zero where nothing
/// counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitsHit {
    /// Processes killed for the memory limit.
    pub oom_kills: u64,
    /// Processes and threads refused at the process limit.
    pub forks_refused: u64,
    /// How long it was held back for its cpu limit.
    pub cpu_throttled: Duration,
}

/// How an execution went, without its output (that came as [`ExecutionEvent::Output`]).
#[derive(Clone, Debug)]
pub struct ExecutionReport {
    /// Which execution.
    pub execution_id: ExecutionId,
    /// Where it ran.
    pub session_id: SessionId,
    /// How it ended.
    pub outcome: Outcome,
    /// 0; 1 on an uncaught error; n of `exit(n)`; 137 when killed.
    pub exit_code: i32,
    /// Pagebox ended it.
    pub killed: bool,
    /// The last expression.
    pub result: Option<String>,
    /// The uncaught error.
    pub error: Option<ExecutionError>,
    /// stdout beyond its limit was dropped.
    pub stdout_truncated: bool,
    /// stderr beyond its limit was dropped.
    pub stderr_truncated: bool,
    /// The result beyond its limit was cut.
    pub result_truncated: bool,
    /// When the code was started.
    pub start_time: SystemTime,
    /// When it had ended.
    pub end_time: SystemTime,
    /// From start to end on the monotonic clock.
    pub duration: Duration,
    /// Most memory of its sandbox meanwhile; `None` where the host cannot measure it.
    pub peak_memory: Option<Bytes>,
    /// Processor time of its sandbox meanwhile.
    pub cpu_time: Duration,
    /// What it ran into meanwhile.
    pub limits_hit: LimitsHit,
    /// Variables of earlier executions were lost before this one.
    pub context_restarted: bool,
    /// The active page was replaced by a blank one.
    pub page_replaced: bool,
    /// URL of the active page afterwards.
    pub url: String,
    /// Title of the active page afterwards.
    pub title: String,
}
