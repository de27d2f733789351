//! Callers that stall, go away, or run out of time: what they started ends, nobody else waits.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;
use pagebox::grpc::v1::execute_stream_response::Event;
use pagebox::grpc::v1::execution_options::Place;
use pagebox::grpc::v1::watch_session_response::Event as SessionEvent;
use pagebox::grpc::v1::{
    CancelExecutionRequest, EndReason, ExecuteRequest, ExecuteStreamRequest, ExecutionOptions,
    Language, ListSessionsRequest, Session, SessionOptions, SessionState, WatchSessionRequest,
};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;

use crate::client::{Client, OpenSession, duration, environment, fields, reason};
use crate::leaks::eventually;
use crate::outcomes::runs;
use crate::shared::{blank, client, daemon, site};

/// A stream of an execution whose code has started.
async fn started(
    client: &Client,
    options: ExecutionOptions,
) -> tonic::Streaming<pagebox::grpc::v1::ExecuteStreamResponse> {
    let request = ExecuteStreamRequest {
        options: Some(options),
    };
    let reply = client.executions().execute_stream(request).await.unwrap();
    let mut stream = reply.into_inner();
    let first = stream.next().await.unwrap().unwrap();
    assert!(matches!(first.event, Some(Event::Started(_))), "{first:?}");
    stream
}

#[tokio::test]
async fn a_reader_that_stalls_holds_up_nobody() {
    let session = blank().await;
    let code = "for (;;) if (!process.stdout.write('x'.repeat(65536))) \
                await new Promise((r) => process.stdout.once('drain', r))";
    let mut options = session.options(Language::Node, code);
    options.timeout = Some(duration(Duration::from_secs(2)));
    // A connection of its own, whose window fills.
    let mut stream = started(&Client::new(&daemon().url()), options).await;

    let next = tokio::time::timeout(Duration::from_secs(40), session.node("'next'")).await;
    assert_eq!(next.expect("the context goes on"), "next");
    let stopped = tokio::time::timeout(Duration::from_secs(20), session.stop()).await;
    stopped.expect("the session ends");

    // One that reads again in time has lost nothing.
    let mut last = None;
    while let Some(event) = stream.next().await {
        last = event.unwrap().event;
    }
    let Some(Event::Finished(reply)) = last else {
        panic!("no report");
    };
    assert!(reply.killed);
}

async fn gone(argument: &str) {
    eventually(Duration::from_secs(10), async || {
        (!runs("sleep", argument))
            .then_some(())
            .ok_or("its process still runs".to_owned())
    })
    .await;
}

async fn there(argument: &str) {
    eventually(Duration::from_secs(30), async || {
        runs("sleep", argument)
            .then_some(())
            .ok_or("its process does not run".to_owned())
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_is_dropped_leaves_no_process() {
    let session = blank().await;
    let code = "setsid sleep 31539611 & sleep 31539611";
    let stream = started(session.client(), session.options(Language::Bash, code)).await;
    there("31539611").await;
    drop(stream);
    gone("31539611").await;
    session.stop().await;
}

#[tokio::test]
async fn a_one_shot_whose_caller_goes_away_ends() {
    let options = ExecutionOptions {
        place: Some(Place::OneShot(SessionOptions::default())),
        language: Language::Bash.into(),
        code: "sleep 31539612".to_owned(),
        ..ExecutionOptions::default()
    };
    let client = client();
    let request = ExecuteStreamRequest {
        options: Some(options),
    };
    let reply = client.executions().execute_stream(request).await.unwrap();
    let mut stream = reply.into_inner();
    let first = stream.next().await.unwrap().unwrap();
    let Some(Event::Started(start)) = first.event else {
        panic!("{first:?}");
    };
    there("31539612").await;
    drop(stream);
    gone("31539612").await;
    eventually(Duration::from_secs(10), async || {
        let now = client.get(&start.session_id).await.unwrap();
        let ended = (now.state(), now.end_reason());
        (ended == (SessionState::Stopped, EndReason::OneShotDone))
            .then_some(())
            .ok_or(format!("{ended:?}"))
    })
    .await;
}

#[tokio::test]
async fn what_waits_in_the_queue_for_nobody_never_runs() {
    let session = blank().await;
    let first = {
        let session = session.clone();
        let code = "await new Promise((r) => setTimeout(r, 3000)); 'first'";
        tokio::spawn(async move { session.node(code).await })
    };
    let waiting = async |count: u32| {
        eventually(Duration::from_secs(20), async || {
            let now = session.now().await.running_executions;
            (now == count).then_some(()).ok_or(format!("{now} there"))
        })
        .await;
    };
    waiting(1).await;
    let second = {
        let session = session.clone();
        let code = "require('fs').writeFileSync('/tmp/ran', '')";
        tokio::spawn(async move { session.node(code).await })
    };
    waiting(2).await;
    second.abort();
    assert_eq!(first.await.unwrap(), "first");
    assert_eq!(
        session.node("require('fs').existsSync('/tmp/ran')").await,
        "false"
    );
    session.stop().await;
}

/// Calls Execute with a deadline only the daemon looks at; its `grpc-status`.
async fn status_at_deadline(options: ExecutionOptions) -> String {
    let message = ExecuteRequest {
        options: Some(options),
    }
    .encode_to_vec();
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).unwrap());
    body.put_slice(&message);
    let http: Http<_, Full<Bytes>> = Http::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let request = hyper::Request::post(format!(
        "{}/pagebox.v1.ExecutionService/Execute",
        daemon().url()
    ))
    .header("content-type", "application/grpc")
    .header("te", "trailers")
    .header("grpc-timeout", "1500m")
    .body(Full::new(body.freeze()))
    .unwrap();
    let reply = http.request(request).await.unwrap();
    let (head, body) = reply.into_parts();
    let trailers = body.collect().await.unwrap();
    let trailers = trailers.trailers().cloned().unwrap_or_default();
    let status = head
        .headers
        .get("grpc-status")
        .or_else(|| trailers.get("grpc-status"));
    status.unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_daemon_ends_a_call_at_the_callers_deadline() {
    const DEADLINE_EXCEEDED: &str = "4";
    let session = blank().await;
    session.bash("true").await;
    let code = "sleep 31539613";
    let running = session.options(Language::Bash, code);
    assert_eq!(status_at_deadline(running).await, DEADLINE_EXCEEDED);
    gone("31539613").await;

    let first = {
        let session = session.clone();
        tokio::spawn(async move { session.bash("sleep 4; echo first").await })
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    let queued = session.options(Language::Bash, "touch /tmp/ran");
    assert_eq!(status_at_deadline(queued).await, DEADLINE_EXCEEDED);
    assert_eq!(first.await.unwrap(), "first");
    let code = "test -e /tmp/ran || echo never ran";
    assert_eq!(session.bash(code).await, "never ran");
    session.stop().await;
}

#[tokio::test]
async fn a_slow_watcher_is_told_what_it_missed() {
    let session: OpenSession = blank().await;
    let request = WatchSessionRequest {
        session_id: session.id.clone(),
    };
    let mut sessions = Client::new(&daemon().url()).sessions();
    let mut events = sessions.watch_session(request).await.unwrap().into_inner();
    // Chromium lets each page change its URL 200 times in a while.
    let code = format!(
        "const pages = [page];
         for (let n = 0; n < 11; n += 1) pages.push(await context.newPage());
         await Promise.all(pages.map(async (one) => {{
           await one.goto('{}');
           await one.evaluate(async () => {{
             for (let n = 0; n < 190; n += 1) {{
               history.pushState({{}}, '', '#' + n + 'x'.repeat(3000));
               await new Promise((r) => setTimeout(r, 5));
             }}
           }});
         }}));",
        site().url("/about.html")
    );
    session.good(Language::Node, &code).await;

    let next = async |events: &mut tonic::Streaming<_>| {
        let event = tokio::time::timeout(Duration::from_secs(10), events.next()).await;
        event.expect("an event in time").map(|event| {
            let event: pagebox::grpc::v1::WatchSessionResponse = event.unwrap();
            event.event.unwrap()
        })
    };
    // Told without another event to come along with it.
    let mut dropped = 0;
    while dropped == 0 {
        match next(&mut events).await {
            Some(SessionEvent::EventsDropped(missed)) => dropped = missed.count,
            Some(_) => {}
            None => panic!("the stream ended"),
        }
    }
    session.stop().await;
    let mut last = None;
    while let Some(event) = next(&mut events).await {
        last = Some(event);
    }
    let Some(SessionEvent::Session(last)) = last else {
        panic!("{last:?}");
    };
    assert_eq!(last.state(), SessionState::Stopped);
}

/// A page that never loads, so that the session on it does not get ready.
async fn endless_page() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    (listener, url)
}

async fn cancel(id: &str) -> Result<bool, tonic::Status> {
    let request = CancelExecutionRequest {
        execution_id: id.to_owned(),
    };
    let reply = client().executions().cancel_execution(request).await?;
    Ok(reply.into_inner().cancelled)
}

/// The only session with this label.
async fn labelled(label: &str) -> Session {
    let request = ListSessionsRequest {
        page_size: 1000,
        ..ListSessionsRequest::default()
    };
    let reply = client().sessions().list_sessions(request).await.unwrap();
    let mut sessions = reply.into_inner().sessions;
    sessions.retain(|session| session.labels.contains_key(label));
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    sessions.remove(0)
}

#[tokio::test]
async fn a_one_shot_is_cancelled_while_its_session_starts() {
    let (page, url) = endless_page().await;
    let label = "cancelled-at-its-start";
    let id = uuid::Uuid::new_v4().to_string();
    let options = ExecutionOptions {
        place: Some(Place::OneShot(SessionOptions {
            start_url: url,
            labels: environment(&[(label, "")]),
            ..SessionOptions::default()
        })),
        code: "1".to_owned(),
        execution_id: id.clone(),
        ..ExecutionOptions::default()
    };
    let execution = {
        let options = options.clone();
        tokio::spawn(async move { client().execute(options).await })
    };
    let (_loading, _) = page.accept().await.unwrap();
    assert_eq!(labelled(label).await.state(), SessionState::Starting);
    assert!(cancel(&id).await.unwrap());

    let status = execution.await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::Cancelled, "{status:?}");
    assert_eq!(reason(&status), "EXECUTION_CANCELLED");
    let session = labelled(label).await;
    let ended = (session.state(), session.end_reason());
    assert_eq!(ended, (SessionState::Stopped, EndReason::Abandoned));
    let detail = format!("execution {id} was cancelled before it started");
    assert_eq!(session.end_detail, detail);
    assert_eq!(session.total_executions, 0);

    assert!(!cancel(&id).await.unwrap(), "it had ended");
    let status = client().execute(options).await.unwrap_err();
    assert_eq!(fields(&status), ["options.execution_id"]);
}

#[tokio::test]
async fn what_waits_for_a_session_that_starts_is_cancelled() {
    let (page, url) = endless_page().await;
    let label = "goes-on-to-start";
    let options = SessionOptions {
        start_url: url,
        labels: environment(&[(label, "")]),
        ..SessionOptions::default()
    };
    let creation = tokio::spawn(async move { client().create(options).await });
    let (loading, _) = page.accept().await.unwrap();
    let session = OpenSession::new(client(), labelled(label).await.id);
    let id = uuid::Uuid::new_v4().to_string();
    let mut options = session.options(Language::Node, "1");
    options.execution_id = id.clone();
    let execution = tokio::spawn(async move { client().execute(options).await });
    // Until its call has come in.
    eventually(Duration::from_secs(20), async || {
        let cancelled = cancel(&id).await;
        cancelled.map(drop).map_err(|status| status.to_string())
    })
    .await;
    let status = execution.await.unwrap().unwrap_err();
    assert_eq!(reason(&status), "EXECUTION_CANCELLED");

    // The session is another's.
    drop((page, loading));
    creation.await.unwrap().unwrap();
    let now = session.now().await;
    assert_eq!(now.state(), SessionState::Ready);
    assert_eq!(now.total_executions, 0);
    session.stop().await;
}
