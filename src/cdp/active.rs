//! Keeping the active page usable: opening blank ones, replacing stuck ones, loading a URL.
//!
//! ```text
//! none open ─────────────────────────────► open a blank one
//! a dialog is open ──────────────────────► healthy: it waits for its client
//! a person is in control ────────────────► healthy: it is theirs
//! answers ───────────────────────────────► healthy
//! silent ─► release pauses, end script ──► answers: healthy
//!                                        └► silent: open a blank one, close this one
//! crashed ───────────────────────────────► the same
//! ```

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::driver::{Answer, Command};
use super::hub::{CALL_LIMIT, Hub, flatten};
use super::pages::Entry;
use super::{ClientKind, Error, Page, policy};

/// How long a page may take to answer once its script was ended. Generous: on a busy host a page
/// that is only slow must not be taken for a stuck one and replaced.
const RECOVERY: Duration = Duration::from_secs(3);
/// How long a page that crashed before may take to show that it was loaded again.
const RELOADED: Duration = Duration::from_millis(500);
/// How long closing a stuck page is waited for; Chromium takes 0.5 s.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// Attempts at opening a page when the last one has closed.
const OPEN_ATTEMPTS: u32 = 3;
/// Between two of them.
const OPEN_PAUSE: Duration = Duration::from_millis(100);

/// A page that was asked before code ran, and has not been waited for.
#[derive(Debug)]
pub struct Asked {
    entry: Entry,
    answer: oneshot::Receiver<Answer>,
}

/// What a probe found.
enum Health {
    Answers,
    Silent,
    Crashed,
}

impl Hub {
    /// Makes sure the active page answers: none open → opens a blank one; no answer within
    /// `probe_timeout` → ends its script, then, if that does not help, opens a blank one and
    /// closes it. A crashed page is replaced likewise. A page blocked by an open dialog is
    /// healthy: closing the dialog is its client's part. So is any while a person is in control.
    /// Returns the active page and whether it was replaced.
    pub async fn ensure_active_page(&self) -> Result<(Page, bool), Error> {
        let _repair = self.0.repair.lock().await;
        loop {
            let active = self.0.board().pages.active().cloned();
            let Some(entry) = active else {
                return Ok((self.open_blank().await?, true));
            };
            if self.is_let_be(&entry) {
                return Ok((entry.page, false));
            }
            let entry = match entry.session {
                Some(_) => entry,
                None => self.active_attached().await?,
            };
            let target = &entry.page.target_id;
            match self.probe(&entry).await? {
                Health::Answers => {
                    if entry.crashed
                        && let Some(entry) = self.0.board().pages.get_mut(target)
                    {
                        entry.crashed = false;
                    }
                    // It may have moved on while it was probed.
                    return Ok((self.active_page(), false));
                }
                // Code that runs has closed it: another is active by now.
                _ if self.0.board().pages.get(target).is_none() => {}
                Health::Silent => return self.replace(&entry, "does not answer").await,
                Health::Crashed => return self.replace(&entry, "has crashed").await,
            }
        }
    }

    /// The active page, if there is no need to wait for its answer: it has answered since code last
    /// ran, some seconds ago at most. It is asked all the same:
    /// [`Hub::mend_if_silent`] waits for the answer.
    pub async fn trusted_page(&self) -> Option<(Page, Asked)> {
        let entry = {
            let board = self.0.board();
            let is_trusted = board.is_trusted() && !board.is_held();
            board.pages.active().filter(|_| is_trusted)?.clone()
        };
        entry.session.as_ref()?;
        let answer = self.start_probe(&entry).await.ok()?;
        Some((entry.page.clone(), Asked { entry, answer }))
    }

    /// Waits for a page that was asked before code ran: whatever the code does to the page comes after
    /// that. Mends a silent one as [`Hub::ensure_active_page`] does. Whether it was replaced.
    pub async fn mend_if_silent(&self, asked: Asked) -> Result<bool, Error> {
        let Asked { entry, answer } = asked;
        let _repair = self.0.repair.lock().await;
        let why = match self.outcome(&entry, answer).await? {
            Health::Answers => return Ok(false),
            Health::Silent => "does not answer",
            Health::Crashed => "has crashed",
        };
        // Code may have closed it, or gone on to another.
        if self.active_page().target_id != entry.page.target_id {
            return Ok(false);
        }
        let (_, replaced) = self.replace(&entry, why).await?;
        Ok(replaced)
    }

    /// How often pages have gone to another URL, or loaded anew, so far.
    #[must_use]
    pub fn navigations(&self) -> u64 {
        self.0.board().navigations
    }

    /// How many pages have been opened so far, closed ones too.
    #[must_use]
    pub fn pages_opened(&self) -> u64 {
        self.0.board().pages.opened()
    }

    /// Asks the active page, after code has run, so that the next need not wait for its answer. Waits
    /// for nothing and mends nothing.
    pub async fn ask_active_page(&self) {
        let (entry, turns) = {
            let board = self.0.board();
            match board.pages.active() {
                Some(entry) if !(entry.crashed || entry.dialog) => (entry.clone(), board.turns()),
                _ => return,
            }
        };
        if entry.session.is_none() {
            return;
        }
        let Ok(answer) = self.start_probe(&entry).await else {
            return;
        };
        let hub = self.clone();
        let limit = self.0.config.probe_timeout;
        self.0.tasks.spawn(async move {
            if let Ok(Ok(Ok(_))) = timeout(limit, answer).await {
                hub.0.board().answered(&entry.page.target_id, turns);
            }
        });
    }

    /// The active page with its URL and title as they are now; asks the browser, never the page.
    /// What it says is remembered: Chromium does not tell of every change of a title.
    pub async fn look_at_active_page(&self) -> Result<Page, Error> {
        const METHOD: &str = "Target.getTargetInfo";
        let page = self.active_page();
        let params = json!({ "targetId": page.target_id });
        let answer = self.call(None, METHOD, Some(params)).await?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|source| Error::Response {
            method: METHOD.into(),
            source,
        })?;
        let text = |key: &str| {
            answer["targetInfo"][key]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let page = Page::new(page.target_id, text("url"), text("title"));
        let mut board = self.0.board();
        // Closed meanwhile: must not come back.
        if board.pages.get(&page.target_id).is_some() {
            let events = board.pages.seen(page.clone(), None);
            drop(board);
            if !events.is_empty() {
                self.0.tell(events);
            }
        }
        Ok(page)
    }

    async fn start_probe(&self, entry: &Entry) -> Result<oneshot::Receiver<Answer>, Error> {
        let probe = json!({ "expression": "1" });
        self.start_call(entry.session.as_deref(), "Runtime.evaluate", Some(probe))
            .await
    }

    async fn probe(&self, entry: &Entry) -> Result<Health, Error> {
        let answer = self.start_probe(entry).await?;
        self.outcome(entry, answer).await
    }

    /// What comes of a probe; ends the script of a silent page.
    async fn outcome(
        &self,
        entry: &Entry,
        answer: oneshot::Receiver<Answer>,
    ) -> Result<Health, Error> {
        let limit = self.0.config.probe_timeout;
        tokio::pin!(answer);
        // A crashed page's session keeps requests for the page that comes back.
        let first = if entry.crashed {
            limit.min(RELOADED)
        } else {
            limit
        };
        let outcome = match timeout(first, &mut answer).await {
            Ok(outcome) => outcome,
            Err(_) if entry.crashed => return Ok(Health::Crashed),
            Err(_) => {
                if self.is_let_be(entry) {
                    return Ok(Health::Answers);
                }
                tracing::debug!("the active page does not answer: ending its script");
                self.send(Command::Release {
                    target: entry.page.target_id.clone(),
                })
                .await?;
                // Its answer may never come; the probe's tells.
                drop(
                    self.start_call(entry.session.as_deref(), "Runtime.terminateExecution", None)
                        .await?,
                );
                match timeout(RECOVERY, &mut answer).await {
                    Ok(outcome) => outcome,
                    Err(_) if self.is_let_be(entry) => return Ok(Health::Answers),
                    Err(_) => return Ok(Health::Silent),
                }
            }
        };
        match flatten("Runtime.evaluate", outcome) {
            Ok(_) => Ok(Health::Answers),
            Err(Error::Refused { message, .. }) if message.contains("crashed") => {
                Ok(Health::Crashed)
            }
            // Such as "navigated or closed": the page is alive.
            Err(Error::Refused { .. }) => Ok(Health::Answers),
            // The page's session has ended under the probe.
            Err(Error::Closed) if !self.0.closed.is_cancelled() => Ok(Health::Silent),
            Err(error) => Err(error),
        }
    }

    /// Whether a page's silence is not to be mended: a dialog has opened on it, or it is what a person
    /// who is in control looks at.
    fn is_let_be(&self, entry: &Entry) -> bool {
        let board = self.0.board();
        let target = &entry.page.target_id;
        let is_active =
            || board.pages.active().map(|active| &active.page.target_id) == Some(target);
        let has_dialog = board.pages.get(target).is_some_and(|entry| entry.dialog);
        has_dialog || (board.is_held() && is_active())
    }

    async fn replace(&self, stuck: &Entry, why: &'static str) -> Result<(Page, bool), Error> {
        tracing::info!("the active page {why}: replaced by a blank one");
        let blank = self.open_blank().await?;
        self.close(stuck).await?;
        Ok((blank, true))
    }

    /// Closes a page that a capture keeps busy; one that answers stays.
    pub(crate) async fn close_if_stuck(&self, target: &str) {
        let _repair = self.0.repair.lock().await;
        let Some(entry) = self.0.board().pages.get(target).cloned() else {
            return;
        };
        let outcome = match self.probe(&entry).await {
            Ok(Health::Answers | Health::Crashed) => Ok(()),
            Ok(Health::Silent) if self.active_page().target_id == target => {
                let replaced = self.replace(&entry, "is kept busy by a capture").await;
                replaced.map(drop)
            }
            Ok(Health::Silent) => {
                tracing::info!("a page is kept busy by a capture: closed");
                self.close(&entry).await
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) | Err(Error::Closed) => {}
            Err(error) => tracing::warn!(%error, "a page kept busy by a capture was not closed"),
        }
    }

    async fn close(&self, stuck: &Entry) -> Result<(), Error> {
        // Closing alone would leave the renderer at it while it has another page.
        if let Some(session) = stuck.session.as_deref() {
            drop(self.start_call(Some(session), "Page.crash", None).await?);
        }
        let params = json!({ "targetId": stuck.page.target_id });
        let target = &stuck.page.target_id;
        // Answered at once, closed later: until then it would hold up clients that connect.
        let closing = async {
            match self.call(None, "Target.closeTarget", Some(params)).await {
                // It may have closed by itself.
                Ok(_) | Err(Error::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
            self.wait_for(|| self.0.board().pages.get(target).is_none().then_some(()))
                .await
        };
        match timeout(CLOSE_LIMIT, closing).await {
            Ok(outcome) => outcome?,
            Err(_) => tracing::warn!("a stuck page has not closed in time"),
        }
        Ok(())
    }

    /// Opens a blank page in the default context and makes it the active one.
    pub(crate) async fn open_blank(&self) -> Result<Page, Error> {
        let params = json!({ "url": "about:blank" });
        let answer = self.call(None, "Target.createTarget", Some(params)).await?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|source| Error::Response {
            method: "Target.createTarget".into(),
            source,
        })?;
        let target_id = answer["targetId"].as_str().unwrap_or_default().to_owned();
        self.set_active_page(&target_id);
        self.page_when(|page| page.page.target_id == target_id)
            .await?;
        self.set_active_page(&target_id);
        Ok(self.active_page())
    }

    /// After the last page has closed: a blank one, unless somebody opened one meanwhile.
    pub(crate) async fn replace_last_page(&self) {
        for _ in 0..OPEN_ATTEMPTS {
            let _repair = self.0.repair.lock().await;
            let is_ending = self.0.closed.is_cancelled() || self.0.closing.load(Ordering::Relaxed);
            if is_ending || self.0.board().pages.active().is_some() {
                return;
            }
            match self.open_blank().await {
                Ok(_) | Err(Error::Closed) => return,
                // The next execution tries again.
                Err(error) => tracing::warn!(%error, "no page could be opened after the last one"),
            }
            tokio::time::sleep(OPEN_PAUSE).await;
        }
    }

    /// The active page once the hub is attached to it.
    pub(crate) async fn active_attached(&self) -> Result<Entry, Error> {
        let active = |hub: &Self| hub.0.board().pages.active().cloned();
        self.wait_for(|| active(self).filter(|entry| entry.session.is_some()))
            .await
    }

    async fn page_when(&self, is: impl Fn(&Entry) -> bool) -> Result<Entry, Error> {
        self.wait_for(|| {
            let board = self.0.board();
            board
                .pages
                .entries()
                .iter()
                .find(|entry| is(entry) && entry.session.is_some())
                .cloned()
        })
        .await
    }

    async fn wait_for<T>(&self, look: impl Fn() -> Option<T>) -> Result<T, Error> {
        let deadline = Instant::now() + CALL_LIMIT;
        let mut changes = self.0.changes.subscribe();
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            tokio::select! {
                () = self.0.closed.cancelled() => return Err(Error::Closed),
                changed = timeout_at(deadline, changes.changed()) => if changed.is_err() {
                    return Err(Error::Timeout { what: "opening a page", limit: CALL_LIMIT });
                },
            }
        }
    }

    /// Loads a URL in the active page and waits for `load`, at most `timeout`. A dialog that
    /// opens meanwhile ends the wait: the page goes no further until it is closed.
    pub async fn navigate(&self, url: &str, timeout: Duration) -> Result<(), Error> {
        let limit = timeout;
        match tokio::time::timeout(limit, self.load(url)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Timeout {
                what: "loading the page",
                limit,
            }),
        }
    }

    async fn load(&self, url: &str) -> Result<(), Error> {
        const NAVIGATE: &str = "Page.navigate";
        policy::url(url, &|path| self.allows(path)).map_err(|refusal| Error::Refused {
            method: NAVIGATE.into(),
            code: refusal.code,
            message: refusal.message,
        })?;
        let target = self.active_page().target_id;
        let mut client = self.client(ClientKind::Internal).await?;
        let session = client.attach(&target).await?;
        let session = Some(session.as_str());
        client.call_raw(session, "Page.enable", &json!({})).await?;
        let enabled = json!({ "enabled": true });
        client
            .call_raw(session, "Page.setLifecycleEventsEnabled", &enabled)
            .await?;
        let answer = client
            .call_raw(session, NAVIGATE, &json!({ "url": url }))
            .await?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|source| Error::Response {
            method: NAVIGATE.into(),
            source,
        })?;
        if let Some(text) = answer["errorText"].as_str().filter(|text| !text.is_empty()) {
            return Err(Error::Navigation {
                error_text: text.to_owned(),
            });
        }
        // No loader: within the document.
        let Some(mut loader) = answer["loaderId"].as_str().map(str::to_owned) else {
            return Ok(());
        };
        while let Some((method, _, params)) = client.event().await {
            let params = || serde_json::from_str::<Value>(params.get()).unwrap_or_default();
            match method.as_str() {
                "Page.lifecycleEvent" => {
                    let event = params();
                    if event["name"] == "load" && event["loaderId"] == loader.as_str() {
                        return Ok(());
                    }
                }
                // The page has sent itself elsewhere: that one's load counts.
                "Page.frameNavigated" => {
                    let frame = &params()["frame"];
                    if let (Some(to), Value::Null) =
                        (frame["loaderId"].as_str(), &frame["parentId"])
                    {
                        to.clone_into(&mut loader);
                    }
                }
                "Page.javascriptDialogOpening" => return Ok(()),
                "Inspector.targetCrashed" | "Target.targetCrashed" => {
                    return Err(Error::Navigation {
                        error_text: "the page crashed".into(),
                    });
                }
                _ => {}
            }
        }
        Err(Error::Closed)
    }
}
