//! All sessions of the daemon.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info_span};

use crate::egress;
use crate::execution::{BadRequest, ExecutionEvent, ExecutionLimits, ExecutionOptions, Language};
use crate::id::{ExecutionId, SessionId};
use crate::runner::{self, Job, OWN_PORTS, OnDrop};
use crate::sandbox::{ProbeState, Sandboxes};
use crate::store::{self, Store, Usage};
use crate::tenant::{Caller, Owner};

use super::driver::{self, Deps};
use super::executions::{Cancel, Executions};
use super::records::{Admitted, Records};
use super::room::Room;
use super::shared::{Shared, start_of};
use super::watch::watch;
use super::{Bill, Configs, EndReason, Error, SessionEvent, SessionOptions, SessionView, State};

/// Pieces of output on their way to one reader; each at most 64 KiB. When it is full the code's
/// output waits.
const EVENT_QUEUE: usize = 64;
/// Jobs on their way to a session's task; the sender waits when it is full.
const JOB_QUEUE: usize = 64;
/// Events on their way to one watcher; when it is full, events of pages and of
/// the network are counted as dropped.
const WATCH_QUEUE: usize = 256;
const MAX_IDEMPOTENCY_KEY: usize = 128;

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

/// All sessions; cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    deps: Arc<Deps>,
    degraded: Arc<[String]>,
    sessions: Mutex<Sessions>,
    room: Room,
    records: Records,
    executions: Arc<Executions>,
    tasks: TaskTracker,
    draining: AtomicBool,
}

#[derive(Debug, Default)]
struct Sessions {
    /// Live and remembered; ids sort by time.
    all: BTreeMap<SessionId, Arc<Shared>>,
    /// Oldest first.
    ended: VecDeque<SessionId>,
    by_key: HashMap<(Owner, String), SessionId>,
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

impl Sessions {
    /// The session an idempotency key stands for; one that failed to start frees its key.
    fn of_key(
        &self,
        key: Option<&(Owner, String)>,
        options: &SessionOptions,
    ) -> Result<Option<Arc<Shared>>, Error> {
        let known = key.and_then(|key| self.by_key.get(key));
        let shared = known.and_then(|id| self.all.get(id));
        match shared.filter(|shared| !shared.start_failed()) {
            Some(shared) if shared.options != *options => {
                let message = "was used before, with other options";
                Err(BadRequest::new("idempotency_key", message).into())
            }
            shared => Ok(shared.cloned()),
        }
    }
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
        Ok(Self {
            inner: Arc::new(Inner {
                deps: Arc::new(Deps {
                    sandboxes,
                    configs,
                    policy: Arc::new(policy),
                    upstream,
                }),
                degraded,
                sessions: Mutex::default(),
                room,
                records,
                executions: Arc::new(Executions::new(remembered)),
                tasks: TaskTracker::new(),
                draining: AtomicBool::new(false),
            }),
        })
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
        if let Some(shared) = self.sessions().of_key(key.as_ref(), &options)? {
            return Ok(shared);
        }
        let seat = self.inner.room.take(caller).await?;
        let born = (SessionId::generate(), SystemTime::now());
        let start = start_of(born, &caller.owner, &options);
        let admitted = self.inner.records.admit(caller, start).await?;
        let (shared, inbox) = {
            let mut sessions = self.sessions();
            // Within the lock: a drain that begins later finds this session.
            if self.inner.draining.load(Ordering::Acquire) {
                return Err(Error::Draining);
            }
            // The same key may have come a second time meanwhile.
            if let Some(shared) = sessions.of_key(key.as_ref(), &options)? {
                return Ok(shared);
            }
            let (jobs, inbox) = mpsc::channel(JOB_QUEUE);
            let shared = Arc::new(Shared::new(
                born,
                seat,
                caller.owner.clone(),
                options,
                Arc::clone(&self.inner.degraded),
                CancellationToken::new(),
                jobs,
                &self.inner.deps.configs.egress,
            ));
            sessions.all.insert(shared.id, Arc::clone(&shared));
            if let Some(key) = key {
                sessions.by_key.insert(key, shared.id);
            }
            (shared, inbox)
        };
        let is_written = admitted.map(Admitted::keep).is_some();
        let span = info_span!(parent: None, "session", session_id = %shared.id);
        let registry = self.clone();
        let task_shared = Arc::clone(&shared);
        self.inner.tasks.spawn(
            async move {
                let records = &registry.inner.records;
                let deps = Arc::clone(&registry.inner.deps);
                let running = driver::run(Arc::clone(&task_shared), deps, inbox);
                let writing = async {
                    if !is_written {
                        records.began(task_shared.start()).await;
                    }
                };
                tokio::join!(running, writing);
                registry.remember(task_shared.id);
                records.ended(&task_shared).await;
            }
            .instrument(span),
        );
        Ok(shared)
    }

    /// A session has ended: the oldest ended one beyond the bound is forgotten.
    fn remember(&self, id: SessionId) {
        let mut sessions = self.sessions();
        sessions.ended.push_back(id);
        if sessions.ended.len() > self.inner.deps.configs.session.remembered
            && let Some(oldest) = sessions.ended.pop_front()
        {
            sessions.all.remove(&oldest);
            sessions.by_key.retain(|_, id| *id != oldest);
        }
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

    /// What a session has used until its end, or until now; of any that the store knows.
    ///
    /// # Errors
    /// When it is not known.
    pub async fn bill(&self, owner: &Owner, id: SessionId) -> Result<Bill, Error> {
        match self.known(owner, id)? {
            Some(shared) => Ok(shared.bill()),
            None => {
                let past = self.inner.records.past(owner, id).await?;
                Ok(Bill {
                    lived: past.lived,
                    credits: past.credits,
                })
            }
        }
    }

    /// Says that a prompt is used in a session, which costs more from its start on.
    ///
    /// # Errors
    /// When it is not known, or has ended.
    pub async fn use_prompt(&self, owner: &Owner, id: SessionId) -> Result<(), Error> {
        self.find(owner, id).await?.use_prompt();
        Ok(())
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
        let known: Vec<Arc<Shared>> = {
            let sessions = self.sessions();
            let older: Box<dyn Iterator<Item = &Arc<Shared>>> = match after {
                Some(after) => Box::new(sessions.all.range(..after).rev().map(|(_, s)| s)),
                None => Box::new(sessions.all.values().rev()),
            };
            older
                .filter(|shared| shared.owner == *owner)
                .filter(|shared| states.is_empty() || states.contains(&shared.state()))
                .take(limit.saturating_add(1))
                .cloned()
                .collect()
        };
        let next = (known.len() > limit).then(|| known[limit.saturating_sub(1)].id);
        let views = known.iter().take(limit).map(|shared| shared.view());
        (views.collect(), next)
    }

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

    async fn start_execution(
        &self,
        shared: &Arc<Shared>,
        options: ExecutionOptions,
    ) -> Result<Execution, Error> {
        shared.wait_ready().await?;
        let id = options.id.unwrap_or_else(ExecutionId::generate);
        let language = options.language;
        let cancel = shared.cancel.child_token();
        let kill = cancel.clone().drop_guard();
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let (started, has_started) = oneshot::channel();
        if !self.inner.executions.add(id, &shared.owner, cancel.clone()) {
            return Err(BadRequest::new("options.execution_id", "was used before").into());
        }
        shared.execution_added();
        let guard = {
            let (shared, executions) = (Arc::clone(shared), Arc::clone(&self.inner.executions));
            OnDrop::new(move || {
                executions.end(id);
                shared.execution_ended();
            })
        };
        let job = Job {
            id,
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
        let started = match shared.wait_ready().await {
            Ok(()) => self.start_execution(&shared, options).await,
            Err(error) => Err(error),
        };
        let started = match started {
            Ok(inner) => inner,
            Err(error) => {
                shared.request_end(EndReason::OneShotDone);
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

    /// Refuses new work, lets executions run for at most `grace`, then ends every session; returns
    /// when nothing is left.
    pub async fn drain(&self, grace: Duration) {
        const STEP: Duration = Duration::from_millis(20);
        self.inner.draining.store(true, Ordering::Release);
        self.inner.room.close();
        let live = self.live();
        let quiet = async {
            while live.iter().any(|shared| shared.running() > 0) {
                tokio::time::sleep(STEP).await;
            }
        };
        // Past the grace period what still runs is cancelled with its session.
        let _ = tokio::time::timeout(grace, quiet).await;
        for shared in &live {
            shared.request_end(EndReason::Drained);
        }
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// What is weaker than designed for every session, as each shows it.
    #[must_use]
    pub fn degraded(&self) -> &[String] {
        &self.inner.degraded
    }

    /// Most sessions at the same time.
    #[must_use]
    pub fn max_sessions(&self) -> usize {
        self.inner.deps.configs.session.max_sessions
    }

    /// Whether it takes no new work any more.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::Acquire)
    }

    /// How many sessions are live.
    #[must_use]
    pub fn live_sessions(&self) -> usize {
        self.inner.room.taken()
    }

    fn live(&self) -> Vec<Arc<Shared>> {
        let sessions = self.sessions();
        let live = sessions
            .all
            .values()
            .filter(|shared| !shared.state().ended());
        live.cloned().collect()
    }

    /// A session, live or ended a while ago.
    async fn find(&self, owner: &Owner, id: SessionId) -> Result<Arc<Shared>, Error> {
        match self.known(owner, id)? {
            Some(shared) => Ok(shared),
            None => Err(Error::SessionEnded {
                id,
                detail: self.inner.records.past(owner, id).await?.reason,
            }),
        }
    }

    fn known(&self, owner: &Owner, id: SessionId) -> Result<Option<Arc<Shared>>, Error> {
        let sessions = self.sessions();
        match sessions.all.get(&id) {
            Some(shared) if shared.owner != *owner => Err(Error::ForeignSession(id)),
            shared => Ok(shared.cloned()),
        }
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.inner
            .sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
