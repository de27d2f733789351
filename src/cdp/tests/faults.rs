//! Clients and pages that misbehave.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::browser::Browser;
use super::raw::Raw;
use super::site;
use crate::cdp::{ClientKind, Config, Error};
use crate::limits::Bytes;

const PAUSE: &str = "Target.setAutoAttach";

fn pausing() -> Value {
    json!({ "autoAttach": true, "waitForDebuggerOnStart": true, "flatten": true })
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected_and_no_other() {
    let config = Config {
        client_queue: Bytes::mib(8),
        ..Config::default()
    };
    let browser = Browser::with(config).await;
    let mut slow = Raw::connect(&browser.url("slow")).await;
    let mut other = Raw::connect(&browser.url("other")).await;
    let (slow_page, page) = (slow.first_page().await, other.first_page().await);
    for _ in 0..20 {
        let params = json!({ "expression": "'x'.repeat(2 << 20)" });
        slow.start(&slow_page, "Runtime.evaluate", params).await;
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        assert_eq!(other.evaluate(&page, "1+1").await, 2);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut read = 0;
    while slow.next().await.is_some() {
        read += 1;
    }
    assert!(read < 20, "{read} answers were delivered");
    assert_eq!(other.evaluate(&page, "1+1").await, 2);
}

#[tokio::test]
async fn a_client_that_pauses_new_pages_holds_them_for_a_moment_only() {
    let config = Config {
        pause_limit: Duration::from_millis(800),
        ..Config::default()
    };
    let browser = Browser::with(config).await;
    let mut stalls = Raw::connect(&browser.url("stalls")).await;
    stalls.call("", PAUSE, pausing()).await.unwrap();
    let mut other = Raw::connect(&browser.url("other")).await;
    let made = other
        .call("", "Target.createTarget", json!({ "url": "about:blank" }))
        .await;
    let params = json!({ "targetId": made.unwrap()["targetId"], "flatten": true });
    let attached = other
        .call("", "Target.attachToTarget", params)
        .await
        .unwrap();
    let began = Instant::now();
    let session = attached["sessionId"].as_str().unwrap().to_owned();
    other
        .navigate(&session, "data:text/html,<title>x</title>")
        .await;
    assert_eq!(other.evaluate(&session, "document.title").await, "x");
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(300),
        "it was not paused at all: {took:?}"
    );
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_client_that_vanishes_releases_what_it_held_at_once() {
    let config = Config {
        pause_limit: Duration::from_secs(600),
        ..Config::default()
    };
    let browser = Browser::with(config).await;
    let mut holds = Raw::connect(&browser.url("holds")).await;
    holds.call("", PAUSE, pausing()).await.unwrap();
    let page = holds.first_page().await;
    holds.call(&page, "Fetch.enable", json!({})).await.unwrap();
    let mut other = Raw::connect(&browser.url("other")).await;
    let made = other
        .call("", "Target.createTarget", json!({ "url": "about:blank" }))
        .await;
    let params = json!({ "targetId": made.unwrap()["targetId"], "flatten": true });
    let attached = other
        .call("", "Target.attachToTarget", params)
        .await
        .unwrap();
    let session = attached["sessionId"].as_str().unwrap().to_owned();
    drop(holds);
    let began = Instant::now();
    other
        .navigate(&session, "data:text/html,<title>x</title>")
        .await;
    let first = other.first_page().await;
    let port = site::start().await;
    other
        .navigate(&first, &format!("http://127.0.0.1:{port}/"))
        .await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn clients_are_counted_and_their_places_given_back() {
    let config = Config {
        max_clients: 2,
        ..Config::default()
    };
    let browser = Browser::with(config).await;
    for _ in 0..10 {
        let mut one = Raw::connect(&browser.url("one")).await;
        one.call("", "Browser.getVersion", json!({})).await.unwrap();
        let mut two = Raw::connect(&browser.url("two")).await;
        two.call("", "Browser.getVersion", json!({})).await.unwrap();
        let third = browser.hub.client(ClientKind::External).await;
        assert!(matches!(third, Err(Error::TooManyClients { limit: 2 })));
        // The daemon's own, such as a live view's, find room all the same.
        let own = browser.hub.client(ClientKind::Internal).await;
        drop(own.unwrap());
        drop((one, two));
        let began = Instant::now();
        while browser.hub.client(ClientKind::External).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(2));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_page_in_an_endless_loop_comes_back() {
    let browser = Browser::start().await;
    let mut client = Raw::connect(&browser.url("a")).await;
    let page = client.first_page().await;
    let stuck = json!({ "expression": "for (;;) { try { for (;;); } catch {} }" });
    let id = client.start(&page, "Runtime.evaluate", stuck).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = browser.hub.active_page();
    let (after, replaced) = browser.hub.ensure_active_page().await.unwrap();
    assert_eq!((after.target_id, replaced), (before.target_id, false));
    // Ended, whatever it says.
    let _ = client.answer(id).await;
    assert_eq!(client.evaluate(&page, "1+1").await, 2);
}

#[tokio::test]
async fn a_busy_page_that_was_only_looked_at_goes_on() {
    let config = Config {
        probe_timeout: Duration::from_millis(100),
        capture_limit: Duration::from_millis(500),
        ..Config::default()
    };
    let browser = Browser::with(config).await;
    let mut client = Raw::connect(&browser.url("a")).await;
    let page = client.first_page().await;
    let busy = json!({ "expression": "for (const end = Date.now() + 4000; Date.now() < end;); 7" });
    let id = client.start(&page, "Runtime.evaluate", busy).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    // One capture that takes too long, and one whose client goes.
    for stays in [700, 100] {
        let looking = browser.hub.client(ClientKind::Live).await.unwrap();
        let target = browser.hub.active_page().target_id;
        let session = looking.attach(&target).await.unwrap();
        let method = "Page.captureScreenshot";
        let sent = looking.send(Some(&session), method, &json!({})).await;
        tokio::time::sleep(Duration::from_millis(stays)).await;
        drop((sent, looking));
    }
    let answer = client.answer(id).await.expect("its script was not ended");
    assert_eq!(answer["result"]["value"], 7);
}

#[tokio::test]
async fn a_page_that_does_not_answer_is_replaced() {
    let browser = Browser::start().await;
    let mut client = Raw::connect(&browser.url("a")).await;
    let page = client.first_page().await;
    let port = site::start().await;
    client
        .navigate(&page, &format!("http://127.0.0.1:{port}/"))
        .await;
    // A wait in the renderer itself, which is no script that can be ended.
    let wait = "x = new XMLHttpRequest(); x.open('GET', '/never', false); x.send()";
    client
        .start(&page, "Runtime.evaluate", json!({ "expression": wait }))
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = browser.hub.active_page();
    let began = Instant::now();
    let (after, replaced) = browser.hub.ensure_active_page().await.unwrap();
    let (again, replaced_again) = browser.hub.ensure_active_page().await.unwrap();
    assert!(!replaced_again);
    assert_eq!(again.target_id, after.target_id);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(replaced);
    assert_ne!(after.target_id, before.target_id);
    assert_eq!(browser.hub.pages().len(), 1);
}

#[tokio::test]
async fn a_crashed_page_is_replaced() {
    let browser = Browser::start().await;
    let port = site::start().await;
    let limit = Duration::from_secs(10);
    browser
        .hub
        .navigate(&format!("http://127.0.0.1:{port}/"), limit)
        .await
        .unwrap();
    let mut client = Raw::connect(&browser.url("a")).await;
    let processes = client
        .call("", "SystemInfo.getProcessInfo", json!({}))
        .await
        .unwrap();
    let renderers = processes["processInfo"].as_array().unwrap().iter();
    // Chromium's own pid namespaces hide the real pids; the test looks for them from outside.
    assert!(
        renderers
            .filter(|process| process["type"] == "renderer")
            .count()
            > 0
    );
    let before = browser.hub.active_page();
    kill_renderers(browser.child.id().unwrap());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (after, replaced) = browser.hub.ensure_active_page().await.unwrap();
    assert!(replaced);
    assert_ne!(after.target_id, before.target_id);
    assert_eq!(browser.hub.pages().len(), 1);
    browser
        .hub
        .navigate(&format!("http://127.0.0.1:{port}/"), limit)
        .await
        .unwrap();
}

fn kill_renderers(browser: u32) {
    let children = |pid: u32| -> Vec<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten();
        tasks
            .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
            .flat_map(|list| {
                list.split_whitespace()
                    .map(|pid| pid.parse().unwrap())
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    let mut left = children(browser);
    let mut killed = 0;
    while let Some(pid) = left.pop() {
        left.extend(children(pid));
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains("--type=renderer") {
            let pid = nix::unistd::Pid::from_raw(pid.try_into().unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
            killed += 1;
        }
    }
    assert!(killed > 0, "no renderer was found");
}

#[tokio::test]
async fn closing_every_tab_opens_a_blank_one() {
    let browser = Browser::start().await;
    let mut client = Raw::connect(&browser.url("a")).await;
    for _ in 0..3 {
        let last = browser.hub.active_page().target_id;
        client
            .call("", "Target.closeTarget", json!({ "targetId": last }))
            .await
            .unwrap();
        let began = Instant::now();
        let page = loop {
            let (page, _) = browser.hub.ensure_active_page().await.unwrap();
            if page.target_id != last {
                break page;
            }
            assert!(began.elapsed() < Duration::from_secs(3));
        };
        assert_eq!(page.url, "about:blank");
        assert_eq!(browser.hub.pages().len(), 1);
    }
}

#[tokio::test]
async fn a_healthy_page_is_probed_in_no_time() {
    let browser = Browser::start().await;
    let mut times = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        let (_, replaced) = browser.hub.ensure_active_page().await.unwrap();
        assert!(!replaced);
        times.push(began.elapsed());
    }
    times.sort();
    println!("a probe takes {:?} (median)", times[100]);
    // Far above what it takes, for machines that are busy.
    assert!(times[100] < Duration::from_millis(20), "{:?}", times[100]);
}

#[tokio::test]
async fn when_the_browser_dies_everybody_is_told() {
    let mut browser = Browser::start().await;
    let mut client = Raw::connect(&browser.url("a")).await;
    let mut own = browser.hub.client(ClientKind::Internal).await.unwrap();
    browser.child.start_kill().unwrap();
    tokio::time::timeout(Duration::from_secs(5), browser.hub.closed())
        .await
        .unwrap();
    while client.next().await.is_some() {}
    while own.event().await.is_some() {}
    assert!(matches!(
        browser.hub.ensure_active_page().await,
        Err(Error::Closed)
    ));
    tokio::time::timeout(Duration::from_secs(5), browser.hub.shutdown())
        .await
        .unwrap();
}

#[tokio::test]
async fn an_answer_above_the_bound_is_an_error_and_the_pipe_goes_on() {
    let config = Config {
        max_message: Bytes::mib(4),
        ..Config::default()
    };
    let browser = Browser::with(config).await;
    let mut client = Raw::connect(&browser.url("a")).await;
    let page = client.first_page().await;
    let big = json!({ "expression": "'x'.repeat(6 << 20)", "returnByValue": true });
    let error = client
        .call(&page, "Runtime.evaluate", big)
        .await
        .unwrap_err();
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("larger than 4 MiB"),
        "{error}"
    );
    assert_eq!(client.evaluate(&page, "1+1").await, 2);
    // A request above it costs the client its connection, nobody else's.
    let other = format!("'{}'", "x".repeat(5 << 20));
    client
        .start(&page, "Runtime.evaluate", json!({ "expression": other }))
        .await;
    while client.next().await.is_some() {}
    let mut client = Raw::connect(&browser.url("b")).await;
    let page = client.first_page().await;
    assert_eq!(client.evaluate(&page, "1+1").await, 2);
}

#[tokio::test]
async fn half_a_large_message_holds_nobody_else_s_small_ones_up() {
    use tokio::io::AsyncWriteExt;
    let browser = Browser::start().await;
    let mut other = Raw::connect(&browser.url("other")).await;
    let page = other.first_page().await;
    let mut halves = Vec::new();
    for _ in 0..3 {
        let mut client = Raw::connect(&browser.url("half")).await;
        // A masked text frame that says 200 MiB, of which 6 MiB are sent.
        let mut head = vec![0x81, 0xff];
        head.extend_from_slice(&(200_u64 << 20).to_be_bytes());
        head.extend_from_slice(&[0; 4]);
        let stream = client.socket.get_mut();
        stream.write_all(&head).await.unwrap();
        let body = vec![b' '; 6 << 20];
        // Past the bound the hub does not read on for all but one.
        let writing = stream.write_all(&body);
        let _ = tokio::time::timeout(Duration::from_millis(300), writing).await;
        halves.push(client);
    }
    assert_eq!(other.evaluate(&page, "1+1").await, 2);
    drop(halves);
    let big = format!("'{}'.length", "x".repeat(10 << 20));
    assert_eq!(other.evaluate(&page, &big).await, 10 << 20);
}
