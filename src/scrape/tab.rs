//! The page a scrape works on: commands to it with one deadline, and what is seen of it.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::Error;
use crate::cdp::{self, Client, ClientKind, Hub};

/// Documents whose progress is remembered; a page that sends itself on and on has the newest.
const REMEMBERED: usize = 8;

/// What a document has come to.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    loader: String,
    /// Its HTML is read.
    pub(super) parsed: bool,
    /// So is what it names.
    pub(super) loaded: bool,
    /// And nothing more came for a while.
    pub(super) settled: bool,
}

/// The answer a document came with.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    loader: String,
    pub(super) status: u16,
    /// Without parameters.
    pub(super) mime_type: String,
    /// As the server said it.
    pub(super) content_type: String,
}

/// What is seen of the page.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The document that is shown.
    loader: String,
    progress: VecDeque<Progress>,
    answers: VecDeque<Answer>,
    /// The main frame is loading something.
    pub(super) loading: bool,
    pub(super) crashed: bool,
}

impl Seen {
    pub(super) fn progress(&self) -> Progress {
        let found = self.progress.iter().find(|p| p.loader == self.loader);
        found.cloned().unwrap_or_default()
    }

    pub(super) fn answer(&self) -> Option<Answer> {
        self.answers
            .iter()
            .find(|a| a.loader == self.loader)
            .cloned()
    }

    fn read(&mut self, frame: &str, method: &str, params: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match method {
            "Page.frameNavigated" if params["frame"]["parentId"].is_null() => {
                self.loader = text(&params["frame"]["loaderId"]);
            }
            "Page.frameStartedLoading" | "Page.frameStoppedLoading"
                if params["frameId"] == frame =>
            {
                self.loading = method == "Page.frameStartedLoading";
            }
            "Page.lifecycleEvent" if params["frameId"] == frame => {
                let loader = text(&params["loaderId"]);
                let progress = entry(&mut self.progress, |p| p.loader == loader);
                progress.loader = loader;
                match params["name"].as_str() {
                    Some("DOMContentLoaded") => progress.parsed = true,
                    Some("load") => progress.loaded = true,
                    Some("networkAlmostIdle") => progress.settled = true,
                    _ => {}
                }
            }
            "Network.responseReceived"
                if params["type"] == "Document" && params["frameId"] == frame =>
            {
                let loader = text(&params["loaderId"]);
                let response = &params["response"];
                let answer = entry(&mut self.answers, |a| a.loader == loader);
                let headers = response["headers"].as_object().into_iter().flatten();
                let mut types =
                    headers.filter(|(name, _)| name.eq_ignore_ascii_case("content-type"));
                let status = response["status"].as_u64().unwrap_or_default();
                *answer = Answer {
                    loader,
                    status: u16::try_from(status).unwrap_or_default(),
                    mime_type: text(&response["mimeType"]),
                    content_type: types
                        .next()
                        .map(|(_, value)| text(value))
                        .unwrap_or_default(),
                };
            }
            "Inspector.targetCrashed" => self.crashed = true,
            _ => {}
        }
    }
}

/// The one that fits, or a new one in the place of the oldest.
fn entry<T: Default>(list: &mut VecDeque<T>, fits: impl Fn(&T) -> bool) -> &mut T {
    let at = list.iter().position(fits).unwrap_or_else(|| {
        if list.len() == REMEMBERED {
            list.pop_front();
        }
        list.push_back(T::default());
        list.len() - 1
    });
    &mut list[at]
}

/// The page. What it sets on the browser is undone when it is dropped.
#[derive(Debug)]
pub(super) struct Tab {
    hub: Hub,
    client: Client,
    session: String,
    pub(super) frame: String,
    seen: watch::Receiver<Seen>,
    /// Ends the watching of dialogs.
    leave: Option<oneshot::Sender<()>>,
    watcher: AbortHandle,
    pub(super) deadline: Instant,
    limit: Duration,
}

impl Tab {
    /// Attaches to the active page; every command from now on is over within `limit` of now. The
    /// headers are sent with each of its requests.
    pub(super) async fn attach(hub: &Hub, limit: Duration, headers: &Value) -> Result<Self, Error> {
        let deadline = Instant::now() + limit;
        let attach = async {
            let target = hub.active_page().target_id;
            let client = hub.client(ClientKind::Internal).await?;
            let session = client.attach(&target).await?;
            let watcher = hub.client(ClientKind::Internal).await?;
            let watched = watcher.attach(&target).await?;
            for (method, params) in [
                ("Page.enable", json!({})),
                ("Page.setLifecycleEventsEnabled", json!({ "enabled": true })),
                ("Inspector.enable", json!({})),
                ("Network.enable", json!({})),
                ("Network.setExtraHTTPHeaders", json!({ "headers": headers })),
            ] {
                watcher.call_raw(Some(&watched), method, &params).await?;
            }
            Ok::<_, cdp::Error>((target, client, session, watcher, watched))
        };
        let attached = timeout_at(deadline, attach).await;
        let (frame, client, session, watcher, watched) =
            attached.map_err(|_| Error::Timeout { limit })??;
        let (sender, seen) = watch::channel(Seen::default());
        let (leave, left) = oneshot::channel();
        let watching = tokio::spawn(watch_page(watcher, watched, frame.clone(), sender, left));
        Ok(Self {
            hub: hub.clone(),
            client,
            session,
            frame,
            seen,
            leave: Some(leave),
            watcher: watching.abort_handle(),
            deadline,
            limit,
        })
    }

    /// Runs a command on the page.
    pub(super) async fn call(&self, method: &'static str, params: Value) -> Result<Value, Error> {
        let call = self.client.call_raw(Some(&self.session), method, &params);
        let answer = timeout_at(self.deadline, call).await;
        let answer = answer.map_err(|_| self.timed_out())??;
        serde_json::from_slice(&answer).map_err(|source| {
            let method = method.to_owned();
            cdp::Error::Response { method, source }.into()
        })
    }

    /// What is seen of it now.
    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until what is seen is so, for `limit` at most; whether it is.
    pub(super) async fn wait(
        &mut self,
        limit: Duration,
        mut is: impl FnMut(&Seen) -> bool,
    ) -> Result<bool, Error> {
        let until = self.deadline.min(Instant::now() + limit);
        let waited = timeout_at(until, self.seen.wait_for(|seen| seen.crashed || is(seen))).await;
        match waited {
            Ok(Ok(seen)) if seen.crashed => Err(Error::Crashed),
            Ok(Ok(_)) => Ok(true),
            Ok(Err(_)) => Err(cdp::Error::Closed.into()),
            Err(_) => Ok(false),
        }
    }

    /// Waits.
    pub(super) async fn sleep(&self, time: Duration) -> Result<(), Error> {
        let until = Instant::now() + time;
        tokio::time::sleep_until(until.min(self.deadline)).await;
        if until > self.deadline {
            return Err(self.timed_out());
        }
        Ok(())
    }

    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    pub(super) fn timed_out(&self) -> Error {
        Error::Timeout { limit: self.limit }
    }

    /// Runs an expression beside the page's own scripts, which do not see it; its value.
    pub(super) async fn look(&self, expression: &str) -> Result<Value, Error> {
        let world = json!({ "frameId": self.frame, "worldName": "pagebox" });
        let world = self.call("Page.createIsolatedWorld", world).await?;
        let params = json!({
            "expression": expression, "contextId": world["executionContextId"],
            "returnByValue": true, "awaitPromise": true,
        });
        let mut answer = self.call("Runtime.evaluate", params).await?;
        if let Some(what) = thrown(&answer) {
            return Err(Error::Script(what));
        }
        Ok(answer["result"]["value"].take())
    }

    /// Leaves the page to others as it is. With `hold`, what was set on the browser stays so for its
    /// life.
    pub(super) fn leave(mut self, hold: bool) {
        if let Some(leave) = self.leave.take() {
            // The watcher may have ended, with the browser.
            let _ = leave.send(());
        }
        if hold {
            tokio::spawn(async move { self.hub.closed().await });
        }
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// The message of what an evaluation threw, if it did.
pub(super) fn thrown(answer: &Value) -> Option<String> {
    let details = answer.get("exceptionDetails")?;
    let what = details["exception"]["description"].as_str();
    let what = what.or_else(|| details["exception"]["value"].as_str());
    let what = what
        .or_else(|| details["text"].as_str())
        .unwrap_or("an error");
    Some(what.lines().next().unwrap_or_default().to_owned())
}

/// Keeps `seen` as the page is; closes its dialogs until left, as nobody else does.
async fn watch_page(
    mut client: Client,
    session: String,
    frame: String,
    seen: watch::Sender<Seen>,
    mut left: oneshot::Receiver<()>,
) {
    loop {
        let event = tokio::select! {
            event = client.event() => event,
            _ = &mut left => break,
        };
        let Some((method, _, params)) = event else {
            return;
        };
        let params: Value = serde_json::from_str(params.get()).unwrap_or_default();
        if method == "Page.javascriptDialogOpening" {
            // A page that asks whether it may be left is left.
            let accept = json!({ "accept": params["type"] == "beforeunload" });
            let close = client.call_raw(Some(&session), "Page.handleJavaScriptDialog", &accept);
            if let Err(error) = close.await {
                tracing::debug!(%error, "a dialog was not closed");
            }
            continue;
        }
        seen.send_if_modified(|seen| {
            seen.read(&frame, &method, &params);
            method.starts_with("Page.") || method == "Inspector.targetCrashed"
        });
    }
    let disabled = client
        .call_raw(Some(&session), "Page.disable", &json!({}))
        .await;
    if let Err(error) = disabled {
        tracing::debug!(%error, "not left");
    }
    while client.event().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_is_of_the_document_that_is_shown() {
        let mut seen = Seen::default();
        let answer = |loader: &str, status: u16| {
            json!({ "type": "Document", "frameId": "main", "loaderId": loader, "response": {
                "status": status, "mimeType": "text/html",
                "headers": { "Content-Type": "text/html; charset=utf-8" } } })
        };
        let came_to = |loader: &str, name: &str| json!({ "frameId": "main", "loaderId": loader, "name": name });
        seen.read("main", "Network.responseReceived", &answer("1", 200));
        seen.read(
            "main",
            "Page.frameNavigated",
            &json!({ "frame": { "loaderId": "1" } }),
        );
        seen.read("main", "Page.lifecycleEvent", &came_to("1", "load"));
        assert!(seen.progress().loaded);
        // Another document is on its way, a frame has one of its own.
        seen.read("main", "Network.responseReceived", &answer("2", 404));
        let frame = json!({ "frame": { "loaderId": "3", "parentId": "main" } });
        seen.read("main", "Page.frameNavigated", &frame);
        assert_eq!(seen.answer().unwrap().status, 200);
        seen.read(
            "main",
            "Page.frameNavigated",
            &json!({ "frame": { "loaderId": "2" } }),
        );
        assert_eq!(seen.answer().unwrap().status, 404);
        assert_eq!(
            seen.answer().unwrap().content_type,
            "text/html; charset=utf-8"
        );
        assert!(!seen.progress().loaded);
        for number in 10..100 {
            seen.read(
                "main",
                "Page.lifecycleEvent",
                &came_to(&number.to_string(), "init"),
            );
        }
        assert_eq!(seen.progress.len(), REMEMBERED);
    }
}
