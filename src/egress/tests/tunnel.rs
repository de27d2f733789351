//! CONNECT and WebSocket.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Internet, Proxy, echo_bytes, host};

#[tokio::test]
async fn connect_carries_bytes_both_ways_and_each_close_by_itself() {
    let proxy = Proxy::start(Internet::site(echo_bytes().await)).await;
    let mut client = proxy.client().await;
    // The first bytes may come with the request.
    client
        .send("CONNECT site.test:443 HTTP/1.1\r\nHost: site.test:443\r\n\r\nearly")
        .await;
    let head = client.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(!head.to_lowercase().contains("content-length"), "{head}");
    client.until("early").await;

    let sent: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let (mut read, mut write) = client.0.into_split();
    let expected = sent.clone();
    let writing = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
        write
    });
    let mut received = Vec::new();
    read.read_to_end(&mut received).await.unwrap();
    assert!(received == expected);
    writing.await.unwrap();
    assert_eq!(
        *proxy.connected.lock().unwrap(),
        ["93.184.216.34:443".parse().unwrap()]
    );
}

#[tokio::test]
async fn a_host_that_closes_first_still_hears_the_client() {
    let (heard_tx, mut heard) = tokio::sync::mpsc::channel(1);
    let address = host(move |mut client| {
        let heard = heard_tx.clone();
        async move {
            client.send("bye").await;
            client.0.shutdown().await.unwrap();
            heard.send(client.rest().await).await.unwrap();
        }
    })
    .await;
    let proxy = Proxy::start(Internet::site(address)).await;
    let mut client = proxy.client().await;
    client.send("CONNECT site.test:443 HTTP/1.1\r\n\r\n").await;
    client.until("\r\n\r\n").await;
    assert_eq!(client.rest().await, "bye");
    client.send("late words").await;
    client.0.shutdown().await.unwrap();
    assert_eq!(heard.recv().await.unwrap(), "late words");
}

#[tokio::test]
async fn connect_is_refused_before_a_tunnel_exists() {
    let internet =
        Internet::site(echo_bytes().await).name("rebind.test", &["93.184.216.34", "127.0.0.1"]);
    let proxy = Proxy::start(internet).await;
    for (authority, rule) in [
        ("site.test:22", "port 22"),
        ("93.184.216.34:22", "port 22"),
        ("rebind.test:443", "loopback 127.0.0.0/8"),
        ("127.0.0.1:9222", "protected-port"),
        ("2130706433:9222", "protected-port"),
        ("[::1]:9222", "protected-port"),
        ("0x7f.1.:9222", "protected-port"),
        ("127.0.0.2:443", "loopback 127.0.0.0/8"),
        ("[::ffff:169.254.169.254]:443", "ipv4-mapped ::ffff:0:0/96"),
        ("[64:ff9b::a00:1]:443", "nat64 64:ff9b::/96"),
        ("[2002:a00:1::]:443", "6to4 2002::/16"),
    ] {
        let request = format!("CONNECT {authority} HTTP/1.1\r\nConnection: close\r\n\r\n");
        let answer = proxy.once(&request).await;
        let status = format!("HTTP/1.1 403 Forbidden: {rule}\r\n");
        assert!(answer.starts_with(&status), "{answer}");
        assert!(
            answer.contains(&format!("x-pagebox-egress: {rule}\r\n")),
            "{answer}"
        );
    }
    assert!(proxy.connected.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_websocket_over_plain_http_becomes_a_tunnel() {
    let address = host(|mut client| async move {
        let head = client.until("\r\n\r\n").await;
        let lower = head.to_lowercase();
        assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
        for field in [
            "connection: upgrade\r\n",
            "upgrade: websocket\r\n",
            "host: site.test\r\n",
            "sec-websocket-key: eA==\r\n",
        ] {
            assert!(lower.contains(&field.to_lowercase()), "{head}");
        }
        client
            .send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Accept: abc\r\n\r\nhello",
            )
            .await;
        let (mut read, mut write) = client.0.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let proxy = Proxy::start(Internet::site(address)).await;
    let mut client = proxy.client().await;
    client
        .send("GET http://site.test/chat HTTP/1.1\r\nHost: site.test\r\nConnection: keep-alive, Upgrade\r\n\
               Upgrade: WebSocket\r\nSec-WebSocket-Key: eA==\r\n\r\n")
        .await;
    let head = client.until("\r\n\r\n").await.to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("connection: upgrade\r\n"), "{head}");
    assert!(head.contains("sec-websocket-accept: abc\r\n"), "{head}");
    client.until("hello").await;
    client.send("frame").await;
    client.until("frame").await;
    client.0.shutdown().await.unwrap();
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_real_websocket_library_talks_through_the_proxy() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    let address = host(|client| async move {
        let mut socket = tokio_tungstenite::accept_async(client.0).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() || message.is_binary() {
                socket.send(message).await.unwrap();
            }
        }
    })
    .await;
    let proxy = Proxy::start(Internet::site(address)).await;
    // As Chromium does it: WebSockets go through CONNECT, to port 80 too.
    let mut client = proxy.client().await;
    client.send("CONNECT site.test:80 HTTP/1.1\r\n\r\n").await;
    client.until("\r\n\r\n").await;
    let (mut socket, _) = tokio_tungstenite::client_async("ws://site.test/", client.0)
        .await
        .unwrap();
    let big = Message::binary(vec![7u8; 1 << 20]);
    socket.send(big.clone()).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), big);
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn a_websocket_the_host_declines_is_an_ordinary_answer() {
    let address = host(|mut client| async move {
        client.until("\r\n\r\n").await;
        client
            .send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
            .await;
        client.until("\r\n\r\n").await;
        client
            .send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes")
            .await;
    })
    .await;
    let proxy = Proxy::start(Internet::site(address)).await;
    let mut client = proxy.client().await;
    client
        .send("GET http://site.test/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    assert!(client.until("no").await.starts_with("HTTP/1.1 401 "));
    client
        .send("GET http://site.test/ HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    assert!(client.until("yes").await.starts_with("HTTP/1.1 200 "));
}
