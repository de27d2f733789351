//! Pages that a page opens: it waits inside `window.open` until its popup goes on.

use std::time::Duration;

use serde_json::{Value, json};

use super::browser::Browser;
use super::raw::Raw;
use crate::cdp::Config;

/// What is held goes on by somebody's doing here, not because time is up.
fn config() -> Config {
    Config {
        pause_limit: Duration::from_secs(600),
        ..Config::default()
    }
}

/// A page opens so many; its answer is how many windows it got.
async fn open(client: &mut Raw, page: &str, count: usize) -> i64 {
    let expression = format!(
        "Array.from({{ length: {count} }}, () => window.open('about:blank')).filter(Boolean).length"
    );
    let params = json!({ "expression": expression, "userGesture": true });
    client.start(page, "Runtime.evaluate", params).await
}

async fn opened(client: &mut Raw, id: i64) -> Value {
    client.answer(id).await.unwrap()["result"]["value"].take()
}

/// A client that holds new pages at their start and never lets one go.
async fn holder(browser: &Browser) -> Raw {
    let mut holder = Raw::connect(&browser.url("holder")).await;
    let params = json!({ "autoAttach": true, "waitForDebuggerOnStart": true, "flatten": true });
    holder
        .call("", "Target.setAutoAttach", params)
        .await
        .unwrap();
    holder
}

/// The popup the holder holds, as it is told of it.
async fn held(holder: &mut Raw) -> Value {
    loop {
        let mut attached = holder.event("Target.attachedToTarget").await;
        let params = &mut attached["params"];
        if params["waitingForDebugger"] == true && params["targetInfo"]["type"] == "page" {
            return params.take();
        }
    }
}

async fn works(client: &mut Raw, page: &str) {
    client
        .navigate(page, "data:text/html,<title>went on</title>")
        .await;
    assert_eq!(client.evaluate(page, "document.title").await, "went on");
    let id = open(client, page, 1).await;
    assert_eq!(opened(client, id).await, 1);
}

#[tokio::test]
async fn a_popup_goes_on_that_nobody_holds() {
    let browser = Browser::with(config()).await;
    let mut client = Raw::connect(&browser.url("a")).await;
    let page = client.first_page().await;
    let id = open(&mut client, &page, 3).await;
    assert_eq!(opened(&mut client, id).await, 3);
    works(&mut client, &page).await;
}

#[tokio::test]
async fn a_popup_goes_on_when_who_held_it_has_gone() {
    let browser = Browser::with(config()).await;
    let mut client = Raw::connect(&browser.url("a")).await;
    let page = client.first_page().await;
    let mut holder = holder(&browser).await;
    let id = open(&mut client, &page, 1).await;
    held(&mut holder).await;
    drop(holder);
    assert_eq!(opened(&mut client, id).await, 1);
    works(&mut client, &page).await;
}

#[tokio::test]
async fn a_popup_that_two_hold_goes_on_when_both_have_let_it_go() {
    let browser = Browser::with(config()).await;
    let mut client = Raw::connect(&browser.url("a")).await;
    let page = client.first_page().await;
    let mut holders = [holder(&browser).await, holder(&browser).await];
    let id = open(&mut client, &page, 1).await;
    let [one, other] = &mut holders;
    for (holder, goes_on) in [(one, false), (other, true)] {
        let session = held(holder).await["sessionId"].take();
        let session = session.as_str().unwrap();
        holder
            .call(session, "Runtime.runIfWaitingForDebugger", json!({}))
            .await
            .unwrap();
        if !goes_on {
            assert!(!client.is_answered(id).await);
        }
    }
    assert_eq!(opened(&mut client, id).await, 1);
}

#[tokio::test]
async fn a_popup_that_another_client_closes_while_it_is_held_lets_its_opener_go_on() {
    let browser = Browser::with(config()).await;
    let mut client = Raw::connect(&browser.url("a")).await;
    let page = client.first_page().await;
    let mut holder = holder(&browser).await;
    let id = open(&mut client, &page, 1).await;
    let popup = held(&mut holder).await["targetInfo"]["targetId"].take();
    let mut closes = Raw::connect(&browser.url("closes")).await;
    closes
        .call("", "Target.closeTarget", json!({ "targetId": popup }))
        .await
        .unwrap();
    assert_eq!(opened(&mut client, id).await, 1);
    drop(holder);
    works(&mut client, &page).await;
}

#[tokio::test]
async fn popups_beyond_the_bound_are_closed_and_their_opener_goes_on() {
    const MAX_PAGES: usize = 4;
    let config = Config {
        max_pages: MAX_PAGES,
        ..config()
    };
    let browser = Browser::with(config).await;
    let mut client = Raw::connect(&browser.url("a")).await;
    let page = client.first_page().await;
    let id = open(&mut client, &page, MAX_PAGES - 1).await;
    assert_eq!(opened(&mut client, id).await, MAX_PAGES - 1);
    let kept = browser.hub.pages();
    for held in [false, true] {
        let holder = match held {
            true => Some(holder(&browser).await),
            false => None,
        };
        let id = open(&mut client, &page, 20).await;
        assert_eq!(opened(&mut client, id).await, 20, "held: {held}");
        drop(holder);
    }
    works(&mut client, &page).await;
    let left = |page: &crate::cdp::Page| page.target_id.clone();
    let kept: Vec<String> = kept.iter().map(left).collect();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let now: Vec<String> = browser.hub.pages().iter().map(left).collect();
        if now == kept {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{now:?} {kept:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
