//! Which page is shown, and how one is taken up and let go of.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{BINDING, Director, RETRY, Shown, What};
use crate::cdp::{self, Page};
use crate::live::scene::TabShown;

/// A page that opens so soon after what a person did was answered is theirs, and shown; so is any before.
const OWN_POPUP: Duration = Duration::from_secs(2);
/// How long a page that is left may take to let go of what people held down on it.
const LETTING_GO: Duration = Duration::from_secs(3);
/// The world of our script.
const WORLD: &str = "pagebox-live";

impl Director {
    /// The pages, or who looks, are others now.
    pub(super) async fn follow(&mut self) -> Result<(), cdp::Error> {
        let active = self.hub.active_page();
        let pages = self.hub.pages();
        if self.active != active.target_id {
            self.active.clone_from(&active.target_id);
            self.popups.clear();
        }
        let open = |target: &String| pages.iter().find(|page| page.target_id == *target);
        self.popups.retain(|popup| open(popup).is_some());
        let popup = self.popups.last().and_then(open);
        let page = popup.unwrap_or(&active);
        let target = &page.target_id;
        let shown = self.shown.as_ref();
        if shown.is_none_or(|shown| shown.target != *target) {
            self.leave_page().await?;
            if self.stage.scene.borrow().target != *target {
                // Before the scene says so: after that come pictures of this page only.
                self.stage.frames.send_replace(None);
            }
            if !target.is_empty() {
                self.attach(target.clone()).await?;
            }
        }
        let dialog = self.hub.dialog(target);
        let tabs = pages.iter().map(|page| TabShown::of(page, target));
        self.show(|scene| {
            scene.tabs = tabs.collect();
            scene.target.clone_from(target);
            scene.dialog = dialog;
            scene.url.clone_from(&page.url);
            scene.title.clone_from(&page.title);
        });
        Ok(())
    }

    async fn attach(&mut self, target: String) -> Result<(), cdp::Error> {
        self.retry = None;
        self.shown = Some(Shown::of(target.clone()));
        let params = json!({ "targetId": target, "flatten": true });
        self.ask(None, "Target.attachToTarget", params, What::Attach(target))
            .await
    }

    /// An answer to [`Director::attach`].
    pub(super) async fn attached(
        &mut self,
        target: &str,
        answer: Result<Bytes, cdp::Error>,
    ) -> Result<(), cdp::Error> {
        let answer = answer.map(|answer| serde_json::from_slice::<Value>(&answer));
        let session = match &answer {
            Ok(Ok(answer)) => answer["sessionId"].as_str(),
            _ => None,
        };
        let shown = self.shown.as_mut();
        let wanting = shown.filter(|shown| shown.target == target && shown.session.is_none());
        match (wanting, session) {
            (Some(shown), Some(session)) => shown.session = Some(session.to_owned()),
            // Another page is shown by now.
            (None, Some(session)) => {
                let params = json!({ "sessionId": session });
                return self
                    .ask(None, "Target.detachFromTarget", params, What::Nothing)
                    .await;
            }
            // It has closed, or is about to.
            (Some(_), None) => {
                self.shown = None;
                self.retry = Some(Instant::now() + RETRY);
                return Ok(());
            }
            (None, None) => return Ok(()),
        }
        for (method, params) in [("Page.enable", json!({})), ("Inspector.enable", json!({}))] {
            self.tell_page(method, params, What::Nothing).await?;
        }
        if let Some(size) = self.viewport {
            self.resize(size).await?;
        }
        self.cast().await?;
        self.watch_page().await?;
        self.look_at_history().await
    }

    /// Has the page tell what only people who act need to know: its lists, choosers and cursor. Only
    /// while a person is in control: to code alone the page is what it is without a live view.
    pub(super) async fn watch_page(&mut self) -> Result<(), cdp::Error> {
        let wanted = self.wanted.acts;
        let Some(shown) = self.shown.as_mut().filter(|shown| shown.session.is_some()) else {
            return Ok(());
        };
        if wanted == shown.watched {
            return Ok(());
        }
        if !wanted {
            // Only as itself does the page open lists and choosers for code again.
            let target = shown.target.clone();
            self.leave_page().await?;
            return self.attach(target).await;
        }
        shown.watched = true;
        for (method, params) in [
            // Without it V8 gives the binding to no world that is made later.
            ("Runtime.enable", json!({})),
            (
                "Runtime.addBinding",
                json!({ "name": BINDING, "executionContextName": WORLD }),
            ),
            (
                "Page.addScriptToEvaluateOnNewDocument",
                json!({
                    "source": include_str!("../page.js"), "worldName": WORLD, "runImmediately": true,
                }),
            ),
            (
                "Page.setInterceptFileChooserDialog",
                json!({ "enabled": true }),
            ),
        ] {
            self.tell_page(method, params, What::Nothing).await?;
        }
        Ok(())
    }

    /// Lets go of the page that is shown, as it was before.
    pub(super) async fn leave_page(&mut self) -> Result<(), cdp::Error> {
        let Some(shown) = self.shown.take() else {
            return Ok(());
        };
        self.show(|scene| {
            scene.select = None;
            scene.chooser = None;
            scene.loading = false;
            scene.crashed = false;
        });
        let Some(session) = shown.session else {
            self.drag = None;
            return Ok(());
        };
        let mut ups = Vec::new();
        for (method, params) in self.ups(|_| true) {
            let sent = self.client.send(Some(&session), method, &params).await?;
            ups.push(sent.answer());
        }
        // What is on its way to a page is lost when it is detached from.
        let _ = timeout(LETTING_GO, join_all(ups)).await;
        for world in shown.worlds {
            let params = json!({ "contextId": world, "expression": "globalThis.pagebox?.off()" });
            let session = Some(session.clone());
            self.ask(session, "Runtime.evaluate", params, What::Nothing)
                .await?;
        }
        self.drag = None;
        // With it go the screencast, the interception and the viewport.
        let params = json!({ "sessionId": session });
        self.ask(None, "Target.detachFromTarget", params, What::Nothing)
            .await
    }

    /// A page was opened: by a person, who goes on with it; or by the page that is shown, to be seen
    /// while it is there. To code the active page is the same.
    pub(super) async fn opened(&mut self, page: &Page) -> Result<(), cdp::Error> {
        let is_just_done = self.acted.is_some_and(|acted| acted.elapsed() < OWN_POPUP);
        if self.acting > 0 || is_just_done {
            self.hub.set_active_page(&page.target_id);
            return Ok(());
        }
        let opener = self.hub.opener(&page.target_id);
        let shown = self.shown.as_ref().map(|shown| &shown.target);
        if opener.is_none() || opener.as_ref() != shown || self.popups.contains(&page.target_id) {
            return Ok(());
        }
        self.popups.push(page.target_id.clone());
        self.follow().await
    }
}
