//! Files of the host: by URL, by input, by download.

use pagebox::grpc::v1::Language;
use serde_json::json;

use super::bare::Bare;
use super::inside::{alone, attack, serves};
use crate::arena::Ground;

pub(super) async fn by_url(_: &Ground) {
    let mut bare = Bare::start().await;
    let (path, secret) = bare.secret();
    let to = json!({ "url": format!("file://{path}") });
    bare.page("Page.navigate", to).await.unwrap();
    let shown = "new Promise((r) => setTimeout(() => r(document.body.innerText), 500))";
    assert_eq!(bare.value(shown).await, secret);

    let (_daemon, session) = alone("").await;
    let code = format!(
        r#"
const path = {path:?};
const client = await Cdp.connect(); const own = await client.page();
const refused = [];
for (const url of ['file://' + path, 'FILE://' + path, ' file://' + path, '\x01file://' + path, 'fi\nle://' + path,
  'f\ti\rle:' + path, 'file:/\t/' + path, 'file:\\\\' + path, 'file://localhost' + path, 'file:///tmp/..' + path,
  'file:///tmp/%2e%2e' + path, 'file:///workspace/.%2E' + path, 'file:///tmp\\..' + path, 'file:' + path.slice(1),
  'view-source:file://' + path, 'view-source:file:///proc/self/environ', 'filesystem:file://' + path,
  'chrome://version', 'chrome://crash', 'devtools://devtools/bundled/inspector.html', 'about:version',
  'chrome-error://chromewebdata/', 'ftp://a/b', 'jar:file://' + path, 'x'.repeat(1000) + ':y', 'file:///etc/passwd']) {{
  for (const [method, session] of [['Page.navigate', own], ['Target.createTarget', undefined],
    ['Network.loadNetworkResource', own]]) {{
    const frameId = client.target;
    const options = {{ disableCache: false, includeCredentials: false }};
    const answer = await client.ask(method, {{ url, frameId, options }}, session);
    if (typeof answer !== 'string') refused.push([method, url, answer]);
  }}
  const went = await page.goto(url).then(() => 'opened', () => 'refused');
  if (went !== 'refused') refused.push(['goto', url, page.url()]);
}}
// What a page does by itself: never the content, wherever it ends up.
require('fs').writeFileSync('/tmp/local.html', `<title>local</title><iframe src="file://${{path}}"></iframe>` +
  `<object data="file://${{path}}"></object><a id=a href="file://${{path}}">x</a>`);
const server = require('http').createServer((request, response) => {{
  if (request.url === '/to') response.writeHead(302, {{ location: 'file://' + path }}).end();
  else response.writeHead(200, {{ 'content-type': 'text/html' }})
    .end(`<meta http-equiv=refresh content="0;url=file://${{path}}">`);
}});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const base = 'http://localhost:' + server.address().port;
const shown = [];
const look = async () => {{
  await pause(300);
  for (const p of context.pages()) for (const frame of p.frames())
    shown.push(await within(5000, frame.evaluate(() => document.documentElement.innerText).catch(() => '')));
}};
for (const begin of [
  () => page.goto(base + '/to'), () => page.goto(base + '/refresh'), () => page.goto('file:///tmp/local.html'),
  () => page.click('#a'), () => page.goto('file:///tmp/local.html'),
  () => page.evaluate((path) => {{ location = 'file://' + path }}, path),
  () => page.goto('file:///tmp/local.html'), () => page.evaluate((path) => window.open('file://' + path), path),
  () => page.evaluate((path) => fetch('file://' + path).then((r) => r.text()), path).then((t) => shown.push(t)),
  () => page.setContent(`<iframe src="file://${{path}}"></iframe><script src="file://${{path}}"></script>`),
]) {{ await within(8000, begin().catch(() => '')); await look(); }}
// A request answered or sent on by the client.
await client.ask('Fetch.enable', {{}}, own);
const turned = [];
for (const how of ['Fetch.fulfillRequest', 'Fetch.continueRequest']) {{
  client.events = [];
  client.send('Page.navigate', {{ url: base + '/' + how }}, own);
  const paused = await within(10000, client.event('Fetch.requestPaused'));
  const {{ requestId }} = paused.params;
  const params = how === 'Fetch.fulfillRequest'
    ? {{ requestId, responseCode: 302, responseHeaders: [{{ name: 'location', value: 'file://' + path }}] }}
    : {{ requestId, url: 'file://' + path }};
  turned.push(await within(5000, client.ask(how, params, own)));
  await look();
}}
await client.ask('Fetch.disable', {{}}, own);
server.close();
for (const p of context.pages()) if (p !== page) await p.close();
JSON.stringify([refused, shown.length > 10, shown.filter((text) => String(text).includes({secret:?}))])"#
    );
    assert_eq!(attack(&session, &code).await, json!([[], true, []]));
    serves(&session).await;
    session.stop().await;
}

pub(super) async fn by_input(ground: &Ground) {
    let mut bare = Bare::start().await;
    let (path, secret) = bare.secret();
    bare.value("document.body.innerHTML = '<input type=file id=f>'; 1")
        .await;
    let node = "document.querySelector('#f')";
    let found = bare
        .page("Runtime.evaluate", json!({ "expression": node }))
        .await
        .unwrap();
    let params = json!({ "files": [path], "objectId": found["result"]["objectId"] });
    bare.page("DOM.setFileInputFiles", params).await.unwrap();
    assert_eq!(bare.value("f.files[0].text()").await, secret);

    let session = ground.blank().await;
    let code = format!(
        r#"
const fs = require('fs'); const path = {path:?};
fs.writeFileSync('/tmp/honest.txt', 'honest'); fs.symlinkSync(path, '/tmp/link'); fs.symlinkSync('/etc/shadow', '/tmp/shadow');
fs.symlinkSync('/proc/self/environ', '/tmp/environ');
const client = await Cdp.connect(); const own = await client.page();
await client.value(`document.body.innerHTML = '<input type=file id=f multiple>'; 1`, own);
const {{ result }} = await client.ask('Runtime.evaluate', {{ expression: `document.querySelector('#f')` }}, own);
const put = (file) => client.ask('DOM.setFileInputFiles', {{ files: [file], objectId: result.objectId }}, own);
const passed = [];
for (const file of [path, '/etc/passwd', '/tmp/../etc/passwd', '/workspace/../../etc/passwd', 'etc/passwd', './x',
  '/proc/self/environ', '/browser/profile', '/tmpx', '//etc/passwd', '/tmp/a\0/etc/passwd', '', '~/x']) {{
  if (typeof await put(file) !== 'string') passed.push(file);
  const data = {{ items: [], files: [file], dragOperationsMask: 1 }};
  const drag = await client.ask('Input.dispatchDragEvent', {{ type: 'drop', x: 1, y: 1, data }}, own);
  if (typeof drag !== 'string') passed.push(['drag', file]);
}}
const read = async (file) => {{ await put(file);
  return within(5000, client.value(`f.files[0] ? f.files[0].text().catch((e) => e.name) : 'none'`, own)); }};
const links = [await read('/tmp/link'), await read('/tmp/shadow'), await read('/tmp/environ')];
JSON.stringify({{ honest: await read('/tmp/honest.txt'), passed,
  told: links.filter((text) => !['', 'NotReadableError', 'NotFoundError', 'none'].includes(text)) }})"#
    );
    let said = attack(&session, &code).await;
    assert_eq!(said["honest"], "honest");
    assert_eq!(said["passed"], json!([]));
    assert_eq!(said["told"], json!([]));
    // A FIFO is nothing to upload, and must not stop the browser.
    session.bash("mkfifo /tmp/fifo").await;
    let code = "
const client = await Cdp.connect(); const own = await client.page();
const { result } = await client.ask('Runtime.evaluate', { expression: `document.querySelector('#f')` }, own);
await client.ask('DOM.setFileInputFiles', { files: ['/tmp/fifo'], objectId: result.objectId }, own);
const read = within(3000, client.value(`f.files[0] ? f.files[0].text().catch((e) => e.name) : 'none'`, own));
JSON.stringify(typeof await read)";
    assert_eq!(attack(&session, code).await, "string");
    serves(&session).await;
    session.stop().await;
}

pub(super) async fn downloads(_: &Ground) {
    let mut bare = Bare::start().await;
    let directory = bare.directory.path().join("taken");
    let behavior = json!({ "behavior": "allow", "downloadPath": directory });
    bare.ask("Browser.setDownloadBehavior", behavior)
        .await
        .unwrap();
    let begin = "a = document.createElement('a'); a.href = 'data:application/x-y,z'; \
                 a.download = 'kept.bin'; a.click(); new Promise((r) => setTimeout(r, 1500))";
    bare.value(begin).await;
    assert_eq!(bare.files("taken"), ["kept.bin"]);
    let path = directory.display().to_string();

    let (_daemon, session) = alone("").await;
    let code = format!(
        r#"
const host = {path:?};
const names = ['../../x', '..', '.', '/etc/passwd', 'a\0b', 'n'.repeat(300) + '.txt', '\u202etxt.exe', 'CON', 'a\nb',
  '-rf', '$(id)', '.bashrc', 'x\r\nSet-Cookie: a=b', '\u0000', 'é'.repeat(200), 'a/../../b', '..\\..\\c', '%2e%2e%2fd'];
const server = require('http').createServer((request, response) => {{
  const head = {{ 'content-type': 'application/octet-stream' }};
  if (request.url === '/endless') {{
    response.writeHead(200, {{ ...head, 'content-disposition': 'attachment; filename=endless.bin' }});
    const more = () => {{ while (!response.destroyed && response.write(Buffer.alloc(65536))); }};
    response.on('drain', more).on('error', () => {{}}); more();
  }} else {{
    const name = names[Number(request.url.slice(1))] ?? 'many.txt';
    const quoted = Buffer.from(name.replace(/["\r\n\0]/g, '_')).toString('latin1');
    response.writeHead(200, {{ ...head, 'content-disposition': `attachment; filename="${{quoted}}"` }}).end('content');
  }}
}});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const base = 'http://localhost:' + server.address().port;
const client = await Cdp.connect(); const own = await client.page();
const behave = (downloadPath) => client.ask('Browser.setDownloadBehavior',
  {{ behavior: 'allow', downloadPath, eventsEnabled: true }});
const said = [await behave(host), await behave('/tmp/../etc'), await behave('/tmp/taken')];
const start = (url) => client.value(`new Promise((r) => {{ const f = document.createElement('iframe'); f.src = '${{url}}';
  document.body.append(f); setTimeout(r, 10) }})`, own);
await client.ask('Page.navigate', {{ url: base + '/blank' }}, own);
await pause(500);
const ended = () => client.events.filter((e) => e.method === 'Browser.downloadProgress' && e.params.state === 'completed').length;
for (let i = 0; i < names.length + 200; i++) await start(base + '/' + i);
// The first page, which is a download too, and all others.
for (let i = 0; i < 300 && ended() < names.length + 201; i++) await pause(100);
const done = ended();
// One that never ends is ended by its client, by the size of the scratch, or with the session.
await start(base + '/endless');
const endless = () => client.events.find((e) => e.method === 'Browser.downloadWillBegin' && e.params.url === base + '/endless');
for (let i = 0; i < 300 && !endless(); i++) await pause(100);
const begun = endless();
await pause(1500);
const cancel = await client.ask('Browser.cancelDownload', {{ guid: begun.params.guid }});
server.close();
const fs = require('fs');
for (let i = 0; i < 100 && fs.readdirSync('/tmp/taken').length > done; i++) await pause(100);
JSON.stringify({{ said, done, cancel, suggested: begun.params.suggestedFilename, found: fs.readdirSync('/tmp/taken').length,
  nested: fs.readdirSync('/tmp/taken', {{ withFileTypes: true }}).filter((e) => !e.isFile()).length,
  outside: fs.readdirSync('/workspace').concat(fs.readdirSync('/tmp').filter((n) => n !== 'taken' && !n.startsWith('.'))) }})"#
    );
    let said = attack(&session, &code).await;
    assert_eq!(said["said"], json!([{}, {}, {}]));
    assert!(said["done"].as_u64().unwrap() >= 210, "{said}");
    assert_eq!(said["found"], said["done"], "{said}");
    assert_eq!((&said["nested"], &said["cancel"]), (&json!(0), &json!({})));
    assert_eq!(said["suggested"], "endless.bin");
    assert_eq!(
        bare.files("taken"),
        ["kept.bin"],
        "something was written on the host"
    );
    let listed = session
        .exec(Language::Bash, "ls -A /workspace | wc -l")
        .await;
    assert_eq!(listed.stdout.trim(), "0");
    serves(&session).await;
    session.stop().await;
}
