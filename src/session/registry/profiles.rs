//! Profiles of an owner: who writes them, and moving them in and out as Playwright's storage state.
//!
//! Both moves are done by Playwright itself, in a session of their own: only a browser can read and
//! write what its pages store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

use super::Registry;
use crate::execution::{BadRequest, ExecutionOptions, Language, Outcome};
use crate::id::SessionId;
use crate::limits::Bytes;
use crate::profile::{self, Name, ProfileView, Profiles, Use, Writer};
use crate::session::shared::Shared;
use crate::session::{EndReason, Error, Live, SessionOptions};
use crate::tenant::{Caller, Owner};

/// Where Playwright finds or leaves a storage state, in the session's scratch.
const FILE: &str = "/tmp/storage-state.json";
/// Largest storage state.
const MAX_STATE: Bytes = Bytes::mib(64);
/// How long reading or writing one may take.
const MOVE_LIMIT: Duration = Duration::from_secs(120);

/// Playwright asks the origins that a page has shown: an empty page of each, in the place of what the site,
/// or its service worker, would answer.
const EXPORT: &str = "\
const cdp = await page.context().newCDPSession(page);
await cdp.send('Network.enable');
await cdp.send('Network.setBypassServiceWorker', { bypass: true });
await page.route('**/*', (route) => route.fulfill({ contentType: 'text/html', body: '' }));
for (const origin of ORIGINS) await page.goto(origin);
await page.context().storageState({ path: '/tmp/storage-state.json', indexedDB: true });";

/// What Playwright's storage state must be; its parts are Playwright's to read.
#[derive(Deserialize)]
#[allow(dead_code, reason = "checked for its type only")]
struct StorageState {
    #[serde(default)]
    cookies: Vec<Cookie>,
    #[serde(default)]
    origins: Vec<Origin>,
}

/// What it is known by; the rest is Playwright's to check.
#[derive(Deserialize)]
#[allow(dead_code, reason = "checked for their types only")]
struct Cookie {
    name: String,
    value: String,
    domain: String,
    path: String,
}

#[derive(Deserialize)]
struct Origin {
    origin: String,
}

/// The error of a session that began with what is no longer saved.
pub(super) fn outdated(options: &SessionOptions) -> Error {
    match &options.profile {
        Some(using) => profile::Error::Outdated {
            name: using.name.clone(),
        }
        .into(),
        None => Error::Draining,
    }
}

impl Registry {
    /// The owner's profiles, by name.
    ///
    /// # Errors
    /// When the store of the profiles fails.
    pub async fn profiles(&self, owner: &Owner) -> Result<Vec<ProfileView>, Error> {
        Ok(self.saved().list(owner).await?)
    }

    /// One profile.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub async fn profile(&self, owner: &Owner, name: &Name) -> Result<ProfileView, Error> {
        Ok(self.saved().get(owner, name).await?)
    }

    /// Removes a profile; whether there was one.
    ///
    /// # Errors
    /// When a session writes it, or the store of the profiles fails.
    pub async fn delete_profile(&self, owner: &Owner, name: &Name) -> Result<bool, Error> {
        Ok(self.saved().delete(owner, name).await?)
    }

    /// A profile as Playwright's storage state: cookies, and what each origin keeps in localStorage,
    /// IndexedDB and its private files.
    ///
    /// # Errors
    /// When there is none, or no session opens, or its browser fails.
    pub async fn export_profile(&self, caller: &Caller, name: &Name) -> Result<String, Error> {
        let saved = self.saved().load(&caller.owner, name).await?;
        let saved = saved.ok_or_else(|| profile::Error::Unknown(name.clone()))?;
        let origins = saved.summary.origins.clone();
        drop(saved);
        let using = Use {
            name: name.clone(),
            save_changes: false,
        };
        let lent = self.lend(caller, mover(using)).await?;
        let code = EXPORT.replace("ORIGINS", &serde_json::json!(origins).to_string());
        let live = lent.live();
        self.move_in(&live, name, "read", code).await?;
        let failed = |why: String| failed(name, "read", why);
        let files = live
            .files()
            .ok_or_else(|| failed("it has no files".to_owned()))?;
        let file = files.open(Path::new(FILE)).await;
        let file = file.map_err(|error| failed(error.to_string()))?;
        let mut text = String::new();
        let mut file = tokio::fs::File::from_std(file).take(MAX_STATE.0 + 1);
        let read = file.read_to_string(&mut text).await;
        read.map_err(|error| failed(error.to_string()))?;
        if text.len() as u64 > MAX_STATE.0 {
            return Err(failed(format!("it is larger than {MAX_STATE}")));
        }
        Ok(text)
    }

    /// Replaces a profile, or makes it, by a storage state of Playwright's.
    ///
    /// # Errors
    /// When it is none, another session writes the profile, no session opens, or its browser fails:
    /// what was saved before is still there then.
    pub async fn import_profile(
        &self,
        caller: &Caller,
        name: &Name,
        state: &str,
    ) -> Result<ProfileView, Error> {
        check(state)?;
        // What is there and cannot be read is not lost for it.
        drop(self.saved().load(&caller.owner, name).await?);
        let using = Use {
            name: name.clone(),
            save_changes: true,
        };
        let shared = self.open_mover(caller, mover(using)).await?;
        let ending = EndOnDrop(Arc::clone(&shared));
        shared.wait_open().await?;
        let live = Live::of(&shared);
        let failed = |why: String| failed(name, "restored", why);
        let files = live
            .files()
            .ok_or_else(|| failed("it has no files".to_owned()))?;
        let file = files.create(Path::new(FILE)).await;
        let file = file.map_err(|error| failed(error.to_string()))?;
        let mut file = tokio::fs::File::from_std(file);
        let written = async {
            use tokio::io::AsyncWriteExt as _;
            file.write_all(state.as_bytes()).await?;
            file.flush().await
        };
        written.await.map_err(|error| failed(error.to_string()))?;
        let code = format!("await page.context().setStorageState('{FILE}');");
        self.move_in(&live, name, "restored", code).await?;
        shared.request_end(EndReason::OneShotDone);
        shared.wait_ended().await;
        drop(ending);
        let done = shared.view();
        match done.profile {
            Some(profile) if profile.saved_at.is_some() => self.profile(&caller.owner, name).await,
            Some(profile) => Err(failed(profile.save_error.unwrap_or(done.end_detail))),
            None => Err(failed(done.end_detail)),
        }
    }

    fn saved(&self) -> &Profiles {
        &self.inner.deps.profiles
    }

    /// The right to save the profile of such a session, if it is to.
    pub(super) fn writer(
        &self,
        owner: &Owner,
        options: &SessionOptions,
        id: SessionId,
    ) -> Result<Option<Writer>, Error> {
        let using = options.profile.as_ref().filter(|using| using.save_changes);
        let writer = using.map(|using| self.saved().write(owner, &using.name, id));
        Ok(writer.transpose()?)
    }

    /// Refuses a session that is to save a profile which another one writes.
    pub(crate) fn check_profile(&self, owner: &Owner, using: Option<&Use>) -> Result<(), Error> {
        let Some(using) = using.filter(|using| using.save_changes) else {
            return Ok(());
        };
        drop(
            self.saved()
                .write(owner, &using.name, SessionId::generate())?,
        );
        Ok(())
    }

    /// Whether its profile was saved, or deleted, since a session began with it.
    pub(super) async fn is_outdated(&self, shared: &Shared) -> Result<bool, Error> {
        let Some(using) = &shared.options.profile else {
            return Ok(false);
        };
        let now = self.saved().version(&shared.owner, &using.name).await?;
        Ok(now != shared.profile.version())
    }

    /// Runs Playwright in the session of a move.
    async fn move_in(
        &self,
        live: &Live,
        name: &Name,
        what: &'static str,
        code: String,
    ) -> Result<(), Error> {
        let mut options = ExecutionOptions::new(Language::Node, code);
        options.timeout = MOVE_LIMIT;
        let execution = self.start_execution(live.shared(), options).await?;
        let collected = execution.collect().await;
        let collected = collected.ok_or_else(|| live.shared().ended_error())?;
        match collected.report.outcome {
            Outcome::Completed => Ok(()),
            outcome => {
                let said = collected.report.error.map(|error| error.message);
                let why = said.unwrap_or_else(|| format!("{outcome:?}"));
                Err(failed(name, what, why))
            }
        }
    }
}

/// A session of its own for a move.
fn mover(using: Use) -> SessionOptions {
    let life = 2 * MOVE_LIMIT;
    SessionOptions {
        ttl: life,
        idle_ttl: life,
        profile: Some(using),
        ..SessionOptions::default()
    }
}

fn failed(name: &Name, what: &'static str, why: String) -> Error {
    profile::Error::State {
        name: name.clone(),
        what,
        why,
    }
    .into()
}

fn check(state: &str) -> Result<(), BadRequest> {
    let bad = |message: String| BadRequest::new("storage_state", message);
    if state.len() as u64 > MAX_STATE.0 {
        return Err(bad(format!("is larger than {MAX_STATE}")));
    }
    let none = |why: &str| bad(format!("is not a storage state of Playwright's: {why}"));
    // serde takes a list for an object too.
    if !state.trim_start().starts_with('{') {
        return Err(none("it is no JSON object"));
    }
    let parsed: StorageState =
        serde_json::from_str(state).map_err(|error| none(&error.to_string()))?;
    for Origin { origin } in &parsed.origins {
        let url = url::Url::parse(origin).ok();
        if !url.is_some_and(|url| matches!(url.scheme(), "http" | "https")) {
            return Err(bad(format!("{origin:?} is not the origin of a web page")));
        }
    }
    Ok(())
}

/// Ends the session of a move that was given up.
struct EndOnDrop(Arc<Shared>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.request_end(EndReason::Abandoned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_storage_state_is_refused_and_says_why() {
        for good in [
            r#"{"cookies":[],"origins":[]}"#,
            r#"{"cookies":[{"name":"a","value":"b","domain":"a.test","path":"/"}],
                "origins":[{"origin":"https://a.test","localStorage":[]}],"more":1}"#,
        ] {
            check(good).unwrap();
        }
        for (bad, why) in [
            ("", "no JSON object"),
            ("[]", "no JSON object"),
            ("{", "EOF"),
            (r#"{"cookies":[{"name":"a"}]}"#, "missing field `value`"),
            (r#"{"origins":[{"origin":"file:///etc"}]}"#, "file:///etc"),
            (r#"{"origins":["https://a.test"]}"#, "not a storage state"),
        ] {
            let message = check(bad).unwrap_err().message;
            assert!(message.contains(why), "{bad}: {message}");
        }
    }
}
