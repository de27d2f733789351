//! The task of one session: builds it, hands executions to its contexts, ends it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, info, warn};

use crate::browser::{Browser, LaunchOptions};
use crate::cdp::{self, Hub};
use crate::egress::{self, Egress, Source};
use crate::execution::Language;
use crate::profile::Profiles;
use crate::runner::{
    self, AgentService, CDP_PORT, Context, ContextEnv, Job, Launched, PROXY_PORT, Spares,
};
use crate::sandbox::{Exit, ExitStatus, GroupLimits, LimitOf, Sandboxes, Space, SpaceSpec};
use crate::telemetry::Chain;

use super::loopback::Loopback;
use super::profiles;
use super::shared::Shared;
use super::{Configs, EndReason, Error};

/// How Chromium calls a tunnel its proxy did not open, whatever the reason.
const TUNNEL_FAILED: &str = "net::ERR_TUNNEL_CONNECTION_FAILED";

/// What every session is built from.
#[derive(Debug)]
pub(super) struct Deps {
    pub(super) sandboxes: Sandboxes,
    pub(super) configs: Configs,
    pub(super) policy: Arc<egress::Policy>,
    pub(super) upstream: Option<egress::Upstream>,
    pub(super) profiles: Profiles,
    /// What the browsers call themselves, once one has run.
    pub(super) browser_version: OnceLock<String>,
}

/// The parts of a session, as far as they are built. Ended in reverse order.
#[derive(Default)]
struct Parts {
    space: Option<Arc<Space>>,
    proxies: CancellationToken,
    servers: JoinSet<()>,
    browser: Option<Browser>,
    env: Option<Arc<ContextEnv>>,
    contexts: HashMap<Language, Context>,
    fresh: JoinSet<()>,
}

/// Runs a session from its start to its end.
pub(super) async fn run(shared: Arc<Shared>, deps: Arc<Deps>, mut jobs: mpsc::Receiver<Job>) {
    let began = Instant::now();
    let mut parts = Parts::default();
    let started = tokio::select! {
        started = start(&mut parts, &shared, &deps) => started,
        (reason, detail) = shared.end_requested() => Ok(Some((reason, detail))),
    };
    let was_open = matches!(started, Ok(None));
    let (reason, detail, failure) = match started {
        Ok(Some((reason, detail))) => (reason, detail, None),
        Ok(None) => {
            info!(elapsed = ?began.elapsed(), "session ready");
            let (reason, detail) = serve(&mut parts, &shared, &deps, &mut jobs).await;
            (reason, detail, None)
        }
        Err(error) => {
            warn!(error = %Chain(&error), "session not started");
            (EndReason::StartFailed, error.to_string(), Some(error))
        }
    };
    shared.request_end_because(reason, detail.clone());
    let is_kept = was_open && shared.profile.is_kept_after(reason);
    if !is_kept {
        // Another session may write it, before anyone is told of this one's end.
        drop(shared.profile.take_writer());
    }
    shared.stopping(failure);
    jobs.close();
    shared.cancel.cancel();
    while let Ok(job) = jobs.try_recv() {
        let _ = job.started.send(Err(runner::Error::Cancelled));
    }
    end_contexts(&mut parts).await;
    if is_kept {
        save_profile(&mut parts, &shared, &deps).await;
    }
    end(parts).await;
    shared.ended(reason, detail);
    info!(?reason, lived = ?began.elapsed(), "session ended");
}

/// Builds everything. `Ok(None)`: open.
async fn start(
    parts: &mut Parts,
    shared: &Arc<Shared>,
    deps: &Deps,
) -> Result<Option<(EndReason, String)>, Error> {
    let config = &deps.configs.session;
    let limits = shared.options.limits;
    let mut runner_ports = vec![CDP_PORT, PROXY_PORT];
    runner_ports.extend(deps.policy.relayed_ports());
    let sandbox_error = |error| Error::Sandbox(Arc::new(error));
    let mut space = deps
        .sandboxes
        .create_space(SpaceSpec {
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
        })
        .await
        .map_err(sandbox_error)?;
    // In the order of the ports above.
    let mut runner_listeners = std::mem::take(&mut space.runner_listeners).into_iter();
    let cdp_listener = runner_listeners.next();
    let code_proxy = runner_listeners
        .next()
        .map(|listener| (listener, Source::Code));
    let browser_listeners = std::mem::take(&mut space.browser_listeners).into_iter();
    let browser_proxy = browser_listeners.map(|listener| (listener, Source::Browser));
    let space = Arc::clone(parts.space.insert(Arc::new(space)));

    let way_out = Arc::new(Egress::new(egress::Parts {
        policy: Arc::clone(&deps.policy),
        upstream: deps.upstream.as_ref(),
        options: shared.options.network.clone(),
        own_loopback: Arc::new(Loopback::new(&space)),
        log: Arc::clone(&shared.network),
        places: deps.configs.places.clone(),
    }));
    // Started once.
    let _ = shared.way_out.set(Arc::downgrade(&way_out));
    for (listener, source) in browser_proxy.chain(code_proxy) {
        let listener = to_tokio(listener)?;
        let (way_out, cancel) = (Arc::clone(&way_out), parts.proxies.clone());
        let serving = egress::serve(listener, source, way_out, cancel);
        parts.servers.spawn(serving.in_current_span());
    }
    let relayed = runner_listeners
        .map(to_tokio)
        .collect::<Result<Vec<_>, _>>()?;
    if !relayed.is_empty() {
        let relaying = egress::relay(relayed, Arc::clone(&way_out), parts.proxies.clone());
        parts.servers.spawn(relaying.in_current_span());
    }
    let options = LaunchOptions {
        viewport: shared.options.viewport,
        user_agent: shared.options.user_agent.clone(),
        proxy_port: PROXY_PORT,
    };
    let open_browser = async {
        let restored = profiles::unpack(shared, deps, &space).await?;
        let Deps { configs, .. } = deps;
        let browser = Browser::launch(&space, &configs.browser, &configs.cdp, &options).await;
        let browser = browser.map_err(|error| Error::Browser(Arc::new(error)))?;
        Ok::<_, Error>((browser, restored))
    };
    // The runner loads while Chromium starts; polled in this order, so Chromium goes first.
    let (opened, launched) = tokio::join!(
        biased;
        open_browser,
        Launched::launch(Language::Node, &space, shared.options.execution_limits),
    );
    let (browser, restored) = opened?;
    // Without it the first job starts a runner, and reports what happens then.
    let launched = launched
        .inspect_err(|error| debug!(%error, "runner not launched"))
        .ok();
    let hub = parts.browser.insert(browser).hub.clone();
    deps.browser_version.get_or_init(|| hub.browser_version());
    let start_url = shared.options.start_url.as_deref();
    let start_url = start_url.filter(|url| *url != "about:blank");
    if let Some(restored) = restored {
        if start_url.is_none() {
            // Its renderer is still loading: who asked for the session need not wait for that.
            shared.ready();
        }
        profiles::restore(restored, deps, &hub).await?;
    }
    shared.set_hub(Some(hub.clone()));
    // Started once.
    let _ = shared.files.set(space.scratch().clone());
    if let Some(listener) = cdp_listener {
        let listener = to_tokio(listener)?;
        let hub = hub.clone();
        parts
            .servers
            .spawn(async move { hub.serve(listener).await }.in_current_span());
    }
    let env = Arc::new(ContextEnv {
        session_id: shared.id,
        spares: Spares::new(
            Arc::clone(&space),
            shared.options.execution_limits,
            shared.cancel.clone(),
        ),
        space,
        hub: hub.clone(),
        config: deps.configs.runner.clone(),
        session_memory: limits.memory,
        limits: shared.options.execution_limits,
        agent: AgentService::default(),
        human_control: config.human_control,
    });
    parts.env = Some(Arc::clone(&env));
    parts.contexts.insert(
        Language::Node,
        Context::spawn(
            Language::Node,
            env,
            shared.options.execution_limits,
            config.queue_per_context,
            launched,
            shared.cancel.clone(),
        ),
    );
    let start_error = match start_url {
        None => None,
        Some(url) => open_page(&hub, &way_out, url, config.start_url_timeout).await,
    };
    shared.open(start_error);
    Ok(None)
}

/// Loads a page; why it did not, if it did not.
async fn open_page(hub: &Hub, way_out: &Egress, url: &str, timeout: Duration) -> Option<String> {
    match hub.navigate(url, timeout).await {
        Ok(()) => {
            // So that the first reply has the page's title. What fails here shows in the first
            // execution.
            drop(hub.look_at_active_page().await);
            // To Chromium a refusal over plain http is a page like any other.
            let why = way_out.failed_page(&hub.active_page().url)?;
            Some(format!("the page could not be loaded: {why}"))
        }
        Err(error) => {
            let is_tunnel = matches!(
                &error,
                cdp::Error::Navigation { error_text } if error_text == TUNNEL_FAILED
            );
            let why = is_tunnel.then(|| way_out.failed_tunnel()).flatten();
            Some(match why {
                Some(why) => format!("{error}: {why}"),
                None => error.to_string(),
            })
        }
    }
}

fn to_tokio(listener: std::net::TcpListener) -> Result<tokio::net::TcpListener, Error> {
    tokio::net::TcpListener::from_std(listener).map_err(|error| Error::Listener(Arc::new(error)))
}

/// Hands out jobs until the session is to end; says why.
async fn serve(
    parts: &mut Parts,
    shared: &Arc<Shared>,
    deps: &Deps,
    jobs: &mut mpsc::Receiver<Job>,
) -> (EndReason, String) {
    let browser = parts.browser.take();
    let why = {
        let browser_death = async {
            match &browser {
                Some(browser) => browser.died().await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(browser_death);
        loop {
            tokio::select! {
                request = shared.end_requested() => break request,
                exit = &mut browser_death => {
                    let detail = crash_detail(&exit);
                    break (EndReason::BrowserCrashed, detail);
                }
                over = shared.life_over() => if let Some(reason) = over {
                    break (reason, reason.describe().to_owned());
                },
                Some(job) = jobs.recv() => hand_out(parts, shared, deps, job),
                Some(_) = parts.fresh.join_next() => {}
            }
        }
    };
    parts.browser = browser;
    if why.0 == EndReason::BrowserCrashed {
        drop(shared.profile.take_writer());
        // Executions see it by themselves and report what happened; nothing else may cancel them
        // first.
        wait_for_executions(shared).await;
    }
    why
}

/// Why a browser is gone, as the kernel saw it.
fn crash_detail(exit: &Exit) -> String {
    let of = |limit| match limit {
        LimitOf::Sandbox => "at its memory limit",
        LimitOf::Space => "at the session's memory limit",
        LimitOf::Host => "because the host, or a cgroup above Pagebox's, had no memory left",
    };
    match (exit.status, exit.usage.killed_for()) {
        (ExitStatus::OutOfMemory(limit), _) => format!("its browser was killed {}", of(limit)),
        (status, Some(limit)) => {
            format!(
                "its browser crashed ({status:?}) after a kill {}",
                of(limit)
            )
        }
        (status, None) => format!("its browser crashed ({status:?})"),
    }
}

async fn wait_for_executions(shared: &Shared) {
    const LONGEST: std::time::Duration = std::time::Duration::from_secs(5);
    const STEP: std::time::Duration = std::time::Duration::from_millis(10);
    let began = Instant::now();
    while shared.running() > 0 && began.elapsed() < LONGEST {
        tokio::time::sleep(STEP).await;
    }
}

fn hand_out(parts: &mut Parts, shared: &Arc<Shared>, deps: &Deps, job: Job) {
    let Some(env) = &parts.env else { return };
    let config = &deps.configs.session;
    let language = job.options.language;
    let refused = if job.options.fresh {
        if parts.fresh.len() >= config.fresh_at_once {
            Some(Box::new(job))
        } else {
            let context = Context::spawn(
                language,
                Arc::clone(env),
                job.options.limits,
                1,
                None,
                shared.cancel.clone(),
            );
            let refused = context.enqueue(job).err();
            let env = Arc::clone(env);
            parts.fresh.spawn(async move {
                context.finish().await;
                env.spares.want(language);
            });
            refused
        }
    } else {
        parts
            .contexts
            .entry(language)
            .or_insert_with(|| {
                Context::spawn(
                    language,
                    Arc::clone(env),
                    env.limits,
                    config.queue_per_context,
                    None,
                    shared.cancel.clone(),
                )
            })
            .enqueue(job)
            .err()
    };
    if let Some(job) = refused {
        let waiting = if job.options.fresh {
            config.fresh_at_once
        } else {
            config.queue_per_context
        };
        debug!(%language, "queue full");
        let _ = job.started.send(Err(runner::Error::QueueFull { waiting }));
    }
}

/// Ends all code; returns when nothing of it is left.
async fn end_contexts(parts: &mut Parts) {
    for (_, context) in parts.contexts.drain() {
        context.finish().await;
    }
    while parts.fresh.join_next().await.is_some() {}
    if let Some(env) = parts.env.take() {
        env.spares.end().await;
        env.agent.stop().await;
    }
}

/// Closes the browser, and saves what it leaves, when the session writes its profile.
async fn save_profile(parts: &mut Parts, shared: &Shared, deps: &Deps) {
    let (Some(browser), Some(space)) = (&parts.browser, &parts.space) else {
        return;
    };
    if let Some(writer) = shared.profile.take_writer() {
        profiles::save(writer, shared, deps, browser, space).await;
        parts.browser = None;
    }
}

/// Ends everything that is left; returns when nothing of it is.
async fn end(mut parts: Parts) {
    if let Some(browser) = parts.browser.take() {
        browser.end().await;
    }
    parts.proxies.cancel();
    parts.servers.shutdown().await;
    match parts.space.take().map(Arc::into_inner) {
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
