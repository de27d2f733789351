//! All sessions of the daemon.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info_span};

use crate::egress;
use crate::execution::{BadRequest, ExecutionEvent, ExecutionLimits, ExecutionOptions, Language};
use crate::id::{ExecutionId, SessionId};
use crate::runner::{self, Job, OWN_PORTS, OnDrop};
use crate::sandbox::{ProbeState, Sandboxes};
use crate::tenant::{Caller, Owner};

use super::capability::CdpAccess;
use super::driver::{self, Deps};
use super::executions::{Cancel, Executions};
use super::lent::Use;
use super::shared::Shared;
use super::watch::watch;
use super::{Configs, EndReason, Error, SessionEvent, SessionOptions, SessionView, State};

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
    executions: Arc<Executions>,
    tasks: TaskTracker,
    draining: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// Live and remembered; ids sort by time.
    pub(super) all: BTreeMap<SessionId, Arc<Shared>>,
    /// Those that count; kept ones do not.
    pub(super) live: usize,
    /// Oldest first.
    ended: VecDeque<SessionId>,
    /// Those that are nobody's session, as yet.
    pub(super) lent: BTreeMap<SessionId, Use>,
    by_key: HashMap<(Owner, String), SessionId>,
}

impl Registry {
    /// An empty registry.
    ///
    /// # Errors
    /// When the egress section is not valid.
    pub fn new(sandboxes: Sandboxes, configs: Configs) -> Result<Self, egress::Error> {
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
        let shared = self.open(caller, options, idempotency_key, false)?;
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
    pub(super) fn resolve_limits(
        &self,
        options: &mut SessionOptions,
        prefix: &str,
    ) -> Result<(), Error> {
        let configs = &self.inner.deps.configs;
        let path = format!("{prefix}limits.");
        options.limits = options.limits.within(configs.session.limits(), &path)?;
        let path = format!("{prefix}execution_limits.");
        let asked = options.execution_limits;
        options.execution_limits = asked.within(configs.runner.limits(), &path)?;
        Ok(())
    }

    /// Registers a session and starts its task, or finds the one its key stands for.
    pub(super) fn open(
        &self,
        caller: &Caller,
        options: SessionOptions,
        key: Option<String>,
        is_lent: bool,
    ) -> Result<Arc<Shared>, Error> {
        let key = key.map(|key| (caller.owner.clone(), key));
        let (shared, inbox, leaving) = {
            let mut sessions = self.sessions();
            // Within the lock: a drain that begins later finds this session.
            if self.inner.draining.load(Ordering::Acquire) {
                return Err(Error::Draining);
            }
            if let Some(known) = key.as_ref().and_then(|key| sessions.by_key.get(key))
                && let Some(shared) = sessions.all.get(known)
                && !shared.start_failed()
            {
                if shared.options != options {
                    return Err(BadRequest::new(
                        "idempotency_key",
                        "was used before, with other options",
                    )
                    .into());
                }
                return Ok(Arc::clone(shared));
            }
            let limit = self.max_sessions();
            if sessions.live >= limit {
                return Err(Error::SessionLimit { limit });
            }
            sessions.check_owner(caller)?;
            let leaving = sessions.make_room(limit);
            let (jobs, inbox) = mpsc::channel(JOB_QUEUE);
            let shared = Arc::new(Shared::new(
                caller.owner.clone(),
                options,
                Arc::clone(&self.inner.degraded),
                CancellationToken::new(),
                jobs,
                &self.inner.deps.configs.egress,
            ));
            sessions.live += 1;
            sessions.all.insert(shared.id, Arc::clone(&shared));
            if is_lent {
                sessions.lent.insert(shared.id, Use::Borrowed);
            }
            if let Some(key) = key {
                sessions.by_key.insert(key, shared.id);
            }
            (shared, inbox, leaving)
        };
        let span = info_span!(parent: None, "session", session_id = %shared.id);
        let registry = self.clone();
        let task_shared = Arc::clone(&shared);
        self.inner.tasks.spawn(
            async move {
                let deps = Arc::clone(&registry.inner.deps);
                if let Some(leaving) = leaving {
                    leaving.wait_ended().await;
                }
                driver::run(Arc::clone(&task_shared), deps, inbox).await;
                registry.remember(task_shared.id);
            }
            .instrument(span),
        );
        Ok(shared)
    }

    /// A session has ended: it no longer counts, and the oldest ended one beyond the bound is
    /// forgotten.
    fn remember(&self, id: SessionId) {
        let mut sessions = self.sessions();
        let lent = sessions.lent.remove(&id);
        if lent.is_none_or(|lent| lent == Use::Borrowed) {
            sessions.live -= 1;
        }
        if lent.is_some() {
            sessions.all.remove(&id);
            return;
        }
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
    /// When it is not known.
    pub fn get(
        &self,
        owner: &Owner,
        id: SessionId,
    ) -> Result<(SessionView, Vec<egress::LoggedRequest>), Error> {
        let shared = self.find(owner, id)?;
        Ok((shared.view(), shared.network.requests()))
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
                .filter(|shared| !sessions.lent.contains_key(&shared.id))
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
        let shared = self.find(owner, id)?;
        shared.request_end(EndReason::Stopped);
        shared.wait_ended().await;
        Ok(shared.view())
    }

    /// Opens a session's browser to whoever shows its token; waits until the session is ready.
    ///
    /// # Errors
    /// When there is no such session, or the token is not its; when it has ended.
    pub async fn cdp(&self, id: SessionId, token: &str) -> Result<CdpAccess, Error> {
        let known = self.sessions().all.get(&id).cloned();
        let opened = known.filter(|shared| shared.cdp_token.is(token));
        CdpAccess::open(opened.ok_or(Error::CdpRefused(id))?).await
    }

    /// A session's events: first its state now; ends after its last state.
    ///
    /// # Errors
    /// When it is not known.
    pub fn watch(
        &self,
        owner: &Owner,
        id: SessionId,
    ) -> Result<mpsc::Receiver<SessionEvent>, Error> {
        let shared = self.find(owner, id)?;
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
                let shared = self.find(&caller.owner, id)?;
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
        let shared = self.open(caller, session_options, None, false)?;
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
        self.sessions().live
    }

    fn live(&self) -> Vec<Arc<Shared>> {
        let sessions = self.sessions();
        let live = sessions
            .all
            .values()
            .filter(|shared| !shared.state().ended());
        live.cloned().collect()
    }

    fn find(&self, owner: &Owner, id: SessionId) -> Result<Arc<Shared>, Error> {
        let sessions = self.sessions();
        let shared = sessions.all.get(&id).ok_or(Error::SessionUnknown(id))?;
        if sessions.lent.contains_key(&id) {
            return Err(Error::SessionUnknown(id));
        }
        if shared.owner != *owner {
            return Err(Error::ForeignSession(id));
        }
        Ok(Arc::clone(shared))
    }

    pub(super) fn sessions(&self) -> std::sync::MutexGuard<'_, Sessions> {
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
