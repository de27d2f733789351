//! What `localhost` means: the session, the host, or nothing.

use super::*;

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
fn localhost_is_the_sessions_own_where_no_rule_sends_it_to_the_host() {
    let deny = ["*", "localhost", "127.0.0.0/8", "[::1]"];
    let policy = policy(&[], &deny, &["8080"])
        .protect(7370)
        .reserve(&[9222, 3128])
        .unwrap();
    for authority in [
        "localhost",
        "localhost:5173",
        "a.b.localhost:5173",
        "LOCALHOST.:5173",
        "127.0.0.1:5173",
        "127.1:5173",
        "[::1]:5173",
        "[0:0::1]:65535",
        // The daemon's own port of the host is nothing special inside.
        "localhost:7370",
    ] {
        assert_eq!(
            judge(&policy, authority, &[]),
            Ok(Route::OwnLoopback),
            "{authority}"
        );
    }
    assert_eq!(judge(&policy, "localhost:8080", &[]), refused("deny *"));
    for host in ["localhost", "a.localhost", "127.0.0.1", "[::1]", "0x7f.1"] {
        for port in [9222, 3128] {
            let verdict = judge(&policy, &format!("{host}:{port}"), &[]);
            assert_eq!(verdict, refused("protected-port"), "{host}:{port}");
        }
    }
    let open = super::policy(&[], &[], &[]).reserve(&[9222]).unwrap();
    for authority in ["127.0.0.2", "[::ffff:127.0.0.1]", "[::7f00:1]"] {
        assert!(judge(&open, authority, &[]).is_err(), "{authority}");
    }
    for name in ["notlocalhost", "localhost.test", "localtest.me"] {
        assert_eq!(
            judge(&open, name, &["127.0.0.1"]),
            refused("loopback 127.0.0.0/8"),
            "{name}"
        );
    }
    let wide = super::policy(&[], &[], &["*"]).reserve(&[9222]).unwrap();
    assert_eq!(
        judge(&wide, "localhost:9222", &[]),
        refused("protected-port")
    );
    assert_eq!(judge(&wide, "localhost:9223", &[]), Ok(Route::HostLoopback));
}

#[test]
fn an_entry_for_reserved_ports_only_is_a_mistake() {
    let reserve = |entries: &[&str]| {
        let policy = Policy::new(&config(&[], &[], entries)).unwrap();
        policy
            .reserve(&[9222, 9223])
            .map(drop)
            .map_err(|e| e.to_string())
    };
    for good in [&["9221"][..], &["9000-9999"], &["*"], &["9221-9222"]] {
        assert_eq!(reserve(good), Ok(()), "{good:?}");
    }
    for bad in ["9222", "9222-9223"] {
        assert_eq!(
            reserve(&["80", bad]),
            Err(format!(
                "egress.host_loopback: entry {bad:?}: names only ports that the daemon itself \
                 uses inside every session"
            ))
        );
    }
}

#[test]
fn few_host_ports_are_relayed_and_only_those_that_are_open() {
    const NONE: [u16; 0] = [];
    let relayed = |deny: &[&str], entries: &[&str]| {
        let policy = policy(&[], deny, entries).protect(7370);
        policy.reserve(&[9222]).unwrap().relayed_ports()
    };
    assert_eq!(relayed(&[], &[]), NONE);
    assert_eq!(relayed(&[], &["8080", "80", "8080-8081"]), [80, 8080, 8081]);
    assert_eq!(relayed(&[], &["7369-7371"]), [7369, 7371]);
    assert_eq!(relayed(&[], &["9221-9223"]), [9221, 9223]);
    assert_eq!(relayed(&["*:81"], &["80-82"]), [80, 82]);
    assert_eq!(relayed(&["127.0.0.1"], &["80-82"]), NONE);
    assert_eq!(relayed(&[], &["3000-3063"]).len(), 64);
    for too_many in [&["3000-3064"][..], &["80", "3000-3063"], &["80", "*"]] {
        assert_eq!(relayed(&[], too_many), NONE, "{too_many:?}");
    }
    assert_eq!(relayed(&[], &["65535", "1-65535"]), NONE);
}
