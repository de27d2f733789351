//! The decision, over every range and spelling.

use super::*;
use proptest::prelude::*;

fn config(allow: &[&str], deny: &[&str], host_loopback: &[&str]) -> Config {
    let rules = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
    Config {
        host_loopback: host_loopback.iter().map(ToString::to_string).collect(),
        allow: rules(allow),
        deny: rules(deny),
    }
}

const OWN: [&str; 3] = ["8.8.4.4", "192.168.7.7", "127.0.0.1"];

fn policy(allow: &[&str], deny: &[&str], host_loopback: &[&str]) -> Policy {
    let mut policy = Policy::new(&config(allow, deny, host_loopback)).unwrap();
    policy.host_addresses = HostAddresses::fixed(&OWN.map(|a| a.parse().unwrap()));
    policy
}

/// What the proxy would do with `authority` if its name had these addresses.
fn judge(policy: &Policy, authority: &str, answer: &[&str]) -> Result<Route, String> {
    let target = Target::parse(authority, Some(80)).map_err(|e| e.to_string())?;
    let route = policy.check_target(&target).map_err(|e| e.to_string())?;
    let addresses = match &target.host {
        Host::Address(address) => vec![*address],
        Host::Name(_) => answer.iter().map(|a| a.parse().unwrap()).collect(),
    };
    if route == Route::Outside {
        policy
            .check_addresses(&target, &addresses)
            .map_err(|e| e.to_string())?;
    }
    Ok(route)
}

fn refused(rule: &str) -> Result<Route, String> {
    Err(rule.to_owned())
}

#[test]
fn every_range_is_refused_in_every_spelling() {
    let policy = policy(&[], &[], &[]);
    for (range, authorities) in [
        (
            "this-network 0.0.0.0/8",
            &["0.0.0.0", "0", "0x0", "0.1.2.3", "00000.0"][..],
        ),
        (
            "private-use 10.0.0.0/8",
            &["10.0.0.1", "0x0a000001", "167772161", "012.1", "10.1."],
        ),
        (
            "shared-address-space 100.64.0.0/10",
            &["100.64.0.1", "0x64400001", "100.127.255.255"],
        ),
        (
            "loopback",
            &[
                "127.0.0.1",
                "localhost",
                "LOCALHOST.",
                "a.localhost",
                "0x7f.1",
                "[::1]",
                "2130706433",
                "017700000001",
                "127.1",
                "[0:0::1]",
                "%6cocalhost",
                "127.0.0.1.",
            ],
        ),
        (
            "loopback 127.0.0.0/8",
            &["127.0.0.2", "127.255.255.255", "0x7f.2", "2130706434"],
        ),
        (
            "link-local 169.254.0.0/16",
            &[
                "169.254.169.254",
                "0xa9fea9fe",
                "2852039166",
                "0251.0376.0251.0376",
                "169.254.43518",
                "%31%36%39.254.169.254",
            ],
        ),
        (
            "private-use 172.16.0.0/12",
            &["172.16.0.1", "172.31.255.255", "0xac100001"],
        ),
        ("ietf-protocol 192.0.0.0/24", &["192.0.0.1", "192.0.0.192"]),
        ("documentation 192.0.2.0/24", &["192.0.2.1"]),
        ("as112 192.31.196.0/24", &["192.31.196.1"]),
        ("amt 192.52.193.0/24", &["192.52.193.1"]),
        ("6to4-relay 192.88.99.0/24", &["192.88.99.1"]),
        (
            "private-use 192.168.0.0/16",
            &["192.168.0.1", "0xc0a80001", "192.168.1"],
        ),
        ("as112 192.175.48.0/24", &["192.175.48.1"]),
        (
            "benchmarking 198.18.0.0/15",
            &["198.18.0.1", "198.19.255.255"],
        ),
        ("documentation 198.51.100.0/24", &["198.51.100.1"]),
        ("documentation 203.0.113.0/24", &["203.0.113.1"]),
        ("multicast 224.0.0.0/4", &["224.0.0.1", "239.255.255.255"]),
        ("reserved 240.0.0.0/4", &["240.0.0.1", "255.255.255.254"]),
        (
            "broadcast 255.255.255.255/32",
            &["255.255.255.255", "4294967295", "0xffffffff"],
        ),
        (
            "unspecified ::/128",
            &["[::]", "[0:0:0:0:0:0:0:0]", "[::0.0.0.0]"],
        ),
        (
            "ipv4-mapped ::ffff:0:0/96",
            &[
                "[::ffff:127.0.0.1]",
                "[::ffff:7f00:1]",
                "[::ffff:169.254.169.254]",
                "[0:0:0:0:0:ffff:10.0.0.1]",
                "[::FFFF:8.8.8.8]",
            ],
        ),
        (
            "ipv4-compatible ::/96",
            &["[::127.0.0.1]", "[::7f00:1]", "[::10.0.0.1]"],
        ),
        (
            "nat64 64:ff9b::/96",
            &[
                "[64:ff9b::10.0.0.1]",
                "[64:ff9b::7f00:1]",
                "[64:ff9b::8.8.8.8]",
            ],
        ),
        (
            "nat64-local 64:ff9b:1::/48",
            &["[64:ff9b:1::10.0.0.1]", "[64:ff9b:1:ffff::1]"],
        ),
        ("discard-only 100::/64", &["[100::1]"]),
        ("dummy-prefix 100:0:0:1::/64", &["[100:0:0:1::1]"]),
        ("teredo 2001::/32", &["[2001::1]", "[2001:0:7f00:1::]"]),
        (
            "ietf-protocol 2001::/23",
            &["[2001:1::1]", "[2001:20::1]", "[2001:1ff::1]"],
        ),
        ("documentation 2001:db8::/32", &["[2001:db8::1]"]),
        (
            "6to4 2002::/16",
            &["[2002:7f00:1::]", "[2002:a00:1::1]", "[2002:808:808::1]"],
        ),
        ("as112 2620:4f:8000::/48", &["[2620:4f:8000::1]"]),
        ("documentation 3fff::/20", &["[3fff::1]", "[3fff:fff::1]"]),
        ("segment-routing 5f00::/16", &["[5f00::1]"]),
        (
            "unique-local fc00::/7",
            &["[fc00::1]", "[fd00:ec2::254]", "[FDFF::1]"],
        ),
        ("link-local fe80::/10", &["[fe80::1]", "[febf::1]"]),
        ("site-local fec0::/10", &["[fec0::1]", "[feff::1]"]),
        ("multicast ff00::/8", &["[ff02::1]", "[ffff::1]"]),
        (
            "not-global-unicast ::/0",
            &["[1::1]", "[::ffff:0:127.0.0.1]", "[4000::1]", "[fe00::1]"],
        ),
    ] {
        for authority in authorities {
            assert_eq!(
                judge(&policy, authority, &[]),
                refused(range),
                "{authority}"
            );
            let with_port = format!("{authority}:443");
            assert_eq!(
                judge(&policy, &with_port, &[]),
                refused(range),
                "{with_port}"
            );
        }
    }
}

#[test]
fn public_hosts_are_open_on_the_default_ports_only() {
    let policy = policy(&[], &[], &[]);
    for authority in [
        "example.com",
        "example.com:443",
        "8.8.8.8",
        "[2606:4700::1111]:443",
    ] {
        assert_eq!(judge(&policy, authority, &["8.8.8.8"]), Ok(Route::Outside));
    }
    for port in [1, 22, 25, 8080, 8443, 65535] {
        for host in ["example.com", "8.8.8.8"] {
            let verdict = judge(&policy, &format!("{host}:{port}"), &["8.8.8.8"]);
            assert_eq!(verdict, refused(&format!("port {port}")));
        }
    }
}

#[test]
fn one_bad_address_refuses_the_whole_answer() {
    let policy = policy(&[], &[], &[]);
    let answer = ["8.8.8.8", "2606:4700::1111", "10.0.0.1"];
    assert_eq!(
        judge(&policy, "rebind.test", &answer),
        refused("private-use 10.0.0.0/8")
    );
    let answer = ["8.8.8.8", "::1"];
    assert_eq!(
        judge(&policy, "rebind.test", &answer),
        refused("loopback ::1/128")
    );
    assert_eq!(
        judge(&policy, "rebind.test", &["127.0.0.1"]),
        refused("loopback 127.0.0.0/8")
    );
}

#[test]
fn the_hosts_own_addresses_need_a_rule_that_names_them() {
    let closed = policy(&["mine.test", "*"], &[], &[]);
    assert_eq!(judge(&closed, "8.8.4.4", &[]), refused("host-address"));
    assert_eq!(
        judge(&closed, "mine.test", &["8.8.4.4"]),
        refused("host-address")
    );
    assert_eq!(
        judge(&closed, "mine.test", &["192.168.7.7"]),
        refused("host-address")
    );
    let open = policy(&["192.168.7.7:3000"], &[], &[]).protect(7370);
    assert_eq!(
        judge(&open, "mine.test:3000", &["192.168.7.7"]),
        Ok(Route::Outside)
    );
    let wide = policy(&["192.168.7.7:*"], &[], &[]).protect(7370);
    assert_eq!(judge(&wide, "192.168.7.7:7371", &[]), Ok(Route::Outside));
    assert_eq!(
        judge(&wide, "192.168.7.7:7370", &[]),
        refused("protected-port")
    );
}

#[test]
fn rules_open_networks_and_ports() {
    let policy = policy(
        &[
            "10.0.0.5:8443",
            "*.corp.test",
            "app.test:3000-3999",
            "169.254.169.254",
            "[64:ff9b::/96]",
        ],
        &[],
        &[],
    );
    let ok = Ok(Route::Outside);
    assert_eq!(judge(&policy, "10.0.0.5:8443", &[]), ok);
    assert_eq!(judge(&policy, "any.test:8443", &["10.0.0.5"]), ok);
    assert_eq!(
        judge(&policy, "10.0.0.5", &[]),
        refused("private-use 10.0.0.0/8")
    );
    assert_eq!(
        judge(&policy, "10.0.0.6:8443", &[]),
        refused("private-use 10.0.0.0/8")
    );
    assert_eq!(
        judge(&policy, "any.test:8443", &["10.0.0.5", "10.0.0.6"]),
        refused("private-use 10.0.0.0/8")
    );
    assert_eq!(judge(&policy, "a.corp.test", &["10.9.9.9", "fd00::1"]), ok);
    assert_eq!(
        judge(&policy, "a.corp.test:8080", &["10.9.9.9"]),
        refused("port 8080")
    );
    assert_eq!(judge(&policy, "app.test:3500", &["8.8.8.8"]), ok);
    assert_eq!(judge(&policy, "app.test:3500", &["172.16.0.1"]), ok);
    assert_eq!(
        judge(&policy, "app.test:4000", &["8.8.8.8"]),
        refused("port 4000")
    );
    // A name's DNS cannot lead to metadata services or loopback, whatever its rule says.
    assert_eq!(
        judge(&policy, "a.corp.test", &["169.254.0.1"]),
        refused("link-local 169.254.0.0/16")
    );
    assert_eq!(
        judge(&policy, "a.corp.test", &["127.0.0.1"]),
        refused("loopback 127.0.0.0/8")
    );
    assert_eq!(judge(&policy, "169.254.169.254", &[]), ok);
    // Behind an opened translator the embedded address is judged for itself.
    assert_eq!(judge(&policy, "[64:ff9b::8.8.8.8]", &[]), ok);
    assert_eq!(
        judge(&policy, "[64:ff9b::10.9.9.9]", &[]),
        refused("private-use 10.0.0.0/8")
    );
    assert_eq!(
        judge(&policy, "[64:ff9b::127.0.0.1]", &[]),
        refused("loopback 127.0.0.0/8")
    );
    assert_eq!(
        judge(&policy, "[64:ff9b::8.8.4.4]", &[]),
        refused("host-address")
    );
}

#[test]
fn everything_allowed_still_leaves_what_nothing_opens() {
    let policy = policy(&["0.0.0.0/0:*", "[::/0]:*", "*:*"], &[], &[]);
    assert_eq!(judge(&policy, "10.0.0.1:22", &[]), Ok(Route::Outside));
    assert_eq!(judge(&policy, "[2002:a00:1::]:22", &[]), Ok(Route::Outside));
    for (authority, rule) in [
        ("localhost", "loopback"),
        ("127.0.0.2", "loopback 127.0.0.0/8"),
        ("0.0.0.0", "this-network 0.0.0.0/8"),
        ("224.0.0.1", "multicast 224.0.0.0/4"),
        ("[::ffff:127.0.0.1]", "ipv4-mapped ::ffff:0:0/96"),
        ("[2002:7f00:1::]", "loopback 127.0.0.0/8"),
        ("[::]", "unspecified ::/128"),
    ] {
        assert_eq!(judge(&policy, authority, &[]), refused(rule), "{authority}");
    }
    // `*` opens ports, not networks.
    let star = super::tests::policy(&["*:*"], &[], &[]);
    assert_eq!(
        judge(&star, "example.com:22", &["8.8.8.8"]),
        Ok(Route::Outside)
    );
    assert_eq!(judge(&star, "8.8.8.8:22", &[]), Ok(Route::Outside));
    assert_eq!(
        judge(&star, "example.com:22", &["10.0.0.1"]),
        refused("private-use 10.0.0.0/8")
    );
}

#[test]
fn deny_wins() {
    let policy = policy(
        &["*:*", "10.0.0.0/8:*"],
        &[
            "bad.test",
            "*.bad.test",
            "10.6.6.6",
            "8.8.8.0/24:443",
            "*:25",
            "localhost:9",
        ],
        &["*"],
    );
    for (authority, answer, rule) in [
        ("bad.test", "1.1.1.1", "deny bad.test"),
        ("BAD.test.:8080", "1.1.1.1", "deny bad.test"),
        ("a.b.bad.test", "1.1.1.1", "deny *.bad.test"),
        ("good.test", "10.6.6.6", "deny 10.6.6.6"),
        ("good.test:443", "8.8.8.8", "deny 8.8.8.0/24:443"),
        ("good.test:25", "1.1.1.1", "deny *:25"),
        ("localhost:25", "1.1.1.1", "deny *:25"),
        ("localhost:9", "1.1.1.1", "deny localhost:9"),
    ] {
        assert_eq!(
            judge(&policy, authority, &[answer]),
            refused(rule),
            "{authority}"
        );
    }
    assert_eq!(
        judge(&policy, "good.test", &["8.8.8.8"]),
        Ok(Route::Outside)
    );
    assert_eq!(judge(&policy, "localhost:10", &[]), Ok(Route::HostLoopback));
    let closed = super::tests::policy(&[], &["127.0.0.0/8:80"], &["*"]);
    assert_eq!(
        judge(&closed, "localhost", &[]),
        refused("deny 127.0.0.0/8:80")
    );
}

#[test]
fn host_loopback_opens_its_ports_and_no_protected_one() {
    let some = policy(&[], &[], &["8080", "3000-3001"]).protect(3001);
    for authority in [
        "localhost:8080",
        "a.b.localhost:8080",
        "127.0.0.1:8080",
        "[::1]:8080",
        "0x7f.1:8080",
        "localhost:3000",
    ] {
        assert_eq!(
            judge(&some, authority, &[]),
            Ok(Route::HostLoopback),
            "{authority}"
        );
    }
    assert_eq!(
        judge(&some, "localhost:3001", &[]),
        refused("protected-port")
    );
    assert_eq!(judge(&some, "localhost:8081", &[]), refused("loopback"));
    assert_eq!(judge(&some, "localhost", &[]), refused("loopback"));
    assert_eq!(
        judge(&some, "127.0.0.2:8080", &[]),
        refused("loopback 127.0.0.0/8")
    );
    assert_eq!(
        judge(&some, "rebind.test:8080", &["127.0.0.1"]),
        refused("port 8080")
    );
    let all = policy(&[], &[], &["*"]).protect(7370);
    assert_eq!(judge(&all, "localhost:1", &[]), Ok(Route::HostLoopback));
    assert_eq!(
        judge(&all, "localhost:7370", &[]),
        refused("protected-port")
    );
    assert_eq!(
        judge(&all, "notlocalhost", &["127.0.0.1"]),
        refused("loopback 127.0.0.0/8")
    );
}

#[test]
fn bad_configs_name_their_entry() {
    let error = |allow: &[&str], loopback: &[&str]| {
        Policy::new(&config(allow, &[], loopback))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error(&[], &["80", "http"]),
        r#"egress.host_loopback: entry "http": "http" is not a port: write 1 to 65535, 8000-8999 or *"#
    );
    for entry in ["0", "+80", "65536", "", "80 "] {
        assert!(error(&[], &[entry]).contains(&format!("entry {entry:?}")));
    }
    for entry in [
        "127.0.0.1:80",
        "localhost",
        "*.localhost:3000",
        "127.0.0.0/8",
        "::1",
    ] {
        let message = error(&[entry], &[]);
        assert!(
            message.ends_with(r#"loopback is opened by host_loopback = ["PORT"], not by allow"#),
            "{message}"
        );
    }
    assert_eq!(
        error(&["*.ok.test", "224.0.0.1"], &[]),
        r#"egress.allow: entry "224.0.0.1": nothing opens multicast 224.0.0.0/4"#
    );
}

#[test]
fn a_toml_section_is_read_whole() {
    let text = r#"
        host_loopback = ["8080"]
        allow = ["*.corp.test", "10.0.0.5:8443"]
        deny = ["ads.test"]
    "#;
    let expected = config(&["*.corp.test", "10.0.0.5:8443"], &["ads.test"], &["8080"]);
    assert_eq!(toml::from_str::<Config>(text).unwrap(), expected);
    let back = toml::to_string(&expected).unwrap();
    assert_eq!(toml::from_str::<Config>(&back).unwrap(), expected);
    let error = toml::from_str::<Config>(r#"allow = ["a.test", "10.0.0.1/8"]"#).unwrap_err();
    assert!(
        error
            .message()
            .contains(r#"egress rule "10.0.0.1/8": "10.0.0.1/8" has bits set"#),
        "{error}"
    );
    assert!(toml::from_str::<Config>("alow = []").is_err());
}

#[test]
fn start_urls_are_checked_without_a_lookup() {
    let policy = policy(&[], &["bad.test"], &["3000"]);
    for url in [
        "http://example.com",
        "https://example.com/a?b#c",
        "http://localhost:3000/x",
        "http://8.8.8.8/",
    ] {
        assert!(policy.check_url(url).is_ok(), "{url}");
    }
    for (url, message) in [
        (
            "example.com",
            "not a URL to open: relative URL without a base",
        ),
        (
            "ftp://example.com",
            r#"not a URL to open: the scheme is "ftp", must be http or https"#,
        ),
        (
            "file:///etc/passwd",
            r#"not a URL to open: the scheme is "file", must be http or https"#,
        ),
        ("http://a..b/", "not a URL to open: not a valid host"),
        ("http://example.com:0/", "not a URL to open: the port is 0"),
        (
            "http://bad.test/",
            r#"bad.test:80 is refused by the egress rule "deny bad.test""#,
        ),
        (
            "http://localhost/",
            r#"localhost:80 is refused by the egress rule "loopback""#,
        ),
        (
            "http://0xa9fea9fe/",
            r#"169.254.169.254:80 is refused by the egress rule "link-local 169.254.0.0/16""#,
        ),
        (
            "https://example.com:22/",
            r#"example.com:22 is refused by the egress rule "port 22""#,
        ),
    ] {
        assert_eq!(
            policy.check_url(url).unwrap_err().to_string(),
            message,
            "{url}"
        );
    }
}

proptest! {
    #[test]
    fn no_special_address_is_ever_allowed(bits: u128, v4: bool, port in prop::sample::select(&[80u16, 443, 8080][..])) {
        let address = if v4 { IpAddr::V4((bits as u32).into()) } else { IpAddr::V6(bits.into()) };
        let target = Target { host: Host::Name("a.test".into()), port };
        let policy = policy(&[], &[], &[]);
        let special = address::special(address).is_some();
        let open = policy.check_addresses(&target, &[address]).is_ok();
        prop_assert_eq!(open, !special && port != 8080 && !OWN.contains(&address.to_string().as_str()));
    }

    #[test]
    fn no_address_within_a_range_is_allowed_whatever_its_spelling(
        row in 0usize..8, host: u32, form in 0usize..5,
    ) {
        let nets = ["10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
            "172.16.0.0/12", "192.168.0.0/16", "0.0.0.0/8", "224.0.0.0/3"];
        let net: ipnet::Ipv4Net = nets[row].parse().unwrap();
        let number = u32::from(net.network()) | (host & u32::from(net.hostmask()));
        let dotted = Ipv4Addr::from(number);
        let authority = match form {
            0 => dotted.to_string(),
            1 => format!("{number}"),
            2 => format!("{number:#x}."),
            3 => format!("0{number:o}"),
            _ => format!("[::ffff:{dotted}]"),
        };
        let policy = policy(&["*.test", "*", "8.0.0.0/8:*"], &[], &["1"]);
        prop_assert!(judge(&policy, &authority, &[]).is_err(), "{}", authority);
        let answer = dotted.to_string();
        prop_assert!(judge(&policy, "name.example", &["8.8.8.8", &answer]).is_err());
        for embedding in [format!("64:ff9b::{dotted}"), format!("2002:{:x}:{:x}::1", number >> 16, number & 0xffff)] {
            let wide = super::tests::policy(&["[64:ff9b::/96]", "[2002::/16]"], &[], &[]);
            prop_assert!(judge(&wide, "name.example", &[&embedding]).is_err(), "{}", embedding);
        }
    }
}
