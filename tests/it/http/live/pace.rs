//! Which pictures viewers get, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::{Http, created, execute, http, path};
use super::viewer::{LIMIT, Viewer, token_of};
use crate::shared::site;

/// A page on which something always moves.
const ANIMATION: &str = "document.body.innerHTML = '<div id=m style=\"position:fixed;width:99px;height:99px;\
     background:red\"></div>'; const m = document.getElementById('m'); const move = (t) => { \
     m.style.left = `${(t / 3) % 900}px`; requestAnimationFrame(move); }; requestAnimationFrame(move);";

async fn animated(http: &Http) -> Value {
    let session = created(http).await;
    let goto = format!("await page.goto('{}')", site().url("/about.html"));
    let code = format!(
        "{goto}; await page.evaluate(`{}`)",
        ANIMATION.replace('`', "\\`").replace("${", "\\${")
    );
    execute(http, &session, "node", &code).await;
    session
}

#[tokio::test]
async fn an_animation_is_seen_to_move() {
    let http = http();
    let session = animated(&http).await;
    let mut viewer = Viewer::come(&http, &session, token_of(&session, "liveViewUrl")).await;
    let mut seen = BTreeSet::new();
    let until = tokio::time::Instant::now() + LIMIT;
    while seen.len() < 10 {
        assert!(
            tokio::time::Instant::now() < until,
            "{} pictures",
            seen.len()
        );
        viewer.sees_more_than(viewer.pictures.len()).await;
        seen.insert(viewer.picture.clone());
    }
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn one_who_takes_no_pictures_slows_nobody_and_gets_the_newest_later() {
    let http = http();
    let session = animated(&http).await;
    let token = token_of(&session, "liveViewUrl");
    let mut stalled = Viewer::come(&http, &session, token).await;
    stalled.takes = false;
    stalled.sees_more_than(0).await;
    let mut viewer = Viewer::come(&http, &session, token).await;
    viewer.sees_more_than(20).await;
    stalled.listens_for(Duration::from_millis(300)).await;
    assert_eq!(stalled.pictures.len(), 1);
    let newest = *viewer.pictures.last().unwrap();
    stalled.take().await;
    stalled.sees_more_than(1).await;
    assert!(
        stalled.pictures[1] >= newest,
        "{:?} {newest}",
        stalled.pictures
    );
    http.delete(&path(&session)).await.good();
}

/// What is in the middle of a picture: red, green, blue.
fn middle(picture: &[u8]) -> [u8; 3] {
    let reader = zune_jpeg::zune_core::bytestream::ZCursor::new(picture);
    let mut decoder = zune_jpeg::JpegDecoder::new(reader);
    let pixels = decoder.decode().expect("a JPEG");
    let (width, height) = decoder.dimensions().unwrap();
    let at = 3 * (width * (height / 2) + width / 2);
    pixels[at..at + 3].try_into().unwrap()
}

#[tokio::test]
async fn what_a_page_looks_like_at_last_is_seen_by_the_slowest() {
    let http = http();
    let session = created(&http).await;
    let mut viewer = Viewer::come(&http, &session, token_of(&session, "liveViewUrl")).await;
    viewer.takes = false;
    viewer.sees_more_than(0).await;
    let code = "await page.evaluate(async () => { for (let i = 0; i < 9; i++) { \
        document.body.style.background = i < 8 ? `rgb(255, ${i}, 0)` : 'rgb(0, 0, 255)'; \
        await new Promise((go) => setTimeout(go, 100)); } })";
    execute(&http, &session, "node", code).await;
    viewer.takes = true;
    viewer.take().await;
    let until = tokio::time::Instant::now() + LIMIT;
    loop {
        let [red, _, blue] = middle(&viewer.picture);
        if blue > 200 && red < 50 {
            break;
        }
        assert!(tokio::time::Instant::now() < until, "{red} {blue}");
        viewer.listens_for(Duration::from_millis(100)).await;
    }
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn hiding_and_showing_does_not_begin_all_over_each_time() {
    let http = http();
    let session = created(&http).await;
    let goto = format!("await page.goto('{}')", site().url("/about.html"));
    execute(&http, &session, "node", &goto).await;
    let mut viewer = Viewer::come(&http, &session, token_of(&session, "liveViewUrl")).await;
    viewer.sees_more_than(0).await;
    viewer.listens_for(Duration::from_secs(1)).await;
    let before = *viewer.pictures.last().unwrap();
    for _ in 0..200 {
        for is in [false, true] {
            viewer.say(&json!({ "type": "visible", "is": is })).await;
        }
    }
    viewer.listens_for(Duration::from_secs(2)).await;
    // Each screencast of a still page has a picture of its own.
    let since = *viewer.pictures.last().unwrap() - before;
    assert!(since < 20, "{since} pictures");
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn nothing_is_captured_while_nobody_looks() {
    let http = http();
    let session = animated(&http).await;
    let mut viewer = Viewer::come(&http, &session, token_of(&session, "liveViewUrl")).await;
    viewer.sees_more_than(5).await;
    viewer.say(&json!({ "type": "visible", "is": false })).await;
    // What was on its way.
    viewer.listens_for(Duration::from_millis(500)).await;
    let before = viewer.pictures.clone();
    viewer.listens_for(Duration::from_secs(1)).await;
    assert_eq!(viewer.pictures, before);
    viewer.say(&json!({ "type": "visible", "is": true })).await;
    viewer.sees_more_than(before.len()).await;
    let (last, next) = (before[before.len() - 1], viewer.pictures[before.len()]);
    // Pictures are counted as they are captured.
    assert!(next - last < 10, "{last} {next}");
    http.delete(&path(&session)).await.good();
}
