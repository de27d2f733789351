//! A proxy under test, hosts behind it, and raw clients before it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::egress::proxy;
use crate::egress::uplink::{ConnectError, LookupError, Uplink};
use crate::egress::{
    Config, Egress, Limits, Log, NetworkOptions, OwnLoopback, Parts, Places, Policy, Source,
    Upstream,
};

/// Long enough for anything that should happen at all on a busy machine.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// A port of `localhost` that stays closed.
pub(super) const RESERVED: u16 = 9222;
/// More open files than any test here needs.
const FILES: usize = 4096;

/// Names and addresses of a small internet.
#[derive(Clone, Debug, Default)]
pub(super) struct Internet {
    names: HashMap<String, Vec<IpAddr>>,
    servers: HashMap<SocketAddr, SocketAddr>,
    /// Names that nobody answers for.
    silent: Vec<String>,
    /// Every address a connection was asked for.
    connected: Arc<Mutex<Vec<SocketAddr>>>,
    looked_up: Arc<Mutex<Vec<String>>>,
}

impl Internet {
    pub(super) fn name(mut self, name: &str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        self.names.insert(name.to_owned(), addresses);
        self
    }

    /// Whoever asks for `name` waits.
    pub(super) fn silent(mut self, name: &str) -> Self {
        self.silent.push(name.to_owned());
        self
    }

    /// What is at `address` is served by `server` on loopback.
    pub(super) fn server(mut self, address: &str, server: SocketAddr) -> Self {
        self.servers.insert(address.parse().unwrap(), server);
        self
    }

    /// One public host, `site.test`, on port 80 and 443.
    pub(super) fn site(server: SocketAddr) -> Self {
        Self::default()
            .name("site.test", &["93.184.216.34"])
            .server("93.184.216.34:80", server)
            .server("93.184.216.34:443", server)
    }
}

impl Uplink for Internet {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupError>> {
        self.looked_up.lock().unwrap().push(name.to_owned());
        let answer = self.names.get(name).cloned();
        let is_silent = self.silent.iter().any(|silent| silent == name);
        Box::pin(async move {
            if is_silent {
                std::future::pending::<()>().await;
            }
            answer.ok_or(LookupError::NoAddress)
        })
    }

    fn connect(
        &self,
        address: SocketAddr,
        until: Instant,
    ) -> BoxFuture<'_, Result<TcpStream, ConnectError>> {
        self.connected.lock().unwrap().push(address);
        // Loopback is what it is; other addresses lead nowhere unless a server stands there.
        let server = match self.servers.get(&address) {
            Some(server) => Some(*server),
            None => address.ip().is_loopback().then_some(address),
        };
        Box::pin(async move {
            match server {
                Some(server) => Ok(TcpStream::connect(server).await?),
                None => {
                    tokio::time::sleep_until(until).await;
                    Err(ConnectError::TimedOut)
                }
            }
        })
    }
}

/// The servers of a session's code, by port.
#[derive(Debug, Default)]
pub(super) struct OwnServers(pub(super) HashMap<u16, SocketAddr>);

impl OwnLoopback for OwnServers {
    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>> {
        let server = self.0.get(&port).copied();
        Box::pin(async move {
            match server {
                Some(server) => TcpStream::connect(server).await,
                None => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }
}

/// The way out of a session over this internet.
pub(super) fn egress(
    internet: Internet,
    own_servers: OwnServers,
    config: &Config,
    options: NetworkOptions,
    limits: Limits,
) -> Arc<Egress> {
    let policy = Policy::new(config).unwrap().reserve(&[RESERVED]).unwrap();
    let upstream = Upstream::new(config).unwrap();
    let parts = Parts {
        policy: Arc::new(policy),
        upstream: upstream.as_ref(),
        log: Arc::new(Log::new(config, &options)),
        options,
        own_loopback: Arc::new(own_servers),
        places: Places::new(config, FILES),
    };
    Arc::new(Egress::over(Box::new(internet), parts, limits))
}

/// A proxy serving on loopback.
pub(super) struct Proxy {
    pub(super) egress: Arc<Egress>,
    pub(super) address: SocketAddr,
    pub(super) cancel: CancellationToken,
    pub(super) task: JoinHandle<()>,
    pub(super) connected: Arc<Mutex<Vec<SocketAddr>>>,
    pub(super) looked_up: Arc<Mutex<Vec<String>>>,
    pub(super) log: Arc<Log>,
}

impl Proxy {
    pub(super) async fn start(internet: Internet) -> Self {
        Self::start_with(internet, &Config::default(), Limits::default()).await
    }

    pub(super) async fn start_with(internet: Internet, config: &Config, limits: Limits) -> Self {
        Self::start_session(internet, config, NetworkOptions::default(), limits).await
    }

    /// For a session with options of its own.
    pub(super) async fn start_session(
        internet: Internet,
        config: &Config,
        options: NetworkOptions,
        limits: Limits,
    ) -> Self {
        Self::start_in(internet, OwnServers::default(), config, options, limits).await
    }

    pub(super) async fn start_in(
        internet: Internet,
        own_servers: OwnServers,
        config: &Config,
        options: NetworkOptions,
        limits: Limits,
    ) -> Self {
        let connected = Arc::clone(&internet.connected);
        let looked_up = Arc::clone(&internet.looked_up);
        let egress = egress(internet, own_servers, config, options, limits);
        let log = Arc::clone(&egress.log);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cancel = CancellationToken::new();
        let task = tokio::spawn(proxy::run(
            listener,
            Source::Browser,
            Arc::clone(&egress),
            cancel.clone(),
        ));
        Self {
            egress,
            address,
            cancel,
            task,
            connected,
            looked_up,
            log,
        }
    }

    pub(super) async fn client(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// Sends one request on a connection of its own and reads until the proxy closes.
    pub(super) async fn once(&self, request: &str) -> String {
        let mut client = self.client().await;
        client.send(request).await;
        client.rest().await
    }

    /// A GET that ends the connection.
    pub(super) async fn get(&self, url: &str) -> String {
        let request = format!("GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        self.once(&request).await
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// A raw connection.
pub(super) struct Client(pub(super) TcpStream);

impl Client {
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads up to and with `end`.
    pub(super) async fn until(&mut self, end: &str) -> String {
        let reading = async {
            let mut read = Vec::new();
            while !read.ends_with(end.as_bytes()) {
                match self.0.read_u8().await {
                    Ok(byte) => read.push(byte),
                    Err(error) => panic!("{error} after {}", String::from_utf8_lossy(&read)),
                }
            }
            String::from_utf8(read).unwrap()
        };
        tokio::time::timeout(SOON, reading)
            .await
            .expect("nothing came")
    }

    /// Reads until the other side closes.
    pub(super) async fn rest(&mut self) -> String {
        let mut read = Vec::new();
        let reading = self.0.read_to_end(&mut read);
        // A reset after the answer is a close too.
        let _ = tokio::time::timeout(SOON, reading).await.expect("no close");
        String::from_utf8_lossy(&read).into_owned()
    }
}

/// A host: each connection is handled by `handle` in a task of its own.
pub(super) async fn host<F, Fut>(handle: F) -> SocketAddr
where
    F: Fn(Client) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handle(Client(stream)));
        }
    });
    address
}

/// A host that answers every request with the request's own head as its body, and keeps the
/// connection. The header `N` of each answer counts the requests of its connection.
pub(super) async fn echo_host() -> SocketAddr {
    host(|mut client| async move {
        let mut n = 0;
        while client.0.peek(&mut [0]).await.is_ok_and(|bytes| bytes > 0) {
            let head = client.until("\r\n\r\n").await;
            n += 1;
            let length = head.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nN: {n}\r\n\r\n{head}");
            client.send(answer).await;
        }
    })
    .await
}

/// A host that sends back every byte, and closes its side when the other does.
pub(super) async fn echo_bytes() -> SocketAddr {
    host(|mut client| async move {
        let (mut read, mut write) = client.0.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    })
    .await
}
