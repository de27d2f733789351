//! Each field, good and bad.

use super::*;

const LIMITS: Limits = Limits {
    output: OutputLimits {
        stdout: Bytes::mib(10),
        stderr: Bytes::mib(10),
        result: Bytes::mib(32),
    },
    message: Bytes::mib(64),
    traffic: Bytes::gib(1),
};

fn request() -> v1::ExecutionOptions {
    v1::ExecutionOptions {
        place: Some(v1::execution_options::Place::SessionId(
            SessionId::generate().to_string(),
        )),
        code: "1".to_owned(),
        ..v1::ExecutionOptions::default()
    }
}

fn refused(change: impl FnOnce(&mut v1::ExecutionOptions)) -> String {
    let mut wire = request();
    change(&mut wire);
    execution(Some(wire), LIMITS).unwrap_err().field
}

fn wire_duration(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos })
}

#[test]
fn every_bad_field_of_an_execution_is_named() {
    assert_eq!(execution(None, LIMITS).unwrap_err().field, "options");
    assert_eq!(refused(|o| o.place = None), "options.session_id");
    assert_eq!(
        refused(|o| o.place = Some(v1::execution_options::Place::SessionId("tab-1".into()))),
        "options.session_id"
    );
    assert_eq!(
        refused(|o| {
            let options = v1::SessionOptions {
                ttl: wire_duration(-1, 0),
                ..v1::SessionOptions::default()
            };
            o.place = Some(v1::execution_options::Place::OneShot(options));
        }),
        "options.one_shot.ttl"
    );
    assert_eq!(refused(|o| o.language = 9), "options.language");
    assert_eq!(refused(|o| o.code.clear()), "options.code");
    assert_eq!(refused(|o| o.code = "x".repeat(100_001)), "options.code");
    for (seconds, nanos) in [
        (-1, 0),
        (0, -1),
        (1, 1_000_000_000),
        (i64::MAX, i32::MAX),
        (0, 0),
        (0, 999_999_999),
        (300, 1),
    ] {
        assert_eq!(
            refused(|o| o.timeout = wire_duration(seconds, nanos)),
            "options.timeout",
            "{seconds} {nanos}"
        );
    }
    assert_eq!(
        refused(|o| {
            o.environment.insert("PATH".into(), "/".into());
        }),
        "options.environment"
    );
    assert_eq!(refused(|o| o.origin = "x".repeat(129)), "options.origin");
    assert_eq!(
        refused(|o| o.execution_id = "../1".into()),
        "options.execution_id"
    );
    for (change, field) in [
        (
            (|l| l.stdout_bytes = u64::MAX) as fn(&mut v1::OutputLimits),
            "options.output_limits.stdout_bytes",
        ),
        (
            |l| l.stderr_bytes = (10 << 20) + 1,
            "options.output_limits.stderr_bytes",
        ),
        (
            |l| l.result_bytes = (32 << 20) + 1,
            "options.output_limits.result_bytes",
        ),
    ] {
        assert_eq!(
            refused(|o| change(o.output_limits.get_or_insert_default())),
            field
        );
    }
}

#[test]
fn what_is_not_said_has_its_default() {
    let (place, options) = execution(Some(request()), LIMITS).unwrap();
    assert!(matches!(place, Place::Session(_)));
    assert_eq!(options, ExecutionOptions::new(Language::Node, "1"));
}

#[test]
fn what_is_said_arrives() {
    let mut wire = request();
    wire.set_language(v1::Language::Bash);
    wire.timeout = wire_duration(1, 500_000_000);
    wire.fresh = true;
    wire.environment.insert("A".into(), "b".into());
    wire.output_limits = Some(v1::OutputLimits {
        stdout_bytes: 1,
        stderr_bytes: 2,
        result_bytes: 3,
    });
    wire.limits = Some(v1::ExecutionLimits {
        memory_bytes: 4,
        processes: 5,
        cpu_percent: 6,
        open_files: 7,
        file_size_bytes: 8,
    });
    wire.origin = "test".into();
    let (_, options) = execution(Some(wire), LIMITS).unwrap();
    let mut expected = ExecutionOptions::new(Language::Bash, "1");
    expected.timeout = Duration::from_millis(1500);
    expected.fresh = true;
    expected.environment.insert("A".into(), "b".into());
    expected.output_limits = OutputLimits {
        stdout: Bytes(1),
        stderr: Bytes(2),
        result: Bytes(3),
    };
    expected.limits = ExecutionLimits {
        memory: Bytes(4),
        processes: 5,
        cpu_percent: 6,
        open_files: 7,
        file_size: Bytes(8),
    };
    expected.origin = "test".into();
    assert_eq!(options, expected);
}

#[test]
fn session_durations_are_checked_under_their_prefix() {
    let bad = |change: fn(&mut v1::SessionOptions)| {
        let mut wire = v1::SessionOptions::default();
        change(&mut wire);
        session_options("options.", Some(wire), LIMITS)
            .unwrap_err()
            .field
    };
    assert_eq!(bad(|o| o.ttl = wire_duration(-5, 0)), "options.ttl");
    assert_eq!(
        bad(|o| o.idle_ttl = wire_duration(0, -5)),
        "options.idle_ttl"
    );
}

#[test]
fn network_options_are_named_by_their_path() {
    type Change = fn(&mut v1::NetworkOptions);
    let refused = |change: Change| {
        let mut network = v1::NetworkOptions::default();
        change(&mut network);
        let session = v1::SessionOptions {
            network: Some(network),
            ..v1::SessionOptions::default()
        };
        let error = session_options("options.", Some(session.clone()), LIMITS).unwrap_err();
        let mut wire = request();
        wire.place = Some(v1::execution_options::Place::OneShot(session));
        let one_shot = execution(Some(wire), LIMITS).unwrap_err();
        let path = error.field.strip_prefix("options.").unwrap();
        assert_eq!(one_shot.field, format!("options.one_shot.{path}"));
        assert_eq!(one_shot.message, error.message);
        (path.to_owned(), error.message)
    };
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let cases: [(Change, &str, &str); 9] = [
        (
            |n| n.allow = vec!["a.test".into(), "10.0.0.5/8".into()],
            "network.allow[1]",
            r#""10.0.0.5/8" has bits set beyond its prefix; write 10.0.0.0/8"#,
        ),
        (
            |n| n.deny = vec!["https://a.test".into()],
            "network.deny[0]",
            r#""https://a.test" is a URL, and a rule is a host without scheme or path; write a.test"#,
        ),
        (
            |n| n.allow = vec![String::new()],
            "network.allow[0]",
            "names no host",
        ),
        (
            |n| n.allow = vec!["224.0.0.1".into()],
            "network.allow[0]",
            "can never match: nothing opens multicast 224.0.0.0/4",
        ),
        (
            |n| {
                n.allow = vec!["x.a.test".into()];
                n.deny = vec!["*.a.test".into()];
            },
            "network.allow[0]",
            "can never match: deny[0] (*.a.test) refuses all of it",
        ),
        (
            |n| {
                n.offline = true;
                n.max_bytes = 1;
            },
            "network.offline",
            "refuses everything already: leave out max_bytes, or offline",
        ),
        (
            // What comes after one rule too many is not even read.
            |n| n.deny = [vec!["a.test".into(); MAX_RULES + 1], vec!["?".into()]].concat(),
            "network.deny",
            "has more than 256 rules",
        ),
        (
            |n| n.max_bytes = (1 << 30) + 1,
            "network.max_bytes",
            "is 1073741825, more than this daemon's limit of 1 GiB",
        ),
        (
            |n| n.proxy = Some(v1::Proxy::default()),
            "network.proxy.server",
            r#"is "", must be http://host:port or socks5://host:port"#,
        ),
    ];
    for (change, field, message) in cases {
        assert_eq!(refused(change), (field.to_owned(), message.to_owned()));
    }

    let said = v1::NetworkOptions {
        allow: texts(&["Example.COM", "10.0.0.0/8:8443"]),
        deny: texts(&["*:25"]),
        max_bytes: 7,
        ..v1::NetworkOptions::default()
    };
    let session = v1::SessionOptions {
        network: Some(said),
        ..v1::SessionOptions::default()
    };
    let rule = |text: &str| text.parse::<Rule>().unwrap();
    assert_eq!(
        session_options("options.", Some(session), LIMITS)
            .unwrap()
            .network,
        NetworkOptions {
            allow: vec![rule("example.com"), rule("10.0.0.0/8:8443")],
            deny: vec![rule("*:25")],
            max_bytes: Some(Bytes(7)),
            ..NetworkOptions::default()
        }
    );
}

#[test]
fn page_tokens_come_back_and_others_are_refused() {
    let id = SessionId::generate();
    assert_eq!(page_token(&next_page_token(Some(id))), Ok(Some(id)));
    assert_eq!(next_page_token(None), "");
    assert_eq!(page_token(""), Ok(None));
    for token in ["x", "????", &id.to_string(), "YWZ0ZXI6eA"] {
        assert_eq!(
            page_token(token).unwrap_err().field,
            "page_token",
            "{token}"
        );
    }
}

#[test]
fn page_sizes_keys_states_and_ids_are_checked() {
    assert_eq!(page_size(0), Ok(100));
    assert_eq!(page_size(1000), Ok(1000));
    assert_eq!(page_size(1001).unwrap_err().field, "page_size");
    assert_eq!(idempotency_key(String::new()), Ok(None));
    assert_eq!(idempotency_key("k".repeat(128)), Ok(Some("k".repeat(128))));
    assert_eq!(
        idempotency_key("k".repeat(129)).unwrap_err().field,
        "idempotency_key"
    );
    assert_eq!(
        states(&[1, 2, 3, 4, 5]).unwrap(),
        [
            State::Starting,
            State::Ready,
            State::Stopping,
            State::Stopped,
            State::Failed
        ]
    );
    for state in [0, 6, -1] {
        assert_eq!(states(&[state]).unwrap_err().field, "states");
    }
    assert_eq!(
        session_id("session_id", "").unwrap_err().message,
        "must be given"
    );
    assert_eq!(
        execution_id("execution_id", "7").unwrap_err().message,
        "is not a UUID"
    );
}
