//! How watching ends, and what it leaves.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::{created, execute, http, path};
use super::viewer::{LIMIT, Viewer, token_of};
use crate::daemon::Daemon;
use crate::http_client::Http;
use crate::shared::binary;

#[tokio::test]
async fn acting_keeps_a_session_and_looking_does_not() {
    let http = http();
    let body = json!({ "activityTtl": 10 });
    let looked_at = http.post("/v2/browser", &body).await.good();
    let acted_on = http.post("/v2/browser", &body).await.good();
    let mut looking = Viewer::come(&http, &looked_at, token_of(&looked_at, "liveViewUrl")).await;
    let token = token_of(&acted_on, "interactiveLiveViewUrl");
    let mut acting = Viewer::come(&http, &acted_on, token).await;
    acting.takes_control().await;
    let acts = async {
        for step in 0..12 {
            let x = f64::from(100 + step);
            acting.click(x, 100.0).await;
            acting.listens_for(Duration::from_secs(1)).await;
        }
    };
    let looks = async {
        let end = looking.until(|message| message["type"] == "end").await;
        end["reason"].as_str().unwrap().to_owned()
    };
    let (reason, ()) = tokio::join!(looks, acts);
    assert!(
        reason.contains("idle") || reason.contains("activ"),
        "{reason}"
    );
    assert_eq!(looking.until_closed().await.0, 1000);
    let shown = http.get(&path(&acted_on)).await.good();
    assert_eq!(shown["status"], "running");
    http.delete(&path(&acted_on)).await.good();
}

#[tokio::test]
async fn a_busy_page_is_only_looked_at() {
    let http = http();
    let session = created(&http).await;
    let busy = "for (const end = Date.now() + 8000; Date.now() < end;); 'done'";
    let code = format!("await page.evaluate(`{busy}`)");
    let running = execute(&http, &session, "node", &code);
    let looks = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        for _ in 0..4 {
            let token = token_of(&session, "liveViewUrl");
            let mut viewer = Viewer::come(&http, &session, token).await;
            viewer.listens_for(Duration::from_millis(300)).await;
            for is in [false, true] {
                viewer.say(&json!({ "type": "visible", "is": is })).await;
                viewer.listens_for(Duration::from_millis(300)).await;
            }
        }
    };
    let (done, ()) = tokio::join!(running, looks);
    assert_eq!(done["result"], "done");
    // And is seen once it answers.
    let mut viewer = Viewer::come(&http, &session, token_of(&session, "liveViewUrl")).await;
    viewer.sees_more_than(0).await;
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn looking_keeps_a_session_where_it_is_configured_to() {
    let daemon = Daemon::start(binary(), "[session]\nwatching_is_activity = true\n");
    let http = Http::new(&daemon.url());
    let session = http
        .post("/v2/browser", &json!({ "activityTtl": 10 }))
        .await
        .good();
    let mut looking = Viewer::come(&http, &session, token_of(&session, "liveViewUrl")).await;
    looking.listens_for(Duration::from_secs(15)).await;
    let shown = http.get(&path(&session)).await.good();
    assert_eq!(shown["status"], "running");
    drop(looking);
    let until = tokio::time::Instant::now() + 2 * LIMIT;
    while http.get(&path(&session)).await.good()["status"] == "running" {
        assert!(tokio::time::Instant::now() < until, "nobody looks any more");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn nothing_is_left_of_viewers_that_have_gone() {
    let daemon = Daemon::start(binary(), "[log]\nfilter = \"pagebox=debug\"\n");
    let http = Http::new(&daemon.url());
    let session = http.post("/v2/browser", &json!({})).await.good();
    execute(&http, &session, "node", "1").await;
    let sockets = || {
        let files = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
        let targets = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        targets
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count()
    };
    let count = |text: &str| daemon.log().matches(text).count();
    let clients =
        || count(": client connected client_id") - count(": client disconnected client_id");
    let before = (sockets(), clients());
    let mut viewers = Vec::new();
    for key in ["liveViewUrl", "interactiveLiveViewUrl", "liveViewUrl"] {
        let mut viewer = Viewer::come(&http, &session, token_of(&session, key)).await;
        viewer.sees_more_than(0).await;
        viewers.push(viewer);
    }
    viewers[1].takes_control().await;
    let open = clients();
    assert_eq!(
        open,
        before.1 + 1,
        "one of the hub's clients for all viewers"
    );
    // Without a word.
    drop(viewers);
    let until = tokio::time::Instant::now() + LIMIT;
    loop {
        let now = (sockets(), clients());
        let gone = count("a viewer has gone");
        if now == before && gone == 3 {
            break;
        }
        assert!(
            tokio::time::Instant::now() < until,
            "{now:?} {before:?} {gone}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Nobody holds the control that one of them had.
    let reply = execute(&http, &session, "node", "2").await;
    assert_eq!(reply["result"], "2");
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn a_download_that_nobody_takes_breaks_off_with_its_link() {
    const SIZE: usize = 50 << 20;
    let http = http();
    let session = http.post("/v2/browser", &json!({})).await.good();
    let make = format!("mkdir -p /tmp/downloads; head -c {SIZE} /dev/zero > /tmp/downloads/a");
    execute(&http, &session, "bash", &make).await;
    let token = token_of(&session, "interactiveLiveViewUrl");
    let (id, host) = (session["id"].as_str().unwrap(), http.host());
    let request = format!(
        "GET /live/{id}/files?path=/tmp/downloads/a HTTP/1.1\r\nhost: {host}\r\n\
         authorization: Bearer {token}\r\n\r\n"
    );
    let mut stream = TcpStream::connect(host).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut taken = vec![0; 64 << 10];
    stream.read_exact(&mut taken).await.unwrap();
    assert!(taken.starts_with(b"HTTP/1.1 200 "));
    http.post(&format!("{}/live-view", path(&session)), &json!({}))
        .await
        .good();
    let mut rest = Vec::new();
    // What was on its way by then is less than all of it, and the connection does not go on.
    let end = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest));
    let _ = end.await.expect("it ends");
    assert!(taken.len() + rest.len() < SIZE, "{}", rest.len());
    http.delete(&path(&session)).await.good();
}
