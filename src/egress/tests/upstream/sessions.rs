//! What a session may do, with proxies on its way out.

use std::time::Duration;

use super::super::support::{Client, Proxy, SOON, echo_bytes, echo_host, host};
use super::proxies::{Answers, UpstreamProxy};
use super::{DAEMONS, SESSIONS, connect, internet, through, with_proxy};
use crate::egress::{Config, Limits, LoggedRequest, NetworkOptions, Resolve, Verdict};
use crate::limits::Bytes;

fn rules(texts: &[&str]) -> Vec<crate::egress::Rule> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn newest(proxy: &Proxy) -> LoggedRequest {
    proxy.log.requests().pop().expect("a request")
}

fn refused_by(rule: &str) -> Verdict {
    Verdict::Refused(rule.into())
}

#[tokio::test]
async fn what_a_session_refuses_no_upstream_is_asked_for() {
    let upstream = UpstreamProxy::http(Answers::default()).await;
    for resolve in [Resolve::Local, Resolve::Upstream] {
        let mut config = through(&format!("http://{DAEMONS}"), "", &[]);
        config.upstream.resolve = resolve;
        for (options, target, rule) in [
            (
                NetworkOptions {
                    offline: true,
                    ..NetworkOptions::default()
                },
                "site.test:443",
                "offline",
            ),
            (
                NetworkOptions {
                    deny: rules(&["site.test"]),
                    ..NetworkOptions::default()
                },
                "site.test:443",
                "session deny site.test",
            ),
            (
                NetworkOptions {
                    deny: rules(&["93.184.216.0/24"]),
                    ..NetworkOptions::default()
                },
                "93.184.216.34:443",
                "session deny 93.184.216.0/24",
            ),
            (
                NetworkOptions {
                    allow: rules(&["other.test"]),
                    ..NetworkOptions::default()
                },
                "site.test:443",
                "session allow",
            ),
            // Nobody here knows the addresses of a name the upstream looks up.
            (
                NetworkOptions {
                    allow: rules(&["10.0.0.0/8"]),
                    ..NetworkOptions::default()
                },
                "site.test:443",
                "session allow",
            ),
        ] {
            let internet = internet().server(DAEMONS, upstream.address);
            let proxy = Proxy::start_session(internet, &config, options, Limits::default()).await;
            let answer = connect(&proxy, target).await;
            assert!(
                answer.contains(&format!("x-pagebox-egress: {rule}\r\n")),
                "{answer}"
            );
            assert_eq!(newest(&proxy).verdict, refused_by(rule));
            assert!(proxy.connected.lock().unwrap().is_empty());
        }
    }
    assert!(upstream.asked().is_empty());
}

/// A session's `allow` is about what it opens, not about the proxy it goes through.
#[tokio::test]
async fn a_sessions_proxy_needs_no_entry_in_its_allow_list() {
    let theirs = Answers::default()
        .host("93.184.216.34:443", echo_bytes().await)
        .host("93.184.216.34:80", echo_host().await);
    let theirs = UpstreamProxy::socks5(theirs).await;
    let internet = internet()
        .server(SESSIONS, theirs.address)
        .name("other.test", &["93.184.216.35"]);
    let config = Config {
        allow: rules(&[SESSIONS]),
        ..Config::default()
    };
    for allow in ["site.test", "93.184.216.34"] {
        let asked_before = theirs.asked().len();
        let options = NetworkOptions {
            allow: rules(&[allow]),
            ..with_proxy(&format!("socks5://{SESSIONS}"), "")
        };
        let limits = Limits::default();
        let proxy = Proxy::start_session(internet.clone(), &config, options, limits).await;
        let mut client = proxy.client().await;
        client.send("CONNECT site.test:443 HTTP/1.1\r\n\r\n").await;
        client.until("\r\n\r\n").await;
        client.send("there").await;
        client.until("there").await;
        let answer = proxy.get("http://site.test/").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        for target in ["other.test:443", SESSIONS] {
            let answer = connect(&proxy, target).await;
            assert!(
                answer.contains("x-pagebox-egress: session allow\r\n"),
                "{target} {answer}"
            );
        }
        // Whether it was told to whom, the log names what was asked for and its address.
        let first = proxy.log.requests().remove(0);
        assert_eq!(&*first.host, "site.test");
        assert_eq!(first.address, Some("93.184.216.34".parse().unwrap()));
        assert_eq!(
            theirs.asked()[asked_before..],
            ["- 93.184.216.34:443", "- 93.184.216.34:80"]
        );
    }
}

#[tokio::test]
async fn the_byte_limit_holds_through_an_upstream_and_ends_what_follows() {
    const LIMIT: u64 = 10_000;
    let flood = host(|mut client: Client| async move {
        let block = vec![b'x'; 1 << 20];
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client.0, &block).await;
    })
    .await;
    let upstream = UpstreamProxy::http(Answers::default().host("93.184.216.34:443", flood)).await;
    let internet = internet().server(DAEMONS, upstream.address);
    let mut config = through(&format!("http://{DAEMONS}"), "", &[]);
    config.max_bytes = Bytes(LIMIT);
    let proxy = Proxy::start_with(internet, &config, Limits::default()).await;
    let mut client = proxy.client().await;
    client.send("CONNECT site.test:443 HTTP/1.1\r\n\r\n").await;
    client.until("\r\n\r\n").await;
    // What the proxy itself said is not the session's.
    assert_eq!(client.rest().await.len() as u64, LIMIT);
    assert_eq!(proxy.log.usage().received, Bytes(LIMIT));
    let answer = connect(&proxy, "site.test:443").await;
    assert!(
        answer.contains("x-pagebox-egress: byte-limit\r\n"),
        "{answer}"
    );
    assert_eq!(newest(&proxy).verdict, refused_by("byte-limit"));
    assert_eq!(upstream.asked(), ["- 93.184.216.34:443"]);
}

/// What the start of a session says, and its log.
#[tokio::test]
async fn a_page_an_upstream_did_not_open_says_why_and_is_one_failure() {
    let upstream = UpstreamProxy::http(Answers::default()).await;
    let internet = internet().server(DAEMONS, upstream.address);
    let config = through(&format!("http://{DAEMONS}"), "", &[]);
    let proxy = Proxy::start_with(internet, &config, Limits::default()).await;
    let why = |port| {
        format!(
            "cannot connect to site.test:{port}: the daemon's upstream proxy answered 403 Not from here"
        )
    };
    connect(&proxy, "site.test:443").await;
    assert_eq!(proxy.egress.failed_tunnel(), Some(why(443)));
    proxy.get("http://site.test/a").await;
    let failed = proxy.egress.failed_page("http://site.test/a");
    assert_eq!(failed, Some(why(80)));
    let requests = proxy.log.requests();
    assert_eq!(requests.len(), 2);
    for (request, port) in requests.iter().zip([443, 80]) {
        let error = format!("{} (tried 93.184.216.34:{port})", why(port));
        assert_eq!(request.verdict, Verdict::Failed(error.into()));
    }
}

#[tokio::test]
async fn a_proxy_whose_name_nobody_answers_for_is_looked_up_few_times_at_once() {
    let internet = internet().silent("proxy.test");
    let config = Config {
        allow: rules(&["proxy.test:8080"]),
        ..Config::default()
    };
    let options = with_proxy("http://proxy.test:8080", "");
    let limits = Limits {
        connect: 4 * SOON,
        ..Limits::default()
    };
    let proxy = Proxy::start_session(internet, &config, options, limits).await;
    let asked = || {
        let names = proxy.looked_up.lock().unwrap();
        names.iter().filter(|name| *name == "proxy.test").count()
    };
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = proxy.client().await;
        client
            .send("CONNECT 93.184.216.34:443 HTTP/1.1\r\n\r\n")
            .await;
        clients.push(client);
    }
    let first = async {
        while asked() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, first).await.expect("lookups");
    // Time in which the others would ask.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(asked(), 2);
}
