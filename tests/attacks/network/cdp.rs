//! The CDP endpoint as a server that pages and code can reach.

use super::{BY_HAND, table};
use crate::arena::Ground;

pub(super) async fn contexts(ground: &Ground) {
    let session = ground.blank().await;
    let url = ground.site().url("/about.html");
    let code = format!(
        "const said = {{}};
         const cdp = await browser.newBrowserCDPSession();
         const make = async (name, parameters) => {{
           said[name] = await cdp.send('Target.createBrowserContext', parameters)
             .then(() => 'made', (e) => e.message);
         }};
         await make('socks', {{ proxyServer: 'socks5://127.0.0.1:3128' }});
         await make('direct', {{ proxyServer: 'direct://' }});
         await make('list', {{ proxyServer: 'http=10.0.0.5:1;https=direct://' }});
         await make('pac', {{ proxyServer: 'pac+http://localhost/proxy.pac' }});
         await make('bypass', {{ proxyBypassList: '*' }});
         await make('loopback', {{ proxyBypassList: '<-loopback>' }});
         for (const server of ['http://10.0.0.5:1', 'socks5://127.0.0.1:9222', 'direct://'])
           said[server] = await browser.newContext({{ proxy: {{ server, bypass: '*' }} }})
             .then(() => 'made', (e) => e.message);
         const plain = await browser.newContext();
         const tab = await plain.newPage();
         said.plain = String((await tab.goto('{url}')).status());
         said.refused = String((await tab.goto('http://10.0.0.5/')).status());
         await plain.close();
         said"
    );
    let mut said = table(&session.node(&code).await);
    assert_eq!(said.remove("plain").as_deref(), Some("200"));
    assert_eq!(said.remove("refused").as_deref(), Some("403"));
    assert_eq!(said.len(), 9);
    for (name, seen) in said {
        assert!(
            seen.contains("a browser context cannot have a proxy of its own here"),
            "{name}: {seen}"
        );
    }
    session.stop().await;
}

pub(super) async fn endpoint(ground: &Ground) {
    let session = ground.open("/about.html").await;
    let script = format!(
        "{BY_HAND}
upgrade = 'Connection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n'
def request(line, fields='Host: 127.0.0.1:9222\\r\\n'): return f'{{line}} HTTP/1.1\\r\\n{{fields}}\\r\\n'.encode()
host = 'Host: 127.0.0.1:9222\\r\\n'
socket_path = 'GET /devtools/browser/x'
words = {{
    '200 version': request('GET /json/version'), '200 list': request('GET /json/list/'),
    '200 localhost': request('GET /json', 'Host: LOCALHOST\\r\\n'), '200 ipv6': request('GET /json', 'Host: [::1]:9222\\r\\n'),
    '101 socket': request(socket_path, host + upgrade), '101 page': request('GET /devtools/page/nowhere', host + upgrade),
    '403 origin': request('GET /json/version', host + 'Origin: http://localhost:9222\\r\\n'),
    '403 null': request('GET /json/version', host + 'Origin: null\\r\\n'),
    '403 socket origin': request(socket_path, host + upgrade + 'Origin: devtools://devtools\\r\\n'),
    '403 empty origin': request(socket_path, host + upgrade + 'Origin: \\r\\n'),
    '403 rebound': request(socket_path, 'Host: evil.example\\r\\n' + upgrade),
    '403 below': request('GET /json', 'Host: localhost.evil.example\\r\\n'),
    '403 nip': request('GET /json', 'Host: 127.0.0.1.nip.io:9222\\r\\n'),
    '403 other': request('GET /json', 'Host: 10.0.0.5:9222\\r\\n'),
    '403 none': request('GET /json', ''), '403 empty': request('GET /json', 'Host: \\r\\n'),
    '404 new': request('GET /json/new?http://10.0.0.5/'), '404 close': request('GET /json/close/x'),
    '404 activate': request('GET /json/activate/x'), '404 protocol': request('GET /json/protocol'),
    '404 inspector': request('GET /devtools/inspector.html'), '404 root': request('GET /'),
    '404 up': request('GET /json/../../etc/passwd'), '404 worker': request('GET /devtools/worker/x', host + upgrade),
    '405 put': request('PUT /json/new?about:blank'), '405 post': request('POST /json/version', host + 'Content-Length: 0\\r\\n'),
    '405 delete': request('DELETE /json/list'), '405 options': request('OPTIONS /json/version'), '405 trace': request('TRACE /json'),
    '426 plain': request(socket_path), '400 no key': request(socket_path, host + 'Connection: Upgrade\\r\\nUpgrade: websocket\\r\\n'),
    '400 version': request(socket_path, host + upgrade.replace('13', '8')),
    '400 noise': b'\\x00\\x01\\x02\\r\\n\\r\\n', '431 fields': request('GET /json', host + 'A: b\\r\\n' * 500),
}}
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    data = pool.map(lambda request: ask(request, port=9222, wait=2), words.values())
    said = {{name: statuses(d) for name, d in zip(words, data)}}
json.dumps(said)"
    );
    for (name, seen) in table(&session.python(&script).await) {
        assert_eq!(Some(&*seen), name.split(' ').next(), "{name}");
    }
    // The page: neither by its own loopback nor by the proxy.
    let code = "await page.evaluate(() => Promise.all(
          ['ws://localhost:9222/devtools/browser/x', 'ws://127.0.0.1:9222/devtools/browser/x', 'ws://[::1]:9222/',
           'http://localhost:9222/json/version', 'http://127.0.0.1:9222/json/new', 'http://localhost:3128/']
          .map((url) => url.startsWith('ws')
            ? new Promise((end) => { const s = new WebSocket(url); s.onopen = () => end('open'); s.onerror = () => end('error'); })
            : fetch(url).then(() => 'read', () => 'error'))))";
    assert_eq!(
        session.node(code).await,
        r#"["error","error","error","error","error","error"]"#
    );
    assert_eq!(
        session.node("await page.title()").await,
        session.python("await page.title()").await
    );
    session.stop().await;
}
