//! Requests that are refused, at every session depth and in every spelling.

use pagebox::grpc::v1::SessionState;
use serde_json::{Value, json};

use super::bare::Bare;
use super::inside::{attack, serves};
use crate::arena::Ground;

/// Sessions at every depth a client can reach: the connection, the browser attached again, a page,
/// a frame of another site, a dedicated worker, a service worker, and the page attached twice.
const DEPTHS: &str = "
const client = await Cdp.connect();
const depths = { root: undefined };
depths.browser = (await client.ask('Target.attachToBrowserTarget')).sessionId;
depths.browserAgain = (await client.ask('Target.attachToBrowserTarget', {}, depths.browser)).sessionId;
depths.page = await client.page();
const auto = { autoAttach: true, waitForDebuggerOnStart: false, flatten: true };
const seen = (type) =>
  client.event('Target.attachedToTarget', (e) => e.params.targetInfo.type === type && e.sessionId);
await client.ask('Target.setAutoAttach', auto, depths.page);
depths.worker = (await within(20000, seen('worker'))).params?.sessionId;
depths.frame = (await within(20000, seen('iframe'))).params?.sessionId;
const again = { targetId: client.target, flatten: true };
depths.pageAgain = (await client.ask('Target.attachToTarget', again, depths.browser)).sessionId;
const { targetInfos } = await client.ask('Target.getTargets', { filter: [{}] });
const tab = targetInfos.find((t) => t.type === 'tab');
const service = targetInfos.find((t) => t.type === 'service_worker');
const attach = async (target) => target && (await client.ask('Target.attachToTarget',
  { targetId: target.targetId, flatten: true })).sessionId;
depths.tab = await attach(tab);
depths.service = await attach(service);
";

/// A frame of another site, a worker and a service worker.
const PAGE: &str = "
const other = page.url().replace('localhost', '127.0.0.1').replace('workers', 'frame');
await page.waitForFunction(() => document.querySelector('#service').textContent);
await page.evaluate((other) => {
  const frame = document.createElement('iframe');
  frame.src = other;
  document.body.append(frame);
  window.kept = new Worker('data:text/javascript,onmessage = () => {}');
  return new Promise((resolve) => { frame.onload = resolve });
}, other);
";

/// What each depth says to each request.
async fn at_every_depth(ground: &Ground, requests: &Value) -> Value {
    let session = ground.open("/workers.html").await;
    let code = format!(
        "{PAGE}{DEPTHS}\nconst said = {{}};\nfor (const [method, params] of {requests}) {{\n  \
         for (const [name, id] of Object.entries(depths)) {{\n    \
         if (name !== 'root' && !id) continue;\n    \
         const answer = await within(10000, client.ask(method, params, id));\n    \
         (said[name] ||= {{}})[method] = typeof answer === 'string' ? answer : 'DONE';\n  }}\n}}\n\
         JSON.stringify(said)"
    );
    let said = attack(&session, &code).await;
    let depths = said.as_object().unwrap();
    for depth in [
        "root",
        "browser",
        "browserAgain",
        "page",
        "pageAgain",
        "frame",
        "worker",
    ] {
        assert!(depths.contains_key(depth), "no session on {depth}: {said}");
    }
    serves(&session).await;
    session.stop().await;
    said
}

/// Every answer at every depth is the hub's refusal.
fn all_refused(said: &Value) {
    for (depth, answers) in said.as_object().unwrap() {
        for (method, answer) in answers.as_object().unwrap() {
            let answer = answer.as_str().unwrap();
            assert!(
                answer.contains("not allowed here") || answer.contains("needs flatten: true here"),
                "{method} at {depth}: {answer}"
            );
        }
    }
}

pub(super) async fn close(ground: &Ground) {
    assert!(Bare::start().await.ends_by("Browser.close").await);
    let session = ground.open("/").await;
    let code = "
const other = await Cdp.connect(); const own = await other.page();
const said = [];
for (const depth of ['root', 'browser', 'page']) {
  const client = await Cdp.connect();
  const id = depth === 'page' ? await client.page()
    : depth === 'browser' ? (await client.ask('Target.attachToBrowserTarget')).sessionId : undefined;
  const answer = await client.ask('Browser.close', {}, id);
  said.push([answer, await within(10000, client.gone), await other.value('6 * 7', own)]);
}
JSON.stringify(said)";
    let said = attack(&session, code).await;
    let each = json!([{}, "disconnected", 42]);
    assert_eq!(said, json!([each, each, each]));
    assert_eq!(session.now().await.state(), SessionState::Ready);
    serves(&session).await;
    session.stop().await;
}

pub(super) async fn crash(ground: &Ground) {
    assert!(Bare::start().await.ends_by("Browser.crash").await);
    let said = at_every_depth(
        ground,
        &json!([
            ["Browser.crash", {}],
            ["Browser.crashGpuProcess", {}],
            ["Page.crash", {}],
            ["Memory.prepareForLeakDetection", {}],
        ]),
    )
    .await;
    all_refused(&said);
}

pub(super) async fn ways_round(ground: &Ground) {
    let said = at_every_depth(
        ground,
        &json!([
            ["Target.sendMessageToTarget", { "message": "{\"id\":1,\"method\":\"Browser.crash\"}" }],
            ["Target.exposeDevToolsProtocol", { "targetId": "x" }],
            ["Target.setRemoteLocations", { "locations": [{ "host": "127.0.0.1", "port": 1 }] }],
            ["Target.openDevTools", { "targetId": "x" }],
            ["Target.attachToTarget", { "targetId": "x", "flatten": false }],
            ["Target.setAutoAttach", { "autoAttach": true, "waitForDebuggerOnStart": true, "flatten": false }],
            ["Browser.executeBrowserCommand", { "commandId": "openTabSearch" }],
            ["Browser.addPrivacySandboxEnrollmentOverride", { "url": "https://a.b" }],
            ["Extensions.loadUnpacked", { "path": "/tmp" }],
            ["Tethering.bind", { "port": 1 }],
            ["Emulation.setVirtualTimePolicy", { "policy": "pause" }],
        ]),
    )
    .await;
    all_refused(&said);
}

pub(super) async fn command_line(ground: &Ground) {
    let mut bare = Bare::start().await;
    let info = bare.ask("SystemInfo.getInfo", json!({})).await.unwrap();
    let line = info["commandLine"].as_str().unwrap();
    assert!(line.contains("--user-data-dir="), "{line}");
    let said = at_every_depth(
        ground,
        &json!([
            ["SystemInfo.getInfo", {}],
            ["Browser.getBrowserCommandLine", {}],
        ]),
    )
    .await;
    all_refused(&said);
}

pub(super) async fn others_sessions(ground: &Ground) {
    let (one, two) = (ground.open("/").await, ground.open("/").await);
    one.node("await context.addCookies([{ name: 'berth', value: '7', url: page.url() }]); 1")
        .await;
    let code = "
const victim = await Cdp.connect(); const theirs = await victim.page();
const client = await Cdp.connect(); const own = await client.page();
const spelled = JSON.stringify(theirs).replace(/[0-9A-F]/g, (c) => '\\\\u00' + c.charCodeAt(0).toString(16));
const raw = async (session) => {
  const id = ++client.last;
  const answer = new Promise((resolve) => client.waiting.set(id, resolve));
  client.text(`{\"id\":${id},\"method\":\"Runtime.evaluate\",\"params\":{\"expression\":\"1\"},\"sessionId\":${session}}`);
  return (await within(10000, answer)).error?.message ?? 'DONE';
};
const said = [];
for (const session of [JSON.stringify(theirs), spelled, JSON.stringify(theirs.toLowerCase()),
  JSON.stringify(theirs + ' '), '\"\"', JSON.stringify('x'.repeat(1 << 20))]) said.push(await raw(session));
const detach = await client.ask('Target.detachFromTarget', { sessionId: theirs });
JSON.stringify({ own: await raw(JSON.stringify(own)), said: [...new Set(said)],
  victim: await victim.value('6 * 7', theirs), detach: typeof detach })";
    let said = attack(&one, code).await;
    assert_eq!(said["own"], "DONE");
    assert_eq!(said["said"], json!(["Session with given id not found."]));
    assert_eq!(
        (&said["victim"], &said["detach"]),
        (&json!(42), &json!("string"))
    );
    let cookies = "const client = await Cdp.connect(); const all = await client.ask('Storage.getCookies'); \
                   JSON.stringify(all.cookies.map((cookie) => cookie.name))";
    assert_eq!(attack(&one, cookies).await, json!(["berth"]));
    assert_eq!(attack(&two, cookies).await, json!([]));
    for session in [one, two] {
        serves(&session).await;
        session.stop().await;
    }
}

pub(super) async fn envelopes(ground: &Ground) {
    let session = ground.blank().await;
    let code = r#"
const client = await Cdp.connect(); const own = await client.page();
const refused = [];
for (const text of [
  '{"id":1,"method":"Browser.getVersion","method":"Browser.crash"}',
  '{"id":1,"method":"Browser.getVersion","\u006dethod":"Browser.crash"}',
  '{"id":1,"id":2,"method":"Browser.getVersion"}',
  '{"id":1,"method":"Browser.getVersion","sessionId":"a","sessionId":null}',
  '{"id":1,"method":"Browser.getVersion","params":{},"params":{}}',
  '{"id":1.5,"method":"Browser.getVersion"}', '{"id":"1","method":"Browser.getVersion"}',
  '{"id":1e400,"method":"Browser.getVersion"}', '{"id":18446744073709551616,"method":"Browser.getVersion"}',
  '{"id":null,"method":"Browser.getVersion"}', '{"method":"Browser.getVersion"}', '{"id":1}',
  '{"id":1,"method":7}', '{"id":1,"method":"Browser.getVersion","sessionId":7}',
  '{"id":1,"method":"Browser.getVersion","sessionId":["a"]}', '[]', '[{"id":1}]', '', 'null', '{', '\0',
  '{"id":1,"method":"Browser.getVersion"}{"id":2,"method":"Browser.crash"}',
  '{"id":1,"method":"Browser.getVersion"}\0{"id":2,"method":"Browser.crash"}',
  '['.repeat(100000),
]) {
  client.bad = []; client.text(text);
  const answered = new Promise((resolve) => client.listeners.push((m) => { if (!m.method) resolve(m); }));
  const answer = await within(10000, answered);
  client.listeners = [];
  if (!answer.error) refused.push([text.slice(0, 60), answer]);
}
// What Chromium does not read, and would answer without an id.
for (const params of ['['.repeat(100000) + ']'.repeat(100000), '{"a":'.repeat(300) + '1' + '}'.repeat(300), '{"x":1e999}',
  `[${'9'.repeat(400)}]`]) {
  const answered = new Promise((resolve) => client.listeners.push((m) => { if (m.id === 5) resolve(m); }));
  client.text(`{"id":5,"method":"Runtime.evaluate","sessionId":"${own}","params":${params}}`);
  const answer = await within(10000, answered); client.listeners = [];
  if (answer.error?.code !== -32602 || answer.sessionId !== own) refused.push([params.slice(0, 60), answer]);
}
const odd = [];
for (const id of ['-1', '0', '9007199254740993', '9223372036854775807', '-9223372036854775808', '3', '3']) {
  const answered = new Promise((resolve) => client.listeners.push((m) => { if (!m.method) resolve(m); }));
  client.text(`{"id":${id},"method":"Browser.getVersion"}`);
  const answer = await within(10000, answered); client.listeners = [];
  odd.push(Boolean(answer.result));
}
const escaped = new Promise((resolve) => client.listeners.push((m) => { if (m.id === 77) resolve(m); }));
client.text('{"id":77,"method":"\\u0042rowser.crash"}');
JSON.stringify({ refused, odd: odd.every(Boolean), escaped: (await escaped).error.message,
  alive: await client.value('6 * 7', own) })"#;
    let said = attack(&session, code).await;
    assert_eq!(said["refused"], json!([]), "answered without an error");
    assert_eq!(said["odd"], true);
    assert_eq!(said["escaped"], "Browser.crash is not allowed here");
    assert_eq!(said["alive"], 42);
    serves(&session).await;
    session.stop().await;
}
