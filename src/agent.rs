//! Prompts: a language model drives a session's live page, step by step, with agent-browser commands
//! in the session's bash; and what models make of a page's text.
//!
//! ```text
//! prompt ── choose a model ── begin ── look ── ask ── steps … ── report
//! ```
//!
//! Everything that comes from a page is data: it is marked as such, and what the model asks for after
//! it read it is held to the same closed list of commands, sites and secrets (`command`, `site`,
//! `secrets`, `guard`). Knows nothing of the wire to callers.

mod command;
mod config;
mod error;
mod extract;
mod focus;
mod guard;
mod hands;
mod model;
mod options;
mod report;
mod secrets;
mod site;
mod step;
mod talk;
mod text;
mod turns;
mod words;
mod work;

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tokio::sync::{OwnedMutexGuard, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::DropGuard;
use tracing::Instrument as _;

use crate::id::{ExecutionId, SessionId};
use crate::session::{Place, Registry, Task};
use crate::tenant::Caller;

pub use config::{Config, PerRequest, Provider};
pub use error::{Error, ModelFailure};
pub use extract::{Extract, ExtractError, MAX_QUESTION, Wanted};
pub use model::{ModelOptions, Models, SetupError, Tokens};
pub use options::{MAX_PROMPT, PromptOptions};
pub use report::{PromptEvent, PromptOutcome, Report, Step, StepOutcome};
pub use secrets::SecretOptions;

use hands::Hands;
use secrets::Secrets;
use site::Sites;
use text::Marks;
use turns::Turns;
use work::{End, Work};

/// Events on their way to one reader; when it is full the prompt waits.
const EVENT_QUEUE: usize = 64;
/// Prompts that may wait for one session.
const MAX_WAITING: usize = 16;

/// All prompts; cheap to clone.
#[derive(Clone, Debug)]
pub struct Agent(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    models: Models,
    turns: Turns,
}

/// A prompt at work. Dropping it cancels it.
#[derive(Debug)]
pub struct Prompt {
    /// What it is cancelled by.
    pub id: ExecutionId,
    /// Where it works.
    pub session_id: SessionId,
    /// Its events, the last one `Finished`. Bounded: a reader that stalls makes it wait.
    pub events: mpsc::Receiver<PromptEvent>,
    _kill: DropGuard,
}

impl Prompt {
    /// Waits for the end; `None` when its events ended without one.
    pub async fn collect(mut self) -> Option<Report> {
        while let Some(event) = self.events.recv().await {
            if let PromptEvent::Finished(report) = event {
                return Some(*report);
            }
        }
        None
    }
}

impl Agent {
    /// Prompts in these sessions, by these models.
    #[must_use]
    pub fn new(registry: Registry, models: Models) -> Self {
        let turns = Turns::new(MAX_WAITING);
        Self(Arc::new(Inner {
            registry,
            models,
            turns,
        }))
    }

    /// Begins a prompt; returns when the model has said what to do first. One prompt at a time works
    /// in a session, the next one waits. A dropped call cancels it.
    ///
    /// # Errors
    /// Bad options, no model, a model that fails before anything is done, or what keeps the session
    /// from being used.
    pub async fn prompt(
        &self,
        caller: &Caller,
        place: Place,
        options: PromptOptions,
    ) -> Result<Prompt, Error> {
        let (began, start_time) = (Instant::now(), SystemTime::now());
        options.validate()?;
        let config = self.0.models.config();
        let max_steps = options.steps(config.max_steps)?;
        let allowed = site::domains("allow_navigation", &options.allow_navigation)?;
        let secrets = Secrets::new(&options.secrets)?;
        let model = self.0.models.choose(options.model)?;
        let limit = options.timeout.unwrap_or(config.timeout);
        let deadline = began + limit;
        let beginning = self.0.registry.begin(caller, place, options.id);
        let begun = timeout_at(deadline, beginning).await;
        let task = begun.map_err(|_| Error::Late(limit))??;
        let (id, session_id) = (task.id(), task.session_id());
        // Dropped with the reply, or with this call.
        let kill = task.cancel_token().drop_guard();
        let turn = tokio::select! {
            turn = timeout_at(deadline, self.0.turns.take(session_id)) => {
                turn.map_err(|_| Error::Late(limit))??
            }
            error = cancelled(&task) => return Err(error.into()),
        };
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let (begun, has_begun) = oneshot::channel();
        let work = Work {
            hands: Hands {
                registry: self.0.registry.clone(),
                caller: caller.clone(),
                session: session_id,
                on_human_control: options.on_human_control,
            },
            task,
            model,
            prompt: options.prompt,
            secrets,
            has_used_secret: false,
            sites: Arc::new(Mutex::new(Sites::new(allowed))),
            guard: None,
            marks: Marks::new(),
            max_steps,
            step_timeout: config.step_timeout,
            began,
            start_time,
            limit,
            deadline,
            control: None,
            was_taken: false,
            events,
            begun: Some(begun),
            rounds: Vec::new(),
            steps: Vec::new(),
            current: None,
            snapshot: String::new(),
            stdout: String::new(),
            truncated: false,
            tokens: Tokens::default(),
            spent: std::time::Duration::ZERO,
        };
        let span = tracing::info_span!("prompt", execution_id = %id, session_id = %session_id);
        tokio::spawn(see_through(work, turn).instrument(span));
        match has_begun.await {
            Ok(Ok(())) => Ok(Prompt {
                id,
                session_id,
                events: receiver,
                _kill: kill,
            }),
            Ok(Err(error)) => Err(error),
            // It panicked.
            Err(_) => Err(Error::Page("the daemon failed; its log says how".into())),
        }
    }
}

/// Works, ends what is its own, and tells.
async fn see_through(mut work: Work, turn: OwnedMutexGuard<()>) {
    let end = work.run().await;
    let begun = work.begun.take();
    let end = match (end, begun) {
        (End::NotBegun(error), Some(begun)) => {
            tracing::debug!("the prompt did not begin");
            work.guard = None;
            work.task.close().await;
            let _ = begun.send(Err(error));
            return;
        }
        // Nobody was told as yet; a cancel is an error to them, as with code that never ran.
        (End::Cancelled, Some(begun)) => {
            let error = cancelled(&work.task).await;
            work.guard = None;
            work.task.close().await;
            let _ = begun.send(Err(error.into()));
            return;
        }
        (end, Some(begun)) => {
            let _ = begun.send(Ok(()));
            end
        }
        (end, None) => end,
    };
    let report = work.report(end);
    tracing::debug!(outcome = ?report.outcome, steps = report.steps.len(), "the prompt has ended");
    let Work {
        events,
        task,
        guard,
        ..
    } = work;
    drop(guard);
    task.close().await;
    // A reader that stalls keeps nobody else waiting.
    drop(turn);
    let _ = events.send(PromptEvent::Finished(Box::new(report))).await;
}

/// Waits for a cancel; what it is to whoever asked.
async fn cancelled(task: &Task) -> crate::session::Error {
    task.cancel_token().cancelled().await;
    let by_itself = crate::session::Error::ExecutionCancelled(task.id());
    task.session_ended().unwrap_or(by_itself)
}
