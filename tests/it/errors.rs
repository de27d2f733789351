//! Every error of the API, by its gRPC code and its reason.

use std::collections::HashMap;
use std::time::Duration;

use pagebox::grpc::v1::execution_options::Place;
use pagebox::grpc::v1::{
    CancelExecutionRequest, CreateSessionRequest, ExecuteRequest, ExecuteStreamRequest,
    ExecutionOptions, Language, ListSessionsRequest, SessionOptions, Viewport, WatchSessionRequest,
};
use tonic::{Code, Status};

use crate::client::{Client, environment, fields, reason, seconds};
use crate::daemon::Daemon;
use crate::leaks::eventually;
use crate::shared::{binary, blank, client, open};

const UNKNOWN: &str = "01890000-0000-7000-8000-000000000000";

fn is(status: &Status, code: Code, why: &str) {
    assert_eq!((status.code(), &*reason(status)), (code, why), "{status:?}");
}

/// Refused for one field, before anything starts.
fn names(status: &Status, field: &str) {
    is(status, Code::InvalidArgument, "INVALID_FIELD");
    let named = fields(status);
    let last = |name: &String| name.rsplit('.').next() == Some(field);
    assert!(named.iter().any(last), "{field} in {named:?}");
}

#[tokio::test]
async fn every_session_option_is_checked() {
    let client = client();
    let options = SessionOptions::default;
    let labels = |key: &str, value: &str| HashMap::from([(key.to_owned(), value.to_owned())]);
    let viewport = |width, height| Some(Viewport { width, height });
    for (field, options) in [
        (
            "ttl",
            SessionOptions {
                ttl: seconds(29),
                ..options()
            },
        ),
        (
            "ttl",
            SessionOptions {
                ttl: seconds(3601),
                ..options()
            },
        ),
        (
            "ttl",
            SessionOptions {
                ttl: seconds(-5),
                ..options()
            },
        ),
        (
            "idle_ttl",
            SessionOptions {
                idle_ttl: seconds(9),
                ..options()
            },
        ),
        (
            "idle_ttl",
            SessionOptions {
                idle_ttl: seconds(3601),
                ..options()
            },
        ),
        (
            "start_url",
            SessionOptions {
                start_url: "file:///etc/passwd".to_owned(),
                ..options()
            },
        ),
        (
            "start_url",
            SessionOptions {
                start_url: "no url".to_owned(),
                ..options()
            },
        ),
        (
            "start_url",
            SessionOptions {
                start_url: "chrome://version".to_owned(),
                ..options()
            },
        ),
        (
            "viewport",
            SessionOptions {
                viewport: viewport(0, 600),
                ..options()
            },
        ),
        (
            "viewport",
            SessionOptions {
                viewport: viewport(800, 4321),
                ..options()
            },
        ),
        (
            "user_agent",
            SessionOptions {
                user_agent: "x".repeat(513),
                ..options()
            },
        ),
        (
            "user_agent",
            SessionOptions {
                user_agent: "a\r\nb: c".to_owned(),
                ..options()
            },
        ),
        (
            "labels",
            SessionOptions {
                labels: labels("", "x"),
                ..options()
            },
        ),
        (
            "labels",
            SessionOptions {
                labels: labels(&"k".repeat(64), "x"),
                ..options()
            },
        ),
        (
            "labels",
            SessionOptions {
                labels: labels("k", &"v".repeat(256)),
                ..options()
            },
        ),
    ] {
        let status = client.create(options.clone()).await.unwrap_err();
        let named = fields(&status);
        is(&status, Code::InvalidArgument, "INVALID_FIELD");
        assert!(
            named
                .iter()
                .any(|name| name.split('.').any(|part| part == field)),
            "{field} in {named:?} for {options:?}"
        );
    }
    let request = CreateSessionRequest {
        options: None,
        idempotency_key: "k".repeat(129),
    };
    let status = client.sessions().create_session(request).await.unwrap_err();
    names(&status, "idempotency_key");
}

#[tokio::test]
async fn every_execution_option_is_checked() {
    let session = blank().await;
    let valid = || session.options(Language::Node, "1");
    for (field, options) in [
        (
            "code",
            ExecutionOptions {
                code: String::new(),
                ..valid()
            },
        ),
        (
            "code",
            ExecutionOptions {
                code: "x".repeat(100_001),
                ..valid()
            },
        ),
        (
            "timeout",
            ExecutionOptions {
                timeout: seconds(0),
                ..valid()
            },
        ),
        (
            "timeout",
            ExecutionOptions {
                timeout: seconds(301),
                ..valid()
            },
        ),
        (
            "timeout",
            ExecutionOptions {
                timeout: seconds(-1),
                ..valid()
            },
        ),
        (
            "language",
            ExecutionOptions {
                language: 99,
                ..valid()
            },
        ),
        (
            "origin",
            ExecutionOptions {
                origin: "o".repeat(129),
                ..valid()
            },
        ),
        (
            "environment",
            ExecutionOptions {
                environment: environment(&[("PATH", "/")]),
                ..valid()
            },
        ),
        (
            "environment",
            ExecutionOptions {
                environment: environment(&[("LD_PRELOAD", "x")]),
                ..valid()
            },
        ),
        (
            "environment",
            ExecutionOptions {
                environment: environment(&[("1A", "x")]),
                ..valid()
            },
        ),
        (
            "session_id",
            ExecutionOptions {
                place: Some(Place::SessionId("nonsense".to_owned())),
                ..valid()
            },
        ),
        (
            "session_id",
            ExecutionOptions {
                place: None,
                ..valid()
            },
        ),
        (
            "ttl",
            ExecutionOptions {
                place: Some(Place::OneShot(SessionOptions {
                    ttl: seconds(1),
                    ..SessionOptions::default()
                })),
                ..valid()
            },
        ),
    ] {
        let status = session.client().execute(options.clone()).await.unwrap_err();
        names(&status, field);
        let request = ExecuteStreamRequest {
            options: Some(options),
        };
        let mut executions = session.client().executions();
        names(
            &executions.execute_stream(request).await.unwrap_err(),
            field,
        );
    }
    let none = ExecuteRequest { options: None };
    let status = session
        .client()
        .executions()
        .execute(none)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(
        session.now().await.total_executions,
        0,
        "nothing was started"
    );
    session.stop().await;
}

#[tokio::test]
async fn other_arguments_are_checked() {
    let client = client();
    names(&client.get("nonsense").await.unwrap_err(), "session_id");
    names(&client.stop("").await.unwrap_err(), "session_id");
    let request = CancelExecutionRequest {
        execution_id: "x".to_owned(),
    };
    let status = client
        .executions()
        .cancel_execution(request)
        .await
        .unwrap_err();
    names(&status, "execution_id");
    for (field, request) in [
        (
            "page_size",
            ListSessionsRequest {
                page_size: 1001,
                ..ListSessionsRequest::default()
            },
        ),
        (
            "page_token",
            ListSessionsRequest {
                page_token: "?".to_owned(),
                ..ListSessionsRequest::default()
            },
        ),
        (
            "states",
            ListSessionsRequest {
                states: vec![77],
                ..ListSessionsRequest::default()
            },
        ),
    ] {
        let status = client.sessions().list_sessions(request).await.unwrap_err();
        names(&status, field);
    }
}

#[tokio::test]
async fn unknown_ids_are_not_found() {
    let client = client();
    is(
        &client.get(UNKNOWN).await.unwrap_err(),
        Code::NotFound,
        "SESSION_UNKNOWN",
    );
    is(
        &client.stop(UNKNOWN).await.unwrap_err(),
        Code::NotFound,
        "SESSION_UNKNOWN",
    );
    let request = WatchSessionRequest {
        session_id: UNKNOWN.to_owned(),
    };
    let status = client.sessions().watch_session(request).await.unwrap_err();
    is(&status, Code::NotFound, "SESSION_UNKNOWN");
    let options = ExecutionOptions {
        place: Some(Place::SessionId(UNKNOWN.to_owned())),
        code: "1".to_owned(),
        ..ExecutionOptions::default()
    };
    let status = client.execute(options).await.unwrap_err();
    is(&status, Code::NotFound, "SESSION_UNKNOWN");
    let request = CancelExecutionRequest {
        execution_id: UNKNOWN.to_owned(),
    };
    let status = client
        .executions()
        .cancel_execution(request)
        .await
        .unwrap_err();
    is(&status, Code::NotFound, "EXECUTION_UNKNOWN");
}

#[tokio::test]
async fn an_ended_session_refuses_code_and_still_answers() {
    let session = blank().await;
    session.stop().await;
    let options = session.options(Language::Node, "1");
    let status = session.client().execute(options.clone()).await.unwrap_err();
    is(&status, Code::FailedPrecondition, "SESSION_ENDED");
    let request = ExecuteStreamRequest {
        options: Some(options),
    };
    let status = session
        .client()
        .executions()
        .execute_stream(request)
        .await
        .unwrap_err();
    is(&status, Code::FailedPrecondition, "SESSION_ENDED");
    assert_eq!(session.now().await.id, session.id);
}

#[tokio::test]
async fn the_session_limit_is_exact() {
    let daemon = Daemon::start(binary(), "[session]\nmax_sessions = 2\n");
    let client = Client::new(&daemon.url());
    let first = client.create(SessionOptions::default()).await.unwrap();
    client.create(SessionOptions::default()).await.unwrap();
    let status = client.create(SessionOptions::default()).await.unwrap_err();
    is(&status, Code::ResourceExhausted, "SESSION_LIMIT");
    let one_shot = ExecutionOptions {
        place: Some(Place::OneShot(SessionOptions::default())),
        code: "1".to_owned(),
        ..ExecutionOptions::default()
    };
    let status = client.execute(one_shot).await.unwrap_err();
    is(&status, Code::ResourceExhausted, "SESSION_LIMIT");
    client.stop(&first.id).await.unwrap();
    client.create(SessionOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_full_queue_refuses_and_the_queued_ones_still_run() {
    let daemon = Daemon::start(binary(), "[session]\nqueue_per_context = 2\n");
    let client = Client::new(&daemon.url());
    let session = client.open("about:blank").await;
    let code = "await new Promise((r) => setTimeout(r, 3000)); 'ran'";
    let start = || {
        let session = session.clone();
        tokio::spawn(async move { session.node(code).await })
    };
    let mut accepted = Vec::new();
    for expected in 1..=3 {
        accepted.push(start());
        eventually(Duration::from_secs(20), async || {
            let count = session.now().await.running_executions;
            (count == expected)
                .then_some(())
                .ok_or(format!("{count} there"))
        })
        .await;
    }
    let refused = client.execute(session.options(Language::Node, "1")).await;
    is(&refused.unwrap_err(), Code::ResourceExhausted, "QUEUE_FULL");
    assert_eq!(
        session.bash("echo other languages run").await,
        "other languages run"
    );
    for task in accepted {
        assert_eq!(task.await.unwrap(), "ran");
    }
    session.stop().await;
}

#[tokio::test]
async fn the_callers_own_deadline_is_the_callers() {
    let session = open("/").await;
    let mut request = tonic::Request::new(ExecuteRequest {
        options: Some(session.options(
            Language::Node,
            "await new Promise(() => setInterval(() => {}, 50))",
        )),
    });
    request.set_timeout(Duration::from_secs(2));
    let status = session
        .client()
        .executions()
        .execute(request)
        .await
        .unwrap_err();
    // tonic's client calls its own expired deadline CANCELLED.
    assert!(
        matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{status:?}"
    );
    eventually(Duration::from_secs(20), async || {
        let count = session.now().await.running_executions;
        (count == 0).then_some(()).ok_or(format!("{count} running"))
    })
    .await;
    assert_eq!(
        session.node("await page.title()").await,
        "Tidewater Almanac"
    );
    session.stop().await;
}

#[tokio::test]
async fn a_draining_daemon_is_unavailable() {
    let daemon = Daemon::start(binary(), "drain_grace = \"20s\"\n");
    let client = Client::new(&daemon.url());
    let session = client.open("about:blank").await;
    let running = {
        let session = session.clone();
        tokio::spawn(async move {
            session
                .node("await new Promise((r) => setTimeout(r, 4000)); 'in time'")
                .await
        })
    };
    eventually(Duration::from_secs(20), async || {
        let count = session.now().await.running_executions;
        (count == 1).then_some(()).ok_or(format!("{count} running"))
    })
    .await;
    daemon.signal("TERM");
    eventually(Duration::from_secs(3), async || {
        match client
            .execute(session.options(Language::Bash, "true"))
            .await
        {
            Err(status) if status.code() == Code::Unavailable => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let status = client.create(SessionOptions::default()).await.unwrap_err();
    is(&status, Code::Unavailable, "DRAINING");
    assert_eq!(running.await.unwrap(), "in time", "it had its grace period");
}

/// Also for who waits while what was built of it is taken down again.
#[tokio::test]
async fn a_browser_that_does_not_start_is_said_to_be_the_reason() {
    let daemon = Daemon::start(binary(), "[browser]\nprogram = \"/no/browser\"\n");
    let client = Client::new(&daemon.url());
    let status = client.create(SessionOptions::default()).await.unwrap_err();
    is(&status, Code::Internal, "BROWSER_FAILED");
    let one_shot = ExecutionOptions {
        place: Some(Place::OneShot(SessionOptions::default())),
        code: "1".to_owned(),
        ..ExecutionOptions::default()
    };
    let status = client.execute(one_shot).await.unwrap_err();
    is(&status, Code::Internal, "BROWSER_FAILED");
}
