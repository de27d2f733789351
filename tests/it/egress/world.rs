//! The world most tests of this module share, and that it is what it says it is.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::internet::proxies::{self, CREDENTIALS};
use crate::internet::{HOST_V4, Internet, OTHER_V4, PROXY, PUBLIC_V4, PUBLIC_V6, World};
use crate::shared::binary;

const CONFIG: &str = "[session]\nmax_sessions = 40\n";

/// The shared world: no rule, nothing of the host's loopback open. `None` where none can be built.
pub(super) fn world() -> Option<&'static World> {
    static WORLD: OnceLock<Option<World>> = OnceLock::new();
    WORLD
        .get_or_init(|| World::possible().then(|| World::start(binary(), CONFIG)))
        .as_ref()
}

/// A world for one test: with these sections of config besides.
pub(super) fn own(config: &str) -> Option<World> {
    World::possible().then(|| World::start(binary(), &format!("{CONFIG}{config}")))
}

/// That whatever was connected to in this world so far is open: the public sites on 80 and 443, and
/// nothing of the host.
pub(super) fn nothing_closed_was_reached(world: &World) {
    let open = [PUBLIC_V4, PUBLIC_V6, OTHER_V4].map(|address| address.parse::<IpAddr>().unwrap());
    let is_closed = |to: &SocketAddr| !open.contains(&to.ip()) || ![80, 443].contains(&to.port());
    let closed: Vec<_> = world
        .sites()
        .connections()
        .into_iter()
        .filter(is_closed)
        .collect();
    assert_eq!(closed, []);
    assert_eq!(world.sites().datagrams(), [0; 0]);
    assert_eq!(world.host_traps().all(), []);
}

/// An internet whose arrivals no other test looks at.
fn internet() -> Option<Internet> {
    World::possible().then(Internet::start)
}

/// A request straight from the host's namespace, past any proxy.
fn straight(world: &Internet, to: &str) -> String {
    let address: IpAddr = to.parse().unwrap();
    world.host().run(|| {
        let to = SocketAddr::new(address, 80);
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(20)).unwrap();
        stream
            .write_all(b"GET /straight HTTP/1.0\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    })
}

/// Without this, "nothing was reached" could mean that nothing is there.
#[test]
fn every_address_would_answer_who_could_ask() {
    let Some(world) = internet() else { return };
    for to in [
        PUBLIC_V4,
        PUBLIC_V6,
        "10.0.0.5",
        "172.16.0.5",
        "192.168.1.5",
        "100.64.0.5",
        "169.254.169.254",
        "198.18.0.5",
        "fd00::5",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        HOST_V4,
        "127.0.0.1",
        "::1",
    ] {
        let reply = straight(&world, to);
        assert!(reply.contains("200 OK"), "{to}: {reply}");
    }
}

#[tokio::test]
async fn a_page_on_a_public_site_loads() {
    let Some(world) = world() else { return };
    world.dns().fixed("first.sites.example", &[PUBLIC_V4]);
    let url = "http://first.sites.example/first";
    let session = world.client().open(url).await;
    assert_eq!(session.node("await page.title()").await, "reached");
    assert_eq!(world.dns().asked("first.sites.example"), 2);
    let reached = world.sites().of_request("/first");
    assert!(reached.iter().all(|to| to.port() == 80), "{reached:?}");
    let closed = session
        .node("(await page.goto('http://10.0.0.5/refused')).status()")
        .await;
    assert_eq!(closed, "403");
    assert!(world.sites().of_request("/refused").is_empty());
    session.stop().await;
}

/// What the tests of upstream proxies rely on.
#[test]
fn the_proxies_connect_for_who_may_and_keep_what_was_asked() {
    let Some(world) = internet() else { return };
    let user = format!("{}:{}", CREDENTIALS.0, CREDENTIALS.1);
    let get = |scheme: &str, port: u16, user: &str, url: &str| {
        let proxy = format!("{scheme}://{PROXY}:{port}");
        let done = world.host().run(|| {
            Command::new("curl")
                .args(["-sS", "-m", "60", "-p", "-x", &proxy, "-U", user, url])
                .env_remove("NO_PROXY")
                .env_remove("no_proxy")
                .output()
                .unwrap()
        });
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let by_name = "http://v4.example/through";
    let by_address = "http://10.0.0.5/through";
    for (scheme, port, user, url, works) in [
        ("http", proxies::CONNECT, "", by_name, true),
        ("http", proxies::CONNECT, "", by_address, true),
        ("http", proxies::CONNECT_PRIVATE, &*user, by_name, true),
        ("http", proxies::CONNECT_PRIVATE, "a:b", by_name, false),
        ("http", proxies::CONNECT_REFUSING, "", by_name, false),
        ("socks5h", proxies::SOCKS, "", by_name, true),
        ("socks5", proxies::SOCKS, "", by_address, true),
        ("socks5h", proxies::SOCKS_PRIVATE, &*user, by_name, true),
        ("socks5h", proxies::SOCKS_PRIVATE, "a:b", by_name, false),
        ("socks5h", proxies::SOCKS_REFUSING, "", by_name, false),
    ] {
        let page = get(scheme, port, user, url);
        assert_eq!(page.contains("reached"), works, "{port} {user} {page}");
        let asked = world.proxies().asked();
        let last = asked.iter().rfind(|asked| asked.port == port).unwrap();
        assert_eq!((last.by_name, last.target_port), (url == by_name, 80));
    }
}
