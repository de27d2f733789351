//! Mutations of real CDP traffic from inside the sandbox.

use serde_json::json;

use super::inside::attempt;
use super::pages::{ends_by_name, lives_or_names_its_end};
use crate::arena::Ground;
use crate::client::describe;

pub(super) async fn mutations(ground: &Ground) {
    let session = ground.open("/workbench.html").await;
    // A generator of numbers with a fixed seed: a failure comes again.
    let code = r#"
let seed = 0x7a6eb0f5;
const random = (below) => { seed ^= seed << 13; seed >>>= 0; seed ^= seed >>> 17; seed ^= seed << 5; seed >>>= 0; return seed % below; };
const any = (list) => list[random(list.length)];
// What Playwright and agent-browser say to a browser and to a page.
const corpus = [
  ['Browser.getVersion', {}], ['Target.setAutoAttach', { autoAttach: true, waitForDebuggerOnStart: true, flatten: true }],
  ['Target.setDiscoverTargets', { discover: true }], ['Target.getTargets', {}], ['Target.getTargetInfo', {}],
  ['Target.createBrowserContext', { disposeOnDetach: true }], ['Target.createTarget', { url: 'about:blank' }],
  ['Target.attachToTarget', { targetId: 'T', flatten: true }], ['Target.detachFromTarget', { sessionId: 'S' }],
  ['Browser.setDownloadBehavior', { behavior: 'allowAndName', downloadPath: '/tmp/d', eventsEnabled: true }],
  ['Page.enable', {}], ['Page.getFrameTree', {}], ['Page.setLifecycleEventsEnabled', { enabled: true }],
  ['Page.addScriptToEvaluateOnNewDocument', { source: '', worldName: 'w' }], ['Page.createIsolatedWorld', { frameId: 'T', worldName: 'w' }],
  ['Page.navigate', { url: 'data:text/html,x', frameId: 'T' }], ['Page.reload', {}], ['Page.stopLoading', {}], ['Page.bringToFront', {}],
  ['Page.captureScreenshot', { format: 'png', clip: { x: 0, y: 0, width: 10, height: 10, scale: 1 } }],
  ['Page.handleJavaScriptDialog', { accept: true }], ['Page.startScreencast', { format: 'jpeg' }], ['Page.printToPDF', {}],
  ['Runtime.enable', {}], ['Runtime.evaluate', { expression: '1', returnByValue: true }], ['Runtime.runIfWaitingForDebugger', {}],
  ['Runtime.callFunctionOn', { functionDeclaration: '() => 1', executionContextId: 1, arguments: [{ value: 1 }], awaitPromise: true }],
  ['Runtime.getProperties', { objectId: '1.1.1' }], ['Runtime.releaseObject', { objectId: '1.1.1' }],
  ['Log.enable', {}], ['Network.enable', { maxPostDataSize: 65536 }], ['Network.setCacheDisabled', { cacheDisabled: true }],
  ['Fetch.enable', { patterns: [{ urlPattern: '*' }], handleAuthRequests: true }], ['Fetch.continueRequest', { requestId: 'R' }], ['Fetch.disable', {}],
  ['Emulation.setDeviceMetricsOverride', { width: 800, height: 600, deviceScaleFactor: 1, mobile: false }],
  ['Emulation.setFocusEmulationEnabled', { enabled: true }], ['Input.dispatchMouseEvent', { type: 'mousePressed', x: 1, y: 1, button: 'left' }],
  ['Input.dispatchKeyEvent', { type: 'keyDown', key: 'a' }], ['Input.insertText', { text: 'x' }],
  ['DOM.getDocument', { depth: -1 }], ['DOM.setFileInputFiles', { files: ['/tmp/x'], nodeId: 1 }], ['DOM.resolveNode', { backendNodeId: 1 }],
  ['Accessibility.getFullAXTree', {}], ['IO.read', { handle: '1' }], ['IO.close', { handle: '1' }],
  ['Tracing.start', { traceConfig: {} }], ['Tracing.end', {}], ['Storage.getCookies', {}], ['Performance.getMetrics', {}],
];
const odd = [null, true, -1, 0, 1.5, 2 ** 53, 1e308, '', 'x'.repeat(5000), '\ud800', '\0', [], [[]], {}, { a: { a: {} } },
  'file:///etc/passwd', '../../x', 'T', 'S', 'about:blank', '\u202e'];
const mutate = (value, depth = 0) => {
  if (random(6) === 0) return any(odd);
  if (Array.isArray(value)) return random(3) ? value.map((v) => mutate(v, depth + 1)) : [...value, ...value, any(odd)];
  if (value && typeof value === 'object') {
    const copy = {};
    for (const [key, v] of Object.entries(value)) {
      if (random(12) === 0) continue;
      copy[random(15) ? key : any(['__proto__x', key.toUpperCase(), key + '\0', any(odd) + ''])] = random(2) ? mutate(v, depth + 1) : v;
    }
    if (random(10) === 0) copy[any(['sessionId', 'id', 'method', 'params', 'url', 'flatten'])] = any(odd);
    return copy;
  }
  return value;
};
const bend = (text) => {
  switch (random(12)) {
    case 0: return text.slice(0, random(text.length + 1));
    case 1: { const at = random(text.length); return text.slice(0, at) + any(['"', '\\', '{', '}', '\0', ',', '\u2028', '"id":1,']) + text.slice(at); }
    case 2: return text + text;
    case 3: return text.replace('"method"', '"\\u006dethod"');
    default: return text;
  }
};
const honest = await Cdp.connect(); const own = await honest.page();
let clients = []; let sent = 0; let connected = 0;
const fresh = async () => {
  const client = await Cdp.connect(any(['/devtools/browser/f', '/devtools/browser/', '/devtools/page/' + honest.target]));
  connected++; client.message = (body) => { client.seen = (client.seen || 0) + 1;
    const found = /"sessionId":"([0-9A-F]+)"/.exec(body.subarray(0, 4096).toString()); if (found) (client.sessions ||= []).push(found[1]); };
  return client;
};
const until = Date.now() + 10000;
while (Date.now() < until) {
  clients = clients.filter((client) => !client.closed);
  while (clients.length < 4) clients.push(await fresh());
  const client = any(clients);
  const [method, params] = any(corpus);
  let text = JSON.stringify({ id: random(50), method, params: mutate(params),
    ...(random(3) ? { sessionId: random(8) ? any(client.sessions || ['S']) : any(odd) } : {}) });
  text = text.replaceAll('"T"', JSON.stringify(honest.target));
  if (random(4) === 0) text = bend(text);
  if (random(400) === 0) client.frame(random(16), text, { rsv: random(8), fin: random(2) === 0 });
  else if (text.length) client.text(text);
  if (random(300) === 0) client.close();
  if (++sent % 50 === 0) await pause(5);
}
for (const client of clients) client.close();
const again = await Cdp.connect();
const version = await within(20000, again.ask('Browser.getVersion'));
JSON.stringify([sent > 500, connected > 4, Boolean(version.product), honest.closed])"#;
    let reply = attempt(&session, code).await;
    let said = reply.result.as_deref().unwrap_or_default();
    // The page it was on may have been closed by what was sent; the hub keeps its client. Only a
    // browser that died of it takes its clients along (SECURITY.md).
    if serde_json::from_str(said).ok() == Some(json!([true, true, true, false])) {
        lives_or_names_its_end(&session, "mutations").await;
    } else {
        ends_by_name(&session, &describe(&reply)).await;
    }
    session.stop().await;
}
