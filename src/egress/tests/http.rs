//! Plain http: what reaches the host and what comes back.

use tokio::io::AsyncWriteExt;

use super::support::{Internet, Proxy, echo_host, host};
use crate::egress::{Config, Limits};

#[tokio::test]
async fn the_host_sees_its_own_form_of_the_request() {
    let proxy = Proxy::start(Internet::site(echo_host().await)).await;
    let answer = proxy
        .once(
            "GET http://SITE.test./a//b?c=%20d HTTP/1.1\r\nHost: other.test:99\r\n\
             Proxy-Connection: keep-alive\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\n\
             Keep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\nProxy-Authorization: Basic eA==\r\n\
             Expect: 100-continue\r\nCookie: a=b\r\nX-Kept: Yes\r\n\r\n",
        )
        .await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(!head.to_lowercase().contains("date:"), "{head}");
    let mut lines: Vec<_> = body.trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "GET /a//b?c=%20d HTTP/1.1");
    lines.sort_unstable();
    assert_eq!(lines, ["Cookie: a=b", "Host: site.test", "X-Kept: Yes"]);
    assert_eq!(
        *proxy.connected.lock().unwrap(),
        ["93.184.216.34:80".parse().unwrap()]
    );
}

#[tokio::test]
async fn only_absolute_http_urls_and_connect_are_taken() {
    let proxy = Proxy::start(Internet::site(echo_host().await)).await;
    for request in [
        "GET / HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n",
        "GET https://site.test/ HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n",
        "GET ftp://site.test/ HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n",
        "GET ws://site.test/ HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n",
        "GET http://u:p@site.test/ HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n",
        "GET http://127.0.0.1@site.test/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET http://site..test/ HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n",
        "GET http://site.test:0/ HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n",
        "GET http://site.test:99999/ HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n",
        "GET http:///x HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n",
        "GET http://[fe80::1%25lo]/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET http://a\\@site.test/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "CONNECT site.test HTTP/1.1\r\nHost: site.test\r\n\r\n",
        "CONNECT / HTTP/1.1\r\nHost: site.test\r\n\r\n",
        "CONNECT u@site.test:443 HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n",
        "CONNECT http://site.test:443/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GARBAGE\r\n\r\n",
    ] {
        let mut client = proxy.client().await;
        client.send(request).await;
        client.0.shutdown().await.unwrap();
        let answer = client.rest().await;
        // hyper closes without an answer on what the client itself closed after a bad request.
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{request}{answer}"
        );
        let mut client = proxy.client().await;
        client.send(request).await;
        let line = client.until("\r\n").await;
        assert!(
            line.starts_with("HTTP/1.1 400 Bad Request"),
            "{line}{request}"
        );
    }
    assert!(proxy.connected.lock().unwrap().is_empty());
}

#[tokio::test]
async fn refusals_name_their_rule_and_the_host() {
    let internet = Internet::default()
        .name("rebind.test", &["93.184.216.34", "10.0.0.1"])
        .name("meta.test", &["169.254.169.254"]);
    let config: Config = toml::from_str(r#"deny = ["*.ads.test"]"#).unwrap();
    let proxy = Proxy::start_with(internet, &config, Limits::default()).await;
    for (url, rule, host) in [
        (
            "http://rebind.test/x?secret=1",
            "private-use 10.0.0.0/8",
            "rebind.test:80",
        ),
        (
            "http://meta.test/latest",
            "metadata 169.254.169.254/32",
            "meta.test:80",
        ),
        (
            "http://0xa9fea9fe/latest",
            "metadata 169.254.169.254/32",
            "169.254.169.254:80",
        ),
        (
            "http://[::ffff:127.0.0.1]/",
            "ipv4-mapped ::ffff:0:0/96",
            "[::ffff:127.0.0.1]:80",
        ),
        ("http://localhost:9222/", "protected-port", "localhost:9222"),
        ("http://x.ads.test/", "deny *.ads.test", "x.ads.test:80"),
        ("http://rebind.test:22/", "port 22", "rebind.test:22"),
    ] {
        let answer = proxy.get(url).await;
        let status = format!("HTTP/1.1 403 Forbidden: {rule}\r\n");
        assert!(answer.starts_with(&status), "{answer}");
        assert!(
            answer.contains(&format!("x-pagebox-egress: {rule}\r\n")),
            "{answer}"
        );
        let text = format!("\r\n\r\npagebox: refused by rule \"{rule}\": {host}\n");
        assert!(answer.ends_with(&text), "{answer}");
    }
    assert!(proxy.connected.lock().unwrap().is_empty());
    // What is refused by name is not even looked up.
    assert_eq!(
        *proxy.looked_up.lock().unwrap(),
        ["rebind.test", "meta.test"]
    );
}

#[tokio::test]
async fn failures_to_reach_a_host_have_their_own_status() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = nobody.local_addr().unwrap();
    drop(nobody);
    let garbage = host(|mut client| async move {
        client.until("\r\n\r\n").await;
        client.send("220 smtp ready\r\n").await;
    })
    .await;
    let upgrade = host(|mut client| async move {
        client.until("\r\n\r\n").await;
        client
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
            .await;
    })
    .await;
    let internet = Internet::default()
        .name("down.test", &["93.184.216.1"])
        .server("93.184.216.1:80", closed)
        .name("slow.test", &["93.184.216.2"])
        .name("smtp.test", &["93.184.216.3"])
        .server("93.184.216.3:80", garbage)
        .name("upgrade.test", &["93.184.216.4"])
        .server("93.184.216.4:80", upgrade)
        .name("empty.test", &[]);
    let limits = Limits {
        connect: std::time::Duration::from_millis(300),
        ..Limits::default()
    };
    let proxy = Proxy::start_with(internet, &Config::default(), limits).await;
    for (host, status, text) in [
        (
            "none.test",
            "502 Bad Gateway",
            "cannot resolve none.test: no such host",
        ),
        (
            "empty.test",
            "502 Bad Gateway",
            "cannot resolve empty.test: no such host",
        ),
        (
            "down.test",
            "502 Bad Gateway",
            "cannot connect to down.test:80: Connection refused",
        ),
        (
            "slow.test",
            "504 Gateway Timeout",
            "cannot connect to slow.test:80: it took too long",
        ),
        (
            "smtp.test",
            "502 Bad Gateway",
            "smtp.test:80 gave no valid answer",
        ),
        (
            "upgrade.test",
            "502 Bad Gateway",
            "upgrade.test:80 switched protocols",
        ),
    ] {
        let answer = proxy.get(&format!("http://{host}/")).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}: {text}")),
            "{answer}"
        );
        assert!(answer.contains(&format!("pagebox: {text}")), "{answer}");
        assert!(!answer.contains("x-pagebox-egress"), "{answer}");
    }
}

#[tokio::test]
async fn every_request_is_checked_and_a_redirect_is_one() {
    let redirecting = host(|mut client| async move {
        loop {
            client.until("\r\n\r\n").await;
            client
                .send("HTTP/1.1 302 Found\r\nLocation: http://inside.test/\r\nContent-Length: 0\r\n\r\n")
                .await;
        }
    })
    .await;
    let internet = Internet::site(redirecting).name("inside.test", &["10.0.0.1"]);
    let proxy = Proxy::start(internet).await;
    let mut client = proxy.client().await;
    client
        .send("GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n")
        .await;
    let answer = client.until("\r\n\r\n").await.to_lowercase();
    assert!(answer.contains("location: http://inside.test/"), "{answer}");
    client
        .send("GET http://inside.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n")
        .await;
    let answer = client.until("\r\n\r\n").await;
    assert!(
        answer.contains("x-pagebox-egress: private-use 10.0.0.0/8"),
        "{answer}"
    );
    // The client's connection lives on.
    client.until("inside.test:80\n").await;
    client
        .send("GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n")
        .await;
    assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 302"));
}

#[tokio::test]
async fn one_clients_connection_to_a_host_is_used_again() {
    let proxy = Proxy::start(Internet::site(echo_host().await)).await;
    let mut client = proxy.client().await;
    let mut last = String::new();
    for _ in 0..5 {
        client
            .send("GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n")
            .await;
        last = client.until("\r\n\r\n").await;
        client.until("\r\n\r\n").await;
    }
    assert!(last.contains("N: 5\r\n"), "{last}");
    assert_eq!(proxy.connected.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_kept_connection_the_host_closed_is_replaced() {
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
    for _ in 0..3 {
        client
            .send("GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n")
            .await;
        assert!(
            client
                .until("\r\n\r\nok")
                .await
                .starts_with("HTTP/1.1 200 OK\r\n")
        );
    }
    // A request that changes something is not sent twice.
    let post = "POST http://site.test/ HTTP/1.1\r\nHost: site.test\r\nContent-Length: 0\r\n\r\n";
    client.send(post).await;
    assert!(client.until("\r\n").await.starts_with("HTTP/1.1 502 "));
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let address = host(|mut client| async move {
        let head = client.until("\r\n\r\n").await.to_lowercase();
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        assert!(!head.contains("content-length"), "{head}");
        // The first half must come before the second is sent.
        client.until("half one\r\n").await;
        client
            .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            .await;
        client.until("half two\r\n").await;
        client.send("6\r\nsecond\r\n0\r\n\r\n").await;
    })
    .await;
    let proxy = Proxy::start(Internet::site(address)).await;
    let mut client = proxy.client().await;
    client
        .send("POST http://site.test/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf one\r\n")
        .await;
    client.until("first\r\n").await;
    client.send("8\r\nhalf two\r\n0\r\n\r\n").await;
    client.until("second\r\n").await;
}

#[tokio::test]
async fn methods_lengths_and_statuses_pass_through() {
    let address = host(|mut client| async move {
        let head = client.until("\r\n\r\n").await;
        let answer = match head.split(' ').next().unwrap() {
            "HEAD" => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
            "PUT" => "HTTP/1.1 204 No Content\r\n\r\n",
            "PURGE" => "HTTP/1.1 299 Odd Reason\r\nContent-Length: 3\r\n\r\nabc",
            "GET" => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
            // An old host: no length, the end of the connection ends the body.
            _ => "HTTP/1.0 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nuntil the end",
        };
        client.send(answer).await;
    })
    .await;
    let proxy = Proxy::start(Internet::site(address)).await;
    for (method, expected) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n"),
        ("PUT", "HTTP/1.1 204 No Content\r\n"),
        ("PURGE", "HTTP/1.1 299 Odd Reason\r\nContent-Length: 3\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n"),
        (
            "DELETE",
            "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n",
        ),
    ] {
        let request =
            format!("{method} http://site.test/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = proxy.once(&request).await;
        assert!(answer.starts_with(expected), "{method}: {answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        match method {
            "PURGE" => assert_eq!(body, "abc"),
            "DELETE" => assert!(body.contains("until the end"), "{body}"),
            _ => assert_eq!(body, ""),
        }
    }
}

#[tokio::test]
async fn host_loopback_reaches_the_hosts_own_server() {
    let address = echo_host().await;
    let port = address.port();
    let config = Config {
        host_loopback: vec![port.to_string()],
        ..Config::default()
    };
    let proxy = Proxy::start_with(Internet::default(), &config, Limits::default()).await;
    for host in ["localhost", "app.localhost", "127.0.0.1", "[::1]"] {
        let answer = proxy.get(&format!("http://{host}:{port}/x")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.contains(&format!("ost: {host}:{port}\r\n")),
            "{answer}"
        );
    }
    let other = proxy.get("http://localhost:1/").await;
    let own = "nothing listens on port 1 of the session's own localhost";
    assert!(other.contains(own), "{other}");
    // Listening on ::1 alone is reached too, where the machine has IPv6.
    if let Ok(listener) = std::net::TcpListener::bind("[::1]:0") {
        let port = listener.local_addr().unwrap().port();
        let config = Config {
            host_loopback: vec!["*".into()],
            ..Config::default()
        };
        let proxy = Proxy::start_with(Internet::default(), &config, Limits::default()).await;
        let mut client = proxy.client().await;
        client
            .send(format!("CONNECT localhost:{port} HTTP/1.1\r\n\r\n"))
            .await;
        assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
    }
}
