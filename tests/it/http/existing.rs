//! A scrape that goes on in a session its caller had before.

use axum::http::Method;
use serde_json::{Value, json};

use super::interact::scraped;
use super::{created, execute, http, path};
use crate::daemon::Daemon;
use crate::http_client::{Http, Reply};
use crate::keys::key;
use crate::shared::{binary, site};

fn in_session(id: &Value, code: &str) -> Value {
    json!({ "code": code, "existingSessionId": id })
}

#[tokio::test]
async fn the_page_is_loaded_in_the_session_which_is_the_scrapes_from_then_on() {
    let http = http();
    let session = created(&http).await;
    execute(&http, &session, "node", "globalThis.mine = 42").await;
    let interact = scraped(&http, "/article.html").await;
    let code = "JSON.stringify([mine, context.pages().length, await page.title()])";
    let first = in_session(&session["id"], code);
    let reply = http.post(&interact, &first).await.good();
    assert_eq!(reply["result"], r#"[42,1,"How a tide table is made"]"#);
    assert_eq!(reply["sessionId"], session["id"]);
    assert_eq!(reply["cdpUrl"], session["cdpUrl"]);
    let code = "await page.goto('about:blank'); mine";
    // The second one does not ask for it, and finds what the first one left.
    for body in [json!({ "code": code }), in_session(&session["id"], "mine")] {
        let reply = http.post(&interact, &body).await.good();
        assert_eq!(reply["result"], "42");
        assert_eq!(reply["sessionId"], session["id"]);
    }
    let url = execute(&http, &session, "node", "page.url()").await;
    assert_eq!(url["result"], "about:blank");
    let stopped = http.delete(&interact).await.good();
    assert!(stopped["sessionDurationMs"].is_u64(), "{stopped}");
    let found = http.get(&path(&session)).await.good();
    assert_eq!(found["status"], "stopped");
    let late = http.post(&interact, &first).await;
    assert_eq!(late.refused(410), "Browser session has been destroyed.");
}

#[tokio::test]
async fn a_session_that_is_not_there_leaves_the_scrape_as_it_was() {
    let http = http();
    let ended = created(&http).await;
    http.delete(&path(&ended)).await.good();
    let interact = scraped(&http, "/article.html").await;
    let unknown = json!("00000000-0000-7000-8000-000000000000");
    for (id, status, text) in [
        (&json!("mine"), 400, "existingSessionId is not a UUID"),
        (&unknown, 404, "Browser session not found."),
        (&ended["id"], 410, "Browser session has been destroyed."),
    ] {
        let reply = http.post(&interact, &in_session(id, "1")).await;
        assert_eq!(reply.refused(status), text);
    }
    http.delete(&interact).await.refused(404);
    let body = json!({ "code": "await page.title()" });
    let reply = http.post(&interact, &body).await.good();
    assert_eq!(reply["result"], "How a tide table is made");
    http.delete(&interact).await.good();
}

#[tokio::test]
async fn a_session_of_somebody_else_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let [ada, bob] = ["ada", "bob"].map(|name| {
        let key = key(&data_dir, &["create", "--tenant", name]);
        format!("Bearer {key}")
    });
    let place = [("PAGEBOX_DATA_DIR", data_dir.to_str().unwrap())];
    let daemon = Daemon::start_in(binary(), "", &["--host-loopback", "*"], &place);
    let http = Http::new(&daemon.url());
    let post = async |who: &str, path: &str, body: Value| -> Reply {
        let headers = [("authorization", who)];
        let body = body.to_string();
        http.send(Method::POST, path, &headers, body).await
    };
    let session = post(&ada, "/v2/browser", json!({})).await.good();
    let page = json!({ "url": site().url("/") });
    let document = post(&bob, "/v2/scrape", page).await.good();
    let id = document["data"]["metadata"]["scrapeId"].as_str().unwrap();
    let interact = format!("/v2/scrape/{id}/interact");
    let body = in_session(&session["id"], "1");
    let reply = post(&bob, &interact, body.clone()).await;
    assert_eq!(reply.refused(403), "Forbidden.");
    assert_eq!(post(&ada, &interact, body).await.refused(403), "Forbidden.");
}
