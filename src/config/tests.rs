//! What a configuration may say, and which key is named when it may not.

use super::*;

fn refused_key(change: impl FnOnce(&mut Config)) -> &'static str {
    let mut config = Config::default();
    change(&mut config);
    match config.validate() {
        Err(Error::Invalid { key, .. }) => key,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_defaults_are_valid() {
    Config::default().validate().unwrap();
}

#[test]
fn a_rule_without_effect_is_refused_where_the_file_is_read() {
    let mut config = Config::default();
    config.egress.allow = vec!["127.0.0.1".parse().unwrap()];
    let error = config.validate().unwrap_err().to_string();
    assert_eq!(
        error,
        r#"egress.allow: entry "127.0.0.1": loopback is opened by host_loopback = ["PORT"], not by allow"#
    );
}

#[test]
fn a_port_that_sessions_need_themselves_cannot_be_the_hosts() {
    let mut config = Config::default();
    config.egress.host_loopback = vec!["8080".to_owned(), runner::CDP_PORT.to_string()];
    let error = config.validate().unwrap_err().to_string();
    assert_eq!(
        error,
        r#"egress.host_loopback: entry "9222": names only ports that the daemon itself uses inside every session"#
    );
}

#[test]
fn an_open_port_needs_a_key_or_a_named_setting() {
    let (open, closed) = ("0.0.0.0:7370", "127.0.0.1:7370");
    for (listen, allow_unauthenticated, keys, is_served) in [
        (closed, false, KeysAre::NotAskedFor, true),
        (open, false, KeysAre::AskedFor, true),
        (open, true, KeysAre::NotAskedFor, true),
        (open, false, KeysAre::NotAskedFor, false),
    ] {
        let config = Config {
            allow_unauthenticated,
            ..Config::default()
        };
        let checked = config.check_listen(listen.parse().unwrap(), keys);
        assert_eq!(checked.is_ok(), is_served, "{listen} {keys:?}");
    }
}

#[test]
fn each_bad_value_is_refused_by_its_key() {
    assert_eq!(
        refused_key(|c| c.drain_grace = Duration::from_secs(3601)),
        "drain_grace"
    );
    assert_eq!(
        refused_key(|c| c.tenant.wait = Duration::from_secs(301)),
        "tenant.wait"
    );
    assert_eq!(
        refused_key(|c| c.log.filter = "pagebox=loud".into()),
        "log.filter"
    );
    assert_eq!(
        refused_key(|c| c.limits.message = Bytes::kib(1)),
        "limits.message"
    );
    assert_eq!(refused_key(|c| c.limits.stdout = Bytes(0)), "limits.stdout");
    assert_eq!(
        refused_key(|c| c.limits.stderr = Bytes::mib(64)),
        "limits.stderr"
    );
    assert_eq!(
        refused_key(|c| c.limits.result = Bytes::gib(1)),
        "limits.result"
    );
    assert_eq!(
        refused_key(|c| c.limits.connections = 0),
        "limits.connections"
    );
    assert_eq!(
        refused_key(|c| c.session.max_sessions = 0),
        "session.max_sessions"
    );
    assert_eq!(
        refused_key(|c| c.egress.max_bytes = Bytes(0)),
        "egress.max_bytes"
    );
    for connections in [0, 4097] {
        assert_eq!(
            refused_key(|c| c.egress.connections = connections),
            "egress.connections"
        );
    }
    assert_eq!(refused_key(|c| c.egress.log = 4097), "egress.log");
    assert_eq!(refused_key(|c| c.sandbox.uid_base = 0), "sandbox.uid_base");
    assert_eq!(
        refused_key(|c| c.sandbox.uid_count = u32::MAX),
        "sandbox.uid_count"
    );
    assert_eq!(
        refused_key(|c| c.sandbox.uid_count = 1),
        "sandbox.uid_count"
    );
    assert_eq!(
        refused_key(|c| c.sandbox.daemon_uid = 0),
        "sandbox.daemon_uid"
    );
    assert_eq!(
        refused_key(|c| c.sandbox.daemon_uid = c.sandbox.uid_base + 1),
        "sandbox.daemon_uid"
    );
}
