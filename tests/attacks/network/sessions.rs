//! Two sessions: what one has is not there for the other.

use pagebox::grpc::v1::Language;

use super::table;
use crate::arena::Ground;

/// Python that leaves a word wherever processes can share one.
const LEAVE: &str = r#"
import ctypes, json, os, socket, threading
libc = ctypes.CDLL(None, use_errno=True)
for directory in ('/tmp', '/workspace', '/dev/shm'):
    open(f'{directory}/word', 'w').write('word')
keep = []
def serve(family, address, kind=socket.SOCK_STREAM):
    s = socket.socket(family, kind); s.bind(address); keep.append(s)
    if kind == socket.SOCK_STREAM:
        s.listen()
        def answer():
            while True:
                c, _ = s.accept(); c.sendall(b'word'); c.close()
        threading.Thread(target=answer, daemon=True).start()
serve(socket.AF_INET, ('0.0.0.0', 7171))
serve(socket.AF_INET6, ('::1', 7172))
serve(socket.AF_UNIX, '\0word')
serve(socket.AF_UNIX, '/tmp/word.sock')
serve(socket.AF_INET, ('127.0.0.1', 7173), socket.SOCK_DGRAM)
def left(call):
    return ctypes.get_errno() if call == -1 else 0
shm = libc.shmget(0x7067, 4096, 0o1666)
sem = libc.semget(0x7067, 1, 0o1666)
queue = libc.msgget(0x7067, 0o1666)
mq = libc.mq_open(b'/word', 0o102, 0o666, None)
"#;

/// Python that looks for it.
const LOOK: &str = r#"
import ctypes, errno, json, os, socket
libc = ctypes.CDLL(None, use_errno=True)
said = {}
def tried(name, call):
    try: said[name] = str(call())
    except OSError as e: said[name] = errno.errorcode.get(e.errno, str(e))
for directory in ('/tmp', '/workspace', '/dev/shm'):
    tried(directory, lambda: open(f'{directory}/word').read())
def read(family, address):
    with socket.socket(family) as s:
        s.settimeout(20); s.connect(address)
        return s.recv(9).decode()
tried('tcp', lambda: read(socket.AF_INET, ('127.0.0.1', 7171)))
tried('tcp other', lambda: read(socket.AF_INET, ('127.0.0.2', 7171)))
tried('tcp6', lambda: read(socket.AF_INET6, ('::1', 7172)))
tried('abstract', lambda: read(socket.AF_UNIX, '\0word'))
tried('path', lambda: read(socket.AF_UNIX, '/tmp/word.sock'))
def datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(5); s.connect(('127.0.0.1', 7173)); s.send(b'x'); s.send(b'x')
        return 'sent'
tried('udp', datagram)
def call(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), '')
    return 'found'
tried('shm', lambda: call(libc.shmget(0x7067, 4096, 0)))
tried('sem', lambda: call(libc.semget(0x7067, 1, 0)))
tried('msg', lambda: call(libc.msgget(0x7067, 0)))
tried('mq', lambda: call(libc.mq_open(b'/word', 0, 0, None)))
json.dumps(said)
"#;

pub(super) async fn cooperate(ground: &Ground) {
    let (one, other) = tokio::join!(ground.blank(), ground.blank());
    one.good(Language::Python, LEAVE).await;
    // Within the session all of it is there, but what seccomp denies to everyone.
    let inside = table(&one.python(LOOK).await);
    for name in [
        "/tmp",
        "/workspace",
        "/dev/shm",
        "tcp",
        "tcp6",
        "abstract",
        "path",
    ] {
        assert_eq!(inside[name], "word", "{name}: {inside:?}");
    }
    assert_eq!(inside["udp"], "sent");
    let outside = table(&other.python(LOOK).await);
    for (name, seen) in &outside {
        let gone = ["ENOENT", "ECONNREFUSED", "EPERM", "ENOSYS", "EACCES"];
        assert!(gone.contains(&&**seen), "{name}: {seen}");
    }
    one.stop().await;
    other.stop().await;
}

pub(super) async fn listeners(ground: &Ground) {
    let (one, other) = tokio::join!(ground.open("/about.html"), ground.blank());
    one.node("await page.evaluate(() => (document.title = 'of one'))")
        .await;
    one.good(Language::Python, LEAVE).await;
    // By its own endpoint and proxy each session sees itself.
    let list = "import json, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
read = lambda path: json.load(opener.open('http://127.0.0.1:9222' + path))
json.dumps({p['title'] or 'none': p['url'] for p in read('/json/list')})";
    let seen = table(&one.python(list).await);
    assert!(seen.contains_key("of one"), "{seen:?}");
    let seen = table(&other.python(list).await);
    assert!(!seen.contains_key("of one"), "{seen:?}");
    // The token of the one means nothing to the other: it leads to the other's own browser.
    let token = one.node("process.env.CDP_URL").await;
    let code = format!(
        "const {{ chromium }} = require('playwright-core');
         const b = await chromium.connectOverCDP('{token}');
         const urls = b.contexts().flatMap((c) => c.pages()).map((p) => p.url());
         await b.close(); urls.join()"
    );
    assert_eq!(other.node(&code).await, "about:blank");
    // Ports the one listens on, through the other's proxy and page: the host's, which has no server
    // there, are asked instead.
    let code = "const said = {};
        for (const host of ['127.0.0.1', 'localhost', '[::1]'])
          for (const port of [7171, 7172, 9222, 3128, 9223]) {
            const url = `http://${host}:${port}/`;
            said[url] = await page.goto(url).then((r) => String(r.status()), (e) => e.message);
          }
        said";
    for (url, status) in table(&other.node(code).await) {
        let own = [":9222", ":3128", ":9223"]
            .iter()
            .any(|port| url.contains(port));
        assert_eq!(status, if own { "403" } else { "502" }, "{url}");
    }
    one.stop().await;
    other.stop().await;
}
