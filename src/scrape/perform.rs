//! Does a scrape's actions on its page.

use std::time::Duration;

use serde_json::{Value, json};

use super::actions::{Action, ActionResults, Direction, ScrapedPage, ScriptResult};
use super::keys::{self, Key};
use super::tab::{Tab, thrown};
use super::{Error, capture};
use crate::limits::Bytes;

/// Between two looks for an element.
const LOOK: Duration = Duration::from_millis(100);
/// How long a click or a key may take to show that it loads another page.
const BEGIN: Duration = Duration::from_millis(100);
/// How long such a page may take.
const NAVIGATION: Duration = Duration::from_secs(10);
/// Longest text typed key by key; more comes at once.
const TYPED: usize = 500;
/// Elements one click may name.
const MAX_CLICKS: usize = 100;

/// How actions are done.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// In a phone's window.
    pub(super) mobile: bool,
    /// Largest HTML of a page.
    pub(super) max_html: Bytes,
    /// Without those that only look.
    pub(super) is_replay: bool,
}

/// Does them in order.
pub(super) async fn all(
    tab: &mut Tab,
    actions: &[Action],
    how: How,
) -> Result<ActionResults, Error> {
    let mut results = ActionResults::default();
    for (index, action) in actions.iter().enumerate() {
        if how.is_replay && action.only_looks() {
            continue;
        }
        let done = one(tab, action, how, &mut results).await;
        done.map_err(|error| match error {
            Error::Script(why) | Error::Element(why) => Error::Action {
                index,
                name: action.name(),
                why,
            },
            other => other,
        })?;
    }
    Ok(results)
}

async fn one(
    tab: &mut Tab,
    action: &Action,
    how: How,
    results: &mut ActionResults,
) -> Result<(), Error> {
    match action {
        Action::Wait {
            milliseconds,
            selector,
        } => {
            if let Some(selector) = selector {
                return wait_for(tab, selector).await;
            }
            let time = Duration::from_millis(milliseconds.unwrap_or_default());
            tab.sleep(time).await?;
        }
        Action::Click { selector, all } => click(tab, selector, *all).await?,
        Action::Write { text } => {
            if text.chars().count() <= TYPED {
                for c in text.chars() {
                    press(tab, &keys::typed(c)).await?;
                }
            } else {
                tab.call("Input.insertText", json!({ "text": text }))
                    .await?;
            }
            after(tab).await?;
        }
        Action::Press { key } => {
            press(tab, &keys::read(key).map_err(Error::Element)?).await?;
            after(tab).await?;
        }
        Action::Scroll {
            direction,
            selector,
        } => scroll(tab, *direction, selector.as_deref()).await?,
        Action::Screenshot(wanted) => {
            let picture = capture::screenshot(tab, wanted, how.mobile).await?;
            results.screenshots.push(picture);
        }
        Action::Scrape => {
            let (url, html) = capture::html(tab, how.max_html).await?;
            results.scrapes.push(ScrapedPage { url, html });
        }
        Action::ExecuteJavascript { script } => {
            results.javascript_returns.push(run(tab, script).await?);
            after(tab).await?;
        }
        Action::Pdf {
            format,
            landscape,
            scale,
        } => {
            let pdf = capture::pdf(tab, *format, *landscape, *scale).await?;
            results.pdfs.push(pdf);
        }
    }
    Ok(())
}

/// After what may load another page: waits for that one, if it does.
async fn after(tab: &mut Tab) -> Result<(), Error> {
    if tab.wait(BEGIN, |seen| seen.loading).await? {
        tab.wait(NAVIGATION, |seen| !seen.loading).await?;
    }
    Ok(())
}

async fn wait_for(tab: &mut Tab, selector: &str) -> Result<(), Error> {
    let found = format!("document.querySelector({}) !== null", json!(selector));
    loop {
        // The page may be on its way to another.
        match tab.look(&found).await {
            Ok(Value::Bool(true)) => return Ok(()),
            Err(Error::Cdp(crate::cdp::Error::Refused { .. })) | Ok(_) => {}
            Err(error) => return Err(error),
        }
        if tab.left() <= LOOK {
            return Err(Error::Element(format!(
                "no element {selector:?} came in time"
            )));
        }
        tab.sleep(LOOK).await?;
    }
}

async fn click(tab: &mut Tab, selector: &str, all: bool) -> Result<(), Error> {
    let mut index = 0;
    loop {
        // Where the middle of it is; clicked at once when something else is in front of it.
        let find = format!(
            "(() => {{ const all = document.querySelectorAll({selector}); const e = all[{index}]; \
             if (!e) return {{ count: all.length }}; e.scrollIntoView({{ block: 'center', \
             inline: 'center', behavior: 'instant' }}); const box = e.getBoundingClientRect(); \
             const x = box.x + box.width / 2, y = box.y + box.height / 2; \
             const top = document.elementFromPoint(x, y); const count = all.length; \
             if (box.width > 0 && top && (e.contains(top) || top.contains(e) || \
             (top.labels && [...top.labels].includes(e)))) return {{ count, x, y }}; \
             setTimeout(() => e.click()); return {{ count }}; }})()",
            selector = json!(selector),
        );
        let found = tab.look(&find).await?;
        let count = found["count"].as_u64().unwrap_or_default();
        if count == 0 {
            return Err(Error::Element(format!("there is no element {selector:?}")));
        }
        if let (Some(x), Some(y)) = (found["x"].as_f64(), found["y"].as_f64()) {
            for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
                let button = if kind == "mouseMoved" { "none" } else { "left" };
                let params = json!({
                    "type": kind, "x": x, "y": y, "button": button, "clickCount": 1,
                });
                tab.call("Input.dispatchMouseEvent", params).await?;
            }
        }
        after(tab).await?;
        index += 1;
        if !all || index >= MAX_CLICKS || index as u64 >= count {
            return Ok(());
        }
    }
}

async fn press(tab: &Tab, key: &Key) -> Result<(), Error> {
    for kind in ["keyDown", "keyUp"] {
        let mut params = json!({
            "type": kind, "key": key.key, "code": key.code, "modifiers": key.modifiers,
            "windowsVirtualKeyCode": key.number,
        });
        if kind == "keyDown" {
            match &key.text {
                Some(text) => params["text"] = text.as_str().into(),
                None => params["type"] = "rawKeyDown".into(),
            }
            // Chromium itself does so only for keys of the system.
            if key.modifiers == 2 && key.code == "KeyA" {
                params["commands"] = json!(["selectAll"]);
            }
        }
        tab.call("Input.dispatchKeyEvent", params).await?;
    }
    Ok(())
}

async fn scroll(tab: &Tab, direction: Direction, selector: Option<&str>) -> Result<(), Error> {
    let sign = match direction {
        Direction::Up => -1,
        Direction::Down => 1,
    };
    let scroll = format!(
        "(() => {{ const selector = {selector}; \
         const e = selector === null ? null : document.querySelector(selector); \
         if (selector !== null && !e) return false; const by = {{ behavior: 'instant', \
         top: {sign} * (e ? e.clientHeight : innerHeight) }}; (e ?? window).scrollBy(by); \
         return true; }})()",
        selector = json!(selector),
    );
    match tab.look(&scroll).await? {
        Value::Bool(true) => Ok(()),
        _ => Err(Error::Element(format!(
            "there is no element {:?}",
            selector.unwrap_or_default()
        ))),
    }
}

/// Runs a script in the page. One with a `return` of its own is a function's body.
async fn run(tab: &Tab, script: &str) -> Result<ScriptResult, Error> {
    let mut answer = evaluate(tab, script).await?;
    // Nothing of a script that does not parse has run.
    if thrown(&answer).is_some_and(|what| what.contains("Illegal return")) {
        answer = evaluate(tab, &format!("(async () => {{ {script}\n}})()")).await?;
    }
    if let Some(what) = thrown(&answer) {
        return Err(Error::Script(what));
    }
    let result = &mut answer["result"];
    Ok(ScriptResult {
        r#type: result["type"].as_str().unwrap_or("undefined").to_owned(),
        value: result["value"].take(),
    })
}

async fn evaluate(tab: &Tab, script: &str) -> Result<Value, Error> {
    let params = json!({
        "expression": script, "returnByValue": true, "awaitPromise": true, "replMode": true,
        "userGesture": true,
    });
    tab.call("Runtime.evaluate", params).await
}
