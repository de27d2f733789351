//! What people see of a session's pages besides pictures, and do with them.

use axum::http::Method;
use serde_json::{Value, json};

use super::super::{Http, created, execute, http, path};
use super::viewer::{Viewer, token_of};
use crate::shared::site;

/// A session on a page of the site, and a person in control of it.
async fn taken(http: &Http, page: &str) -> (Value, Viewer) {
    let session = created(http).await;
    let goto = format!("await page.goto('{}')", site().url(page));
    execute(http, &session, "node", &goto).await;
    let mut viewer =
        Viewer::come(http, &session, token_of(&session, "interactiveLiveViewUrl")).await;
    viewer.takes_control().await;
    viewer.sees_more_than(0).await;
    (session, viewer)
}

/// Where the middle of an element is.
async fn place(http: &Http, session: &Value, selector: &str) -> (f64, f64) {
    let code = format!(
        "await page.evaluate(() => {{ const e = document.querySelector('{selector}'); \
         e.scrollIntoView({{ block: 'center', behavior: 'instant' }}); const b = e.getBoundingClientRect(); \
         return [b.x + b.width / 2, b.y + b.height / 2]; }})"
    );
    let reply = ignoring(http, session, &code).await;
    let place: Vec<f64> = serde_json::from_str(reply.as_str().unwrap()).unwrap();
    (place[0], place[1])
}

/// The result of code that runs while a person is in control.
async fn ignoring(http: &Http, session: &Value, code: &str) -> Value {
    let body = json!({ "code": code, "onHumanControl": "ignore" });
    let execute = format!("{}/execute", path(session));
    http.post(&execute, &body).await.good()["result"].clone()
}

async fn send(
    http: &Http,
    session: &Value,
    method: Method,
    rest: &str,
    body: &str,
) -> (u16, Vec<u8>) {
    let id = session["id"].as_str().unwrap();
    let bearer = format!("Bearer {}", token_of(session, "interactiveLiveViewUrl"));
    let headers = [("authorization", bearer.as_str())];
    let target = format!("/live/{id}/files?{rest}");
    let reply = http.send(method, &target, &headers, body.to_owned()).await;
    (reply.status, reply.body.to_vec())
}

fn active(state: &Value) -> Option<&Value> {
    state["tabs"]
        .as_array()?
        .iter()
        .find(|tab| tab["active"] == true)
}

#[tokio::test]
async fn the_view_follows_the_active_page() {
    let http = http();
    let session = created(&http).await;
    let goto = format!("await page.goto('{}')", site().url("/"));
    execute(&http, &session, "node", &goto).await;
    let mut viewer = Viewer::come(&http, &session, token_of(&session, "liveViewUrl")).await;
    viewer.sees_more_than(0).await;
    let shows = |part: &'static str| {
        move |message: &Value| {
            let url = active(message).and_then(|tab| tab["url"].as_str());
            message["type"] == "state" && url.is_some_and(|url| url.ends_with(part))
        }
    };
    let other = format!(
        "globalThis.first = page; const next = await context.newPage(); \
         await next.goto('{}'); page = next; 1",
        site().url("/about.html")
    );
    execute(&http, &session, "node", &other).await;
    // The last one's picture goes before the address comes, and then pictures of that page.
    viewer.until(|message| message["type"] == "blank").await;
    let before = viewer.pictures.len();
    let state = viewer.until(shows("/about.html")).await;
    assert_eq!(state["tabs"].as_array().unwrap().len(), 2);
    assert_eq!(viewer.pictures.len(), before);
    viewer.sees_more_than(before).await;
    // While code still runs.
    execute(&http, &session, "node", "await first.bringToFront(); 1").await;
    viewer.until(shows("/")).await;
    let before = viewer.pictures.len();
    viewer.sees_more_than(before).await;
    let close = "await first.close(); 1";
    execute(&http, &session, "node", close).await;
    let state = viewer.until(shows("/about.html")).await;
    assert_eq!(state["tabs"].as_array().unwrap().len(), 1);
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn popups_of_code_are_shown_while_they_are_there() {
    let http = http();
    let session = created(&http).await;
    let goto = format!("await page.goto('{}')", site().url("/workbench.html"));
    execute(&http, &session, "node", &goto).await;
    let mut viewer = Viewer::come(&http, &session, token_of(&session, "liveViewUrl")).await;
    viewer.sees_more_than(0).await;
    let shows = |part: &'static str| {
        move |message: &Value| {
            let url = active(message).and_then(|tab| tab["url"].as_str());
            url.is_some_and(|url| url.ends_with(part))
        }
    };
    let open = "const opened = page.waitForEvent('popup'); await page.click('#blank'); \
        globalThis.popup = await opened; await popup.waitForURL(/article/); page.url()";
    let url = execute(&http, &session, "node", open).await["result"].clone();
    assert!(url.as_str().unwrap().ends_with("/workbench.html"), "{url}");
    let state = viewer.until(shows("/article.html")).await;
    assert!(state["url"].as_str().unwrap().ends_with("/article.html"));
    viewer.sees_more_than(viewer.pictures.len()).await;
    // The next code goes on where the last one was.
    let url = execute(&http, &session, "node", "page.url()").await["result"].clone();
    assert!(url.as_str().unwrap().ends_with("/workbench.html"), "{url}");
    execute(&http, &session, "node", "await popup.close(); 1").await;
    viewer.until(shows("/workbench.html")).await;
    viewer.sees_more_than(viewer.pictures.len()).await;
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn popups_that_a_person_opens_are_shown_and_tabs_are_theirs() {
    let http = http();
    let (session, mut viewer) = taken(&http, "/workbench.html").await;
    let (x, y) = place(&http, &session, "#blank").await;
    viewer.click(x, y).await;
    let state = viewer
        .until(|message| {
            let url = active(message).and_then(|tab| tab["url"].as_str());
            url.is_some_and(|url| url.ends_with("/article.html"))
        })
        .await;
    let tabs = state["tabs"].as_array().unwrap();
    let behind = tabs.iter().find(|tab| tab["active"] == false).unwrap();
    let id = behind["id"].clone();
    viewer
        .say(&json!({ "type": "tab", "do": "activate", "id": id }))
        .await;
    viewer
        .until(|message| active(message).is_some_and(|tab| tab["id"] == id))
        .await;
    viewer.say(&json!({ "type": "tab", "do": "new" })).await;
    let count = |message: &Value| message["tabs"].as_array().map_or(0, Vec::len);
    let state = viewer
        .until(|message| count(message) == 3 && active(message).unwrap()["url"] == "about:blank")
        .await;
    let new = active(&state).unwrap()["id"].clone();
    viewer
        .say(&json!({ "type": "tab", "do": "close", "id": new }))
        .await;
    viewer.until(|message| count(message) == 2).await;
    viewer
        .say(&json!({ "type": "tab", "do": "close", "id": new }))
        .await;
    let note = viewer.until(|message| message["type"] == "note").await;
    assert_eq!(note["text"], "that tab has closed");
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn a_popup_that_a_slow_page_opens_is_its_persons_too() {
    let http = http();
    let (session, mut viewer) = taken(&http, "/workbench.html").await;
    let slow = "await page.evaluate(() => document.querySelector('#popup').addEventListener('click', \
        () => { const end = Date.now() + 3000; while (Date.now() < end); }, true)); 1";
    ignoring(&http, &session, slow).await;
    let (x, y) = place(&http, &session, "#popup").await;
    viewer.click(x, y).await;
    viewer
        .until(|message| {
            let url = active(message).and_then(|tab| tab["url"].as_str());
            url.is_some_and(|url| url.ends_with("/article.html"))
        })
        .await;
    let url = ignoring(&http, &session, "page.url()").await;
    assert!(url.as_str().unwrap().ends_with("/article.html"), "{url}");
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn a_person_goes_to_pages_back_and_forward() {
    let http = http();
    let (session, mut viewer) = taken(&http, "/").await;
    let url = site().url("/about.html");
    viewer.say(&json!({ "type": "navigate", "url": url })).await;
    let at = |message: &Value, part: &str, back: bool| {
        let url = message["url"].as_str().unwrap_or_default();
        message["type"] == "state"
            && url.ends_with(part)
            && message["back"] == back
            && message["loading"] == false
    };
    viewer
        .until(|message| at(message, "/about.html", true))
        .await;
    viewer.say(&json!({ "type": "history", "by": -1 })).await;
    let state = viewer
        .until(|message| at(message, "/", true) || at(message, "/", false))
        .await;
    let state = match state["forward"].as_bool() {
        Some(true) => state,
        _ => viewer.until(|message| message["forward"] == true).await,
    };
    assert!(state["url"].as_str().unwrap().ends_with('/'));
    let bad = "file:///etc/passwd";
    viewer.say(&json!({ "type": "navigate", "url": bad })).await;
    viewer.until(|message| message["type"] == "note").await;
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn a_dialog_that_comes_again_is_asked_again() {
    let http = http();
    let (session, mut viewer) = taken(&http, "/").await;
    let ask = "setTimeout(() => { let n = 1; while (!confirm('Sure?')) n++; document.title = `${n} times`; })";
    ignoring(
        &http,
        &session,
        &format!("await page.evaluate(\"{ask}\"); 1"),
    )
    .await;
    let asked = |message: &Value| message["type"] == "dialog" && message["kind"] == "confirm";
    let mut dialog = viewer.until(asked).await;
    let mut last = 0;
    for accept in [false, false, true] {
        let id = dialog["id"].as_u64().unwrap();
        assert!(id > last && dialog["message"] == "Sure?", "{dialog}");
        // An old one's answer is none to this one; this one's is one once.
        for id in [last, id, id] {
            let answer = json!({ "type": "dialog", "id": id, "accept": accept, "text": null });
            viewer.say(&answer).await;
        }
        last = id;
        let (mut notes, mut next) = (0, accept.then_some(Value::Null));
        while notes < 2 || next.is_none() {
            let message = viewer.hear().await.expect("it is not closed");
            if asked(&message) {
                next = Some(message);
            } else if message["type"] == "note" {
                assert_eq!(message["text"], "that dialog is answered already");
                notes += 1;
            }
        }
        dialog = next.unwrap_or_default();
    }
    let title = "await page.waitForFunction(() => document.title === '3 times'); 1";
    assert_eq!(ignoring(&http, &session, title).await, "1");
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn a_person_chooses_uploaded_files() {
    let http = http();
    let (session, mut viewer) = taken(&http, "/workbench.html").await;
    let (status, body) = send(
        &http,
        &session,
        Method::POST,
        "name=note.txt",
        "from outside",
    )
    .await;
    assert_eq!(status, 200);
    let uploaded: Value = serde_json::from_slice(&body).unwrap();
    let (x, y) = place(&http, &session, "#file").await;
    viewer.click(x, y).await;
    let chooser = viewer
        .until(|message| message["type"] == "chooser" && message["id"].is_number())
        .await;
    assert_eq!(chooser["multiple"], true);
    viewer
        .say(&json!({ "type": "chosen", "id": chooser["id"], "paths": ["/etc/passwd"] }))
        .await;
    viewer.until(|message| message["type"] == "note").await;
    viewer.click(x, y).await;
    let again = viewer
        .until(|message| message["type"] == "chooser" && message["id"].is_number())
        .await;
    assert_ne!(again["id"], chooser["id"]);
    viewer
        .say(&json!({ "type": "chosen", "id": again["id"], "paths": [uploaded["path"]] }))
        .await;
    let read = "await page.waitForFunction(() => document.querySelector('#file').files.length > 0); \
        await page.evaluate(async () => { const [f] = document.querySelector('#file').files; \
        return `${f.name}: ${await f.text()}`; })";
    assert_eq!(
        ignoring(&http, &session, read).await,
        "note.txt: from outside"
    );
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn downloads_are_told_of_and_can_be_taken_out() {
    let http = http();
    let (session, mut viewer) = taken(&http, "/workbench.html").await;
    let (x, y) = place(&http, &session, "#download").await;
    viewer.click(x, y).await;
    let mut done = viewer
        .until(|message| message["type"] == "download" && message["state"] == "done")
        .await;
    assert_eq!(done["name"], "report.csv");
    assert_eq!(done["old"], false);
    let rest = format!("path={}", done["path"].as_str().expect("a path"));
    let (status, body) = send(&http, &session, Method::GET, &rest, "").await;
    assert_eq!(status, 200);
    assert_eq!(body.len() as f64, done["total"].as_f64().unwrap());
    // Whoever reloads the live view has them still.
    drop(viewer);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let token = token_of(&session, "interactiveLiveViewUrl");
    let mut viewer = Viewer::come(&http, &session, token).await;
    let again = viewer.until(|message| message["type"] == "download").await;
    done["old"] = true.into();
    assert_eq!(again, done);
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn the_page_takes_the_size_that_is_asked_for_while_somebody_looks() {
    let http = http();
    let (session, mut viewer) = taken(&http, "/").await;
    let size = "await page.evaluate(() => [innerWidth, innerHeight])";
    assert_eq!(ignoring(&http, &session, size).await, "[1280,720]");
    viewer
        .say(&json!({ "type": "resize", "width": 500, "height": 400 }))
        .await;
    let state = viewer
        .until(|message| message["viewport"]["width"] == 500)
        .await;
    assert_eq!(state["viewport"]["height"], 400);
    // A picture may be of the new size before the page itself is told.
    let there = "await page.waitForFunction(() => innerWidth === 500 && innerHeight === 400); 1";
    assert_eq!(ignoring(&http, &session, there).await, "1");
    drop(viewer);
    let back = "await page.waitForFunction(() => innerWidth === 1280); 1";
    assert_eq!(ignoring(&http, &session, back).await, "1");
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn a_person_who_looks_elsewhere_for_a_moment_finds_it_as_it_was() {
    let http = http();
    let (session, mut viewer) = taken(&http, "/workbench.html").await;
    viewer
        .say(&json!({ "type": "resize", "width": 700, "height": 500 }))
        .await;
    viewer
        .until(|message| message["viewport"]["width"] == 700)
        .await;
    let (x, y) = place(&http, &session, "#file").await;
    viewer.click(x, y).await;
    let opened = |message: &Value| message["type"] == "chooser" && message["id"].is_number();
    let chooser = viewer.until(opened).await;
    let rest = "name=photo.jpg";
    let (_, body) = send(&http, &session, Method::POST, rest, "a photo").await;
    let uploaded: Value = serde_json::from_slice(&body).unwrap();
    viewer.say(&json!({ "type": "visible", "is": false })).await;
    let time = std::time::Duration::from_millis(1500);
    viewer.listens_for(time).await;
    assert_eq!(
        ignoring(&http, &session, "await page.evaluate(() => innerWidth)").await,
        "700"
    );
    viewer.say(&json!({ "type": "visible", "is": true })).await;
    viewer
        .say(&json!({ "type": "chosen", "id": chooser["id"], "paths": [uploaded["path"]] }))
        .await;
    let read =
        "await page.waitForFunction(() => document.querySelector('#file').files.length > 0); 1";
    assert_eq!(ignoring(&http, &session, read).await, "1");
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn nothing_stays_down_that_a_person_held() {
    let http = http();
    let (session, mut viewer) = taken(&http, "/").await;
    let watch = "await page.evaluate(() => { window.seen = []; \
        for (const type of ['keydown', 'keyup', 'mousedown', 'mouseup', 'touchstart', 'touchcancel']) \
        addEventListener(type, (e) => seen.push(`${type} ${e.code ?? e.button ?? ''}`.trim()), true); }); 1";
    ignoring(&http, &session, watch).await;
    let holds = async |viewer: &mut Viewer| {
        for message in [
            json!({ "type": "key", "kind": "down", "key": "Shift", "code": "ShiftLeft", "location": 1 }),
            json!({ "type": "mouse", "kind": "down", "x": 9, "y": 9, "button": "right", "buttons": 2, "clicks": 1 }),
            json!({ "type": "touch", "kind": "start", "points": [{ "id": 1, "x": 5, "y": 300 }] }),
        ] {
            viewer.say(&message).await;
        }
    };
    let ups = async || {
        let code = "await page.waitForFunction(() => seen.includes('keyup ShiftLeft') && \
            seen.includes('mouseup 2') && seen.includes('touchcancel'), undefined, { timeout: 10000 }); \
            await page.evaluate(() => { seen.length = 0; }); 1";
        assert_eq!(ignoring(&http, &session, code).await, "1");
    };
    holds(&mut viewer).await;
    viewer
        .say(&json!({ "type": "control", "do": "release" }))
        .await;
    ups().await;
    viewer.takes_control().await;
    holds(&mut viewer).await;
    let down = "await page.waitForFunction(() => seen.includes('touchstart')); 1";
    ignoring(&http, &session, down).await;
    // The last one who looked, without a word.
    drop(viewer);
    ups().await;
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn a_page_that_has_crashed_says_so_and_is_loaded_again() {
    let http = http();
    let (session, mut viewer) = taken(&http, "/about.html").await;
    // More than its layout can stand.
    let crash = "await page.evaluate(() => { setTimeout(() => { \
        let at = document.body.appendChild(document.createElement('div')); \
        for (let i = 0; i < 100_000; i++) at = at.appendChild(document.createElement('div')); \
        document.body.offsetHeight; }, 100); }); 1";
    ignoring(&http, &session, crash).await;
    viewer.until(|message| message["crashed"] == true).await;
    // Who comes later knows it too.
    let mut other = Viewer::come(&http, &session, token_of(&session, "liveViewUrl")).await;
    other.until(|message| message["crashed"] == true).await;
    let before = viewer.pictures.len();
    viewer.say(&json!({ "type": "reload" })).await;
    viewer.until(|message| message["crashed"] == false).await;
    viewer.sees_more_than(before).await;
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn a_list_may_have_labels_that_are_no_text() {
    let http = http();
    let (session, mut viewer) = taken(&http, "/").await;
    let html = "<select id=s style='position:fixed;left:0;top:0;width:200px;height:40px'></select>";
    let set = format!(
        "await page.setContent(`{html}`); await page.evaluate(() => {{ \
         const group = document.createElement('optgroup'); group.label = '\\udc00'; s.append(group); \
         for (const text of ['\\ud83d', 'x'.repeat(299) + '\\u{{1f600}}', 'plain']) \
         group.append(new Option(text)); }}); \
         await new Promise((go) => setTimeout(go, 1000)); 1"
    );
    // A page that was written anew is listened to after a moment.
    ignoring(&http, &session, &set).await;
    viewer.click(50.0, 20.0).await;
    let list = viewer
        .until(|message| message["type"] == "select" && message["id"].is_number())
        .await;
    let options = &list["options"];
    assert_eq!(
        (&options[0]["label"], &options[0]["group"]),
        (&json!("\u{fffd}"), &json!("\u{fffd}"))
    );
    let cut = format!("{}\u{fffd}…", "x".repeat(299));
    assert_eq!(
        (&options[1]["label"], &options[2]["label"]),
        (&json!(cut), &json!("plain"))
    );
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn what_is_dragged_arrives() {
    let http = http();
    let (session, mut viewer) = taken(&http, "/").await;
    let html = "<div id=a draggable=true style='position:fixed;left:0;top:0;width:90px;height:90px'>drag</div>\
        <div id=b style='position:fixed;left:300px;top:0;width:90px;height:90px'>here</div>";
    let set = format!(
        "await page.setContent(`{html}`); await page.evaluate(() => {{ \
         a.ondragstart = (e) => e.dataTransfer.setData('text/plain', 'brought'); \
         b.ondragover = (e) => e.preventDefault(); \
         b.ondrop = (e) => {{ document.title = e.dataTransfer.getData('text/plain'); }}; }}); 1"
    );
    ignoring(&http, &session, &set).await;
    let steps = [
        ("move", 40.0, "none", 0),
        ("down", 40.0, "left", 1),
        ("move", 60.0, "left", 1),
        ("move", 200.0, "left", 1),
        ("move", 330.0, "left", 1),
        ("move", 340.0, "left", 1),
        ("up", 340.0, "left", 0),
    ];
    for (kind, x, button, buttons) in steps {
        viewer
            .say(&json!({
                "type": "mouse", "kind": kind, "x": x, "y": 40, "button": button, "buttons": buttons,
                "clicks": 1, "dx": 0, "dy": 0, "modifiers": 0,
            }))
            .await;
        // As a hand does: Chromium says that a drag has begun when it has.
        viewer
            .listens_for(std::time::Duration::from_millis(150))
            .await;
    }
    let title = "await page.waitForFunction(() => document.title === 'brought', undefined, { timeout: 10000 }); 1";
    assert_eq!(ignoring(&http, &session, title).await, "1");
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn running_code_waits_with_its_input_and_goes_on_with_the_same_page() {
    let http = http();
    let session = created(&http).await;
    let goto = format!("await page.goto('{}')", site().url("/"));
    execute(&http, &session, "node", &goto).await;
    let html = "<input id=t autofocus style='position:fixed;left:0;top:0'>";
    let code = format!(
        "await page.setContent(`{html}`); await page.focus('#t'); globalThis.held = page; \
         await page.evaluate(() => {{ document.title = 'typing' }}); \
         for (let i = 0; i < 40; i++) {{ await page.keyboard.type('a'); \
         await new Promise((r) => setTimeout(r, 100)); }} \
         `${{held === page}} ${{await page.inputValue('#t')}}`"
    );
    let mut viewer = Viewer::come(
        &http,
        &session,
        token_of(&session, "interactiveLiveViewUrl"),
    )
    .await;
    let running = execute(&http, &session, "node", &code);
    let person = async {
        viewer.until(|message| message["title"] == "typing").await;
        viewer.takes_control().await;
        // In another context: that of node is taken.
        let body = json!({
            "code": "await page.input_value('#t')", "onHumanControl": "ignore", "language": "python",
        });
        let asked = async || {
            let execute = format!("{}/execute", path(&session));
            http.post(&execute, &body).await.good()["result"].clone()
        };
        let first = asked().await;
        let second = asked().await;
        assert_eq!(first, second, "code types while a person is in control");
        viewer.say(&json!({ "type": "text", "text": "-" })).await;
        viewer
            .say(&json!({ "type": "control", "do": "release" }))
            .await;
    };
    let (done, ()) = tokio::join!(running, person);
    let text = done["result"].as_str().unwrap();
    let typed = text.strip_prefix("true ").expect("the same page");
    assert_eq!(typed.replacen('-', "", 1), "a".repeat(40));
    assert!(!typed.starts_with('-') && !typed.ends_with('-'), "{typed}");
    http.delete(&path(&session)).await.good();
}
