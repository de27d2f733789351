//! The whole proxy, given the bytes of one client.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::model::{Model, Place};
use crate::egress::proxy::serve_client;
use crate::egress::uplink::{ConnectError, LookupError, Uplink};
use crate::egress::{Egress, Limits, Log, OwnLoopback, Parts, Places, Source};
use crate::limits::Bytes;

/// Nothing takes this long: the peers answer at once.
const ENDS: Duration = Duration::from_secs(20);
/// How long an answer is waited for to what may be half a request.
const ANSWERS: Duration = Duration::from_millis(100);
const LIMITS: Limits = Limits {
    connect: Duration::from_secs(2),
    header_wait: Duration::from_secs(2),
    silence: Duration::from_secs(4),
    header: Bytes::kib(16),
};

/// One client sends `sent` under one of a few sets of rules: nothing panics or hangs, only what the
/// model lets through is connected to, and a host is told its own name, once.
pub(crate) fn request(rules: u8, sent: &[u8]) {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
    }
    let model = models(rules);
    let seen = Arc::new(Seen::default());
    RUNTIME.with(|runtime| runtime.block_on(serve(&model, &seen, sent)));
    seen.check(&model, sent);
}

/// What the session under test meets.
#[derive(Debug, Default)]
struct Seen {
    connected: Mutex<Vec<SocketAddr>>,
    looked_up: Mutex<Vec<String>>,
    own_ports: Mutex<Vec<u16>>,
    /// How many connections there were, to hosts and to the own loopback.
    connections: AtomicUsize,
    /// The first head of each connection, its number from 1 on, and where it arrived.
    heads: Mutex<Vec<(usize, SocketAddr, Vec<u8>)>>,
    servers: Mutex<JoinSet<()>>,
}

fn models(which: u8) -> Model {
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    let model = Model {
        reserved: vec![9222],
        protected: vec![7370],
        own_addresses: vec![IpAddr::from([45, 76, 10, 2])],
        ..Model::default()
    };
    match which % 3 {
        0 => model,
        1 => Model {
            allow: texts(&["10.0.0.0/8:8080", "p.test", "*:8443", "[64:ff9b::/96]"]),
            deny: texts(&["*.bad.test", "93.184.216.0/28", "10.6.6.6"]),
            host_loopback: vec![3000, 7370],
            ..model
        },
        _ => Model {
            allow: texts(&["10.0.0.0/8", "*:*"]),
            host_loopback: vec![3000],
            session_allow: texts(&["a.test", "*.b.test:443", "10.0.0.0/9", "localhost"]),
            session_deny: texts(&["x.b.test", "10.1.0.0/16", "*:25"]),
            ..model
        },
    }
}

/// By the first letter of a name.
fn addresses(name: &str) -> Vec<IpAddr> {
    let public = IpAddr::from([93, 184, 216, 34]);
    match name.as_bytes().first() {
        Some(b'p') => vec![IpAddr::from([10, 0, 0, 5])],
        Some(b'm') => vec![public, IpAddr::from([169, 254, 169, 254])],
        Some(b'l') => vec![IpAddr::from([127, 0, 0, 1])],
        Some(b'o') => vec![IpAddr::from([45, 76, 10, 2])],
        Some(b'd') => vec![IpAddr::from([93, 184, 216, 3])],
        _ => vec![public],
    }
}

async fn serve(model: &Model, seen: &Arc<Seen>, sent: &[u8]) {
    let (config, policy, options) = model.real();
    let parts = Parts {
        policy: Arc::new(policy),
        upstream: None,
        log: Arc::new(Log::new(&config, &options)),
        options,
        own_loopback: Arc::new(Own(Arc::clone(seen))),
        places: Places::new(&config, 0),
    };
    let uplink = Box::new(Outside(Arc::clone(seen)));
    let egress = Arc::new(Egress::over(uplink, parts, LIMITS));
    let (client, proxy) = pair().await.expect("sockets");
    let crowd = watch::Sender::new(false);
    let serving = serve_client(proxy, Source::Code, egress, crowd.subscribe());
    let both = async { tokio::join!(serving, talk(client, sent)) };
    let ((), answer) = tokio::time::timeout(ENDS, both).await.expect("it ends");
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1."),
        "{:?}",
        String::from_utf8_lossy(&answer)
    );
}

/// Sends, waits for an answer if there may be one, and reads to the end.
async fn talk(mut client: TcpStream, sent: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    // It may close before all is sent, and reset what it did not read.
    let _ = client.write_all(sent).await;
    let mut lines = sent.split(|byte| *byte == b'\n');
    if lines.any(|line| matches!(line, b"" | b"\r")) {
        let reading = client.read_buf(&mut answer);
        let _ = tokio::time::timeout(ANSWERS, reading).await;
    }
    let _ = client.shutdown().await;
    let _ = client.read_to_end(&mut answer).await;
    answer
}

/// Two ends; the first leaves nothing behind in the kernel when it is closed.
async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let connecting = TcpStream::connect(listener.local_addr()?);
    let (connected, accepted) = tokio::join!(connecting, listener.accept());
    let (connected, (accepted, _)) = (connected?, accepted?);
    connected.set_zero_linger()?;
    Ok((connected, accepted))
}

impl Seen {
    /// A connection to `address`, whose host answers one request.
    async fn host(self: &Arc<Self>, address: SocketAddr) -> io::Result<TcpStream> {
        let (mut host, stream) = pair().await?;
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let seen = Arc::clone(self);
        let answering = async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && head.len() < 64 << 10 {
                match host.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            lock(&seen.heads).push((number, address, head));
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
            let _ = host.write_all(answer).await;
        };
        lock(&self.servers).spawn(answering);
        Ok(stream)
    }

    fn check(&self, model: &Model, sent: &[u8]) {
        let text = String::from_utf8_lossy(sent);
        let names = lock(&self.looked_up).clone();
        for address in &*lock(&self.connected) {
            let (ip, port) = (address.ip(), address.port());
            let may = |host: &str, addresses: &[IpAddr]| {
                addresses.contains(&ip)
                    && match model.place(host, port, addresses) {
                        Place::Outside => !ip.is_loopback(),
                        Place::HostLoopback => ip.is_loopback(),
                        Place::OwnLoopback | Place::Nowhere => false,
                    }
            };
            let by_name = names.iter().any(|name| may(name, &addresses(name)));
            let by_localhost = ["localhost", "x.localhost"]
                .iter()
                .any(|name| may(name, &[ip]));
            assert!(
                by_name || by_localhost || may(&ip.to_string(), &[ip]),
                "{address} was connected to: {text:?}, {names:?}"
            );
        }
        for port in &*lock(&self.own_ports) {
            assert_eq!(model.place("localhost", *port, &[]), Place::OwnLoopback);
        }
        let last = self.connections.load(Ordering::Relaxed);
        for (number, address, head) in &*lock(&self.heads) {
            // A tunnel is the last thing a client has, and what goes through it is its own affair.
            if *number != last || !is_tunnelled(sent, head) {
                check_head(*address, &String::from_utf8_lossy(head));
            }
        }
    }
}

/// Whether these are the bytes that follow a CONNECT, as the client sent them. What is forwarded has
/// another first line.
fn is_tunnelled(sent: &[u8], head: &[u8]) -> bool {
    let find = |within: &[u8], part: &[u8]| within.windows(part.len()).position(|at| at == part);
    find(sent, b"CONNECT ").is_some_and(|at| head.is_empty() || find(&sent[at..], head).is_some())
}

/// One `Host`, and it leads here; one length at most.
fn check_head(address: SocketAddr, head: &str) {
    let fields = |name: &str| -> Vec<&str> {
        let lines = head.split("\r\n").skip(1);
        let fields = lines.filter_map(|line| line.split_once(':'));
        let named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim()).collect()
    };
    if head.is_empty() {
        return;
    }
    let [host] = fields("host")[..] else {
        panic!("not one Host: {head:?}");
    };
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host, "80"),
    };
    assert_eq!(port, address.port().to_string(), "{head:?}");
    let bare = name.trim_matches(['[', ']']);
    let leads_here = bare == "localhost"
        || bare.ends_with(".localhost")
        // Both loopback addresses are the session's, which is one place here.
        || bare == "::1" && address.ip().is_loopback()
        || bare == address.ip().to_string()
        || addresses(name).contains(&address.ip());
    assert!(leads_here, "{address} was told {head:?}");
    let lengths = fields("content-length").len() + fields("transfer-encoding").len();
    assert!(lengths <= 1, "{head:?}");
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Outside(Arc<Seen>);

impl Uplink for Outside {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupError>> {
        lock(&self.0.looked_up).push(name.to_owned());
        Box::pin(async { Ok(addresses(name)) })
    }

    fn connect(
        &self,
        address: SocketAddr,
        _until: Instant,
    ) -> BoxFuture<'_, Result<TcpStream, ConnectError>> {
        lock(&self.0.connected).push(address);
        Box::pin(async move { Ok(self.0.host(address).await?) })
    }
}

#[derive(Debug)]
struct Own(Arc<Seen>);

impl OwnLoopback for Own {
    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>> {
        lock(&self.0.own_ports).push(port);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Box::pin(self.0.host(address))
    }
}
