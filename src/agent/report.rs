//! What a prompt tells while it works, and what it came to.

use std::time::{Duration, SystemTime};

use super::config::Provider;
use super::model::Tokens;
use crate::id::{ExecutionId, SessionId};

/// How a prompt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PromptOutcome {
    /// The model gave its answer.
    Answered,
    /// It had not after the last step it was given.
    StepLimit,
    /// Its time was over.
    TimedOut,
    /// It was cancelled, or its session ended.
    Cancelled,
    /// The model, or the session, failed on the way.
    Failed,
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepOutcome {
    /// The command did what it is for.
    Done,
    /// The command failed.
    Failed,
    /// It was not run: it is none that a prompt may run.
    Refused,
    /// It was killed at its time limit.
    TimedOut,
}

/// One command of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// From 1.
    pub number: u32,
    /// Secrets are `{{name}}`.
    pub command: String,
    /// How it went.
    pub outcome: StepOutcome,
    /// What it printed, or why it was refused; cut.
    pub output: String,
    /// Of the command, without the look at the page that follows.
    pub duration: Duration,
}

/// What a prompt came to. No secret's value is in it.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it could be cancelled by.
    pub execution_id: ExecutionId,
    /// Where it worked.
    pub session_id: SessionId,
    /// How it ended.
    pub outcome: PromptOutcome,
    /// The answer; of one that did not get so far, how far it came.
    pub output: String,
    /// The last snapshot of the page.
    pub result: String,
    /// What the steps printed.
    pub stdout: String,
    /// What was done.
    pub steps: Vec<Step>,
    /// Who was asked.
    pub provider: Provider,
    /// Which model.
    pub model: String,
    /// What the provider counted.
    pub tokens: Tokens,
    /// Why there is no answer.
    pub error: Option<String>,
    /// Some text in it was cut.
    pub truncated: bool,
    /// When it was asked for.
    pub start_time: SystemTime,
    /// From then to its end.
    pub duration: Duration,
    /// Of that, neither the model's, its commands', nor people's: what Pagebox takes, with its looks
    /// at the page.
    pub overhead: Duration,
    /// URL of the active page afterwards.
    pub url: String,
    /// Its title.
    pub title: String,
}

impl Report {
    /// Whether there is an answer.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.outcome == PromptOutcome::Answered
    }

    /// Pagebox ended it.
    #[must_use]
    pub fn killed(&self) -> bool {
        matches!(
            self.outcome,
            PromptOutcome::TimedOut | PromptOutcome::Cancelled
        )
    }

    /// As of a program: 0, 1, or 137 when killed.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self.outcome {
            PromptOutcome::Answered => 0,
            PromptOutcome::StepLimit | PromptOutcome::Failed => 1,
            PromptOutcome::TimedOut | PromptOutcome::Cancelled => 137,
        }
    }
}

/// What happens, in this order: steps one after the other, then one `Finished`.
#[derive(Clone, Debug)]
pub enum PromptEvent {
    /// A command is about to run.
    StepStarted {
        /// From 1.
        number: u32,
        /// Secrets are `{{name}}`.
        command: String,
    },
    /// It has ended.
    StepFinished(Step),
    /// The end.
    Finished(Box<Report>),
}
