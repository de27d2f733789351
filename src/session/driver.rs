//! The task of one session: builds it, hands executions to its contexts, ends it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::{Instrument as _, debug, info, warn};

use crate::cdp::{self, Hub};
use crate::egress::{self, Egress, Source};
use crate::profile::Profiles;
use crate::runner::{self, Context, ContextEnv, Job};
use crate::sandbox::{Exit, ExitStatus, LimitOf, Sandboxes, Space};
use crate::telemetry::Chain;

use super::kit::{Build, Parts, WaysOut, to_tokio};
use super::loopback::Loopback;
use super::pool::Kits;
use super::profiles::{self, Restored};
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

/// Runs a session from its start to its end.
pub(super) async fn run(
    shared: Arc<Shared>,
    deps: Arc<Deps>,
    kits: Kits,
    mut jobs: mpsc::Receiver<Job>,
) {
    let began = Instant::now();
    let mut parts = Parts::default();
    let starting = kits.activity().begin();
    let started = tokio::select! {
        started = start(&mut parts, &shared, &deps, &kits) => started.map(|()| None),
        (reason, detail) = shared.end_requested() => Ok(Some((reason, detail))),
    };
    drop(starting);
    let was_open = matches!(started, Ok(None));
    let (reason, detail, failure) = match started {
        Ok(Some((reason, detail))) => (reason, detail, None),
        Ok(None) => {
            info!(elapsed = ?began.elapsed(), warm = shared.is_warm(), "session ready");
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
    parts.cancel.cancel();
    shared.cancel.cancel();
    while let Ok(job) = jobs.try_recv() {
        let _ = job.started.send(Err(runner::Error::Cancelled));
    }
    parts.end_contexts().await;
    if is_kept {
        save_profile(&mut parts, &shared, &deps).await;
    }
    parts.end().await;
    shared.ended(reason, detail);
    info!(?reason, lived = ?began.elapsed(), "session ended");
}

/// Takes a kit or builds, makes it this session's, and opens it.
async fn start(
    parts: &mut Parts,
    shared: &Arc<Shared>,
    deps: &Deps,
    kits: &Kits,
) -> Result<(), Error> {
    let saved = profiles::load(shared, deps).await?;
    let build = Build::of(&shared.options);
    // What was saved is put in place before a browser starts.
    let fits = saved.is_none().then(|| build.clone());
    let is_warm = match kits.take(fits).await {
        Some(kit) => {
            *parts = kit.adopt(shared.id);
            match parts.take_share().await {
                Ok(()) => true,
                Err(error) => {
                    warn!(error = %Chain(&error), "kit not used");
                    std::mem::take(parts).end().await;
                    false
                }
            }
        }
        None => false,
    };
    let restored = match is_warm {
        true => {
            shared.set_warm();
            None
        }
        false => {
            let unpack = async |space: Arc<Space>| match saved {
                Some(saved) => profiles::unpack(saved, shared, deps, &space)
                    .await
                    .map(Some),
                None => Ok(None),
            };
            parts.build(&build, deps, unpack).await?
        }
    };
    adopt(parts, shared, deps, restored).await
}

/// Makes what is built this session's, and opens it.
async fn adopt(
    parts: &mut Parts,
    shared: &Arc<Shared>,
    deps: &Deps,
    restored: Option<Restored>,
) -> Result<(), Error> {
    let Some(env) = parts.env.clone() else {
        return Ok(());
    };
    let ContextEnv { space, hub, .. } = &*env;
    let way_out = Arc::new(Egress::new(egress::Parts {
        policy: Arc::clone(&deps.policy),
        upstream: deps.upstream.as_ref(),
        options: shared.options.network.clone(),
        own_loopback: Arc::new(Loopback::new(space)),
        log: Arc::clone(&shared.network),
        places: deps.configs.places.clone(),
    }));
    // Started once.
    let _ = shared.way_out.set(Arc::downgrade(&way_out));
    serve_ways_out(parts, &way_out)?;
    let start_url = shared.options.start_url.as_deref();
    let start_url = start_url.filter(|url| *url != "about:blank");
    if let Some(restored) = restored {
        if start_url.is_none() {
            // Its renderer is still loading: who asked for the session need not wait for that.
            shared.ready();
        }
        profiles::restore(restored, deps, hub).await?;
    }
    shared.set_hub(Some(hub.clone()));
    // Started once.
    let _ = shared.files.set(space.scratch().clone());
    parts.open_node(deps);
    let start_error = match start_url {
        None => None,
        Some(url) => open_page(hub, &way_out, url, deps.configs.session.start_url_timeout).await,
    };
    shared.open(start_error);
    Ok(())
}

fn serve_ways_out(parts: &mut Parts, way_out: &Arc<Egress>) -> Result<(), Error> {
    let WaysOut {
        browser,
        code,
        relayed,
    } = std::mem::take(&mut parts.ways_out);
    let of = |source| move |listener| (listener, source);
    let browser = browser.into_iter().map(of(Source::Browser));
    for (listener, source) in browser.chain(code.map(of(Source::Code))) {
        let listener = to_tokio(listener)?;
        let (way_out, cancel) = (Arc::clone(way_out), parts.proxies.clone());
        let serving = egress::serve(listener, source, way_out, cancel);
        parts.servers.spawn(serving.in_current_span());
    }
    let relayed = relayed.into_iter().map(to_tokio);
    let relayed = relayed.collect::<Result<Vec<_>, _>>()?;
    if !relayed.is_empty() {
        let relaying = egress::relay(relayed, Arc::clone(way_out), parts.proxies.clone());
        parts.servers.spawn(relaying.in_current_span());
    }
    Ok(())
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
                Some(job) = jobs.recv() => hand_out(parts, deps, job),
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

fn hand_out(parts: &mut Parts, deps: &Deps, job: Job) {
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
                parts.cancel.clone(),
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
        match parts.context(language, deps) {
            Some(context) => context.enqueue(job).err(),
            None => return,
        }
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
