//! More of everything than anybody needs.

use serde_json::json;

use super::inside::{attack, attempt, serves};
use crate::arena::Ground;

pub(super) async fn pauses(ground: &Ground) {
    let session = ground.open("/workers.html").await;
    let code = "
const pausing = { autoAttach: true, waitForDebuggerOnStart: true, flatten: true };
globalThis.holders = []; globalThis.debugging = false;
for (let i = 0; i < 8; i++) {
  const client = await Cdp.connect(); holders.push(client);
  await client.ask('Target.setAutoAttach', pausing);
  const own = await client.page();
  await client.ask('Target.setAutoAttach', pausing, own);
  client.listeners.push((m) => { if (m.method === 'Target.attachedToTarget') {
    client.send('Target.setAutoAttach', pausing, m.params.sessionId);
    if (!debugging) return;
    client.send('Debugger.enable', {}, m.params.sessionId);
    client.send('Debugger.pause', {}, m.params.sessionId);
  } });
}
const other = await context.newPage();
await other.goto('data:text/html,<title>went on</title>');
const title = await other.title();
await other.close();
JSON.stringify([title, holders.every((h) => !h.closed)])";
    assert_eq!(attack(&session, code).await, json!(["went on", true]));
    // They stay, with a page paused in the debugger, and another as soon as it is there.
    let pause = "
const client = holders[0]; const own = await client.page();
await client.ask('Debugger.enable', {}, own);
client.send('Runtime.evaluate', { expression: 'debugger; 1' }, own);
await within(10000, client.event('Debugger.paused'));
debugging = true;
context.newPage().catch(() => {});
await pause(1000);
JSON.stringify(client.closed)";
    assert_eq!(attack(&session, pause).await, json!(false));
    let gone = attempt(
        &session,
        "for (const holder of holders) holder.close(); '1'",
    )
    .await;
    assert!(gone.success);
    serves(&session).await;
    session.stop().await;
}

pub(super) async fn events(ground: &Ground) {
    let own = ground.own("[cdp]\nclient_queue = \"16 MiB\"\n");
    let session = own.blank().await;
    let code = "
const deaf = [await Cdp.connect(), await Cdp.connect()];
const reading = [await Cdp.connect(), await Cdp.connect()];
for (const client of [...deaf, ...reading]) await client.ask('Runtime.enable', {}, client.own = await client.page());
for (const client of deaf) client.socket.pause();
await reading[0].value(`const text = 'x'.repeat(65536); for (let i = 0; i < 500; i++) console.log(text); 1`, reading[0].own);
const alive = await within(60000, reading[1].value('6 * 7', reading[1].own));
for (const client of deaf) client.socket.resume();
const ends = await Promise.all(deaf.map((client) => within(60000, client.gone)));
JSON.stringify([alive, ends, reading.map((client) => client.closed)])";
    let said = attack(&session, code).await;
    assert_eq!(
        said,
        json!([42, ["disconnected", "disconnected"], [false, false]])
    );
    serves(&session).await;
    session.stop().await;
    own.end().await;
}

pub(super) async fn unanswered(ground: &Ground) {
    let session = ground.blank().await;
    let code = "
const other = await Cdp.connect(); const own = await other.page();
const flooding = [];
for (let i = 0; i < 3; i++) {
  const client = await Cdp.connect(); flooding.push(client);
  const id = await client.page();
  const one = (n) => JSON.stringify({ id: n % 5 ? n * 100003 : 7, method: 'Runtime.evaluate', sessionId: id,
    params: { expression: 'new Promise(() => {})', awaitPromise: true } });
  for (let n = 0; n < 20000; n++) client.text(one(n));
}
await pause(2000);
const value = await within(20000, other.value('6 * 7', own));
const held = flooding.map((client) => !client.closed && client.bad.length === 0);
for (const client of flooding) client.close();
JSON.stringify([value, held, await within(20000, other.value('6 * 7', own))])";
    let said = attack(&session, code).await;
    assert_eq!(said, json!([42, [true, true, true], 42]));
    serves(&session).await;
    session.stop().await;
}

pub(super) async fn clients(ground: &Ground) {
    let session = ground.blank().await;
    let code = "
const before = await Cdp.connect(); const own = await before.page();
const counts = [];
for (let round = 0; round < 2; round++) {
  const all = [];
  for (let i = 0; i < 200; i++) all.push(Cdp.connect());
  // Connections beyond twice the clients are not accepted until others have gone.
  const open = new Set(); const codes = new Set(); let done = 0;
  for (const connecting of all) connecting.then(async (client) => {
    client.gone.then(() => { done++; if (client.closeCode) codes.add(client.closeCode); open.delete(client); });
    if (client.closed) return;
    open.add(client);
    if (typeof await client.ask('Browser.getVersion') === 'object') client.served = true;
  });
  await pause(3000);
  const served = [...open].filter((client) => client.served).length;
  counts.push([served >= 32 && served <= 64, [...codes], await within(10000, before.value('6 * 7', own))]);
  for (const connecting of all) connecting.then((client) => client.close());
  await within(20000, Promise.all(all));
  await pause(500);
}
JSON.stringify(counts)";
    let said = attack(&session, code).await;
    let round = json!([true, [1013], 42]);
    assert_eq!(said, json!([round, round]));
    serves(&session).await;
    session.stop().await;
}

pub(super) async fn tabs(ground: &Ground) {
    let own = ground.own(&format!("[cdp]\nmax_pages = {MAX_PAGES}\n"));
    let session = own.blank().await;
    let code = "
const client = await Cdp.connect(); const own = await client.page();
const said = {};
for (let i = 0; i < TABS; i++) {
  const answer = await within(20000, client.ask('Target.createTarget', { url: 'about:blank' }));
  const word = typeof answer === 'string' ? answer : 'made';
  said[word] = (said[word] || 0) + 1;
}
const open = `Array.from({ length: POPUPS }, () => window.open('about:blank')).filter(Boolean).length`;
const opened = await within(60000, client.ask('Runtime.evaluate', { expression: open, userGesture: true }, own));
let left;
for (let i = 0; i < 300; i++) {
  const { targetInfos } = await client.ask('Target.getTargets');
  left = targetInfos.filter((t) => t.type === 'page').length;
  if (left <= LIMIT) break;
  await pause(100);
}
JSON.stringify([said, opened.result?.value ?? opened, left, await within(60000, client.value('6 * 7', own))])"
        .replace("TABS", &TABS.to_string())
        .replace("POPUPS", &POPUPS.to_string())
        .replace("LIMIT", &MAX_PAGES.to_string());
    let said = attack(&session, &code).await;
    let refusal =
        format!("{MAX_PAGES} pages are open in this browser (cdp.max_pages): close one first");
    // One is there before.
    let made = MAX_PAGES - 1;
    assert_eq!(
        said,
        json!([{ "made": made, refusal: TABS - made }, POPUPS, MAX_PAGES, 42])
    );
    serves(&session).await;
    session.stop().await;
    own.end().await;
}

/// `cdp.max_pages` of these, which is 50 by default: a machine may be slow.
const MAX_PAGES: usize = 20;
/// How many are asked for.
const TABS: usize = 40;
/// How many a page opens, of which none may stay.
const POPUPS: usize = 30;
