//! The decision, rule by rule.

mod localhost;
mod ranges;

use super::*;

fn config(allow: &[&str], deny: &[&str], host_loopback: &[&str]) -> Config {
    let rules = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
    Config {
        host_loopback: host_loopback.iter().map(ToString::to_string).collect(),
        allow: rules(allow),
        deny: rules(deny),
        ..Config::default()
    }
}

const OWN: [&str; 3] = ["8.8.4.4", "192.168.7.7", "127.0.0.1"];

fn policy(allow: &[&str], deny: &[&str], host_loopback: &[&str]) -> Policy {
    let policy = Policy::new(&config(allow, deny, host_loopback)).unwrap();
    policy.with_host_addresses(&OWN.map(|a| a.parse().unwrap()))
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
    for metadata in ["168.63.129.16", "100.100.100.200", "fd00:ec2::254"] {
        let range = match metadata {
            "fd00:ec2::254" => "metadata fd00:ec2::/32".to_owned(),
            v4 => format!("metadata {v4}/32"),
        };
        assert_eq!(judge(&policy, "a.corp.test", &[metadata]), refused(&range));
    }
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
