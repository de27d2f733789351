//! What is open and what is closed without any rule, from the page and from the code.

use pagebox::grpc::v1::Language;

use super::clients::{WAYS, curl, every_way_of_a_page, goto, is_refused, node_fetch, raw, urllib};
use super::world::{nothing_closed_was_reached, world};
use crate::internet::{HOST_V4, HOST_V6, PUBLIC_V4, PUBLIC_V6, World};

/// Hosts that are closed, and the rule that says so.
fn closed() -> Vec<(String, &'static str)> {
    let hosts = [
        ("10.0.0.5", "private-use 10.0.0.0/8"),
        ("172.16.0.5", "private-use 172.16.0.0/12"),
        ("192.168.1.5", "private-use 192.168.0.0/16"),
        ("100.64.0.5", "shared-address-space 100.64.0.0/10"),
        ("169.254.169.254", "metadata 169.254.169.254/32"),
        ("198.18.0.5", "benchmarking 198.18.0.0/15"),
        ("192.0.0.170", "ietf-protocol 192.0.0.0/24"),
        ("[fd00::5]", "unique-local fc00::/7"),
        ("[fe80::5]", "link-local fe80::/10"),
        ("private.example", "private-use 10.0.0.0/8"),
        ("metadata.example", "metadata 169.254.169.254/32"),
        ("host.example", "host-address"),
        (HOST_V4, "host-address"),
    ];
    let mut all: Vec<_> = hosts.map(|(host, rule)| (host.to_owned(), rule)).into();
    all.push((format!("[{HOST_V6}]"), "host-address"));
    all
}

#[tokio::test]
async fn public_sites_are_open_to_every_client() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    let urls: Vec<String> = ["http", "https"]
        .into_iter()
        .flat_map(|scheme| {
            let hosts = ["public.example", "v4.example", "v6.example", PUBLIC_V4];
            let named = hosts.map(|host| format!("{scheme}://{host}/open-site"));
            named
                .into_iter()
                .chain([format!("{scheme}://[{PUBLIC_V6}]/open-site")])
        })
        .collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    for (client, said) in [
        ("page", goto(&session, &urls).await),
        ("node", node_fetch(&session, &urls).await),
        ("python", urllib(&session, &urls).await),
        ("curl", curl(&session, &urls).await),
    ] {
        assert!(said.iter().all(|line| line == "200"), "{client}: {said:?}");
    }
    let reached = world.sites().of_request("/open-site");
    for (address, port) in [
        (PUBLIC_V4, 80),
        (PUBLIC_V4, 443),
        (PUBLIC_V6, 80),
        (PUBLIC_V6, 443),
    ] {
        let to = std::net::SocketAddr::new(address.parse().unwrap(), port);
        assert!(reached.contains(&to), "{to} in {reached:?}");
    }
    session.stop().await;
    nothing_closed_was_reached(world);
}

#[tokio::test]
async fn web_sockets_pass_plain_and_encrypted() {
    let Some(world) = world() else { return };
    let session = world.client().open("http://public.example/page").await;
    let echo = "(url) => new Promise((done) => {
        const s = new WebSocket(url);
        s.onopen = () => s.send('over');
        s.onmessage = (e) => done(e.data);
        s.onerror = () => done('error');
      })";
    let code = format!(
        "const cdp = await page.context().newCDPSession(page);
         await cdp.send('Security.setIgnoreCertificateErrors', {{ ignore: true }});
         const said = [];
         for (const url of ['ws://v4.example/ws', 'wss://v4.example/ws', 'ws://[{PUBLIC_V6}]/ws'])
           said.push(await page.evaluate({echo}, url));
         said.join()"
    );
    assert_eq!(session.node(&code).await, "over,over,over");
    session.stop().await;
    nothing_closed_was_reached(world);
}

#[tokio::test]
async fn closed_addresses_are_refused_by_their_rule_to_every_client() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    let mut targets = Vec::new();
    for (host, rule) in closed() {
        targets.push((format!("http://{host}/closed"), rule));
        targets.push((format!("https://{host}/closed"), rule));
    }
    targets.push(("http://v4.example:8080/closed".to_owned(), "port 8080"));
    targets.push((format!("http://{PUBLIC_V4}:8080/closed"), "port 8080"));
    targets.push((format!("https://{PUBLIC_V4}:9222/closed"), "port 9222"));
    targets.push((
        "http://10.0.0.5:8080/closed".to_owned(),
        "private-use 10.0.0.0/8",
    ));
    let urls: Vec<&str> = targets.iter().map(|(url, _)| url.as_str()).collect();
    for (client, said) in [
        ("page", goto(&session, &urls).await),
        ("node", node_fetch(&session, &urls).await),
        ("python", urllib(&session, &urls).await),
        ("curl", curl(&session, &urls).await),
    ] {
        for ((url, rule), line) in targets.iter().zip(&said) {
            assert!(is_refused(line, rule), "{client}, {url}, {rule}: {line}");
        }
        // Over http each of them can read the rule.
        assert_eq!(said[0], format!("403 {}", targets[0].1), "{client}");
    }
    session.stop().await;
    assert!(world.sites().of_request("/closed").is_empty());
    nothing_closed_was_reached(world);
}

/// All a page can send, to a host that is open and to hosts that are closed.
#[tokio::test]
async fn a_page_reaches_a_closed_address_in_no_way_it_has() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    every_way_of_a_page(&session, &["http://other.example"], "open-ways").await;
    for way in WAYS {
        let mark = format!("by={way}&mark=open-ways");
        let reached = world.sites().of_request(&mark);
        assert_eq!(reached.len(), 1, "{way}: {reached:?}");
    }
    let closed = closed();
    let origins: Vec<String> = closed
        .iter()
        .map(|(host, _)| format!("http://{host}"))
        .collect();
    let mut origins: Vec<&str> = origins.iter().map(String::as_str).collect();
    origins.extend([
        "http://other.example:8080",
        "http://127.0.0.1",
        "http://localhost:8080",
        "http://[::1]",
        "https://10.0.0.5",
        "https://169.254.169.254",
    ]);
    every_way_of_a_page(&session, &origins, "closed-ways").await;
    assert!(world.sites().of_request("closed-ways").is_empty());
    session.stop().await;
    nothing_closed_was_reached(world);
}

/// The host's loopback has servers on :80 and :8080 here, and the daemon's own port.
#[tokio::test]
async fn the_hosts_loopback_is_out_of_reach() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    let own = world.daemon().address().port();
    let mut urls = Vec::new();
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "127.0.0.2",
        "0.0.0.0",
        "[::]",
        "127.1",
    ] {
        for port in [80, 8080, own] {
            urls.push(format!("http://{host}:{port}/loop"));
        }
    }
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let requests: Vec<String> = urls
        .iter()
        .flat_map(|url| {
            let authority = url.trim_start_matches("http://").trim_end_matches("/loop");
            [
                format!("GET {url} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n"),
                format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"),
            ]
        })
        .collect();
    let page = goto(&session, &urls).await;
    let code = raw(&session, &requests).await;
    for line in page.iter().chain(&code) {
        let is_error = ["403", "502", "failed"].iter().any(|e| line.starts_with(e));
        assert!(is_error, "{urls:?}\n{page:?}\n{code:?}");
    }
    session.stop().await;
    nothing_closed_was_reached(world);
}

/// What one session's code serves is that session's.
#[tokio::test]
async fn a_server_of_one_session_is_out_of_reach_of_another() {
    let Some(world) = world() else { return };
    let client = world.client();
    let one = client.open("about:blank").await;
    let other = client.open("about:blank").await;
    let serve = "cd /tmp && echo secret-of-one > page.html
        (python3 -m http.server 8377 --bind 127.0.0.1 >/dev/null 2>&1 &)
        for i in $(seq 100); do
          curl -sf --noproxy '*' http://127.0.0.1:8377/page.html && break; sleep 0.1
        done";
    assert_eq!(one.bash(serve).await, "secret-of-one");
    for url in [
        "http://127.0.0.1:8377/page.html",
        "http://localhost:8377/page.html",
    ] {
        let read =
            format!("curl -s -m 20 --noproxy '*' {url}; curl -s -m 20 --noproxy '' {url}; true");
        let said = other.bash(&read).await;
        assert!(!said.contains("secret-of-one"), "{said}");
        let said = goto(&other, &[url]).await;
        assert!(!said[0].starts_with("200"), "{said:?}");
    }
    one.stop().await;
    other.stop().await;
}

/// Nor does any way of a page lead there.
#[tokio::test]
async fn no_way_of_a_page_leads_to_a_server_of_another_session() {
    let Some(world) = world() else { return };
    let client = world.client();
    let (one, other) = tokio::join!(client.open("about:blank"), client.open("about:blank"));
    let serve = "
import http.server, threading
asked = []
class Site(http.server.BaseHTTPRequestHandler):
    def answer(self):
        asked.append(self.path)
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()
    do_GET = do_POST = answer
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 8377), Site)
threading.Thread(target=server.serve_forever, daemon=True).start()
'up'";
    assert_eq!(one.python(serve).await, "up");
    let names = ["localhost", "127.0.0.1", "[::1]", "a.localhost", "0x7f.1"];
    let origins = names.map(|name| format!("http://{name}:8377"));
    let origins: Vec<&str> = origins.iter().map(String::as_str).collect();
    every_way_of_a_page(&other, &origins, "other-session").await;
    assert_eq!(one.python("len(asked)").await, "0");
    // The pair: its own page.
    every_way_of_a_page(&one, &origins[..1], "own-session").await;
    let asked = one.python("' '.join(asked)").await;
    for way in WAYS {
        assert!(
            asked.contains(&format!("by={way}&mark=own-session")),
            "{way}: {asked}"
        );
    }
    one.stop().await;
    other.stop().await;
    nothing_closed_was_reached(world);
}

/// An address the host gets while the daemon runs is closed.
#[tokio::test]
async fn an_address_the_host_gets_later_is_closed_too() {
    let Some(world) = super::world::own("") else {
        return;
    };
    let session = world.client().open("about:blank").await;
    let url = "http://93.184.216.77/later";
    assert_eq!(curl(&session, &[url]).await, ["200"]);
    world.host().ip("addr add 93.184.216.77/32 dev lo\n");
    crate::leaks::eventually(std::time::Duration::from_secs(60), async || {
        let said = curl(&session, &[url]).await;
        if said == ["403 host-address"] {
            Ok(())
        } else {
            Err(format!("{said:?}"))
        }
    })
    .await;
    let reply = session.exec(
        Language::Node,
        "(await page.goto('http://93.184.216.77/later')).status()",
    );
    assert_eq!(reply.await.result.as_deref(), Some("403"));
    // Within the first second a connection may have come, but nothing over it.
    assert_eq!(world.host_traps().of_request("/later"), []);
    world.host().ip("addr del 93.184.216.77/32 dev lo\n");
    crate::leaks::eventually(std::time::Duration::from_secs(60), async || {
        let said = curl(&session, &[url]).await;
        if said == ["200"] {
            Ok(())
        } else {
            Err(format!("{said:?}"))
        }
    })
    .await;
    session.stop().await;
}

/// An address that no interface has, and that a route makes the host's own all the same, as load
/// balancers of clouds do; one that an interface has had for less than a second is no other case.
#[tokio::test]
async fn an_address_that_only_a_route_makes_the_hosts_own_is_refused() {
    let Some(world) = super::world::own("") else {
        return;
    };
    let routed = "93.184.77.7";
    let session = world.client().open("about:blank").await;
    let urls = [
        &*format!("http://{routed}/routed"),
        &*format!("https://{routed}/routed"),
    ];
    for line in goto(&session, &urls).await {
        assert_eq!(line, "200", "while it is elsewhere");
    }
    assert_eq!(world.host_traps().all(), []);

    world
        .host()
        .ip(&format!("route add local {routed} dev lo\n"));
    refused_as_the_hosts(&world, urls[0]).await;
}

/// The same for a network of IPv6, which a connection does not show by its own end.
#[tokio::test]
async fn a_network_that_only_a_route_makes_the_hosts_own_is_refused() {
    let Some(world) = super::world::own("") else {
        return;
    };
    let url = "http://[2606:2800:77::7]/routed";
    // A transparent proxy's route: for marked packets, which the daemon sends none of.
    world
        .host()
        .ip("route add local ::/0 dev lo table 100\nrule add fwmark 1 lookup 100\n");
    let session = world.client().open("about:blank").await;
    assert_eq!(curl(&session, &[url]).await, ["200"]);
    assert_eq!(world.host_traps().all(), []);

    world
        .host()
        .ip("route add local 2606:2800:77::/64 dev lo\n");
    // It leads to the host: the pair.
    world.host().run(|| {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect("[2606:2800:77::7]:80").unwrap();
        let request = b"GET /straight HTTP/1.0\r\nHost: x\r\n\r\n";
        stream.write_all(request).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    assert_eq!(world.host_traps().of_request("/straight").len(), 1);
    refused_as_the_hosts(&world, url).await;
}

/// A new session's page, node and curl all get told that `url` is the host's own, and nothing of
/// them arrives there. New: without connections from before.
async fn refused_as_the_hosts(world: &World, url: &str) {
    // The list of addresses may be a second old.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let session = world.client().open("about:blank").await;
    let urls = [url];
    for (client, said) in [
        ("page", goto(&session, &urls).await),
        ("node", node_fetch(&session, &urls).await),
        ("curl", curl(&session, &urls).await),
    ] {
        assert_eq!(said, ["403 host-address"], "{client}");
    }
    session.stop().await;
    assert_eq!(world.host_traps().of_request("/routed"), []);
}
