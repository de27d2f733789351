//! What Chromium does not write down itself: session cookies, and the `sessionStorage` of the page.
//!
//! Both are read over CDP before it closes, and put back once it has started again. Storage of an
//! origin can be reached only where a page of it is open, so the active page visits each: its
//! requests are answered here, with nothing, and no script of the site runs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::cdp::{self, Client, ClientKind, Hub};

/// How long all visits together may take.
const VISITS: Duration = Duration::from_secs(10);
/// Origins whose `sessionStorage` is kept.
const MAX_ORIGINS: usize = cdp::MAX_ORIGINS;
/// An empty page, as base64.
const EMPTY_PAGE: &str = "PCFkb2N0eXBlIGh0bWw+";
/// Most `sessionStorage` that is kept, in bytes of its names and values.
const MAX_STORAGE: usize = 16 << 20;
/// Fields of a cookie as it is read that it is not set by.
const READ_ONLY: [&str; 4] = ["size", "session", "partitionKeyOpaque", "expires"];

/// Names and values, by origin.
pub type SessionStorage = BTreeMap<String, Vec<(String, String)>>;

/// What Chromium does not write down itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Cookies that end with the browser, as `Storage.setCookies` takes them.
    pub(super) session_cookies: Vec<Value>,
    /// Of the active page.
    pub session_storage: SessionStorage,
}

/// What was read of a browser.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// To be put back.
    pub state: State,
    /// Cookies of each domain, of any kind.
    pub cookies: BTreeMap<String, u32>,
}

impl State {
    /// Reads it: the `sessionStorage` of the origins this browser has shown, and of those in `before`,
    /// which it began with. Of origins that cannot be visited what there was before is kept.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn capture(hub: &Hub, before: &SessionStorage) -> Result<Captured, cdp::Error> {
        let client = hub.client(ClientKind::Internal).await?;
        let params = json!({});
        let answer = client.call_raw(None, "Storage.getCookies", &params).await?;
        let answer: Value = read("Storage.getCookies", &answer)?;
        let mut captured = Captured::default();
        for cookie in answer["cookies"].as_array().into_iter().flatten() {
            let domain = cookie["domain"].as_str().unwrap_or_default();
            *captured.cookies.entry(domain.to_owned()).or_default() += 1;
            if cookie["session"] == true {
                captured.state.session_cookies.push(settable(cookie));
            }
        }
        drop(client);
        let storage = &mut captured.state.session_storage;
        let shown = hub.origins();
        let active = hub.active_origin();
        let first = active.iter().chain(&shown).chain(before.keys());
        let mut origins: Vec<&String> = Vec::new();
        for origin in first.take(2 * MAX_ORIGINS) {
            if !origins.contains(&origin) {
                origins.push(origin);
            }
        }
        if let Err(error) = visit_all(hub, &origins, storage).await {
            tracing::warn!(%error, "not every sessionStorage was read; of others what was saved stays");
            for (origin, items) in before {
                storage
                    .entry(origin.clone())
                    .or_insert_with(|| items.clone());
            }
        }
        storage.retain(|_, items| !items.is_empty());
        Ok(captured)
    }

    /// Puts it back; the active page is blank before and after.
    ///
    /// # Errors
    /// When the browser refuses it, or does not answer.
    pub async fn restore(&self, hub: &Hub) -> Result<(), cdp::Error> {
        if !self.session_cookies.is_empty() {
            let client = hub.client(ClientKind::Internal).await?;
            let params = json!({ "cookies": self.session_cookies });
            client.call_raw(None, "Storage.setCookies", &params).await?;
        }
        if self.session_storage.is_empty() {
            return Ok(());
        }
        let visitor = Visitor::begin(hub).await?;
        for (origin, items) in self.session_storage.iter().take(MAX_ORIGINS) {
            visitor.write(origin, items).await?;
        }
        visitor.leave().await
    }
}

/// Reads origins until one fails, or it is too much.
async fn visit_all(
    hub: &Hub,
    origins: &[&String],
    storage: &mut SessionStorage,
) -> Result<(), cdp::Error> {
    if origins.is_empty() {
        return Ok(());
    }
    let visitor = Visitor::begin(hub).await?;
    let mut size = 0;
    for origin in origins.iter().take(MAX_ORIGINS) {
        let items = visitor.read(origin).await?;
        size += items
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>();
        if size > MAX_STORAGE {
            tracing::warn!("sessionStorage of more than {MAX_STORAGE} bytes is not kept");
            return Ok(());
        }
        storage.insert((*origin).clone(), items);
    }
    Ok(())
}

/// A cookie as it can be set again.
fn settable(cookie: &Value) -> Value {
    let mut cookie = cookie.clone();
    if let Value::Object(fields) = &mut cookie {
        fields.retain(|name, _| !READ_ONLY.contains(&&**name));
    }
    cookie
}

fn read<T: serde::de::DeserializeOwned>(method: &str, answer: &[u8]) -> Result<T, cdp::Error> {
    serde_json::from_slice(answer).map_err(|source| cdp::Error::Response {
        method: method.to_owned(),
        source,
    })
}

/// The active page on its way through the origins, cut off from the network.
struct Visitor {
    client: Client,
    session: String,
    answering: AbortHandle,
    until: Instant,
}

impl Visitor {
    async fn begin(hub: &Hub) -> Result<Self, cdp::Error> {
        let until = Instant::now() + VISITS;
        let begin = async {
            let (page, _) = hub.ensure_active_page().await?;
            let answering = hub.client(ClientKind::Internal).await?;
            let answered = answering.attach(&page.target_id).await?;
            for (method, params) in [
                ("Page.enable", json!({})),
                ("Network.enable", json!({})),
                // It would answer for its site.
                ("Network.setBypassServiceWorker", json!({ "bypass": true })),
                ("Fetch.enable", json!({})),
            ] {
                answering.call_raw(Some(&answered), method, &params).await?;
            }
            let client = hub.client(ClientKind::Internal).await?;
            let session = client.attach(&page.target_id).await?;
            let answering = tokio::spawn(answer(answering, answered)).abort_handle();
            Ok(Self {
                client,
                session,
                answering,
                until,
            })
        };
        let begun = timeout_at(until, begin).await;
        begun.unwrap_or_else(|_| Err(too_slow()))
    }

    async fn read(&self, origin: &str) -> Result<Vec<(String, String)>, cdp::Error> {
        let items = self.visit(origin, "Object.entries(sessionStorage)").await?;
        // A page that is no page of this origin has nothing to say.
        Ok(serde_json::from_value(items).unwrap_or_default())
    }

    async fn write(&self, origin: &str, items: &[(String, String)]) -> Result<(), cdp::Error> {
        let put = format!(
            "for (const [key, value] of {}) sessionStorage.setItem(key, value)",
            json!(items)
        );
        self.visit(origin, &put).await.map(drop)
    }

    /// Evaluates an expression or a statement in an empty page of this origin.
    async fn visit(&self, origin: &str, what: &str) -> Result<Value, cdp::Error> {
        let url = format!("{origin}/");
        self.call("Page.navigate", json!({ "url": url })).await?;
        let expression = format!("if (location.origin === {}) {{ {what} }}", json!(origin));
        let params = json!({ "expression": expression, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", params).await?;
        Ok(answer["result"]["value"].take())
    }

    /// Leaves a blank page without a past.
    async fn leave(self) -> Result<(), cdp::Error> {
        self.call("Page.navigate", json!({ "url": "about:blank" }))
            .await?;
        self.call("Page.resetNavigationHistory", json!({})).await?;
        Ok(())
    }

    async fn call(&self, method: &'static str, params: Value) -> Result<Value, cdp::Error> {
        let call = self.client.call_raw(Some(&self.session), method, &params);
        let answer = timeout_at(self.until, call).await;
        read(method, &answer.unwrap_or_else(|_| Err(too_slow()))?)
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

fn too_slow() -> cdp::Error {
    cdp::Error::Timeout {
        what: "visiting the origins of a profile",
        limit: VISITS,
    }
}

/// Answers every request with an empty page, and lets every page be left.
async fn answer(mut client: Client, session: String) {
    while let Some((method, _, params)) = client.event().await {
        let params: Value = serde_json::from_str(params.get()).unwrap_or_default();
        let done = match &*method {
            "Fetch.requestPaused" => {
                let empty = json!({
                    "requestId": params["requestId"], "responseCode": 200, "body": EMPTY_PAGE,
                    "responseHeaders": [{ "name": "content-type", "value": "text/html" }],
                });
                client
                    .call_raw(Some(&session), "Fetch.fulfillRequest", &empty)
                    .await
            }
            "Page.javascriptDialogOpening" => {
                let accept = json!({ "accept": true });
                client
                    .call_raw(Some(&session), "Page.handleJavaScriptDialog", &accept)
                    .await
            }
            _ => continue,
        };
        if let Err(error) = done {
            tracing::debug!(%error, method, "not answered");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_set_by_what_it_is() {
        let read = json!({
            "name": "sid", "value": "1", "domain": "a.test", "path": "/", "expires": -1, "size": 4,
            "httpOnly": true, "secure": true, "session": true, "sameSite": "Lax",
            "priority": "Medium", "sourceScheme": "Secure", "sourcePort": 443,
            "partitionKeyOpaque": false,
        });
        let set = json!({
            "name": "sid", "value": "1", "domain": "a.test", "path": "/", "httpOnly": true,
            "secure": true, "sameSite": "Lax", "priority": "Medium", "sourceScheme": "Secure",
            "sourcePort": 443,
        });
        assert_eq!(settable(&read), set);
    }
}
