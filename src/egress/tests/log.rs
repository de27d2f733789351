//! What the log says of every way a request can go, and the byte limit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

use super::support::{Client, Internet, Proxy, SOON, echo_bytes, echo_host, host};
use crate::egress::{
    Config, Limits, Log, LoggedRequest, NetworkOptions, NetworkUsage, Source, Verdict,
};
use crate::limits::Bytes;

fn config(text: &str) -> Config {
    toml::from_str(text).unwrap()
}

async fn start(internet: Internet, text: &str) -> Proxy {
    Proxy::start_with(internet, &config(text), Limits::default()).await
}

/// Waits until `count` requests have ended and none goes on.
async fn ended(log: &Log, count: usize) -> Vec<LoggedRequest> {
    let all = async {
        loop {
            let requests = log.requests();
            if requests.len() == count && requests.iter().all(|r| r.end_time.is_some()) {
                return requests;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let all = timeout(SOON, all).await;
    all.unwrap_or_else(|_| panic!("not {count} ended requests: {:?}", log.requests()))
}

fn refused(request: &LoggedRequest) -> &str {
    match &request.verdict {
        Verdict::Refused(rule) => rule,
        other => panic!("{other:?}"),
    }
}

async fn next(events: &mut Receiver<LoggedRequest>) -> LoggedRequest {
    timeout(SOON, events.recv()).await.expect("told").unwrap()
}

/// Sends `GET url` over a connection that stays, and reads the echoed answer.
async fn get(client: &mut Client, url: &str) -> (String, String) {
    client
        .send(format!("GET {url} HTTP/1.1\r\nHost: x\r\n\r\n"))
        .await;
    let head = client.until("\r\n\r\n").await;
    let body = client.until("\r\n\r\n").await;
    (head, body)
}

#[tokio::test]
async fn each_request_of_a_kept_connection_has_its_own_bytes() {
    let proxy = Proxy::start(Internet::site(echo_host().await)).await;
    let mut client = proxy.client().await;
    let mut expected = Vec::new();
    for path in ["a", "much-longer-than-the-first", "c"] {
        let (head, body) = get(&mut client, &format!("http://site.test/{path}?secret=1")).await;
        // What the host got is the body it echoed; hyper hands its header fields on as they came.
        expected.push((body.len() as u64, (head.len() + body.len()) as u64));
    }
    let requests = ended(&proxy.log, 3).await;
    let bytes: Vec<_> = requests.iter().map(|r| (r.sent.0, r.received.0)).collect();
    assert_eq!(bytes, expected);
    for (index, request) in requests.iter().enumerate() {
        assert_eq!(request.id, index as u64 + 1);
        assert_eq!(request.source, Source::Browser);
        assert_eq!((&*request.host, request.port), ("site.test", 80));
        assert_eq!(request.address, Some("93.184.216.34".parse().unwrap()));
        assert_eq!(request.verdict, Verdict::Allowed);
        assert!(request.end_time >= Some(request.start_time));
    }
    let sum = |pick: fn(&LoggedRequest) -> u64| Bytes(requests.iter().map(pick).sum());
    let usage = NetworkUsage {
        requests: 3,
        refused: 0,
        sent: sum(|r| r.sent.0),
        received: sum(|r| r.received.0),
    };
    assert_eq!(proxy.log.usage(), usage);
    let all = format!("{requests:?}");
    assert!(!all.contains("secret") && !all.contains("longer"), "{all}");
}

#[tokio::test]
async fn a_tunnel_is_one_request_told_twice() {
    let proxy = Proxy::start(Internet::site(echo_bytes().await)).await;
    let mut events = proxy.log.subscribe().unwrap();
    let mut client = proxy.client().await;
    client.send("CONNECT Site.test.:443 HTTP/1.1\r\n\r\n").await;
    client.until("\r\n\r\n").await;
    let decided = next(&mut events).await;
    assert_eq!(decided.verdict, Verdict::Allowed);
    assert_eq!((&*decided.host, decided.port), ("site.test", 443));
    assert_eq!((decided.end_time, decided.sent), (None, Bytes(0)));
    client.send("hello").await;
    client.until("hello").await;
    // Bytes so far, while it goes on.
    let now = proxy.log.requests().remove(0);
    assert_eq!(now.end_time, None);
    assert_eq!((now.sent, now.received), (Bytes(5), Bytes(5)));
    drop(client);
    let last = next(&mut events).await;
    assert_eq!((last.id, last.verdict), (decided.id, Verdict::Allowed));
    assert!(last.end_time.is_some());
    assert_eq!((last.sent, last.received), (Bytes(5), Bytes(5)));
    assert!(events.try_recv().is_err());
}

#[tokio::test]
async fn a_websocket_is_one_request_with_its_handshake() {
    let address = host(|mut client| async move {
        client.until("\r\n\r\n").await;
        client
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        client.until("ping").await;
        client.send("pong").await;
    })
    .await;
    let proxy = Proxy::start(Internet::site(address)).await;
    let handshake = "GET http://site.test/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
                     Upgrade: websocket\r\n\r\n";
    let mut client = proxy.client().await;
    client.send(handshake).await;
    client.until("\r\n\r\n").await;
    client.send("ping").await;
    client.until("pong").await;
    drop(client);
    let request = ended(&proxy.log, 1).await.remove(0);
    assert_eq!(request.verdict, Verdict::Allowed);
    assert!(request.sent > Bytes(40), "{request:?}");
    assert!(request.received > Bytes(80), "{request:?}");
    // A refused one has its rule too.
    client = proxy.client().await;
    client
        .send(handshake.replace("site.test", "10.0.0.1"))
        .await;
    assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 403 "));
    let request = ended(&proxy.log, 2).await.remove(1);
    assert_eq!(refused(&request), "private-use 10.0.0.0/8");
}

#[tokio::test]
async fn refusals_and_failures_are_told_once_with_their_reason() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = nobody.local_addr().unwrap();
    drop(nobody);
    let garbage = host(|mut client| async move {
        client.until("\r\n\r\n").await;
        client.send("220 smtp ready\r\n").await;
    })
    .await;
    let internet = Internet::default()
        .name("rebind.test", &["93.184.216.34", "10.0.0.1"])
        .name("down.test", &["93.184.216.1"])
        .server("93.184.216.1:80", closed)
        .name("slow.test", &["93.184.216.2", "93.184.216.3"])
        .name("smtp.test", &["93.184.216.4"])
        .server("93.184.216.4:80", garbage);
    let limits = Limits {
        connect: Duration::from_millis(300),
        ..Limits::default()
    };
    let proxy = Proxy::start_with(internet, &config(r#"deny = ["*.ads.test"]"#), limits).await;
    let mut events = proxy.log.subscribe().unwrap();
    // The session's own localhost is no way out, and not in the log.
    for url in ["x.ads.test", "rebind.test", "rebind.test:22", "localhost:9"] {
        proxy.get(&format!("http://{url}/?q=s3cret")).await;
    }
    let connect = "CONNECT x.ads.test:443 HTTP/1.1\r\nConnection: close\r\n\r\n";
    let mut client = proxy.client().await;
    client.send(connect).await;
    client.until("\r\n\r\n").await;
    let expected = [
        ("x.ads.test", 80, "deny *.ads.test"),
        ("rebind.test", 80, "private-use 10.0.0.0/8"),
        ("rebind.test", 22, "port 22"),
        ("x.ads.test", 443, "deny *.ads.test"),
    ];
    for (host, port, rule) in expected {
        let request = next(&mut events).await;
        assert_eq!((&*request.host, request.port), (host, port));
        assert_eq!(refused(&request), rule);
        assert_eq!(request.end_time, Some(request.start_time));
        assert_eq!((request.address, request.sent), (None, Bytes(0)));
    }
    for (host, error) in [
        ("none.test", "cannot resolve none.test: no such host"),
        (
            "down.test",
            "cannot connect to down.test:80: Connection refused (os error 111) (tried \
             93.184.216.1:80)",
        ),
        (
            "slow.test",
            "cannot connect to slow.test:80: it took too long (tried 93.184.216.2:80, \
             93.184.216.3:80)",
        ),
    ] {
        proxy.get(&format!("http://{host}/?q=s3cret")).await;
        let request = next(&mut events).await;
        assert_eq!(&*request.host, host);
        assert_eq!(request.verdict, Verdict::Failed(error.into()));
    }
    // Allowed, then found not to speak HTTP: told again.
    proxy.get("http://smtp.test/?q=s3cret").await;
    let (first, last) = (next(&mut events).await, next(&mut events).await);
    assert_eq!((first.id, &first.verdict), (last.id, &Verdict::Allowed));
    assert!(
        matches!(&last.verdict, Verdict::Failed(error) if error.contains("no valid answer")),
        "{last:?}"
    );
    assert_eq!(last.address, Some("93.184.216.4".parse().unwrap()));
    assert!(events.try_recv().is_err(), "each once");
    // What is no request to any host is not in the log.
    proxy.get("ftp://site.test/").await;
    proxy
        .once("CONNECT nowhere HTTP/1.1\r\nConnection: close\r\n\r\n")
        .await;
    let usage = proxy.log.usage();
    assert_eq!((usage.requests, usage.refused), (8, 4));
    assert!(!format!("{:?}", proxy.log.requests()).contains("s3cret"));
}

#[tokio::test]
async fn a_request_sent_again_over_a_new_connection_is_one_request() {
    // Answers once and closes only when the second request has been read.
    let address = host(|mut client| async move {
        client.until("\r\n\r\n").await;
        client
            .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
        client.until("\r\n\r\n").await;
    })
    .await;
    let proxy = Proxy::start(Internet::site(address)).await;
    let mut client = proxy.client().await;
    for _ in 0..2 {
        client
            .send("GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n")
            .await;
        client.until("\r\n\r\nok").await;
    }
    let requests = ended(&proxy.log, 2).await;
    assert_eq!(proxy.connected.lock().unwrap().len(), 2);
    // The second went out twice and was answered once.
    assert_eq!(requests[1].sent.0, 2 * requests[0].sent.0);
    assert_eq!(requests[1].received, requests[0].received);
    assert_eq!(proxy.log.usage().requests, 2);
    // A request that changes something is not sent twice, and has failed.
    client
        .send("POST http://site.test/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        .await;
    client.until("\r\n").await;
    let requests = ended(&proxy.log, 3).await;
    assert!(matches!(requests[2].verdict, Verdict::Failed(_)));
}

#[tokio::test]
async fn the_ring_keeps_the_newest() {
    let proxy = start(Internet::default(), "log = 3").await;
    for n in 1..=5 {
        proxy.get(&format!("http://n{n}.test:22/")).await;
    }
    let kept: Vec<_> = proxy.log.requests().iter().map(|r| r.id).collect();
    assert_eq!(kept, [3, 4, 5]);
    assert_eq!(proxy.log.usage().refused, 5);
}

#[tokio::test]
async fn a_request_that_left_the_ring_is_still_told_to_watchers() {
    let internet = Internet::site(echo_bytes().await);
    let proxy = start(internet, "log = 1").await;
    let mut events = proxy.log.subscribe().unwrap();
    let mut client = proxy.client().await;
    client.send("CONNECT site.test:443 HTTP/1.1\r\n\r\n").await;
    client.until("\r\n\r\n").await;
    proxy.get("http://a.test:22/").await;
    drop(client);
    let told = [
        next(&mut events).await,
        next(&mut events).await,
        next(&mut events).await,
    ];
    assert_eq!(
        told.map(|r| (r.id, r.end_time.is_some())),
        [(1, false), (2, true), (1, true)]
    );
    assert_eq!(proxy.log.requests().len(), 1);
}

#[tokio::test]
async fn an_ended_session_keeps_what_fits_and_changes_no_more() {
    let name = format!("{0}.{0}.{0}.{1}.test", "a".repeat(60), "b".repeat(50));
    let proxy = start(Internet::site(echo_bytes().await), "log = 1000").await;
    for _ in 0..300 {
        proxy.get(&format!("http://{name}:22/")).await;
    }
    let mut client = proxy.client().await;
    client.send("CONNECT site.test:443 HTTP/1.1\r\n\r\n").await;
    client.until("\r\n\r\n").await;
    assert_eq!(proxy.log.requests().len(), 301);
    let mut events = proxy.log.subscribe().unwrap();
    proxy.log.close();
    let (usage, requests) = (proxy.log.usage(), proxy.log.requests());
    assert!((50..150).contains(&requests.len()), "{}", requests.len());
    assert_eq!(requests.last().unwrap().id, 301, "the newest");
    assert!(requests.iter().all(|r| r.end_time.is_some()));
    client.send("more").await;
    client.until("more").await;
    drop(client);
    proxy.get("http://late.test:22/").await;
    assert_eq!((proxy.log.usage(), proxy.log.requests()), (usage, requests));
    assert!(events.recv().await.is_err());
    assert!(proxy.log.subscribe().is_none());
}

/// A host that sends `size` bytes for every request it gets, and takes what it is sent.
async fn generous(size: usize) -> SocketAddr {
    host(move |mut client| async move {
        let head = client.until("\r\n\r\n").await;
        let mut sink = vec![0; 64 << 10];
        if head.starts_with("GET") {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
            client.send(head).await;
            let block = vec![b'x'; size];
            let _ = tokio::io::AsyncWriteExt::write_all(&mut client.0, &block).await;
        }
        while matches!(client.0.read(&mut sink).await, Ok(1..)) {}
    })
    .await
}

const LIMIT: u64 = 1 << 20;
fn assert_at_limit(log: &Log) {
    let usage = log.usage();
    assert_eq!(usage.sent.0 + usage.received.0, LIMIT);
}

#[tokio::test]
async fn the_byte_limit_ends_a_download_and_refuses_what_follows() {
    for request in [
        "GET http://site.test/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT site.test:80 HTTP/1.1\r\n\r\n",
    ] {
        let internet = Internet::site(generous(8 << 20).await);
        let proxy = start(internet, &format!("max_bytes = {LIMIT}")).await;
        let mut client = proxy.client().await;
        client.send(request).await;
        if request.starts_with("CONNECT") {
            client.until("\r\n\r\n").await;
            client.send("GET / HTTP/1.1\r\n\r\n").await;
        }
        let got = client.rest().await.len() as u64;
        assert!((LIMIT / 2..=LIMIT).contains(&got), "{got}");
        let logged = ended(&proxy.log, 1).await.remove(0);
        assert_eq!(refused(&logged), "byte-limit");
        assert!(logged.received.0 >= LIMIT - 1000, "{logged:?}");
        assert_at_limit(&proxy.log);
        for next in [
            "GET http://site.test/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "CONNECT other.test:443 HTTP/1.1\r\nConnection: close\r\n\r\n",
        ] {
            let mut client = proxy.client().await;
            client.send(next).await;
            let answer = client.until("\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
            assert!(
                answer.contains("x-pagebox-egress: byte-limit\r\n"),
                "{answer}"
            );
        }
        let requests = ended(&proxy.log, 3).await;
        assert_eq!(
            requests[1..].iter().map(refused).collect::<Vec<_>>(),
            ["byte-limit"; 2]
        );
        // Another rule that refuses it is named as before.
        let answer = proxy.get("http://site.test:22/").await;
        assert!(answer.contains("x-pagebox-egress: port 22\r\n"), "{answer}");
        assert!(
            proxy
                .looked_up
                .lock()
                .unwrap()
                .iter()
                .all(|name| name == "site.test")
        );
    }
}

#[tokio::test]
async fn the_byte_limit_counts_uploads_and_kept_connections() {
    let proxy = start(
        Internet::site(generous(1).await),
        &format!("max_bytes = {LIMIT}"),
    )
    .await;
    let mut client = proxy.client().await;
    client
        .send(format!(
            "POST http://site.test/ HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            8 << 20
        ))
        .await;
    let block = vec![b'x'; 8 << 20];
    let _ = tokio::io::AsyncWriteExt::write_all(&mut client.0, &block).await;
    client.rest().await;
    assert_eq!(refused(&ended(&proxy.log, 1).await[0]), "byte-limit");
    assert_at_limit(&proxy.log);

    // Many small answers over one connection: it ends between two of them.
    let proxy = start(Internet::site(echo_host().await), "max_bytes = 2000").await;
    let mut client = proxy.client().await;
    let mut answered = 0;
    let head = loop {
        client
            .send("GET http://site.test/ HTTP/1.1\r\nHost: x\r\n\r\n")
            .await;
        let head = client.until("\r\n\r\n").await;
        if !head.starts_with("HTTP/1.1 200 ") {
            break head;
        }
        client.until("\r\n\r\n").await;
        answered += 1;
    };
    assert!(head.contains("x-pagebox-egress: byte-limit\r\n"), "{head}");
    assert!((10..40).contains(&answered), "{answered}");
}

#[test]
fn a_session_narrows_the_limit_and_never_widens_it() {
    let config = config("max_bytes = 1000");
    for (asked, is_used_up) in [(None, false), (Some(500), true), (Some(5000), false)] {
        let options = NetworkOptions {
            max_bytes: asked.map(Bytes),
            ..NetworkOptions::default()
        };
        let log = Arc::new(Log::new(&config, &options));
        log.meter().add_sent(300);
        log.meter().add_received(300);
        assert_eq!(log.check().is_err(), is_used_up, "{asked:?}");
        log.meter().add_sent(400);
        assert!(log.check().is_err(), "{asked:?}");
    }
}
