//! Who sees dialogs and file choosers.

use serde_json::json;
use std::time::Duration;

use super::browser::Browser;
use super::raw::Raw;
use crate::cdp::Config;

const OPENING: &str = "Page.javascriptDialogOpening";
const CLOSED: &str = "Page.javascriptDialogClosed";

async fn with_page(browser: &Browser, token: &str) -> (Raw, String) {
    let mut client = Raw::connect(&browser.url(token)).await;
    let page = client.first_page().await;
    client.call(&page, "Page.enable", json!({})).await.unwrap();
    (client, page)
}

async fn ask(client: &mut Raw, page: &str) {
    let expression = "setTimeout(() => { answer = prompt('?') }, 0); 0";
    client.evaluate(page, expression).await;
}

#[tokio::test]
async fn a_dialog_waits_for_the_execution_that_may_see_it() {
    let browser = Browser::start().await;
    let (mut idle, page) = with_page(&browser, "idle").await;
    let (mut runs, other) = with_page(&browser, "runs").await;
    ask(&mut idle, &page).await;
    assert!(!idle.sees(OPENING).await);
    assert!(!runs.sees(OPENING).await);
    let (_, replaced) = browser.hub.ensure_active_page().await.unwrap();
    assert!(!replaced, "a dialog is no reason to replace a page");

    browser.hub.execution_started("runs");
    assert_eq!(runs.event(OPENING).await["params"]["message"], "?");
    assert!(!idle.sees(OPENING).await);
    let accept = json!({ "accept": true, "promptText": "yes" });
    runs.call(&other, "Page.handleJavaScriptDialog", accept).await.unwrap();
    runs.event(CLOSED).await;
    assert!(!idle.sees(CLOSED).await, "it never heard of the dialog");
    assert_eq!(idle.evaluate(&page, "answer").await, "yes");

    // One that opens while the execution runs comes at once; after it, again nobody sees it.
    ask(&mut runs, &other).await;
    assert!(runs.sees(OPENING).await);
    runs.call(&other, "Page.handleJavaScriptDialog", json!({ "accept": false })).await.unwrap();
    browser.hub.execution_ended("runs");
    ask(&mut runs, &other).await;
    assert!(!runs.sees(OPENING).await);
}

#[tokio::test]
async fn a_dialog_nobody_closes_is_dismissed_in_the_end() {
    let config = Config { dialog_hold: Duration::from_millis(700), ..Config::default() };
    let browser = Browser::with(config).await;
    let (mut idle, page) = with_page(&browser, "idle").await;
    ask(&mut idle, &page).await;
    // Blocked until then.
    assert_eq!(idle.evaluate(&page, "answer === null").await, true);
}

#[tokio::test]
async fn a_client_that_leaves_takes_no_dialog_with_it() {
    let browser = Browser::start().await;
    let (mut idle, page) = with_page(&browser, "idle").await;
    let (mut runs, _) = with_page(&browser, "runs").await;
    browser.hub.execution_started("runs");
    ask(&mut idle, &page).await;
    runs.event(OPENING).await;
    browser.hub.forget_token("runs");
    while runs.next().await.is_some() {}
    // Whether Chromium has closed it with its client or not, the page can be used again.
    browser.hub.execution_started("idle");
    if idle.sees(OPENING).await {
        let params = json!({ "accept": false });
        idle.call(&page, "Page.handleJavaScriptDialog", params).await.unwrap();
    }
    assert_eq!(idle.evaluate(&page, "1+1").await, 2);
}

#[tokio::test]
async fn file_choosers_wait_likewise() {
    let browser = Browser::start().await;
    let (mut client, page) = with_page(&browser, "t").await;
    let enabled = json!({ "enabled": true });
    client.call(&page, "Page.setInterceptFileChooserDialog", enabled).await.unwrap();
    let open = json!({
        "expression": "f = document.createElement('input'); f.type = 'file'; f.click()",
        "userGesture": true,
    });
    client.call(&page, "Runtime.evaluate", open).await.unwrap();
    assert!(!client.sees("Page.fileChooserOpened").await);
    browser.hub.execution_started("t");
    let opened = client.event("Page.fileChooserOpened").await;
    let file = browser.scratch.path().join("upload.txt");
    std::fs::write(&file, "12345").unwrap();
    let node = &opened["params"]["backendNodeId"];
    let params = json!({ "files": [file], "backendNodeId": node });
    client.call(&page, "DOM.setFileInputFiles", params).await.unwrap();
    assert_eq!(client.evaluate(&page, "f.files[0].text()").await, "12345");
}
