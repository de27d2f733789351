//! What `localhost` never leads to: the daemon's own listeners, other sessions, the host.

use std::time::Duration;

use pagebox::grpc::v1::Language;

use super::{blank, by_proxy, daemon, nothing, until_up, visit};
use crate::client::OpenSession;
use crate::shared::site;

/// CDP, the proxy itself, agent-browser's stream.
const OWN_PORTS: [u16; 3] = [9222, 3128, 9223];

async fn serve(session: &OpenSession, port: u16, text: &str) {
    let code = format!(
        "mkdir -p site-{port}; cd site-{port}; echo '{text}' > index.html; \
         python3 -m http.server {port} & cd ..; {}",
        until_up(port)
    );
    session.bash(&code).await;
}

#[tokio::test]
async fn listeners_of_the_daemon_are_closed_to_pages_and_to_code_by_proxy() {
    let session = blank().await;
    // Starts agent-browser's service.
    assert_eq!(session.bash("agent-browser get url").await, "about:blank");
    // They are there, for code that does not ask the proxy.
    for port in OWN_PORTS {
        let open = format!("exec 3<>/dev/tcp/127.0.0.1/{port} && echo open");
        assert_eq!(session.bash(&open).await, "open", "{port}");
    }
    serve(&session, 9224, "next door").await;
    for name in ["localhost", "127.0.0.1", "[::1]", "a.localhost", "0x7f.1"] {
        for port in OWN_PORTS {
            let url = format!("http://{name}:{port}/json/version");
            let seen = visit(&session, &url).await;
            assert!(
                seen.starts_with("403 pagebox: refused by rule \"protected-port\": "),
                "{url}: {seen}"
            );
            assert_eq!(by_proxy(&session, &url).await, "000 403", "{url}");
            let tunnel = format!("https://{name}:{port}/");
            assert_eq!(by_proxy(&session, &tunnel).await, "403 000", "{tunnel}");
        }
        let open = visit(&session, &format!("http://{name}:9224/")).await;
        assert_eq!(open, "200 next door");
    }
    let socket = "await page.goto('http://localhost:9224/');
                  await page.evaluate((ports) => Promise.all(ports.map((port) => new Promise((end) => {
                    const socket = new WebSocket(`ws://localhost:${port}/`);
                    socket.onopen = () => end('open');
                    socket.onerror = () => end('error');
                  }))), [9222, 3128, 9223])";
    assert_eq!(session.node(socket).await, r#"["error","error","error"]"#);
    session.stop().await;
}

/// A service that finds its port taken takes another one, which nothing would close to pages.
#[tokio::test]
async fn agent_browser_does_not_run_on_a_port_that_pages_could_reach() {
    let session = blank().await;
    let take = "import socket; taken = socket.create_server(('127.0.0.1', 9223))";
    session.good(Language::Python, take).await;
    let refused = session.exec(Language::Bash, "agent-browser get url").await;
    assert_ne!(refused.exit_code, 0, "{}", refused.stdout);
    session.good(Language::Python, "taken.close()").await;
    assert_eq!(session.bash("agent-browser get url").await, "about:blank");
    session.stop().await;
}

#[tokio::test]
async fn each_session_has_a_localhost_of_its_own_and_the_host_has_another() {
    let (one, other) = tokio::join!(blank(), blank());
    // A port of the host that is in use there, by the fixture site.
    let site_port = site().port();
    tokio::join!(
        serve(&one, 8000, "of one"),
        serve(&other, 8000, "of the other"),
        serve(&one, 8001, "of one alone")
    );
    for name in ["localhost", "127.0.0.1", "[::1]"] {
        let url = format!("http://{name}:8000/");
        assert_eq!(visit(&one, &url).await, "200 of one");
        assert_eq!(visit(&other, &url).await, "200 of the other");
        let alone = format!("http://{name}:8001/");
        assert_eq!(visit(&one, &alone).await, "200 of one alone");
        let seen = visit(&other, &alone).await;
        assert!(seen.starts_with(&nothing(8001)), "{seen}");
        assert_eq!(by_proxy(&other, &alone).await, "000 502");
        let seen = visit(&one, &format!("http://{name}:{site_port}/")).await;
        assert!(seen.starts_with(&nothing(site_port)), "{seen}");
    }
    // From the host: nobody is there, while the site is.
    std::net::TcpStream::connect(("127.0.0.1", site_port)).unwrap();
    for port in [8000, 8001] {
        for host in ["127.0.0.1", "::1"] {
            let refused = std::net::TcpStream::connect((host, port)).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        }
    }
    tokio::join!(one.stop(), other.stop());
}

/// The daemon's own port on the host is an ordinary port inside.
#[tokio::test]
async fn the_daemons_own_port_is_not_behind_localhost() {
    let session = blank().await;
    let own = daemon().address().port();
    for name in ["localhost", "127.0.0.1", "[::1]", "2130706433"] {
        let seen = visit(&session, &format!("http://{name}:{own}/")).await;
        assert!(seen.starts_with(&nothing(own)), "{name}: {seen}");
    }
    let refused = format!("exec 3<>/dev/tcp/127.0.0.1/{own}");
    let reply = session.exec(Language::Bash, &refused).await;
    assert!(
        reply.stderr.contains("Connection refused"),
        "{}",
        reply.stderr
    );
    serve(&session, own, "my own").await;
    let seen = visit(&session, &format!("http://localhost:{own}/")).await;
    assert_eq!(seen, "200 my own");
    session.stop().await;
}

#[tokio::test]
async fn other_loopback_addresses_and_names_stay_refused() {
    let session = blank().await;
    serve(&session, 8000, "here").await;
    assert_eq!(visit(&session, "http://localhost:8000/").await, "200 here");
    for (host, range) in [
        ("127.0.0.2", "loopback 127.0.0.0/8"),
        ("0.0.0.0", "this-network 0.0.0.0/8"),
        ("[::ffff:127.0.0.1]", "ipv4-mapped ::ffff:0:0/96"),
    ] {
        // Not in the page: Chromium has refusals of its own here.
        let curl = format!(
            "curl -sS -g -m 20 --noproxy '' --proxy $http_proxy 'http://{host}:8000/' || true"
        );
        let seen = session.bash(&curl).await;
        let rule = format!("pagebox: refused by rule \"{range}\": {host}:8000");
        assert_eq!(seen.replace("7f00:1", "127.0.0.1"), rule);
    }
    session.stop().await;
}

#[tokio::test]
async fn two_hundred_connections_at_once_hold_up_nobody() {
    let session = blank().await;
    let code = "const net = require('node:net');
                const server = net.createServer((socket) => socket.pipe(socket));
                await new Promise((up) => server.listen(7000, '::1', up));
                const one = (n) => new Promise((end, fail) => {
                  const socket = net.connect(3128, '127.0.0.1');
                  let seen = '';
                  socket.on('error', fail);
                  socket.on('data', (data) => {
                    seen += data;
                    if (seen.endsWith('\\r\\n\\r\\n')) socket.write(`echo ${n}`);
                    if (seen.endsWith(`echo ${n}`)) end(socket);
                  });
                  socket.write('CONNECT localhost:7000 HTTP/1.1\\r\\n\\r\\n');
                });
                globalThis.open = await Promise.all(Array.from({ length: 200 }, (_, n) => one(n)));
                open.length";
    assert_eq!(session.node(code).await, "200");
    // All of them are open still.
    let next = tokio::time::timeout(Duration::from_secs(60), async {
        let next = blank().await;
        serve(&next, 7000, "next").await;
        assert_eq!(visit(&next, "http://localhost:7000/").await, "200 next");
        next.stop().await;
    });
    next.await.expect("another session starts and works");
    let count = "await new Promise((end) => server.getConnections((_, count) => end(count)))";
    assert_eq!(session.node(count).await, "200");
    session.stop().await;
}
