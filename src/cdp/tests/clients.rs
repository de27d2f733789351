//! Clients that behave, and what the endpoint and the policy refuse.

use chromiumoxide::cdp::browser_protocol::page::{EventLoadEventFired, NavigateParams};
use chromiumoxide::cdp::js_protocol::runtime::EvaluateParams;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::browser::Browser;
use super::raw::Raw;
use super::site;
use crate::cdp::{ClientKind, Error, HubEvent};

#[tokio::test]
async fn clients_with_the_same_ids_get_their_own_answers() {
    let browser = Browser::start().await;
    let mut all = Vec::new();
    for name in ["a", "b", "c"] {
        let mut client = Raw::connect(&browser.url(name)).await;
        let page = client.first_page().await;
        all.push((client, page));
    }
    for round in 0..5 {
        let mut ids = Vec::new();
        for (at, (client, page)) in all.iter_mut().enumerate() {
            let params = json!({ "expression": format!("{round} * 10 + {at}") });
            ids.push(client.start(page, "Runtime.evaluate", params).await);
        }
        for (at, (client, _)) in all.iter_mut().enumerate() {
            let answer = client.answer(ids[at]).await.unwrap();
            assert_eq!(answer["result"]["value"], round * 10 + at);
        }
    }
}

#[tokio::test]
async fn sessions_of_others_are_unknown() {
    let browser = Browser::start().await;
    let mut one = Raw::connect(&browser.url("a")).await;
    let mut two = Raw::connect(&browser.url("b")).await;
    let page = one.first_page().await;
    for session in [page.as_str(), "nonsense"] {
        let error = two
            .call(session, "Runtime.evaluate", json!({ "expression": "1" }))
            .await;
        assert_eq!(error.unwrap_err()["code"], -32001);
    }
    // Events of one client's session go to no other.
    one.call(&page, "Runtime.enable", json!({})).await.unwrap();
    assert!(one.sees("Runtime.executionContextCreated").await);
    assert!(!two.sees("Runtime.executionContextCreated").await);
}

#[tokio::test]
async fn the_policy_holds_at_every_depth() {
    let browser = Browser::start().await;
    let mut client = Raw::connect(&browser.url("a")).await;
    let page = client.first_page().await;
    let nested = client
        .call("", "Target.attachToBrowserTarget", json!({}))
        .await
        .unwrap();
    let nested = nested["sessionId"].as_str().unwrap().to_owned();
    let refused = [
        ("Browser.crash", json!({})),
        ("Browser.crashGpuProcess", json!({})),
        ("Browser.getBrowserCommandLine", json!({})),
        ("Page.crash", json!({})),
        ("SystemInfo.getInfo", json!({})),
        (
            "Target.sendMessageToTarget",
            json!({ "message": "{}", "sessionId": page }),
        ),
        ("Target.exposeDevToolsProtocol", json!({ "targetId": "x" })),
        ("Target.setRemoteLocations", json!({ "locations": [] })),
        (
            "Target.setAutoAttach",
            json!({ "autoAttach": true, "waitForDebuggerOnStart": true }),
        ),
        ("Target.attachToTarget", json!({ "targetId": "x" })),
        (
            "Target.createBrowserContext",
            json!({ "proxyServer": "http://127.0.0.1:1" }),
        ),
        (
            "Target.createTarget",
            json!({ "url": "file:///etc/passwd" }),
        ),
        (
            "Page.navigate",
            json!({ "url": "view-source:file:///proc/self/environ" }),
        ),
        ("Page.navigate", json!({ "url": "chrome://crash" })),
        ("DOM.setFileInputFiles", json!({ "files": ["/etc/passwd"] })),
        ("Extensions.loadUnpacked", json!({ "path": "/tmp" })),
    ];
    for session in ["", page.as_str(), nested.as_str()] {
        for (method, params) in &refused {
            let error = client
                .call(session, method, params.clone())
                .await
                .unwrap_err();
            let message = error["message"].as_str().unwrap();
            assert_eq!(error["code"], -32000, "{method}: {message}");
            assert!(
                !message.contains("wasn't found"),
                "{method} reached the browser"
            );
        }
    }
    // The nested session works, and so does the rest.
    let version = client
        .call(&nested, "Browser.getVersion", json!({}))
        .await
        .unwrap();
    assert!(version["product"].as_str().unwrap().contains("Chrome"));
    assert_eq!(client.evaluate(&page, "6*7").await, 42);
}

#[tokio::test]
async fn what_is_no_request_is_answered_with_an_error() {
    let browser = Browser::start().await;
    let mut client = Raw::connect(&browser.url("a")).await;
    for (message, code) in [
        (r#"{"id":1,"id":2,"method":"Browser.getVersion"}"#, -32700),
        ("nonsense", -32700),
        (r#"{"method":"Browser.getVersion"}"#, -32600),
        (r#"{"id":1}"#, -32600),
    ] {
        use futures_util::SinkExt;
        client.socket.send(message.to_owned().into()).await.unwrap();
        assert_eq!(
            client.next().await.unwrap()["error"]["code"],
            code,
            "{message}"
        );
    }
    client
        .call("", "Browser.getVersion", json!({}))
        .await
        .unwrap();
}

#[tokio::test]
async fn closing_the_browser_closes_one_client() {
    let browser = Browser::start().await;
    let mut one = Raw::connect(&browser.url("a")).await;
    let mut two = Raw::connect(&browser.url("b")).await;
    let page = two.first_page().await;
    assert_eq!(
        one.call("", "Browser.close", json!({})).await.unwrap(),
        json!({})
    );
    assert!(one.next().await.is_none());
    assert_eq!(two.evaluate(&page, "1+1").await, 2);
}

async fn http(port: u16, request: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let reading = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(5), reading)
        .await
        .unwrap()
        .unwrap();
    answer
}

#[tokio::test]
async fn the_endpoint_answers_tools_and_refuses_web_pages() {
    let browser = Browser::start().await;
    let get = |path: &str, host: &str, more: &str| {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n");
        async move { http(browser.port, &request).await }
    };
    for path in ["/json/version", "/json/version/"] {
        let answer = get(path, "localhost:9222", "").await;
        assert!(
            answer.contains("\"ws://localhost:9222/devtools/browser/"),
            "{answer}"
        );
    }
    let id = browser.hub.active_page().target_id;
    for path in ["/json", "/json/list"] {
        let answer = get(path, "127.0.0.1:1", "").await;
        assert!(
            answer.contains(&format!("ws://127.0.0.1:1/devtools/page/{id}")),
            "{answer}"
        );
    }
    let refused = "HTTP/1.1 403";
    for host in [
        "evil.example",
        "127.0.0.1.evil.example:80",
        "10.0.0.1",
        "localhost.evil.example",
    ] {
        assert!(
            get("/json/version", host, "").await.starts_with(refused),
            "{host}"
        );
    }
    let origin = "Origin: http://127.0.0.1\r\n";
    assert!(
        get("/json/version", "127.0.0.1", origin)
            .await
            .starts_with(refused)
    );
    let upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: null\r\n";
    assert!(
        get("/devtools/browser/x", "127.0.0.1", upgrade)
            .await
            .starts_with(refused)
    );
    assert!(
        get("/nothing", "127.0.0.1", "")
            .await
            .starts_with("HTTP/1.1 404")
    );
    assert!(
        get("/devtools/browser/x", "127.0.0.1", "")
            .await
            .starts_with("HTTP/1.1 426")
    );
}

#[tokio::test]
async fn a_client_may_be_on_one_page() {
    let browser = Browser::start().await;
    let id = browser.hub.active_page().target_id;
    let url = format!("ws://127.0.0.1:{}/devtools/page/{id}", browser.port);
    let mut client = Raw::connect(&url).await;
    assert_eq!(client.evaluate("", "1+1").await, 2);
    browser.hub.ensure_active_page().await.unwrap();
    let other = client
        .call("", "Target.createTarget", json!({ "url": "file:///" }))
        .await;
    assert!(other.is_err());
    let mut second = Raw::connect(&browser.url("b")).await;
    second
        .call("", "Target.closeTarget", json!({ "targetId": id }))
        .await
        .unwrap();
    while client.next().await.is_some() {}
}

#[tokio::test]
async fn popups_workers_and_frames_of_other_processes_are_seen() {
    let browser = Browser::start().await;
    let port = site::start().await;
    let mut client = Raw::connect(&browser.url("a")).await;
    let page = client.first_page().await;
    let attach = json!({ "autoAttach": true, "waitForDebuggerOnStart": false, "flatten": true });
    client.events.clear();
    client
        .call(&page, "Target.setAutoAttach", attach.clone())
        .await
        .unwrap();
    client
        .navigate(&page, &format!("http://127.0.0.1:{port}/worker"))
        .await;
    let worker = client.event("Target.attachedToTarget").await;
    assert_eq!(worker["params"]["targetInfo"]["type"], "worker");
    let session = worker["params"]["sessionId"].as_str().unwrap().to_owned();
    assert_eq!(
        client
            .evaluate(&session, "typeof postMessage + typeof window")
            .await,
        "functionundefined"
    );
    client
        .navigate(&page, &format!("http://127.0.0.1:{port}/frame"))
        .await;
    let frame = client.event("Target.attachedToTarget").await;
    assert_eq!(frame["params"]["targetInfo"]["type"], "iframe");
    let session = frame["params"]["sessionId"].as_str().unwrap().to_owned();
    let text = "new Promise(r => { const look = () => { const p = document.querySelector('#p'); \
                p ? r(p.textContent) : setTimeout(look, 10) }; look() })";
    assert_eq!(client.evaluate(&session, text).await, "inner text");

    let before = browser.hub.active_page();
    client
        .navigate(&page, &format!("http://127.0.0.1:{port}/"))
        .await;
    client
        .call("", "Target.setAutoAttach", attach)
        .await
        .unwrap();
    client.events.clear();
    let click =
        json!({ "expression": "document.querySelector('#pop').click()", "userGesture": true });
    client.call(&page, "Runtime.evaluate", click).await.unwrap();
    let popup = client.event("Target.attachedToTarget").await;
    assert_eq!(popup["params"]["targetInfo"]["type"], "page");
    assert_eq!(browser.hub.active_page().target_id, before.target_id);
    assert_eq!(browser.hub.pages().len(), 2);
}

#[tokio::test]
async fn the_active_page_comes_first_and_moves_when_told() {
    let browser = Browser::start().await;
    let mut client = Raw::connect(&browser.url("a")).await;
    let mut made = Vec::new();
    for _ in 0..3 {
        let answer = client
            .call("", "Target.createTarget", json!({ "url": "about:blank" }))
            .await;
        made.push(answer.unwrap()["targetId"].as_str().unwrap().to_owned());
    }
    let mut events = browser.hub.events();
    for wanted in &made {
        browser.hub.set_active_page(wanted);
        let targets = client
            .call("", "Target.getTargets", json!({}))
            .await
            .unwrap();
        assert_eq!(targets["targetInfos"][0]["targetId"], *wanted);
        let mut late = Raw::connect(&browser.url("late")).await;
        let attach = json!({ "autoAttach": true, "waitForDebuggerOnStart": true, "flatten": true });
        late.call("", "Target.setAutoAttach", attach).await.unwrap();
        let first = late.event("Target.attachedToTarget").await;
        assert_eq!(first["params"]["targetInfo"]["targetId"], *wanted);
    }
    let HubEvent::PageActivated(page) = events.recv().await.unwrap() else {
        panic!()
    };
    assert_eq!(page.target_id, made[0]);
    client
        .call("", "Target.activateTarget", json!({ "targetId": made[0] }))
        .await
        .unwrap();
    assert_eq!(browser.hub.active_page().target_id, made[0]);
    browser.hub.set_active_page("unknown");
    let params = json!({ "targetId": made[1], "flatten": true });
    let attached = client
        .call("", "Target.attachToTarget", params)
        .await
        .unwrap();
    let session = attached["sessionId"].as_str().unwrap().to_owned();
    client
        .call(&session, "Page.bringToFront", json!({}))
        .await
        .unwrap();
    assert_eq!(browser.hub.active_page().target_id, made[1]);
}

#[tokio::test]
async fn messages_of_50_mb_pass_both_ways() {
    let browser = Browser::start().await;
    let mut client = Raw::connect(&browser.url("a")).await;
    let page = client.first_page().await;
    let big = client.evaluate(&page, "'x'.repeat(50 << 20)").await;
    assert_eq!(big.as_str().unwrap().len(), 50 << 20);
    let length = format!("{big}.length");
    assert_eq!(client.evaluate(&page, &length).await, 50 << 20);
}

#[tokio::test]
async fn the_daemon_s_own_client_is_typed() {
    let browser = Browser::start().await;
    let port = site::start().await;
    let mut client = browser.hub.client(ClientKind::Internal).await.unwrap();
    let target = browser.hub.active_page().target_id;
    let session = client.attach(&target).await.unwrap();
    let session = Some(session.as_str());
    client
        .call_raw(session, "Page.enable", &json!({}))
        .await
        .unwrap();
    let url = format!("http://127.0.0.1:{port}/");
    client
        .call(session, NavigateParams::new(url.clone()))
        .await
        .unwrap();
    let (from, _) = client.event_of::<EventLoadEventFired>().await.unwrap();
    assert_eq!(from.as_deref(), session);
    let title = client
        .call(session, EvaluateParams::new("document.title"))
        .await
        .unwrap();
    assert_eq!(title.result.value, Some("site".into()));
    let refused = client
        .call(session, NavigateParams::new("file:///etc/passwd"))
        .await;
    assert!(
        matches!(refused, Err(Error::Refused { code: -32000, .. })),
        "{refused:?}"
    );
    let page = browser.hub.look_at_active_page().await.unwrap();
    assert_eq!((page.url, page.title), (url, "site".to_owned()));
}

#[tokio::test]
async fn navigation_waits_for_load_and_names_what_went_wrong() {
    let browser = Browser::start().await;
    let port = site::start().await;
    let limit = Duration::from_secs(10);
    browser
        .hub
        .navigate(&format!("http://127.0.0.1:{port}/"), limit)
        .await
        .unwrap();
    assert_eq!(
        browser.hub.look_at_active_page().await.unwrap().title,
        "site"
    );
    assert_eq!(browser.hub.active_page().title, "site");
    for (url, text) in [
        ("http://127.0.0.1:1/", "net::ERR_UNSAFE_PORT"),
        (
            "http://does-not-exist.invalid/",
            "net::ERR_NAME_NOT_RESOLVED",
        ),
        ("file:///etc/passwd", "below /tmp and /workspace"),
        ("chrome://version", "not allowed"),
    ] {
        let error = browser
            .hub
            .navigate(url, limit)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(text), "{error}");
    }
    // A dialog while loading ends the wait.
    browser
        .hub
        .navigate(&format!("http://127.0.0.1:{port}/alert"), limit)
        .await
        .unwrap();
    let (_, replaced) = browser.hub.ensure_active_page().await.unwrap();
    assert!(!replaced);
}
