//! Sessions that may be asked for, good and bad.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::*;
use super::LIMITS;
use crate::store::SessionKind;

/// A wire value, and what it is read as; none if it must be refused.
pub(super) type Said<W, D> = (W, Option<D>);

/// A session's options, what they are read as, and the fields that are bad.
pub(super) type SaidSession = (v1::SessionOptions, SessionOptions, BTreeSet<String>);

pub(super) fn a_duration(
    least: u64,
    most: u64,
    default: u64,
) -> impl Strategy<Value = Said<Option<prost_types::Duration>, Duration>> {
    let seconds = prop_oneof![
        6 => i64::try_from(least).unwrap()..=i64::try_from(most).unwrap(),
        1 => any::<i64>(),
        1 => prop::sample::select(vec![0, -1, i64::MAX, i64::MIN]),
        1 => prop::sample::select(vec![least - 1, most, most + 1]).prop_map(u64::cast_signed),
    ];
    let nanos = prop_oneof![
        6 => Just(0),
        2 => 0..1_000_000_000_i32,
        1 => any::<i32>(),
        1 => prop::sample::select(vec![-1, 999_999_999, 1_000_000_000]),
    ];
    prop_oneof![
        1 => Just((None, Some(Duration::from_secs(default)))),
        4 => (seconds, nanos).prop_map(move |(seconds, nanos)| {
            let all = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
            let range = i128::from(least) * 1_000_000_000..=i128::from(most) * 1_000_000_000;
            let is_good = (0..1_000_000_000).contains(&nanos) && range.contains(&all);
            let read = is_good.then(|| Duration::from_nanos(u64::try_from(all).unwrap()));
            (Some(prost_types::Duration { seconds, nanos }), read)
        }),
    ]
}

pub(super) fn known<T: Clone + std::fmt::Debug + 'static>(
    good: &'static [T],
    bad: &'static [T],
) -> impl Strategy<Value = Said<T, T>> {
    prop_oneof![
        4 => prop::sample::select(good).prop_map(|value| (value.clone(), Some(value))),
        1 => prop::sample::select(bad).prop_map(|value| (value, None)),
    ]
}

fn a_start_url() -> impl Strategy<Value = Said<String, Option<String>>> {
    let texts = known(
        &[
            "",
            "about:blank",
            "http://a.test/",
            "https://b.test:8443/x?y#z",
        ],
        &[
            "x",
            "file:///etc/passwd",
            "about:srcdoc",
            "chrome://gpu",
            "javascript:1",
            "http://",
        ],
    );
    let long = (8180_usize..8210).prop_map(|length| {
        let text = format!("http://a.test/{}", "x".repeat(length - 14));
        let read = (length <= 8192).then(|| Some(text.clone()));
        (text, read)
    });
    prop_oneof![
        5 => texts.prop_map(|(text, read)| {
            (text.to_owned(), read.map(|text| not_empty(text.to_owned())))
        }),
        1 => long,
    ]
}

fn a_user_agent() -> impl Strategy<Value = Said<String, Option<String>>> {
    prop_oneof![
        Just(String::new()),
        "[ -~]{1,20}",
        "\\PC{1,5}",
        "[ -\u{80}]{1,5}",
        "x{510,514}"
    ]
    .prop_map(|text| {
        let is_good = text.len() <= 512 && !text.contains(|c| !(' '..='~').contains(&c));
        let read = is_good.then(|| not_empty(text.clone()));
        (text, read)
    })
}

fn labels() -> impl Strategy<Value = Said<BTreeMap<String, String>, BTreeMap<String, String>>> {
    let pair = || {
        (
            prop_oneof![20 => "[a-z.]{1,9}", 1 => "x{62,65}", 1 => "\\PC{0,2}"],
            prop_oneof![20 => "\\PC{0,9}", 1 => "x{254,257}"],
        )
    };
    prop_oneof![
        5 => prop::collection::btree_map(pair(), Just(()), 0..5),
        1 => prop::collection::btree_map(pair(), Just(()), 30..36),
    ]
    .prop_map(|pairs| {
        let labels: BTreeMap<_, _> = pairs.into_keys().collect();
        let is_good = labels.len() <= 32
            && labels
                .iter()
                .all(|(key, value)| (1..=63).contains(&key.len()) && value.len() <= 255);
        let read = is_good.then(|| labels.clone());
        (labels, read)
    })
}

/// Good rules of one list never make one of the other useless. Bad ones are named by their place.
fn rules(
    list: &'static str,
    good: &'static [&'static str],
) -> impl Strategy<Value = (Vec<String>, Vec<Rule>, Option<String>)> {
    let bad = &[
        "",
        "a b",
        "10.0.0.5/8",
        "https://a.test",
        "*.*.test",
        "a.test:0",
        "[::1",
    ];
    prop_oneof![
        9 => prop::collection::vec(known(good, bad), 0..3),
        1 => prop::collection::vec(known(good, good), 254..259),
    ]
    .prop_map(move |said| {
        let first_bad = said
            .iter()
            .position(|(text, _)| text.parse::<Rule>().is_err());
        let bad = first_bad.map(|index| format!("{list}[{index}]"));
        let bad = bad.or_else(|| (said.len() > MAX_RULES).then(|| list.to_owned()));
        let texts: Vec<String> = said.iter().map(|(text, _)| (*text).to_owned()).collect();
        let read = texts.iter().filter_map(|text| text.parse().ok()).collect();
        (texts, read, bad)
    })
}

type SaidNetwork = (v1::NetworkOptions, NetworkOptions, BTreeSet<String>);

fn network_options() -> impl Strategy<Value = SaidNetwork> {
    let proxy = prop::sample::select(
        &[
            ("http://p.test:3128", "", "", None),
            ("http://p.test:3128", "me", "", None),
            ("socks5://10.0.0.1:1080", "me", "secret", None),
            ("http://me:secret@p.test:1", "", "", Some("proxy.server")),
            ("https://p.test:1", "", "", Some("proxy.server")),
            ("socks5://p.test", "", "", Some("proxy.server")),
            ("http://p.test:1", "a:b", "c", Some("proxy.username")),
            ("http://p.test:1", "a\n", "c", Some("proxy.username")),
            ("http://p.test:1", "", "c", Some("proxy.password")),
            ("socks5://p.test:1", "a", "", Some("proxy.password")),
        ][..],
    );
    let most = LIMITS.traffic.0;
    let max_bytes = prop_oneof![Just(0), 0..=most, most - 1..=most + 1, any::<u64>()];
    (
        rules(
            "allow",
            &[
                "a.test",
                "*.b.test",
                "10.0.0.0/8:8443",
                "[fd00::/8]",
                "*:443",
            ],
        ),
        rules(
            "deny",
            &["c.test", "*:25", "93.184.216.0/24", "x.b.test:1-9"],
        ),
        prop::bool::weighted(0.1),
        prop::option::weighted(0.3, proxy),
        max_bytes,
    )
        .prop_map(|(allow, deny, offline, proxy, max_bytes)| {
            let has_more =
                !allow.0.is_empty() || !deny.0.is_empty() || proxy.is_some() || max_bytes != 0;
            let bad = [
                allow.2,
                deny.2,
                (offline && has_more).then(|| "offline".to_owned()),
                proxy.and_then(|(.., bad)| bad).map(str::to_owned),
                (max_bytes > LIMITS.traffic.0).then(|| "max_bytes".to_owned()),
            ];
            let wire = v1::NetworkOptions {
                allow: allow.0,
                deny: deny.0,
                offline,
                proxy: proxy.map(|(server, username, password, _)| v1::Proxy {
                    server: server.to_owned(),
                    username: username.to_owned(),
                    password: password.to_owned(),
                }),
                max_bytes,
            };
            let read = NetworkOptions {
                allow: allow.1,
                deny: deny.1,
                offline,
                proxy: proxy.and_then(|(server, username, password, _)| {
                    Proxy::new(server, username, password).ok()
                }),
                max_bytes: (max_bytes != 0).then_some(Bytes(max_bytes)),
            };
            (wire, read, bad.into_iter().flatten().collect())
        })
}

pub(super) fn session() -> impl Strategy<Value = SaidSession> {
    let side = |most: u32| prop_oneof![3 => 1..=most, 1 => most..=most + 1, 1 => any::<u32>()];
    (
        (a_duration(30, 3600, 600), a_duration(10, 3600, 300)),
        a_start_url(),
        prop::option::of((side(7680), side(4320))),
        a_user_agent(),
        labels(),
        network_options(),
        any::<[u64; 5]>(),
    )
        .prop_map(|(times, url, viewport, agent, labels, network, limits)| {
            let (ttl, idle_ttl) = times;
            let size = viewport.unwrap_or((1280, 720));
            let is_size = (1..=7680).contains(&size.0) && (1..=4320).contains(&size.1);
            let mut bad: BTreeSet<String> = [
                ("ttl", ttl.1.is_some()),
                ("idle_ttl", idle_ttl.1.is_some()),
                ("start_url", url.1.is_some()),
                ("viewport", is_size),
                ("user_agent", agent.1.is_some()),
                ("labels", labels.1.is_some()),
            ]
            .into_iter()
            .filter(|(_, is_good)| !is_good)
            .map(|(field, _)| field.to_owned())
            .collect();
            bad.extend(network.2.iter().map(|field| format!("network.{field}")));
            let short = limits.map(|limit| u32::try_from(limit >> 32).unwrap());
            let wire = v1::SessionOptions {
                ttl: ttl.0,
                idle_ttl: idle_ttl.0,
                start_url: url.0,
                viewport: viewport.map(|(width, height)| v1::Viewport { width, height }),
                user_agent: agent.0,
                labels: labels.0.into_iter().collect(),
                network: Some(network.0),
                limits: Some(v1::SessionLimits {
                    memory_bytes: limits[0],
                    processes: short[1],
                    cpu_percent: short[2],
                    scratch_bytes: limits[3],
                    scratch_inodes: limits[4],
                }),
                execution_limits: Some(v1::ExecutionLimits {
                    memory_bytes: limits[4],
                    processes: short[3],
                    cpu_percent: short[2],
                    open_files: limits[1],
                    file_size_bytes: limits[0],
                }),
                profile: None,
                live_view: None,
            };
            let read = SessionOptions {
                ttl: ttl.1.unwrap_or_default(),
                idle_ttl: idle_ttl.1.unwrap_or_default(),
                start_url: url.1.unwrap_or_default(),
                viewport: size,
                user_agent: agent.1.unwrap_or_default(),
                labels: labels.1.unwrap_or_default(),
                network: network.1,
                kind: SessionKind::Grpc,
                live_view: true,
                limits: SessionLimits {
                    memory: Bytes(limits[0]),
                    processes: short[1],
                    cpu_percent: short[2],
                    scratch: Bytes(limits[3]),
                    scratch_inodes: limits[4],
                },
                execution_limits: ExecutionLimits {
                    memory: Bytes(limits[4]),
                    processes: short[3],
                    cpu_percent: short[2],
                    open_files: limits[1],
                    file_size: Bytes(limits[0]),
                },
                profile: None,
            };
            (wire, read, bad)
        })
}
