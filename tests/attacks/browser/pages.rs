//! Hostile pages: what a browser shows, and what then becomes of its session.

use std::time::{Duration, Instant};

use pagebox::grpc::v1::{EndReason, Language, Outcome, Session, SessionState};
use serde_json::json;

use super::inside::{alone, attack, serves};
use crate::arena::Ground;
use crate::client::{OpenSession, describe};

/// For a page that is given its way for a while.
const A_WHILE: Duration = Duration::from_secs(3);

/// Longer than a session takes to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// The session, not on its way from one state to the next.
async fn settled(session: &OpenSession) -> Session {
    let began = Instant::now();
    loop {
        let now = session.now().await;
        if now.state() != SessionState::Stopping {
            return now;
        }
        assert!(began.elapsed() < PATIENCE, "{now:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The session ends because its browser died.
pub(super) async fn ends_by_name(session: &OpenSession, what: &str) {
    let began = Instant::now();
    loop {
        let now = settled(session).await;
        if now.state() != SessionState::Ready {
            return named(&now, what);
        }
        assert!(began.elapsed() < PATIENCE, "it goes on after {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn named(ended: &Session, what: &str) {
    assert_eq!(
        ended.end_reason(),
        EndReason::BrowserCrashed,
        "{what}: {ended:?}"
    );
    assert_ne!(ended.end_detail, "", "{what}");
}

/// The session serves again within a few executions; or its browser died, and it says so.
pub(super) async fn lives_or_names_its_end(session: &OpenSession, what: &str) {
    let code = "await page.goto('about:blank'); await page.evaluate('6 * 7')";
    lives_by(session, what, code).await;
}

async fn lives_by(session: &OpenSession, what: &str, code: &str) {
    for _ in 0..6 {
        let now = settled(session).await;
        if now.state() != SessionState::Ready {
            return named(&now, what);
        }
        let options = session.options(Language::Node, code);
        match session.client().execute(options).await {
            Ok(reply) if reply.result.as_deref() == Some("42") => return,
            Ok(reply) => assert_ne!(
                reply.outcome(),
                Outcome::Unspecified,
                "{}",
                describe(&reply)
            ),
            // It ended meanwhile: looked at in the next round.
            Err(_) => {}
        }
    }
    panic!(
        "after {what} the session neither works nor has ended: {:?}",
        session.now().await
    );
}

pub(super) async fn memory(ground: &Ground) {
    let bombs = [
        (
            "arrays",
            "const b = []; for (;;) b.push(new Uint8Array(64 << 20).fill(1))",
        ),
        (
            "wasm",
            "const m = []; for (;;) { const w = new WebAssembly.Memory({ initial: 16384 }); \
             new Uint8Array(w.buffer).fill(1); m.push(w) }",
        ),
        (
            "frames",
            "for (let i = 0; i < 1e6; i++) document.body.append(document.createElement('iframe'))",
        ),
        (
            "nodes",
            "for (let i = 0, at = document.body; i < 1e7; i++) at = at.appendChild(document.createElement('div'))",
        ),
    ];
    drop_all(ground, &bombs).await;
}

pub(super) async fn processor(ground: &Ground) {
    let bombs = [
        (
            "workers",
            "for (let i = 0; i < 64; i++) new Worker('data:text/javascript,for(;;);'); new Promise(() => {})",
        ),
        ("a regex", "/^(a+)+$/.test('a'.repeat(60) + 'b')"),
        (
            "a canvas",
            "const c = new OffscreenCanvas(16000, 16000); c.getContext('2d').fillRect(0, 0, 16000, 16000); \
             c.convertToBlob().then(() => { for (;;); })",
        ),
        (
            "nested styles",
            "document.body.innerHTML = '<style>' + Array.from({ length: 30 }, (_, i) => \
             `:root { --v${i + 1}: var(--v${i}) var(--v${i}) }`).join('') + ':root { --v0: x } p { content: var(--v30) }</style>' \
             + '<p>x</p>'.repeat(100000); getComputedStyle(document.querySelector('p')).content; for (;;);",
        ),
    ];
    drop_all(ground, &bombs).await;
}

/// One after the other in one session, or in the next where the browser died of one.
async fn drop_all(ground: &Ground, bombs: &[(&str, &str)]) {
    let mut session = ground.blank().await;
    for (what, script) in bombs {
        let code = format!("await page.evaluate({})", json!(script));
        let reply = session.exec_within(A_WHILE, Language::Node, &code).await;
        assert!(!reply.success, "{what}: {}", describe(&reply));
        lives_or_names_its_end(&session, what).await;
        if session.now().await.state() != SessionState::Ready {
            session.stop().await;
            session = ground.blank().await;
        }
    }
    session.stop().await;
}

pub(super) async fn left_behind(ground: &Ground) {
    let session = ground.open("/").await;
    let code = "
const said = [];
const settle = async () => { await pause(100);
  await page.goto('data:text/html,<title>t</title><p>x', { timeout: 10000 });
  return within(10000, page.evaluate(() => new Promise((r) => setTimeout(() => r(
    [typeof window.evil, navigator.userAgent.includes('evil'), document.title, innerWidth > 300]), 20))));
};
const honest = JSON.stringify(await settle());
for (const [method, params, needs] of [
  ['Page.setWebLifecycleState', { state: 'frozen' }],
  ['Emulation.setScriptExecutionDisabled', { value: true }],
  ['Emulation.setCPUThrottlingRate', { rate: 50 }],
  ['Emulation.setUserAgentOverride', { userAgent: 'evil' }],
  ['Emulation.setDeviceMetricsOverride', { width: 100, height: 100, deviceScaleFactor: 1, mobile: true }],
  ['Network.emulateNetworkConditions', { offline: true, latency: 0, downloadThroughput: 0, uploadThroughput: 0 }, 'Network'],
  ['Network.setBlockedURLs', { urls: ['*'] }, 'Network'],
  ['Fetch.enable', { patterns: [{ urlPattern: '*' }] }],
  ['Input.setIgnoreInputEvents', { ignore: true }],
  ['Page.addScriptToEvaluateOnNewDocument', { source: 'window.evil = 1' }, 'Page'],
  ['Debugger.setSkipAllPauses', { skip: true }, 'Debugger'],
  ['DOMDebugger.setEventListenerBreakpoint', { eventName: 'load' }, 'Debugger'],
  ['Page.setInterceptFileChooserDialog', { enabled: true }, 'Page'],
]) {
  const client = await Cdp.connect(); const own = await client.page();
  if (needs) await client.ask(needs + '.enable', {}, own);
  const answer = await client.ask(method, params, own);
  if (typeof answer === 'string') said.push([method, answer]);
  client.close(); await client.gone;
  const after = JSON.stringify(await settle().catch((error) => error.message.slice(0, 100)));
  if (after !== honest) said.push([method, after]);
}
JSON.stringify([honest, said])";
    let said = attack(&session, code).await;
    assert_eq!(said, json!([r#"["undefined",false,"t",true]"#, []]));
    serves(&session).await;
    session.stop().await;
}

pub(super) async fn dialogs(ground: &Ground) {
    let mut session = ground.open("/").await;
    // Each text goes to every client: what Chromium cannot hand on in time is its own memory.
    for (script, may_die) in [
        ("setInterval(() => alert('x'), 1)", false),
        (
            "addEventListener('beforeunload', (event) => { event.preventDefault(); event.returnValue = 'stay' }); \
             addEventListener('pagehide', () => alert('still here')); document.body.click()",
            false,
        ),
        (
            "setTimeout(() => { for (;;) { prompt('y'.repeat(10 << 20), 'z'.repeat(10 << 20)); confirm('c') } }, 1)",
            true,
        ),
    ] {
        let code = format!(
            "await page.evaluate({}); 'left'",
            json!(format!("{{ {script} }}; 1"))
        );
        let reply = session.exec_within(A_WHILE, Language::Node, &code).await;
        assert_ne!(reply.outcome(), Outcome::Unspecified, "{script}");
        if may_die {
            // Such a page never gets to a navigation; a new one does.
            let code = "const old = page; page = await context.newPage(); \
                        await old.close(); await page.evaluate('6 * 7')";
            lives_by(&session, script, code).await;
        } else {
            lives_or_names_its_end(&session, script).await;
        }
        if session.now().await.state() != SessionState::Ready {
            assert!(may_die, "{script}: {:?}", session.now().await);
            session.stop().await;
            session = ground.blank().await;
        }
    }
    serves(&session).await;
    session.stop().await;
}

pub(super) async fn names(ground: &Ground) {
    const MOST: usize = 32 << 10;
    let session = ground.open("/").await;
    let code = "await page.evaluate(() => { for (let i = 0; i < 2000; i++) document.title = i + 't'.repeat(100000); \
                document.title = 't'.repeat(10 << 20); \
                try { history.replaceState(0, 0, '#' + 'u'.repeat(10 << 20)) } catch {} }); 1";
    let reply = session.exec(Language::Node, code).await;
    assert!(reply.success, "{}", describe(&reply));
    assert!(reply.title.starts_with("tttt") && reply.title.len() <= 64 << 10);
    assert!(reply.url.len() <= MOST, "{}", reply.url.len());
    let now = session.now().await;
    assert!(
        prost::Message::encoded_len(&now) <= 3 * MOST,
        "{}",
        prost::Message::encoded_len(&now)
    );
    serves(&session).await;
    session.stop().await;
}

pub(super) async fn lies(ground: &Ground) {
    let session = ground.open("/").await;
    let code = "
const said = [];
const tries = async (name, work) => said.push([name,
  await within(3000, work().then((v) => typeof v, () => 'failed'))]);
await tries('cycle', () => page.evaluate('const a = []; a.push(a); window.a = a; a'));
await tries('getter', () => page.evaluate('({ get x() { throw new Error(\"no\") } })'));
await tries('deep', () => page.evaluate('let a = {}; const top = a; for (let i = 0; i < 1e5; i++) a = a.a = {}; top'));
await tries('proxy', () => page.evaluate('new Proxy({}, { ownKeys() { for (;;) ; } })'));
await page.goto('about:blank', { timeout: 1000 }).catch(() => {});
await tries('json', () => page.evaluate('({ toJSON() { return \"x\".repeat(1e6) } })'));
await tries('overrides', () => page.evaluate(() => {
  const liar = () => { throw new Error('no') };
  for (const name of ['Map', 'Set', 'WeakMap', 'Promise', 'MutationObserver', 'requestAnimationFrame', 'setTimeout', 'Date', 'Error'])
    try { globalThis[name] = liar } catch {}
  for (const proto of [Array.prototype, String.prototype, Object.prototype, Node.prototype, Document.prototype])
    for (const key of ['push', 'map', 'join', 'hasOwnProperty', 'toString', 'querySelector', 'querySelectorAll'])
      try { Object.defineProperty(proto, key, { get: liar, set() {} }) } catch {}
  Object.defineProperty(Object.prototype, 'toJSON', { get: () => () => ({ __proto__: null, v: 'undefined', id: -1 }), set() {} });
  return 1;
}));
await tries('afterwards', () => page.evaluate(() => 1));
await tries('locator', () => page.locator('body').innerText({ timeout: 2000 }));
JSON.stringify(said)";
    let said = attack(&session, code).await;
    for entry in said.as_array().unwrap() {
        let word = entry[1].as_str().unwrap();
        assert!(!word.is_empty(), "{said}");
    }
    assert_eq!(said.as_array().unwrap().len(), 8);
    serves(&session).await;
    session.stop().await;
}

pub(super) async fn decompression(_: &Ground) {
    let (_daemon, session) = alone("").await;
    let code = r#"
const zlib = require('zlib');
// Zeros beyond the browser's memory limit, in some hundred KiB: one member after the other.
const member = zlib.gzipSync(Buffer.alloc(64 << 20));
const brotli = zlib.brotliCompressSync(Buffer.alloc(64 << 20, 32));
const chunk = (type, data) => {
  const body = Buffer.concat([Buffer.from(type), data]); const out = Buffer.alloc(body.length + 8);
  out.writeUInt32BE(data.length, 0); body.copy(out, 4);
  let c = ~0; for (const b of body) { c ^= b; for (let k = 0; k < 8; k++) c = (c >>> 1) ^ (c & 1 && 0xedb88320); }
  out.writeUInt32BE(~c >>> 0, body.length + 4); return out;
};
const head = Buffer.alloc(13); head.writeUInt32BE(30000, 0); head.writeUInt32BE(30000, 4); head[8] = 1;
const png = Buffer.concat([Buffer.from('89504e470d0a1a0a', 'hex'), chunk('IHDR', head),
  chunk('IDAT', zlib.deflateSync(Buffer.alloc(3751 * 30000))), chunk('IEND', Buffer.alloc(0))]);
const entities = '<!DOCTYPE s [<!ENTITY a0 "' + 'x'.repeat(100) + '">' + Array.from({ length: 12 }, (_, i) =>
  `<!ENTITY a${i + 1} "${`&a${i};`.repeat(10)}">`).join('') + ']>';
const svg = entities + '<svg xmlns="http://www.w3.org/2000/svg"><text>&a12;</text></svg>';
const pages = {
  '/page': ['text/html', 'gzip', Buffer.concat(Array(32).fill(member))],
  '/script.js': ['text/javascript', 'gzip', Buffer.concat(Array(32).fill(member))],
  '/brotli': ['text/html', 'br', brotli],
  '/a.png': ['image/png', '', png], '/a.svg': ['image/svg+xml', '', Buffer.from(svg)],
  '/script': ['text/html', '', Buffer.from('<script src=/script.js></script>')],
  '/images': ['text/html', '', Buffer.from('<img src=/a.png><img src=/a.svg><div style="background:url(/a.png)">x')],
};
const server = require('http').createServer((request, response) => {
  const [type, encoding, body] = pages[request.url] || ['text/plain', '', Buffer.alloc(0)];
  response.writeHead(200, { 'content-type': type, ...(encoding ? { 'content-encoding': encoding } : {}) }).end(body);
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const base = 'http://localhost:' + server.address().port;
const said = [];
for (const path of ['/brotli', '/a.svg', '/images', '/a.png', '/script', '/page'])
  said.push(await within(6000, page.goto(base + path, { timeout: 5000 }).then(() => 'opened', () => 'failed')));
server.closeAllConnections(); server.close();
JSON.stringify(said)"#;
    let reply = super::inside::attempt(&session, code).await;
    assert!(
        reply.success || reply.outcome() == Outcome::BrowserCrashed,
        "{}",
        describe(&reply)
    );
    lives_or_names_its_end(&session, "bombs of compressed data").await;
    session.stop().await;
}

pub(super) async fn disk(ground: &Ground) {
    let session = ground.open("/").await;
    let code = "
const said = await within(60000, page.evaluate(async () => {
  const bytes = () => { const b = new Uint8Array(8 << 20); for (let i = 0; i < b.length; i += 65536)
    crypto.getRandomValues(b.subarray(i, i + 65536)); return b };
  const until = async (work) => { for (let i = 0; i < 100; i++) { try { await work(i) } catch (e) { return e.name } } return 'room' };
  const db = await new Promise((resolve) => { const open = indexedDB.open('d', 1);
    open.onupgradeneeded = () => open.result.createObjectStore('s'); open.onsuccess = () => resolve(open.result) });
  const indexed = await until((i) => new Promise((resolve, reject) => {
    const t = db.transaction('s', 'readwrite'); t.objectStore('s').put(bytes(), i);
    t.oncomplete = resolve; t.onerror = t.onabort = () => reject(t.error || { name: 'AbortError' }) }));
  const cache = await caches.open('c').then((c) => until((i) => c.put('/x' + i, new Response(bytes()))), (e) => e.name);
  const local = await until((i) => localStorage.setItem('k' + i, 'x'.repeat(1 << 20)));
  return [indexed, cache, local];
}).catch((error) => error.message.slice(0, 60)));
JSON.stringify(said)";
    let reply = super::inside::attempt(&session, code).await;
    assert!(
        reply.success || reply.outcome() == Outcome::BrowserCrashed,
        "{}",
        describe(&reply)
    );
    lives_or_names_its_end(&session, "a full disk").await;
    session.stop().await;
}
