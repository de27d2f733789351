//! The properties, on many inputs; and the policy against the model.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use proptest::prelude::*;

use super::model::{Model, Place};
use super::*;
use crate::egress::policy::Route;
use crate::egress::session_policy::SessionPolicy;
use crate::egress::{Config, Policy};

fn a_rule() -> impl Strategy<Value = String> {
    let pattern = prop_oneof![
        4 => prop::sample::select(&[
            "*", "a.test", "*.a.test", "*.test", "b.test", "localhost", "*.localhost",
            "127.0.0.1", "[::1]", "10.0.0.0/8", "10.0.0.0/9", "93.184.216.0/24", "0.0.0.0/0",
            "[::/0]", "[2606:4700::/32]", "169.254.169.254", "[64:ff9b::/96]", "[2002::/16]",
            "45.76.10.2", "224.0.0.0/3", "[fd00::/8]",
        ][..]).prop_map(str::to_owned),
        1 => (any::<u32>(), 0u8..=32).prop_map(|(bits, prefix)| {
            ipnet::Ipv4Net::new(bits.into(), prefix).expect("a prefix").trunc().to_string()
        }),
        1 => (any::<u128>(), 0u8..=128).prop_map(|(bits, prefix)| {
            let net = ipnet::Ipv6Net::new(bits.into(), prefix).expect("a prefix");
            format!("[{}]", net.trunc())
        }),
    ];
    let ports = prop::sample::select(&["", "", ":80", ":22-3000", ":3000-4000", ":*"][..]);
    (pattern, ports).prop_map(|(pattern, ports)| format!("{pattern}{ports}"))
}

fn an_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        4 => prop::sample::select(&[
            "10.0.0.1", "10.200.0.1", "93.184.216.34", "8.8.8.8", "127.0.0.1", "::1", "127.0.0.2",
            "169.254.169.254", "169.254.0.1", "45.76.10.2", "2606:4700::1", "64:ff9b::a00:1",
            "64:ff9b::808:808", "2002:a00:1::1", "::ffff:8.8.8.8", "fd00::1", "224.0.0.1",
            "168.63.129.16",
        ][..]).prop_map(|text| text.parse().expect("an address")),
        1 => any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        1 => any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
    ]
}

fn a_model() -> impl Strategy<Value = Model> {
    let rules = || prop::collection::vec(a_rule(), 0..4);
    let offline = prop::bool::weighted(0.05);
    (rules(), rules(), rules(), rules(), offline).prop_map(
        |(allow, deny, session_allow, session_deny, offline)| Model {
            // The daemon refuses rules that can have no effect.
            allow: allow
                .into_iter()
                .filter(|rule| {
                    let config = Config {
                        allow: vec![rule.parse().expect("a rule")],
                        ..Config::default()
                    };
                    Policy::new(&config).is_ok()
                })
                .collect(),
            deny,
            host_loopback: vec![3000, 7370],
            reserved: vec![9222],
            protected: vec![7370],
            own_addresses: vec![IpAddr::from([45, 76, 10, 2]), IpAddr::from([127, 0, 0, 1])],
            session_allow,
            session_deny,
            offline,
        },
    )
}

fn policy(model: &Model) -> SessionPolicy {
    let (_, policy, options) = model.real();
    SessionPolicy::new(Arc::new(policy), options)
}

/// What becomes of a request, and of each of its addresses.
fn place(policy: &SessionPolicy, target: &Target, answer: &[IpAddr]) -> Place {
    let addresses = match &target.host {
        Host::Address(address) => &[*address][..],
        Host::Name(_) => answer,
    };
    match policy.check_target(target) {
        Err(_) => Place::Nowhere,
        Ok(Route::OwnLoopback) => Place::OwnLoopback,
        Ok(Route::HostLoopback) => Place::HostLoopback,
        Ok(Route::Outside) if policy.check_addresses(target, addresses).is_ok() => Place::Outside,
        Ok(Route::Outside) => Place::Nowhere,
    }
}

/// An address in many spellings, all of which are hosts.
fn spellings(address: IpAddr) -> Vec<String> {
    match address {
        IpAddr::V4(v4) => {
            let number = u32::from(v4);
            let [a, b, c, d] = v4.octets();
            vec![
                v4.to_string(),
                format!("{v4}."),
                number.to_string(),
                format!("{number:#X}").replace('X', "x"),
                format!("0{number:o}."),
                format!("0{a:o}.{b:#x}.{}", u32::from(c) << 8 | u32::from(d)),
                format!(
                    "%{:02x}{}",
                    v4.to_string().as_bytes()[0],
                    &v4.to_string()[1..]
                ),
                v4.to_string().replace('.', "\u{3002}"),
            ]
        }
        IpAddr::V6(v6) => {
            let words = v6.segments().map(|word| format!("{word:04X}"));
            let [.., a, b, c, d] = v6.octets();
            let dotted = format!("{}:{a}.{b}.{c}.{d}", words[..6].join(":"));
            vec![
                format!("[{v6}]"),
                format!("[{}]", words.join(":")),
                format!("[{dotted}]"),
            ]
        }
    }
}

fn request_bytes() -> impl Strategy<Value = Vec<u8>> {
    let host = prop_oneof![
        4 => prop::sample::select(&[
            "a.test", "p.test", "mixed.test", "lo.test", "own.test", "x.bad.test", "y.b.test",
            "x.b.test", "localhost", "x.localhost", "127.0.0.1", "0x7f.1", "[::1]", "10.0.0.5",
            "10.1.2.3", "169.254.169.254", "45.76.10.2", "93.184.216.34", "[::ffff:10.0.0.5]",
            "[64:ff9b::a00:5]", "a.test@10.0.0.5", "10.0.0.5#a.test", "a.test\\@10.0.0.5", "",
        ][..]).prop_map(str::to_owned),
        1 => "[a-z0-9.:@%#?/\\\\\\[\\]-]{0,12}",
    ];
    let port = prop::sample::select(
        &[
            "", "", ":80", ":443", ":8080", ":3000", ":7370", ":9222", ":25", ":0", ":", ":80:80",
        ][..],
    );
    let authority = (host, port).prop_map(|(host, port)| format!("{host}{port}"));
    let method = prop::sample::select(
        &[
            "GET", "GET", "POST", "CONNECT", "CONNECT", "OPTIONS", "connect", "G\0T", "PRI",
        ][..],
    );
    let scheme =
        prop::sample::select(&["http://", "http://", "HTTP://", "https://", "//", "", "/"][..]);
    let rest = prop::sample::select(&["/", "/", "", "/a?b", "?x", "/\u{e9}", " /", "*"][..]);
    let version = prop::sample::select(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", ""][..]);
    let field = prop_oneof![
        authority
            .clone()
            .prop_map(|authority| format!("Host: {authority}")),
        prop::sample::select(
            &[
                "Connection: close",
                "Connection: keep-alive, Host",
                "Connection: Upgrade\r\nUpgrade: websocket",
                "Content-Length: 5",
                "Content-Length: 5\r\nContent-Length: 6",
                "Content-Length: +5",
                "Transfer-Encoding: chunked",
                "Transfer-Encoding: chunked\r\nContent-Length: 3",
                "Transfer-Encoding : chunked",
                "Transfer-Encoding: x, chunked",
                "Expect: 100-continue",
                " folded: x",
                "X: \t y",
                ":",
                "X-Bad\0: 1",
            ][..]
        )
        .prop_map(str::to_owned),
        "\\PC{0,10}: ?\\PC{0,10}",
    ];
    let one = (
        method,
        scheme,
        authority,
        rest,
        version,
        prop::collection::vec(field, 0..4),
    )
        .prop_map(|(method, scheme, authority, rest, version, fields)| {
            let line = if method == "CONNECT" {
                format!("CONNECT {authority} {version}")
            } else {
                format!("{method} {scheme}{authority}{rest} {version}")
            };
            let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
            format!("{line}\r\n{fields}\r\n").into_bytes()
        });
    let piece = prop_oneof![
        6 => one,
        1 => Just(b"5\r\nhello\r\n0\r\n\r\n".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..30),
    ];
    prop::collection::vec(piece, 1..4).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// 2,048 cases.
    #[test]
    fn the_policy_decides_as_the_documented_rules_do(
        model in a_model(),
        named: bool,
        name in prop::sample::select(&["a.test", "x.a.test", "b.test", "localhost", "x.localhost"][..]),
        port in prop::sample::select(&[80u16, 443, 22, 3000, 7370, 9222][..]),
        answer in prop::collection::vec(an_address(), 1..4),
    ) {
        let host = if named { Host::Name(name.to_owned()) } else { Host::Address(answer[0]) };
        let target = Target { host, port };
        let (asked, addresses) = match &target.host {
            Host::Name(name) => (name.clone(), &answer[..]),
            Host::Address(address) => (address.to_string(), &answer[..1]),
        };
        prop_assert_eq!(place(&policy(&model), &target, &answer), model.place(&asked, port, addresses));
    }

    /// 2,048 cases.
    #[test]
    fn an_allow_list_of_networks_holds_for_every_address_of_a_name(
        model in a_model(),
        nets in prop::collection::vec(prop::sample::select(&[
            "93.184.216.0/24", "8.8.0.0/16", "1.0.0.0/8", "[2606:4700::/32]",
        ][..]), 1..3),
        answer in prop::collection::vec(prop::sample::select(&[
            "93.184.216.34", "8.8.8.8", "1.1.1.1", "2606:4700::1", "9.9.9.9",
        ][..]), 1..4),
    ) {
        let model = Model {
            deny: Vec::new(),
            session_allow: nets.into_iter().map(str::to_owned).collect(),
            session_deny: Vec::new(),
            offline: false,
            ..model
        };
        let answer: Vec<IpAddr> = answer.iter().map(|text| text.parse().unwrap()).collect();
        let target = Target { host: Host::Name("a.test".to_owned()), port: 443 };
        prop_assert_eq!(place(&policy(&model), &target, &answer), model.place("a.test", 443, &answer));
    }

    /// 2,048 cases.
    #[test]
    fn an_address_that_carries_another_is_denied_as_both(
        nets in prop::collection::vec(prop::sample::select(&[
            "8.8.8.8", "8.0.0.0/8", "9.9.9.9", "0.0.0.0/0", "[64:ff9b::/96]", "[2002:808::/32]",
        ][..]), 0..3),
        by_session: bool,
        address in prop::sample::select(&[
            "64:ff9b::808:808", "2002:808:808::1", "64:ff9b::909:909", "2002:101:101::1", "8.8.8.8",
        ][..]),
    ) {
        let nets: Vec<String> = nets.into_iter().map(str::to_owned).collect();
        let (session_deny, deny) = if by_session { (nets, Vec::new()) } else { (Vec::new(), nets) };
        let model = Model {
            allow: vec!["[64:ff9b::/96]".to_owned(), "[2002::/16]".to_owned()],
            deny,
            session_deny,
            ..Model::default()
        };
        let host: IpAddr = address.parse().unwrap();
        let target = Target { host: Host::Address(host), port: 443 };
        prop_assert_eq!(place(&policy(&model), &target, &[]), model.place(address, 443, &[host]));
    }

    /// 2,048 cases.
    #[test]
    fn a_session_never_reaches_what_the_daemon_keeps_closed(
        model in a_model(),
        port in prop::sample::select(&[80u16, 443, 22, 3000, 7370, 9222][..]),
        address in an_address(),
    ) {
        let free = Model {
            session_allow: Vec::new(),
            session_deny: Vec::new(),
            offline: false,
            ..model.clone()
        };
        let target = Target { host: Host::Address(address), port };
        let narrowed = place(&policy(&model), &target, &[]);
        prop_assert!(narrowed == Place::Nowhere || narrowed == place(&policy(&free), &target, &[]));
    }

    /// 2,048 cases.
    #[test]
    fn every_spelling_of_an_address_has_one_verdict(
        model in a_model(),
        address in an_address(),
        port in prop::sample::select(&[80u16, 443, 22, 3000, 7370, 9222][..]),
    ) {
        let policy = policy(&model);
        let plain = Target { host: Host::Address(address), port };
        let expected = place(&policy, &plain, &[]);
        for host in spellings(address) {
            let target = Target::parse(&format!("{host}:{port}"), None).unwrap();
            prop_assert_eq!(&target, &plain, "{}", host);
            prop_assert_eq!(place(&policy, &target, &[]), expected);
        }
    }

    /// 2,048 cases.
    #[test]
    fn an_authority_is_where_a_browser_would_go(
        text in "(\\PC{0,12}|\\[([0-9a-f]{1,4}:){0,3}:([0-9a-f]{1,4}|[0-9]{1,3}(\\.[0-9]{1,3}){3})?\\]([x.\\]]|:{0,2}\\+?[0-9]{1,5})?|[a-zA-Z0-9.:%\\[\\]@\\\\#?/ \t+-]{0,20}|(0x)?[0-9a-f]{1,9}(\\.(0x)?[0-9a-f]{1,4}){0,4}\\.?(:\\+?[0-9]{0,6})?)"
    ) {
        target(&text);
    }

    /// 2,048 cases.
    #[test]
    fn a_text_is_a_rule_that_reads_back_and_fits_a_header(
        text in "(\\*\\.?)?(\\PC{0,10}|\\[?[0-9a-fA-F:.]{1,20}\\]?|[a-z0-9.]{1,12})(/[0-9]{1,3})?(:[0-9*-]{0,11})?"
    ) {
        rule(&text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// 512 cases.
    #[test]
    fn no_request_connects_to_what_the_rules_refuse(rules in 0u8..3, sent in request_bytes()) {
        request(rules, &sent);
    }
}

#[test]
fn ipv6_is_spelt_in_three_ways() {
    let address: Ipv6Addr = "2606:4700::1".parse().unwrap();
    assert_eq!(
        spellings(address.into())[2],
        "[2606:4700:0000:0000:0000:0000:0.0.0.1]"
    );
}
