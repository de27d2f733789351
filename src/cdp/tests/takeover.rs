//! What is the person's while one is in control.

use std::time::Duration;

use serde_json::json;

use super::browser::Browser;
use super::raw::Raw;
use crate::cdp::{Client, ClientKind, InControl};

const OPENING: &str = "Page.javascriptDialogOpening";

async fn with_page(browser: &Browser, token: &str) -> (Raw, String) {
    let mut client = Raw::connect(&browser.url(token)).await;
    let page = client.first_page().await;
    client.call(&page, "Page.enable", json!({})).await.unwrap();
    (client, page)
}

#[tokio::test]
async fn a_busy_page_is_left_to_the_person_who_looks_at_it() {
    let browser = Browser::start().await;
    let (mut client, page) = with_page(&browser, "a").await;
    let stuck = json!({ "expression": "for (;;);" });
    let id = client.start(&page, "Runtime.evaluate", stuck).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = browser.hub.active_page();
    browser.hub.set_control(InControl::Viewer);
    let (after, replaced) = browser.hub.ensure_active_page().await.unwrap();
    assert_eq!((&after.target_id, replaced), (&before.target_id, false));
    assert!(!client.is_answered(id).await, "its script was ended");
    browser.hub.set_control(InControl::Code);
    browser.hub.ensure_active_page().await.unwrap();
    assert_eq!(client.evaluate(&page, "1+1").await, 2);
}

#[tokio::test]
async fn an_open_dialog_is_left_to_the_person() {
    let browser = Browser::start().await;
    let (mut client, page) = with_page(&browser, "a").await;
    browser.hub.set_control(InControl::Viewer);
    let ask = "setTimeout(() => { answer = prompt('?') }, 0); 0";
    client.evaluate(&page, ask).await;
    let target = browser.hub.active_page().target_id;
    let mut changes = browser.hub.changes();
    while browser.hub.dialog(&target).is_none() {
        changes.changed().await.unwrap();
    }
    browser.hub.dismiss_unattended_dialogs().await;
    let read = json!({ "expression": "answer", "returnByValue": true });
    let id = client.start(&page, "Runtime.evaluate", read).await;
    assert!(!client.is_answered(id).await, "the dialog was closed");
    browser
        .hub
        .answer_dialog(&target, true, Some("mine"))
        .await
        .unwrap();
    assert_eq!(client.answer(id).await.unwrap()["result"]["value"], "mine");
    // Of nobody any more.
    client.evaluate(&page, ask).await;
    while browser.hub.dialog(&target).is_none() {
        changes.changed().await.unwrap();
    }
    browser.hub.set_control(InControl::Code);
    browser.hub.dismiss_unattended_dialogs().await;
    assert_eq!(client.evaluate(&page, "answer === null").await, true);
}

/// Whether a dialog is told of within a while.
async fn hears_of_dialog(client: &mut Client) -> bool {
    let told = async {
        while let Some((method, _, _)) = client.event().await {
            if method == OPENING {
                return;
            }
        }
        panic!("disconnected");
    };
    tokio::time::timeout(Duration::from_millis(400), told)
        .await
        .is_ok()
}

#[tokio::test]
async fn a_tool_outside_sees_no_dialog_of_a_person_at_the_live_view() {
    let browser = Browser::start().await;
    let (mut code, page) = with_page(&browser, "a").await;
    let mut tool = browser.hub.client(ClientKind::External).await.unwrap();
    let target = browser.hub.active_page().target_id;
    let session = tool.attach(&target).await.unwrap();
    tool.call_raw(Some(&session), "Page.enable", &json!({}))
        .await
        .unwrap();
    browser.hub.set_control(InControl::Viewer);
    let ask = "setTimeout(() => { answer = confirm('?') }, 0); 0";
    code.evaluate(&page, ask).await;
    assert!(!hears_of_dialog(&mut tool).await);
    // Still open, when the person has gone.
    browser.hub.set_control(InControl::Code);
    assert!(hears_of_dialog(&mut tool).await);
    let accept = json!({ "accept": true });
    tool.call_raw(Some(&session), "Page.handleJavaScriptDialog", &accept)
        .await
        .unwrap();
    assert_eq!(code.evaluate(&page, "answer").await, true);
    browser.hub.set_control(InControl::Caller);
    code.evaluate(&page, ask).await;
    assert!(hears_of_dialog(&mut tool).await);
}

#[tokio::test]
async fn input_that_has_waited_is_not_overtaken() {
    let browser = Browser::start().await;
    let (mut client, page) = with_page(&browser, "a").await;
    let listen = "seen = []; addEventListener('keydown', (e) => seen.push(e.key)); 0";
    client.evaluate(&page, listen).await;
    browser.hub.set_control(InControl::Viewer);
    let mut ids = Vec::new();
    for key in ["a", "b", "c"] {
        if key == "c" {
            // The driver has not been woken for it yet.
            let control = &browser.hub.0.board().control;
            control.send_replace(InControl::Code);
        }
        let params = json!({ "type": "keyDown", "key": key });
        let id = client.start(&page, "Input.dispatchKeyEvent", params).await;
        assert!(!client.is_answered(id).await, "{key}");
        ids.push(id);
    }
    browser.hub.set_control(InControl::Code);
    for id in ids {
        client.answer(id).await.unwrap();
    }
    assert_eq!(client.evaluate(&page, "seen.join('')").await, "abc");
}
