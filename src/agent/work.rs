//! The loop: what the page shows goes to the model, what the model says is done on the page, until
//! there is an answer.
//!
//! ```text
//! look ── ask ─┬─ answer ───────────────────────────────► end
//!        ▲     └─ commands ── step, step … ─┬─ steps left
//!        └──────────────────────────────────┤
//!          ask once more, without a tool ◄──┴─ none left
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use genai::chat::ChatMessage;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::error::{Error, ModelFailure};
use super::guard::Guard;
use super::hands::Hands;
use super::model::{Model, Reply, Tokens};
use super::report::{PromptEvent, PromptOutcome, Report, Step, StepOutcome};
use super::secrets::Secrets;
use super::site::Sites;
use super::talk::Round;
use super::text::Marks;
use crate::cdp::{Hub, InControl};
use crate::execution::OnHumanControl;
use crate::runner::time_is_over;
use crate::session::{self, Task};

/// Most of what all steps print that is kept, in bytes.
const MAX_STDOUT: usize = 1 << 20;
/// Answers that are none, one after the other, until the model is given up.
const MAX_STUMBLES: u32 = 3;

/// A prompt at work.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) task: Task,
    pub(super) hands: Hands,
    pub(super) model: Model,
    pub(super) prompt: String,
    pub(super) secrets: Secrets,
    /// A secret was put into the page.
    pub(super) has_used_secret: bool,
    pub(super) sites: Arc<Mutex<Sites>>,
    pub(super) guard: Option<Guard>,
    pub(super) marks: Marks,
    pub(super) max_steps: u32,
    pub(super) step_timeout: Duration,
    pub(super) began: Instant,
    pub(super) start_time: SystemTime,
    /// For all of it.
    pub(super) limit: Duration,
    /// When that is over, unless people are in control meanwhile.
    pub(super) deadline: Instant,
    /// Who controls the browser; what was not seen of it is news.
    pub(super) control: Option<watch::Receiver<InControl>>,
    /// A person was, since the page was last looked at.
    pub(super) was_taken: bool,
    pub(super) events: mpsc::Sender<PromptEvent>,
    /// Told once when the model has said something for the first time.
    pub(super) begun: Option<oneshot::Sender<Result<(), Error>>>,
    pub(super) rounds: Vec<Round>,
    pub(super) steps: Vec<Step>,
    /// The step under way.
    pub(super) current: Option<(u32, String, Instant)>,
    /// The page as the model was last shown it.
    pub(super) snapshot: String,
    pub(super) stdout: String,
    pub(super) truncated: bool,
    pub(super) tokens: Tokens,
    /// The time of the model, of its commands, and of people in control.
    pub(super) spent: Duration,
}

/// How the work ends.
#[derive(Debug)]
pub(super) enum End {
    Answered(String),
    StepLimit,
    TimedOut,
    Cancelled,
    Failed(String),
    /// Nothing was done.
    NotBegun(Error),
}

/// What a step gives the model.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) picture: Option<String>,
}

impl Work {
    /// Works to the end, the deadline, or a cancel.
    pub(super) async fn run(&mut self) -> End {
        let cancel = self.task.cancel_token();
        let hub = match self.hub() {
            Ok(hub) => hub,
            Err(error) => return End::NotBegun(error.into()),
        };
        let left = self.deadline.saturating_duration_since(Instant::now());
        let longest = hub.handoff_limit();
        let end = tokio::select! {
            biased;
            () = cancel.cancelled() => End::Cancelled,
            () = time_is_over(left, longest, hub.handoffs(), hub.control(), &[]) => End::TimedOut,
            end = self.work(&hub) => end,
        };
        if let Some((number, command, since)) = self.current.take() {
            let duration = since.elapsed();
            self.spent += duration;
            let outcome = match &end {
                End::TimedOut => StepOutcome::TimedOut,
                _ => StepOutcome::Failed,
            };
            let output = match &end {
                End::TimedOut => "stopped: the prompt's time was over",
                End::Cancelled => "stopped: the prompt was cancelled",
                _ => "stopped",
            };
            let step = self.keep_step(number, command, outcome, output.to_owned(), duration);
            // A reader that stalls learns of it by the report.
            let _ = self.events.try_send(PromptEvent::StepFinished(step));
        }
        end
    }

    async fn work(&mut self, hub: &Hub) -> End {
        if let Err(error) = self.begin(hub).await {
            return End::NotBegun(error);
        }
        let mut stumbles = 0;
        loop {
            if self.was_taken().await
                && let Err(error) = self.look().await
            {
                return self.lost(&error);
            }
            let is_last = self.steps.len() >= self.max_steps as usize;
            let reply = match self.ask(is_last).await {
                Ok(reply) => reply,
                Err(ModelFailure::Garbage(_)) if stumbles + 1 < MAX_STUMBLES => {
                    stumbles += 1;
                    continue;
                }
                Err(why) => return self.model_failed(why),
            };
            self.has_begun();
            if reply.calls.is_empty() && !reply.text.is_empty() && !reply.is_cut {
                return End::Answered(self.secrets.hide(&reply.text).into_owned());
            }
            if is_last {
                return End::StepLimit;
            }
            if reply.calls.is_empty() {
                stumbles += 1;
                if stumbles >= MAX_STUMBLES {
                    let what = match reply.is_cut {
                        true => "its answer is longer than agent.max_tokens allows",
                        false => "it said nothing",
                    };
                    return self.model_failed(ModelFailure::Garbage(what.into()));
                }
                let remark = match reply.is_cut {
                    true => "Your answer was cut: it was too long. Answer shorter.",
                    false => "You said nothing. Call the tool, or answer the task in plain text.",
                };
                let said = match reply.text.is_empty() {
                    // No provider takes a message without content.
                    true => ChatMessage::assistant("(nothing)"),
                    false => reply.message,
                };
                self.rounds.push(Round::remark(said, remark));
                continue;
            }
            stumbles = 0;
            if let Err(error) = self.round(reply).await {
                return self.lost(&error);
            }
        }
    }

    /// There is no going on.
    fn lost(&self, error: &session::Error) -> End {
        match self.task.session_ended() {
            Some(ended) => End::Failed(ended.to_string()),
            None => End::Failed(error.to_string()),
        }
    }

    /// Looks at the page for the first time.
    async fn begin(&mut self, hub: &Hub) -> Result<(), Error> {
        let control = hub.control();
        if control.borrow().is_person() {
            // In line, or refused, as code is.
            let words = ["get".to_owned(), "url".to_owned()];
            self.hands.run(&words, self.step_timeout).await?;
        }
        self.control = Some(control);
        let page = hub.look_at_active_page().await?;
        let allowed = std::mem::take(&mut *self.sites());
        *self.sites() = allowed.beginning_at(&page.url);
        self.keep_guard().await?;
        Ok(self.look().await?)
    }

    /// Asks for the next commands, or the answer.
    async fn ask(&mut self, is_last: bool) -> Result<Reply, ModelFailure> {
        let request = self.request(is_last);
        let since = Instant::now();
        let asked = self.model.ask(&request, self.deadline).await;
        self.spent += since.elapsed();
        if let Ok(reply) = &asked {
            self.tokens.add(reply.tokens);
        }
        asked
    }

    /// Whether a person was in control since this was last asked; waits until none is.
    pub(super) async fn was_taken(&mut self) -> bool {
        if self.hands.on_human_control == OnHumanControl::Ignore {
            return false;
        }
        let Some(control) = &mut self.control else {
            return false;
        };
        // Without a hub there is nobody; whatever comes next says so.
        if !control.has_changed().unwrap_or(false) && !control.borrow().is_person() {
            return false;
        }
        let since = Instant::now();
        let _ = control.wait_for(|who| !who.is_person()).await;
        let waited = since.elapsed();
        self.deadline += waited;
        self.spent += waited;
        self.was_taken = true;
        true
    }

    fn has_begun(&mut self) {
        if let Some(begun) = self.begun.take() {
            self.task.use_prompt();
            // Whoever asked may have gone away; that cancels.
            let _ = begun.send(Ok(()));
        }
    }

    fn model_failed(&self, why: ModelFailure) -> End {
        let model = self.model.name.clone();
        match self.steps.is_empty() && self.begun.is_some() {
            true => End::NotBegun(Error::Model { model, why }),
            false => End::Failed(format!("the model {model} failed: {why}")),
        }
    }

    /// Does what the model asks for, one after the other.
    async fn round(&mut self, reply: Reply) -> Result<(), session::Error> {
        let mut round = Round {
            said: reply.message,
            results: Vec::new(),
            pictures: Vec::new(),
            remark: None,
        };
        for call in reply.calls {
            let given = match self.steps.len() >= self.max_steps as usize {
                true => Given {
                    text: "Not run: there are no steps left.".into(),
                    picture: None,
                },
                false => self.step(&call).await?,
            };
            round.pictures.extend(given.picture);
            round.results.push((call, given.text));
        }
        self.rounds.push(round);
        Ok(())
    }

    pub(super) fn sites(&self) -> std::sync::MutexGuard<'_, Sites> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hub(&self) -> Result<Hub, session::Error> {
        let ended = || self.task.session_ended();
        self.task.live().hub().ok_or_else(|| {
            ended().unwrap_or(session::Error::SessionUnknown(self.task.session_id()))
        })
    }

    /// Keeps what a step came to, for the report and the model.
    pub(super) fn keep_step(
        &mut self,
        number: u32,
        command: String,
        outcome: StepOutcome,
        output: String,
        duration: Duration,
    ) -> Step {
        let room = MAX_STDOUT.saturating_sub(self.stdout.len());
        let end = output.floor_char_boundary(room.min(output.len()));
        self.truncated |= end < output.len();
        self.stdout.push_str(&output[..end]);
        if !self.stdout.is_empty() && !self.stdout.ends_with('\n') {
            self.stdout.push('\n');
        }
        let step = Step {
            number,
            command,
            outcome,
            output,
            duration,
        };
        self.steps.push(step.clone());
        step
    }

    /// What it came to.
    pub(super) fn report(&mut self, end: End) -> Report {
        let (outcome, answer, error) = match end {
            End::Answered(answer) => (PromptOutcome::Answered, Some(answer), None),
            End::StepLimit => {
                let why = format!("not done after {} steps, the most it had", self.max_steps);
                (PromptOutcome::StepLimit, None, Some(why))
            }
            End::TimedOut => {
                let why = format!("not done within {:?}, its timeout", self.limit);
                (PromptOutcome::TimedOut, None, Some(why))
            }
            End::Cancelled => {
                let why = match self.task.session_ended() {
                    Some(ended) => ended.to_string(),
                    None => "it was cancelled".to_owned(),
                };
                (PromptOutcome::Cancelled, None, Some(why))
            }
            End::Failed(why) => (PromptOutcome::Failed, None, Some(why)),
            End::NotBegun(error) => (PromptOutcome::Failed, None, Some(error.to_string())),
        };
        let error = error.map(|why| self.secrets.hide(&why).into_owned());
        let output = answer.unwrap_or_else(|| self.how_far(error.as_deref().unwrap_or_default()));
        let page = self.task.live().hub().map(|hub| hub.active_page());
        let page = page.unwrap_or_default();
        let duration = self.began.elapsed();
        Report {
            execution_id: self.task.id(),
            session_id: self.task.session_id(),
            outcome,
            output,
            result: std::mem::take(&mut self.snapshot),
            stdout: std::mem::take(&mut self.stdout),
            steps: std::mem::take(&mut self.steps),
            provider: self.model.provider,
            model: self.model.name.clone(),
            tokens: self.tokens,
            error,
            truncated: self.truncated,
            start_time: self.start_time,
            duration,
            overhead: duration.saturating_sub(self.spent),
            url: self.secrets.hide(&page.url).into_owned(),
            title: self.secrets.hide(&page.title).into_owned(),
        }
    }

    /// In place of an answer.
    fn how_far(&self, why: &str) -> String {
        if self.steps.is_empty() {
            return format!("There is no answer: {why}. Nothing was done on the page.");
        }
        let page = self.snapshot.lines().take(2).collect::<Vec<_>>().join(", ");
        format!(
            "There is no answer: {why}. What was done:\n{}The page then: {page}",
            self.done()
        )
    }
}
