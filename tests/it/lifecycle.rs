//! How sessions and daemons end: by time, by one-shot, by drain, by SIGKILL.

use std::time::Duration;

use pagebox::grpc::v1::execution_options::Place;
use pagebox::grpc::v1::{
    EndReason, ExecutionOptions, Language, ListSessionsRequest, Outcome, SessionOptions,
    SessionState,
};

use crate::client::{Client, seconds};
use crate::daemon::Daemon;
use crate::leaks::{cgroups, descendants, eventually};
use crate::shared::{binary, blank, client, site};

async fn ends(client: &Client, id: &str, limit: Duration) -> pagebox::grpc::v1::Session {
    eventually(limit, async || {
        let now = client.get(id).await.unwrap();
        let state = now.state();
        matches!(state, SessionState::Stopped | SessionState::Failed)
            .then_some(())
            .ok_or(format!("{state:?}"))
    })
    .await;
    client.get(id).await.unwrap()
}

#[tokio::test]
async fn an_idle_session_ends_and_a_busy_one_does_not() {
    let client = client();
    let options = SessionOptions {
        idle_ttl: seconds(10),
        ..SessionOptions::default()
    };
    let idle = client.create(options.clone()).await.unwrap();
    let busy = client.create(options).await.unwrap();
    let running = ExecutionOptions {
        place: Some(Place::SessionId(busy.id.clone())),
        code: "await new Promise((r) => setTimeout(r, 14000)); 'not idle'".to_owned(),
        ..ExecutionOptions::default()
    };
    let reply = client.execute(running).await.unwrap();
    assert_eq!(reply.result.as_deref(), Some("not idle"));
    assert_eq!(
        client.get(&busy.id).await.unwrap().state(),
        SessionState::Ready
    );
    let ended = ends(&client, &idle.id, Duration::from_secs(20)).await;
    assert_eq!(
        (ended.state(), ended.end_reason()),
        (SessionState::Stopped, EndReason::IdleExpired)
    );
    client.stop(&busy.id).await.unwrap();
}

#[tokio::test]
async fn the_total_life_ends_a_session_that_is_in_use() {
    let client = client();
    let options = SessionOptions {
        ttl: seconds(30),
        ..SessionOptions::default()
    };
    let session = client.create(options).await.unwrap();
    let running = ExecutionOptions {
        place: Some(Place::SessionId(session.id.clone())),
        code: "await new Promise(() => setInterval(() => {}, 100))".to_owned(),
        timeout: seconds(100),
        ..ExecutionOptions::default()
    };
    let reply = client.execute(running).await.unwrap();
    assert_eq!(reply.outcome(), Outcome::Cancelled);
    let ended = ends(&client, &session.id, Duration::from_secs(20)).await;
    assert_eq!(ended.end_reason(), EndReason::TtlExpired);
}

#[tokio::test]
async fn a_one_shot_session_is_gone_afterwards() {
    let client = client();
    let options = ExecutionOptions {
        place: Some(Place::OneShot(SessionOptions {
            start_url: site().url("/article.html"),
            ..SessionOptions::default()
        })),
        language: Language::Python.into(),
        code: "await page.title()".to_owned(),
        ..ExecutionOptions::default()
    };
    let reply = client.execute(options).await.unwrap();
    assert_eq!(reply.result.as_deref(), Some("How a tide table is made"));
    assert_eq!(reply.url, site().url("/article.html"));
    let ended = ends(&client, &reply.session_id, Duration::from_secs(10)).await;
    assert_eq!(
        (ended.state(), ended.end_reason()),
        (SessionState::Stopped, EndReason::OneShotDone)
    );
}

#[tokio::test]
async fn sigterm_drains_and_leaves_nothing() {
    let mut daemon = Daemon::start(binary(), "drain_grace = \"2s\"\n");
    let client = Client::new(&daemon.url());
    let session = client.open("about:blank").await;
    let running = {
        let session = session.clone();
        tokio::spawn(async move { session.exec(Language::Node, "while (true) {}").await })
    };
    eventually(Duration::from_secs(30), async || {
        let count = session.now().await.running_executions;
        (count == 1).then_some(()).ok_or(format!("{count} running"))
    })
    .await;
    let held = descendants(daemon.pid());
    let groups = cgroups(&held);
    daemon.signal("TERM");
    let reply = running.await.unwrap();
    assert_eq!(reply.outcome(), Outcome::Cancelled, "its grace was over");
    assert!(daemon.wait(Duration::from_secs(20)).success());
    let alive: Vec<_> = held.iter().filter(|process| process.is_alive()).collect();
    assert!(alive.is_empty(), "{alive:?}");
    let left: Vec<_> = groups.iter().filter(|path| path.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
    let files = std::fs::read_dir(daemon.temporary()).unwrap().count();
    assert_eq!(files, 0, "temporary files");
}

#[tokio::test]
async fn a_killed_daemon_leaves_no_process_after_a_second() {
    let mut daemon = Daemon::start(binary(), "");
    let client = Client::new(&daemon.url());
    let session = client.open(&site().url("/")).await;
    session.python("await page.title()").await;
    session
        .bash("setsid sleep 31539603 >/dev/null 2>&1 & agent-browser get title")
        .await;
    let held = descendants(daemon.pid());
    let groups = cgroups(&held);
    assert!(held.len() > 5, "{held:?}");
    daemon.signal("KILL");
    daemon.wait(Duration::from_secs(5));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let alive: Vec<_> = held.iter().filter(|process| process.is_alive()).collect();
    assert!(alive.is_empty(), "a second later: {alive:?}");

    // What only a living daemon can remove is gone after the next start at the latest.
    let _next = Daemon::start(binary(), "");
    eventually(Duration::from_secs(10), async || {
        let left: Vec<_> = groups.iter().filter(|path| path.exists()).collect();
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    })
    .await;
}

#[tokio::test]
async fn ended_sessions_are_remembered_up_to_a_bound() {
    let daemon = Daemon::start(binary(), "[session]\nremembered = 2\n");
    let client = Client::new(&daemon.url());
    let mut ids = Vec::new();
    for _ in 0..3 {
        let session = client.open("about:blank").await;
        session.stop().await;
        ids.push(session.id);
    }
    // The store still knows that there was one.
    assert_eq!(
        client.get(&ids[0]).await.unwrap_err().code(),
        tonic::Code::FailedPrecondition
    );
    assert!(client.get(&ids[2]).await.is_ok());
    let request = ListSessionsRequest::default();
    let list = client.sessions().list_sessions(request).await.unwrap();
    assert_eq!(list.into_inner().sessions.len(), 2);
}

#[tokio::test]
async fn health_and_reflection_answer() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;

    let session = blank().await;
    let channel = session.client().channel();
    for service in [
        "",
        "pagebox.v1.SessionService",
        "pagebox.v1.ExecutionService",
        "pagebox.v1.DaemonService",
        "pagebox.v1.ProfileService",
    ] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let reply = HealthClient::new(channel.clone()).check(request).await;
        assert_eq!(
            reply.unwrap().into_inner().status(),
            ServingStatus::Serving,
            "{service:?}"
        );
    }
    assert_eq!(reflection::v1(channel.clone()).await, reflection::EXPECTED);
    assert_eq!(reflection::v1alpha(channel).await, reflection::EXPECTED);
    session.stop().await;
}

mod reflection {
    //! Lists the services by both versions of the reflection protocol.

    use tokio_stream::StreamExt;
    use tonic::transport::Channel;

    pub(super) const EXPECTED: [&str; 5] = [
        "pagebox.v1.DaemonService",
        "pagebox.v1.ExecutionService",
        "pagebox.v1.LiveService",
        "pagebox.v1.ProfileService",
        "pagebox.v1.SessionService",
    ];

    macro_rules! list {
        ($name:ident, $version:ident) => {
            pub(super) async fn $name(channel: Channel) -> Vec<String> {
                use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
                use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
                use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
                use tonic_reflection::pb::$version::ServerReflectionRequest;

                let request = ServerReflectionRequest {
                    host: String::new(),
                    message_request: Some(MessageRequest::ListServices(String::new())),
                };
                let mut client = ServerReflectionClient::new(channel);
                let stream = client
                    .server_reflection_info(tokio_stream::once(request))
                    .await;
                let reply = stream.unwrap().into_inner().next().await;
                let Some(MessageResponse::ListServicesResponse(list)) =
                    reply.expect("a reply").unwrap().message_response
                else {
                    panic!("not a list of services");
                };
                let mut names: Vec<String> = list.service.into_iter().map(|s| s.name).collect();
                names.retain(|name| name.starts_with("pagebox."));
                names.sort();
                names
            }
        };
    }
    list!(v1, v1);
    list!(v1alpha, v1alpha);
}
