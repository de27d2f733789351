//! The proxy as a parser: requests, answers and connections that are not as they should be.

use std::time::Duration;

use pagebox::grpc::v1::Language;

use super::peer::{Peer, fine};
use super::{BY_HAND, only_allowed, table};
use crate::arena::Ground;

/// A python list of byte strings.
fn list(requests: &[String]) -> String {
    let quoted: Vec<String> = requests
        .iter()
        .map(|request| {
            let bytes: String = request
                .bytes()
                .map(|byte| format!("\\x{byte:02x}"))
                .collect();
            format!("b'{bytes}'")
        })
        .collect();
    format!("[{}]", quoted.join(","))
}

pub(super) async fn disagreeing(ground: &Ground) {
    let peer = Peer::start(|_| fine()).await;
    let port = peer.port;
    let close = "Connection: close\r\n\r\n";
    let cases: Vec<(String, &str)> = vec![
        // The pair: a plain request, and one whose Host lies.
        (
            format!("GET http://localhost:{port}/plain HTTP/1.1\r\nHost: localhost\r\n{close}"),
            "200",
        ),
        (
            format!("GET http://localhost:{port}/lying HTTP/1.1\r\nHost: 10.0.0.5\r\n{close}"),
            "200",
        ),
        (
            format!("GET http://10.0.0.5/a HTTP/1.1\r\nHost: localhost:{port}\r\n{close}"),
            "403",
        ),
        (
            format!(
                "GET http://10.0.0.5/a HTTP/1.1\r\nHost: localhost:{port}\r\nHost: x\r\n{close}"
            ),
            "403",
        ),
        (
            format!("GET http://localhost:{port}@10.0.0.5/a HTTP/1.1\r\nHost: x\r\n{close}"),
            "400",
        ),
        (
            format!("GET http://10.0.0.5@localhost:{port}/a HTTP/1.1\r\nHost: x\r\n{close}"),
            "400",
        ),
        (
            format!("GET http://10.0.0.5\\@localhost:{port}/a HTTP/1.1\r\nHost: x\r\n{close}"),
            "400",
        ),
        (
            format!("GET http://10.0.0.5#@localhost:{port}/ HTTP/1.1\r\nHost: x\r\n{close}"),
            "403",
        ),
        (
            format!("GET http://10.0.0.5?@localhost:{port}/ HTTP/1.1\r\nHost: x\r\n{close}"),
            "403",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: localhost:{port}\r\n{close}"),
            "400",
        ),
        (
            format!("GET //10.0.0.5/ HTTP/1.1\r\nHost: x\r\n{close}"),
            "400",
        ),
        (format!("GET * HTTP/1.1\r\nHost: x\r\n{close}"), "400"),
        (
            format!("GET ftp://localhost:{port}/ HTTP/1.1\r\nHost: x\r\n{close}"),
            "400",
        ),
        (
            format!("GET file:///etc/passwd HTTP/1.1\r\nHost: x\r\n{close}"),
            "400",
        ),
        (
            format!("GET https://localhost:{port}/ HTTP/1.1\r\nHost: x\r\n{close}"),
            "400",
        ),
        (
            format!("GET http://localhost:{port}:80/ HTTP/1.1\r\nHost: x\r\n{close}"),
            "400",
        ),
        (
            format!("GET http://local host:{port}/ HTTP/1.1\r\nHost: x\r\n{close}"),
            "400",
        ),
        (
            format!("GET http://localhost:0/ HTTP/1.1\r\nHost: x\r\n{close}"),
            "400",
        ),
        (
            format!("GET http://localhost:65536/ HTTP/1.1\r\nHost: x\r\n{close}"),
            "400",
        ),
        (
            format!("GET http://:{port}/ HTTP/1.1\r\nHost: x\r\n{close}"),
            "400",
        ),
        (
            format!("GET http:/localhost:{port}/ HTTP/1.1\r\nHost: x\r\n{close}"),
            "400",
        ),
        (
            format!("GET http://[fe80::1%25lo]:{port}/ HTTP/1.1\r\nHost: x\r\n{close}"),
            "400",
        ),
        (
            "CONNECT 10.0.0.5:443 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "403",
        ),
        (
            "CONNECT 93.184.216.34:22 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "403",
        ),
        (
            "CONNECT localhost:9222 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "403",
        ),
        (
            "CONNECT localhost:3128 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "403",
        ),
        (
            "CONNECT localhost HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "CONNECT /tmp/socket HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "400",
        ),
        (
            format!("CONNECT http://localhost:{port} HTTP/1.1\r\nHost: x\r\n\r\n"),
            "400",
        ),
        (
            format!("CONNECT a@localhost:{port} HTTP/1.1\r\nHost: x\r\n\r\n"),
            "400",
        ),
        (
            format!("CONNECT localhost:{port}:{port} HTTP/1.1\r\nHost: x\r\n\r\n"),
            "400",
        ),
        (
            format!(
                "GET http://10.0.0.5/ws HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: Upgrade\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n\r\n"
            ),
            "403",
        ),
        (
            format!("GET ws://localhost:{port}/ws HTTP/1.1\r\nHost: x\r\n{close}"),
            "400",
        ),
    ];
    let session = ground.blank().await;
    let requests: Vec<String> = cases.iter().map(|(request, _)| request.clone()).collect();
    let script = format!(
        "{BY_HAND}
json.dumps([statuses(data) for data in asked({})])",
        list(&requests)
    );
    let said: Vec<String> = serde_json::from_str(&session.python(&script).await).unwrap();
    for ((request, expected), said) in cases.iter().zip(&said) {
        assert_eq!(said, expected, "{request}");
    }
    let arrived = peer.requests();
    let own = format!("localhost:{port}");
    assert!(
        arrived
            .iter()
            .all(|request| request.field("host") == [&own]),
        "{arrived:?}"
    );
    let mut lines: Vec<&str> = arrived.iter().map(|request| &*request.line).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["GET /lying HTTP/1.1", "GET /plain HTTP/1.1"]);
    only_allowed(&session, port).await;
    session.stop().await;
}

pub(super) async fn smuggling(ground: &Ground) {
    let peer = Peer::start(|_| fine()).await;
    let port = peer.port;
    let to = |n: usize| format!("POST http://localhost:{port}/{n} HTTP/1.1\r\nHost: x\r\n");
    let hidden = format!("GET http://localhost:{port}/hidden HTTP/1.1\r\nHost: x\r\n\r\n");
    let short = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut requests: Vec<String> = [
        // Two readings of how long the body is.
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{short}", short.len() + 5),
        format!("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{:x}\r\n{short}\r\n0\r\n\r\n", short.len()),
        format!("Content-Length: 0\r\nContent-Length: {}\r\n\r\n{short}", short.len()),
        format!("Content-Length: {0}, {0}\r\n\r\n{short}", short.len()),
        format!("Content-Length: +{}\r\n\r\n{short}", short.len()),
        format!("Content-Length: 0x10\r\n\r\n{short}"),
        format!("Content-Length: -1\r\n\r\n{short}"),
        format!("Content-Length: 99999999999999999999\r\n\r\n{short}"),
        format!("Content-Length : {}\r\n\r\n{short}", short.len()),
        format!(" Content-Length: {}\r\n\r\n{short}", short.len()),
        format!("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{short}"),
        format!("Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n{short}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{short}"),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{short}"),
        format!("Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{short}"),
        format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n{short}"),
        format!("Transfer-Encoding: chu\r\n nked\r\n\r\n0\r\n\r\n{short}"),
        format!("Transfer-Encoding: chunked\r\n\r\n0\n\n{short}"),
        format!("Transfer-Encoding: chunked\r\n\r\n0;a=\"\r\n\r\n{short}\r\n\r\n"),
        format!("Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n{short}"),
        format!("Transfer-Encoding: chunked\r\n\r\n-1\r\n{short}"),
        format!("Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n{short}"),
        // Lines and fields that two readers split differently.
        format!("X: a\n\n{short}"),
        format!("X: a\r\n\tb: c\r\n\r\n{short}"),
        format!("X: a\0b\r\n\r\n{short}"),
        format!("X: a\rContent-Length: {}\r\n\r\n{short}", short.len()),
        format!("X\r\nContent-Length: 0\r\n\r\n{short}"),
        format!(": a\r\n\r\n{short}"),
        format!("Connection: content-length\r\nContent-Length: {}\r\n\r\n{short}", short.len()),
        format!("Connection: transfer-encoding, host\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{short}"),
        // Trailers that would be fields.
        "Transfer-Encoding: chunked\r\nTrailer: Host\r\n\r\n0\r\nHost: 10.0.0.5\r\nContent-Length: 9\r\n\r\n".to_owned(),
        format!("Expect: 100-continue\r\nContent-Length: {}\r\n\r\n{short}", short.len()),
        format!("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 0\r\n\r\n{short}"),
    ]
    .into_iter()
    .enumerate()
    .map(|(n, rest)| to(n) + &rest)
    .collect();
    let paths = requests.len();
    requests.extend([
        // The request line.
        format!("GET http://localhost:{port}/a HTTP/1.1\nHost: x\n\n{short}"),
        format!("GET http://localhost:{port}/a b HTTP/1.1\r\nHost: x\r\n\r\n{short}"),
        format!("GET http://localhost:{port}/a\rX HTTP/1.1\r\nHost: x\r\n\r\n{short}"),
        format!("GET http://localhost:{port}/a\0 HTTP/1.1\r\nHost: x\r\n\r\n{short}"),
        format!("GET http://localhost:{port}/a HTTP/1.1 HTTP/1.1\r\nHost: x\r\n\r\n{short}"),
        format!("GET\thttp://localhost:{port}/a\tHTTP/1.1\r\nHost: x\r\n\r\n{short}"),
        format!("G\0T http://localhost:{port}/a HTTP/1.1\r\nHost: x\r\n\r\n{short}"),
        // After a refusal, and with CONNECT.
        format!(
            "POST http://10.0.0.5/ HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{short}",
            short.len()
        ),
        format!(
            "CONNECT 10.0.0.5:443 HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{short}",
            short.len()
        ),
        format!(
            "CONNECT 10.0.0.5:443 HTTP/1.1\r\nHost: x\r\n\r\n{}",
            hidden.replace("/hidden", "/after-refusal")
        ),
    ]);
    let session = ground.blank().await;
    let script = format!(
        "{BY_HAND}
json.dumps([statuses(data) for data in asked({})])",
        list(&requests)
    );
    let said: Vec<String> = serde_json::from_str(&session.python(&script).await).unwrap();
    for (request, said) in requests.iter().zip(&said) {
        // Whatever came first, a hidden request in relative form can only be refused.
        let codes: Vec<&str> = said.split(' ').filter(|code| *code != "100").collect();
        let answered = codes.iter().filter(|code| **code == "200").count();
        let known = ["200", "400", "403", "502", "closed", "open", "408"];
        assert!(
            codes.iter().all(|code| known.contains(code)),
            "{request:?}: {said}"
        );
        let pipelined = request.contains("/after-refusal");
        assert!(answered <= 1, "{request:?}: {said}");
        assert!(
            !pipelined || said == "403 200" || said == "403",
            "{request:?}: {said}"
        );
    }
    // Every request that arrived is whole, one of ours, and says in one way how long it is.
    for request in peer.requests() {
        let path = request.line.split(' ').nth(1).unwrap_or_default();
        let number = path[1..].parse::<usize>().ok();
        let known = number.is_some_and(|n| n < paths) || ["/a", "/after-refusal"].contains(&path);
        assert!(known, "{request:?}");
        assert_eq!(
            request.field("host"),
            [format!("localhost:{port}")],
            "{request:?}"
        );
        assert_eq!(request.field("upgrade"), [""; 0], "{request:?}");
    }
    assert!(!peer.requests().is_empty());
    only_allowed(&session, port).await;
    session.stop().await;
}

pub(super) async fn other_protocols(ground: &Ground) {
    let session = ground.open("/about.html").await;
    let script = format!(
        "{BY_HAND}
import os
said = {{}}
words = dict(
    http09=b'GET http://localhost/\\r\\n',
    http2=b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + bytes(9),
    http3=b'GET http://localhost/ HTTP/3.0\\r\\n\\r\\n',
    tls=bytes.fromhex('16030100050100000103') + bytes(200),
    socks4=b'\\x04\\x01\\x00\\x50\\x0a\\x00\\x00\\x05\\x00',
    socks5=b'\\x05\\x01\\x00' + b'\\x05\\x01\\x00\\x01\\x0a\\x00\\x00\\x05\\x00\\x50',
    noise=os.urandom(100_000), zeros=bytes(100_000), line=b'A' * 200_000,
    fields=b'GET http://localhost/ HTTP/1.1\\r\\n' + b''.join(b'A%d: b\\r\\n' % n for n in range(5000)) + b'\\r\\n',
    field=b'GET http://localhost/ HTTP/1.1\\r\\nA: ' + b'b' * 200_000 + b'\\r\\n\\r\\n',
    method=b'A' * 70_000 + b' http://localhost/ HTTP/1.1\\r\\n\\r\\n',
    blank=b'\\r\\n' * 50_000,
)
for name, data in zip(words, asked(list(words.values()))): said[name] = statuses(data)
with socket.create_connection(('127.0.0.1', 3128)) as s:
    for byte in get('http://localhost:{port}/about.html'): s.sendall(bytes([byte]))
    said['slow'] = s.recv(12).decode()
json.dumps(said)",
        port = ground.site().port()
    );
    let mut said = table(&session.python(&script).await);
    assert_eq!(said.remove("slow").as_deref(), Some("HTTP/1.1 200"));
    for (name, seen) in said {
        let refused = ["400", "431", "414", "closed", "open", "505"];
        assert!(refused.contains(&&*seen), "{name}: {seen}");
    }
    let url = ground.site().url("/about.html");
    let status = format!("(await page.goto('{url}')).status()");
    assert_eq!(session.node(&status).await, "200");
    session.stop().await;
}

pub(super) async fn half_open(ground: &Ground) {
    let url = ground.site().url("/about.html");
    let (session, other) = tokio::join!(ground.open("/about.html"), ground.blank());
    let script = "
import socket
held = []
for n in range(400):
    s = socket.create_connection(('127.0.0.1', 3128), timeout=60)
    s.sendall(b'GET http://localhost/ HTTP/1.1\\r\\nHost: x')
    held.append(s)
for n in range(3000):
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex(('127.0.0.1', 3128))
    s.close()
len(held)";
    assert_eq!(session.python(script).await, "400");
    // Code of this session now waits for a place; nothing else does.
    let curl = format!("curl -s -m 3 --noproxy '' -o /dev/null '{url}'; echo $?");
    assert_eq!(session.bash(&curl).await, "28");
    let goto = format!("(await page.goto('{url}')).status()");
    assert_eq!(session.node(&goto).await, "200");
    assert_eq!(other.node(&goto).await, "200");
    let curl = format!("curl -s -m 60 --noproxy '' -o /dev/null -w '%{{http_code}}' '{url}'; true");
    assert_eq!(other.bash(&curl).await, "200");
    // The end of the python context ends its connections.
    let killed = session
        .exec_within(Duration::from_secs(1), Language::Python, "while True: pass")
        .await;
    assert!(killed.killed);
    assert_eq!(session.bash(&curl).await, "200");
    session.stop().await;
    other.stop().await;
}
