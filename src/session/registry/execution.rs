//! Executions: started in a session or with one of their own, cancelled by their ids.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::execution::{BadRequest, ExecutionEvent, ExecutionLimits, ExecutionOptions, Language};
use crate::id::{ExecutionId, SessionId};
use crate::runner::{self, Job, OnDrop};
use crate::tenant::{Caller, Owner};

use super::super::executions::Cancel;
use super::super::shared::Shared;
use super::super::{EndReason, Error, SessionOptions, State};
use super::{AbandonOnDrop, Registry};

/// Pieces of output on their way to one reader; each at most 64 KiB. When it is full the code's
/// output waits.
const EVENT_QUEUE: usize = 64;

/// Where an execution is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this session.
    Session(SessionId),
    /// In one of its own, gone when it has ended.
    OneShot(Box<SessionOptions>),
}

/// A started execution. Dropping it kills the code.
#[derive(Debug)]
pub struct Execution {
    /// Its id.
    pub id: ExecutionId,
    /// Where it runs.
    pub session_id: SessionId,
    /// Its events, the last one `Finished`. Bounded: a reader that stalls pauses the code's output.
    pub events: mpsc::Receiver<ExecutionEvent>,
    #[expect(dead_code, reason = "its drop kills the execution")]
    kill: DropGuard,
}

#[cfg(test)]
impl Execution {
    /// One whose events a test sends.
    pub(crate) fn of_events(events: mpsc::Receiver<ExecutionEvent>) -> Self {
        Self {
            id: ExecutionId::generate(),
            session_id: SessionId::generate(),
            events,
            kill: CancellationToken::new().drop_guard(),
        }
    }
}

impl Registry {
    /// Starts an execution; returns when its code has started. A dropped call kills it.
    ///
    /// # Errors
    /// Bad options, an unknown or ended session, a full queue, draining, or what failed to start.
    pub async fn execute(
        &self,
        caller: &Caller,
        place: Place,
        mut options: ExecutionOptions,
    ) -> Result<Execution, Error> {
        options.validate()?;
        if self.inner.draining.load(Ordering::Acquire) {
            return Err(Error::Draining);
        }
        match place {
            Place::Session(id) => {
                let shared = self.find(&caller.owner, id).await?;
                if options.fresh {
                    let most = shared.options.execution_limits;
                    options.limits = options.limits.within(most, "options.limits.")?;
                } else if options.limits != ExecutionLimits::default() {
                    return Err(BadRequest::new(
                        "options.limits",
                        "needs fresh, or one_shot: a session's context has its sandbox already, \
                         with the execution_limits of the session",
                    )
                    .into());
                }
                self.start_execution(&shared, options).await
            }
            Place::OneShot(session_options) => {
                self.execute_once(caller, *session_options, options).await
            }
        }
    }

    pub(super) async fn start_execution(
        &self,
        shared: &Arc<Shared>,
        options: ExecutionOptions,
    ) -> Result<Execution, Error> {
        let id = options.id.unwrap_or_else(ExecutionId::generate);
        let language = options.language;
        let cancel = shared.cancel.child_token();
        let kill = cancel.clone().drop_guard();
        let executions = &self.inner.executions;
        // Before the session may be used, so that it can be cancelled by then.
        let Some(known) = executions.add(id, &shared.owner, cancel.clone()) else {
            return Err(BadRequest::new("options.execution_id", "was used before").into());
        };
        tokio::select! {
            biased;
            // With a session that never may, the id is as good as new.
            open = shared.wait_open() => open?,
            () = cancel.cancelled() => {
                if shared.cancel.is_cancelled() {
                    return Err(shared.ended_error());
                }
                known.remembered();
                return Err(Error::ExecutionCancelled(id));
            }
        }
        let known = known.remembered();
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let (started, has_started) = oneshot::channel();
        shared.execution_added();
        let guard = {
            let shared = Arc::clone(shared);
            OnDrop::new(move || {
                drop(known);
                shared.execution_ended();
            })
        };
        let job = Job {
            id,
            session_id: shared.id,
            options,
            events,
            started,
            cancel: cancel.clone(),
            guard,
        };
        if shared.jobs.send(job).await.is_err() {
            return Err(shared.ended_error());
        }
        match has_started.await {
            Ok(Ok(_)) => Ok(Execution {
                id,
                session_id: shared.id,
                events: receiver,
                kill,
            }),
            Ok(Err(runner::Error::QueueFull { waiting })) => Err(Error::QueueFull { waiting }),
            Ok(Err(runner::Error::HumanInControl)) => Err(Error::HumanInControl(shared.id)),
            Ok(Err(runner::Error::Cancelled)) | Err(_) => {
                let by_itself = cancel.is_cancelled() && !shared.cancel.is_cancelled();
                Err(if by_itself {
                    Error::ExecutionCancelled(id)
                } else {
                    shared.ended_error()
                })
            }
            Ok(Err(error)) => Err(runner_error(shared, language, error).await),
        }
    }

    /// Runs code in a session of its own; the last event is given only when that session is gone.
    async fn execute_once(
        &self,
        caller: &Caller,
        mut session_options: SessionOptions,
        mut options: ExecutionOptions,
    ) -> Result<Execution, Error> {
        session_options.validate()?;
        self.resolve_limits(&mut session_options, "options.one_shot.")?;
        let most = session_options.execution_limits;
        options.limits = options.limits.within(most, "options.limits.")?;
        // The sandboxes of such a session are those of its one execution.
        session_options.execution_limits = options.limits;
        self.check_proxy(&session_options, "options.one_shot.network.proxy.server")?;
        let shared = self.open(caller, session_options, None).await?;
        let abandoned = AbandonOnDrop(Some(Arc::clone(&shared)));
        let started = match self.start_execution(&shared, options).await {
            Ok(started) => started,
            Err(error) => {
                match shared.state() {
                    State::Starting => {
                        shared.request_end_because(EndReason::Abandoned, error.to_string());
                    }
                    _ => shared.request_end(EndReason::OneShotDone),
                }
                shared.wait_ended().await;
                return Err(error);
            }
        };
        abandoned.keep();
        let (sender, receiver) = mpsc::channel(EVENT_QUEUE);
        let cancel = CancellationToken::new();
        let kill = cancel.clone().drop_guard();
        let (id, session_id) = (started.id, started.session_id);
        tokio::spawn(async move {
            // The whole of it: capturing only its events would drop, and so kill, it here.
            let mut inner = started;
            loop {
                let event = tokio::select! {
                    event = inner.events.recv() => event,
                    () = cancel.cancelled() => None,
                };
                let last = !matches!(
                    event,
                    Some(ExecutionEvent::Started { .. } | ExecutionEvent::Output(..))
                );
                if last {
                    shared.request_end(EndReason::OneShotDone);
                    shared.wait_ended().await;
                }
                let Some(event) = event else { return };
                if sender.send(event).await.is_err() || last {
                    // A reader that went away drops `inner` here, which kills the code.
                    shared.request_end(EndReason::OneShotDone);
                    return;
                }
            }
        });
        Ok(Execution {
            id,
            session_id,
            events: receiver,
            kill,
        })
    }

    /// Kills an execution; `false` when it had already ended.
    ///
    /// # Errors
    /// When it is not known.
    pub async fn cancel(&self, owner: &Owner, id: ExecutionId) -> Result<bool, Error> {
        match self.inner.executions.cancel(owner, id) {
            Cancel::Cancelled => Ok(true),
            Cancel::AlreadyEnded => Ok(false),
            Cancel::Unknown => Err(Error::ExecutionUnknown(id)),
            Cancel::Foreign => Err(Error::ForeignExecution(id)),
        }
    }
}

/// Why a runner did not start: for a session whose browser is gone that is the reason, whatever
/// the runner says.
async fn runner_error(shared: &Shared, language: Language, error: runner::Error) -> Error {
    let ending = match shared.hub() {
        Some(hub) => hub.is_closed(),
        None => true,
    };
    if !ending && shared.state() == State::Ready {
        return Error::Runner {
            language,
            source: Arc::new(error),
        };
    }
    shared.end_requested().await;
    shared.ended_error()
}
