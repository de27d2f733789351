//! All sessions of the daemon: opened, found, listed, stopped, drained.

mod execution;
mod sessions;

pub use execution::{Execution, Place};

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info_span};

use crate::egress;
use crate::execution::BadRequest;
use crate::id::SessionId;
use crate::runner::OWN_PORTS;
use crate::sandbox::{ProbeState, Sandboxes};

use super::driver::{self, Deps};
use super::executions::Executions;
use super::shared::Shared;
use super::watch::watch;
use super::{Configs, EndReason, Error, SessionEvent, SessionOptions, SessionView, State};
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
    degraded: Arc<[String]>,
    sessions: Mutex<Sessions>,
    executions: Arc<Executions>,
    tasks: TaskTracker,
    draining: AtomicBool,
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
        let shared = self.open(options, idempotency_key)?;
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
    fn open(&self, options: SessionOptions, key: Option<String>) -> Result<Arc<Shared>, Error> {
        let (shared, inbox) = {
            let mut sessions = self.sessions();
            // Within the lock: a drain that begins later finds this session.
            if self.inner.draining.load(Ordering::Acquire) {
                return Err(Error::Draining);
            }
            if let Some(shared) = key.as_deref().and_then(|key| sessions.of_key(key))
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
            let limit = self.inner.deps.configs.session.max_sessions;
            if sessions.live() >= limit {
                return Err(Error::SessionLimit { limit });
            }
            let (jobs, inbox) = mpsc::channel(JOB_QUEUE);
            let shared = Arc::new(Shared::new(
                options,
                Arc::clone(&self.inner.degraded),
                CancellationToken::new(),
                jobs,
                &self.inner.deps.configs.egress,
            ));
            sessions.add(Arc::clone(&shared), key);
            (shared, inbox)
        };
        let span = info_span!(parent: None, "session", session_id = %shared.id);
        let registry = self.clone();
        let task_shared = Arc::clone(&shared);
        self.inner.tasks.spawn(
            async move {
                let deps = Arc::clone(&registry.inner.deps);
                driver::run(Arc::clone(&task_shared), deps, inbox).await;
                let remembered = registry.inner.deps.configs.session.remembered;
                registry.sessions().end(task_shared.id, remembered);
            }
            .instrument(span),
        );
        Ok(shared)
    }

    /// Reads one session, and its newest network requests, oldest first.
    ///
    /// # Errors
    /// When it is not known.
    pub fn get(&self, id: SessionId) -> Result<(SessionView, Vec<egress::LoggedRequest>), Error> {
        let shared = self.find(id)?;
        Ok((shared.view(), shared.network.requests()))
    }

    /// At most `limit` sessions in these states (all, if empty), newest first, after the one a
    /// page before ended with; and where the next page starts, if there is one.
    #[must_use]
    pub fn list(
        &self,
        states: &[State],
        after: Option<SessionId>,
        limit: usize,
    ) -> (Vec<SessionView>, Option<SessionId>) {
        let known = self
            .sessions()
            .newest(states, after, limit.saturating_add(1));
        let next = (known.len() > limit).then(|| known[limit.saturating_sub(1)].id);
        let views = known.iter().take(limit).map(|shared| shared.view());
        (views.collect(), next)
    }

    /// Ends a session, and returns when nothing of it is left. Idempotent.
    ///
    /// # Errors
    /// When it is not known.
    pub async fn stop(&self, id: SessionId) -> Result<SessionView, Error> {
        let shared = self.find(id)?;
        shared.request_end(EndReason::Stopped);
        shared.wait_ended().await;
        Ok(shared.view())
    }

    /// A session's events: first its state now; ends after its last state.
    ///
    /// # Errors
    /// When it is not known.
    pub fn watch(&self, id: SessionId) -> Result<mpsc::Receiver<SessionEvent>, Error> {
        let shared = self.find(id)?;
        let (sender, receiver) = mpsc::channel(WATCH_QUEUE);
        tokio::spawn(watch(shared, sender));
        Ok(receiver)
    }

    /// Refuses new work, lets executions run for at most `grace`, then ends every session; returns
    /// when nothing is left.
    pub async fn drain(&self, grace: Duration) {
        const STEP: Duration = Duration::from_millis(20);
        self.inner.draining.store(true, Ordering::Release);
        let live = self.sessions().not_ended();
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
        self.sessions().live()
    }

    fn find(&self, id: SessionId) -> Result<Arc<Shared>, Error> {
        let sessions = self.sessions();
        let shared = sessions.get(id).ok_or(Error::SessionUnknown(id))?;
        Ok(Arc::clone(shared))
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.inner
            .sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
