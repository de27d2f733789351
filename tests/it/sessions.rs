//! Sessions through the API: options, idempotency, listing, watching, stopping.

use std::collections::HashMap;
use std::time::Duration;

use pagebox::grpc::v1::watch_session_response::Event;
use pagebox::grpc::v1::{
    CreateSessionRequest, EndReason, Language, ListSessionsRequest, SessionOptions, SessionState,
    Viewport, WatchSessionRequest,
};
use tokio_stream::StreamExt;

use crate::client::{OpenSession, fields, seconds};
use crate::shared::{blank, client, open, site};

#[tokio::test]
async fn a_session_is_what_was_asked_for() {
    let client = client();
    let labels = HashMap::from([("team".to_owned(), "harbour".to_owned())]);
    let session = client
        .create(SessionOptions {
            ttl: seconds(120),
            idle_ttl: seconds(60),
            start_url: site().url("/headers"),
            viewport: Some(Viewport {
                width: 800,
                height: 600,
            }),
            user_agent: "Petrel/1.0".to_owned(),
            network: None,
            labels: labels.clone(),
            ..SessionOptions::default()
        })
        .await
        .unwrap();
    assert_eq!(session.state(), SessionState::Ready);
    assert_eq!(session.end_reason(), EndReason::Unspecified);
    assert_eq!(session.labels, labels);
    assert_eq!((session.ttl, session.idle_ttl), (seconds(120), seconds(60)));
    assert_eq!(session.url, site().url("/headers"));
    assert!(session.isolation.is_some());
    let (created, expires) = (
        session.create_time.unwrap().seconds,
        session.expire_time.unwrap().seconds,
    );
    assert_eq!(expires - created, 120);

    let session = OpenSession::new(client, session.id);
    let code = "JSON.stringify([await page.evaluate(() => [innerWidth, innerHeight, navigator.userAgent]), \
                JSON.parse(await page.textContent('body'))['user-agent']])";
    assert_eq!(
        session.node(code).await,
        r#"[[800,600,"Petrel/1.0"],"Petrel/1.0"]"#
    );
    session.stop().await;
}

#[tokio::test]
async fn defaults_are_the_documented_ones() {
    let session = blank().await;
    let now = session.now().await;
    assert_eq!((now.ttl, now.idle_ttl), (seconds(600), seconds(300)));
    assert_eq!(now.url, "about:blank");
    let size = session
        .node("JSON.stringify(await page.evaluate(() => [innerWidth, innerHeight]))")
        .await;
    assert_eq!(size, "[1280,720]");
    session.stop().await;
}

#[tokio::test]
async fn stop_is_idempotent_and_says_how_long_it_lived() {
    let session = open("/").await;
    let first = session.stop().await;
    let second = session.stop().await;
    assert_eq!(first, second);
    let ended = first.session.unwrap();
    assert_eq!(ended.state(), SessionState::Stopped);
    assert_eq!(ended.end_reason(), EndReason::Stopped);
    assert!(ended.end_time.is_some());
    assert!(first.duration.is_some());
    assert_eq!(session.now().await, ended);
}

#[tokio::test]
async fn the_same_idempotency_key_gives_the_same_session() {
    let client = client();
    let request = |ttl| CreateSessionRequest {
        options: Some(SessionOptions {
            ttl: seconds(ttl),
            ..SessionOptions::default()
        }),
        idempotency_key: "one-harbour".to_owned(),
    };
    let (mut one, mut two) = (client.sessions(), client.sessions());
    let (first, second) = tokio::join!(
        one.create_session(request(100)),
        two.create_session(request(100))
    );
    let id = |reply: Result<tonic::Response<pagebox::grpc::v1::CreateSessionResponse>, _>| {
        let reply: tonic::Response<_> = reply.map_err(|s: tonic::Status| s).unwrap();
        reply.into_inner().session.unwrap().id
    };
    let first = id(first);
    assert_eq!(first, id(second));

    let other = client.sessions().create_session(request(101)).await;
    let status = other.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(
        fields(&status)[0].ends_with("idempotency_key"),
        "{status:?}"
    );
    client.stop(&first).await.unwrap();
}

#[tokio::test]
async fn a_start_url_that_does_not_load_is_told_not_fatal() {
    let client = client();
    // Port 9 (discard) is not listened on.
    let options = SessionOptions {
        start_url: "http://localhost:9/".to_owned(),
        ..SessionOptions::default()
    };
    let session = client.create(options).await.unwrap();
    assert_eq!(session.state(), SessionState::Ready);
    assert_ne!(session.start_error, "");
    client.stop(&session.id).await.unwrap();
}

#[tokio::test]
async fn lists_go_newest_first_by_page_and_by_state() {
    let client = client();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(blank().await.id);
    }
    client.stop(&ids[1]).await.unwrap();

    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListSessionsRequest {
            states: Vec::new(),
            page_size: 2,
            page_token,
        };
        let reply = client.sessions().list_sessions(request).await.unwrap();
        let reply = reply.into_inner();
        assert!(reply.sessions.len() <= 2);
        seen.extend(reply.sessions.into_iter().map(|session| session.id));
        page_token = reply.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let mut sorted = seen.clone();
    sorted.sort_by(|a, b| b.cmp(a));
    sorted.dedup();
    assert_eq!(seen, sorted, "newest first, each once");
    assert!(ids.iter().all(|id| seen.contains(id)));

    let request = ListSessionsRequest {
        states: vec![SessionState::Stopped.into()],
        page_size: 1000,
        page_token: String::new(),
    };
    let stopped = client.sessions().list_sessions(request).await.unwrap();
    let stopped = stopped.into_inner().sessions;
    assert!(stopped.iter().all(|s| s.state() == SessionState::Stopped));
    let is_listed = |id: &String| stopped.iter().any(|session| session.id == *id);
    assert_eq!(
        [is_listed(&ids[0]), is_listed(&ids[1]), is_listed(&ids[2])],
        [false, true, false]
    );
    client.stop(&ids[0]).await.unwrap();
    client.stop(&ids[2]).await.unwrap();
}

#[tokio::test]
async fn watching_shows_states_and_pages() {
    let session = open("/").await;
    let request = WatchSessionRequest {
        session_id: session.id.clone(),
    };
    let mut sessions = session.client().sessions();
    let mut events = sessions.watch_session(request).await.unwrap().into_inner();
    let next = async |events: &mut tonic::Streaming<_>| {
        let event = tokio::time::timeout(Duration::from_secs(30), events.next()).await;
        event.expect("an event in time").map(|event| {
            let event: pagebox::grpc::v1::WatchSessionResponse = event.unwrap();
            event.event.unwrap()
        })
    };
    match next(&mut events).await {
        Some(Event::Session(now)) => assert_eq!(now.state(), SessionState::Ready),
        other => panic!("the first event is the state now, not {other:?}"),
    }

    session
        .good(
            Language::Node,
            "const other = await context.newPage(); await other.goto(page.url() + 'about.html');",
        )
        .await;
    let about = site().url("/about.html");
    let (mut opened, mut changed) = (false, false);
    while !(opened && changed) {
        match next(&mut events).await {
            Some(Event::PageOpened(_)) => opened = true,
            Some(Event::PageChanged(page)) => changed |= page.url == about,
            Some(_) => {}
            None => panic!("the stream ended early"),
        }
    }

    session.stop().await;
    let mut last = None;
    while let Some(event) = next(&mut events).await {
        if let Event::Session(session) = event {
            last = Some(session.state());
        }
    }
    assert_eq!(last, Some(SessionState::Stopped));
}

#[tokio::test]
async fn a_session_counts_its_executions() {
    let session = blank().await;
    session.node("1").await;
    session.python("2").await;
    let now = session.now().await;
    assert_eq!((now.running_executions, now.total_executions), (0, 2));
    session.stop().await;
}
