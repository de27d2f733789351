//! Closed addresses written in every odd way there is, by pages, by code, and by hand to the proxy.

use super::clients::{curl, goto, raw, urllib};
use super::world::{nothing_closed_was_reached, world};
use crate::client::OpenSession;
use crate::internet::PUBLIC_V4;
use pagebox::grpc::v1::SessionOptions;

/// Spellings of 10.0.0.5, 169.254.169.254 and addresses that lead there.
const CLOSED: [&str; 34] = [
    "167772165",
    "0xa000005",
    "0x0a.0.0.0x5",
    "012.0.0.05",
    "01200000005",
    "10.5",
    "10.0.5",
    "10.0.0.5.",
    "%31%30.0.0.5",
    "10%2E0%2E0%2E5",
    "\u{ff11}\u{ff10}.0.0.5",
    "10\u{3002}0\u{3002}0\u{3002}5",
    "\u{2460}\u{24ea}.0.0.5",
    "2852039166",
    "0xa9fea9fe",
    "0xA9.0xFE.0xA9.0xFE",
    "0251.0376.0251.0376",
    "169.254.43518",
    "169.254.169.254.",
    "[::ffff:10.0.0.5]",
    "[::ffff:a00:5]",
    "[0:0:0:0:0:ffff:0a00:0005]",
    "[::10.0.0.5]",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::10.0.0.5]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[2002:a00:5::]",
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    "[FD00::5]",
    "[fd00:0:0:0:0:0:0:5]",
    "private.example.",
    "PRIVATE.Example",
];

/// Spellings of loopback and "this host", where the host has traps on :80.
const LOOPBACK: [&str; 17] = [
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "127.1",
    "127.0.0.1.",
    "127.255.255.254",
    "%31%32%37.0.0.1",
    "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
    "0",
    "0.0.0.0",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[0:0:0:0:0:0:0:1]",
    "localhost.",
    "LOCALHOST",
    "x.localhost",
];

#[tokio::test]
async fn odd_spellings_of_closed_addresses_are_refused_to_page_and_code() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    let urls: Vec<String> = CLOSED
        .iter()
        .map(|host| format!("http://{host}/odd"))
        .collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    for (url, line) in urls.iter().zip(goto(&session, &urls).await) {
        assert!(line.starts_with("403 "), "page, {url}: {line}");
    }
    // Some of these are no host at all to curl or urllib: then there is nothing to refuse.
    let (curl, urllib) = (curl(&session, &urls).await, urllib(&session, &urls).await);
    for (client, said) in [("curl", curl), ("urllib", urllib)] {
        let refused = said.iter().filter(|line| line.starts_with("403 ")).count();
        assert!(refused > CLOSED.len() / 2, "{client}: {said:?}");
        for (url, line) in urls.iter().zip(said) {
            let closed = ["403 ", "400", "failed: "].iter();
            let closed = closed.clone().any(|start| line.starts_with(start));
            assert!(closed, "{client}, {url}: {line}");
        }
    }
    session.stop().await;
    assert!(world.sites().of_request("/odd").is_empty());
    nothing_closed_was_reached(world);
}

#[tokio::test]
async fn odd_spellings_of_loopback_reach_nothing_of_the_host() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    let urls: Vec<String> = LOOPBACK
        .iter()
        .map(|host| format!("http://{host}/odd-loop"))
        .collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let page = goto(&session, &urls).await;
    let by_hand: Vec<String> = LOOPBACK.iter().flat_map(|host| requests(host)).collect();
    let code = raw(&session, &by_hand).await;
    for line in page.iter().chain(&code) {
        assert!(!line.starts_with("200"), "{page:?} {code:?}");
    }
    session.stop().await;
    nothing_closed_was_reached(world);
}

/// Absolute form and CONNECT.
fn requests(host: &str) -> [String; 2] {
    [
        format!(
            "GET http://{host}/written HTTP/1.1\r\nHost: v4.example\r\nConnection: close\r\n\r\n"
        ),
        format!("CONNECT {host}:443 HTTP/1.1\r\nHost: v4.example:443\r\n\r\n"),
    ]
}

#[tokio::test]
async fn odd_spellings_written_by_hand_are_refused_by_the_proxy() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    let written: Vec<String> = CLOSED.iter().flat_map(|host| requests(host)).collect();
    for (request, line) in written.iter().zip(raw(&session, &written).await) {
        let ok = line.starts_with("403 ") || line == "400";
        assert!(ok, "{request}: {line}");
    }
    // The same two requests work where they may.
    let open = raw(&session, &requests("V4.Example.")).await;
    assert_eq!(open[0], "200", "{open:?}");
    session.stop().await;
    nothing_closed_was_reached(world);
}

/// Requests whose parts disagree about where they go: the one that counts is the one checked.
#[tokio::test]
async fn what_a_request_says_besides_its_target_changes_nothing() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    let close = "Connection: close\r\n\r\n";
    let expected = [
        // Host never decides, and what arrives names the target.
        (
            format!("GET http://v4.example/by-hand-host HTTP/1.1\r\nHost: 10.0.0.5\r\n{close}"),
            "200",
        ),
        (
            format!("GET http://10.0.0.5/by-hand HTTP/1.1\r\nHost: v4.example\r\n{close}"),
            "403 private-use 10.0.0.0/8",
        ),
        (
            format!(
                "GET http://v4.example@10.0.0.5/by-hand HTTP/1.1\r\nHost: v4.example\r\n{close}"
            ),
            "400",
        ),
        (
            format!(
                "GET http://10.0.0.5@v4.example/by-hand HTTP/1.1\r\nHost: v4.example\r\n{close}"
            ),
            "400",
        ),
        (
            format!(
                "GET http://10.0.0.5\\@v4.example/by-hand HTTP/1.1\r\nHost: v4.example\r\n{close}"
            ),
            "400",
        ),
        (
            format!(
                "GET http://10.0.0.5#@v4.example/by-hand HTTP/1.1\r\nHost: v4.example\r\n{close}"
            ),
            "403 private-use 10.0.0.0/8",
        ),
        (
            format!(
                "GET http://10.0.0.5?@v4.example/by-hand HTTP/1.1\r\nHost: v4.example\r\n{close}"
            ),
            "403 private-use 10.0.0.0/8",
        ),
        (
            format!("GET /by-hand HTTP/1.1\r\nHost: 10.0.0.5\r\n{close}"),
            "400",
        ),
        (
            format!("GET ftp://v4.example/by-hand HTTP/1.1\r\nHost: v4.example\r\n{close}"),
            "400",
        ),
        (
            format!("GET https://v4.example/by-hand HTTP/1.1\r\nHost: v4.example\r\n{close}"),
            "400",
        ),
        (
            "CONNECT v4.example@10.0.0.5:443 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "CONNECT 10.0.0.5:443:443 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "CONNECT 10.0.0.5 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "CONNECT v4.example:0 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "CONNECT http://v4.example:443 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "400",
        ),
        // A connection that was let through once is asked about again.
        (
            format!(
                "GET http://v4.example/by-hand-kept HTTP/1.1\r\nHost: x\r\n\r\n\
                 GET http://10.0.0.5/by-hand HTTP/1.1\r\nHost: v4.example\r\n{close}"
            ),
            "200 | 403 private-use 10.0.0.0/8",
        ),
        // What a server takes for the body must not be a request to the proxy's host.
        (
            format!(
                "POST http://v4.example/by-hand-post HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\
                 Transfer-Encoding: chunked\r\n{close}0\r\n\r\nGET http://10.0.0.5/by-hand HTTP/1.1\r\n\r\n"
            ),
            "",
        ),
    ];
    let written: Vec<String> = expected
        .iter()
        .map(|(request, _)| request.clone())
        .collect();
    let said = raw(&session, &written).await;
    for ((request, expected), line) in expected.iter().zip(&said) {
        if expected.is_empty() {
            assert!(!line.contains("200 | 200"), "{request}: {line}");
        } else {
            assert_eq!(line, expected, "{request}");
        }
    }
    let hosts: Vec<String> = world
        .sites()
        .all()
        .into_iter()
        .filter_map(|arrival| match arrival {
            crate::internet::Arrival::Request { host, path, .. } if path == "/by-hand-host" => {
                Some(host)
            }
            _ => None,
        })
        .collect();
    assert_eq!(hosts, ["v4.example"]);
    assert!(
        world
            .sites()
            .of_request("/by-hand")
            .iter()
            .all(|to| to.ip().to_string() == PUBLIC_V4)
    );
    session.stop().await;
    nothing_closed_was_reached(world);
}

/// A session that starts on a closed page opens, on the refusal.
#[tokio::test]
async fn a_start_url_in_an_odd_spelling_is_refused_by_its_rule() {
    let Some(world) = world() else { return };
    for host in [
        "0xa9fea9fe",
        "10.5",
        "[::ffff:10.0.0.5]",
        "\u{ff11}\u{ff10}.0.0.5",
    ] {
        let options = SessionOptions {
            start_url: format!("http://{host}/start"),
            ..SessionOptions::default()
        };
        let session = world.client().create(options).await.unwrap();
        let said = &session.start_error;
        assert!(said.contains("refused by rule"), "{host}: {said}");
        let session = OpenSession::new(world.client(), session.id);
        let text = session.node("await page.textContent('body')").await;
        assert!(
            text.starts_with("pagebox: refused by rule"),
            "{host}: {text}"
        );
        session.stop().await;
    }
    assert!(world.sites().of_request("/start").is_empty());
    nothing_closed_was_reached(world);
}
