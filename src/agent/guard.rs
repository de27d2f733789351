//! Keeps the page on its sites while a prompt works, whatever leads it away: a link, a script, a
//! redirect, a form. Tabs that open meanwhile are closed. While a person is in control neither is done.
//!
//! Requests for the page's own document wait in the browser until they are decided here, and new tabs
//! before they ask for anything; requests of frames pass. What needs no request (the history, what a service worker answers) is seen
//! afterwards, by [`Guard::is_off`].

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::site::Sites;
use crate::cdp::{Client, ClientKind, Error, Hub, InControl, Page};

/// Refusals kept for the model until the next step.
const MAX_NOTES: usize = 8;
/// How much of a URL the model is told.
const MAX_URL: usize = 300;
/// How long the browser may take for what it does at once.
const LIMIT: Duration = Duration::from_secs(10);

/// The guard of one page. Dropping it lets the page go where it will.
#[derive(Debug)]
pub(super) struct Guard {
    hub: Hub,
    target: String,
    sites: Arc<Mutex<Sites>>,
    notes: Arc<Mutex<Vec<String>>>,
    watching: AbortOnDropHandle<()>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Paused {
    request_id: String,
    frame_id: String,
    request: PausedRequest,
}

#[derive(Deserialize)]
struct PausedRequest {
    url: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attached {
    session_id: String,
    target_info: TargetInfo,
    waiting_for_debugger: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TargetInfo {
    target_id: String,
    r#type: String,
    url: String,
}

impl Guard {
    /// Guards the active page; if it `yields`, not while a person is in control.
    ///
    /// # Errors
    /// When the browser does not let it, or not in time.
    pub(super) async fn attach(
        hub: &Hub,
        sites: Arc<Mutex<Sites>>,
        yields: bool,
    ) -> Result<Self, Error> {
        let what = "guarding the page";
        let attaching = async {
            let target = hub.active_page().target_id;
            // Before new ones are told of, so that none is missed.
            let known: BTreeSet<String> =
                hub.pages().into_iter().map(|page| page.target_id).collect();
            let client = hub.client(ClientKind::Internal).await?;
            let session = client.attach(&target).await?;
            let pattern = json!({ "urlPattern": "*", "resourceType": "Document",
                                  "requestStage": "Request" });
            let patterns = json!({ "patterns": [pattern] });
            (client.call_raw(Some(&session), "Fetch.enable", &patterns)).await?;
            let held = json!({ "autoAttach": true, "waitForDebuggerOnStart": true,
                               "flatten": true });
            (client.call_raw(None, "Target.setAutoAttach", &held)).await?;
            Ok::<_, Error>((target, known, client, session))
        };
        let attached = timeout(LIMIT, attaching).await;
        let (target, known, mut client, session) =
            attached.map_err(|_| Error::Timeout { what, limit: LIMIT })??;
        let notes = Arc::new(Mutex::new(Vec::new()));
        let mut control = hub.control();
        let mut watch = Watch {
            hub: hub.clone(),
            target: target.clone(),
            session,
            known,
            sites: Arc::clone(&sites),
            notes: Arc::clone(&notes),
            control: yields.then(|| hub.control()),
        };
        let watching = tokio::spawn(async move {
            loop {
                tokio::select! {
                    // What a person opened last is theirs when control has gone back, too.
                    biased;
                    changed = control.changed() => match changed {
                        Ok(()) => watch.keep_others(),
                        Err(_) => return,
                    },
                    event = client.event() => match event {
                        Some((method, _, params)) if method == "Fetch.requestPaused" => {
                            watch.decide(&client, params.get()).await;
                        }
                        Some((method, _, params)) if method == "Target.attachedToTarget" => {
                            watch.meet(&client, params.get()).await;
                        }
                        Some(_) => {}
                        None => return,
                    },
                }
            }
        });
        Ok(Self {
            hub: hub.clone(),
            target,
            sites,
            notes,
            watching: AbortOnDropHandle::new(watching),
        })
    }

    /// Whether it still guards the page that is active.
    pub(super) fn holds(&self) -> bool {
        !self.watching.is_finished() && self.hub.active_page().target_id == self.target
    }

    /// What was refused since this was last asked, for the model.
    pub(super) fn notes(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.notes))
    }

    /// Whether a page is not on the sites.
    pub(super) fn is_off(&self, page: &Page) -> bool {
        !lock(&self.sites).allows_text(&page.url) && !is_own(&page.url)
    }

    /// Leaves a page that is off the sites for this one.
    pub(super) async fn lead_back(&self, url: &str) -> Result<(), Error> {
        let what = "leaving a page";
        let leaving = async {
            let client = self.hub.client(ClientKind::Internal).await?;
            let session = client.attach(&self.target).await?;
            let params = json!({ "url": url });
            client
                .call_raw(Some(&session), "Page.navigate", &params)
                .await
        };
        let left = timeout(LIMIT, leaving).await;
        left.map_err(|_| Error::Timeout { what, limit: LIMIT })?
            .map(drop)
    }
}

/// What Chromium shows in place of a page that did not load.
fn is_own(url: &str) -> bool {
    url.starts_with("chrome-error://") || url.is_empty()
}

struct Watch {
    hub: Hub,
    target: String,
    session: String,
    /// Pages that were there before, a person's, and those that were closed.
    known: BTreeSet<String>,
    sites: Arc<Mutex<Sites>>,
    notes: Arc<Mutex<Vec<String>>>,
    /// Who may do what they like; none: nobody may.
    control: Option<watch::Receiver<InControl>>,
}

impl Watch {
    /// Whether a person is in control.
    fn is_persons(&self) -> bool {
        let control = self.control.as_ref();
        control.is_some_and(|control| control.borrow().is_person())
    }

    async fn decide(&self, client: &Client, params: &str) {
        let Ok(paused) = serde_json::from_str::<Paused>(params) else {
            return tracing::warn!("a request of the page was not understood; it stays refused");
        };
        let url = &paused.request.url;
        let id = &paused.request_id;
        let passes = paused.frame_id != self.target
            || self.is_persons()
            || lock(&self.sites).allows_text(url);
        let (method, params) = match passes {
            true => ("Fetch.continueRequest", json!({ "requestId": id })),
            // The page stays as it is; any other reason would show an error page.
            false => (
                "Fetch.failRequest",
                json!({ "requestId": id, "errorReason": "Aborted" }),
            ),
        };
        if !passes {
            let sites = lock(&self.sites).to_string();
            self.note(format!(
                "The page tried to go to {}, which is not on {sites}; it was refused.",
                cut(url)
            ));
        }
        let decided = client.call_raw(Some(&self.session), method, &params);
        if let Err(error) = decided.await {
            // It may be gone with its page.
            tracing::debug!(%error, "a request of the page was not answered");
        }
    }

    /// The pages there are now are a person's, where they may open some.
    fn keep_others(&mut self) {
        if self.control.is_some() {
            let pages = self.hub.pages().into_iter();
            self.known = pages.map(|page| page.target_id).collect();
        }
    }

    /// Closes a new tab before it asks for anything.
    async fn meet(&mut self, client: &Client, params: &str) {
        let Ok(attached) = serde_json::from_str::<Attached>(params) else {
            return tracing::warn!("a new tab was not understood; it stays held");
        };
        let target = attached.target_info;
        let is_new = target.r#type == "page" && self.known.insert(target.target_id.clone());
        if is_new && !self.is_persons() {
            return self.close(client, &target.target_id, &target.url).await;
        }
        if !attached.waiting_for_debugger {
            return;
        }
        let (session, nothing) = (attached.session_id, json!({}));
        let go_on = "Runtime.runIfWaitingForDebugger";
        if let Err(error) = client.call_raw(Some(&session), go_on, &nothing).await {
            tracing::debug!(%error, "a new tab was not let go on; it may be gone");
        }
    }

    async fn close(&self, client: &Client, target: &str, url: &str) {
        let close = json!({ "targetId": target });
        if let Err(error) = client.call_raw(None, "Target.closeTarget", &close).await {
            tracing::debug!(%error, "a new tab was not closed; it may be gone");
        }
        self.hub.set_active_page(&self.target);
        let with = match url {
            "" | "about:blank" => String::new(),
            url => format!(" with {}", cut(url)),
        };
        self.note(format!(
            "A new tab was opened{with} and closed again: this task has one tab. `get attr @e5 href` \
             tells where a link leads to, `open` goes there."
        ));
    }

    fn note(&self, text: String) {
        let mut notes = lock(&self.notes);
        // The page may try the same again and again.
        if notes.len() < MAX_NOTES && !notes.contains(&text) {
            notes.push(text);
        }
    }
}

fn cut(url: &str) -> &str {
    &url[..url.floor_char_boundary(MAX_URL)]
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
