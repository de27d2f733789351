//! `localhost`: the session's own servers, and ports of the host.

use std::collections::HashMap;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::support::{
    Client, Internet, OwnServers, Proxy, RESERVED, SOON, echo_bytes, echo_host, egress, host,
};
use crate::egress::{Config, Limits, NetworkOptions, relay};

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

/// A relay of the port it listens on, which stands for the same port of the host: the uplink leads
/// there to `server`.
struct Relay {
    port: u16,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Relay {
    async fn start(server: std::net::SocketAddr, config: Config, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = Config {
            host_loopback: vec![port.to_string()],
            ..config
        };
        let internet = Internet::default().server(&format!("127.0.0.1:{port}"), server);
        let own = OwnServers::default();
        let egress = egress(internet, own, &config, NetworkOptions::default(), limits);
        let cancel = CancellationToken::new();
        let task = tokio::spawn(relay(vec![listener], egress, cancel.clone()));
        Self { port, cancel, task }
    }

    async fn client(&self) -> Client {
        let address = ("127.0.0.1", self.port);
        Client(tokio::net::TcpStream::connect(address).await.unwrap())
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
    let mut client = relay.client().await;
    let mut byte = [0];
    let read = tokio::time::timeout(SOON, client.0.read(&mut byte))
        .await
        .unwrap();
    assert_eq!(
        read.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
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
