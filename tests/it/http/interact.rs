//! Interactions with a scraped page where clients trip over a server.

use std::time::Duration;

use axum::http::Method;
use serde_json::json;

use super::{created, http, path};
use crate::http_client::Http;
use crate::leaks::eventually;
use crate::outcomes::runs;
use crate::shared::site;

/// Scrapes a page of the site; where it is interacted with.
pub(super) async fn scraped(http: &Http, page: &str) -> String {
    let body = json!({ "url": site().url(page) });
    let reply = http.post("/v2/scrape", &body).await.good();
    let id = reply["data"]["metadata"]["scrapeId"].as_str().unwrap();
    format!("/v2/scrape/{id}/interact")
}

#[tokio::test]
async fn unknown_keys_are_ignored_and_known_ones_come_before_the_scrape() {
    let http = http();
    let body = json!({
        "url": site().url("/article.html"), "origin": 5, "integration": "mcp", "somethingNew": [1],
        "jsonOptions": { "prompt": "x" }, "screenshotOptions": {}, "maxAge": 14_400_000,
    });
    let reply = http.post("/v2/scrape", &body).await.good();
    let id = reply["data"]["metadata"]["scrapeId"].as_str().unwrap();
    let interact = format!("/v2/scrape/{id}/interact");
    let body =
        json!({ "code": "1 + 1", "origin": 5, "profile": { "name": "a" }, "somethingNew": {} });
    let headers = [("authorization", "Bearer")];
    let ran = http
        .send(Method::POST, &interact, &headers, body.to_string())
        .await
        .good();
    assert_eq!(ran["result"], "2");
    http.delete(&interact).await.good();

    let unknown = "/v2/scrape/01a1fc28-7966-7644-9026-0c4c83e9012b/interact";
    for (body, status) in [
        (json!({ "code": "" }), 400),
        (json!({ "code": "1", "language": "ruby" }), 400),
        (json!({ "code": "1", "timeout": 301 }), 400),
        (json!({ "code": "1", "ttl": 29 }), 400),
        (json!({ "code": "1", "activityTtl": 9 }), 400),
        // Bytes count, not characters.
        (json!({ "code": "é".repeat(50_001) }), 400),
        (json!({ "code": "é".repeat(50_000) }), 404),
        (json!({ "code": "1" }), 404),
    ] {
        http.post(unknown, &body).await.refused(status);
    }
    for (method, path) in [(Method::GET, "/v2/scrape"), (Method::PUT, unknown)] {
        http.send(method, path, &[], "").await.refused(405);
    }
}

/// Clients repeat a request that is answered with 502, or not at all, and its code with it.
#[tokio::test]
async fn code_that_was_started_is_answered_whatever_ends_it() {
    let http = http();
    let interact = scraped(&http, "/").await;
    for (language, code) in [
        (
            "node",
            "process.kill(process.pid, 'SIGKILL'); await new Promise(() => {})",
        ),
        (
            "python",
            "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        ),
        ("bash", "kill -KILL $$"),
    ] {
        let body = json!({ "code": code, "language": language });
        let reply = http.post(&interact, &body).await;
        assert_eq!(
            (reply.status, &reply.json()["exitCode"]),
            (200, &json!(137)),
            "{language}"
        );
        let error = reply.refused(200);
        assert!(!error.is_empty(), "{language}");
        let body = json!({ "code": "await page.title()" });
        let next = http.post(&interact, &body).await.good();
        assert_eq!(next["result"], "Tidewater Almanac", "after {language}");
    }

    let standalone = created(&http).await;
    let execute = format!("{}/execute", path(&standalone));
    for (run, end, seconds, succeeds) in [
        (interact.clone(), interact, "86391", false),
        (execute, path(&standalone), "86392", true),
    ] {
        let call = tokio::spawn({
            let http = http.clone();
            let body =
                json!({ "code": format!("sleep {seconds}"), "language": "bash", "timeout": 300 });
            async move { http.post(&run, &body).await }
        });
        eventually(Duration::from_secs(60), async || {
            runs("sleep", seconds)
                .then_some(())
                .ok_or("nothing sleeps".to_owned())
        })
        .await;
        http.delete(&end).await.good();
        let reply = call.await.unwrap();
        let body = reply.json();
        assert_eq!(
            (reply.status, &body["success"]),
            (200, &json!(succeeds)),
            "{body}"
        );
        assert_eq!(
            (&body["killed"], &body["exitCode"]),
            (&json!(true), &json!(137))
        );
    }
}

#[tokio::test]
async fn a_page_that_was_idle_for_too_long_is_gone_and_not_opened_anew() {
    let http = http();
    let interact = scraped(&http, "/").await;
    let body = json!({ "code": "1", "activityTtl": 10 });
    let session = http.post(&interact, &body).await.good();
    let session = format!("/v2/browser/{}", session["sessionId"].as_str().unwrap());
    eventually(Duration::from_secs(60), async || {
        let found = http.get(&session).await.good();
        (found["status"] == "stopped")
            .then_some(())
            .ok_or(found.to_string())
    })
    .await;
    for _ in 0..2 {
        let late = http.post(&interact, &json!({ "code": "1" })).await;
        assert_eq!(late.refused(410), "Browser session has been destroyed.");
    }
    let stopped = http.delete(&interact).await.good();
    assert_eq!(
        stopped,
        json!({ "success": true, "status": "stopped", "creditsBilled": 2 })
    );
}

/// A client's own time may be over while its first call still makes a session of the page.
#[tokio::test]
async fn a_first_call_that_is_given_up_leaves_the_page_as_it_was() {
    let http = http();
    let interact = scraped(&http, "/").await;
    for wait in [1, 20, 200] {
        let body = json!({ "code": "await new Promise(() => {})", "timeout": 300 });
        let call = http.post(&interact, &body);
        let given_up = tokio::time::timeout(Duration::from_millis(wait), call).await;
        assert!(given_up.is_err(), "it has no end: {given_up:?}");
    }
    let body = json!({ "code": "JSON.stringify([context.pages().length, await page.title()])" });
    let reply = http.post(&interact, &body).await.good();
    assert_eq!(reply["result"], r#"[1,"Tidewater Almanac"]"#);
    let stopped = http.delete(&interact).await.good();
    assert!(stopped["sessionDurationMs"].is_u64(), "{stopped}");
}
