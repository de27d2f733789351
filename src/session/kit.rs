//! What a session is made of. Built before it is anybody's, it is a kit: everything but what a request
//! says of its session stands ready, and runs as little as the kernel lets it.
//!
//! ```text
//! ground ── start ── (kit: connect) ── adopted by a session's task ── end
//! ```

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, debug, info, info_span, warn};

use crate::browser::{Browser, LaunchOptions};
use crate::execution::{ExecutionLimits, Language, SessionLimits};
use crate::id::SessionId;
use crate::runner::{AgentService, CDP_PORT, Context, ContextEnv, Launched, PROXY_PORT, Spares};
use crate::sandbox::{self, GroupLimits, Space, SpaceSpec, Weight};
use crate::telemetry::Chain;

use super::driver::Deps;
use super::{Configs, Error, SessionOptions};

/// What of a session is fixed once its programs run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Build {
    limits: SessionLimits,
    execution_limits: ExecutionLimits,
    viewport: (u32, u32),
    user_agent: Option<String>,
}

impl Build {
    /// As a session needs it.
    pub(super) fn of(options: &SessionOptions) -> Self {
        Self {
            limits: options.limits,
            execution_limits: options.execution_limits,
            viewport: options.viewport,
            user_agent: options.user_agent.clone(),
        }
    }

    /// As a session needs it that asks for nothing.
    pub(super) fn usual(configs: &Configs) -> Self {
        Self::of(&SessionOptions {
            limits: configs.session.limits(),
            execution_limits: configs.runner.limits(),
            ..SessionOptions::default()
        })
    }
}

/// The parts of a session, as far as they are built. Ended in reverse order.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) space: Option<Arc<Space>>,
    /// Until they are served.
    pub(super) ways_out: WaysOut,
    pub(super) proxies: CancellationToken,
    pub(super) servers: JoinSet<()>,
    pub(super) browser: Option<Browser>,
    pub(super) env: Option<Arc<ContextEnv>>,
    /// The runner of node, until there is its context.
    launched: Option<Launched>,
    pub(super) contexts: HashMap<Language, Context>,
    pub(super) fresh: JoinSet<()>,
    /// Ends its contexts.
    pub(super) cancel: CancellationToken,
}

/// Listeners in a session's sandboxes that lead out of it. Until they are served, who connects waits.
#[derive(Debug, Default)]
pub(super) struct WaysOut {
    pub(super) browser: Vec<TcpListener>,
    pub(super) code: Option<TcpListener>,
    pub(super) relayed: Vec<TcpListener>,
}

impl Parts {
    /// Makes the space; gives the listener of the browser's CDP endpoint with it.
    async fn ground(&mut self, build: &Build, deps: &Deps) -> Result<Ground, Error> {
        let limits = build.limits;
        let mut runner_ports = vec![CDP_PORT, PROXY_PORT];
        runner_ports.extend(deps.policy.relayed_ports());
        let spec = SpaceSpec {
            scratch: limits.scratch,
            scratch_inodes: limits.scratch_inodes,
            limits: GroupLimits {
                memory: limits.memory,
                processes: limits.processes,
                cpu_percent: limits.cpu_percent,
            },
            browser_data: deps.configs.browser.data,
            browser_data_inodes: deps.configs.browser.data_inodes,
            runner_ports,
            browser_ports: vec![PROXY_PORT],
        };
        let space = deps.sandboxes.create_space(spec).await;
        let mut space = space.map_err(sandbox_error)?;
        // In the order of the ports above.
        let mut runner_listeners = std::mem::take(&mut space.runner_listeners).into_iter();
        let cdp = runner_listeners.next();
        self.ways_out = WaysOut {
            code: runner_listeners.next(),
            relayed: runner_listeners.collect(),
            browser: std::mem::take(&mut space.browser_listeners),
        };
        let space = Arc::clone(self.space.insert(Arc::new(space)));
        Ok(Ground { space, cdp })
    }

    /// Starts browser and runner on the ground, the browser once `before` is done; gives what that gave.
    async fn start<T>(
        &mut self,
        ground: Ground,
        build: &Build,
        deps: &Deps,
        before: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let Ground { space, cdp } = ground;
        let options = LaunchOptions {
            viewport: build.viewport,
            user_agent: build.user_agent.clone(),
            proxy_port: PROXY_PORT,
        };
        let open_browser = async {
            let before = before.await?;
            let Deps { configs, .. } = deps;
            let browser = Browser::launch(&space, &configs.browser, &configs.cdp, &options).await;
            let browser = browser.map_err(|error| Error::Browser(Arc::new(error)))?;
            Ok::<_, Error>((browser, before))
        };
        // The runner loads while Chromium starts; polled in this order, so Chromium goes first.
        let (opened, launched) = tokio::join!(
            biased;
            open_browser,
            Launched::launch(Language::Node, &space, build.execution_limits),
        );
        let (browser, before) = opened?;
        // Without it the first job starts a runner, and reports what happens then.
        self.launched = launched
            .inspect_err(|error| debug!(%error, "runner not launched"))
            .ok();
        let hub = self.browser.insert(browser).hub.clone();
        deps.browser_version.get_or_init(|| hub.browser_version());
        if let Some(listener) = cdp {
            let listener = to_tokio(listener)?;
            let hub = hub.clone();
            self.servers
                .spawn(async move { hub.serve(listener).await }.in_current_span());
        }
        let spares = Spares::new(
            Arc::clone(&space),
            build.execution_limits,
            self.cancel.clone(),
        );
        self.env = Some(Arc::new(ContextEnv {
            space,
            spares,
            hub,
            config: deps.configs.runner.clone(),
            session_memory: build.limits.memory,
            limits: build.execution_limits,
            agent: AgentService::default(),
            human_control: deps.configs.session.human_control,
        }));
        Ok(before)
    }

    /// Builds for a session that waits for it. `before` needs the space, and is done before the browser
    /// starts.
    pub(super) async fn build<T, F>(
        &mut self,
        build: &Build,
        deps: &Deps,
        before: impl FnOnce(Arc<Space>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let ground = self.ground(build, deps).await?;
        let before = before(Arc::clone(&ground.space));
        self.start(ground, build, deps, before).await
    }

    /// The context of node, which connects its runner.
    pub(super) fn open_node(&mut self, deps: &Deps) {
        let launched = self.launched.take();
        self.open_context(Language::Node, launched, deps);
    }

    fn open_context(&mut self, language: Language, launched: Option<Launched>, deps: &Deps) {
        let Some(env) = &self.env else { return };
        let context = || {
            Context::spawn(
                language,
                Arc::clone(env),
                env.limits,
                deps.configs.session.queue_per_context,
                launched,
                self.cancel.clone(),
            )
        };
        self.contexts.entry(language).or_insert_with(context);
    }

    /// The context of a language.
    pub(super) fn context(&mut self, language: Language, deps: &Deps) -> Option<&Context> {
        if !self.contexts.contains_key(&language) {
            self.open_context(language, None, deps);
        }
        self.contexts.get(&language)
    }

    /// Ends all code; returns when nothing of it is left.
    pub(super) async fn end_contexts(&mut self) {
        self.cancel.cancel();
        self.launched = None;
        for (_, context) in self.contexts.drain() {
            context.finish().await;
        }
        while self.fresh.join_next().await.is_some() {}
        if let Some(env) = self.env.take() {
            env.spares.end().await;
            env.agent.stop().await;
        }
    }

    /// Takes a session's share of the cores; a kit has less.
    ///
    /// # Errors
    /// When the sandboxes' group cannot be changed.
    pub(super) async fn take_share(&self) -> Result<(), Error> {
        match &self.space {
            Some(space) => space.weigh(Weight::Normal).await.map_err(sandbox_error),
            None => Ok(()),
        }
    }

    /// Ends everything that is left; returns when nothing of it is.
    pub(super) async fn end(mut self) {
        self.end_contexts().await;
        if let Some(browser) = self.browser.take() {
            browser.end().await;
        }
        self.proxies.cancel();
        self.servers.shutdown().await;
        match self.space.take().map(Arc::into_inner) {
            Some(Some(space)) => {
                if let Err(error) = space.close().await {
                    warn!(error = %Chain(&error), "session's ground not fully closed");
                }
            }
            // Whoever still holds it closes it by dropping it.
            Some(None) => warn!("session's ground is still in use"),
            None => {}
        }
    }
}

/// A space on which nothing runs yet.
struct Ground {
    space: Arc<Space>,
    cdp: Option<TcpListener>,
}

/// Which languages' runners stand ready in a kit beside node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beside {
    pub(super) python: bool,
    pub(super) agent_browser: bool,
}

/// Why a kit was not built.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    /// As with any session.
    #[error(transparent)]
    Session(#[from] Error),
    /// Its runner ended, or was not ready in time.
    #[error("its {0} runner did not connect to the browser")]
    Runner(Language),
    /// It is not wanted any more.
    #[error("it is not wanted any more")]
    Cancelled,
}

/// The parts of a session that is nobody's yet. Used once; dropping it ends it.
#[derive(Debug)]
pub(super) struct Kit {
    parts: Parts,
    built: Instant,
    /// What its tasks log in; it gets the session's id once there is one.
    span: Span,
}

impl Kit {
    /// Builds one, unless it is cancelled; nothing is left of one that is not built.
    pub(super) async fn build(
        number: u64,
        build: Build,
        beside: Beside,
        deps: Arc<Deps>,
        cancel: CancellationToken,
    ) -> Result<Self, BuildError> {
        let span = info_span!(
            parent: None, "session", kit = number, session_id = tracing::field::Empty
        );
        let building = async {
            let began = Instant::now();
            let mut parts = Parts::default();
            let built = tokio::select! {
                built = parts.build_kit(&build, beside, &deps) => built,
                () = cancel.cancelled() => Err(BuildError::Cancelled),
            };
            match built {
                Ok(()) => {
                    info!(elapsed = ?began.elapsed(), "kit ready");
                    Ok(parts)
                }
                Err(error) => {
                    end_soon(parts).await;
                    Err(error)
                }
            }
        };
        let parts = building.instrument(span.clone()).await?;
        Ok(Self {
            parts,
            built: Instant::now(),
            span,
        })
    }

    /// How long it has stood ready.
    pub(super) fn age(&self) -> Duration {
        self.built.elapsed()
    }

    /// Whether all of it still runs, as far as is known now.
    pub(super) fn is_alive(&self) -> bool {
        let has_browser = (self.parts.browser.as_ref()).is_some_and(Browser::is_alive);
        has_browser && self.parts.contexts.values().all(Context::is_connected)
    }

    /// Its parts are this session's from now on.
    pub(super) fn adopt(self, session: SessionId) -> Parts {
        self.span
            .record("session_id", tracing::field::display(session));
        self.parts
    }

    /// Ends it; returns when nothing of it is left.
    pub(super) async fn end(self) {
        end_soon(self.parts).instrument(self.span).await;
    }
}

/// What runs as little as possible ends as slowly.
async fn end_soon(parts: Parts) {
    if let Some(space) = &parts.space
        && let Err(error) = space.weigh(Weight::Normal).await
    {
        debug!(%error, "a kit ends slowly");
    }
    parts.end().await;
}

impl Parts {
    async fn build_kit(
        &mut self,
        build: &Build,
        beside: Beside,
        deps: &Deps,
    ) -> Result<(), BuildError> {
        let lower = async |space: Arc<Space>| {
            let lowered = space.weigh(Weight::Least).await;
            lowered.map_err(sandbox_error)
        };
        self.build(build, deps, lower).await?;
        self.open_node(deps);
        let Some(env) = self.env.clone() else {
            return Ok(());
        };
        if beside.python {
            let launched = Launched::launch(Language::Python, &env.space, env.limits).await;
            let launched = launched.map_err(|error| runner_error(Language::Python, error))?;
            self.open_context(Language::Python, Some(launched), deps);
        }
        if beside.agent_browser {
            env.agent.keep(&env).await;
        }
        for (language, context) in &self.contexts {
            if !context.connect().await {
                return Err(BuildError::Runner(*language));
            }
        }
        Ok(())
    }
}

fn sandbox_error(error: sandbox::Error) -> Error {
    Error::Sandbox(Arc::new(error))
}

fn runner_error(language: Language, error: crate::runner::Error) -> Error {
    Error::Runner {
        language,
        source: Arc::new(error),
    }
}

pub(super) fn to_tokio(listener: TcpListener) -> Result<tokio::net::TcpListener, Error> {
    tokio::net::TcpListener::from_std(listener).map_err(|error| Error::Listener(Arc::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Bytes;

    #[test]
    fn what_can_be_said_late_makes_no_other_build() {
        let usual = Build::of(&SessionOptions::default());
        let of = |change: fn(&mut SessionOptions)| {
            let mut options = SessionOptions::default();
            change(&mut options);
            Build::of(&options)
        };
        for late in [
            of(|o| o.ttl = Duration::from_secs(60)),
            of(|o| o.start_url = Some("https://a.test".into())),
            of(|o| o.network.offline = true),
            of(|o| o.live_view = false),
            of(|o| {
                o.labels.insert("a".into(), "b".into());
            }),
        ] {
            assert_eq!(late, usual);
        }
        for early in [
            of(|o| o.viewport = (1280, 721)),
            of(|o| o.user_agent = Some("x".into())),
            of(|o| o.limits.memory = Bytes::gib(1)),
            of(|o| o.limits.scratch = Bytes::mib(1)),
            of(|o| o.execution_limits.processes = 9),
        ] {
            assert_ne!(early, usual);
        }
    }
}
