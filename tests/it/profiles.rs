//! Profiles through the API: what outlives a session, who may write it, and what is left when
//! something dies.

mod faults;
mod http;
mod moves;

use std::path::Path;
use std::time::Duration;

use pagebox::grpc::v1::profile_service_client::ProfileServiceClient;
use pagebox::grpc::v1::{
    EndReason, GetProfileRequest, ListProfilesRequest, Profile, ProfileOptions, SessionOptions,
};
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::client::{Client, OpenSession, reason, seconds};
use crate::daemon::Daemon;
use crate::leaks::eventually;
use crate::shared::{binary, client, site};

const BUSY: &str = "Another session is currently writing to this profile. Only one writer is \
                    allowed at a time. You can still access it with saveChanges: false, or try again later.";

fn profiles(client: &Client) -> ProfileServiceClient<Channel> {
    ProfileServiceClient::new(client.channel())
        .max_decoding_message_size(64 << 20)
        .max_encoding_message_size(64 << 20)
}

fn with(name: &str, save_changes: bool) -> SessionOptions {
    SessionOptions {
        profile: Some(ProfileOptions {
            name: name.to_owned(),
            save_changes: Some(save_changes),
        }),
        start_url: site().url("/member.html"),
        ..SessionOptions::default()
    }
}

/// What is left of a login, as the page sees it.
async fn state(session: &OpenSession) -> Value {
    let state = session
        .node("JSON.stringify(await page.evaluate(() => state()))")
        .await;
    serde_json::from_str(&state).unwrap()
}

fn state_of(who: &str) -> Value {
    let of = format!("of {who}");
    json!({
        "kept": who, "session": who, "local": of, "tab": of, "token": of, "since": 0, "workers": 1,
    })
}

fn nothing() -> Value {
    json!({
        "kept": null, "session": null, "local": null, "tab": null, "token": null, "since": null,
        "workers": 0,
    })
}

async fn login(session: &OpenSession, who: &str) {
    let code = format!("await page.evaluate(() => login('{who}')); 'done'");
    assert_eq!(session.node(&code).await, "done");
}

/// Logs in and saves that.
async fn saved(client: &Client, name: &str, who: &str) {
    let session = client.open_with(with(name, true)).await;
    login(&session, who).await;
    let stopped = session.stop().await.session.unwrap();
    let profile = stopped.profile.unwrap();
    assert_eq!(profile.save_error, "");
    assert!(profile.save_time.is_some());
}

/// What a session that does not save finds.
async fn found(client: &Client, name: &str) -> Value {
    let session = client.open_with(with(name, false)).await;
    let found = state(&session).await;
    let profile = session.stop().await.session.unwrap().profile.unwrap();
    assert_eq!((profile.save_changes, profile.save_time), (false, None));
    found
}

async fn get(client: &Client, name: &str) -> Result<Profile, Status> {
    let name = name.to_owned();
    let reply = profiles(client)
        .get_profile(GetProfileRequest { name })
        .await?;
    Ok(reply.into_inner().profile.unwrap())
}

fn daemon_in(data_dir: &Path, config: &str) -> Daemon {
    let place = [("PAGEBOX_DATA_DIR", data_dir.to_str().unwrap())];
    Daemon::start_in(binary(), config, &["--host-loopback", "*"], &place)
}

#[tokio::test]
async fn a_login_outlives_the_session_and_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    {
        let daemon = daemon_in(&data_dir, "");
        let client = Client::new(&daemon.url());
        assert_eq!(found(&client, "work").await, nothing());
        saved(&client, "work", "ada").await;
        assert_eq!(found(&client, "work").await, state_of("ada"));
        let profile = get(&client, "work").await.unwrap();
        assert_eq!(profile.cookies, [("localhost".to_owned(), 2)].into());
        assert!(profile.browser.contains('/') && profile.size_bytes > 1000);
        assert_eq!(profile.writer_session_id, "");
    }
    let daemon = daemon_in(&data_dir, "");
    let client = Client::new(&daemon.url());
    // Twice: what was put back over CDP is read from there again.
    for _ in 0..2 {
        let session = client.open_with(with("work", true)).await;
        assert_eq!(state(&session).await, state_of("ada"));
        session.stop().await;
    }
    assert_eq!(found(&client, "work").await, state_of("ada"));
    assert_eq!(found(&client, "other").await, nothing());
}

#[tokio::test]
async fn a_session_used_at_once_has_its_profile_and_one_stopped_at_once_keeps_it() {
    let client = client();
    saved(&client, "at once", "ada").await;
    let blank = |save_changes| SessionOptions {
        start_url: String::new(),
        ..with("at once", save_changes)
    };
    for _ in 0..3 {
        let opened = client.create(blank(true)).await.unwrap();
        assert_eq!((&*opened.url, &*opened.title), ("about:blank", ""));
        let session = OpenSession::new(client.clone(), opened.id);
        let stopped = session.stop().await.session.unwrap();
        assert_eq!(stopped.end_reason(), EndReason::Stopped);
        assert_eq!(stopped.profile.unwrap().save_error, "");
    }
    let session = client.open_with(blank(false)).await;
    let first = "[page.url(), context.pages().length, await page.evaluate(() => history.length)]";
    assert_eq!(
        session.node(&format!("({first}).join()")).await,
        "about:blank,1,1"
    );
    let visit = format!("await page.goto('{}'); 'there'", site().url("/member.html"));
    assert_eq!(session.node(&visit).await, "there");
    assert_eq!(state(&session).await, state_of("ada"));
    session.stop().await;
}

#[tokio::test]
async fn one_session_saves_and_any_number_reads() {
    let client = client();
    saved(&client, "shared", "ada").await;
    let writer = client.open_with(with("shared", true)).await;
    let refused = client.create(with("shared", true)).await.unwrap_err();
    assert_eq!(
        (refused.code(), &*reason(&refused), refused.message()),
        (Code::FailedPrecondition, "PROFILE_BUSY", BUSY)
    );
    let named = get(&client, "shared").await.unwrap().writer_session_id;
    assert_eq!(named, writer.now().await.id);
    // Readers see what was saved, whatever the writer does, and leave nothing.
    login(&writer, "bob").await;
    let reader = client.open_with(with("shared", false)).await;
    assert_eq!(state(&reader).await, state_of("ada"));
    login(&reader, "eve").await;
    reader.stop().await;
    assert_eq!(found(&client, "shared").await, state_of("ada"));
    writer.stop().await;
    assert_eq!(found(&client, "shared").await, state_of("bob"));
    // And it is free again.
    saved(&client, "shared", "cy").await;
}

#[tokio::test]
async fn what_a_session_leaves_when_it_expires_or_the_daemon_drains_is_saved() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    {
        let mut daemon = daemon_in(&data_dir, "");
        let client = Client::new(&daemon.url());
        let options = SessionOptions {
            idle_ttl: seconds(10),
            ..with("idle", true)
        };
        let idle = client.open_with(options).await;
        login(&idle, "ada").await;
        let drained = client.open_with(with("drained", true)).await;
        login(&drained, "bob").await;
        eventually(Duration::from_secs(30), async || {
            match idle.now().await.end_time {
                Some(_) => Ok(()),
                None => Err("it lives".to_owned()),
            }
        })
        .await;
        assert_eq!(found(&client, "idle").await, state_of("ada"));
        daemon.signal("TERM");
        daemon.wait(Duration::from_secs(30));
    }
    let daemon = daemon_in(&data_dir, "");
    let client = Client::new(&daemon.url());
    assert_eq!(found(&client, "drained").await, state_of("bob"));
}

#[tokio::test]
async fn a_hundred_saves_leave_one_object() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let daemon = daemon_in(&data_dir, "");
    let client = Client::new(&daemon.url());
    for round in 0..100 {
        let options = SessionOptions {
            start_url: String::new(),
            ..with("again", true)
        };
        let session = client.open_with(options).await;
        let stopped = session.stop().await.session.unwrap().profile.unwrap();
        assert_eq!(stopped.save_error, "", "{round}");
    }
    assert_eq!(faults::objects(&data_dir).len(), 1);
    let request = ListProfilesRequest {};
    let listed = profiles(&client).list_profiles(request).await.unwrap();
    let names: Vec<String> = listed
        .into_inner()
        .profiles
        .into_iter()
        .map(|p| p.name)
        .collect();
    assert_eq!(names, ["again"]);
}
