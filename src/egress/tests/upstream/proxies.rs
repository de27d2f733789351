//! Upstream proxies under the test's control: what they are asked is kept, what they answer is
//! said. Written by hand, byte by byte: the code under test has its parsers, these must not share
//! them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::support::{Client, host};

/// How a proxy answers.
#[derive(Clone, Default)]
pub(super) struct Answers {
    /// Where what it is asked for stands; anything else is refused.
    hosts: HashMap<String, SocketAddr>,
    /// `user:password` it insists on.
    credentials: Option<String>,
}

impl Answers {
    /// What is asked for as `target` is served by `server`.
    pub(super) fn host(mut self, target: &str, server: SocketAddr) -> Self {
        self.hosts.insert(target.to_owned(), server);
        self
    }

    pub(super) fn with_credentials(mut self, credentials: &str) -> Self {
        self.credentials = Some(credentials.to_owned());
        self
    }
}

/// A running proxy.
pub(super) struct UpstreamProxy {
    pub(super) address: SocketAddr,
    /// What each request asked for, credentials first: `u:p 93.184.216.34:443`.
    asked: Arc<Mutex<Vec<String>>>,
}

impl UpstreamProxy {
    pub(super) async fn http(answers: Answers) -> Self {
        Self::start(answers, serve_http).await
    }

    pub(super) async fn socks5(answers: Answers) -> Self {
        Self::start(answers, serve_socks5).await
    }

    async fn start<F, Fut>(answers: Answers, serve: F) -> Self
    where
        F: Fn(Client, Answers, Arc<Mutex<Vec<String>>>) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        let address = host(move |client| serve(client, answers.clone(), Arc::clone(&heard))).await;
        Self { address, asked }
    }

    /// Reads whatever comes first, answers `bytes` whatever it is, and keeps the connection.
    pub(super) async fn saying(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let serve = move |mut client: Client, _, asked: Arc<Mutex<Vec<String>>>| {
            let bytes = bytes.clone();
            async move {
                let read = client.0.read(&mut [0; 4096]).await;
                asked.lock().unwrap().push(format!("{read:?}"));
                // Whoever closes first has heard enough.
                let _ = client.0.write_all(&bytes).await;
                let _ = tokio::io::copy(&mut client.0, &mut tokio::io::sink()).await;
            }
        };
        Self::start(Answers::default(), serve).await
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve_http(mut client: Client, answers: Answers, asked: Arc<Mutex<Vec<String>>>) {
    let head = client.until("\r\n\r\n").await;
    let field = |name: &str| {
        head.lines()
            .find_map(|line| {
                line.split_once(": ")
                    .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            })
            .map(|(_, value)| value.to_owned())
    };
    let target = head
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.split_once(" HTTP/1.1\r\n"))
        .map(|(target, _)| target.to_owned())
        .unwrap_or_else(|| panic!("{head}"));
    assert_eq!(field("host").as_ref(), Some(&target), "{head}");
    let credentials = field("proxy-authorization").map(|value| {
        use base64::Engine as _;
        let encoded = value.strip_prefix("Basic ").unwrap();
        let decoded = base64::engine::general_purpose::STANDARD.decode(encoded);
        String::from_utf8(decoded.unwrap()).unwrap()
    });
    let shown = credentials.as_deref().unwrap_or("-");
    asked.lock().unwrap().push(format!("{shown} {target}"));
    if answers.credentials.is_some() && answers.credentials != credentials {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\n\
                       Proxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 2\r\n\r\nno";
        return client.send(refusal).await;
    }
    match answers.hosts.get(&target) {
        Some(server) => {
            let server = TcpStream::connect(server).await.unwrap();
            // As old proxies answer.
            client
                .send("HTTP/1.0 200 Connection established\r\n\r\n")
                .await;
            splice(client, server).await;
        }
        None => {
            let refusal = "HTTP/1.1 403 Not from here\r\nContent-Length: 2\r\n\r\nno";
            client.send(refusal).await;
        }
    }
}

async fn serve_socks5(mut client: Client, answers: Answers, asked: Arc<Mutex<Vec<String>>>) {
    let stream = &mut client.0;
    assert_eq!(stream.read_u8().await.unwrap(), 5);
    let methods = text(stream).await;
    let mut credentials = None;
    match (&answers.credentials, methods.contains('\x02')) {
        (None, _) => stream.write_all(&[5, 0]).await.unwrap(),
        (Some(_), false) => {
            asked.lock().unwrap().push("- -".to_owned());
            return stream.write_all(&[5, 0xff]).await.unwrap();
        }
        (Some(wanted), true) => {
            stream.write_all(&[5, 2]).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), 1);
            let (username, password) = (text(stream).await, text(stream).await);
            let given = format!("{username}:{password}");
            if given != *wanted {
                asked.lock().unwrap().push(format!("{given} -"));
                return stream.write_all(&[1, 1]).await.unwrap();
            }
            stream.write_all(&[1, 0]).await.unwrap();
            credentials = Some(given);
        }
    }
    let mut head = [0; 3];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head, [5, 1, 0]);
    let host = match stream.read_u8().await.unwrap() {
        1 => {
            let mut octets = [0; 4];
            stream.read_exact(&mut octets).await.unwrap();
            IpAddr::from(octets).to_string()
        }
        4 => {
            let mut octets = [0; 16];
            stream.read_exact(&mut octets).await.unwrap();
            format!("[{}]", IpAddr::from(octets))
        }
        3 => text(stream).await,
        other => panic!("address type {other}"),
    };
    let target = format!("{host}:{}", stream.read_u16().await.unwrap());
    let shown = credentials.as_deref().unwrap_or("-");
    asked.lock().unwrap().push(format!("{shown} {target}"));
    match answers.hosts.get(&target) {
        Some(server) => {
            let server = TcpStream::connect(server).await.unwrap();
            // A bound address that is a name, which is rare.
            client.send(b"\x05\x00\x00\x03\x01x\x00\x00").await;
            splice(client, server).await;
        }
        // Not allowed by ruleset.
        None => {
            client
                .send(b"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00")
                .await
        }
    }
}

/// A byte with a length, and as many bytes.
async fn text(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; stream.read_u8().await.unwrap().into()];
    stream.read_exact(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

async fn splice(mut client: Client, mut server: TcpStream) {
    // Either side may go away as it likes.
    let _ = tokio::io::copy_bidirectional(&mut client.0, &mut server).await;
}
