//! agent-browser commands in the session's bash, like those of anybody who writes bash there.

use std::time::Duration;

use super::words;
use crate::execution::{
    ExecutionOptions, Language, MIN_TIMEOUT, OnHumanControl, Outcome, OutputLimits,
};
use crate::id::SessionId;
use crate::limits::Bytes;
use crate::session::{Error, Place, Registry};
use crate::tenant::Caller;

/// What one command may print.
const OUTPUT: OutputLimits = OutputLimits {
    stdout: Bytes::kib(512),
    stderr: Bytes::kib(64),
    result: Bytes::kib(1),
};

/// Runs commands in one session.
#[derive(Clone, Debug)]
pub(super) struct Hands {
    pub(super) registry: Registry,
    pub(super) caller: Caller,
    pub(super) session: SessionId,
    pub(super) on_human_control: OnHumanControl,
}

/// What a command came to.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) outcome: Outcome,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) stdout_cut: bool,
    pub(super) stderr_cut: bool,
}

impl Hands {
    /// Runs a command for at most `limit`. Dropping the call kills it.
    ///
    /// # Errors
    /// When it could not be started.
    pub(super) async fn run(&self, command: &[String], limit: Duration) -> Result<Ran, Error> {
        let code = format!("agent-browser {}", words::line(command));
        let mut options = ExecutionOptions::new(Language::Bash, code);
        options.timeout = limit.max(MIN_TIMEOUT);
        options.output_limits = OUTPUT;
        options.on_human_control = self.on_human_control;
        "prompt".clone_into(&mut options.origin);
        let place = Place::Session(self.session);
        let execution = self.registry.execute(&self.caller, place, options).await?;
        let id = execution.id;
        // Only a runner that died leaves no report; then there is nothing to go on with.
        let whole = execution
            .collect()
            .await
            .ok_or(Error::ExecutionCancelled(id))?;
        Ok(Ran {
            outcome: whole.report.outcome,
            stdout: whole.stdout.text,
            stderr: whole.stderr.text,
            stdout_cut: whole.report.stdout_truncated,
            stderr_cut: whole.report.stderr_truncated,
        })
    }
}
