//! Many, slow, endless and vanishing peers, and the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::support::{Client, Internet, Proxy, SOON, echo_bytes, echo_host, host};
use crate::egress::{Config, Limits};
use crate::limits::Bytes;

/// A host that reports when a connection to it ends.
async fn witness(send: &'static str, endless: bool) -> (std::net::SocketAddr, mpsc::Receiver<()>) {
    let (ended_tx, ended) = mpsc::channel(16);
    let address = host(move |mut client| {
        let ended = ended_tx.clone();
        async move {
            client.send(send).await;
            if endless {
                let block = [b'x'; 64 << 10];
                while client.0.write_all(&block).await.is_ok() {}
            } else {
                let mut read = Vec::new();
                let _ = client.0.read_to_end(&mut read).await;
            }
            let _ = ended.send(()).await;
        }
    })
    .await;
    (address, ended)
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future)
        .await
        .expect("did not happen")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_at_once() {
    let internet = Internet::site(echo_host().await)
        .name("tunnel.test", &["93.184.216.35"])
        .server("93.184.216.35:443", echo_bytes().await);
    let proxy = Arc::new(Proxy::start(internet).await);
    let barrier = Arc::new(tokio::sync::Barrier::new(200));
    let clients = (0..200).map(|i| {
        let (proxy, barrier) = (Arc::clone(&proxy), Arc::clone(&barrier));
        tokio::spawn(async move {
            let mut client = proxy.client().await;
            if i % 2 == 0 {
                client
                    .send("CONNECT tunnel.test:443 HTTP/1.1\r\n\r\n")
                    .await;
                client.until("\r\n\r\n").await;
            }
            // Every connection is open before any is used further.
            barrier.wait().await;
            for n in 0..10 {
                let word = format!("word-{i}-{n}");
                if i % 2 == 0 {
                    client.send(&word).await;
                    client.until(&word).await;
                } else {
                    client
                        .send(format!(
                            "GET http://site.test/{word} HTTP/1.1\r\nHost: x\r\n\r\n"
                        ))
                        .await;
                    client.until("\r\n\r\n").await;
                    let body = client.until("\r\n\r\n").await;
                    assert!(
                        body.starts_with(&format!("GET /{word} HTTP/1.1\r\n")),
                        "{body}"
                    );
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        soon(client).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_beyond_the_bound_waits_for_a_place() {
    let config = Config {
        connections: 2,
        ..Config::default()
    };
    let internet = Internet::site(echo_bytes().await);
    let proxy = Proxy::start_with(internet, &config, Limits::default()).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = proxy.client().await;
        client.send("CONNECT site.test:443 HTTP/1.1\r\n\r\n").await;
        client.until("\r\n\r\n").await;
        held.push(client);
    }
    let mut third = proxy.client().await;
    third.send("CONNECT site.test:443 HTTP/1.1\r\n\r\n").await;
    let early = tokio::time::timeout(Duration::from_millis(300), third.0.readable()).await;
    assert!(early.is_err(), "a third client was served");
    held.pop();
    assert!(third.until("\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn connections_kept_for_later_make_room_for_whoever_waits() {
    let config = Config {
        connections: 3,
        ..Config::default()
    };
    let internet = Internet::site(echo_host().await)
        .name("bytes.test", &["93.184.216.35"])
        .server("93.184.216.35:443", echo_bytes().await);
    let proxy = Proxy::start_with(internet, &config, Limits::default()).await;
    const GET: &str = "GET http://site.test/ HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut tunnel = proxy.client().await;
    tunnel.send("CONNECT bytes.test:443 HTTP/1.1\r\n\r\n").await;
    tunnel.until("\r\n\r\n").await;
    let unused = proxy.client().await;
    // Each of them takes the last place from the one before, which was answered and is kept.
    let mut kept: Vec<Client> = Vec::new();
    for n in 0..20 {
        let mut client = proxy.client().await;
        client.send(GET).await;
        let head = client.until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{n}: {head}");
        client.until("\r\n\r\n").await;
        if let Some(mut before) = kept.pop() {
            assert_eq!(before.rest().await, "", "{n}");
        }
        kept.push(client);
    }
    // Nobody waits any more: a kept connection stays, and so do a tunnel and one not used yet.
    let mut last = kept.pop().unwrap();
    for client in [&mut last, &mut { unused }] {
        client.send(GET).await;
        assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
        client.until("\r\n\r\n").await;
    }
    tunnel.send("still there").await;
    tunnel.until("still there").await;
}

#[tokio::test]
async fn half_a_next_request_keeps_no_place() {
    let config = Config {
        connections: 1,
        ..Config::default()
    };
    let proxy = Proxy::start_with(
        Internet::site(echo_host().await),
        &config,
        Limits::default(),
    )
    .await;
    const GET: &str = "GET http://site.test/ HTTP/1.1\r\nHost: x\r\n\r\n";
    for half in ["G", "GET http://site.te", &GET[..GET.len() - 2]] {
        let mut first = proxy.client().await;
        first.send(GET).await;
        // The head, and the body, which is the head that the host saw.
        first.until("\r\n\r\n").await;
        first.until("\r\n\r\n").await;
        first.send(half).await;
        let mut second = proxy.client().await;
        second.send(GET).await;
        assert_eq!(first.rest().await, "", "{half:?}");
        let head = second.until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{half:?}: {head}");
    }
}

#[tokio::test]
async fn an_answer_on_its_way_is_finished_before_its_place_is_given_up() {
    let (go, going) = tokio::sync::watch::channel(false);
    let address = host(move |mut client| {
        let mut going = going.clone();
        async move {
            client.until("\r\n\r\n").await;
            client
                .send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
                .await;
            let _ = going.wait_for(|go| *go).await;
            client.send("full").await;
            let _ = client.0.read_u8().await;
        }
    })
    .await;
    let config = Config {
        connections: 1,
        ..Config::default()
    };
    let proxy = Proxy::start_with(Internet::site(address), &config, Limits::default()).await;
    const GET: &str = "GET http://site.test/ HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut first = proxy.client().await;
    first.send(GET).await;
    first.until("half").await;
    let mut second = proxy.client().await;
    second.send(GET).await;
    let early = tokio::time::timeout(Duration::from_millis(300), second.0.readable()).await;
    assert!(early.is_err(), "the second was served beside the first");
    go.send_replace(true);
    assert_eq!(first.rest().await, "full");
    second.until("halffull").await;
}

#[tokio::test]
async fn headers_have_a_bound_on_both_sides() {
    let long = "x".repeat(40_000);
    let answer: &'static str = Box::leak(
        format!("HTTP/1.1 200 OK\r\nA: {long}\r\nContent-Length: 0\r\n\r\n").into_boxed_str(),
    );
    let address = host(move |mut client| async move {
        client.until("\r\n\r\n").await;
        client.send(answer).await;
    })
    .await;
    let limits = Limits {
        header: Bytes::kib(16),
        ..Limits::default()
    };
    let proxy = Proxy::start_with(Internet::site(address), &Config::default(), limits).await;
    assert!(
        proxy
            .get("http://site.test/")
            .await
            .starts_with("HTTP/1.1 502 ")
    );
    let mut client = proxy.client().await;
    client
        .send(format!(
            "GET http://site.test/ HTTP/1.1\r\nA: {long}\r\n\r\n"
        ))
        .await;
    assert!(client.until("\r\n").await.starts_with("HTTP/1.1 431 "));
    // Many small ones are bounded as well.
    let mut client = proxy.client().await;
    client
        .send(format!(
            "GET http://site.test/ HTTP/1.1\r\n{}\r\n",
            "A: b\r\n".repeat(300)
        ))
        .await;
    assert!(client.until("\r\n").await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn silence_ends_tunnels_answers_and_half_sent_requests() {
    let limits = Limits {
        silence: Duration::from_secs(1),
        header_wait: Duration::from_millis(200),
        ..Limits::default()
    };
    let (quiet, mut quiet_ended) = witness("", false).await;
    let proxy = Proxy::start_with(Internet::site(quiet), &Config::default(), limits).await;

    let mut tunnel = proxy.client().await;
    tunnel.send("CONNECT site.test:443 HTTP/1.1\r\n\r\n").await;
    tunnel.until("\r\n\r\n").await;
    // Bytes every now and then keep it open for longer than the bound.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1900) {
        tunnel.send("x").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(quiet_ended.try_recv().is_err());
    assert_eq!(tunnel.rest().await, "");
    soon(quiet_ended.recv()).await;

    let mut waiting = proxy.client().await;
    waiting
        .send("GET http://site.test/ HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    assert_eq!(waiting.rest().await, "");
    soon(quiet_ended.recv()).await;

    let mut half_sent = proxy.client().await;
    half_sent.send("GET http://site.test/ HT").await;
    let answer = half_sent.rest().await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_slow_host_is_waited_for_while_its_bytes_come() {
    let address = host(|mut client| async move {
        client.until("\r\n\r\n").await;
        client
            .send("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n")
            .await;
        for _ in 0..15 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            client.send("x").await;
        }
    })
    .await;
    let limits = Limits {
        silence: Duration::from_secs(1),
        ..Limits::default()
    };
    let proxy = Proxy::start_with(Internet::site(address), &Config::default(), limits).await;
    assert!(
        proxy
            .get("http://site.test/")
            .await
            .ends_with("\r\n\r\nxxxxxxxxxxxxxxx")
    );
}

#[tokio::test]
async fn an_endless_body_waits_for_its_reader_and_ends_with_it() {
    for request in [
        "GET http://site.test/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT site.test:443 HTTP/1.1\r\n\r\n",
    ] {
        let (address, mut ended) = witness("HTTP/1.1 200 OK\r\n\r\n", true).await;
        let proxy = Proxy::start(Internet::site(address)).await;
        let mut client = proxy.client().await;
        client.send(request).await;
        client.until("\r\n\r\n").await;
        let mut buffer = vec![0; 1 << 20];
        let mut total = 0;
        while total < 8 << 20 {
            total += soon(client.0.read(&mut buffer)).await.unwrap();
        }
        assert!(ended.try_recv().is_err());
        drop(client);
        soon(ended.recv()).await;
    }
}

#[tokio::test]
async fn a_client_that_vanishes_while_waiting_ends_the_hosts_connection() {
    let (address, mut ended) = witness("", false).await;
    let proxy = Proxy::start(Internet::site(address)).await;
    for request in [
        "GET http://site.test/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST http://site.test/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf",
        "CONNECT site.test:443 HTTP/1.1\r\n\r\n",
    ] {
        let mut client = proxy.client().await;
        client.send(request).await;
        soon(async {
            while proxy.connected.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        proxy.connected.lock().unwrap().clear();
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(client);
        soon(ended.recv()).await;
    }
}

#[tokio::test]
async fn cancelling_ends_everything_at_once() {
    let (quiet, mut ended) = witness("", false).await;
    let internet = Internet::site(quiet).name("nowhere.test", &["93.184.216.99"]);
    let proxy = Proxy::start(internet).await;
    let mut clients: Vec<Client> = Vec::new();
    for request in [
        "",
        "GET http://si",
        "GET http://site.test/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT site.test:443 HTTP/1.1\r\n\r\n",
        "CONNECT nowhere.test:443 HTTP/1.1\r\n\r\n",
    ] {
        let mut client = proxy.client().await;
        client.send(request).await;
        clients.push(client);
    }
    soon(async {
        while proxy.connected.lock().unwrap().len() < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let start = Instant::now();
    proxy.cancel.cancel();
    soon(ended.recv()).await;
    soon(ended.recv()).await;
    for mut client in clients {
        client.rest().await;
    }
    while !proxy.task.is_finished() {
        tokio::task::yield_now().await;
    }
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    assert!(tokio::net::TcpStream::connect(proxy.address).await.is_err());
}

#[tokio::test]
async fn a_second_address_is_tried_when_the_first_does_not_answer() {
    let hits = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&hits);
    let address = host(move |mut client| {
        counting.fetch_add(1, Ordering::Relaxed);
        async move {
            client.until("\r\n\r\n").await;
            client
                .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
        }
    })
    .await;
    // The first leads nowhere and never says so.
    let internet = Internet::default()
        .name("two.test", &["93.184.216.1", "93.184.216.2"])
        .server("93.184.216.2:80", address);
    let proxy = Proxy::start(internet).await;
    let start = Instant::now();
    assert!(proxy.get("http://two.test/").await.ends_with("ok"));
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(hits.load(Ordering::Relaxed), 1);
}
