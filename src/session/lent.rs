//! Sessions the daemon opens for itself: unknown to everybody until they are handed over.
//!
//! ```text
//! lend --> Borrowed --> Kept --> adopted: an ordinary session
//!             |           \----> ended: made room for another, or kept for long enough
//!             \----------------> handed over: an ordinary session
//! ```
//!
//! A borrowed one counts as a session; a kept one does not.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::registry::Sessions;
use super::shared::Shared;
use super::{EndReason, Error, Registry, SessionOptions, SessionView};
use crate::cdp::Hub;
use crate::egress::Egress;
use crate::execution::BadRequest;
use crate::id::SessionId;
use crate::tenant::Caller;

/// What a session that is nobody's is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// At work.
    Borrowed,
    /// Left as it is for a while.
    Kept,
    /// Was kept, and is ending.
    Leaving,
}

/// A session at work for the daemon. Dropping it ends the session.
#[derive(Debug)]
pub struct Lent {
    registry: Registry,
    shared: Option<Arc<Shared>>,
}

impl Registry {
    /// Opens a session for the daemon's own use, which counts as one of the caller's, and waits until
    /// it is ready. A dropped call ends it again.
    ///
    /// # Errors
    /// As [`Registry::create`].
    pub async fn lend(&self, caller: &Caller, mut options: SessionOptions) -> Result<Lent, Error> {
        options.validate()?;
        self.resolve_limits(&mut options, "options.")?;
        let shared = self.open(caller, options, None, true)?;
        let lent = Lent {
            registry: self.clone(),
            shared: Some(Arc::clone(&shared)),
        };
        shared.wait_ready().await?;
        Ok(lent)
    }

    /// Makes a kept session an ordinary one of `caller`, whose life begins now; `None` when it is gone.
    ///
    /// # Errors
    /// When the caller has too many sessions, or asks for a life that no session may have; it stays
    /// kept.
    pub fn adopt(
        &self,
        caller: &Caller,
        id: SessionId,
        ttl: Duration,
        idle_ttl: Duration,
    ) -> Result<Option<SessionView>, Error> {
        check_life(ttl, idle_ttl)?;
        let mut sessions = self.sessions();
        if sessions.lent.get(&id) != Some(&Use::Kept) {
            return Ok(None);
        }
        sessions.check_owner(caller)?;
        let Some(shared) = sessions.all.get(&id).map(Arc::clone) else {
            return Ok(None);
        };
        if shared.owner != caller.owner {
            return Err(Error::ForeignSession(id));
        }
        if !shared.renew(ttl, idle_ttl) {
            return Ok(None);
        }
        sessions.lent.remove(&id);
        sessions.live += 1;
        Ok(Some(shared.view()))
    }

    /// Whether a session is kept, and can be adopted.
    #[must_use]
    pub fn is_kept(&self, id: SessionId) -> bool {
        self.sessions().lent.get(&id) == Some(&Use::Kept)
    }
}

impl Sessions {
    /// Refuses one more session of an owner who has all that he may.
    pub(super) fn check_owner(&self, caller: &Caller) -> Result<(), Error> {
        let limit = caller.max_sessions;
        let counts = |shared: &&Arc<Shared>| {
            let lent = self.lent.get(&shared.id);
            shared.owner == caller.owner
                && !shared.state().ended()
                && lent.is_none_or(|lent| *lent == Use::Borrowed)
        };
        if limit < usize::MAX && self.all.values().filter(counts).count() >= limit {
            return Err(Error::OwnerSessionLimit { limit });
        }
        Ok(())
    }

    /// Ends the oldest kept session when, with those that count, there are `limit` of them.
    pub(super) fn make_room(&mut self, limit: usize) -> Option<Arc<Shared>> {
        let kept = self.lent.values().filter(|lent| **lent == Use::Kept);
        if self.live + kept.count() < limit {
            return None;
        }
        self.end_oldest_kept()
    }

    fn end_oldest_kept(&mut self) -> Option<Arc<Shared>> {
        let mut lent = self.lent.iter_mut();
        let (id, lent) = lent.find(|(_, lent)| **lent == Use::Kept)?;
        *lent = Use::Leaving;
        let shared = Arc::clone(self.all.get(id)?);
        let detail = "it was kept, and others needed the room".to_owned();
        shared.request_end_because(EndReason::Stopped, detail);
        Some(shared)
    }
}

impl Lent {
    fn shared(&self) -> &Arc<Shared> {
        self.shared.as_ref().expect("there until it is given away")
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.shared().id
    }

    /// Its browser; none once it has ended.
    #[must_use]
    pub fn hub(&self) -> Option<Hub> {
        self.shared().hub()
    }

    /// Its way out; none once it has ended.
    #[must_use]
    pub fn way_out(&self) -> Option<Arc<Egress>> {
        self.shared().way_out.get().and_then(Weak::upgrade)
    }

    /// Waits until it is asked to end, and says why.
    pub async fn ends(&self) -> Error {
        self.shared().end_requested().await;
        self.shared().ended_error()
    }

    /// Leaves it as it is for `time`, to be adopted; the oldest kept ones beyond `at_most` end. It no
    /// longer counts. Without time or room it ends at once.
    pub fn keep(mut self, time: Duration, at_most: usize) {
        if time.is_zero() || at_most == 0 {
            return;
        }
        let Some(shared) = self.shared.take() else {
            return;
        };
        let mut sessions = self.registry.sessions();
        if !shared.renew(time, time) {
            return;
        }
        let Some(lent) = sessions.lent.get_mut(&shared.id) else {
            return;
        };
        *lent = Use::Kept;
        sessions.live -= 1;
        let kept = |sessions: &Sessions| {
            let kept = sessions.lent.values().filter(|lent| **lent == Use::Kept);
            kept.count()
        };
        while kept(&sessions) > at_most {
            sessions.end_oldest_kept();
        }
    }

    /// Makes it an ordinary session of its owner, whose life begins now; an error when it is ending.
    ///
    /// # Errors
    /// When it has ended, or the life is none that a session may have.
    pub fn hand_over(mut self, ttl: Duration, idle_ttl: Duration) -> Result<SessionView, Error> {
        check_life(ttl, idle_ttl)?;
        let mut sessions = self.registry.sessions();
        let shared = self.shared();
        if !shared.renew(ttl, idle_ttl) {
            return Err(shared.ended_error());
        }
        sessions.lent.remove(&shared.id);
        let view = shared.view();
        drop(sessions);
        self.shared = None;
        Ok(view)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.request_end(EndReason::Abandoned);
        }
    }
}

fn check_life(ttl: Duration, idle_ttl: Duration) -> Result<(), BadRequest> {
    let options = SessionOptions {
        ttl,
        idle_ttl,
        ..SessionOptions::default()
    };
    options.validate()
}
