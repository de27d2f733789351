//! Upstream proxies: HTTP CONNECT and SOCKS5 (RFC 1928, 1929), which keep what they were asked for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::dns::Dns;

/// Longest line, and most lines, of a CONNECT.
const HEAD_BYTES: u64 = 16 << 10;

/// What one port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP CONNECT.
    Connect,
    /// SOCKS5.
    Socks,
}

/// What one port does with who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manners {
    /// Connects.
    Open,
    /// Connects for [`CREDENTIALS`].
    Private,
    /// Refuses every target.
    Refusing,
    /// Accepts, and never says a word.
    Silent,
}

/// User and password of the ports that want some.
pub(crate) const CREDENTIALS: (&str, &str) = ("tide", "p@ss:w0rd");

/// CONNECT for everyone.
pub(crate) const CONNECT: u16 = 3128;
/// CONNECT for [`CREDENTIALS`].
pub(crate) const CONNECT_PRIVATE: u16 = 3129;
/// CONNECT that refuses every target with 403.
pub(crate) const CONNECT_REFUSING: u16 = 3130;
/// SOCKS5 for everyone.
pub(crate) const SOCKS: u16 = 1080;
/// SOCKS5 for [`CREDENTIALS`].
pub(crate) const SOCKS_PRIVATE: u16 = 1081;
/// SOCKS5 that refuses every target ("not allowed by ruleset").
pub(crate) const SOCKS_REFUSING: u16 = 1082;
/// Accepts and never answers.
pub(crate) const SILENT: u16 = 3131;

const PORTS: [(u16, Protocol, Manners); 7] = [
    (CONNECT, Protocol::Connect, Manners::Open),
    (CONNECT_PRIVATE, Protocol::Connect, Manners::Private),
    (CONNECT_REFUSING, Protocol::Connect, Manners::Refusing),
    (SOCKS, Protocol::Socks, Manners::Open),
    (SOCKS_PRIVATE, Protocol::Socks, Manners::Private),
    (SOCKS_REFUSING, Protocol::Socks, Manners::Refusing),
    (SILENT, Protocol::Connect, Manners::Silent),
];

/// One request that reached a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The proxy's port.
    pub(crate) port: u16,
    /// The host as it was sent: a name, or an address without brackets.
    pub(crate) host: String,
    /// Whether that was a name.
    pub(crate) by_name: bool,
    /// The port asked for.
    pub(crate) target_port: u16,
    /// User and password, as they were sent.
    pub(crate) credentials: Option<(String, String)>,
    /// Whether a connection came of it.
    pub(crate) granted: bool,
}

/// All proxies of one internet.
#[derive(Debug)]
pub(crate) struct Proxies {
    dns: Arc<Dns>,
    asked: Mutex<Vec<Asked>>,
}

impl Proxies {
    pub(super) fn new(dns: Arc<Dns>) -> Self {
        Self {
            dns,
            asked: Mutex::default(),
        }
    }

    /// What they were asked for so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Serves until the runtime ends.
    pub(super) async fn serve(self: Arc<Self>, address: IpAddr) -> io::Result<()> {
        for (port, protocol, manners) in PORTS {
            let listener = TcpListener::bind((address, port)).await?;
            let proxies = Arc::clone(&self);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(Arc::clone(&proxies).take(stream, port, protocol, manners));
                }
            });
        }
        Ok(())
    }

    async fn take(
        self: Arc<Self>,
        stream: TcpStream,
        port: u16,
        protocol: Protocol,
        manners: Manners,
    ) {
        let ended = match (manners, protocol) {
            (Manners::Silent, _) => {
                std::future::pending::<()>().await;
                Ok(())
            }
            (_, Protocol::Connect) => self.connect(stream, port, manners).await,
            (_, Protocol::Socks) => self.socks(stream, port, manners).await,
        };
        // Clients that leave early are what some tests are about.
        drop(ended);
    }

    /// Decides, keeps the request, and connects.
    async fn grant(&self, mut asked: Asked, manners: Manners) -> io::Result<Option<TcpStream>> {
        let (user, password) = CREDENTIALS;
        let known = Some((user.to_owned(), password.to_owned()));
        asked.granted = match manners {
            Manners::Open => true,
            Manners::Private => asked.credentials == known,
            Manners::Refusing | Manners::Silent => false,
        };
        self.asked.lock().unwrap().push(asked.clone());
        if !asked.granted {
            return Ok(None);
        }
        let address = match asked.host.parse() {
            Ok(address) => Some(address),
            Err(_) => self.dns.addresses(&asked.host).first().copied(),
        };
        let address = address.ok_or_else(|| io::Error::other("no such name"))?;
        let to = SocketAddr::new(address, asked.target_port);
        TcpStream::connect(to).await.map(Some)
    }

    async fn connect(&self, stream: TcpStream, port: u16, manners: Manners) -> io::Result<()> {
        let mut client = BufReader::new(stream);
        let mut line = String::new();
        (&mut client).take(HEAD_BYTES).read_line(&mut line).await?;
        let authority = line
            .strip_prefix("CONNECT ")
            .and_then(|rest| rest.split(' ').next())
            .map(str::to_owned);
        let mut credentials = None;
        loop {
            line.clear();
            (&mut client).take(HEAD_BYTES).read_line(&mut line).await?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            if name.eq_ignore_ascii_case("proxy-authorization") {
                credentials = value.strip_prefix("Basic ").and_then(basic);
            }
        }
        let Some((host, target_port)) = authority.as_deref().and_then(host_and_port) else {
            return client.write_all(b"HTTP/1.1 405 No\r\n\r\n").await;
        };
        let asked = Asked {
            port,
            by_name: host.parse::<IpAddr>().is_err(),
            host,
            target_port,
            granted: false,
            credentials,
        };
        let answer: &[u8] = match (self.grant(asked, manners).await, manners) {
            (Ok(Some(mut target)), _) => {
                client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
                tokio::io::copy_bidirectional(&mut client, &mut target).await?;
                return Ok(());
            }
            (Ok(None), Manners::Private) => {
                b"HTTP/1.1 407 Who are you?\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\
                  Content-Length: 0\r\n\r\n"
            }
            (Ok(None), _) => b"HTTP/1.1 403 Not here\r\nContent-Length: 0\r\n\r\n",
            (Err(_), _) => b"HTTP/1.1 502 Not there\r\nContent-Length: 0\r\n\r\n",
        };
        client.write_all(answer).await
    }

    async fn socks(&self, mut client: TcpStream, port: u16, manners: Manners) -> io::Result<()> {
        let methods = {
            let [_version, count] = read(&mut client).await?;
            read_counted(&mut client, count).await?
        };
        let method = if manners == Manners::Private { 2 } else { 0 };
        if !methods.contains(&method) {
            return client.write_all(&[5, 0xff]).await;
        }
        client.write_all(&[5, method]).await?;
        let mut credentials = None;
        if method == 2 {
            let [_version, length] = read(&mut client).await?;
            let user = read_counted(&mut client, length).await?;
            let [length] = read(&mut client).await?;
            let password = read_counted(&mut client, length).await?;
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            let sent = (text(user), text(password));
            let good = (sent.0.as_str(), sent.1.as_str()) == CREDENTIALS;
            client.write_all(&[1, u8::from(!good)]).await?;
            credentials = Some(sent);
            if !good {
                return Ok(());
            }
        }
        let [_version, _command, _reserved, kind] = read(&mut client).await?;
        let host = match kind {
            1 => Ipv4Addr::from(read::<4>(&mut client).await?).to_string(),
            4 => Ipv6Addr::from(read::<16>(&mut client).await?).to_string(),
            _ => {
                let [length] = read(&mut client).await?;
                let name = read_counted(&mut client, length).await?;
                String::from_utf8_lossy(&name).into_owned()
            }
        };
        let asked = Asked {
            port,
            by_name: kind == 3,
            host,
            target_port: u16::from_be_bytes(read(&mut client).await?),
            credentials,
            granted: false,
        };
        let reply = |code: u8| [5, code, 0, 1, 0, 0, 0, 0, 0, 0];
        match self.grant(asked, manners).await {
            Ok(Some(mut target)) => {
                client.write_all(&reply(0)).await?;
                tokio::io::copy_bidirectional(&mut client, &mut target).await?;
                Ok(())
            }
            Ok(None) => client.write_all(&reply(2)).await,
            Err(_) => client.write_all(&reply(4)).await,
        }
    }
}

async fn read<const N: usize>(client: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn read_counted(client: &mut TcpStream, count: u8) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(count)];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn basic(text: &str) -> Option<(String, String)> {
    let text = String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn host_and_port(authority: &str) -> Option<(String, u16)> {
    let (host, port) = authority.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), port.parse().ok()?))
}
