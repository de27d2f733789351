//! A session's profile: restored before it is ready, saved once its code has ended.
//!
//! ```text
//! unpack ── Chromium starts ── restore ── ready ── … ── capture ── Chromium closes ── save
//! ```

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use tokio::time::timeout;
use tracing::{error, info};

use super::driver::Deps;
use super::shared::Shared;
use super::{EndReason, Error};
use crate::browser::Browser;
use crate::cdp::Hub;
use crate::profile::{self, Packed, State, Summary, Use, Writer};
use crate::sandbox::Space;
use crate::telemetry::Chain;

/// A session's profile as seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileInUse {
    /// Which, and whether it is saved.
    pub using: Use,
    /// When it was saved; only once the session has ended.
    pub saved_at: Option<SystemTime>,
    /// Why it was not saved, although it was to be: what was saved before is still there.
    pub save_error: Option<String>,
}

/// What becomes of a session's profile.
#[derive(Debug, Default)]
pub(super) struct ProfileState {
    writer: Mutex<Option<Writer>>,
    loaded: Mutex<Loaded>,
    saved: Mutex<Option<Result<SystemTime, String>>>,
    /// Nothing of what was saved before is wanted.
    starts_empty: AtomicBool,
}

/// What a session began with.
#[derive(Clone, Debug, Default)]
struct Loaded {
    /// Stands for the profile as it was; none when there was none.
    version: Option<String>,
    /// Where something may be stored.
    origins: BTreeSet<String>,
}

/// What is put back once the browser runs.
#[derive(Debug)]
pub(super) struct Restored {
    state: State,
    summary: Summary,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ProfileState {
    pub(super) fn view(&self, using: Use) -> ProfileInUse {
        let saved = lock(&self.saved).clone();
        ProfileInUse {
            using,
            saved_at: saved.as_ref().and_then(|saved| saved.clone().ok()),
            save_error: saved.and_then(Result::err),
        }
    }

    /// Stands for the profile as the session began with it.
    pub(super) fn version(&self) -> Option<String> {
        lock(&self.loaded).version.clone()
    }

    /// Begins without what was saved before; to be said before the session runs.
    pub(super) fn start_empty(&self) {
        self.starts_empty.store(true, Ordering::Relaxed);
    }

    /// The session may save it from now on.
    pub(super) fn set_writer(&self, writer: Option<Writer>) {
        *lock(&self.writer) = writer;
    }

    pub(super) fn take_writer(&self) -> Option<Writer> {
        lock(&self.writer).take()
    }
}

impl EndReason {
    /// Whether what the browser has by then is worth keeping.
    pub(super) fn keeps_profile(self) -> bool {
        match self {
            Self::Stopped
            | Self::TtlExpired
            | Self::IdleExpired
            | Self::OneShotDone
            | Self::Drained => true,
            Self::BrowserCrashed | Self::StartFailed | Self::Abandoned => false,
        }
    }
}

impl From<profile::Error> for Error {
    fn from(error: profile::Error) -> Self {
        Self::Profile(Arc::new(error))
    }
}

/// Puts the profile's files in place, before the browser starts; what is to be put back once it
/// runs, when there is a profile.
pub(super) async fn unpack(
    shared: &Shared,
    deps: &Deps,
    space: &Space,
) -> Result<Option<Restored>, Error> {
    let Some(using) = &shared.options.profile else {
        return Ok(None);
    };
    if shared.profile.starts_empty.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let limit = deps.profiles.config().timeout;
    let unpack = async {
        let Some(mut saved) = deps.profiles.load(&shared.owner, &using.name).await? else {
            return Ok(None);
        };
        let state = saved.state().await?;
        let summary = saved.summary.clone();
        *lock(&shared.profile.loaded) = Loaded {
            version: Some(saved.version.clone()),
            origins: summary.origins.clone(),
        };
        saved.unpack(space, (&deps.configs.browser).into()).await?;
        Ok(Some(Restored { state, summary }))
    };
    let unpacked = timeout(limit, unpack).await;
    let unpacked = unpacked.unwrap_or_else(|_| Err(too_slow(using, "unpacked", limit)));
    unpacked.map_err(Error::from)
}

fn too_slow(using: &Use, what: &'static str, limit: std::time::Duration) -> profile::Error {
    profile::Error::Archive {
        name: using.name.clone(),
        what,
        why: format!("it took more than {limit:?} (profile.timeout)"),
    }
}

/// Puts the rest of the profile in place.
pub(super) async fn restore(restored: Restored, deps: &Deps, hub: &Hub) -> Result<(), Error> {
    let Restored { state, summary } = restored;
    let ours = hub.browser_version();
    if profile::is_newer(&summary.browser, &ours) {
        return Err(Error::from(profile::Error::TooNew {
            name: summary.name,
            saved: summary.browser,
            ours,
        }));
    }
    let limit = deps.profiles.config().timeout;
    let failed = |why: String| profile::Error::State {
        name: summary.name.clone(),
        what: "restored",
        why,
    };
    match timeout(limit, state.restore(hub)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed(error.to_string()).into()),
        Err(_) => Err(failed(format!("it took more than {limit:?}")).into()),
    }
}

/// Closes the browser and saves its state; what went wrong is told with the session, and what was
/// saved before stays.
pub(super) async fn save(
    writer: Writer,
    shared: &Shared,
    deps: &Deps,
    browser: &Browser,
    space: &Space,
) {
    let Some(using) = &shared.options.profile else {
        return;
    };
    let began = Instant::now();
    let limit = deps.profiles.config().timeout;
    let saving = timeout(limit, save_in(using, &writer, shared, deps, browser, space));
    let saved = saving
        .await
        .unwrap_or_else(|_| Err(too_slow(using, "packed", limit)));
    // Whatever is left of it.
    browser.end().await;
    *lock(&shared.profile.saved) = Some(match saved {
        Ok(at) => {
            info!(elapsed = ?began.elapsed(), "profile saved");
            Ok(at)
        }
        Err(error) => {
            error!(error = %Chain(&error), "profile not saved");
            Err(error.to_string())
        }
    });
}

async fn save_in(
    using: &Use,
    writer: &Writer,
    shared: &Shared,
    deps: &Deps,
    browser: &Browser,
    space: &Space,
) -> Result<SystemTime, profile::Error> {
    let hub = &browser.hub;
    let state = |why: String| profile::Error::State {
        name: using.name.clone(),
        what: "read",
        why,
    };
    let mut origins = hub.origins();
    origins.extend(lock(&shared.profile.loaded).origins.iter().cloned());
    let captured = State::capture(hub, &origins).await;
    let captured = captured.map_err(|error| state(error.to_string()))?;
    let summary = Summary {
        name: using.name.clone(),
        saved_at: SystemTime::now(),
        browser: hub.browser_version(),
        cookies: captured.cookies,
        origins,
    };
    let closed = browser.close().await;
    closed.map_err(|error| state(error.to_string()))?;
    let packed = Packed::begin(space, (&deps.configs.browser).into()).await;
    let packed = packed.map_err(|why| profile::Error::Archive {
        name: using.name.clone(),
        what: "packed",
        why,
    })?;
    let profiles = &deps.profiles;
    profiles
        .save(writer, &summary, &captured.state, packed)
        .await?;
    Ok(summary.saved_at)
}
