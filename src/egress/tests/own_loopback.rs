//! `localhost`: the session's own servers, and ports of the host.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::support::{
    Client, Internet, OwnServers, Proxy, RESERVED, SOON, echo_bytes, echo_host, egress, host,
};
use crate::egress::{
    Config, Egress, Limits, LoggedRequest, NetworkOptions, NetworkUsage, Source, Verdict, relay,
};
use crate::limits::Bytes;

async fn proxy(own: OwnServers, config: &Config) -> Proxy {
    Proxy::start_in(
        Internet::default(),
        own,
        config,
        NetworkOptions::default(),
        Limits::default(),
    )
    .await
}

#[tokio::test]
async fn localhost_leads_to_the_sessions_servers_and_to_no_host() {
    let own = HashMap::from([(80, echo_host().await), (5173, echo_host().await)]);
    let deny = vec!["*".parse().unwrap(), "127.0.0.0/8".parse().unwrap()];
    let config = Config {
        deny,
        ..Config::default()
    };
    let proxy = proxy(OwnServers(own), &config).await;
    for (url, host) in [
        ("http://localhost/a", "localhost"),
        ("http://localhost:5173/a", "localhost:5173"),
        ("http://app.localhost:5173/a", "app.localhost:5173"),
        ("http://127.0.0.1:5173/a", "127.0.0.1:5173"),
        ("http://[::1]:5173/a", "[::1]:5173"),
        ("http://0x7f.1:5173/a", "127.0.0.1:5173"),
    ] {
        let answer = proxy.get(url).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{url}: {answer}");
        assert!(answer.contains("GET /a HTTP/1.1\r\n"), "{url}: {answer}");
        let header = format!("host: {host}\r\n");
        assert!(answer.to_lowercase().contains(&header), "{url}: {answer}");
    }
    assert!(proxy.connected.lock().unwrap().is_empty());
    assert!(proxy.looked_up.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_connection_to_an_own_server_is_kept() {
    let own = HashMap::from([(5173, echo_host().await)]);
    let proxy = proxy(OwnServers(own), &Config::default()).await;
    let mut client = proxy.client().await;
    for n in 1..=3 {
        client
            .send("GET http://localhost:5173/ HTTP/1.1\r\nHost: x\r\n\r\n")
            .await;
        let head = client.until("\r\n\r\n").await;
        assert!(head.contains(&format!("N: {n}\r\n")), "{head}");
        // The body is the head it got.
        client.until("\r\n\r\n").await;
    }
}

#[tokio::test]
async fn connect_reaches_an_own_server() {
    let own = HashMap::from([(443, echo_bytes().await)]);
    let proxy = proxy(OwnServers(own), &Config::default()).await;
    let mut client = proxy.client().await;
    client.send("CONNECT localhost:443 HTTP/1.1\r\n\r\n").await;
    let head = client.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    client.send("there and back").await;
    client.until("there and back").await;
}

#[tokio::test]
async fn a_port_without_a_server_and_a_reserved_one_are_told_apart() {
    let own = HashMap::from([(RESERVED, echo_host().await)]);
    let proxy = proxy(OwnServers(own), &Config::default()).await;
    let nothing = "\r\n\r\npagebox: nothing listens on port 5173 of the session's own localhost; \
                   servers started by earlier executions live as long as their context; ";
    for request in [
        "GET http://localhost:5173/ HTTP/1.1\r\nConnection: close\r\n\r\n",
        "CONNECT localhost:5173 HTTP/1.1\r\nConnection: close\r\n\r\n",
    ] {
        let answer = proxy.once(request).await;
        assert!(
            answer.starts_with("HTTP/1.1 502 Bad Gateway: nothing listens on port 5173"),
            "{answer}"
        );
        assert!(answer.contains(nothing), "{answer}");
    }
    let answer = proxy.get(&format!("http://127.0.0.1:{RESERVED}/")).await;
    assert!(
        answer.starts_with("HTTP/1.1 403 Forbidden: protected-port"),
        "{answer}"
    );
    assert!(
        answer.contains("x-pagebox-egress: protected-port\r\n"),
        "{answer}"
    );
}

/// It is no way out: whatever goes there is not in the log and not in the totals, and the byte limit
/// stops it neither on a new connection nor on a kept one.
#[tokio::test]
async fn own_servers_are_neither_logged_nor_counted_nor_limited() {
    let handshake = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                     Upgrade: websocket\r\n\r\n";
    let socket = host(move |mut client| async move {
        client.until("\r\n\r\n").await;
        client.send(handshake).await;
        client.until("ping").await;
        client.send("pong").await;
    })
    .await;
    let own = HashMap::from([
        (5173, echo_host().await),
        (7000, echo_bytes().await),
        (7001, socket),
    ]);
    let config = Config {
        max_bytes: Bytes(500),
        ..Config::default()
    };
    let internet = Internet::site(echo_host().await);
    let options = NetworkOptions::default();
    let proxy = Proxy::start_in(
        internet,
        OwnServers(own),
        &config,
        options,
        Limits::default(),
    )
    .await;
    let own_get = "GET http://localhost:5173/ HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut kept = proxy.client().await;
    for n in 1..=20 {
        kept.send(own_get).await;
        let head = kept.until("\r\n\r\n").await;
        assert!(head.contains(&format!("N: {n}\r\n")), "{head}");
        kept.until("\r\n\r\n").await;
    }
    let mut tunnel = proxy.client().await;
    tunnel.send("CONNECT localhost:7000 HTTP/1.1\r\n\r\n").await;
    tunnel.until("\r\n\r\n").await;
    tunnel.send("there and back".repeat(100)).await;
    tunnel.until("there and back").await;
    let mut websocket = proxy.client().await;
    websocket
        .send(
            "GET http://localhost:7001/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\n\r\n",
        )
        .await;
    websocket.until("\r\n\r\n").await;
    websocket.send("ping").await;
    websocket.until("pong").await;
    proxy.get("http://localhost:9/").await;
    assert_eq!(proxy.log.usage(), NetworkUsage::default());
    assert_eq!(proxy.log.requests(), []);

    // The session's bytes are used up elsewhere.
    let mut outside = proxy.client().await;
    loop {
        outside
            .send("GET http://site.test/ HTTP/1.1\r\nHost: x\r\n\r\n")
            .await;
        if !outside.until("\r\n").await.contains(" 200 ") {
            break;
        }
        outside.until("\r\n\r\n").await;
        outside.until("\r\n\r\n").await;
    }
    let answer = proxy.get("http://site.test/").await;
    assert!(
        answer.contains("x-pagebox-egress: byte-limit\r\n"),
        "{answer}"
    );
    let used = proxy.log.usage();
    kept.send(own_get).await;
    let head = kept.until("\r\n\r\n").await;
    assert!(head.contains("N: 21\r\n"), "{head}");
    tunnel.send("still open").await;
    tunnel.until("still open").await;
    let answer = proxy.get("http://127.0.0.1:5173/").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(proxy.log.usage(), used);
}

/// A relay of the port it listens on, which stands for the same port of the host: the uplink leads
/// there to `server`.
struct Relay {
    port: u16,
    egress: Arc<Egress>,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Relay {
    async fn start(server: std::net::SocketAddr, config: Config, limits: Limits) -> Self {
        Self::start_session(server, config, NetworkOptions::default(), limits).await
    }

    async fn start_session(
        server: std::net::SocketAddr,
        config: Config,
        options: NetworkOptions,
        limits: Limits,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = Config {
            host_loopback: vec![port.to_string()],
            ..config
        };
        let internet = Internet::default().server(&format!("127.0.0.1:{port}"), server);
        let own = OwnServers::default();
        let egress = egress(internet, own, &config, options, limits);
        let cancel = CancellationToken::new();
        let relaying = relay(vec![listener], Arc::clone(&egress), cancel.clone());
        let task = tokio::spawn(relaying);
        Self {
            port,
            egress,
            cancel,
            task,
        }
    }

    async fn client(&self) -> Client {
        let address = ("127.0.0.1", self.port);
        Client(tokio::net::TcpStream::connect(address).await.unwrap())
    }

    /// That a new connection is reset before a byte passes.
    async fn assert_refused(&self) {
        let mut client = self.client().await;
        let mut byte = [0];
        let read = tokio::time::timeout(SOON, client.0.read(&mut byte));
        assert_eq!(
            read.await.unwrap().unwrap_err().kind(),
            std::io::ErrorKind::ConnectionReset
        );
    }

    /// The log's newest request, once it has ended; its host and source are what a relay's are.
    async fn newest(&self) -> LoggedRequest {
        let ended = async {
            loop {
                match self.egress.log.requests().pop() {
                    Some(request) if request.end_time.is_some() => return request,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let request = tokio::time::timeout(SOON, ended).await.unwrap();
        assert_eq!((&*request.host, request.port), ("localhost", self.port));
        assert_eq!(request.source, Source::Code);
        request
    }
}

#[tokio::test]
async fn a_relayed_port_is_the_hosts_until_the_session_ends() {
    let relay = Relay::start(echo_bytes().await, Config::default(), Limits::default()).await;
    let mut client = relay.client().await;
    client.send("there").await;
    client.until("there").await;
    relay.cancel.cancel();
    assert_eq!(client.rest().await, "");
    tokio::time::timeout(SOON, relay.task)
        .await
        .unwrap()
        .unwrap();
    let address = ("127.0.0.1", relay.port);
    tokio::net::TcpStream::connect(address).await.unwrap_err();
}

#[tokio::test]
async fn a_relay_obeys_the_rules_for_each_connection() {
    let config = Config {
        deny: vec!["127.0.0.1".parse().unwrap()],
        ..Config::default()
    };
    let relay = Relay::start(echo_bytes().await, config, Limits::default()).await;
    relay.assert_refused().await;
    let rule = Verdict::Refused("deny 127.0.0.1".into());
    assert_eq!(relay.newest().await.verdict, rule);
}

#[tokio::test]
async fn a_relay_obeys_the_sessions_rules_too() {
    let rules = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let none = NetworkOptions::default;
    for (options, rule) in [
        (
            NetworkOptions {
                offline: true,
                ..none()
            },
            Some("offline"),
        ),
        (
            NetworkOptions {
                deny: rules(&["localhost"]),
                ..none()
            },
            Some("session deny localhost"),
        ),
        (
            NetworkOptions {
                allow: rules(&["site.test"]),
                ..none()
            },
            Some("session allow"),
        ),
        (
            NetworkOptions {
                allow: rules(&["127.0.0.1:*"]),
                ..none()
            },
            None,
        ),
    ] {
        let (server, limits) = (echo_bytes().await, Limits::default());
        let relay = Relay::start_session(server, Config::default(), options, limits).await;
        let Some(rule) = rule else {
            let mut client = relay.client().await;
            client.send("there").await;
            client.until("there").await;
            continue;
        };
        relay.assert_refused().await;
        assert_eq!(relay.newest().await.verdict, Verdict::Refused(rule.into()));
        assert_eq!(relay.egress.log.usage().refused, 1);
    }
}

#[tokio::test]
async fn a_relayed_connection_is_a_request_of_the_code_within_the_byte_limit() {
    let config = Config {
        max_bytes: Bytes(1000),
        ..Config::default()
    };
    let relay = Relay::start(echo_bytes().await, config, Limits::default()).await;
    let mut client = relay.client().await;
    client.send("there").await;
    client.until("there").await;
    drop(client);
    let request = relay.newest().await;
    assert_eq!(request.verdict, Verdict::Allowed);
    assert_eq!(request.address, Some("127.0.0.1".parse().unwrap()));
    assert_eq!((request.sent, request.received), (Bytes(5), Bytes(5)));

    let mut client = relay.client().await;
    client.send("x".repeat(2000)).await;
    client.rest().await;
    let limit = Verdict::Refused("byte-limit".into());
    let request = relay.newest().await;
    assert_eq!((request.id, request.verdict), (2, limit.clone()));
    let used = relay.egress.log.usage();
    assert_eq!(used.sent.0 + used.received.0, 1000);
    relay.assert_refused().await;
    let request = relay.newest().await;
    assert_eq!((request.id, request.verdict), (3, limit));
}

#[tokio::test]
async fn a_relay_is_bounded_in_connections_and_silence() {
    let config = Config {
        connections: 2,
        ..Config::default()
    };
    let limits = Limits {
        silence: Duration::from_secs(2),
        ..Limits::default()
    };
    let hello = host(|mut client| async move {
        client.send("hello").await;
        std::future::pending::<()>().await;
    })
    .await;
    let relay = Relay::start(hello, config, limits).await;
    let (mut first, mut second) = (relay.client().await, relay.client().await);
    first.until("hello").await;
    second.until("hello").await;
    // It waits for a place, which the silence of the others makes.
    let mut third = relay.client().await;
    let early = tokio::time::timeout(Duration::from_millis(200), third.0.readable()).await;
    assert!(early.is_err());
    assert_eq!(first.rest().await, "");
    third.until("hello").await;
}
