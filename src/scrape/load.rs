//! Loads a page, and says what came.

use std::time::Duration;

use serde_json::{Value, json};

use super::Error;
use super::options::ScrapeOptions;
use super::tab::Tab;
use crate::egress::FailureKind;
use crate::session::Live;

/// How long the last of what a page names may take once its HTML is read.
const REST: Duration = Duration::from_secs(10);
/// How long a loaded page may go on with requests of its own.
const SETTLE: Duration = Duration::from_secs(2);
/// A phone's window in CSS pixels, and its pixels for each of them.
const PHONE: (u32, u32, f64) = (412, 915, 2.625);
/// How Chromium calls a tunnel its proxy did not open, whatever the reason.
const TUNNEL_FAILED: &str = "net::ERR_TUNNEL_CONNECTION_FAILED";
/// How it calls a navigation that became a download, or to an answer without a page.
const ABORTED: &str = "net::ERR_ABORTED";
/// What the daemon's proxy answers with itself.
const OWN_STATUSES: [u16; 4] = [400, 403, 502, 504];

/// What came.
#[derive(Clone, Debug, Default)]
pub(super) struct Loaded {
    pub(super) status: u16,
    /// Without parameters.
    pub(super) mime_type: String,
    pub(super) content_type: String,
    /// Part of the page did not come in time.
    pub(super) warning: Option<String>,
}

/// Attaches to a session's page, and sets it up as the options say.
pub(super) async fn attach(
    live: &Live,
    options: &ScrapeOptions,
    limit: Duration,
) -> Result<Tab, Error> {
    let hub = live.hub().ok_or(Error::Crashed)?;
    let tab = Tab::attach(&hub, limit, &json!(options.headers)).await?;
    if options.ignores_certificates() {
        let ignore = json!({ "ignore": true });
        tab.call("Security.setIgnoreCertificateErrors", ignore)
            .await?;
    }
    if options.mobile {
        as_phone(&tab).await?;
        let touch = json!({ "enabled": true, "maxTouchPoints": 5 });
        tab.call("Emulation.setTouchEmulationEnabled", touch)
            .await?;
    }
    let languages = options
        .location
        .as_ref()
        .map(|location| location.languages.join(","));
    let languages = languages.filter(|languages| !languages.is_empty());
    if options.mobile || languages.is_some() {
        let version = tab.call("Browser.getVersion", json!({})).await?;
        let agent = agent(&version, options.mobile, languages.as_deref());
        tab.call("Emulation.setUserAgentOverride", agent).await?;
    }
    Ok(tab)
}

/// Gives the page a phone's window.
pub(super) async fn as_phone(tab: &Tab) -> Result<(), Error> {
    let (width, height, scale) = PHONE;
    let metrics = json!({
        "width": width, "height": height, "deviceScaleFactor": scale, "mobile": true,
        "screenWidth": width, "screenHeight": height,
    });
    let set = "Emulation.setDeviceMetricsOverride";
    tab.call(set, metrics).await.map(drop)
}

/// Whether what [`attach`] sets must outlive it, for the page to stay as it is.
pub(super) fn must_hold(options: &ScrapeOptions) -> bool {
    let languages = options
        .location
        .as_ref()
        .is_some_and(|l| !l.languages.is_empty());
    options.mobile || languages || !options.headers.is_empty()
}

/// The user agent, as Chromium takes it.
fn agent(version: &Value, mobile: bool, languages: Option<&str>) -> Value {
    let own = version["userAgent"].as_str().unwrap_or_default();
    let mut agent = json!({ "userAgent": own });
    if let Some(languages) = languages {
        agent["acceptLanguage"] = languages.into();
    }
    if mobile {
        let product = version["product"].as_str().unwrap_or_default();
        let major = product.split(['/', '.']).nth(1).unwrap_or("140");
        agent["userAgent"] = format!(
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) \
             Chrome/{major}.0.0.0 Mobile Safari/537.36"
        )
        .into();
        agent["platform"] = "Linux armv81".into();
        let brands = json!([
            { "brand": "Chromium", "version": major }, { "brand": "Not=A?Brand", "version": "24" },
        ]);
        agent["userAgentMetadata"] = json!({
            "brands": brands, "platform": "Android", "platformVersion": "10.0.0",
            "architecture": "", "model": "K", "mobile": true,
        });
    }
    agent
}

/// Loads the page and waits until it is there, and then as long as the options say.
pub(super) async fn goto(
    live: &Live,
    tab: &mut Tab,
    options: &ScrapeOptions,
) -> Result<Loaded, Error> {
    let answer = tab
        .call("Page.navigate", json!({ "url": options.url }))
        .await?;
    if let Some(text) = answer["errorText"].as_str().filter(|text| !text.is_empty()) {
        return Err(classify(live, tab, text));
    }
    let mut warning = None;
    let left = tab.left();
    if !tab.wait(left, |seen| seen.progress().parsed).await? {
        return Err(tab.timed_out());
    }
    // Half of what is left stays for what comes after.
    let rest = REST.min(tab.left() / 2);
    if !tab.wait(rest, |seen| seen.progress().loaded).await? {
        let text = format!(
            "parts of the page had not loaded after {} s",
            rest.as_secs()
        );
        warning = Some(text);
    } else if !options.fast_mode {
        let settle = SETTLE.min(tab.left() / 2);
        tab.wait(settle, |seen| seen.progress().settled).await?;
    }
    if options.wait_for > 0 {
        tab.sleep(Duration::from_millis(options.wait_for)).await?;
    }
    let answer = tab.seen().answer().unwrap_or_default();
    if OWN_STATUSES.contains(&answer.status) && answer.mime_type == "text/plain" {
        own_answer(live, tab).await?;
    }
    Ok(Loaded {
        status: answer.status,
        mime_type: answer.mime_type,
        content_type: answer.content_type,
        warning,
    })
}

/// An error when the page shown is what the daemon's own proxy answered.
async fn own_answer(live: &Live, tab: &Tab) -> Result<(), Error> {
    let url = tab.look("location.href").await?;
    let Some(way_out) = live.way_out() else {
        return Err(Error::Crashed);
    };
    match way_out.failed_page(url.as_str().unwrap_or_default()) {
        Some(why) => Err(of_kind(way_out.failure_kind(), why)),
        None => Ok(()),
    }
}

/// What Chromium's word for a navigation that failed means.
fn classify(live: &Live, tab: &Tab, text: &str) -> Error {
    let way_out = live.way_out();
    if text == TUNNEL_FAILED
        && let Some(way_out) = way_out
        && let Some(why) = way_out.failed_tunnel()
    {
        return of_kind(way_out.failure_kind(), why);
    }
    let name = text.strip_prefix("net::ERR_").unwrap_or(text);
    if name.starts_with("CERT_") || name.starts_with("SSL_") || name == "BAD_SSL_CLIENT_AUTH_CERT" {
        return Error::Tls(text.to_owned());
    }
    match name {
        "NAME_NOT_RESOLVED" => Error::Dns(text.to_owned()),
        "TIMED_OUT" | "CONNECTION_TIMED_OUT" => tab.timed_out(),
        _ if text == ABORTED => Error::NoPage,
        _ => Error::Unreachable(text.to_owned()),
    }
}

fn of_kind(kind: Option<FailureKind>, why: String) -> Error {
    match kind {
        Some(FailureKind::Refused) => Error::Refused(why),
        Some(FailureKind::Unresolved) => Error::Dns(why),
        Some(FailureKind::Other) | None => Error::Unreachable(why),
    }
}
