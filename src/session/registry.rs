//! All sessions of the daemon: opened, found, listed, stopped, drained.

mod ends;
mod execution;
mod lent;
mod live_view;
mod profiles;
mod sessions;
mod task;
mod whole;

pub use ends::Settled;
pub use execution::{Execution, Place};
pub use lent::{Lent, Live};
pub use task::Task;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info_span};

use crate::egress;
use crate::execution::BadRequest;
use crate::id::SessionId;
use crate::profile::Profiles;
use crate::runner::{Job, OWN_PORTS};
use crate::sandbox::{ProbeState, Sandboxes};
use crate::store::{self, SessionStart, Store, Usage};
use crate::tenant::{Caller, Owner};

use super::driver::{self, Deps};
use super::executions::Executions;
use super::pool::{self, Kits};
use super::records::{Admitted, Records};
use super::room::{Room, Seat};
use super::shared::{Shared, start_of};
use super::watch::watch;
use super::{
    CdpAccess, Configs, EndReason, Error, SessionEvent, SessionOptions, SessionView, State,
};
use sessions::Sessions;

/// Jobs on their way to a session's task; the sender waits when it is full.
const JOB_QUEUE: usize = 64;
/// Events on their way to one watcher; when it is full, events of pages and of
/// the network are counted as dropped.
const WATCH_QUEUE: usize = 256;
const MAX_IDEMPOTENCY_KEY: usize = 128;

/// All sessions; cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    deps: Arc<Deps>,
    kits: Kits,
    degraded: Arc<[String]>,
    sessions: Mutex<Sessions>,
    room: Room,
    records: Records,
    executions: Arc<Executions>,
    tasks: TaskTracker,
    draining: AtomicBool,
}

impl Inner {
    fn sessions(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sessions that are there, with or without a seat.
    fn occupied(&self) -> usize {
        let kept = self.sessions().kept();
        self.room.taken() + kept
    }
}

/// Why there is no registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The rules of the network.
    #[error(transparent)]
    Egress(#[from] egress::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Registry {
    /// An empty registry; inside the runtime. Sessions that an earlier daemon has left in the store
    /// are known as ended.
    ///
    /// # Errors
    /// When the egress section is not valid, or the store fails.
    pub async fn new(
        sandboxes: Sandboxes,
        configs: Configs,
        store: Store,
        profiles: Profiles,
    ) -> Result<Self, RegistryError> {
        let own_ports = configs.own_ports.iter().copied();
        let policy = own_ports.fold(
            egress::Policy::new(&configs.egress)?.reserve(&OWN_PORTS)?,
            egress::Policy::protect,
        );
        let upstream = egress::Upstream::new(&configs.egress)?;
        let of_host = sandboxes
            .report()
            .probes
            .iter()
            .filter(|probe| probe.state != ProbeState::Works)
            .map(|probe| format!("{}: {}", probe.mechanism, probe.detail));
        let of_network = configs.egress.weakening();
        let degraded = of_host
            .chain(of_network.map(|weakening| format!("egress: {weakening}")))
            .collect();
        let remembered = configs.session.remembered;
        let room = Room::new(configs.session.max_sessions, configs.wait);
        let records = Records::open(store, configs.retention).await?;
        let deps = Arc::new(Deps {
            sandboxes,
            configs,
            policy: Arc::new(policy),
            upstream,
            profiles,
            browser_version: OnceLock::new(),
        });
        let (kits, pool) = pool::new(Arc::clone(&deps));
        let registry = Self {
            inner: Arc::new(Inner {
                deps,
                kits,
                degraded,
                sessions: Mutex::default(),
                room,
                records,
                executions: Arc::new(Executions::new(remembered)),
                tasks: TaskTracker::new(),
                draining: AtomicBool::new(false),
            }),
        };
        if let Some(pool) = pool {
            let inner = Arc::downgrade(&registry.inner);
            let sessions = move || inner.upgrade().map_or(0, |inner| inner.occupied());
            registry.inner.tasks.spawn(pool.run(sessions));
        }
        Ok(registry)
    }

    /// Opens a session and waits until it is ready. A dropped call ends the session again, unless
    /// it has an idempotency key: then the caller is expected to ask again.
    ///
    /// # Errors
    /// Bad options, the session limit, draining, or what failed at the start.
    pub async fn create(
        &self,
        caller: &Caller,
        mut options: SessionOptions,
        idempotency_key: Option<String>,
    ) -> Result<SessionView, Error> {
        options.validate()?;
        self.resolve_limits(&mut options, "options.")?;
        self.check_proxy(&options, "options.network.proxy.server")?;
        if let Some(key) = &idempotency_key
            && (key.is_empty() || key.len() > MAX_IDEMPOTENCY_KEY)
        {
            return Err(BadRequest::new(
                "idempotency_key",
                format!("must be 1 to {MAX_IDEMPOTENCY_KEY} bytes long"),
            )
            .into());
        }
        let keyed = idempotency_key.is_some();
        let shared = self.open(caller, options, idempotency_key).await?;
        let abandoned = AbandonOnDrop(Some(Arc::clone(&shared)).filter(|_| !keyed));
        let ready = shared.wait_ready().await;
        abandoned.keep();
        match ready {
            // A key asks for its session, whatever became of it since.
            Err(Error::SessionEnded { .. }) if keyed => Ok(shared.view()),
            ready => ready.map(|()| shared.view()),
        }
    }

    /// Refuses a session's proxy by the daemon's rules, as far as they tell without looking it up;
    /// the rest shows with the session's requests.
    fn check_proxy(&self, options: &SessionOptions, field: &'static str) -> Result<(), Error> {
        let Some(proxy) = &options.network.proxy else {
            return Ok(());
        };
        let checked = self.inner.deps.policy.check_proxy(proxy);
        checked.map_err(|error| BadRequest::new(field, error.to_string()).into())
    }

    /// Holds what a session asks for against what this daemon allows.
    fn resolve_limits(&self, options: &mut SessionOptions, prefix: &str) -> Result<(), Error> {
        let configs = &self.inner.deps.configs;
        let path = format!("{prefix}limits.");
        options.limits = options.limits.within(configs.session.limits(), &path)?;
        let path = format!("{prefix}execution_limits.");
        let asked = options.execution_limits;
        options.execution_limits = asked.within(configs.runner.limits(), &path)?;
        Ok(())
    }

    /// Registers a session and starts its task, or finds the one its key stands for.
    async fn open(
        &self,
        caller: &Caller,
        options: SessionOptions,
        key: Option<String>,
    ) -> Result<Arc<Shared>, Error> {
        let key = key.map(|key| (caller.owner.clone(), key));
        let known = self.sessions().of_key(key.as_ref(), &options)?;
        if let Some(shared) = known {
            return Ok(shared);
        }
        let id = SessionId::generate();
        let writer = match self.writer(&caller.owner, &options, id) {
            Ok(writer) => writer,
            // It may be this key's own session, which has come meanwhile.
            Err(busy) => {
                let known = self.sessions().of_key(key.as_ref(), &options)?;
                return known.ok_or(busy);
            }
        };
        let seat = self.inner.room.take(caller).await?;
        let born = (id, SystemTime::now());
        let start = start_of(born, &caller.owner, &options);
        let admitted = self.inner.records.admit(caller, start).await?;
        let (shared, inbox, leaving) = {
            let mut sessions = self.sessions();
            self.refuse_when_draining()?;
            // The same key may have come a second time meanwhile.
            if let Some(shared) = sessions.of_key(key.as_ref(), &options)? {
                return Ok(shared);
            }
            let (shared, inbox) = self.register(born, seat, caller, options);
            shared.profile.set_writer(writer);
            sessions.add(Arc::clone(&shared), key);
            (shared, inbox, self.make_room(&mut sessions))
        };
        let written = admitted.map(Admitted::keep);
        let unwritten = written.is_none().then(|| shared.start());
        self.run(&shared, inbox, leaving, unwritten);
        Ok(shared)
    }

    /// The same for one that is nobody's as yet: nothing of it is written.
    async fn open_lent(
        &self,
        caller: &Caller,
        options: SessionOptions,
    ) -> Result<Arc<Shared>, Error> {
        self.open_nobodys(caller, options, |_| Ok(())).await
    }

    /// The same for one that writes its profile, and begins without what was saved of it.
    async fn open_mover(
        &self,
        caller: &Caller,
        mut options: SessionOptions,
    ) -> Result<Arc<Shared>, Error> {
        self.resolve_limits(&mut options, "options.")?;
        self.check_profile(&caller.owner, options.profile.as_ref())?;
        let prepare = |shared: &Shared| {
            let writer = self.writer(&shared.owner, &shared.options, shared.id)?;
            shared.profile.set_writer(writer);
            shared.profile.start_empty();
            Ok(())
        };
        self.open_nobodys(caller, options, prepare).await
    }

    async fn open_nobodys(
        &self,
        caller: &Caller,
        options: SessionOptions,
        prepare: impl FnOnce(&Shared) -> Result<(), Error>,
    ) -> Result<Arc<Shared>, Error> {
        let seat = self.inner.room.take(caller).await?;
        let born = (SessionId::generate(), SystemTime::now());
        let start = start_of(born, &caller.owner, &options);
        if let Some(admitted) = self.inner.records.admit(caller, start).await? {
            admitted.undo().await;
        }
        let (shared, inbox, leaving) = {
            let mut sessions = self.sessions();
            self.refuse_when_draining()?;
            let (shared, inbox) = self.register(born, seat, caller, options);
            prepare(&shared)?;
            sessions.add_lent(Arc::clone(&shared));
            (shared, inbox, self.make_room(&mut sessions))
        };
        self.run(&shared, inbox, leaving, None);
        Ok(shared)
    }

    /// To be called with the sessions locked: a drain that begins later finds what is added then.
    fn refuse_when_draining(&self) -> Result<(), Error> {
        match self.is_draining() {
            true => Err(Error::Draining),
            false => Ok(()),
        }
    }

    fn register(
        &self,
        born: (SessionId, SystemTime),
        seat: Seat,
        caller: &Caller,
        options: SessionOptions,
    ) -> (Arc<Shared>, mpsc::Receiver<Job>) {
        let (jobs, inbox) = mpsc::channel(JOB_QUEUE);
        let shared = Shared::new(
            born,
            seat,
            caller.owner.clone(),
            options,
            Arc::clone(&self.inner.degraded),
            jobs,
            &self.inner.deps.configs.egress,
        );
        let shared = shared.counted_in(self.inner.kits.activity().clone());
        (Arc::new(shared), inbox)
    }

    /// Ends the oldest kept session when there are too many with those that have a seat.
    fn make_room(&self, sessions: &mut Sessions) -> Option<Arc<Shared>> {
        if self.inner.room.taken() + sessions.kept() <= self.max_sessions() {
            return None;
        }
        sessions.end_oldest_kept()
    }

    /// Starts a session's task, which begins once `leaving` has ended, and writes what is `unwritten`.
    fn run(
        &self,
        shared: &Arc<Shared>,
        inbox: mpsc::Receiver<Job>,
        leaving: Option<Arc<Shared>>,
        unwritten: Option<SessionStart>,
    ) {
        let span = info_span!(parent: None, "session", session_id = %shared.id);
        let registry = self.clone();
        let shared = Arc::clone(shared);
        let task = async move {
            let Inner {
                deps,
                records,
                kits,
                ..
            } = &*registry.inner;
            if let Some(leaving) = leaving {
                leaving.wait_ended().await;
            }
            let running = driver::run(Arc::clone(&shared), Arc::clone(deps), kits.clone(), inbox);
            let writing = async {
                if let Some(start) = unwritten {
                    records.began(start).await;
                }
            };
            tokio::join!(running, writing);
            let remembered = deps.configs.session.remembered;
            let is_somebodys = registry.sessions().end(shared.id, remembered);
            if is_somebodys {
                records.ended(&shared).await;
            }
        };
        self.inner.tasks.spawn(task.instrument(span));
    }

    /// Reads one session, and its newest network requests, oldest first.
    ///
    /// # Errors
    /// When it is not known, or ended too long ago.
    pub async fn get(
        &self,
        owner: &Owner,
        id: SessionId,
    ) -> Result<(SessionView, Vec<egress::LoggedRequest>), Error> {
        let shared = self.find(owner, id).await?;
        Ok((shared.view(), shared.network.requests()))
    }

    /// What an owner's sessions used that began in the calendar month (UTC) of a time.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn usage(&self, owner: &Owner, at: SystemTime) -> Result<Usage, Error> {
        self.inner.records.usage(owner, at).await
    }

    /// At most `limit` sessions of `owner` in these states (all, if empty), newest first, after the one a
    /// page before ended with; and where the next page starts, if there is one.
    #[must_use]
    pub fn list(
        &self,
        owner: &Owner,
        states: &[State],
        after: Option<SessionId>,
        limit: usize,
    ) -> (Vec<SessionView>, Option<SessionId>) {
        let known = self
            .sessions()
            .newest(owner, states, after, limit.saturating_add(1));
        let next = (known.len() > limit).then(|| known[limit.saturating_sub(1)].id);
        let views = known.iter().take(limit).map(|shared| shared.view());
        (views.collect(), next)
    }

    /// Opens a session's browser to whoever shows its token; waits until the session is ready.
    ///
    /// # Errors
    /// When there is no such session, or the token is not its; when it has ended.
    pub async fn cdp(&self, id: SessionId, token: &str) -> Result<CdpAccess, Error> {
        let known = self.sessions().get(id).cloned();
        let opened = known.filter(|shared| shared.cdp_token.is(token));
        CdpAccess::open(opened.ok_or(Error::CdpRefused(id))?).await
    }

    /// A session's events: first its state now; ends after its last state.
    ///
    /// # Errors
    /// When it is not known.
    pub async fn watch(
        &self,
        owner: &Owner,
        id: SessionId,
    ) -> Result<mpsc::Receiver<SessionEvent>, Error> {
        let shared = self.find(owner, id).await?;
        let (sender, receiver) = mpsc::channel(WATCH_QUEUE);
        tokio::spawn(watch(shared, sender));
        Ok(receiver)
    }

    /// A session, live or ended a while ago.
    async fn find(&self, owner: &Owner, id: SessionId) -> Result<Arc<Shared>, Error> {
        let known = self.sessions().known(owner, id)?;
        match known {
            Some(shared) => Ok(shared),
            None => Err(Error::SessionEnded {
                id,
                detail: self.inner.records.past(owner, id).await?.reason,
            }),
        }
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.inner.sessions()
    }
}

/// Ends a session whose caller went away before it was ready.
struct AbandonOnDrop(Option<Arc<Shared>>);

impl AbandonOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.request_end(EndReason::Abandoned);
        }
    }
}
