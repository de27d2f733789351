//! What Chromium does not write down itself: session cookies, and the `sessionStorage` of the page.
//!
//! Both are read over CDP before it closes, and put back once it has started again. Storage of an
//! origin can be reached only where a page of it is open, so the active page visits each: its
//! requests are answered here, with nothing, and no script of the site runs.

use std::collections::{BTreeMap, BTreeSet};
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
/// Fields of a cookie as it is read that it is not set by.
const READ_ONLY: [&str; 4] = ["size", "session", "partitionKeyOpaque", "expires"];

/// What Chromium does not write down itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Cookies that end with the browser, as `Storage.setCookies` takes them.
    pub(super) session_cookies: Vec<Value>,
    /// Of the active page, by origin.
    pub(super) session_storage: BTreeMap<String, Vec<(String, String)>>,
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
    /// Reads it. `origins` are those the session has shown, and those it began with.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn capture(hub: &Hub, origins: &BTreeSet<String>) -> Result<Captured, cdp::Error> {
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
        if origins.is_empty() {
            return Ok(captured);
        }
        let visitor = Visitor::begin(hub).await?;
        for origin in origins.iter().take(MAX_ORIGINS) {
            let items = visitor.read(origin).await?;
            if !items.is_empty() {
                captured.state.session_storage.insert(origin.clone(), items);
            }
        }
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
