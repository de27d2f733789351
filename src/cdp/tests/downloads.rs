//! Two clients, each with its own idea of where downloads go.

use std::path::Path;

use serde_json::{Value, json};

use super::browser::Browser;
use super::raw::Raw;
use super::site;

async fn subscribe(client: &mut Raw, behavior: &str, path: &Path) {
    let params = json!({ "behavior": behavior, "downloadPath": path, "eventsEnabled": true });
    assert_eq!(client.call("", "Browser.setDownloadBehavior", params).await.unwrap(), json!({}));
}

async fn finished(client: &mut Raw) -> Value {
    loop {
        let progress = client.event("Browser.downloadProgress").await["params"].take();
        if progress["state"] != "inProgress" {
            return progress;
        }
    }
}

#[tokio::test]
async fn every_client_finds_the_file_where_it_asked_for_it() {
    let browser = Browser::start().await;
    let port = site::start().await;
    let at = |name: &str| browser.scratch.path().join(name);
    let mut named = Raw::connect(&browser.url("a")).await;
    let mut by_guid = Raw::connect(&browser.url("b")).await;
    let mut denies = Raw::connect(&browser.url("c")).await;
    let mut outside = Raw::connect(&browser.url("d")).await;
    subscribe(&mut named, "allow", &at("named")).await;
    subscribe(&mut by_guid, "allowAndName", &at("by-guid")).await;
    subscribe(&mut denies, "deny", &at("denied")).await;
    subscribe(&mut outside, "allowAndName", Path::new("/etc")).await;
    let page = named.first_page().await;
    named.navigate(&page, &format!("http://127.0.0.1:{port}/")).await;
    named.evaluate(&page, "document.querySelector('#d').click()").await;

    let begin = by_guid.event("Browser.downloadWillBegin").await["params"].take();
    assert_eq!(begin["suggestedFilename"], "the report.txt");
    let guid = begin["guid"].as_str().unwrap();
    let content = "content ".repeat(10_000);
    assert_eq!(finished(&mut by_guid).await["state"], "completed");
    assert_eq!(std::fs::read_to_string(at("by-guid").join(guid)).unwrap(), content);
    let progress = finished(&mut named).await;
    assert_eq!(progress["state"], "completed");
    assert_eq!(std::fs::read_to_string(at("named/the report.txt")).unwrap(), content);
    assert_eq!(finished(&mut denies).await["state"], "canceled");
    assert!(!at("denied").exists());
    assert_eq!(finished(&mut outside).await["state"], "completed");
    assert!(!Path::new("/etc").join(guid).exists());
    assert!(!crate::cdp::download_dir().join(guid).exists(), "moved, not left behind");
}

#[tokio::test]
async fn contexts_of_their_own_download_too() {
    let browser = Browser::start().await;
    let port = site::start().await;
    let mut client = Raw::connect(&browser.url("a")).await;
    let context = client.call("", "Target.createBrowserContext", json!({})).await.unwrap();
    let context = &context["browserContextId"];
    let path = browser.scratch.path().join("context");
    let params = json!({
        "behavior": "allowAndName", "downloadPath": path, "eventsEnabled": true,
        "browserContextId": context,
    });
    client.call("", "Browser.setDownloadBehavior", params).await.unwrap();
    let params = json!({ "url": "about:blank", "browserContextId": context });
    let target = client.call("", "Target.createTarget", params).await.unwrap();
    let params = json!({ "targetId": target["targetId"], "flatten": true });
    let attached = client.call("", "Target.attachToTarget", params).await.unwrap();
    let page = attached["sessionId"].as_str().unwrap().to_owned();
    client.navigate(&page, &format!("http://127.0.0.1:{port}/")).await;
    client.evaluate(&page, "document.querySelector('#d').click()").await;
    let guid = finished(&mut client).await["guid"].take();
    assert!(path.join(guid.as_str().unwrap()).is_file());
}
