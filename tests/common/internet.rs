//! A small internet of our own: two network namespaces, and a real daemon in one of them.
//!
//! ```text
//!  namespace "host"                          namespace "internet"
//!  pagebox serve, [`HOST_V4`], [`HOST_V6`] ── veth ── every other address, public or not
//!  traps on :80 and :8080                    web sites, name server, upstream proxies
//! ```
//!
//! * [`World::start`] builds one and starts a daemon in it, whose `/etc/resolv.conf` names
//!   [`DNS`]. [`World::client`] talks to that daemon.
//!   A world is an [`Internet`] too; that alone is what tests of the internet itself start.
//! * Web sites answer on *every* address of the internet ([`PUBLIC_V4`], 10.0.0.5,
//!   169.254.169.254, …): http on [`HTTP_PORTS`], https on 443 (certificates of [`World::ca`]).
//!   Their pages: `sites.rs`. What reached them is in [`World::sites`]; what reached the host's own
//!   addresses or loopback, in [`World::host_traps`].
//! * Names are set with [`World::dns`], which also has every question asked. There from the start:
//!   `public.example` (v4 and v6), `v4.example`, `v6.example`, `other.example`, `private.example`
//!   (10.0.0.5), `metadata.example` (169.254.169.254), `host.example` ([`HOST_V4`]).
//! * [`World::proxies`]: HTTP CONNECT and SOCKS5 proxies at [`PROXY`] on the ports of `proxies.rs`,
//!   open, with credentials, refusing and silent, and what they were asked for.
//! * Servers are tasks of this process whose sockets live in the namespace. Nothing of the machine's
//!   network is changed, and all is gone when the world is dropped or the process ends.
//!
//! Needs root, or to be root of a user namespace as in `make test-rootless`, because making
//! namespaces and mounts does: [`World::possible`] tells.

#[path = "internet/dns.rs"]
mod dns;
#[path = "internet/netns.rs"]
mod netns;
#[path = "internet/proxies.rs"]
pub(crate) mod proxies;
#[path = "internet/sites.rs"]
mod sites;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, mpsc};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::client::Client;
use crate::daemon::Daemon;
use proxies::Proxies;

pub(crate) use dns::{Dns, Zone};
pub(crate) use netns::Netns;
pub(crate) use sites::{Arrival, Arrivals};

/// The host's own addresses: public ones.
pub(crate) const HOST_V4: &str = "45.76.10.2";
pub(crate) const HOST_V6: &str = "2a01:4f8:1:1::2";
/// Its way out, addresses of the internet.
const GATEWAY_V4: &str = "45.76.10.1";
const GATEWAY_V6: &str = "2a01:4f8:1:1::1";
/// Where `public.example` is.
pub(crate) const PUBLIC_V4: &str = "93.184.216.34";
pub(crate) const PUBLIC_V6: &str = "2606:2800:220:1::34";
/// Where `other.example` is.
pub(crate) const OTHER_V4: &str = "93.184.216.99";
/// The name server.
pub(crate) const DNS: &str = "93.184.53.53";
/// The upstream proxies.
pub(crate) const PROXY: &str = "93.184.80.80";
/// What the internet answers on. (The rest of the addresses there are has no route.)
const INTERNET: [&str; 19] = [
    "8.0.0.0/8",
    "10.0.0.0/8",
    "93.184.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "2001::/23",
    "2002::/16",
    "2606:2800::/32",
    "fc00::/7",
];
/// Ports of the sites that speak http.
pub(crate) const HTTP_PORTS: [u16; 5] = [80, 22, 6379, 8080, 9222];
const HTTPS_PORT: u16 = 443;
/// Ports on which datagrams are kept: HTTP/3 and STUN.
const DATAGRAM_PORTS: [u16; 2] = [443, 3478];
/// Ports of the host's own addresses, loopback too, that would answer.
pub(crate) const TRAP_PORTS: [u16; 2] = [80, 8080];

/// An internet and a daemon.
#[derive(Debug)]
pub(crate) struct World {
    // Ends first.
    daemon: Daemon,
    internet: Internet,
}

/// The two namespaces and all servers, without a daemon.
#[derive(Debug)]
pub(crate) struct Internet {
    runtime: Option<tokio::runtime::Runtime>,
    host: Arc<Netns>,
    internet: Arc<Netns>,
    dns: Arc<Dns>,
    sites: Arc<Arrivals>,
    host_traps: Arc<Arrivals>,
    proxies: Arc<Proxies>,
    ca: String,
}

impl World {
    /// Whether this process may build one; else prints why not. Fails instead where
    /// `CI_REQUIRE_ALL` is set.
    pub(crate) fn possible() -> bool {
        let Err(error) = Netns::new() else {
            return true;
        };
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let why = format!(
            "no network namespaces of its own, as neither root nor `make test-rootless`: {error}"
        );
        crate::daemon::host::skip(&test, &why);
        false
    }

    /// Builds one and starts `binary serve` with `config` (TOML) in it.
    ///
    /// # Panics
    /// When anything of it fails.
    pub(crate) fn start(binary: &Path, config: &str) -> Self {
        Self::start_with(binary, config, axum::Router::new())
    }

    /// The same, with `more` pages on the sites.
    pub(crate) fn start_with(binary: &Path, config: &str, more: axum::Router) -> Self {
        let internet = Internet::start_with(more);
        let daemon = internet.host.run(|| {
            own_files().expect("root may mount");
            Daemon::start_with(binary, config, &[])
        });
        Self { daemon, internet }
    }

    /// The daemon.
    pub(crate) fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// A connection to the daemon.
    pub(crate) fn client(&self) -> Client {
        let host = Arc::clone(&self.host);
        let address = self.daemon.address();
        Client::through(&self.daemon.url(), move || {
            host.run(|| std::net::TcpStream::connect(address))
        })
    }
}

impl std::ops::Deref for World {
    type Target = Internet;

    fn deref(&self) -> &Internet {
        &self.internet
    }
}

impl Internet {
    /// Builds one.
    ///
    /// # Panics
    /// When anything of it fails.
    pub(crate) fn start() -> Self {
        Self::start_with(axum::Router::new())
    }

    /// The same, with `more` pages on the sites.
    fn start_with(more: axum::Router) -> Self {
        let host = Arc::new(Netns::new().expect("root"));
        let internet = Arc::new(Netns::new().expect("root"));
        join(&host, &internet);

        let dns = Arc::new(Dns::default());
        names(&dns);
        let sites = Arc::new(Arrivals::default());
        let host_traps = Arc::new(Arrivals::default());
        let proxies = Arc::new(Proxies::new(Arc::clone(&dns)));
        let (ca, tls) = certificates();
        let outside = runtime_in(&internet);
        let inside = Arc::clone(&host);
        let (traps, served) = (host_traps.clone(), sites.clone());
        let (names, upstream) = (dns.clone(), proxies.clone());
        let serving = async move {
            for port in HTTP_PORTS {
                sites::serve(port, None, more.clone(), served.clone()).await?;
            }
            sites::serve(HTTPS_PORT, Some(tls), more, served.clone()).await?;
            for port in DATAGRAM_PORTS {
                sites::watch_datagrams(port, served.clone()).await?;
            }
            names.serve(SocketAddr::new(address(DNS), 53)).await?;
            upstream.serve(address(PROXY)).await?;
            for port in TRAP_PORTS {
                let listen = || std::net::TcpListener::bind(("::", port));
                sites::serve_on(inside.run(listen)?, traps.clone())?;
            }
            Ok::<_, io::Error>(())
        };
        let (sender, served) = mpsc::channel();
        outside.spawn(async move { sender.send(serving.await) });
        served
            .recv()
            .expect("the servers do not panic")
            .expect("the servers start");

        Self {
            runtime: Some(outside),
            host,
            internet,
            dns,
            sites,
            host_traps,
            proxies,
            ca,
        }
    }

    /// The namespace the daemon is in.
    pub(crate) fn host(&self) -> &Netns {
        &self.host
    }

    /// The namespace of everything else.
    pub(crate) fn internet(&self) -> &Netns {
        &self.internet
    }

    /// The name server.
    pub(crate) fn dns(&self) -> &Dns {
        &self.dns
    }

    /// What reached the sites.
    pub(crate) fn sites(&self) -> &Arrivals {
        &self.sites
    }

    /// What reached the traps on the host itself.
    pub(crate) fn host_traps(&self) -> &Arrivals {
        &self.host_traps
    }

    /// The upstream proxies.
    pub(crate) fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// The certificate, PEM, that those of the https sites are signed with. They are for every name
    /// below `example`, and for [`PUBLIC_V4`] and [`PUBLIC_V6`].
    pub(crate) fn ca(&self) -> &str {
        &self.ca
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // May run inside another runtime, which must not be blocked.
            runtime.shutdown_background();
        }
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address of ours")
}

/// A cable between the two, and routes over it.
fn join(host: &Netns, internet: &Netns) {
    host.ip(&format!(
        "link add host0 type veth peer name net0\nlink set net0 netns {}\n\
         addr add {HOST_V4}/24 dev host0\naddr add {HOST_V6}/64 dev host0 nodad\n\
         link set host0 up\n",
        internet.path()
    ));
    let addresses: String = INTERNET
        .iter()
        .map(|net| format!("route add local {net} dev lo\n"))
        .collect();
    internet.ip(&format!(
        "addr add {GATEWAY_V4}/24 dev net0\naddr add {GATEWAY_V6}/64 dev net0 nodad\n\
         link set net0 up\n{addresses}"
    ));
    host.ip(&format!(
        "route add default via {GATEWAY_V4}\nroute add default via {GATEWAY_V6}\n"
    ));
}

fn names(dns: &Dns) {
    dns.fixed("public.example", &[PUBLIC_V4, PUBLIC_V6]);
    dns.fixed("v4.example", &[PUBLIC_V4]);
    dns.fixed("v6.example", &[PUBLIC_V6]);
    dns.fixed("other.example", &[OTHER_V4]);
    dns.fixed("private.example", &["10.0.0.5"]);
    dns.fixed("metadata.example", &["169.254.169.254"]);
    dns.fixed("host.example", &[HOST_V4]);
}

/// A runtime whose tasks make their sockets in `namespace`.
fn runtime_in(namespace: &Arc<Netns>) -> tokio::runtime::Runtime {
    let namespace = Arc::clone(namespace);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_start(move || namespace.enter().expect("a namespace of our own"))
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Gives the calling thread, and the processes it starts, a `resolv.conf` and a `hosts` of the
/// world's.
fn own_files() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(none, "/", none, private, none)?;
    let files = tempfile::tempdir()?;
    for (path, text) in [
        ("/etc/resolv.conf", format!("nameserver {DNS}\n")),
        ("/etc/hosts", "127.0.0.1 localhost\n".to_owned()),
    ] {
        let own = files.path().join(path.rsplit('/').next().expect("a name"));
        std::fs::write(&own, text)?;
        // The file lives on as long as the mount; its name is not needed.
        mount(Some(&own), path, none, MsFlags::MS_BIND, none)?;
    }
    Ok(())
}

/// A certificate authority, and a server with a certificate of it.
fn certificates() -> (String, TlsAcceptor) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let key = KeyPair::generate().expect("a key");
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = &mut parameters.distinguished_name;
    name.push(DnType::CommonName, "the tests' own authority");
    let ca = parameters.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(parameters, key);

    let names = ["public", "v4", "v6", "other"].map(|name| format!("{name}.example"));
    let names = names
        .into_iter()
        .chain([PUBLIC_V4, PUBLIC_V6].map(str::to_owned));
    let names: Vec<String> = names.chain(["*.sites.example".to_owned()]).collect();
    let key = KeyPair::generate().expect("a key");
    let mut parameters = CertificateParams::new(names).expect("names and addresses");
    let name = &mut parameters.distinguished_name;
    name.push(DnType::CommonName, "a site of the tests");
    let certificate = parameters.signed_by(&key, &issuer).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("they belong together");
    (ca, TlsAcceptor::from(Arc::new(config)))
}
