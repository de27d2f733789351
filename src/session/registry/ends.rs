//! How sessions end, and what they have used by then.

use super::Registry;
use crate::id::SessionId;
use crate::session::{Bill, EndReason, Error, SessionView, State};
use crate::tenant::Owner;

/// A session that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// `Stopped` or `Failed`.
    pub state: State,
    /// What it used.
    pub bill: Bill,
    /// Whether this daemon had ended it before.
    pub was_over: bool,
    /// Why its profile was not saved, if it was to be.
    pub save_error: Option<String>,
}

impl Registry {
    /// Ends a session, and returns when nothing of it is left. Idempotent.
    ///
    /// # Errors
    /// When it is not known.
    pub async fn stop(&self, owner: &Owner, id: SessionId) -> Result<SessionView, Error> {
        let shared = self.find(owner, id).await?;
        shared.request_end(EndReason::Stopped);
        shared.wait_ended().await;
        Ok(shared.view())
    }

    /// The same, also for one that only the store knows, which is over.
    ///
    /// # Errors
    /// When it is not known.
    pub async fn settle(&self, owner: &Owner, id: SessionId) -> Result<Settled, Error> {
        let known = self.sessions().known(owner, id)?;
        let Some(shared) = known else {
            return Ok(Settled {
                state: State::Stopped,
                bill: self.bill(owner, id).await?,
                was_over: false,
                save_error: None,
            });
        };
        let was_over = shared.state().ended();
        shared.request_end(EndReason::Stopped);
        shared.wait_ended().await;
        Ok(Settled {
            state: shared.state(),
            bill: shared.bill(),
            was_over,
            save_error: (shared.view().profile).and_then(|profile| profile.save_error),
        })
    }

    /// What a session has used until its end, or until now; of any that the store knows.
    ///
    /// # Errors
    /// When it is not known.
    pub async fn bill(&self, owner: &Owner, id: SessionId) -> Result<Bill, Error> {
        let known = self.sessions().known(owner, id)?;
        if let Some(shared) = known {
            return Ok(shared.bill());
        }
        let past = self.inner.records.past(owner, id).await?;
        Ok(Bill {
            lived: past.lived,
            credits: past.credits,
        })
    }
}
