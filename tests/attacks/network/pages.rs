//! A hostile page.

use super::{log, only_allowed};
use crate::arena::Ground;

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
    let code = format!(
        "const sent = await page.evaluate({WAYS}, {});
         await page.waitForTimeout(3000);
         for (const tab of context.pages().slice(1)) await tab.close();
         sent",
        serde_json::to_string(&closed).unwrap()
    );
    assert_eq!(session.node(&code).await, "sent");
    let seen = log(&session).await;
    only_allowed(&session, site).await;
    for host in [
        "10.0.0.5",
        "169.254.169.254",
        "[fd00::5]",
        "192.168.1.5",
        "93.184.216.34",
        "localhost",
    ] {
        assert!(
            seen.iter().any(|request| request.host == host),
            "nothing was sent to {host}"
        );
    }
    // The pair: the same ways lead to the open site.
    let open = ground.site().url("/status/200");
    let before = seen
        .iter()
        .map(|request| request.id)
        .max()
        .unwrap_or_default();
    let code = format!(
        "await page.goto('{0}'); await page.evaluate({WAYS}, ['{open}']); await page.waitForTimeout(1000)",
        ground.site().url("/about.html")
    );
    session.good(pagebox::grpc::v1::Language::Node, &code).await;
    let later = log(&session).await;
    let open = later
        .iter()
        .filter(|request| request.id > before && request.port == u32::from(site));
    assert!(open.count() > 10, "{later:?}");
    session.stop().await;
}
