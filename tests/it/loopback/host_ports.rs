//! Ports of `host_loopback`: the host's in the page, and in code with and without the proxy.

use pagebox::grpc::v1::{GetSessionRequest, Language, NetworkSource, NetworkVerdict};

use super::{by_proxy, nothing, until_up, visit};
use crate::client::Client;
use crate::daemon::Daemon;
use crate::shared::{binary, site};
use crate::site::Site;

#[tokio::test]
async fn a_named_port_is_the_hosts_for_page_and_code() {
    let unnamed = Site::start().await.unwrap();
    let port = site().port();
    let named = ["--host-loopback", &port.to_string()];
    let daemon = Daemon::start_with(binary(), "", &named);
    let session = Client::new(&daemon.url()).open("about:blank").await;
    let url = format!("http://localhost:{port}/search?q=quay");
    let title = "Results for quay";

    let page = session
        .node(&format!("await page.goto('{url}'); await page.title()"))
        .await;
    assert_eq!(page, title);
    for (name, code) in [
        ("curl", format!("curl -sS '{url}'")),
        (
            "curl by address",
            format!("curl -sS '{}'", url.replace("localhost", "127.0.0.1")),
        ),
        (
            "curl by proxy",
            format!("curl -sS --noproxy '' --proxy $http_proxy '{url}'"),
        ),
    ] {
        assert!(session.bash(&code).await.contains(title), "{name}");
    }
    for (name, code) in [
        ("fetch", format!("await (await fetch('{url}')).text()")),
        (
            "page.request",
            format!("await (await page.request.get('{url}')).text()"),
        ),
    ] {
        assert!(session.node(&code).await.contains(title), "{name}");
    }
    for (name, code) in [
        (
            "urllib",
            format!(
                "import asyncio, urllib.request; (await asyncio.to_thread(urllib.request.urlopen, '{url}')).read().decode()"
            ),
        ),
        (
            "page.request",
            format!("await (await page.request.get('{url}')).text()"),
        ),
    ] {
        assert!(session.python(&code).await.contains(title), "{name}");
    }

    // Each of them is a request of who made it, by the proxy or not.
    let request = GetSessionRequest {
        session_id: session.id.clone(),
    };
    let reply = session.client().sessions().get_session(request).await;
    let logged = reply.unwrap().into_inner().network_requests;
    let of = |source| {
        logged
            .iter()
            .filter(move |request| request.source() == source)
    };
    assert!(of(NetworkSource::Browser).count() >= 1, "{logged:?}");
    // curl three times, and two ways in either language.
    assert_eq!(of(NetworkSource::Code).count(), 7, "{logged:?}");
    for request in &logged {
        assert_eq!(request.verdict(), NetworkVerdict::Allowed, "{request:?}");
        assert_eq!(request.port, u32::from(port), "{request:?}");
        assert_eq!(request.address, "127.0.0.1", "{request:?}");
    }

    // The port is taken inside, and the one beside it on the host is not there.
    let bind = format!("import socket; socket.create_server(('127.0.0.1', {port}))");
    let taken = session.exec(Language::Python, &bind).await;
    assert!(
        taken.stderr.contains("Address already in use"),
        "{}",
        taken.stderr
    );
    let other = unnamed.port();
    let seen = visit(&session, &format!("http://localhost:{other}/")).await;
    assert!(seen.starts_with(&nothing(other)), "{seen}");
    let curl = format!("curl -sS http://localhost:{other}/");
    let refused = session.exec(Language::Bash, &curl).await;
    assert_eq!(refused.exit_code, 7, "{}", refused.stderr);
    // Its own servers are beside it.
    session
        .bash(&format!("python3 -m http.server 8000 & {}", until_up(8000)))
        .await;
    let seen = visit(&session, "http://localhost:8000/").await;
    assert!(seen.starts_with("200 Directory listing"), "{seen}");
    session.stop().await;
}

#[tokio::test]
async fn a_denied_port_is_closed_on_every_way() {
    let port = site().port();
    let config = format!("[egress]\nhost_loopback = [\"{port}\"]\ndeny = [\"localhost:{port}\"]\n");
    let daemon = Daemon::start_with(binary(), &config, &[]);
    let session = Client::new(&daemon.url()).open("about:blank").await;
    let url = format!("http://localhost:{port}/");
    let seen = visit(&session, &url).await;
    assert!(
        seen.starts_with(&format!(
            "403 pagebox: refused by rule \"deny localhost:{port}\""
        )),
        "{seen}"
    );
    assert_eq!(by_proxy(&session, &url).await, "000 403");
    let refused = session
        .exec(Language::Bash, &format!("curl -sS {url}"))
        .await;
    assert_eq!(refused.exit_code, 7, "{}", refused.stderr);
    session.stop().await;
}

/// With every port of the host there is no port left to listen on for each; code asks the proxy.
#[tokio::test]
async fn with_every_port_code_reaches_the_host_by_the_proxy_only() {
    let daemon = Daemon::start_with(binary(), "", &["--host-loopback", "*"]);
    let session = Client::new(&daemon.url()).open("about:blank").await;
    let url = site().url("/about.html");
    assert!(visit(&session, &url).await.starts_with("200 "));
    assert_eq!(by_proxy(&session, &url).await, "000 200");
    let direct = session
        .exec(Language::Bash, &format!("curl -sS {url}"))
        .await;
    assert_eq!(direct.exit_code, 7, "{}", direct.stderr);
    let end = ".then(() => 'reached', () => 'refused')";
    for ask in ["fetch", "page.request.get"] {
        let code = format!("await {ask}('{url}'){end}");
        assert_eq!(session.node(&code).await, "refused", "{ask}");
    }
    session.stop().await;
}
