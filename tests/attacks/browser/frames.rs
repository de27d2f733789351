//! The endpoint's lower layers: HTTP and WebSocket frames.

use serde_json::json;

use super::inside::{attack, serves};
use crate::arena::Ground;

pub(super) async fn frames(ground: &Ground) {
    let session = ground.blank().await;
    let code = r#"
const version = (id) => JSON.stringify({ id, method: 'Browser.getVersion' });
const other = await Cdp.connect(); const own = await other.page();
const answered = (client, id) => within(10000, new Promise((resolve) =>
  client.listeners.push((m) => { if (m.id === id) resolve(Boolean(m.result)); })));
const good = {};
{
  const client = await Cdp.connect(); const all = answered(client, 5);
  for (const [i, byte] of [...version(5)].entries())
    client.frame(i ? 0 : 1, byte, { fin: i === version(5).length - 1 });
  good.fragments = await all;
}
{ const client = await Cdp.connect(); const all = answered(client, 6); client.frame(2, version(6)); good.binary = await all; }
{
  const client = await Cdp.connect(); const all = answered(client, 7);
  for (let i = 0; i < 20000; i++) client.frame(9, 'x'.repeat(125));
  client.text(version(7)); good.pings = await all;
}
{
  const client = await Cdp.connect({}.x, { headers: ['Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits'] });
  const all = answered(client, 8); client.text(version(8)); good.extension = await all;
}
const ended = {};
const bad = async (name, send) => {
  const client = await Cdp.connect(); await send(client);
  ended[name] = await within(15000, client.gone);
};
await bad('compressed', (c) => c.frame(1, version(1), { rsv: 4 }));
await bad('unmasked', (c) => c.frame(1, version(1), { masked: false }));
await bad('opcode', (c) => c.frame(3, version(1)));
await bad('long ping', (c) => c.frame(9, 'x'.repeat(126)));
await bad('half ping', (c) => c.frame(9, 'x', { fin: false }));
await bad('utf8', (c) => c.frame(1, Buffer.from([0x22, 0xff, 0xfe, 0x22])));
await bad('2^62', (c) => c.frame(1, 'x', { length: 2 ** 62 }));
await bad('257 MiB', (c) => c.frame(1, 'x', { length: 257 << 20 }));
await bad('lone continuation', (c) => c.frame(0, version(1)));
await bad('two starts', (c) => { c.frame(1, '{', { fin: false }); c.frame(1, version(1)); });
await bad('close code', (c) => c.frame(8, Buffer.from([0, 1])));
await bad('close', (c) => c.frame(8, Buffer.from([3, 232])));
// Messages of which the rest never comes, and closes in the middle of everything.
const halves = [];
for (let i = 0; i < 30; i++) {
  const client = await Cdp.connect(); halves.push(client);
  client.frame(1, version(1).slice(0, 9), { length: 1000 });
  if (i % 3 === 0) client.socket.end();
  if (i % 3 === 1) client.socket.resetAndDestroy();
}
const value = await within(10000, other.value('6 * 7', own));
for (const half of halves) half.close();
for (let i = 0; i < 50; i++) { const c = await Cdp.connect(); c.send('Target.getTargets'); c.send('Browser.close'); c.frame(8, ''); c.text(version(1)); c.close(); }
JSON.stringify({ good: Object.entries(good).filter(([, v]) => v !== true), value,
  ended: Object.entries(ended).filter(([, v]) => v !== 'disconnected'), again: await within(10000, other.value('6 * 7', own)) })"#;
    let said = attack(&session, code).await;
    assert_eq!(
        said,
        json!({ "good": [], "value": 42, "ended": [], "again": 42 })
    );
    serves(&session).await;
    session.stop().await;
}

pub(super) async fn http(ground: &Ground) {
    let session = ground.open("/").await;
    let code = r#"
const net = require('net'); const url = new URL(process.env.CDP_URL);
const raw = (text, wait = 15000) => new Promise((resolve) => {
  const socket = net.connect(Number(url.port), url.hostname, () => socket.write(text));
  let head = ''; const done = () => resolve(Number(head.split(' ')[1] || 0));
  socket.on('data', (piece) => { head += piece.toString('latin1'); if (head.includes('\r\n\r\n')) { done(); socket.destroy(); } });
  socket.on('close', done).on('error', () => {}); setTimeout(() => resolve('open'), wait);
});
const ask = (method, path, host, ...more) =>
  raw([`${method} ${path} HTTP/1.1`, `Host: ${host}`, ...more, '', ''].join('\r\n'));
const upgrade = ['Upgrade: websocket', 'Connection: Upgrade', 'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: ' + Buffer.alloc(16).toString('base64')];
const own = url.host;
const said = {
  list: await ask('GET', '/json/list', own),
  upgrade: await ask('GET', '/devtools/browser/x', own, ...upgrade),
  origin: await ask('GET', '/json/list', own, 'Origin: http://localhost'),
  nullOrigin: await ask('GET', '/devtools/browser/x', own, 'Origin: null', ...upgrade),
  emptyOrigin: await ask('GET', '/devtools/browser/x', own, 'oRiGiN:', ...upgrade),
  host: await ask('GET', '/json/version', 'evil.example'),
  hostUser: await ask('GET', '/json/version', 'localhost@evil.example'),
  hostSuffix: await ask('GET', '/json/version', 'localhost.evil.example'),
  twoHosts: await ask('GET', '/json/version', 'evil.example', 'Host: localhost'),
  noHost: await raw('GET /json/version HTTP/1.1\r\n\r\n'),
  post: await ask('POST', '/json/version', own, 'Content-Length: 0'),
  newTab: await ask('PUT', '/json/new?file:///etc/passwd', own),
  close: await ask('GET', '/json/close/x', own),
  path: await ask('GET', '/devtools/inspector.html', own),
  noUpgrade: await ask('GET', '/devtools/browser/x', own),
  noKey: await ask('GET', '/devtools/browser/x', own, ...upgrade.slice(0, 3)),
  absolute: await ask('GET', 'http://evil.example/json/version', 'evil.example'),
  connect: await ask('CONNECT', 'evil.example:80', 'evil.example:80'),
  headers: await ask('GET', '/json/version', own, 'X: ' + 'y'.repeat(1 << 20)),
  manyHeaders: await ask('GET', '/json/version', own, ...Array(5000).fill('a: b')),
  split: await ask('GET', '/json/version', own, 'Content-Length: 5', 'Transfer-Encoding: chunked'),
  garbage: await raw('\x16\x03\x01\x02\x00\x01\x00\r\n\r\n'),
};
// Connections that send nothing, or a byte now and then, keep nobody else out.
const idle = Array.from({ length: 100 }, () => net.connect(Number(url.port), url.hostname).on('error', () => {}));
for (const socket of idle) socket.write('GET /json');
said.slow = await ask('GET', '/json/version', own);
for (const socket of idle) socket.destroy();
const browser = await page.evaluate(async (port) => {
  const tries = [];
  for (const host of ['127.0.0.1', 'localhost']) {
    tries.push(await fetch(`http://${host}:${port}/json/list`).then((r) => r.text(), () => 'refused'));
    tries.push(await new Promise((resolve) => { const socket = new WebSocket(`ws://${host}:${port}/devtools/browser/x`);
      socket.onopen = () => resolve('open'); socket.onerror = () => resolve('refused') }));
  }
  return tries;
}, url.port);
JSON.stringify([said, browser])"#;
    let said = attack(&session, code).await;
    let want = json!({
        "list": 200, "upgrade": 101, "origin": 403, "nullOrigin": 403, "emptyOrigin": 403,
        "host": 403, "hostUser": 403, "hostSuffix": 403, "twoHosts": 403, "noHost": 403,
        "post": 405, "newTab": 405, "close": 404, "path": 404, "noUpgrade": 426, "noKey": 400,
        "absolute": 403, "connect": 403, "headers": 431, "manyHeaders": 431, "split": 200,
        "garbage": 400, "slow": 200,
    });
    let all = ["refused"; 4];
    assert_eq!(said, json!([want, all]));
    serves(&session).await;
    session.stop().await;
}
