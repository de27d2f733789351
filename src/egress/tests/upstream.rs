//! Ways out through proxies: the daemon's, a session's, and one behind the other.

mod failures;
mod proxies;
mod sessions;

use std::net::SocketAddr;
use std::time::Duration;

use super::support::{Internet, Proxy, echo_bytes, echo_host};
use crate::egress::{self, Config, Limits, NetworkOptions, Resolve, UpstreamConfig};
use proxies::{Answers, UpstreamProxy};

/// Where the proxies seem to stand. The daemon's is in a private network, which no rule opens.
const DAEMONS: &str = "10.1.2.3:3128";
const SESSIONS: &str = "93.184.216.99:8080";

fn quick() -> Limits {
    Limits {
        connect: Duration::from_millis(300),
        ..Limits::default()
    }
}

/// A config with an upstream proxy, `user:password` unless empty, and rules that allow.
fn through(server: &str, credentials: &str, allow: &[&str]) -> Config {
    let (username, password) = credentials.split_once(':').unwrap_or_default();
    Config {
        allow: allow.iter().map(|rule| rule.parse().unwrap()).collect(),
        upstream: UpstreamConfig {
            server: server.to_owned(),
            username: username.to_owned(),
            password: password.into(),
            ..UpstreamConfig::default()
        },
        ..Config::default()
    }
}

fn with_proxy(server: &str, credentials: &str) -> NetworkOptions {
    let (username, password) = credentials.split_once(':').unwrap_or_default();
    NetworkOptions {
        proxy: Some(egress::Proxy::new(server, username, password).unwrap()),
        ..NetworkOptions::default()
    }
}

/// `site.test` has a public address, which nothing but a proxy serves.
fn internet() -> Internet {
    Internet::default().name("site.test", &["93.184.216.34"])
}

/// A daemon's upstream that says this, whatever it is asked.
async fn daemon_through(scheme: &str, upstream: SocketAddr, limits: Limits) -> Proxy {
    let internet = internet().server(DAEMONS, upstream);
    let config = through(&format!("{scheme}://{DAEMONS}"), "", &[]);
    Proxy::start_with(internet, &config, limits).await
}

async fn connect(proxy: &Proxy, authority: &str) -> String {
    let request = format!("CONNECT {authority} HTTP/1.1\r\nConnection: close\r\n\r\n");
    proxy.once(&request).await
}

/// What stands in the body of a refusal.
fn text(answer: &str) -> &str {
    answer
        .split_once("\r\n\r\n")
        .map_or(answer, |(_, body)| body.trim_end())
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_checked_address() {
    for (scheme, credentials) in [
        ("http", ""),
        ("http", "us er:p:w"),
        ("socks5", ""),
        ("socks5", "us er:p:w"),
    ] {
        let mut answers = Answers::default()
            .host("93.184.216.34:443", echo_bytes().await)
            .host("93.184.216.34:80", echo_host().await)
            .host("[2606:2800::1]:443", echo_bytes().await);
        if !credentials.is_empty() {
            answers = answers.with_credentials(credentials);
        }
        let upstream = match scheme {
            "http" => UpstreamProxy::http(answers).await,
            _ => UpstreamProxy::socks5(answers).await,
        };
        let internet = internet().server(DAEMONS, upstream.address);
        let config = through(&format!("{scheme}://{DAEMONS}"), credentials, &[]);
        let proxy = Proxy::start_with(internet, &config, Limits::default()).await;

        for authority in ["site.test:443", "[2606:2800::1]:443"] {
            let mut client = proxy.client().await;
            client
                .send(format!("CONNECT {authority} HTTP/1.1\r\n\r\n"))
                .await;
            let head = client.until("\r\n\r\n").await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{scheme} {head}");
            client.send("there and back").await;
            client.until("there and back").await;
        }
        let answer = proxy.get("http://site.test/path").await;
        assert!(answer.contains("GET /path HTTP/1.1\r\n"), "{answer}");
        assert!(!answer.to_lowercase().contains("authorization"), "{answer}");

        let who = if credentials.is_empty() {
            "-"
        } else {
            credentials
        };
        let expected = [
            "93.184.216.34:443",
            "[2606:2800::1]:443",
            "93.184.216.34:80",
        ];
        assert_eq!(
            upstream.asked(),
            expected.map(|target| format!("{who} {target}"))
        );
        assert_eq!(*proxy.looked_up.lock().unwrap(), ["site.test", "site.test"]);
        assert_eq!(
            *proxy.connected.lock().unwrap(),
            [DAEMONS.parse().unwrap(); 3]
        );
    }
}

#[tokio::test]
async fn what_a_host_says_first_is_not_lost() {
    let said = "HTTP/1.1 200 OK\r\nVia: x\r\n\r\n220 host speaks\r\n";
    let upstream = UpstreamProxy::saying(said).await;
    let proxy = daemon_through("http", upstream.address, Limits::default()).await;
    let mut client = proxy.client().await;
    client.send("CONNECT site.test:443 HTTP/1.1\r\n\r\n").await;
    client.until("\r\n\r\n").await;
    client.until("220 host speaks\r\n").await;
}

#[tokio::test]
async fn refused_targets_never_reach_a_proxy() {
    let upstream = UpstreamProxy::http(Answers::default()).await;
    let internet = internet()
        .server(DAEMONS, upstream.address)
        .name("rebind.test", &["93.184.216.34", "10.0.0.1"])
        .name("inside.test", &["10.0.0.1"]);
    for resolve in [Resolve::Local, Resolve::Upstream] {
        let mut config = through(&format!("http://{DAEMONS}"), "", &["10.0.0.5:8443"]);
        config.deny = vec!["denied.test".parse().unwrap()];
        config.upstream.resolve = resolve;
        let internet = internet.clone();
        let proxy = Proxy::start_with(internet, &config, Limits::default()).await;
        let mut refused = vec![
            ("denied.test:443", "deny denied.test"),
            ("10.0.0.1:443", "private-use 10.0.0.0/8"),
            (DAEMONS, "private-use 10.0.0.0/8"),
            ("169.254.169.254:80", "metadata 169.254.169.254/32"),
            ("0x0a000001:443", "private-use 10.0.0.0/8"),
            ("[::ffff:10.0.0.1]:443", "ipv4-mapped ::ffff:0:0/96"),
            ("site.test:22", "port 22"),
        ];
        match resolve {
            Resolve::Local => refused.extend([
                ("rebind.test:443", "private-use 10.0.0.0/8"),
                ("inside.test:443", "private-use 10.0.0.0/8"),
            ]),
            // Opened for one address, and nobody knows which one a name has.
            Resolve::Upstream => refused.push(("site.test:8443", "port 8443")),
        }
        for (authority, rule) in refused {
            let answer = connect(&proxy, authority).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{authority} {answer}");
            let header = format!("x-pagebox-egress: {rule}\r\n");
            assert!(answer.contains(&header), "{authority} {answer}");
        }
        assert!(proxy.connected.lock().unwrap().is_empty());
    }
    assert!(upstream.asked().is_empty());
}

#[tokio::test]
async fn names_go_to_the_upstream_only_when_it_is_told_to_resolve() {
    for scheme in ["http", "socks5"] {
        let answers = Answers::default()
            .host("only-there.test:443", echo_bytes().await)
            .host("only-there.test:80", echo_host().await)
            .host("93.184.216.34:443", echo_bytes().await);
        let upstream = match scheme {
            "http" => UpstreamProxy::http(answers).await,
            _ => UpstreamProxy::socks5(answers).await,
        };
        let internet = internet().server(DAEMONS, upstream.address);
        let mut config = through(&format!("{scheme}://{DAEMONS}"), "", &[]);
        config.upstream.resolve = Resolve::Upstream;
        let proxy = Proxy::start_with(internet.clone(), &config, Limits::default()).await;
        for authority in ["only-there.test:443", "93.184.216.34:443"] {
            let mut client = proxy.client().await;
            client
                .send(format!("CONNECT {authority} HTTP/1.1\r\n\r\n"))
                .await;
            let head = client.until("\r\n\r\n").await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        }
        // A kept connection is checked again without an address.
        let mut client = proxy.client().await;
        for n in 1..=2 {
            client
                .send("GET http://only-there.test/ HTTP/1.1\r\nHost: x\r\n\r\n")
                .await;
            let head = client.until("\r\n\r\n").await;
            assert!(head.contains(&format!("N: {n}\r\n")), "{head}");
            client.until("\r\n\r\n").await;
        }
        assert_eq!(
            upstream.asked(),
            [
                "- only-there.test:443",
                "- 93.184.216.34:443",
                "- only-there.test:80"
            ]
        );
        assert!(proxy.looked_up.lock().unwrap().is_empty());

        config.upstream.resolve = Resolve::Local;
        let proxy = Proxy::start_with(internet, &config, Limits::default()).await;
        let answer = connect(&proxy, "only-there.test:443").await;
        assert_eq!(
            text(&answer),
            "pagebox: cannot resolve only-there.test: no such host"
        );
        assert_eq!(upstream.asked().len(), 3);
    }
}

#[tokio::test]
async fn the_hosts_loopback_is_never_the_proxys() {
    let upstream = UpstreamProxy::http(Answers::default()).await;
    let server = echo_host().await;
    for resolve in [Resolve::Local, Resolve::Upstream] {
        let internet = internet().server(DAEMONS, upstream.address);
        let mut config = through(&format!("http://{DAEMONS}"), "", &["93.184.216.99:8080"]);
        config.host_loopback = vec![server.port().to_string()];
        config.upstream.resolve = resolve;
        let options = with_proxy(&format!("socks5://{SESSIONS}"), "");
        let proxy = Proxy::start_session(internet, &config, options, Limits::default()).await;
        for host in ["localhost", "127.0.0.1", "a.localhost"] {
            let answer = proxy
                .get(&format!("http://{host}:{}/", server.port()))
                .await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
    }
    assert!(upstream.asked().is_empty());
}

#[tokio::test]
async fn a_sessions_proxy_is_reached_through_the_daemons() {
    for resolve in [Resolve::Local, Resolve::Upstream] {
        let theirs = Answers::default()
            .host("93.184.216.34:443", echo_bytes().await)
            .with_credentials("caller:secret");
        let theirs = UpstreamProxy::socks5(theirs).await;
        let ours = Answers::default()
            .host(SESSIONS, theirs.address)
            .with_credentials("op:hidden");
        let ours = UpstreamProxy::http(ours).await;
        let internet = internet()
            .server(DAEMONS, ours.address)
            .name("proxy.test", &["93.184.216.99"]);
        let mut config = through(
            &format!("http://{DAEMONS}"),
            "op:hidden",
            &["proxy.test:8080"],
        );
        config.upstream.resolve = resolve;
        let options = with_proxy("socks5://proxy.test:8080", "caller:secret");
        let proxy = Proxy::start_session(internet, &config, options, Limits::default()).await;
        let mut client = proxy.client().await;
        client.send("CONNECT site.test:443 HTTP/1.1\r\n\r\n").await;
        client.until("\r\n\r\n").await;
        client.send("all the way").await;
        client.until("all the way").await;
        // Whoever resolves for the daemon: what a session's proxy is asked for was checked here.
        assert_eq!(ours.asked(), ["op:hidden 93.184.216.99:8080"]);
        assert_eq!(theirs.asked(), ["caller:secret 93.184.216.34:443"]);
        assert_eq!(*proxy.connected.lock().unwrap(), [DAEMONS.parse().unwrap()]);
        assert_eq!(
            *proxy.looked_up.lock().unwrap(),
            ["site.test", "proxy.test"]
        );
    }
}

#[tokio::test]
async fn a_sessions_proxy_is_subject_to_the_daemons_rules() {
    let theirs = Answers::default().host("93.184.216.34:443", echo_bytes().await);
    let theirs = UpstreamProxy::http(theirs).await;
    let internet = internet()
        .name("proxy.test", &["93.184.216.99"])
        .name("inside.test", &["10.1.2.3"])
        .server(SESSIONS, theirs.address)
        .server("93.184.216.99:443", theirs.address)
        .server("10.1.2.3:8080", theirs.address);
    for (server, allow, refusal) in [
        ("http://proxy.test:8080", &["proxy.test:8080"][..], None),
        ("http://proxy.test:443", &[], None),
        ("http://93.184.216.99:8080", &["*:8080"], None),
        ("http://10.1.2.3:8080", &["10.1.2.3:8080"], None),
        ("http://proxy.test:8080", &[], Some("port 8080")),
        (
            "http://inside.test:8080",
            &["*:8080"],
            Some("private-use 10.0.0.0/8"),
        ),
        (
            "http://10.1.2.3:8080",
            &["*:8080"],
            Some("private-use 10.0.0.0/8"),
        ),
        ("http://localhost:8080", &["*:8080"], Some("loopback")),
        (
            "http://169.254.169.254:80",
            &["*:*"],
            Some("metadata 169.254.169.254/32"),
        ),
    ] {
        let config = Config {
            allow: allow.iter().map(|rule| rule.parse().unwrap()).collect(),
            ..Config::default()
        };
        let asked_before = theirs.asked().len();
        let proxy = Proxy::start_session(
            internet.clone(),
            &config,
            with_proxy(server, "u:secret"),
            Limits::default(),
        )
        .await;
        let mut client = proxy.client().await;
        client.send("CONNECT site.test:443 HTTP/1.1\r\n\r\n").await;
        let head = client.until("\r\n\r\n").await;
        let Some(rule) = refusal else {
            assert!(head.starts_with("HTTP/1.1 200 "), "{server} {head}");
            assert_eq!(
                theirs.asked()[asked_before..],
                ["u:secret 93.184.216.34:443"]
            );
            continue;
        };
        assert!(head.starts_with("HTTP/1.1 403 "), "{server} {head}");
        assert!(
            head.contains(&format!("x-pagebox-egress: {rule}\r\n")),
            "{head}"
        );
        client
            .until(&format!(
                "refused by rule \"{rule}\": the session's proxy {server}\n"
            ))
            .await;
        assert_eq!(theirs.asked().len(), asked_before);
    }
}
