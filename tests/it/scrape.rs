//! Scrapes over HTTP, and the sessions that go on from them, against the real daemon and browser.

use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::http_client::{Http, Reply};
use crate::shared::{binary, daemon, site};

fn http() -> Http {
    Http::new(&daemon().url())
}

/// Scrapes a page of the site with these options.
async fn ask(http: &Http, path: &str, options: Value) -> Reply {
    let mut body = json!({ "url": site().url(path), "origin": "test" });
    for (name, value) in options.as_object().unwrap() {
        body[name] = value.clone();
    }
    http.post("/v2/scrape", &body).await
}

async fn scrape(http: &Http, path: &str, options: Value) -> Value {
    ask(http, path, options).await.good()["data"].take()
}

fn interact_path(document: &Value) -> String {
    let id = document["metadata"]["scrapeId"]
        .as_str()
        .expect("a scrape id");
    format!("/v2/scrape/{id}/interact")
}

async fn interact(http: &Http, document: &Value, code: &str) -> Value {
    let body = json!({ "code": code, "language": "node" });
    http.post(&interact_path(document), &body).await.good()
}

#[tokio::test]
async fn every_format_is_there_and_only_what_was_asked_for() {
    let formats = json!({ "formats": ["markdown", "html", "rawHtml", "links", "images",
        { "type": "screenshot", "fullPage": true, "quality": 50 }] });
    let document = scrape(&http(), "/article.html", formats).await;
    let markdown = document["markdown"].as_str().unwrap();
    assert!(
        markdown.starts_with("# How a tide table is made"),
        "{markdown}"
    );
    assert!(!markdown.contains("About"), "{markdown}");
    assert!(document["html"].as_str().unwrap().contains("article-body"));
    assert!(
        document["rawHtml"]
            .as_str()
            .unwrap()
            .starts_with("<!DOCTYPE html>")
    );
    let links = document["links"].as_array().unwrap();
    assert!(
        links.contains(&site().url("/about.html").into()),
        "{links:?}"
    );
    assert_eq!(document["images"], json!([]));
    let picture = document["screenshot"].as_str().unwrap();
    assert!(
        picture.starts_with("data:image/jpeg;base64,/9j/"),
        "{}",
        &picture[..40]
    );
    let metadata = &document["metadata"];
    assert_eq!(metadata["title"], "How a tide table is made");
    assert_eq!(metadata["language"], "en");
    assert_eq!(metadata["statusCode"], 200);
    assert_eq!(metadata["contentType"], "text/html; charset=utf-8");
    assert_eq!(metadata["url"], site().url("/article.html"));
    let document = scrape(&http(), "/article.html", json!({})).await;
    let keys: Vec<&String> = document.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["markdown", "metadata"]);
}

#[tokio::test]
async fn elements_that_a_script_nested_deeply_keep_their_text() {
    // Not shown: Chromium crashes when it lays out what is so deep.
    let script = "let at = document.body.appendChild(document.createElement('div'));
        at.style.display = 'none';
        for (let i = 0; i < 100_000; i++) at = at.appendChild(document.createElement('div'));
        at.textContent = 'at the bottom';";
    let options = json!({
        "onlyMainContent": false,
        "formats": ["markdown", "html"],
        "actions": [{ "type": "executeJavascript", "script": script }],
    });
    let document = scrape(&http(), "/article.html", options).await;
    for format in ["markdown", "html"] {
        let text = document[format].as_str().unwrap();
        assert!(text.contains("at the bottom"), "{format}");
        assert!(text.contains("How a tide table is made"), "{format}");
    }
}

#[tokio::test]
async fn the_first_interaction_finds_the_page_as_the_scrape_left_it() {
    let http = http();
    let actions = json!({ "actions": [
        { "type": "executeJavascript", "script": "window.left = { here: 42 }; left.here" },
        { "type": "click", "selector": "#retitle" },
    ] });
    let document = scrape(&http, "/workbench.html", actions).await;
    let returned = &document["actions"]["javascriptReturns"];
    assert_eq!(*returned, json!([{ "type": "number", "value": 42 }]));
    // Nobody's session yet.
    http.delete(&interact_path(&document)).await.refused(404);
    let reads = (0..4).map(|_| interact(&http, &document, "await page.evaluate(() => left.here)"));
    let replies = futures_util::future::join_all(reads).await;
    for reply in &replies {
        assert_eq!(reply["result"], "42", "{reply}");
        assert_eq!(reply["sessionId"], replies[0]["sessionId"]);
        assert!(reply["cdpUrl"].as_str().unwrap().starts_with("ws://"));
    }
    let code = "JSON.stringify([context.pages().length, await page.title()])";
    let reply = interact(&http, &document, code).await;
    assert_eq!(reply["result"], r#"[1,"Workbench, retitled"]"#);
    let failing = json!({ "code": "throw new Error('no')" });
    let reply = http.post(&interact_path(&document), &failing).await.json();
    assert_eq!(
        (&reply["success"], &reply["exitCode"]),
        (&json!(false), &json!(1))
    );
    let stopped = http.delete(&interact_path(&document)).await.good();
    assert!(stopped["sessionDurationMs"].is_u64() && stopped["creditsBilled"].is_u64());
    let again = http.delete(&interact_path(&document)).await.good();
    assert!(again["sessionDurationMs"].is_null());
    assert_eq!(again["creditsBilled"], stopped["creditsBilled"]);
    http.post(&interact_path(&document), &json!({ "code": "1" }))
        .await
        .refused(410);
}

#[tokio::test]
async fn what_was_kept_makes_room_and_is_replayed() {
    let config = "[session]\nmax_sessions = 1\n";
    let daemon = Daemon::start(binary(), config);
    let http = Http::new(&daemon.url());
    let actions = json!({ "actions": [
        { "type": "click", "selector": "#retitle" },
        { "type": "executeJavascript", "script": "document.title = 'not again'" },
    ] });
    let first = scrape(&http, "/workbench.html", actions).await;
    let listed = http.get("/v2/browser").await.good();
    assert_eq!(listed["sessions"], json!([]));
    // Takes the only place there is.
    let second = scrape(&http, "/article.html", json!({})).await;
    let code = "JSON.stringify([context.pages().length, await page.title()])";
    let reply = interact(&http, &first, code).await;
    assert_eq!(reply["result"], r#"[1,"Workbench, retitled"]"#);
    // The place is taken by a session now.
    let body = json!({ "code": "1" });
    http.post(&interact_path(&second), &body).await.refused(429);
    http.delete(&interact_path(&first)).await.good();
    interact(&http, &second, "1").await;
}

/// As JavaScript clients do at their own timeout, which covers the start of the session.
#[tokio::test]
async fn a_first_caller_that_goes_away_leaves_one_session_for_the_next() {
    let daemon = Daemon::start(binary(), "[scrape]\nkeep = \"0s\"\n");
    let http = Http::new(&daemon.url());
    let document = scrape(&http, "/article.html", json!({})).await;
    let body = json!({ "code": "1" });
    let path = interact_path(&document);
    let call = http.post(&path, &body);
    let gone = tokio::time::timeout(Duration::from_millis(100), call).await;
    assert!(gone.is_err(), "its session was there already");
    let reply = interact(&http, &document, "await page.title()").await;
    assert_eq!(reply["result"], "How a tide table is made");
    let listed = http.get("/v2/browser").await.good();
    assert_eq!(
        listed["sessions"].as_array().map(Vec::len),
        Some(1),
        "{listed}"
    );
    assert_eq!(listed["sessions"][0]["id"], reply["sessionId"]);
    http.delete(&path).await.good();
}

#[tokio::test]
async fn a_restart_leaves_scrapes_to_be_replayed_and_sessions_gone() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let place = [("PAGEBOX_DATA_DIR", data_dir.to_str().unwrap())];
    let start = || Daemon::start_in(binary(), "", &["--host-loopback", "*"], &place);
    let (used, unused, standalone) = {
        let daemon = start();
        let http = Http::new(&daemon.url());
        let used = scrape(&http, "/article.html", json!({})).await;
        interact(&http, &used, "1").await;
        let unused = scrape(&http, "/article.html", json!({})).await;
        let standalone = http.post("/v2/browser", &json!({})).await.good();
        (used, unused, standalone)
    };
    let daemon = start();
    let http = Http::new(&daemon.url());
    let body = json!({ "code": "await page.title()" });
    http.post(&interact_path(&used), &body).await.refused(410);
    let standalone = format!("/v2/browser/{}", standalone["id"].as_str().unwrap());
    for ended in [interact_path(&used), standalone] {
        for _ in 0..2 {
            let stopped = http.delete(&ended).await.good();
            assert!(stopped["sessionDurationMs"].as_u64() > Some(0), "{stopped}");
            assert_eq!(stopped["creditsBilled"], 2, "{stopped}");
            assert_eq!(stopped["status"], "stopped");
        }
    }
    let reply = interact(&http, &unused, "await page.title()").await;
    assert_eq!(reply["result"], "How a tide table is made");
    let id = unused["metadata"]["scrapeId"].as_str().unwrap();
    let read = http.get(&format!("/v2/scrape/{id}")).await.good();
    assert_eq!(read["data"], unused);
}

#[tokio::test]
async fn odd_pages() {
    let http = http();
    let document = scrape(&http, "/status/404", json!({})).await;
    assert_eq!(document["metadata"]["statusCode"], 404);
    let document = scrape(&http, "/redirect?to=/article.html", json!({})).await;
    assert_eq!(document["metadata"]["url"], site().url("/article.html"));
    let document = scrape(&http, "/headers", json!({ "headers": { "x-own": "yes" } })).await;
    let markdown = document["markdown"].as_str().unwrap();
    assert!(
        markdown.starts_with("```json") && markdown.contains("yes"),
        "{markdown}"
    );
    let document = scrape(&http, "/big", json!({ "timeout": 120_000 })).await;
    assert!(document["markdown"].as_str().unwrap().len() > 4 << 20);
    let text = ask(&http, "/download/report.csv", json!({}))
        .await
        .refused(415);
    assert!(text.contains("file"), "{text}");
    let slow = ask(&http, "/slow?ms=20000", json!({ "timeout": 3000 })).await;
    slow.refused(408);
    assert_eq!(slow.json()["code"], "SCRAPE_TIMEOUT");
    assert!(slow.json()["details"].is_null());
}

#[tokio::test]
async fn what_cannot_be_loaded_is_told_as_clients_expect_it() {
    let http = http();
    for (url, status, code) in [
        (
            "http://nowhere.invalid/",
            200,
            "SCRAPE_DNS_RESOLUTION_ERROR",
        ),
        (
            "https://nowhere.invalid/",
            200,
            "SCRAPE_DNS_RESOLUTION_ERROR",
        ),
        ("http://169.254.169.254/", 403, "UNSUPPORTED_SITE"),
    ] {
        let reply = http.post("/v2/scrape", &json!({ "url": url })).await;
        reply.refused(status);
        assert_eq!(reply.json()["code"], code, "{url}");
    }
    for (body, status) in [
        (json!({}), 400),
        (json!({ "url": "a.test", "formats": ["json"] }), 400),
    ] {
        http.post("/v2/scrape", &body).await.refused(status);
    }
    let body = json!({ "code": "1" });
    http.post("/v2/scrape/x/interact", &body).await.refused(400);
    let unknown = "/v2/scrape/00000000-0000-7000-8000-000000000000";
    http.post(&format!("{unknown}/interact"), &body)
        .await
        .refused(404);
    http.post(&format!("{unknown}/interact"), &json!({}))
        .await
        .refused(400);
    http.get(unknown).await.refused(404);
}
