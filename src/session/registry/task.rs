//! Work of the daemon in a session that a caller can cancel like an execution: a prompt.

use std::sync::Arc;

use tokio_util::sync::{CancellationToken, DropGuard};

use super::{AbandonOnDrop, Live, Place, Registry};
use crate::execution::BadRequest;
use crate::id::{ExecutionId, SessionId};
use crate::runner::OnDrop;
use crate::session::shared::Shared;
use crate::session::{EndReason, Error, State};
use crate::tenant::Caller;

/// Work under way. Dropping it cancels what runs of it; a session made for it ends.
#[derive(Debug)]
pub struct Task {
    id: ExecutionId,
    shared: Arc<Shared>,
    cancel: CancellationToken,
    _kill: DropGuard,
    /// Until it is dropped it keeps the session from being idle.
    _running: OnDrop,
    /// The session is its own.
    is_one_shot: bool,
}

impl Registry {
    /// Begins work in a session, or in one of its own, once that may be used. It counts as one
    /// execution, and [`Registry::cancel`] knows it by its id.
    ///
    /// # Errors
    /// An unknown or ended session, an id that was used before, a cancel meanwhile, draining, or what
    /// failed to start.
    pub async fn begin(
        &self,
        caller: &Caller,
        place: Place,
        id: Option<ExecutionId>,
    ) -> Result<Task, Error> {
        if self.is_draining() {
            return Err(Error::Draining);
        }
        match place {
            Place::Session(session) => {
                let shared = self.find(&caller.owner, session).await?;
                self.begin_in(shared, id, false).await
            }
            Place::OneShot(mut options) => {
                options.validate()?;
                self.resolve_limits(&mut options, "options.one_shot.")?;
                self.check_proxy(&options, "options.one_shot.network.proxy.server")?;
                let shared = self.open(caller, *options, None).await?;
                let abandoned = AbandonOnDrop(Some(Arc::clone(&shared)));
                let begun = self.begin_in(Arc::clone(&shared), id, true).await;
                abandoned.keep();
                if let Err(error) = &begun {
                    match shared.state() {
                        State::Starting => {
                            shared.request_end_because(EndReason::Abandoned, error.to_string());
                        }
                        _ => shared.request_end(EndReason::OneShotDone),
                    }
                    shared.wait_ended().await;
                }
                begun
            }
        }
    }

    async fn begin_in(
        &self,
        shared: Arc<Shared>,
        id: Option<ExecutionId>,
        is_one_shot: bool,
    ) -> Result<Task, Error> {
        let id = id.unwrap_or_else(ExecutionId::generate);
        let cancel = shared.cancel.child_token();
        let kill = cancel.clone().drop_guard();
        let known = self.inner.executions.add(id, &shared.owner, cancel.clone());
        let Some(known) = known else {
            return Err(BadRequest::new("options.execution_id", "was used before").into());
        };
        tokio::select! {
            biased;
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
        shared.execution_added();
        let running = {
            let shared = Arc::clone(&shared);
            OnDrop::new(move || {
                drop(known);
                shared.execution_ended();
            })
        };
        Ok(Task {
            id,
            shared,
            cancel,
            _kill: kill,
            _running: running,
            is_one_shot,
        })
    }
}

impl Task {
    /// What it is cancelled by.
    #[must_use]
    pub fn id(&self) -> ExecutionId {
        self.id
    }

    /// Where it works.
    #[must_use]
    pub fn session_id(&self) -> SessionId {
        self.shared.id
    }

    /// The session, to work in.
    #[must_use]
    pub fn live(&self) -> Live {
        Live::of(&self.shared)
    }

    /// Cancelled with it, or with its session.
    #[must_use]
    pub fn cancel_token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Why its session has ended or is ending; none while it goes on.
    #[must_use]
    pub fn session_ended(&self) -> Option<Error> {
        let is_ending = self.shared.cancel.is_cancelled() || self.shared.state() != State::Ready;
        is_ending.then(|| self.shared.ended_error())
    }

    /// From now on its session costs what a prompt does.
    pub fn use_prompt(&self) {
        self.shared.use_prompt();
    }

    /// Ends it; returns when nothing is left of a session that was made for it.
    pub async fn close(self) {
        let own = self.is_one_shot.then(|| Arc::clone(&self.shared));
        drop(self);
        if let Some(shared) = own {
            shared.wait_ended().await;
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.is_one_shot {
            self.shared.request_end(EndReason::OneShotDone);
        }
    }
}
