//! Many callers at once, and bodies and results as large as they may be.

use std::time::{Duration, Instant};

use axum::http::Method;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::interact::scraped;
use super::{created, execute, http, path};
use crate::concurrency::back_to;
use crate::daemon::Daemon;
use crate::http_client::{Http, Reply};
use crate::leaks::holdings;
use crate::shared::{binary, daemon, site};

const CALLERS: usize = 32;
/// How long a caller may be told to come back again: many times what all of them take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Largest body that is taken.
const LARGEST: usize = 10 << 20;
const TITLE: &str = "How a tide table is made";

/// Asks until it is more than "too many at once", after the time that such a reply names; counts those.
async fn patiently(mut ask: impl AsyncFnMut() -> Reply, refusals: &mut usize) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reply = ask().await;
        if reply.status != 429 {
            return reply.good();
        }
        let text = reply.refused(429);
        assert!(
            Instant::now() < deadline,
            "after {PATIENCE:?} still: {text}"
        );
        let after = reply.header("retry-after").expect("429 says when to retry");
        let after: u64 = after.parse().expect("in seconds");
        assert!((1..=60).contains(&after), "{after}");
        *refusals += 1;
        tokio::time::sleep(Duration::from_secs(after)).await;
    }
}

/// Scrapes a page, runs code on it, ends it; how often it was told to come back.
async fn scrape_and_interact(http: &Http, number: usize) -> usize {
    let mut refusals = 0;
    let scrape = json!({ "url": site().url("/article.html"), "timeout": 120_000 });
    let ask = async || http.post("/v2/scrape", &scrape).await;
    let scraped = patiently(ask, &mut refusals).await;
    let id = scraped["data"]["metadata"]["scrapeId"].as_str().unwrap();
    let interact = format!("/v2/scrape/{id}/interact");
    let code = json!({ "code": format!("`{number}: ${{await page.title()}}`") });
    let ran = patiently(async || http.post(&interact, &code).await, &mut refusals).await;
    assert_eq!(ran["result"], format!("{number}: {TITLE}"));
    http.delete(&interact).await.good();
    refusals
}

/// Lets all callers come at once to a daemon with four places; how often they were told to come back.
/// Nothing of it is left.
async fn crowd(config: &str) -> usize {
    let config = format!("[session]\nmax_sessions = 4\n{config}");
    let daemon = Daemon::start(binary(), &config);
    // What is made once and kept is made by the first.
    scrape_and_interact(&Http::new(&daemon.url()), 0).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = holdings(daemon.pid(), &daemon.temporary());
    let http = Http::new(&daemon.url());
    let callers = (0..CALLERS).map(|number| scrape_and_interact(&http, number));
    let refusals = join_all(callers).await.iter().sum();
    let listed = http.get("/v2/browser?status=active").await.good();
    assert_eq!(listed["sessions"], json!([]));
    // And with it its connections.
    drop(http);
    back_to(&daemon, &before).await;
    refusals
}

#[tokio::test]
async fn callers_at_once_are_told_when_to_come_back_and_then_served() {
    assert_ne!(crowd("").await, 0, "there was room for all");
}

#[tokio::test]
async fn callers_at_once_wait_for_their_turn_where_that_is_configured() {
    assert_eq!(crowd("[tenant]\nwait = \"100s\"\n").await, 0);
}

#[tokio::test]
async fn more_code_on_one_page_than_may_wait_is_told_when_to_come_back() {
    let http = http();
    let interact = scraped(&http, "/article.html").await;
    let one = async |number: usize| {
        let code = format!("await new Promise((done) => setTimeout(done, 100)); {number}");
        let body = json!({ "code": code });
        let mut refusals = 0;
        let ran = patiently(async || http.post(&interact, &body).await, &mut refusals).await;
        assert_eq!(ran["result"], number.to_string());
        refusals
    };
    let refusals: usize = join_all((0..CALLERS).map(one)).await.iter().sum();
    assert_ne!(refusals, 0, "all could wait");
    http.delete(&interact).await.good();
}

/// A body of exactly so many bytes.
fn padded(mut body: Value, bytes: usize) -> String {
    body["padding"] = json!("");
    let rest = bytes - body.to_string().len();
    body["padding"] = json!("x".repeat(rest));
    let body = body.to_string();
    assert_eq!(body.len(), bytes);
    body
}

/// The answer to a client that looks for it only when all is sent, as Python's do.
async fn sent_whole(path: &str, body: &str) -> String {
    let exchange = async {
        let mut socket = TcpStream::connect(daemon().address()).await.unwrap();
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        for part in [&*head, body] {
            let sent = socket.write_all(part.as_bytes()).await;
            sent.expect("the daemon takes all of it");
        }
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = tokio::time::timeout(Duration::from_secs(120), exchange).await;
    answer.expect("an answer in time")
}

#[tokio::test]
async fn bodies_are_taken_up_to_ten_mebibytes_and_refused_beyond() {
    let http = http();
    let session = created(&http).await;
    let interact = scraped(&http, "/article.html").await;
    let execute = format!("{}/execute", path(&session));
    let code = json!({ "code": "6 * 7" });
    let scrape = json!({ "url": site().url("/article.html") });
    let post = async |path: &str, body: &Value, bytes| {
        http.send(Method::POST, path, &[], padded(body.clone(), bytes))
            .await
    };
    for (path, body) in [
        (&*execute, &code),
        (&*interact, &code),
        ("/v2/scrape", &scrape),
    ] {
        let taken = post(path, body, LARGEST).await.good();
        assert!(
            taken["result"] == "42" || taken["data"]["metadata"]["title"] == TITLE,
            "{path} {taken}"
        );
        let text = post(path, body, LARGEST + 1).await.refused(413);
        assert_eq!(text, "the body is larger than 10 MiB", "{path}");
        let answer = sent_whole(path, &padded(body.clone(), 6 * LARGEST)).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{path} {answer}");
        assert!(answer.contains(&text), "{path} {answer}");
    }
    http.delete(&interact).await.good();
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn results_of_twenty_megabytes_pass_in_every_language_and_at_once() {
    const BYTES: usize = 20 * 1000 * 1000;
    let http = http();
    let session = created(&http).await;
    let interact = scraped(&http, "/article.html").await;
    let node = format!("'é'.repeat({})", BYTES / 2);
    let python = format!("'é' * {}", BYTES / 2);
    let on_the_page = async |language: &str, code: &str| {
        let body = json!({ "code": code, "language": language });
        http.post(&interact, &body).await.good()
    };
    let all = tokio::join!(
        execute(&http, &session, "node", &node),
        execute(&http, &session, "python", &python),
        on_the_page("node", &node),
        on_the_page("python", &python),
    );
    for ran in [all.0, all.1, all.2, all.3] {
        let result = ran["result"].as_str().unwrap();
        assert_eq!((result.len(), &ran["truncated"]), (BYTES, &json!(false)));
        assert!(result.chars().all(|character| character == 'é'));
    }
    http.delete(&interact).await.good();
    http.delete(&path(&session)).await.good();
}
