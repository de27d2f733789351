//! Proxies that do not connect: what is said of them, and how often they are asked.

use super::super::support::{Internet, Proxy, host};
use super::proxies::{Answers, UpstreamProxy};
use super::{
    DAEMONS, SESSIONS, connect, daemon_through, internet, quick, text, through, with_proxy,
};
use crate::egress::{Config, Limits};
use proptest::prelude::*;

/// What a session sees of a daemon's upstream that answers so.
async fn failure(scheme: &str, answer: impl Into<Vec<u8>>) -> String {
    let upstream = UpstreamProxy::saying(answer).await;
    let proxy = daemon_through(scheme, upstream.address, quick()).await;
    connect(&proxy, "site.test:443").await
}

fn assert_failed(answer: &str, status: u16, expected: &str) {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
    let expected =
        format!("pagebox: cannot connect to site.test:443: the daemon's upstream proxy {expected}");
    assert_eq!(text(answer), expected);
    // Where it is, is the operator's business.
    assert!(!answer.contains("10.1.2.3"), "{answer}");
}

#[tokio::test]
async fn answers_to_connect_that_are_none() {
    let wants = "wants credentials";
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: x\r\n".repeat(300));
    let informed = "HTTP/1.1 100 Continue\r\n\r\n".repeat(2000);
    let too_large = "gave no valid answer: message head is too large";
    let too_much = "gave no valid answer: connection error: its header is over 16384 bytes";
    for (answer, status, expected) in [
        ("HTTP/1.1 407 Give me some\r\n\r\n", 502, wants),
        (
            "HTTP/1.1 403 Not from here\r\n\r\n",
            502,
            "answered 403 Not from here",
        ),
        (
            "HTTP/1.1 502 Bad Gateway\r\n\r\n",
            502,
            "answered 502 Bad Gateway",
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            502,
            "answered 101 Switching Protocols",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://10.1.2.3/\r\n\r\n",
            502,
            "answered 302 Found",
        ),
        (
            "HTTP/1.1 403 \x01<b>\x7f\r\n\r\n",
            502,
            "gave no valid answer: invalid HTTP status-code parsed",
        ),
        (
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            502,
            "gave no valid answer: invalid HTTP version parsed",
        ),
        (
            "\0\0\0\0\0\0\0\0\0\0\0\0\r\n\r\n",
            502,
            "gave no valid answer: invalid HTTP version parsed",
        ),
        (&long, 502, too_large),
        (&many, 502, too_large),
        (&informed, 502, too_much),
        ("HTTP/1.1 200 OK\r\n", 504, "did not answer in time"),
        ("", 504, "did not answer in time"),
    ] {
        let answer = failure("http", answer).await;
        assert_failed(&answer, status, expected);
    }
    let long = format!("HTTP/1.1 403 {}\r\n\r\n", "no ".repeat(1000));
    let answer = failure("http", long).await;
    assert!(answer.len() < 1000, "{answer}");
    assert!(answer.contains("answered 403 no no no"), "{answer}");
}

#[tokio::test]
async fn answers_to_socks5_that_are_none() {
    let reply = |code: u8| [&b"\x05\x00\x05"[..], &[code], b"\x00\x01\0\0\0\0\0\0"].concat();
    for (answer, status, expected) in [
        (b"\x05\xff".to_vec(), 502, "wants credentials"),
        (b"\x05\x02".to_vec(), 502, "wants credentials"),
        (reply(1), 502, "answered \"general SOCKS server failure\""),
        (
            reply(2),
            502,
            "answered \"connection not allowed by ruleset\"",
        ),
        (reply(3), 502, "answered \"network unreachable\""),
        (reply(4), 502, "answered \"host unreachable\""),
        (reply(5), 502, "answered \"connection refused\""),
        (reply(6), 502, "answered \"TTL expired\""),
        (reply(7), 502, "answered \"command not supported\""),
        (reply(8), 502, "answered \"address type not supported\""),
        (
            reply(9),
            502,
            "gave no valid answer: a method or a reply that is not assigned",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            502,
            "gave no valid answer: Invalid response version",
        ),
        (
            b"\x05\x07".to_vec(),
            502,
            "gave no valid answer: a method or a reply that is not assigned",
        ),
        (
            b"\x05\x00\x05\x00\x00\x09".to_vec(),
            502,
            "gave no valid answer: Unknown address type",
        ),
        (b"\x05\x00\x05\x00".to_vec(), 504, "did not answer in time"),
        (
            b"\x05\x00\x05\x00\x00\x03\xff".to_vec(),
            504,
            "did not answer in time",
        ),
        (Vec::new(), 504, "did not answer in time"),
    ] {
        let answer = failure("socks5", answer).await;
        assert_failed(&answer, status, expected);
    }
}

#[tokio::test]
async fn a_proxy_that_closes_or_is_not_there_is_named() {
    for scheme in ["http", "socks5"] {
        let closing = host(|_| async {}).await;
        let proxy = daemon_through(scheme, closing, quick()).await;
        let answer = connect(&proxy, "site.test:443").await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert!(
            text(&answer).contains("the daemon's upstream proxy gave no valid answer: "),
            "{answer}"
        );

        let gone = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let proxy = daemon_through(scheme, gone, quick()).await;
        let answer = connect(&proxy, "site.test:443").await;
        assert_failed(
            &answer,
            502,
            "cannot be reached: Connection refused (os error 111)",
        );

        let config = through(&format!("{scheme}://{DAEMONS}"), "", &[]);
        let proxy = Proxy::start_with(internet(), &config, quick()).await;
        let answer = connect(&proxy, "site.test:443").await;
        assert_failed(&answer, 504, "cannot be reached: it took too long");

        let config = through(&format!("{scheme}://nowhere.test:1"), "", &[]);
        let proxy = Proxy::start_with(internet(), &config, quick()).await;
        let answer = connect(&proxy, "site.test:443").await;
        assert_failed(&answer, 502, "cannot be resolved: no such host");
    }
}

#[tokio::test]
async fn credentials_that_are_not_accepted_stay_hidden() {
    for scheme in ["http", "socks5"] {
        let answers = Answers::default().with_credentials("caller:right");
        let theirs = match scheme {
            "http" => UpstreamProxy::http(answers).await,
            _ => UpstreamProxy::socks5(answers).await,
        };
        let internet = internet().server("93.184.216.99:443", theirs.address);
        for (credentials, expected) in [
            ("", "wants credentials"),
            ("caller:wr0ng", "does not accept the credentials"),
        ] {
            let server = format!("{scheme}://93.184.216.99:443");
            let options = with_proxy(&server, credentials);
            let config = Config::default();
            let limits = Limits::default();
            let proxy = Proxy::start_session(internet.clone(), &config, options, limits).await;
            let answer = connect(&proxy, "site.test:443").await;
            let expected = format!(
                "pagebox: cannot connect to site.test:443: the session's proxy {server} {expected}"
            );
            assert_eq!(text(&answer), expected);
            assert!(
                !answer.contains("wr0ng") && !answer.contains("caller"),
                "{answer}"
            );
        }
    }
}

#[tokio::test]
async fn which_proxy_of_two_failed_is_said() {
    let ours = UpstreamProxy::http(Answers::default()).await;
    let internet = internet().server(DAEMONS, ours.address);
    let config = through(&format!("http://{DAEMONS}"), "", &["*:8080"]);
    let options = with_proxy(&format!("http://{SESSIONS}"), "");
    let proxy = Proxy::start_session(internet, &config, options, quick()).await;
    let answer = connect(&proxy, "site.test:443").await;
    assert_eq!(
        text(&answer),
        "pagebox: cannot connect to site.test:443: the session's proxy http://93.184.216.99:8080 \
         cannot be reached: the daemon's upstream proxy answered 403 Not from here"
    );
}

#[tokio::test]
async fn a_proxy_that_fails_is_asked_once_and_one_that_refuses_a_few_times() {
    let addresses: Vec<String> = (1..=30).map(|n| format!("93.184.216.{n}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    for (said, expected) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", 1),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", 1),
        // Another address may be allowed.
        ("HTTP/1.1 403 Forbidden\r\n\r\n", 8),
    ] {
        let upstream = UpstreamProxy::saying(said).await;
        let internet = Internet::default()
            .name("many.test", &addresses)
            .server(DAEMONS, upstream.address);
        let config = through(&format!("http://{DAEMONS}"), "", &[]);
        let proxy = Proxy::start_with(internet, &config, Limits::default()).await;
        let answer = connect(&proxy, "many.test:443").await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert_eq!(upstream.asked().len(), expected, "{said}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Beginnings of good answers, then anything: there is an answer, and nothing panics.
    #[test]
    fn whatever_a_proxy_says_is_answered(
        socks in any::<bool>(),
        begin in 0..5_usize,
        rest in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let begins: [&[u8]; 5] = match socks {
            true => [b"", b"\x05", b"\x05\x00", b"\x05\x00\x05\x00\x00", b"\x05\x00\x05\x00\x00\x03"],
            false => [b"", b"HTTP/1.", b"HTTP/1.1 200 ", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 403 No\r\nX: "],
        };
        let said = [begins[begin], &rest].concat();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let closing = host(move |mut client| {
                let said = said.clone();
                async move { client.send(said).await }
            })
            .await;
            let scheme = if socks { "socks5" } else { "http" };
            let proxy = daemon_through(scheme, closing, quick()).await;
            let answer = connect(&proxy, "site.test:443").await;
            let status = answer.split(' ').nth(1);
            assert!(matches!(status, Some("200" | "502" | "504")), "{answer}");
        });
    }
}
