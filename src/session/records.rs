//! What the store keeps of sessions: written by each session's task, so that no reply waits for it,
//! and read for ids that the registry no longer knows.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::task::AbortOnDropHandle;

use super::shared::Shared;
use super::{EndReason, Error};
use crate::id::SessionId;
use crate::store::{self, Allowance, Finished, SessionStart, Spent, Store, Usage};
use crate::telemetry::Chain;
use crate::tenant::{Caller, Owner, month_of};

/// Between two notes that live sessions are alive: what a killed daemon's sessions cost is right
/// within it.
const SEEN: Duration = Duration::from_secs(10);
/// Between two sweeps.
const SWEEP: Duration = Duration::from_secs(3600);
/// Of a session whose daemon was killed.
const LOST: &str = "its daemon was killed";

/// What a session has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bill {
    /// How long it has lived.
    pub lived: Duration,
    /// What that costs.
    pub credits: u64,
}

impl Bill {
    /// Of a session that nobody remembers.
    pub const NOTHING: Self = Self {
        lived: Duration::ZERO,
        credits: 0,
    };
}

/// The records of one registry.
#[derive(Debug)]
pub(super) struct Records {
    store: Store,
    #[expect(dead_code, reason = "its drop ends the task")]
    upkeep: AbortOnDropHandle<()>,
}

impl Records {
    /// Takes over what an earlier daemon left, and keeps the store in order; inside the runtime.
    pub(super) async fn open(store: Store, retention: Duration) -> Result<Self, store::Error> {
        let lost = store.close_sessions(LOST.to_owned()).await?;
        if lost > 0 {
            tracing::warn!(
                sessions = lost,
                "an earlier daemon was killed; its sessions are closed"
            );
        }
        let upkeep = AbortOnDropHandle::new(tokio::spawn(upkeep(store.clone(), retention)));
        Ok(Self { store, upkeep })
    }

    /// Holds a session against what its owner may use; one of an owner without such limits is not
    /// written yet, and costs no look at the store.
    pub(super) async fn admit(
        &self,
        caller: &Caller,
        start: SessionStart,
    ) -> Result<Option<Admitted>, Error> {
        if caller.session_minutes.is_none() && caller.budget.is_none() {
            return Ok(None);
        }
        let allowance = Allowance {
            since: month_of(start.created).0,
            session_minutes: caller.session_minutes,
            budget: caller.budget,
        };
        // Before the call: it goes on when nobody waits for it any more.
        let admitted = Admitted {
            store: Some(self.store.clone()),
            id: start.id,
        };
        self.store.admit_session(start, allowance).await??;
        Ok(Some(admitted))
    }

    /// The same for a session that is there already; it is written now.
    pub(super) async fn enter(
        &self,
        caller: &Caller,
        start: SessionStart,
    ) -> Result<Admitted, Error> {
        if let Some(admitted) = self.admit(caller, start.clone()).await? {
            return Ok(admitted);
        }
        let admitted = Admitted {
            store: Some(self.store.clone()),
            id: start.id,
        };
        self.began(start).await;
        Ok(admitted)
    }

    /// Keeps that a session began.
    pub(super) async fn began(&self, start: SessionStart) {
        note(start.id, self.store.session_began(start).await);
    }

    /// Keeps how it ended.
    pub(super) async fn ended(&self, shared: &Shared) {
        let Some((reason, end)) = shared.finished() else {
            return;
        };
        let bill = shared.bill();
        let end = Finished {
            at: end,
            reason: reason.describe().to_owned(),
            lived: bill.lived,
            prompt: shared.prompt_used(),
            credits: bill.credits,
        };
        note(shared.id, self.store.session_ended(shared.id, end).await);
    }

    /// What there is to say of a session that the registry does not know.
    pub(super) async fn past(&self, owner: &Owner, id: SessionId) -> Result<Finished, Error> {
        let record = self.store.session(id).await?;
        let record = record.ok_or(Error::SessionUnknown(id))?;
        if record.tenant != *owner.tenant || record.user != *owner.user {
            return Err(Error::ForeignSession(id));
        }
        // Of one without an end, that end is being written.
        record.finished.ok_or_else(|| Error::SessionEnded {
            id,
            detail: "it has just ended".to_owned(),
        })
    }

    /// What an owner used in the calendar month of a time.
    pub(super) async fn usage(&self, owner: &Owner, at: SystemTime) -> Result<Usage, Error> {
        let (since, until) = month_of(at);
        let (tenant, user) = (owner.tenant.to_string(), owner.user.to_string());
        Ok(self.store.usage(tenant, user, since, until).await?)
    }
}

/// A session that is written although it may never begin; unwritten when dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    store: Option<Store>,
    id: SessionId,
}

impl Admitted {
    /// It begins.
    pub(super) fn keep(mut self) {
        self.store = None;
    }

    /// It does not begin, and nothing of it is left when this returns.
    pub(super) async fn undo(mut self) {
        if let Some(store) = self.store.take() {
            note(self.id, store.forget_session(self.id).await);
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            let id = self.id;
            tokio::spawn(async move { note(id, store.forget_session(id).await) });
        }
    }
}

impl EndReason {
    /// Whether a session that ended so has given its owner anything.
    pub(super) fn is_billed(self) -> bool {
        !matches!(self, Self::StartFailed | Self::Abandoned)
    }
}

async fn upkeep(store: Store, retention: Duration) {
    let mut seen = tokio::time::interval(SEEN);
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        let (what, done) = tokio::select! {
            _ = seen.tick() => {
                ("sessions are not marked as alive", store.sessions_seen(SystemTime::now()).await)
            }
            _ = sweep.tick() => {
                ("old records stay in the store", forget_old(&store, retention).await)
            }
        };
        if let Err(error) = done {
            tracing::error!(error = %Chain(&error), what);
        }
    }
}

async fn forget_old(store: &Store, retention: Duration) -> Result<(), store::Error> {
    let now = SystemTime::now();
    let expired = now.checked_sub(retention).unwrap_or(SystemTime::UNIX_EPOCH);
    store.sweep_scrapes(expired).await?;
    store.sweep_sessions(sweep_before(now, retention)).await?;
    Ok(())
}

/// The current month's usage is read from its sessions.
fn sweep_before(now: SystemTime, retention: Duration) -> SystemTime {
    let kept = now.checked_sub(retention);
    kept.unwrap_or(SystemTime::UNIX_EPOCH).min(month_of(now).0)
}

fn note(id: SessionId, written: Result<(), store::Error>) {
    if let Err(error) = written {
        tracing::error!(session_id = %id, error = %Chain(&error), "a session is not in the store");
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<Spent> for Error {
    fn from(spent: Spent) -> Self {
        Self::Spent(spent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{SessionKind, credits};

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(text: &str) -> SystemTime {
        humantime::parse_rfc3339(text).unwrap()
    }

    fn start(created: SystemTime) -> SessionStart {
        SessionStart {
            id: SessionId::generate(),
            tenant: "acme".to_owned(),
            user: "ada".to_owned(),
            kind: SessionKind::Grpc,
            created,
            ttl: HOUR,
        }
    }

    fn owner(user: &str) -> Owner {
        Owner {
            tenant: "acme".into(),
            user: user.into(),
        }
    }

    #[test]
    fn a_month_is_kept_until_it_is_over() {
        let now = at("2025-03-20T00:00:00Z");
        let days = |days: u32| HOUR * 24 * days;
        assert_eq!(sweep_before(now, days(5)), at("2025-03-01T00:00:00Z"));
        assert_eq!(sweep_before(now, days(30)), at("2025-02-18T00:00:00Z"));
    }

    #[tokio::test]
    async fn what_an_earlier_daemon_had_is_over_and_its_owners_only() {
        let store = Store::in_memory().unwrap();
        let left = start(SystemTime::now());
        store.session_began(left.clone()).await.unwrap();
        let records = Records::open(store, HOUR).await.unwrap();
        let past = records.past(&owner("ada"), left.id).await.unwrap();
        assert_eq!((&*past.reason, past.credits), (LOST, 2));
        let foreign = records.past(&owner("bob"), left.id).await;
        assert!(matches!(foreign, Err(Error::ForeignSession(id)) if id == left.id));
        let unknown = records.past(&owner("ada"), SessionId::generate()).await;
        assert!(matches!(unknown, Err(Error::SessionUnknown(_))));
    }

    #[tokio::test]
    async fn expired_sessions_are_forgotten_while_the_daemon_runs() {
        let store = Store::in_memory().unwrap();
        let old = start(SystemTime::now() - HOUR * 24 * 62);
        store.session_began(old.clone()).await.unwrap();
        let records = Records::open(store, HOUR).await.unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            match records.past(&owner("ada"), old.id).await {
                Err(Error::SessionUnknown(_)) => return,
                _ => assert!(std::time::Instant::now() < deadline, "it is still known"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_session_that_did_not_begin_is_not_counted() {
        let records = Records::open(Store::in_memory().unwrap(), HOUR)
            .await
            .unwrap();
        let caller = Caller {
            owner: owner("ada"),
            budget: Some(150),
            ..Caller::anonymous()
        };
        let now = SystemTime::now();
        let first = records.admit(&caller, start(now)).await.unwrap().unwrap();
        let refused = records.admit(&caller, start(now)).await;
        assert!(matches!(refused, Err(Error::Spent(_))), "{refused:?}");
        drop(first);
        // The undoing comes before the next call.
        tokio::task::yield_now().await;
        let second = records.admit(&caller, start(now)).await.unwrap().unwrap();
        second.keep();
        assert_eq!(credits(HOUR, false), 120);
        let used = records.usage(&caller.owner, now).await.unwrap();
        assert_eq!((used.sessions, used.credits), (1, 2));
    }
}
