//! `cdpUrl` with the clients that use it.

use std::path::Path;
use std::time::Duration;

use axum::http::Method;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{created, execute, http, path};
use crate::daemon::Daemon;
use crate::http_client::Http;
use crate::leaks::eventually;
use crate::shared::{binary, daemon, site};

fn cdp_url(session: &Value) -> &str {
    session["cdpUrl"].as_str().expect("a URL")
}

/// The part of a WebSocket URL that HTTP clients ask for.
fn cdp_path(session: &Value) -> String {
    let url = url::Url::parse(cdp_url(session)).unwrap();
    format!("{}?{}", url.path(), url.query().unwrap())
}

async fn connect(url: &str, origin: Option<&str>) -> Result<WebSocketStream<TcpStream>, Error> {
    let mut request = url.into_client_request().unwrap();
    if let Some(origin) = origin {
        request
            .headers_mut()
            .insert("origin", origin.parse().unwrap());
    }
    let stream = TcpStream::connect(request.uri().authority().unwrap().as_str()).await?;
    let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
    Ok(socket)
}

async fn status_of(url: &str, origin: Option<&str>) -> u16 {
    match connect(url, origin).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("{other:?}"),
    }
}

/// Sends one command and waits for its answer.
async fn command(socket: &mut WebSocketStream<TcpStream>, method: &str) -> Value {
    let request = json!({ "id": 7, "method": method }).to_string();
    socket.send(Message::text(request)).await.unwrap();
    loop {
        let Message::Text(text) = socket.next().await.unwrap().unwrap() else {
            continue;
        };
        let answer: Value = serde_json::from_str(&text).unwrap();
        if answer["id"] == 7 {
            return answer;
        }
    }
}

/// Runs a script of node with Playwright, outside of any sandbox; what it printed.
async fn playwright(url: &str, script: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let whole = format!(
        "const {{ chromium }} = require('./runners/node/node_modules/playwright-core');\n\
         (async () => {{ const url = process.env.CDP; {script} }})()\n\
         .catch((error) => {{ console.error(error); process.exit(1); }});"
    );
    let run = Command::new("node")
        .args(["-e", &whole])
        .env("CDP", url)
        .current_dir(root)
        .kill_on_drop(true)
        .output();
    let done = tokio::time::timeout(Duration::from_secs(120), run).await;
    let done = done.expect("the script ends").expect("node runs");
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{script}\n{stderr}");
    String::from_utf8(done.stdout).unwrap()
}

#[tokio::test]
async fn playwright_connects_by_both_kinds_of_url_and_its_close_ends_nothing() {
    let http = http();
    let session = created(&http).await;
    let page = site().url("/");
    let code =
        format!("await page.goto('{page}'); await page.evaluate(() => {{ window.left = 'here' }})");
    execute(&http, &session, "node", &code).await;
    let script = "
        const browsers = await Promise.all([1, 2, 3].map(() => chromium.connectOverCDP(url)));
        const pages = browsers.map((browser) => browser.contexts()[0].pages()[0]);
        for (const page of pages) console.log(await page.title(), await page.evaluate(() => window.left));
        await browsers[0].close();
        console.log(await pages[1].title());
        const raw = await browsers[1].newBrowserCDPSession();
        await raw.send('Browser.close').catch(() => {});
        console.log(await pages[2].title());
        await browsers[2].close();
        process.exit(0);";
    let title = "Tidewater Almanac";
    let expected = format!("{}{title}\n{title}\n", format!("{title} here\n").repeat(3));
    let by_http = cdp_url(&session).replacen("ws://", "http://", 1);
    for url in [cdp_url(&session), &by_http] {
        assert_eq!(playwright(url, script).await, expected);
    }
    let kept = execute(
        &http,
        &session,
        "node",
        "await page.evaluate(() => window.left)",
    )
    .await;
    assert_eq!(kept["result"], "here");
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn messages_of_64_mb_pass_both_ways() {
    let http = http();
    let session = created(&http).await;
    let script = "
        const browser = await chromium.connectOverCDP(url);
        const page = browser.contexts()[0].pages()[0];
        console.log(await page.evaluate((text) => text.length, 'x'.repeat(64 << 20)));
        console.log((await page.evaluate((count) => 'y'.repeat(count), 64 << 20)).length);
        process.exit(0);";
    let lengths = format!("{0}\n{0}\n", 64 << 20);
    assert_eq!(playwright(cdp_url(&session), script).await, lengths);
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn agent_browser_works_by_the_url_and_its_close_ends_nothing() {
    let http = http();
    let session = created(&http).await;
    let page = site().url("/");
    execute(
        &http,
        &session,
        "node",
        &format!("await page.goto('{page}')"),
    )
    .await;
    let home = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("runners/node/node_modules/agent-browser/bin/agent-browser-linux-x64");
    let agent = async |arguments: &[&str]| {
        let run = Command::new(&program)
            .args(["--cdp", cdp_url(&session)])
            .args(arguments)
            .env("HOME", home.path())
            .env("AGENT_BROWSER_SOCKET_DIR", home.path())
            .output();
        let done = tokio::time::timeout(Duration::from_secs(120), run).await;
        let done = done.expect("it ends").expect("it runs");
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{arguments:?}: {text}{stderr}");
        text
    };
    assert_eq!(agent(&["get", "title"]).await.trim(), "Tidewater Almanac");
    assert!(agent(&["snapshot", "-i"]).await.contains("[ref=e1]"));
    agent(&["close"]).await;
    let title = execute(&http, &session, "node", "await page.title()").await;
    assert_eq!(title["result"], "Tidewater Almanac");
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn the_url_is_a_capability_that_ends_with_its_session() {
    let http = http();
    let session = created(&http).await;
    let other = created(&http).await;
    let (url, cdp) = (cdp_url(&session), cdp_path(&session));
    let (bare, token) = url.split_once("?token=").unwrap();
    let (_, foreign) = cdp_url(&other).split_once("?token=").unwrap();
    assert_ne!(token, foreign);
    for wrong in [
        "",
        "?token=",
        &format!("?token={foreign}"),
        &format!("?token={token}x"),
    ] {
        assert_eq!(
            status_of(&format!("{bare}{wrong}"), None).await,
            403,
            "{wrong}"
        );
    }
    let unknown = cdp.replace(
        session["id"].as_str().unwrap(),
        &uuid::Uuid::now_v7().to_string(),
    );
    let asked = cdp.replace(token, foreign);
    // Whether a session is there is not told.
    let (first, second) = (
        http.get(&asked).await.refused(403),
        http.get(&unknown).await.refused(403),
    );
    assert!(first.ends_with("with this token") && second.ends_with("with this token"));
    for origin in ["https://evil.example", "null", &daemon().url()] {
        assert_eq!(status_of(url, Some(origin)).await, 403, "{origin}");
    }
    http.get(&cdp).await.refused(426);
    let version = http
        .get(&cdp.replacen('?', "/json/version?", 1))
        .await
        .json();
    assert_eq!(version["webSocketDebuggerUrl"], url);

    let mut socket = connect(url, None).await.unwrap();
    let version = command(&mut socket, "Browser.getVersion").await;
    assert!(version["result"]["product"].is_string(), "{version}");
    http.delete(&path(&session)).await.good();
    let closed = tokio::time::timeout(Duration::from_secs(20), async {
        while let Some(Ok(_)) = socket.next().await {}
    });
    closed.await.expect("its clients are disconnected");
    assert_eq!(status_of(url, None).await, 410);
    http.get(&cdp).await.refused(410);
    http.delete(&path(&other)).await.good();
}

#[tokio::test]
async fn places_for_clients_are_bounded_and_come_free_again() {
    let daemon = Daemon::start(
        binary(),
        "[cdp]\nmax_clients = 3\n[log]\nfilter = \"debug\"\n",
    );
    let http = Http::new(&daemon.url());
    let session = created(&http).await;
    // One of the three is the node runner's, which is connected once it has run code.
    execute(&http, &session, "node", "1").await;
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let mut socket = connect(cdp_url(&session), None).await.unwrap();
        command(&mut socket, "Browser.getVersion").await;
        sockets.push(socket);
    }
    let mut third = connect(cdp_url(&session), None).await.unwrap();
    let end = third.next().await.unwrap().unwrap();
    assert!(
        matches!(&end, Message::Close(Some(why)) if why.reason.contains("3 clients")),
        "{end:?}"
    );
    drop(sockets);
    eventually(Duration::from_secs(20), async || {
        let mut socket = connect(cdp_url(&session), None).await.unwrap();
        let request = json!({ "id": 1, "method": "Browser.getVersion" }).to_string();
        let sent = socket.send(Message::text(request)).await;
        match (sent, socket.next().await) {
            (Ok(()), Some(Ok(Message::Text(_)))) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    http.get(&cdp_path(&session)).await.refused(426);
    http.delete(&path(&session)).await.good();
    let (_, token) = cdp_url(&session).split_once("token=").unwrap();
    let log = daemon.log();
    assert!(log.contains("route=\"/cdp/{id}\""), "{log}");
    assert!(!log.contains(token), "the token is in the log");
}

#[tokio::test]
async fn commands_of_a_client_keep_a_session_from_being_idle() {
    let http = http();
    let request = json!({ "activityTtl": 10 });
    let session = http.post("/v2/browser", &request).await.good();
    let mut socket = connect(cdp_url(&session), None).await.unwrap();
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        command(&mut socket, "Browser.getVersion").await;
    }
    let found = http.get(&path(&session)).await.good();
    assert_eq!(found["status"], "running");
    // A connection that asks for nothing is not activity.
    eventually(Duration::from_secs(60), async || {
        let found = http.get(&path(&session)).await.good();
        (found["status"] == "stopped")
            .then_some(())
            .ok_or(found.to_string())
    })
    .await;
    let late = http
        .send(
            Method::POST,
            &format!("{}/execute", path(&session)),
            &[],
            r#"{"code":"1"}"#,
        )
        .await;
    assert_eq!(
        late.json()["details"][0]["message"],
        "it was idle for too long"
    );
    assert_eq!(late.refused(410), "Browser session has been destroyed.");
}
