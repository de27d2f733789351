//! Profiles that go out and come in as Playwright's storage state; and the command line.

use std::process::Command;

use pagebox::grpc::v1::{DeleteProfileRequest, ExportProfileRequest, ImportProfileRequest};

use super::*;
use crate::client::fields;

async fn export(client: &Client, name: &str) -> Result<Value, Status> {
    let name = name.to_owned();
    let reply = profiles(client)
        .export_profile(ExportProfileRequest { name })
        .await?;
    Ok(serde_json::from_str(&reply.into_inner().storage_state).unwrap())
}

async fn import(client: &Client, name: &str, state: &Value) -> Result<Profile, Status> {
    let request = ImportProfileRequest {
        name: name.to_owned(),
        storage_state: match state {
            Value::String(text) => text.clone(),
            state => state.to_string(),
        },
    };
    let reply = profiles(client).import_profile(request).await?;
    Ok(reply.into_inner().profile.unwrap())
}

/// Playwright's form has no place for the rest.
fn moved(who: &str) -> Value {
    let mut state = state_of(who);
    state["tab"] = Value::Null;
    state["workers"] = json!(0);
    state
}

#[tokio::test]
async fn a_login_moves_to_another_daemon() {
    let client = client();
    let daemon = Daemon::start(binary(), "");
    let other = Client::new(&daemon.url());
    saved(&client, "to move", "ada").await;
    let state = export(&client, "to move").await.unwrap();
    let names: Vec<&Value> = state["cookies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cookie| &cookie["name"])
        .collect();
    assert_eq!(names.len(), 2, "{state}");
    let imported = import(&other, "moved", &state).await.unwrap();
    assert_eq!(imported.cookies, [("localhost".to_owned(), 2)].into());
    assert_eq!(found(&other, "moved").await, moved("ada"));
    // Again, and over what was there.
    saved(&other, "moved", "bob").await;
    import(&other, "moved", &state).await.unwrap();
    assert_eq!(found(&other, "moved").await, moved("ada"));
    assert_eq!(
        export(&other, "moved").await.unwrap()["origins"],
        state["origins"]
    );
}

#[tokio::test]
async fn what_cannot_be_moved_is_refused() {
    let client = client();
    let unknown = export(&client, "nobody's").await.unwrap_err();
    assert_eq!(
        (unknown.code(), &*reason(&unknown)),
        (Code::NotFound, "PROFILE_UNKNOWN")
    );
    for name in [String::new(), "n".repeat(129)] {
        let refused = get(&client, &name).await.unwrap_err();
        assert_eq!(fields(&refused), ["name"]);
    }
    for bad in ["", "[]", r#"{"origins":[{"origin":"file:///etc"}]}"#] {
        let refused = import(&client, "bad", &json!(bad)).await.unwrap_err();
        assert_eq!(fields(&refused), ["storage_state"], "{bad}");
    }
    // Playwright refuses it, and nothing is saved.
    let cookie = json!({
        "name": "a", "value": "b", "domain": "a.test", "path": "/", "expires": -7,
    });
    let state = json!({ "cookies": [cookie], "origins": [] });
    let refused = import(&client, "bad", &state).await.unwrap_err();
    assert!(refused.message().contains("ookie"), "{refused}");
    assert_eq!(
        reason(&get(&client, "bad").await.unwrap_err()),
        "PROFILE_UNKNOWN"
    );
    let writer = client.open_with(with("written", true)).await;
    let refused = import(&client, "written", &json!({})).await.unwrap_err();
    assert_eq!(reason(&refused), "PROFILE_BUSY");
    let request = DeleteProfileRequest {
        name: "written".to_owned(),
    };
    let refused = profiles(&client)
        .delete_profile(request.clone())
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "PROFILE_BUSY");
    writer.stop().await;
    for deleted in [true, false] {
        let reply = profiles(&client)
            .delete_profile(request.clone())
            .await
            .unwrap();
        assert_eq!(reply.into_inner().deleted, deleted);
    }
}

#[tokio::test]
async fn the_command_line_lists_shows_moves_and_deletes() {
    let daemon = Daemon::start(binary(), "");
    let client = Client::new(&daemon.url());
    saved(&client, "work", "ada").await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("work.json");
    let run = |arguments: &[&str]| {
        let output = Command::new(binary())
            .args(["profile", "--server", &daemon.url()])
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    let good = |arguments: &[&str]| {
        let (status, text) = run(arguments);
        assert_eq!(status, Some(0), "{arguments:?}: {text}");
        text
    };
    let file = file.to_str().unwrap();
    good(&["export", "work", "--output", file]);
    let again = run(&["export", "work", "--output", file]);
    assert!(
        again.0 == Some(125) && again.1.contains("exists"),
        "{again:?}"
    );
    good(&["import", "copy", file]);
    let listed = good(&["list"]);
    let names: Vec<&str> = listed
        .lines()
        .skip(1)
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(names, ["copy", "work"], "{listed}");
    let shown: Value = serde_json::from_str(&good(&["--json", "show", "work"])).unwrap();
    assert_eq!(shown["cookies"], json!({ "localhost": 2 }));
    assert_eq!(good(&["delete", "copy"]), "deleted\n");
    assert_eq!(good(&["delete", "copy"]), "there was none\n");
    let (status, text) = run(&["show", "copy"]);
    assert!(
        status == Some(125) && text.contains("no profile \"copy\""),
        "{text}"
    );
}
