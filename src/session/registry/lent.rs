//! Sessions the daemon opens for itself: unknown to everybody until they are handed over.
//!
//! ```text
//! lend --> borrowed --> kept --> adopted: an ordinary session
//!             |           \----> ended: made room for another, or kept for long enough
//!             \----------------> handed over: an ordinary session
//! ```
//!
//! A borrowed one takes a seat, a kept one does not. Neither costs: what is billed, and written down,
//! begins when it becomes an ordinary session.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use super::Registry;
use super::profiles::outdated;
use super::sessions::Use;
use crate::cdp::Hub;
use crate::egress::Egress;
use crate::execution::BadRequest;
use crate::id::SessionId;
use crate::sandbox::Scratch;
use crate::session::records::Admitted;
use crate::session::shared::{Shared, start_of};
use crate::session::{EndReason, Error, SessionOptions, SessionView};
use crate::store::SessionStart;
use crate::tenant::{Caller, Owner};

/// A session at work for the daemon. Dropping it ends the session.
#[derive(Debug)]
pub struct Lent {
    registry: Registry,
    caller: Caller,
    shared: Option<Arc<Shared>>,
}

/// A live session, for the daemon's own work in it.
#[derive(Clone, Debug)]
pub struct Live(Arc<Shared>);

/// The life of a session from the moment it becomes an ordinary one.
#[derive(Clone, Copy, Debug)]
struct Born {
    since: SystemTime,
    ttl: Duration,
    idle_ttl: Duration,
}

impl Registry {
    /// Opens a session for the daemon's own use, which takes a seat of the caller's, and waits until
    /// it may be used. A dropped call ends it again.
    ///
    /// # Errors
    /// As [`Registry::create`].
    pub async fn lend(&self, caller: &Caller, mut options: SessionOptions) -> Result<Lent, Error> {
        options.validate()?;
        self.resolve_limits(&mut options, "options.")?;
        let shared = self.open_lent(caller, options).await?;
        let lent = Lent {
            registry: self.clone(),
            caller: caller.clone(),
            shared: Some(Arc::clone(&shared)),
        };
        shared.wait_open().await?;
        Ok(lent)
    }

    /// Makes a kept session an ordinary one of `caller`, whose life begins now; `None` when it is gone,
    /// or began with a profile that was saved since.
    ///
    /// # Errors
    /// When the caller has too many sessions, or has used too much, or asks for a life that no session
    /// may have, or another session writes its profile; it stays kept.
    pub async fn adopt(
        &self,
        caller: &Caller,
        id: SessionId,
        ttl: Duration,
        idle_ttl: Duration,
    ) -> Result<Option<SessionView>, Error> {
        let born = Born::now(ttl, idle_ttl)?;
        let (shared, _adopting) = {
            let mut sessions = self.sessions();
            if sessions.lent(id) != Some(Use::Kept) {
                return Ok(None);
            }
            let Some(shared) = sessions.get(id).map(Arc::clone) else {
                return Ok(None);
            };
            if shared.owner != caller.owner {
                return Err(Error::ForeignSession(id));
            }
            // Nobody ends it for want of room meanwhile.
            sessions.set_use(id, Use::Borrowed);
            (shared, Adopting { registry: self, id })
        };
        let writer = self.writer(&shared.owner, &shared.options, id)?;
        if writer.is_some() && self.is_outdated(&shared).await? {
            return Ok(None);
        }
        let seat = self.inner.room.take(caller).await?;
        let admitted = self.enter(caller, &shared, born).await?;
        let mut sessions = self.sessions();
        // Before its life goes on, whose end gives it back.
        shared.profile.set_writer(writer);
        if !shared.renew(born.since, born.ttl, born.idle_ttl) {
            drop(shared.profile.take_writer());
            return Ok(None);
        }
        shared.sit(seat);
        sessions.hand_over(id);
        drop(sessions);
        admitted.keep();
        Ok(Some(shared.view()))
    }

    /// A session of `owner`, once it may be used.
    ///
    /// # Errors
    /// When it is not known, or has ended.
    pub async fn live(&self, owner: &Owner, id: SessionId) -> Result<Live, Error> {
        let shared = self.find(owner, id).await?;
        shared.wait_open().await?;
        Ok(Live(shared))
    }

    /// Whether a session is kept, and can be adopted.
    #[must_use]
    pub fn is_kept(&self, id: SessionId) -> bool {
        self.sessions().lent(id) == Some(Use::Kept)
    }

    /// Holds a session that becomes an ordinary one against what its owner may use, and writes it down.
    async fn enter(&self, caller: &Caller, shared: &Shared, born: Born) -> Result<Admitted, Error> {
        let start = start_of((shared.id, born.since), &shared.owner, &shared.options);
        let ttl = born.ttl;
        let start = SessionStart { ttl, ..start };
        self.inner.records.enter(caller, start).await
    }
}

/// Leaves a session kept that was not adopted.
struct Adopting<'a> {
    registry: &'a Registry,
    id: SessionId,
}

impl Drop for Adopting<'_> {
    fn drop(&mut self) {
        // Of one that was adopted it changes nothing.
        self.registry.sessions().set_use(self.id, Use::Kept);
    }
}

impl Lent {
    fn shared(&self) -> &Arc<Shared> {
        self.shared.as_ref().expect("there until it is given away")
    }

    /// To work in it.
    #[must_use]
    pub fn live(&self) -> Live {
        Live(Arc::clone(self.shared()))
    }

    /// Leaves it as it is for `time`, to be adopted; the oldest kept ones beyond `at_most` end. Its
    /// seat is free. Without time or room it ends at once.
    pub fn keep(mut self, time: Duration, at_most: usize) {
        if time.is_zero() || at_most == 0 {
            return;
        }
        let shared = self.shared();
        let mut sessions = self.registry.sessions();
        if !shared.renew(SystemTime::now(), time, time) || !sessions.set_use(shared.id, Use::Kept) {
            return;
        }
        while sessions.kept() > at_most {
            sessions.end_oldest_kept();
        }
        drop(sessions);
        shared.stand_up();
        self.shared = None;
    }

    /// Makes it an ordinary session of its owner, whose life begins now; an error when it is ending.
    ///
    /// # Errors
    /// When it has ended, or the life is none that a session may have, or the owner has used too much,
    /// or its profile is another's to write by now.
    pub async fn hand_over(
        mut self,
        ttl: Duration,
        idle_ttl: Duration,
    ) -> Result<SessionView, Error> {
        let born = Born::now(ttl, idle_ttl)?;
        let shared = Arc::clone(self.shared());
        let registry = &self.registry;
        let writer = registry.writer(&shared.owner, &shared.options, shared.id)?;
        if writer.is_some() && registry.is_outdated(&shared).await? {
            return Err(outdated(&shared.options));
        }
        let admitted = self.registry.enter(&self.caller, &shared, born).await?;
        let mut sessions = self.registry.sessions();
        shared.profile.set_writer(writer);
        if !shared.renew(born.since, born.ttl, born.idle_ttl) {
            drop(shared.profile.take_writer());
            return Err(shared.ended_error());
        }
        sessions.hand_over(shared.id);
        drop(sessions);
        admitted.keep();
        self.shared = None;
        Ok(shared.view())
    }
}

impl Live {
    pub(super) fn of(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    /// Its files; none before it may be used.
    pub(super) fn files(&self) -> Option<&Scratch> {
        self.0.files.get()
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.0.id
    }

    /// Its browser; none once it has ended.
    #[must_use]
    pub fn hub(&self) -> Option<Hub> {
        self.0.hub()
    }

    /// Its way out; none once it has ended.
    #[must_use]
    pub fn way_out(&self) -> Option<Arc<Egress>> {
        self.0.way_out.get().and_then(Weak::upgrade)
    }

    /// Waits until it is asked to end, and says why.
    pub async fn ends(&self) -> Error {
        self.0.end_requested().await;
        self.0.ended_error()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.request_end(EndReason::Abandoned);
        }
    }
}

impl Born {
    fn now(ttl: Duration, idle_ttl: Duration) -> Result<Self, BadRequest> {
        let options = SessionOptions {
            ttl,
            idle_ttl,
            ..SessionOptions::default()
        };
        options.validate()?;
        Ok(Self {
            since: SystemTime::now(),
            ttl,
            idle_ttl,
        })
    }
}
