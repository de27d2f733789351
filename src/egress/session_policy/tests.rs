//! What a session's rules let through of what the daemon's do.

use proptest::prelude::*;

use super::*;
use crate::egress::Config;
use crate::egress::target::Host;

fn rules(texts: &[&str]) -> Vec<Rule> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn daemon(allow: &[&str], deny: &[&str], host_loopback: &[&str]) -> Arc<Policy> {
    let config = Config {
        allow: rules(allow),
        deny: rules(deny),
        host_loopback: host_loopback.iter().map(ToString::to_string).collect(),
        ..Config::default()
    };
    Arc::new(Policy::new(&config).unwrap())
}

fn session(daemon: &Arc<Policy>, allow: &[&str], deny: &[&str]) -> SessionPolicy {
    let options = NetworkOptions {
        allow: rules(allow),
        deny: rules(deny),
        ..NetworkOptions::default()
    };
    SessionPolicy::new(Arc::clone(daemon), options)
}

/// Where a request is decided.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passes,
    /// Before its name is looked up.
    RefusedByName(String),
    RefusedByAddress(String),
}

use Verdict::{Passes, RefusedByAddress, RefusedByName};

fn by_name(rule: &str) -> Verdict {
    RefusedByName(rule.to_owned())
}

fn by_address(rule: &str) -> Verdict {
    RefusedByAddress(rule.to_owned())
}

fn judge_target(policy: &SessionPolicy, target: &Target, answer: &[IpAddr]) -> Verdict {
    let addresses = match (policy.check_target(target), &target.host) {
        (Err(refusal), _) => return RefusedByName(refusal.to_string()),
        (Ok(Route::HostLoopback | Route::OwnLoopback), _) => return Passes,
        (Ok(Route::Outside), Host::Address(address)) => vec![*address],
        (Ok(Route::Outside), Host::Name(_)) => answer.to_vec(),
    };
    match policy.check_addresses(target, &addresses) {
        Ok(()) => Passes,
        Err(refusal) => RefusedByAddress(refusal.to_string()),
    }
}

/// What becomes of a request for `authority` if its name has these addresses.
fn judge(policy: &SessionPolicy, authority: &str, answer: &[&str]) -> Verdict {
    let target = Target::parse(authority, Some(80)).unwrap();
    let answer: Vec<IpAddr> = answer.iter().map(|a| a.parse().unwrap()).collect();
    judge_target(policy, &target, &answer)
}

#[test]
fn without_rules_the_daemons_count() {
    let policy = session(&daemon(&["10.0.0.0/8"], &["ads.test"], &["3000"]), &[], &[]);
    for (authority, answer, verdict) in [
        ("a.test", "93.184.216.34", Passes),
        ("a.test", "10.0.0.1", Passes),
        ("localhost:3000", "", Passes),
        ("ads.test", "93.184.216.34", by_name("deny ads.test")),
        ("a.test:22", "93.184.216.34", by_name("port 22")),
        (
            "a.test",
            "192.168.0.1",
            by_address("private-use 192.168.0.0/16"),
        ),
    ] {
        let answer: &[&str] = if answer.is_empty() { &[] } else { &[answer] };
        assert_eq!(judge(&policy, authority, answer), verdict, "{authority}");
    }
}

#[test]
fn an_allow_list_of_names_needs_no_lookup() {
    let policy = session(
        &daemon(&["*:8443"], &[], &[]),
        &["a.test", "*.b.test:443"],
        &[],
    );
    for (authority, verdict) in [
        ("a.test", Passes),
        ("A.test.:443", Passes),
        ("a.test:8443", Passes),
        ("x.b.test:443", Passes),
        ("a.test:22", by_name("port 22")),
        ("x.b.test:80", by_name("session allow")),
        ("b.test:443", by_name("session allow")),
        ("xa.test", by_name("session allow")),
        ("93.184.216.34", by_name("session allow")),
        ("[2606:4700::1111]:443", by_name("session allow")),
    ] {
        assert_eq!(
            judge(&policy, authority, &["93.184.216.34"]),
            verdict,
            "{authority}"
        );
    }
    // A name the session allows is still the daemon's to judge.
    assert_eq!(
        judge(&policy, "a.test", &["93.184.216.34", "10.0.0.1"]),
        by_address("private-use 10.0.0.0/8")
    );
}

#[test]
fn an_allow_list_of_networks_must_cover_every_address() {
    let policy = session(
        &daemon(&["*:8080"], &[], &[]),
        &["93.184.216.0/24", "[2606:4700::/32]:443", "named.test"],
        &[],
    );
    for (authority, answer, verdict) in [
        ("a.test", &["93.184.216.34"][..], Passes),
        ("a.test:8080", &["93.184.216.34"], Passes),
        ("93.184.216.34", &[], Passes),
        ("[2606:4700::1]:443", &[], Passes),
        ("a.test:443", &["93.184.216.34", "2606:4700::1"], Passes),
        ("named.test", &["8.8.8.8"], Passes),
        ("[2606:4700::1]", &[], by_address("session allow")),
        (
            "a.test",
            &["93.184.216.34", "2606:4700::1"],
            by_address("session allow"),
        ),
        (
            "a.test",
            &["93.184.216.34", "8.8.8.8"],
            by_address("session allow"),
        ),
        ("8.8.8.8", &[], by_address("session allow")),
        // Of a name nobody looked up, nothing is known.
        ("a.test", &[], by_address("session allow")),
    ] {
        assert_eq!(
            judge(&policy, authority, answer),
            verdict,
            "{authority} {answer:?}"
        );
    }
    // No network rule is about this port: no lookup.
    let one_port = session(&daemon(&[], &[], &[]), &["93.184.216.0/24:443"], &[]);
    assert_eq!(
        judge(&one_port, "a.test:80", &["93.184.216.34"]),
        by_name("session allow")
    );
    assert_eq!(judge(&one_port, "a.test:443", &["93.184.216.34"]), Passes);
}

#[test]
fn deny_wins_by_name_before_a_lookup_and_by_address_after_it() {
    let policy = session(
        &daemon(&["*:*", "[64:ff9b::/96]:*"], &[], &[]),
        &["*.test", "[64:ff9b::/96]"],
        &["*.ads.test", "x.test:443", "8.8.8.0/24", "*:25"],
    );
    for (authority, answer, verdict) in [
        ("a.test", "93.184.216.34", Passes),
        ("x.test:80", "93.184.216.34", Passes),
        (
            "a.ads.test:8443",
            "93.184.216.34",
            by_name("session deny *.ads.test"),
        ),
        (
            "x.test:443",
            "93.184.216.34",
            by_name("session deny x.test:443"),
        ),
        ("a.test:25", "93.184.216.34", by_name("session deny *:25")),
        ("a.test:9", "8.8.8.8", by_address("session deny 8.8.8.0/24")),
        // What a translator on the way would turn it into.
        ("[64:ff9b::8.8.4.4]", "", Passes),
        (
            "[64:ff9b::8.8.8.8]",
            "",
            by_address("session deny 8.8.8.0/24"),
        ),
    ] {
        let answer: &[&str] = if answer.is_empty() { &[] } else { &[answer] };
        assert_eq!(judge(&policy, authority, answer), verdict, "{authority}");
    }
}

#[test]
fn the_hosts_loopback_is_subject_to_a_sessions_rules() {
    let daemon = daemon(&[], &[], &["3000-3001"]);
    let names = [
        "localhost:3000",
        "x.localhost:3000",
        "127.0.0.1:3000",
        "[::1]:3000",
    ];
    for (allow, deny, passes) in [
        (&[][..], &[][..], [true; 4]),
        (&["localhost"], &[], [true, false, false, false]),
        (&["localhost:3000"], &[], [true, false, false, false]),
        (&["localhost:3001"], &[], [false; 4]),
        (&["*.localhost:3000"], &[], [false, true, false, false]),
        (&["127.0.0.1:3000"], &[], [true; 4]),
        (&["[::1]"], &[], [true; 4]),
        (&["*:3000"], &[], [true; 4]),
        (&["a.test", "10.0.0.0/8"], &[], [false; 4]),
        (&[], &["localhost:3000"], [false, true, true, true]),
        (&[], &["*.localhost"], [true, false, true, true]),
        (&[], &["127.0.0.0/8:3000"], [false; 4]),
        (&[], &["::1"], [false; 4]),
        (&[], &["127.0.0.1:3001"], [true; 4]),
        (&["*"], &["*:3000"], [false; 4]),
    ] {
        let policy = session(&daemon, allow, deny);
        let verdicts = names.map(|authority| judge(&policy, authority, &[]));
        let passed = verdicts.each_ref().map(|verdict| *verdict == Passes);
        assert_eq!(passed, passes, "{allow:?} {deny:?}: {verdicts:?}");
    }
}

#[test]
fn offline_refuses_everything_by_name() {
    let options = NetworkOptions {
        offline: true,
        ..NetworkOptions::default()
    };
    let policy = SessionPolicy::new(daemon(&["*:*"], &[], &["*"]), options);
    for authority in [
        "a.test",
        "93.184.216.34:22",
        "[2606:4700::1]",
        "localhost:3000",
    ] {
        assert_eq!(
            judge(&policy, authority, &["93.184.216.34"]),
            by_name("offline")
        );
    }
}

#[test]
fn no_allow_rule_opens_what_the_daemon_keeps_closed() {
    let daemon = daemon(&[], &["bad.test"], &[]);
    let wide = [
        "*",
        "*:*",
        "0.0.0.0/0:*",
        "[::/0]:*",
        "in.test:*",
        "127.0.0.1",
        "localhost",
    ];
    let policy = session(&daemon, &wide, &[]);
    for (authority, answer, verdict) in [
        (
            "in.test",
            &["10.0.0.1"][..],
            by_address("private-use 10.0.0.0/8"),
        ),
        ("10.0.0.1", &[], by_address("private-use 10.0.0.0/8")),
        (
            "169.254.169.254",
            &[],
            by_address("metadata 169.254.169.254/32"),
        ),
        ("in.test:22", &[], by_name("port 22")),
        ("8.8.8.8:22", &[], by_address("port 22")),
        ("bad.test", &[], by_name("deny bad.test")),
    ] {
        assert_eq!(judge(&policy, authority, answer), verdict, "{authority}");
    }
}

const HOSTS: [&str; 8] = [
    "a.test",
    "x.a.test",
    "localhost",
    "127.0.0.1",
    "10.0.0.1",
    "93.184.216.34",
    "[2606:4700::1]",
    "169.254.169.254",
];

fn some_rule() -> impl Strategy<Value = String> {
    let pattern = prop::sample::select(vec![
        "*",
        "a.test",
        "*.a.test",
        "*.test",
        "localhost",
        "127.0.0.1",
        "10.0.0.0/8",
        "93.184.216.0/24",
        "0.0.0.0/0",
        "[::/0]",
        "[2606:4700::/32]",
        "169.254.169.254",
    ]);
    let ports = prop::sample::select(vec!["", ":80", ":3000-4000", ":*"]);
    (pattern, ports).prop_map(|(pattern, ports)| format!("{pattern}{ports}"))
}

fn some_rules() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(some_rule(), 0..4)
}

proptest! {
    #[test]
    fn a_session_only_narrows(
        [daemon_deny, allow, deny] in [some_rules(), some_rules(), some_rules()],
        offline: bool,
        host in prop::sample::select(&HOSTS[..]),
        port in prop::sample::select(&[80u16, 443, 3000, 22][..]),
        answer in prop::collection::vec(
            prop::sample::select(&["10.0.0.1", "93.184.216.34", "8.8.8.8", "2606:4700::1"][..]), 1..3),
    ) {
        let as_rules = |texts: &[String]| texts.iter().map(|t| t.parse().unwrap()).collect();
        let config = Config {
            host_loopback: vec!["3000".to_owned()],
            allow: rules(&["10.0.0.0/8", "*:3000"]),
            deny: as_rules(&daemon_deny),
            ..Config::default()
        };
        let daemon = Arc::new(Policy::new(&config).unwrap());
        let options = NetworkOptions {
            allow: as_rules(&allow),
            deny: as_rules(&deny),
            offline,
            ..NetworkOptions::default()
        };
        let without = SessionPolicy::new(Arc::clone(&daemon), NetworkOptions::default());
        let with = SessionPolicy::new(daemon, options.clone());
        let target = Target::parse(&format!("{host}:{port}"), None).unwrap();
        let addresses: Vec<IpAddr> = answer.iter().map(|a| a.parse().unwrap()).collect();
        let verdict = judge_target(&with, &target, &addresses);
        if without.check_target(&target) == Ok(Route::OwnLoopback) {
            prop_assert_eq!(verdict, Passes);
            return Ok(());
        }
        if judge_target(&without, &target, &addresses) != Passes {
            prop_assert_ne!(&verdict, &Passes);
        }
        if offline || options.deny.iter().any(|rule| rule.names(&target)) {
            prop_assert!(matches!(verdict, RefusedByName(_)), "{:?}", verdict);
        }
        // Without its allow list it can only reach more.
        let unlisted = NetworkOptions { allow: Vec::new(), ..options };
        let unlisted = SessionPolicy::new(Arc::clone(&without.daemon), unlisted);
        if verdict == Passes {
            prop_assert_eq!(judge_target(&unlisted, &target, &addresses), Passes);
        }
    }
}
