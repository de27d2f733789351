//! The live view by gRPC, and its page in a browser; its socket is in `http`.

mod page;

use std::time::Duration;

use pagebox::grpc::v1::live_service_client::LiveServiceClient;
use pagebox::grpc::v1::watch_session_response::Event;
use pagebox::grpc::v1::{
    FramesRequest, FramesResponse, GetLiveViewRequest, Language, OnHumanControl,
    ReleaseControlRequest, RenewLiveViewRequest, TakeControlRequest, WatchSessionRequest,
};
use tokio_stream::StreamExt as _;
use tonic::{Code, Streaming};

use crate::client::reason;
use crate::shared::{binary, blank, open};

async fn next(frames: &mut Streaming<FramesResponse>) -> Option<FramesResponse> {
    let next = tokio::time::timeout(Duration::from_secs(20), frames.next()).await;
    next.expect("a picture in time").map(|frame| frame.unwrap())
}

#[tokio::test]
async fn pictures_come_as_the_page_changes_until_the_session_ends() {
    let session = open("/").await;
    let mut live = LiveServiceClient::new(session.client().channel());
    let request = |edge| FramesRequest {
        session_id: session.id.clone(),
        edge,
    };
    let refused = live.frames(request(1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let mut frames = live.frames(request(320)).await.unwrap().into_inner();
    // Of a page that stands still.
    let first = next(&mut frames).await.expect("a picture");
    assert!(first.image.starts_with(&[0xff, 0xd8]));
    let shown = first.viewport.unwrap();
    assert_eq!((shown.width, shown.height), (1280, 720));
    let move_on = "await page.evaluate(() => { document.body.style.background = 'red' })";
    session.good(Language::Node, move_on).await;
    let second = next(&mut frames).await.expect("another picture");
    assert!(second.number > first.number);
    session.stop().await;
    while next(&mut frames).await.is_some() {}
}

#[tokio::test]
async fn links_are_secrets_that_can_be_withdrawn() {
    let session = blank().await;
    let mut live = LiveServiceClient::new(session.client().channel());
    let session_id = session.id.clone();
    let request = GetLiveViewRequest {
        session_id: session_id.clone(),
    };
    let told = live.get_live_view(request).await.unwrap().into_inner();
    let before = told.live_view.unwrap();
    let start = format!("/live/{session_id}#");
    assert!(before.view_path.starts_with(&start) && before.control_path.starts_with(&start));
    assert!(!format!("{before:?}").contains(&session_id));
    let request = RenewLiveViewRequest { session_id };
    let told = live.renew_live_view(request).await.unwrap().into_inner();
    let after = told.live_view.unwrap();
    assert_ne!(before.view_path, after.view_path);
    assert_ne!(after.view_path, after.control_path);
    session.stop().await;
}

#[tokio::test]
async fn control_is_taken_told_of_and_given_back() {
    let session = blank().await;
    let session_id = session.id.clone();
    let mut sessions = session.client().sessions();
    let request = WatchSessionRequest {
        session_id: session_id.clone(),
    };
    let mut events = sessions.watch_session(request).await.unwrap().into_inner();
    let mut told = async || loop {
        let event = tokio::time::timeout(Duration::from_secs(20), events.next()).await;
        let event = event.expect("an event in time").unwrap().unwrap().event;
        if let Some(Event::ControlChanged(changed)) = event {
            return changed.human;
        }
    };
    let request = TakeControlRequest {
        session_id: session_id.clone(),
    };
    let taken = sessions.take_control(request).await.unwrap().into_inner();
    assert!(taken.session.unwrap().human_control);
    assert!(told().await);
    let mut options = session.options(Language::Node, "1");
    options.on_human_control = OnHumanControl::Fail.into();
    let refused = session.client().execute(options).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(reason(&refused), "HUMAN_IN_CONTROL");
    let request = ReleaseControlRequest { session_id };
    let given = sessions
        .release_control(request)
        .await
        .unwrap()
        .into_inner();
    assert!(!given.session.unwrap().human_control);
    assert!(!told().await);
    session.good(Language::Node, "1").await;
    session.stop().await;
}

#[tokio::test]
async fn the_command_line_prints_the_links() {
    let session = blank().await;
    let server = crate::shared::daemon().url();
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(binary())
            .args(["session", "--server", &server, "live", &session.id])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text, output.stderr)
    };
    let start = format!("{server}/live/{}#", session.id);
    let (status, before, _) = run(&[]);
    let lines: Vec<&str> = before.lines().collect();
    assert_eq!((status, lines.len()), (Some(0), 2));
    assert!(
        lines.iter().all(|line| line.starts_with(&start)),
        "{before}"
    );
    let (_, after, _) = run(&["--renew"]);
    assert!(after.starts_with(&start) && after != before);
    session.stop().await;
    let (status, _, why) = run(&[]);
    let why = String::from_utf8(why).unwrap();
    assert!(
        status == Some(125) && why.contains("the session has ended"),
        "{why}"
    );
}
