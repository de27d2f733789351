//! The pool of kits: what a session is made of, ready before it is asked for. One task owns them all.
//!
//! ```text
//! (too few, room, memory, quiet) ── build ──> ready ──> taken: a session's, never given back
//!        ^                           |          '─────> ended: old, dead, or its room or memory is needed
//!        '── wait: 1 s, 2 s, … 60 s ─┘ failed
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::limits::Bytes;
use crate::sandbox::memory_left;

use super::activity::Activity;
use super::driver::Deps;
use super::kit::{Beside, Build, BuildError, Kit};

/// How long the daemon has done nothing when a kit is built.
const QUIET: Duration = Duration::from_millis(100);
/// How long that is waited for: of a busy daemon a kit is built beside what runs.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often kits are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// After a kit could not be built, and at most after many.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Failures in a row that somebody should know of.
const WARN_AFTER: u32 = 3;
/// How long the end of all kits may take.
const END_LIMIT: Duration = Duration::from_secs(10);
/// Sessions that ask at once; more wait.
const REQUESTS: usize = 64;
const LEAST_AGE: Duration = Duration::from_secs(1);

/// Config section `[pool]`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Sessions that stand ready before anybody asks for them; 0: none.
    pub size: usize,
    /// Whether each has a runner of python, too.
    pub python: bool,
    /// Whether agent-browser's service runs in each.
    pub agent_browser: bool,
    /// How long one stands ready before another takes its place.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// What must be left of the memory of the host, and of the daemon's control group, when one is
    /// built. While less than half of it is left, they are given up.
    pub memory_left: Bytes,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            size: 1,
            python: false,
            agent_browser: false,
            max_age: Duration::from_secs(600),
            memory_left: Bytes::gib(1),
        }
    }
}

impl Config {
    /// Checks each value.
    ///
    /// # Errors
    /// The first key whose value cannot be used, and what is wrong with it.
    pub fn check(&self, max_sessions: usize) -> Result<(), (&'static str, String)> {
        if self.size > max_sessions {
            let message = format!(
                "is {}, more than session.max_sessions ({max_sessions}): that many could never stand \
                 ready",
                self.size
            );
            return Err(("pool.size", message));
        }
        if self.max_age < LEAST_AGE {
            let message = format!("is {:?}, must be at least {LEAST_AGE:?}", self.max_age);
            return Err(("pool.max_age", message));
        }
        Ok(())
    }
}

/// Asks the pool for kits; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Kits {
    requests: mpsc::Sender<Request>,
    activity: Activity,
    ready: Arc<AtomicUsize>,
    end: CancellationToken,
}

#[derive(Debug)]
struct Request {
    /// What it must be; none: no kit will do, but the session needs its room.
    build: Option<Build>,
    reply: oneshot::Sender<Option<Kit>>,
}

impl Kits {
    /// A kit of this build, if there is one. Without one, there is room for the session when this
    /// returns. A dropped call leaves nothing that runs.
    pub(super) async fn take(&self, build: Option<Build>) -> Option<Kit> {
        let (reply, answer) = oneshot::channel();
        // Both fail when there is no pool, or no longer.
        self.requests.send(Request { build, reply }).await.ok()?;
        answer.await.ok()?
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    pub(super) fn ready(&self) -> usize {
        self.ready.load(Ordering::Relaxed)
    }

    /// Ends all kits, and the pool.
    pub(super) fn end(&self) {
        self.end.cancel();
    }
}

/// A pool, and how it is asked; no pool where none is configured.
pub(super) fn new(deps: Arc<Deps>) -> (Kits, Option<Pool>) {
    let (sender, requests) = mpsc::channel(REQUESTS);
    let kits = Kits {
        requests: sender,
        activity: Activity::default(),
        ready: Arc::default(),
        end: CancellationToken::new(),
    };
    let config = deps.configs.pool.clone();
    let pool = (config.size > 0).then(|| Pool {
        usual: Build::usual(&deps.configs),
        most: deps.configs.session.max_sessions,
        config,
        deps,
        requests,
        activity: kits.activity.clone(),
        count: Arc::clone(&kits.ready),
        end: kits.end.clone(),
        ready: VecDeque::new(),
        building: None,
        wait_for_room: Vec::new(),
        failures: Failures::default(),
        not_before: Instant::now(),
        wanted_since: None,
        number: 0,
    });
    (kits, pool)
}

/// The state of the pool's task.
#[derive(Debug)]
pub(super) struct Pool {
    config: Config,
    deps: Arc<Deps>,
    usual: Build,
    /// Sessions and kits at most.
    most: usize,
    requests: mpsc::Receiver<Request>,
    activity: Activity,
    count: Arc<AtomicUsize>,
    end: CancellationToken,
    /// Oldest first.
    ready: VecDeque<Kit>,
    /// Ends the one that is being built.
    building: Option<CancellationToken>,
    /// Sessions whose room it has.
    wait_for_room: Vec<oneshot::Sender<Option<Kit>>>,
    failures: Failures,
    not_before: Instant,
    /// Since when there are too few.
    wanted_since: Option<Instant>,
    number: u64,
}

impl Pool {
    /// Runs until it is to end; nothing of it is left then. `sessions` counts those there are.
    pub(super) async fn run(mut self, sessions: impl Fn() -> usize) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut building, mut leaving) = (JoinSet::new(), JoinSet::new());
        loop {
            self.count.store(self.ready.len(), Ordering::Relaxed);
            let wants = self.wants(sessions());
            let since = wants.then(|| *self.wanted_since.get_or_insert_with(Instant::now));
            self.wanted_since = since;
            let turn = turn(&self.activity, since, self.not_before);
            tokio::select! {
                biased;
                () = self.end.cancelled() => break,
                request = self.requests.recv() => match request {
                    Some(request) => self.answer(request, sessions(), &mut leaving),
                    None => break,
                },
                Some(built) = building.join_next() => {
                    self.built(built.ok(), &mut leaving);
                    self.let_in(sessions(), &mut leaving);
                }
                Some(()) = async { leaving.join_next().await.map(drop) } => {
                    self.let_in(sessions(), &mut leaving);
                }
                _ = look.tick() => self.look(sessions(), &mut leaving),
                () = turn, if wants => self.begin(&mut building),
            }
        }
        self.requests.close();
        self.count.store(0, Ordering::Relaxed);
        if let Some(building) = &self.building {
            building.cancel();
        }
        for kit in self.ready.drain(..) {
            leaving.spawn(kit.end());
        }
        let ended = async {
            while let Some(built) = building.join_next().await {
                if let Ok(Ok(kit)) = built {
                    leaving.spawn(kit.end());
                }
            }
            while leaving.join_next().await.is_some() {}
        };
        if timeout(END_LIMIT, ended).await.is_err() {
            warn!("kits did not end in {END_LIMIT:?}; they are killed");
        }
    }

    fn wants(&self, sessions: usize) -> bool {
        let kits = self.ready.len();
        self.building.is_none() && kits < self.config.size && sessions + kits < self.most
    }

    /// Whether sessions have no room because of kits, those that are ending too.
    fn is_full(&self, sessions: usize, leaving: usize) -> bool {
        let kits = self.ready.len() + usize::from(self.building.is_some()) + leaving;
        kits > 0 && sessions + kits > self.most
    }

    /// How many kits have no room beside this many sessions.
    fn too_many(&self, sessions: usize) -> usize {
        let kits = self.ready.len() + usize::from(self.building.is_some());
        (sessions + kits).saturating_sub(self.most).min(kits)
    }

    fn answer(&mut self, request: Request, sessions: usize, leaving: &mut JoinSet<()>) {
        let Request { build, reply } = request;
        self.drop_dead(leaving);
        let fits = build.is_some_and(|build| build == self.usual);
        if fits && let Some(kit) = self.ready.pop_front() {
            if let Err(Some(kit)) = reply.send(Some(kit)) {
                self.ready.push_front(kit);
            }
            return;
        }
        if !self.is_full(sessions, leaving.len()) {
            // Nobody may be waiting any more.
            drop(reply.send(None));
        } else if let Some(kit) = self.ready.pop_front() {
            leaving.spawn(async move {
                kit.end().await;
                drop(reply.send(None));
            });
        } else {
            self.wait_for_room.push(reply);
            if let Some(building) = &self.building {
                building.cancel();
            }
        }
    }

    fn look(&mut self, sessions: usize, leaving: &mut JoinSet<()>) {
        self.drop_dead(leaving);
        let max_age = self.config.max_age;
        while (self.ready.front()).is_some_and(|kit| kit.age() >= max_age) {
            self.give_up("it is old", leaving);
        }
        for _ in 0..self.too_many(sessions) {
            self.give_up("sessions need its room", leaving);
        }
        if !self.ready.is_empty() && memory_left() < Bytes(self.config.memory_left.0 / 2) {
            self.give_up("memory is short", leaving);
        }
    }

    fn give_up(&mut self, why: &str, leaving: &mut JoinSet<()>) {
        if let Some(kit) = self.ready.pop_front() {
            debug!(why, "kit ended");
            leaving.spawn(kit.end());
        }
    }

    fn drop_dead(&mut self, leaving: &mut JoinSet<()>) {
        for kit in std::mem::take(&mut self.ready) {
            if kit.is_alive() {
                self.ready.push_back(kit);
            } else {
                info!("a kit has died; another takes its place");
                leaving.spawn(kit.end());
            }
        }
    }

    fn begin(&mut self, building: &mut JoinSet<Result<Kit, BuildError>>) {
        if memory_left() < self.config.memory_left {
            self.not_before = Instant::now() + LOOK;
            return;
        }
        self.number += 1;
        let cancel = CancellationToken::new();
        self.building = Some(cancel.clone());
        let beside = Beside {
            python: self.config.python,
            agent_browser: self.config.agent_browser,
        };
        let (build, deps) = (self.usual.clone(), Arc::clone(&self.deps));
        building.spawn(Kit::build(self.number, build, beside, deps, cancel));
    }

    /// What came of a build; nothing if it panicked.
    fn built(&mut self, built: Option<Result<Kit, BuildError>>, leaving: &mut JoinSet<()>) {
        self.building = None;
        let why = match built {
            Some(Ok(kit)) => {
                self.failures.end();
                self.ready.push_back(kit);
                if !self.wait_for_room.is_empty() {
                    self.give_up("a session waits for its room", leaving);
                }
                None
            }
            Some(Err(BuildError::Cancelled)) => None,
            Some(Err(error)) => Some(error.to_string()),
            None => Some("its task failed".to_owned()),
        };
        if let Some(why) = why {
            self.not_before = Instant::now() + self.failures.add(why);
        }
    }

    /// Tells the sessions that wait for room when there is some.
    fn let_in(&mut self, sessions: usize, leaving: &mut JoinSet<()>) {
        if !self.is_full(sessions, leaving.len()) {
            for reply in self.wait_for_room.drain(..) {
                drop(reply.send(None));
            }
        } else if !self.wait_for_room.is_empty() && leaving.is_empty() && self.building.is_none() {
            self.give_up("a session waits for its room", leaving);
        }
    }
}

/// Waits until a kit may be built that is wanted since then.
async fn turn(activity: &Activity, since: Option<Instant>, not_before: Instant) {
    let Some(since) = since else {
        return std::future::pending().await;
    };
    sleep_until(not_before).await;
    let left = (since.max(not_before) + PATIENCE).saturating_duration_since(Instant::now());
    // A daemon that never rests has waited long enough.
    let _ = timeout(left, activity.quiet(QUIET)).await;
}

/// Builds that failed, one after the other.
#[derive(Debug, Default)]
struct Failures {
    in_row: u32,
    said: String,
}

impl Failures {
    /// One more; how long to wait for the next try.
    fn add(&mut self, why: String) -> Duration {
        self.in_row = self.in_row.saturating_add(1);
        let (first, longest) = PAUSES;
        let doubled = 2u32.saturating_pow(self.in_row - 1);
        let pause = first.saturating_mul(doubled).min(longest);
        if self.in_row == WARN_AFTER {
            warn!(error = %why, "no kit can be built; sessions start without");
        } else if why != self.said {
            info!(error = %why, "kit not built; trying again");
        }
        self.said = why;
        pause
    }

    fn end(&mut self) {
        if self.in_row >= WARN_AFTER {
            info!("kits can be built again");
        }
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_failures_the_pool_waits_longer_and_not_for_ever() {
        let mut failures = Failures::default();
        let mut pause = || failures.add("x".to_owned()).as_secs();
        let pauses: Vec<_> = (0..9).map(|_| pause()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        failures.in_row = u32::MAX;
        assert_eq!(failures.add("x".to_owned()).as_secs(), 60);
        failures.end();
        assert_eq!(failures.add("x".to_owned()).as_secs(), 1);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let config = |size, age| Config {
            size,
            max_age: Duration::from_millis(age),
            ..Config::default()
        };
        assert_eq!(config(3, 1000).check(3), Ok(()));
        assert_eq!(config(0, 1000).check(3), Ok(()));
        let key = |config: Config| config.check(3).unwrap_err().0;
        assert_eq!(key(config(4, 1000)), "pool.size");
        assert_eq!(key(config(1, 999)), "pool.max_age");
    }

    #[tokio::test(start_paused = true)]
    async fn a_kit_is_built_when_it_is_quiet_or_has_waited_long_enough() {
        let activity = Activity::default();
        let began = Instant::now();
        turn(&activity, Some(began), began).await;
        assert_eq!(began.elapsed(), QUIET);
        let _busy = activity.begin();
        let began = Instant::now();
        turn(&activity, Some(began), began).await;
        assert_eq!(began.elapsed(), PATIENCE);
        // After a failure the wait begins anew.
        let began = Instant::now();
        turn(&activity, Some(began), began + PAUSES.1).await;
        assert_eq!(began.elapsed(), PAUSES.1 + PATIENCE);
    }
}
