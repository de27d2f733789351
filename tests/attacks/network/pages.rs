//! A hostile page.

use std::time::{Duration, Instant};

use pagebox::grpc::v1::{Language, NetworkRequest};

use super::{log, only_allowed};
use crate::arena::Ground;
use crate::client::OpenSession;

/// Everything a page can send with, to each of `urls`.
const WAYS: &str = r#"
(urls) => Promise.all(urls.map(async (url) => {
  const at = (way) => `${url}/${way}`;
  const add = (tag, attributes) => document.body.append(Object.assign(document.createElement(tag), attributes));
  add('img', { src: at('img') });
  add('script', { src: at('script') });
  add('iframe', { src: at('iframe') });
  add('link', { rel: 'stylesheet', href: at('style') });
  add('link', { rel: 'prefetch', href: at('prefetch') });
  add('link', { rel: 'modulepreload', href: at('module') });
  add('link', { rel: 'preconnect', href: url });
  add('link', { rel: 'dns-prefetch', href: url });
  add('video', { src: at('video'), autoplay: true });
  add('audio', { src: at('audio'), autoplay: true });
  add('object', { data: at('object') });
  add('embed', { src: at('embed') });
  add('input', { type: 'image', src: at('input') });
  const frame = document.createElement('iframe');
  frame.name = 'f' + Math.random();
  document.body.append(frame);
  const form = Object.assign(document.createElement('form'), { method: 'post', action: at('form'), target: frame.name });
  document.body.append(form);
  form.submit();
  const link = Object.assign(document.createElement('a'), { href: '#x', ping: at('ping') });
  document.body.append(link);
  link.click();
  navigator.sendBeacon(at('beacon'), 'x');
  new EventSource(at('events'));
  new FontFace('x', `url(${at('font')})`).load().catch(() => {});
  try { new WebSocket(at('socket').replace('http', 'ws')); } catch {}
  fetch(at('fetch'), { mode: 'no-cors', method: 'POST', body: 'x', keepalive: true }).catch(() => {});
  fetch(at('cors'), { headers: { 'X-A': 'b' } }).catch(() => {});
  const xhr = new XMLHttpRequest(); xhr.open('PUT', at('xhr')); xhr.send('x');
  const code = `fetch(${JSON.stringify(at('worker'))}, { mode: 'no-cors' }).catch(() => {});
    try { importScripts(${JSON.stringify(at('import'))}) } catch {}`;
  new Worker(URL.createObjectURL(new Blob([code])));
  const shared = new SharedWorker(URL.createObjectURL(new Blob([code + ' //' + url])));
  shared.port.start();
  import(at('dynamic')).catch(() => {});
  document.body.style.backgroundImage = `url(${at('css')})`;
  window.open(at('open'));
})).then(() => 'sent')
"#;

pub(super) async fn ways(ground: &Ground) {
    let session = ground.open("/about.html").await;
    let (own, site) = (ground.daemon().address().port(), ground.site().port());
    let closed = [
        "http://10.0.0.5",
        "http://169.254.169.254",
        "http://[fd00::5]",
        "https://192.168.1.5",
        "http://93.184.216.34:6379",
        "http://2852039166",
        "http://localhost:9222",
        "http://localhost:3128",
        &format!("http://127.0.0.1:{own}"),
    ];
    let send = async |urls: &[&str]| {
        let urls = serde_json::to_string(urls).expect("strings");
        let code = format!("await page.evaluate({WAYS}, {urls})");
        assert_eq!(session.node(&code).await, "sent");
    };
    send(&closed).await;
    let hosts = [
        "10.0.0.5",
        "169.254.169.254",
        "[fd00::5]",
        "192.168.1.5",
        "93.184.216.34",
        "localhost",
    ];
    let seen = logged(&session, |log| {
        hosts
            .iter()
            .all(|host| log.iter().any(|request| request.host == *host))
    })
    .await;
    let before = seen.iter().map(|request| request.id).max();
    only_allowed(&session, site).await;
    // The pair: the same ways lead to the open site.
    let page = format!("await page.goto('{}')", ground.site().url("/about.html"));
    session.good(Language::Node, &page).await;
    send(&[&ground.site().url("/status/200")]).await;
    logged(&session, |log| {
        let open = |request: &&NetworkRequest| {
            Some(request.id) > before && request.port == u32::from(site)
        };
        log.iter().filter(open).count() > 10
    })
    .await;
    only_allowed(&session, site).await;
    session.stop().await;
}

/// The session's log, once it has what is waited for.
async fn logged(
    session: &OpenSession,
    is_there: impl Fn(&[NetworkRequest]) -> bool,
) -> Vec<NetworkRequest> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let seen = log(session).await;
        if is_there(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "{seen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
