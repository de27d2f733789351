//! A session's profile: restored before anything uses the session, saved once its code has ended.
//!
//! ```text
//! unpack ── Chromium starts ── ready ── restore ── open ── … ── capture ── Chromium closes ── save
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
use crate::profile::{
    self, Name, Packed, Saved, SessionStorage, State, Summary, Unsaved, Use, Writer,
};
use crate::sandbox::Space;
use crate::telemetry::Chain;

/// Origins a profile remembers: each takes a visit when it is exported.
const MAX_ORIGINS: usize = 1024;

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
    session_storage: SessionStorage,
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

    /// Whether what the browser has when it ends so is worth keeping. Of a session that began empty,
    /// only when it has done what it was made for.
    pub(super) fn is_kept_after(&self, reason: EndReason) -> bool {
        match reason {
            EndReason::OneShotDone => true,
            EndReason::Stopped
            | EndReason::TtlExpired
            | EndReason::IdleExpired
            | EndReason::Drained => !self.starts_empty.load(Ordering::Relaxed),
            EndReason::BrowserCrashed | EndReason::StartFailed | EndReason::Abandoned => false,
        }
    }
}

impl From<profile::Error> for Error {
    fn from(error: profile::Error) -> Self {
        Self::Profile(Arc::new(error))
    }
}

/// What was saved of a session's profile, if the session begins with any of it.
pub(super) async fn load(shared: &Shared, deps: &Deps) -> Result<Option<Saved>, Error> {
    let Some(using) = &shared.options.profile else {
        return Ok(None);
    };
    if shared.profile.starts_empty.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let limit = deps.profiles.config().timeout;
    let loaded = timeout(limit, deps.profiles.load(&shared.owner, &using.name)).await;
    let loaded = loaded.unwrap_or_else(|_| Err(too_slow(&using.name, "opened", limit)));
    loaded.map_err(Error::from)
}

/// Puts the profile's files in place, before the browser starts; what is to be put back once it runs.
pub(super) async fn unpack(
    mut saved: Saved,
    shared: &Shared,
    deps: &Deps,
    space: &Space,
) -> Result<Restored, Error> {
    let limit = deps.profiles.config().timeout;
    let summary = saved.summary.clone();
    let name = summary.name.clone();
    let unpack = async {
        if let Some(ours) = deps.browser_version.get() {
            check_version(&summary, ours)?;
        }
        let state = saved.state().await?;
        *lock(&shared.profile.loaded) = Loaded {
            version: Some(saved.version.clone()),
            origins: summary.origins.clone(),
            session_storage: state.session_storage.clone(),
        };
        saved.unpack(space, (&deps.configs.browser).into()).await?;
        Ok(Restored { state, summary })
    };
    let unpacked = timeout(limit, unpack).await;
    let unpacked = unpacked.unwrap_or_else(|_| Err(too_slow(&name, "unpacked", limit)));
    unpacked.map_err(Error::from)
}

fn too_slow(name: &Name, what: &'static str, limit: std::time::Duration) -> profile::Error {
    profile::Error::Archive {
        name: name.clone(),
        what,
        why: format!("it took more than {limit:?} (profile.timeout)"),
    }
}

/// Refuses what a later browser saved: this one would damage it.
fn check_version(summary: &Summary, ours: &str) -> Result<(), profile::Error> {
    match profile::is_newer(&summary.browser, ours) {
        true => Err(profile::Error::TooNew {
            name: summary.name.clone(),
            saved: summary.browser.clone(),
            ours: ours.to_owned(),
        }),
        false => Ok(()),
    }
}

/// Puts the rest of the profile in place.
pub(super) async fn restore(restored: Restored, deps: &Deps, hub: &Hub) -> Result<(), Error> {
    let Restored { state, summary } = restored;
    check_version(&summary, &hub.browser_version())?;
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
    let _turn = deps.profiles.turn().await;
    let began = Instant::now();
    let limit = deps.profiles.config().timeout;
    let writing = timeout(limit, write(using, writer, shared, deps, browser, space));
    let written = writing
        .await
        .unwrap_or_else(|_| Err(too_slow(&using.name, "packed", limit)));
    // Whatever is left of it.
    browser.end().await;
    let saved = match written {
        Ok((unsaved, at)) => unsaved.commit().await.map(|()| at),
        Err(error) => Err(error),
    };
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

async fn write(
    using: &Use,
    writer: Writer,
    shared: &Shared,
    deps: &Deps,
    browser: &Browser,
    space: &Space,
) -> Result<(Unsaved, SystemTime), profile::Error> {
    let hub = &browser.hub;
    let state = |why: String| profile::Error::State {
        name: using.name.clone(),
        what: "read",
        why,
    };
    let before = lock(&shared.profile.loaded).clone();
    hub.retire().await;
    let captured = State::capture(hub, &before.session_storage).await;
    let captured = captured.map_err(|error| state(error.to_string()))?;
    let mut origins = hub.origins();
    let room = MAX_ORIGINS.saturating_sub(origins.len());
    origins.extend(before.origins.into_iter().take(room));
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
    let (profiles, state) = (&deps.profiles, &captured.state);
    let unsaved = profiles.save(writer, &summary, state, packed).await?;
    Ok((unsaved, summary.saved_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_began_empty_saves_only_what_it_was_made_for() {
        let ordinary = ProfileState::default();
        let mover = ProfileState::default();
        mover.start_empty();
        for (reason, of_ordinary, of_mover) in [
            (EndReason::OneShotDone, true, true),
            (EndReason::Stopped, true, false),
            (EndReason::TtlExpired, true, false),
            (EndReason::IdleExpired, true, false),
            (EndReason::Drained, true, false),
            (EndReason::BrowserCrashed, false, false),
            (EndReason::StartFailed, false, false),
            (EndReason::Abandoned, false, false),
        ] {
            let kept = (ordinary.is_kept_after(reason), mover.is_kept_after(reason));
            assert_eq!(kept, (of_ordinary, of_mover), "{reason:?}");
        }
    }
}
