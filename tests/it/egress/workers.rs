//! Ways out that only pages of secure origins have. The session's own localhost is such an origin.

use super::world::{nothing_closed_was_reached, world};
use crate::internet::{PUBLIC_V4, PUBLIC_V6};

/// A site on the session's localhost whose service worker fetches what it is told to.
const SITE: &str = "
import http.server, threading
WORKER = b'''
self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (e) => e.waitUntil(clients.claim()));
self.addEventListener('message', (e) => e.waitUntil(
  Promise.allSettled(e.data.map((url) => fetch(url, { mode: 'no-cors' })))
    .then((ends) => e.source.postMessage(ends.map((end) => end.status)))));
'''
class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        is_worker = self.path == '/worker.js'
        body = WORKER if is_worker else b'<title>own</title>'
        self.send_response(200)
        self.send_header('Content-Type', 'text/javascript' if is_worker else 'text/html')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 8399), Site)
threading.Thread(target=server.serve_forever, daemon=True).start()
'up'";

#[tokio::test]
async fn workers_reach_what_their_page_reaches_and_nothing_else() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    assert_eq!(session.python(SITE).await, "up");
    let closed = [
        "http://10.0.0.5",
        "https://10.0.0.5",
        "http://169.254.169.254",
        "http://[fd00::5]",
        "http://private.example",
        "http://host.example",
        "http://other.example:8080",
        "http://127.0.0.1:80",
        "http://localhost:9222",
    ];
    for (worker, code) in [
        (
            "service",
            "await navigator.serviceWorker.register('/worker.js');
             const worker = (await navigator.serviceWorker.ready).active;
             return new Promise((done) => {
               navigator.serviceWorker.onmessage = (e) => done(e.data);
               worker.postMessage(urls);
             });",
        ),
        (
            "shared",
            "const code = `onconnect = (e) => { const port = e.ports[0]; port.onmessage = (m) =>
               Promise.allSettled(m.data.map((url) => fetch(url, { mode: 'no-cors' })))
                 .then((ends) => port.postMessage(ends.map((end) => end.status))) }`;
             const { port } = new SharedWorker(URL.createObjectURL(new Blob([code])));
             return new Promise((done) => {
               port.onmessage = (e) => done(e.data);
               port.postMessage(urls);
             });",
        ),
    ] {
        let ask = |urls: Vec<String>| {
            let urls = serde_json::to_string(&urls).unwrap();
            format!(
                "await page.goto('http://localhost:8399/');
                 (await page.evaluate(async (urls) => {{ {code} }}, {urls})).join()"
            )
        };
        let open = vec![format!("http://other.example/pixel.gif?open-{worker}")];
        assert_eq!(session.node(&ask(open)).await, "fulfilled", "{worker}");
        let arrived = world.sites().of_request(&format!("open-{worker}"));
        assert_eq!(arrived.len(), 1, "{worker}");
        let urls = closed.map(|origin| format!("{origin}/closed-{worker}"));
        // A refusal over http is an answer to `no-cors` like any other: what counts is what arrived.
        session.node(&ask(urls.into())).await;
        let arrived = world.sites().of_request(&format!("closed-{worker}"));
        assert!(arrived.is_empty(), "{worker}: {arrived:?}");
    }
    session.stop().await;
    nothing_closed_was_reached(world);
}

/// It speaks QUIC only, which no proxy carries: not a datagram leaves.
#[tokio::test]
async fn web_transport_connects_nowhere() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    assert_eq!(session.python(SITE).await, "up");
    let code = format!(
        "await page.goto('http://localhost:8399/');
         (await page.evaluate(() => Promise.all(
           ['{PUBLIC_V4}', '[{PUBLIC_V6}]', 'public.example', '10.0.0.5', '127.0.0.1:8399'].map((host) => {{
             const transport = new WebTransport(`https://${{host}}/transport`);
             transport.closed.catch(() => {{}});
             return transport.ready.then(() => 'open', () => 'failed');
           }})))).join()"
    );
    assert_eq!(
        session.node(&code).await,
        "failed,failed,failed,failed,failed"
    );
    session.stop().await;
    nothing_closed_was_reached(world);
}
