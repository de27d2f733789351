//! Names whose addresses change, mix or hide: what was checked is what is connected to.

use std::net::{IpAddr, SocketAddr};

use super::clients::{curl, goto, node_fetch, urllib};
use super::world::{nothing_closed_was_reached, world};
use crate::client::OpenSession;
use crate::internet::{OTHER_V4, PUBLIC_V4, PUBLIC_V6, Zone};

const CLOSED: [(&str, &str); 4] = [
    ("10.0.0.5", "private-use 10.0.0.0/8"),
    ("169.254.169.254", "metadata 169.254.169.254/32"),
    ("127.0.0.1", "loopback 127.0.0.0/8"),
    ("45.76.10.2", "host-address"),
];

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().unwrap(), port)
}

/// `fetch` from inside the open page, on its own origin: `STATUS RULE`.
async fn fetch_own(session: &OpenSession, path: &str) -> String {
    let code = format!(
        "await page.evaluate((path) => fetch(path).then(
           (r) => [r.status, r.headers.get('x-pagebox-egress')].filter((x) => x).join(' '),
           String), '{path}')"
    );
    session.node(&code).await
}

#[tokio::test]
async fn a_name_that_rebinds_after_the_page_loaded_is_refused() {
    let Some(world) = world() else { return };
    for (number, (closed, rule)) in CLOSED.into_iter().enumerate() {
        let name = format!("rebind{number}.sites.example");
        world.dns().rebinding(&name, &[&[PUBLIC_V4], &[closed]]);
        // The site closes the connection, or the next request would rightly use it again.
        let mark = format!("rebind-{number}");
        let session = world
            .client()
            .open(&format!("http://{name}/{mark}?close"))
            .await;
        assert_eq!(world.dns().asked(&name), 2, "A and AAAA, once each");
        let said = fetch_own(&session, &format!("/{mark}-fetch?close")).await;
        assert_eq!(said, format!("403 {rule}"), "{name}");
        session.stop().await;
        assert_eq!(
            world.sites().of_request(&format!("/{mark}?")),
            [at(PUBLIC_V4, 80)]
        );
        assert!(
            world
                .sites()
                .of_request(&format!("/{mark}-fetch"))
                .is_empty()
        );
    }
    nothing_closed_was_reached(world);
}

/// The pair: a name that moves to another public address goes on working.
#[tokio::test]
async fn a_name_that_moves_among_public_addresses_is_followed() {
    let Some(world) = world() else { return };
    let name = "moving.sites.example";
    world
        .dns()
        .rebinding(name, &[&[PUBLIC_V4], &[OTHER_V4], &[PUBLIC_V4]]);
    let session = world
        .client()
        .open(&format!("http://{name}/moving-a?close"))
        .await;
    assert_eq!(fetch_own(&session, "/moving-b?close").await, "200");
    assert_eq!(fetch_own(&session, "/moving-c?close").await, "200");
    assert_eq!(world.dns().asked(name), 6);
    for (path, to) in [("-a", PUBLIC_V4), ("-b", OTHER_V4), ("-c", PUBLIC_V4)] {
        assert_eq!(
            world.sites().of_request(&format!("/moving{path}")),
            [at(to, 80)]
        );
    }
    session.stop().await;
    nothing_closed_was_reached(world);
}

/// One lookup decides and connects: the name is closed already when it is asked a second time.
#[tokio::test]
async fn no_client_has_a_name_looked_up_twice_between_check_and_connect() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    // From the second on: Chromium connects again after a certificate it does not know.
    for (number, scheme) in ["https", "http"]
        .into_iter()
        .cycle()
        .take(8)
        .enumerate()
        .skip(1)
    {
        let name = format!("once{number}.sites.example");
        world.dns().rebinding(&name, &[&[PUBLIC_V4], &["10.0.0.5"]]);
        let url = format!("{scheme}://{name}/once{number}?close");
        let urls = [url.as_str()];
        let said = match number / 2 {
            0 => goto(&session, &urls).await,
            1 => node_fetch(&session, &urls).await,
            2 => urllib(&session, &urls).await,
            _ => curl(&session, &urls).await,
        };
        assert_eq!(said, ["200"], "{url}");
        let port = if scheme == "http" { 80 } else { 443 };
        let reached = world.sites().of_request(&format!("/once{number}"));
        assert_eq!(reached, [at(PUBLIC_V4, port)], "{url}");
    }
    session.stop().await;
    nothing_closed_was_reached(world);
}

#[tokio::test]
async fn answers_with_a_closed_address_among_them_are_refused_whole() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    let dns = world.dns();
    let alias = |name: &str, other: &str| dns.set(name, Zone::Alias(other.to_owned()));
    dns.fixed("mixed.sites.example", &[PUBLIC_V4, "10.0.0.5"]);
    dns.fixed("mixed-last.sites.example", &["10.0.0.5", PUBLIC_V4]);
    dns.fixed("mixed-v6.sites.example", &[PUBLIC_V4, "fd00::5"]);
    dns.fixed("mixed-v4.sites.example", &["10.0.0.5", PUBLIC_V6]);
    dns.fixed("mapped.sites.example", &["::ffff:10.0.0.5"]);
    dns.fixed("nat64.sites.example", &["64:ff9b::a9fe:a9fe"]);
    dns.fixed("mixed-own.sites.example", &[PUBLIC_V4, "45.76.10.2"]);
    alias("alias.sites.example", "private.example");
    alias("alias-twice.sites.example", "alias.sites.example");
    alias("alias-loop.sites.example", "rebound-loop.sites.example");
    dns.fixed("rebound-loop.sites.example", &["127.0.0.1"]);
    let urls = [
        ("http://mixed.sites.example/mix", "private-use 10.0.0.0/8"),
        (
            "http://mixed-last.sites.example/mix",
            "private-use 10.0.0.0/8",
        ),
        ("http://mixed-v6.sites.example/mix", "unique-local fc00::/7"),
        (
            "http://mixed-v4.sites.example/mix",
            "private-use 10.0.0.0/8",
        ),
        (
            "http://mapped.sites.example/mix",
            "ipv4-mapped ::ffff:0:0/96",
        ),
        ("http://nat64.sites.example/mix", "nat64 64:ff9b::/96"),
        ("http://mixed-own.sites.example/mix", "host-address"),
        ("http://alias.sites.example/mix", "private-use 10.0.0.0/8"),
        (
            "http://alias-twice.sites.example/mix",
            "private-use 10.0.0.0/8",
        ),
        (
            "http://alias-loop.sites.example/mix",
            "loopback 127.0.0.0/8",
        ),
    ];
    let (urls, rules): (Vec<_>, Vec<_>) = urls.into_iter().unzip();
    let rules: Vec<String> = rules
        .into_iter()
        .map(|rule| format!("403 {rule}"))
        .collect();
    assert_eq!(goto(&session, &urls).await, rules);
    assert_eq!(curl(&session, &urls).await, rules);
    // The pair: an alias of a public name, and many public addresses.
    alias("alias-open.sites.example", "public.example");
    dns.fixed("many.sites.example", &[PUBLIC_V4, PUBLIC_V6, OTHER_V4]);
    let open = [
        "http://alias-open.sites.example/",
        "http://many.sites.example/",
    ];
    assert_eq!(goto(&session, &open).await, ["200", "200"]);
    assert_eq!(curl(&session, &open).await, ["200", "200"]);
    session.stop().await;
    assert!(world.sites().of_request("/mix").is_empty());
    nothing_closed_was_reached(world);
}

/// A name that gets no answer costs its own request its time, and no one else anything.
#[tokio::test]
async fn a_name_without_an_answer_ends_in_an_error_of_its_own() {
    let Some(world) = world() else { return };
    world.dns().set("silent.sites.example", Zone::Silent);
    let session = world.client().open("about:blank").await;
    let urls = [
        "http://silent.sites.example/",
        "http://unknown.sites.example/",
    ];
    let client = world.client();
    let (slow, quick) = tokio::join!(curl(&session, &urls), client.get(&session.id));
    quick.unwrap();
    assert!(["502", "504"].contains(&slow[0].as_str()), "{slow:?}");
    assert_eq!(slow[1], "502");
    session.stop().await;
}
