//! The clients a session has, each asked to open URLs and to say in one line what came of it:
//! `200`, `403 RULE` where it can see the rule, `failed …` where it saw no HTTP answer.

use std::time::Duration;

use pagebox::grpc::v1::Language;

use crate::client::{OpenSession, describe};

/// Outcome of one URL.
pub(super) type Line = String;

/// Whether this is a refusal, by `rule` as far as the client could tell.
pub(super) fn is_refused(line: &str, rule: &str) -> bool {
    line == format!("403 {rule}") || line == "403" || line == "failed: refused"
}

/// Longest time for a whole list of URLs: what each may take adds up.
const TIMEOUT: Duration = Duration::from_secs(110);

/// Runs code that must succeed; its result, or what it printed.
async fn run(session: &OpenSession, language: Language, code: &str) -> String {
    let reply = session.exec_within(TIMEOUT, language, code).await;
    assert!(reply.success, "{code}\n{}", describe(&reply));
    reply.result.unwrap_or(reply.stdout)
}

fn json(urls: &[&str]) -> String {
    serde_json::to_string(urls).unwrap()
}

fn lines(text: &str, urls: &[&str]) -> Vec<Line> {
    let lines: Vec<Line> = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(lines.len(), urls.len());
    lines
}

/// `page.goto`, in a new tab. Certificates of the tests' authority pass.
pub(super) async fn goto(session: &OpenSession, urls: &[&str]) -> Vec<Line> {
    let code = format!(
        "const said = [];
         for (const url of {}) {{
           // One page each: the error page of the last would get in the way of the next.
           const tab = await context.newPage();
           const cdp = await context.newCDPSession(tab);
           await cdp.send('Security.setIgnoreCertificateErrors', {{ ignore: true }});
           said.push(await tab.goto(url, {{ timeout: 60000 }}).then(
             (r) => [r.status(), r.headers()['x-pagebox-egress']].filter((x) => x).join(' '),
             (e) => 'failed: ' + (/ERR_TUNNEL_CONNECTION_FAILED/.test(e) ? 'refused' : e),
           ));
           await tab.close();
         }}
         JSON.stringify(said)",
        json(urls)
    );
    lines(&run(session, Language::Node, &code).await, urls)
}

/// Node's `fetch`, redirects followed.
pub(super) async fn node_fetch(session: &OpenSession, urls: &[&str]) -> Vec<Line> {
    let code = format!(
        "process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
         process.removeAllListeners('warning');
         JSON.stringify(await Promise.all({}.map((url) => fetch(url).then(
           (r) => [r.status, r.headers.get('x-pagebox-egress')].filter((x) => x).join(' '),
           (e) => {{
             const why = String(e.cause?.message ?? e.message);
             const refused = / 403 Forbidden: (.*)/.exec(why);
             return refused ? '403 ' + refused[1] : 'failed: ' + why;
           }}))))",
        json(urls)
    );
    lines(&run(session, Language::Node, &code).await, urls)
}

/// Python's `urllib`, redirects followed. It cannot open https at an IPv6 address through any proxy:
/// Debian's Python writes no brackets in its CONNECT. Such URLs are asked for without encryption.
pub(super) async fn urllib(session: &OpenSession, urls: &[&str]) -> Vec<Line> {
    let plain = |url: &&str| url.replace("https://[", "http://[");
    let plain: Vec<String> = urls.iter().map(plain).collect();
    let urls: &[&str] = &plain.iter().map(String::as_str).collect::<Vec<_>>();
    let code = format!(
        "import json, ssl, urllib.request, urllib.error
def one(url):
    try:
        with urllib.request.urlopen(url, timeout=60, context=ssl._create_unverified_context()) as r:
            return str(r.status)
    except urllib.error.HTTPError as e:
        return ' '.join(filter(None, [str(e.code), e.headers.get('x-pagebox-egress')]))
    except Exception as e:
        return '403' if 'Tunnel connection failed: 403' in str(e) else 'failed: ' + str(e)
json.dumps([one(url) for url in {}])",
        json(urls)
    );
    lines(&run(session, Language::Python, &code).await, urls)
}

/// `curl -L`.
pub(super) async fn curl(session: &OpenSession, urls: &[&str]) -> Vec<Line> {
    // The answer to a CONNECT counts where there is no other.
    let code = format!(
        r#"python3 - <<'END'
import json, subprocess
def one(url):
    done = subprocess.run(
        ["curl", "-skL", "-m", "60", "-g", "-D", "-", "-o", "/dev/null", "-w", "end %{{http_code}} %{{http_connect}}", url],
        capture_output=True, text=True)
    head, _, codes = done.stdout.rpartition("end ")
    http, connect = codes.split()
    code = http if http != "000" else connect
    last = head.strip().replace("\r", "").split("\n\n")[-1]
    rule = [l.split(": ", 1)[1] for l in last.splitlines() if l.lower().startswith("x-pagebox-egress: ")]
    return " ".join([code, *rule]) if code != "000" else "failed: curl %d" % done.returncode
print(json.dumps([one(url) for url in {}]))
END"#,
        json(urls)
    );
    lines(&run(session, Language::Bash, &code).await, urls)
}

/// Raw bytes to the proxy of the code's namespace, one connection each, which the last request has
/// to close unless it is a CONNECT: the status line's code and the rule of every answer that came,
/// joined by ` | `.
pub(super) async fn raw(session: &OpenSession, requests: &[String]) -> Vec<Line> {
    let code = format!(
        r#"
import json, re, socket
def one(request):
    with socket.create_connection(("127.0.0.1", 3128), timeout=60) as s:
        s.sendall(request.encode("utf-8"))
        got = b""
        while piece := s.recv(65536):
            got += piece
            # A tunnel stays open.
            if request.startswith("CONNECT") and b"\r\n\r\n" in got: break
    said = []
    for code, rule in re.findall(r"HTTP/1\.1 (\d+)|x-pagebox-egress: ([^\r]*)", got.decode("latin-1")):
        if code: said.append(code)
        else: said[-1] += " " + rule
    return " | ".join(said)
json.dumps([one(r) for r in {}])"#,
        serde_json::to_string(requests).unwrap()
    );
    let said = run(session, Language::Python, &code).await;
    serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"))
}

/// Every way a page has to send something to a host, all at once: the URLs get `?by=WAY&mark=…`
/// each, and the `http` of the origins becomes `ws` where that is the way. Waits until each has
/// ended, at most ten seconds.
pub(super) async fn every_way_of_a_page(session: &OpenSession, origins: &[&str], mark: &str) {
    let code = format!(
        "await page.goto('http://public.example/page');
         await page.evaluate(async ([origins, mark]) => {{
           const ways = {{
             fetch: (url) => fetch(url, {{ mode: 'no-cors' }}),
             post: (url) => fetch(url, {{ method: 'POST', mode: 'no-cors', body: 'x' }}),
             xhr: (url) => new Promise((done) => {{
               const x = new XMLHttpRequest(); x.onloadend = done; x.open('GET', url); x.send();
             }}),
             beacon: (url) => navigator.sendBeacon(url, 'x'),
             image: (url) => load(new Image(), url),
             frame: (url) => load(document.createElement('iframe'), url),
             script: (url) => load(document.createElement('script'), url),
             style: (url) => {{
               const link = document.createElement('link');
               link.rel = 'stylesheet';
               return load(link, url, 'href');
             }},
             events: (url) => new Promise((done) => {{
               const e = new EventSource(url);
               e.onopen = e.onerror = () => {{ e.close(); done(); }};
             }}),
             worker: (url) => new Promise((done) => {{
               const code = `fetch(${{JSON.stringify(url)}}, {{mode: 'no-cors'}}).finally(postMessage)`;
               const w = new Worker(URL.createObjectURL(new Blob([code])));
               w.onmessage = w.onerror = done;
             }}),
             socket: (url) => new Promise((done) => {{
               const s = new WebSocket(url.replace('http', 'ws').replace('/way', '/ws'));
               s.onopen = s.onerror = s.onclose = done;
             }}),
             form: (url) => new Promise((done) => {{
               const frame = document.createElement('iframe');
               frame.name = 'f' + Math.random();
               document.body.append(frame);
               const form = document.createElement('form');
               Object.assign(form, {{ method: 'post', action: url, target: frame.name }});
               document.body.append(form);
               form.submit();
               frame.onload = done;
               setTimeout(done, 3000);
             }}),
           }};
           function load(element, url, attribute = 'src') {{
             return new Promise((done) => {{
               element.onload = element.onerror = done;
               element[attribute] = url;
               document.body.append(element);
             }});
           }}
           const all = origins.flatMap((origin) => Object.entries(ways).map(([by, way]) =>
             Promise.resolve(way(`${{origin}}/way?by=${{by}}&mark=${{mark}}`)).catch(() => {{}})));
           const enough = new Promise((done) => setTimeout(done, 10000));
           await Promise.race([Promise.all(all), enough]);
         }}, [{}, '{mark}']); 'done'",
        json(origins)
    );
    run(session, Language::Node, &code).await;
}

/// The names of [`every_way_of_a_page`].
pub(super) const WAYS: [&str; 12] = [
    "fetch", "post", "xhr", "beacon", "image", "frame", "script", "style", "events", "worker",
    "socket", "form",
];
