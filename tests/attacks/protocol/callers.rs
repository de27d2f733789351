//! Hostile callers: every text of the API.

use std::time::Duration;

use pagebox::grpc::v1::{
    CancelExecutionRequest, CreateSessionRequest, ExecuteRequest, GetSessionRequest, Language,
    ListSessionsRequest, NetworkOptions, Outcome, SessionOptions, StopSessionRequest,
};
use tonic::{Code, Status};

use crate::arena::Ground;
use crate::client::{describe, fields, reason, seconds};

pub(super) async fn code(ground: &Ground) {
    let session = ground.blank().await;
    for (language, code, result) in [
        (Language::Node, "\u{feff}6 * 7".to_owned(), "42"),
        (Language::Node, "const a = 6;\r\na * 7\r\n".to_owned(), "42"),
        (Language::Node, "const b = 6;\ra * 7".to_owned(), "42"),
        (Language::Node, "6 * 7 // \u{202e}\u{2066}".to_owned(), "42"),
        (Language::Node, format!("{}42", "1, ".repeat(33_000)), "42"),
        (Language::Node, "'a\0b'.length".to_owned(), "3"),
        (Language::Python, "\u{feff}6 * 7".to_owned(), "42"),
        (Language::Python, "a = 6\r\na * 7\r\n".to_owned(), "42"),
        (
            Language::Python,
            format!("({}1, 42)[-1]", "1, ".repeat(33_000)),
            "42",
        ),
    ] {
        let reply = session.exec(language, &code).await;
        let code: String = code.chars().take(40).collect();
        assert_eq!(
            reply.result.as_deref(),
            Some(result),
            "{code:?}\n{}",
            describe(&reply)
        );
    }
    for (language, code) in [
        (Language::Python, "'a\0b'".to_owned()),
        (Language::Python, "(".repeat(90_000)),
        (Language::Python, format!("x = {}1", "-".repeat(90_000))),
        (Language::Node, "(".repeat(90_000)),
        (
            Language::Node,
            format!("{}1", "-".repeat(90_000).replace("--", "- ")),
        ),
        (Language::Bash, "$(".repeat(40_000)),
    ] {
        let reply = session.exec(language, &code).await;
        let ended = [Outcome::Failed, Outcome::RunnerCrashed, Outcome::Completed];
        assert!(
            ended.contains(&reply.outcome()),
            "{language:?}\n{}",
            describe(&reply)
        );
        session.good(language, super::anything(language)).await;
    }
    let refused = async |language, code: String| {
        let options = session.options(language, &code);
        ground.client().execute(options).await.unwrap_err()
    };
    let status = refused(Language::Bash, "echo a\0b".to_owned()).await;
    assert_eq!(
        (status.code(), &*fields(&status)[0]),
        (Code::InvalidArgument, "options.code")
    );
    let status = refused(Language::Node, "x".repeat(100_001)).await;
    assert_eq!(
        (status.code(), &*fields(&status)[0]),
        (Code::InvalidArgument, "options.code")
    );
    for size in [(1 << 20) + 1, 50_000_000] {
        let status = refused(Language::Node, "x".repeat(size)).await;
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(reason(&status), "REQUEST_TOO_LARGE");
        assert!(
            status
                .message()
                .starts_with("the request is larger than 1 MiB"),
            "{status:?}"
        );
    }
    session.stop().await;
}

/// Texts no field wants.
const HOSTILE: [&str; 12] = [
    "../../../etc/passwd",
    "/etc/passwd",
    "a\r\nX-Forged: 1",
    "a\n2026-01-01T00:00:00Z ERROR forged",
    "\x1b[2J\x1b]0;owned\x07",
    "\u{202e}dlrow",
    "\0",
    "%2e%2e%2f",
    "' OR 1=1 --",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "00000000-0000-0000-0000-00000000000g",
];

fn bad_field(status: &Status, field: &str, text: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{text:?}: {status:?}");
    assert_eq!(fields(status), [field], "{text:?}");
    assert!(status.message().len() <= 1000);
}

pub(super) async fn words(ground: &Ground) {
    let client = ground.client();
    let session = ground.blank().await;
    let large = "x".repeat(900_000);
    let texts = HOSTILE.iter().copied().chain([&*large]);
    for text in texts {
        let id = text.to_owned();
        bad_field(&client.get(text).await.unwrap_err(), "session_id", text);
        bad_field(&client.stop(text).await.unwrap_err(), "session_id", text);
        let request = CancelExecutionRequest {
            execution_id: id.clone(),
        };
        let status = client
            .executions()
            .cancel_execution(request)
            .await
            .unwrap_err();
        bad_field(&status, "execution_id", text);
        let request = ListSessionsRequest {
            page_token: id.clone(),
            ..ListSessionsRequest::default()
        };
        let status = client.sessions().list_sessions(request).await.unwrap_err();
        bad_field(&status, "page_token", text);
        let mut options = session.options(Language::Node, "1");
        options.execution_id = id.clone();
        bad_field(
            &client.execute(options).await.unwrap_err(),
            "options.execution_id",
            text,
        );
        let mut options = session.options(Language::Node, "1");
        options.environment = [(id.clone(), "x".to_owned())].into();
        bad_field(
            &client.execute(options).await.unwrap_err(),
            "options.environment",
            text,
        );
        for (field, options) in [
            (
                "start_url",
                SessionOptions {
                    start_url: id.clone(),
                    ..SessionOptions::default()
                },
            ),
            (
                "network.deny[0]",
                SessionOptions {
                    network: Some(NetworkOptions {
                        deny: vec![format!(" {text}")],
                        ..NetworkOptions::default()
                    }),
                    ..SessionOptions::default()
                },
            ),
        ] {
            let status = client.create(options).await.unwrap_err();
            bad_field(&status, &format!("options.{field}"), text);
        }
    }
    // Texts that are free are kept as they are, and reach nothing else.
    for text in HOSTILE {
        let printable = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        let options = SessionOptions {
            labels: [("hostile".to_owned(), text.to_owned())].into(),
            user_agent: if printable {
                text.to_owned()
            } else {
                String::new()
            },
            ttl: seconds(60),
            ..SessionOptions::default()
        };
        let request = CreateSessionRequest {
            options: Some(options),
            idempotency_key: text.to_owned(),
        };
        let made = client
            .sessions()
            .create_session(request)
            .await
            .unwrap()
            .into_inner();
        let made = made.session.unwrap();
        assert_eq!(made.labels["hostile"], text);
        let mut options = session.options(Language::Node, "process.env.HOSTILE ?? 'none'");
        options.origin = text.to_owned();
        if !text.contains('\0') {
            options.environment = [("HOSTILE".to_owned(), text.to_owned())].into();
        }
        let reply = client.execute(options).await.unwrap();
        let expected = if text.contains('\0') { "none" } else { text };
        assert_eq!(reply.result.as_deref(), Some(expected), "{text:?}");
        client.stop(&made.id).await.unwrap();
    }
    let options = SessionOptions {
        user_agent: "a\r\nX: b".to_owned(),
        ..SessionOptions::default()
    };
    bad_field(
        &client.create(options).await.unwrap_err(),
        "options.user_agent",
        "CRLF",
    );
    // Ids that are well formed, and nobody's; the token of a page that never was.
    for id in [
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
    ] {
        let request = GetSessionRequest {
            session_id: id.to_owned(),
        };
        let status = client.sessions().get_session(request).await.unwrap_err();
        assert_eq!(
            (status.code(), &*reason(&status)),
            (Code::NotFound, "SESSION_UNKNOWN")
        );
        let request = StopSessionRequest {
            session_id: id.to_owned(),
        };
        let status = client.sessions().stop_session(request).await.unwrap_err();
        assert_eq!(reason(&status), "SESSION_UNKNOWN");
        let mut options = session.options(Language::Node, "1");
        options.place = Some(pagebox::grpc::v1::execution_options::Place::SessionId(
            id.to_owned(),
        ));
        let status = client.execute(options).await.unwrap_err();
        assert_eq!(reason(&status), "SESSION_UNKNOWN");
    }
    let log = ground.daemon().log();
    assert!(
        !log.lines()
            .any(|line| line.starts_with("2026-01-01T00:00:00Z")),
        "a forged line"
    );
    assert!(
        !log.contains("\x1b[2J") && !log.contains("X-Forged: 1\n"),
        "a raw escape"
    );
    session.stop().await;
}

pub(super) async fn abandoned(ground: &Ground) {
    let session = ground.blank().await;
    session.node("1").await;
    let client = ground.client();
    let long = {
        let session = session.clone();
        tokio::spawn(async move {
            let code = "const fs = require('fs'); while (!fs.existsSync('/tmp/go')) \
                        await new Promise((r) => setTimeout(r, 50)); 'went'";
            session
                .exec_within(Duration::from_secs(100), Language::Node, code)
                .await
        })
    };
    let waiting = async |count: u32| {
        let within = tokio::time::timeout(Duration::from_secs(30), async {
            while session.now().await.running_executions != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        within
            .await
            .unwrap_or_else(|_| panic!("not {count} waiting"));
    };
    waiting(1).await;
    // More than the queue has places: they would not fit if the dead ones stayed.
    for _ in 0..10 {
        let calls: Vec<_> = (0..10)
            .map(|_| {
                let session = session.clone();
                tokio::spawn(async move {
                    session
                        .exec(
                            Language::Node,
                            "require('fs').writeFileSync('/tmp/ran', '')",
                        )
                        .await
                })
            })
            .collect();
        waiting(11).await;
        calls.iter().for_each(tokio::task::JoinHandle::abort);
        waiting(1).await;
    }
    // By the id the caller gave it.
    let id = "7b1cbd26-6d0f-4a53-9a6f-2f5d0d4f3a11";
    let mut options = session.options(
        Language::Node,
        "require('fs').writeFileSync('/tmp/ran', '')",
    );
    options.execution_id = id.to_owned();
    let queued = {
        let (client, request) = (
            client.clone(),
            ExecuteRequest {
                options: Some(options.clone()),
            },
        );
        tokio::spawn(async move { client.executions().execute(request).await })
    };
    waiting(2).await;
    let cancel = || client.executions();
    let request = CancelExecutionRequest {
        execution_id: id.to_owned(),
    };
    assert!(
        cancel()
            .cancel_execution(request.clone())
            .await
            .unwrap()
            .into_inner()
            .cancelled
    );
    let status = queued.await.unwrap().unwrap_err();
    assert_eq!(
        (status.code(), &*reason(&status)),
        (Code::Cancelled, "EXECUTION_CANCELLED")
    );
    assert!(
        !cancel()
            .cancel_execution(request)
            .await
            .unwrap()
            .into_inner()
            .cancelled
    );
    waiting(1).await;
    bad_field(
        &client.execute(options).await.unwrap_err(),
        "options.execution_id",
        id,
    );
    session.bash("touch /tmp/go").await;
    assert_eq!(long.await.unwrap().result.as_deref(), Some("went"));
    assert_eq!(
        session.node("require('fs').existsSync('/tmp/ran')").await,
        "false"
    );
    session.stop().await;
}
