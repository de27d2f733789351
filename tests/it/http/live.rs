//! The live view by its WebSocket, as the page speaks it.

mod ends;
mod pace;
mod pages;
mod viewer;

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;

use self::viewer::{Viewer, connect, token_of};
use super::{created, execute, http, path};
use crate::shared::site;

#[tokio::test]
async fn a_viewer_sees_a_still_page_and_may_not_act() {
    let http = http();
    let session = created(&http).await;
    let goto = format!("await page.goto('{}')", site().url("/"));
    execute(&http, &session, "node", &goto).await;
    let mut viewer = Viewer::come(&http, &session, token_of(&session, "liveViewUrl")).await;
    let welcome = viewer.hear().await.unwrap();
    assert_eq!(
        (&welcome["type"], &welcome["may"]),
        (&json!("welcome"), &json!("view"))
    );
    viewer.sees_more_than(0).await;
    let before = viewer.pictures.len();
    let title = |message: &Value| message["type"] == "state" && message["title"] == "About";
    let goto = format!("await page.goto('{}')", site().url("/about.html"));
    let set = "await page.evaluate(() => { document.title = 'About' })";
    execute(&http, &session, "node", &format!("{goto}; {set}")).await;
    let state = viewer.until(title).await;
    assert_eq!(state["control"]["holder"], "code");
    assert_eq!(state["tabs"][0]["active"], true);
    viewer.sees_more_than(before).await;
    viewer
        .say(&json!({ "type": "text", "text": "not mine to type" }))
        .await;
    let (code, why) = viewer.until_closed().await;
    assert_eq!(code, 1008, "{why}");
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn whoever_has_no_token_or_comes_from_elsewhere_is_refused() {
    let http = http();
    let session = created(&http).await;
    let other = created(&http).await;
    for token in ["", "x", token_of(&other, "liveViewUrl")] {
        let viewer = Viewer::come(&http, &session, token).await;
        assert_eq!(viewer.until_closed().await.0, 1008);
    }
    http.delete(&path(&other)).await.good();
    for origin in ["https://evil.example", "null"] {
        match connect(&http, &session, origin).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), 403),
            other => panic!("{origin}: {other:?}"),
        }
    }
    let viewer = Viewer::come(&http, &session, token_of(&session, "liveViewUrl")).await;
    let renewed = http
        .post(&format!("{}/live-view", path(&session)), &json!({}))
        .await
        .good();
    assert_eq!(viewer.until_closed().await.0, 1008);
    let mut viewer = Viewer::come(&http, &session, token_of(&renewed, "liveViewUrl")).await;
    assert_eq!(viewer.hear().await.unwrap()["type"], "welcome");
    http.delete(&path(&session)).await.good();
    let end = viewer.until(|message| message["type"] == "end").await;
    assert!(!end["reason"].as_str().unwrap().is_empty());
    assert_eq!(viewer.until_closed().await.0, 1000);
}

#[tokio::test]
async fn a_person_types_chooses_and_answers_dialogs() {
    let http = http();
    let session = created(&http).await;
    let html = "<input id=t autofocus style='position:fixed;left:0;top:0;width:200px;height:40px'>\
        <select id=s style='position:fixed;left:0;top:100px;width:200px;height:40px'>\
        <option>one<option>two<option>three</select>\
        <button style='position:fixed;left:0;top:200px;width:200px;height:40px' \
        onclick='document.title = prompt(\"Name?\", \"x\")'>ask</button>";
    let set = format!(
        "await page.goto('{}'); await page.setContent(`{html}`)",
        site().url("/")
    );
    execute(&http, &session, "node", &set).await;
    let token = token_of(&session, "interactiveLiveViewUrl");
    let mut viewer = Viewer::come(&http, &session, token).await;
    assert_eq!(viewer.hear().await.unwrap()["may"], "control");
    viewer.sees_more_than(0).await;
    viewer.takes_control().await;
    viewer.click(50.0, 20.0).await;
    for kind in ["down", "up"] {
        viewer
            .say(&json!({
                "type": "key", "kind": kind, "key": "a", "code": "KeyA", "location": 0,
                "repeat": false, "modifiers": 0,
            }))
            .await;
    }
    viewer.say(&json!({ "type": "text", "text": "ü漢" })).await;
    viewer.click(50.0, 120.0).await;
    let list = viewer
        .until(|message| message["type"] == "select" && message["id"].is_number())
        .await;
    let place = ["x", "y", "width", "height"].map(|key| list["box"][key].as_f64().unwrap());
    assert_eq!(place, [0.0, 100.0, 200.0, 40.0]);
    assert_eq!(list["options"][2]["label"], "three");
    viewer
        .say(&json!({ "type": "select", "id": list["id"], "values": [2] }))
        .await;
    viewer
        .until(|message| message["type"] == "select" && message["id"].is_null())
        .await;
    let read = "await page.evaluate(() => document.querySelector('#t').value + ' ' + document.querySelector('#s').value)";
    let body = json!({ "code": read, "onHumanControl": "ignore" });
    let values = http
        .post(&format!("{}/execute", path(&session)), &body)
        .await
        .good();
    assert_eq!(values["result"], "aü漢 three");

    viewer.click(50.0, 220.0).await;
    let dialog = viewer
        .until(|message| message["type"] == "dialog" && message["kind"].is_string())
        .await;
    assert_eq!(
        (&dialog["message"], &dialog["value"]),
        (&json!("Name?"), &json!("x"))
    );
    viewer
        .say(&json!({ "type": "dialog", "id": dialog["id"], "accept": true, "text": "Ada" }))
        .await;
    viewer
        .until(|message| message["type"] == "dialog" && message["kind"].is_null())
        .await;
    viewer
        .say(&json!({ "type": "control", "do": "release" }))
        .await;
    let title = execute(&http, &session, "node", "await page.title()").await;
    assert_eq!(title["result"], "Ada");
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn a_person_takes_control_and_code_waits() {
    let http = http();
    let session = created(&http).await;
    let token = token_of(&session, "interactiveLiveViewUrl");
    let mut viewer = Viewer::come(&http, &session, token).await;
    viewer.takes_control().await;
    let execute_path = format!("{}/execute", path(&session));
    let fail = json!({ "code": "1", "onHumanControl": "fail" });
    http.post(&execute_path, &fail).await.refused(409);
    let ignore = json!({ "code": "1", "onHumanControl": "ignore" });
    assert_eq!(
        http.post(&execute_path, &ignore).await.good()["result"],
        "1"
    );
    let waiting = execute(&http, &session, "node", "2");
    let release = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        viewer
            .say(&json!({ "type": "control", "do": "release" }))
            .await;
    };
    let began = std::time::Instant::now();
    let (done, ()) = tokio::join!(waiting, release);
    assert_eq!(done["result"], "2");
    assert!(began.elapsed() >= Duration::from_millis(500));

    let control = format!("{}/control", path(&session));
    let taken = http
        .post(&control, &json!({ "action": "take" }))
        .await
        .good();
    assert_eq!(taken["holder"], "human");
    viewer
        .until(|message| message["control"]["holder"] == "someone")
        .await;
    // Running code waits with its mouse only.
    let code = "const began = Date.now(); await page.mouse.move(5, 5); Date.now() - began";
    let body = json!({ "code": code, "onHumanControl": "ignore" });
    let give_back = async {
        tokio::time::sleep(Duration::from_millis(1000)).await;
        let release = json!({ "action": "release" });
        http.post(&control, &release).await.good()
    };
    let (ran, given) = tokio::join!(http.post(&execute_path, &body), give_back);
    assert_eq!(given["holder"], "code");
    let ran = ran.good();
    let waited: u64 = ran["result"].as_str().unwrap().parse().unwrap();
    assert!(waited >= 300, "{ran}");
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn files_go_in_by_the_control_token_only() {
    let http = http();
    let session = created(&http).await;
    let id = session["id"].as_str().unwrap();
    let put = async |key: &str, name: &str| {
        let bearer = format!("Bearer {}", token_of(&session, key));
        let headers = [("authorization", bearer.as_str())];
        let target = format!("/live/{id}/files?name={name}");
        http.send(Method::POST, &target, &headers, "content").await
    };
    put("liveViewUrl", "a.txt").await.refused(403);
    put("interactiveLiveViewUrl", "..").await.refused(400);
    let reply = put("interactiveLiveViewUrl", "a.txt").await.json();
    let file = reply["path"].as_str().unwrap();
    assert!(
        file.starts_with("/tmp/uploads/") && file.ends_with("/a.txt"),
        "{file}"
    );
    let read = execute(&http, &session, "bash", &format!("cat {file}")).await;
    assert_eq!(read["stdout"], "content");

    execute(
        &http,
        &session,
        "bash",
        "mkdir -p /tmp/downloads && printf report > /tmp/downloads/r.txt && echo secret > /tmp/s",
    )
    .await;
    let get = async |target: &str| {
        let token = token_of(&session, "interactiveLiveViewUrl");
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let target = format!("/live/{id}/files?path={target}");
        http.send(Method::GET, &target, &headers, "").await
    };
    let report = get("/tmp/downloads/r.txt").await;
    assert_eq!((report.status, &report.body[..]), (200, &b"report"[..]));
    for other in ["/tmp/s", "/tmp/downloads/../s", "/etc/passwd"] {
        get(other).await.refused(404);
    }
    http.delete(&path(&session)).await.good();
}
