//! Web pages against the daemon: by Origin, by Host, and from a real browser.

use std::time::Duration;

use axum::http::Method;
use serde_json::json;
use tokio::process::Command;

use super::{created, http, path};
use crate::daemon::Daemon;
use crate::http_client::Http;
use crate::shared::{binary, daemon, site};

const LISTED: &str = "https://app.example.com";

#[tokio::test]
async fn foreign_origins_and_hosts_are_refused_everywhere() {
    let http = http();
    let own = daemon().url();
    for target in [
        "/",
        "/health",
        "/v2/browser",
        "/openapi.json",
        "/v2/nothing",
    ] {
        for origin in [
            "https://evil.example",
            "null",
            "http://localhost:1",
            "file://",
            "",
        ] {
            let headers = [("origin", origin)];
            http.send(Method::GET, target, &headers, "")
                .await
                .refused(403);
            http.send(Method::OPTIONS, target, &headers, "")
                .await
                .refused(403);
        }
        for host in [
            "evil.example",
            "localhost.evil.example:80",
            "10.0.0.1",
            "[::2]",
        ] {
            let headers = [("host", host)];
            let error = http
                .send(Method::GET, target, &headers, "")
                .await
                .refused(403);
            assert!(error.contains("http.public_url"), "{error}");
            // As a rebound page sends it: its own origin is the daemon's address.
            let origin = format!("http://{host}");
            let headers = [("host", host), ("origin", origin.as_str())];
            http.send(Method::POST, target, &headers, "{}")
                .await
                .refused(403);
        }
        let forwarded = [("x-forwarded-host", "localhost"), ("host", "evil.example")];
        http.send(Method::GET, target, &forwarded, "")
            .await
            .refused(403);
    }
    let port = daemon().address().port();
    for host in [
        "localhost",
        &format!("LOCALHOST:{port}"),
        "127.0.0.1:1",
        "[::1]",
    ] {
        let reply = http
            .send(Method::GET, "/health", &[("host", host)], "")
            .await;
        assert_eq!(reply.status, 200, "{host}");
    }
    let same = [("origin", own.as_str())];
    http.send(Method::GET, "/health", &same, "").await.good();
}

#[tokio::test]
async fn listed_origins_may_call_and_the_public_url_names_the_daemon() {
    let config = format!(
        "[http]\npublic_url = \"https://pagebox.example.com\"\ncors_origins = [\"{LISTED}\"]\n"
    );
    let daemon = Daemon::start(binary(), &config);
    let http = Http::new(&daemon.url());
    let preflight = [
        ("origin", LISTED),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "authorization,content-type",
        ),
        ("access-control-request-private-network", "true"),
    ];
    let reply = http
        .send(Method::OPTIONS, "/v2/browser", &preflight, "")
        .await;
    assert_eq!(reply.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", LISTED),
        ("access-control-allow-methods", "GET, POST, DELETE"),
        ("access-control-allow-headers", "authorization,content-type"),
        ("access-control-allow-private-network", "true"),
        ("vary", "origin"),
    ] {
        assert_eq!(reply.header(name), Some(value), "{name}");
    }
    let headers = [("origin", LISTED), ("host", "pagebox.example.com")];
    let reply = http.send(Method::POST, "/v2/browser", &headers, "").await;
    assert_eq!(reply.header("access-control-allow-origin"), Some(LISTED));
    let session = reply.good();
    let cdp = session["cdpUrl"].as_str().unwrap();
    assert!(cdp.starts_with("wss://pagebox.example.com/cdp/"), "{cdp}");
    // Errors too, so that the page can read them; and its WebSockets are refused all the same.
    let reply = http.send(Method::GET, "/v2/browser/x", &headers, "").await;
    assert_eq!(reply.header("access-control-allow-origin"), Some(LISTED));
    reply.refused(400);
    let cdp = cdp.trim_start_matches("wss://pagebox.example.com");
    http.send(Method::GET, cdp, &headers, "").await.refused(403);
    let other = [("origin", "https://app.example.com.evil.example")];
    let reply = http.send(Method::GET, "/health", &other, "").await;
    assert_eq!(reply.header("access-control-allow-origin"), None);
    reply.refused(403);
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn only_trusted_proxies_say_by_which_url_they_were_reached() {
    let forwarded = [("forwarded", "for=1.2.3.4;proto=https;host=localhost:8443")];
    let http = http();
    let plain = http
        .send(Method::POST, "/v2/browser", &forwarded, "")
        .await
        .good();
    let start = |url: &serde_json::Value| {
        url.as_str()
            .unwrap()
            .split("/cdp/")
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(start(&plain["cdpUrl"]), format!("ws://{}", http.host()));
    http.delete(&path(&plain)).await.good();

    let daemon = Daemon::start(binary(), "[http]\ntrusted_proxies = [\"127.0.0.0/8\"]\n");
    let http = Http::new(&daemon.url());
    let session = http
        .send(Method::POST, "/v2/browser", &forwarded, "")
        .await
        .good();
    assert_eq!(start(&session["cdpUrl"]), "wss://localhost:8443");
    let legacy = [("x-forwarded-proto", "https")];
    let listed = http
        .send(Method::GET, "/v2/browser", &legacy, "")
        .await
        .good();
    assert_eq!(
        start(&listed["sessions"][0]["cdpUrl"]),
        format!("wss://{}", http.host())
    );
    let evil = [("x-forwarded-host", "evil.example")];
    http.send(Method::GET, "/v2/browser", &evil, "")
        .await
        .refused(403);
}

/// What a Chromium of this machine, outside of any sandbox of the daemon's, shows of a page.
async fn shown(url: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let run = Command::new("chromium-headless-shell")
        .args(["--no-sandbox", "--dump-dom", "--disable-gpu"])
        .arg("--host-resolver-rules=MAP *.example 127.0.0.1")
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .kill_on_drop(true)
        .output();
    let done = tokio::time::timeout(Duration::from_secs(120), run).await;
    let done = done.expect("it ends").expect("Chromium runs");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).unwrap()
}

#[tokio::test]
async fn a_real_page_gets_nowhere() {
    let daemon = Daemon::start(binary(), "");
    let http = Http::new(&daemon.url());
    let session = created(&http).await;
    let target = daemon.url();
    let cdp = session["cdpUrl"].as_str().unwrap();
    let query: String = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("target", &target)
        .append_pair("cdp", cdp)
        .finish();
    // The page's own requests first: that it can do all this, where it is let.
    let seen = shown(&format!("{}?{query}", site().url("/driveby.html"))).await;
    for expected in [
        "own: 200",
        "get: refused",
        "post: refused",
        "blind: opaque",
        "json: refused",
        "delete: refused",
        "socket: refused",
        "own socket: open",
    ] {
        assert!(
            seen.contains(&format!("<li>{expected}</li>")),
            "{expected}\n{seen}"
        );
    }
    // A name that leads to the daemon now, as DNS rebinding has it.
    let port = daemon.address().port();
    let page = shown(&format!("http://evil.example:{port}/v2/browser")).await;
    assert!(
        page.contains("names a host that is not this daemon"),
        "{page}"
    );

    let all = http.get("/v2/browser").await.good();
    let ids: Vec<_> = all["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["id"])
        .collect();
    assert_eq!(ids, [&session["id"]], "no page opened a session");
    let found = http.get(&path(&session)).await.good();
    assert_eq!(found["status"], json!("running"), "no page ended one");
    http.delete(&path(&session)).await.good();
}
