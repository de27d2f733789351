//! Hosts whose answers are not as they should be.

use super::peer::{Answer, Peer, fine};
use super::{BY_HAND, table};
use crate::arena::Ground;

/// By number: an answer, the part of it that is sent again and again, and whether it ends there.
fn bad(path: &str) -> Answer {
    let whole = |text: &str| Answer {
        bytes: text.as_bytes().to_vec(),
        endless: None,
        close: true,
    };
    let endless = |text: &str, endless| Answer {
        bytes: text.as_bytes().to_vec(),
        endless: Some(endless),
        close: true,
    };
    match path {
        "/1" => endless("HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
        "/2" => endless("HTTP/1.1 200 OK\r\nA: ", &[b'b'; 4096]),
        "/3" => endless("", b"HTTP/1.1 100 Continue\r\n\r\n"),
        "/4" => whole("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
        "/5" => whole("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\n123456789"),
        "/6" => {
            whole("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
        }
        "/7" => whole("HTTP/1.1 999999 Many\r\n\r\n"),
        "/8" => whole("SSH-2.0-OpenSSH_9.2p1\r\n"),
        "/9" => whole(""),
        "/10" => whole("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc"),
        "/11" => {
            whole("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc")
        }
        "/12" => whole("HTTP/1.1 200 OK\r\nX-Pagebox-Egress: forged\r\nX: a\0b\r\n\r\n"),
        "/13" => whole("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nabc"),
        "/14" => endless("HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 16 << 10]),
        "/15" => endless(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\nx\r\n",
        ),
        "/16" => endless(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"T: t\r\n",
        ),
        _ => fine(),
    }
}

pub(super) async fn bad_answers(ground: &Ground) {
    const KINDS: usize = 16;
    let peer = Peer::start(bad).await;
    let port = peer.port;
    let session = ground.blank().await;
    let script = format!(
        "{BY_HAND}
said = {{}}
def one(n):
    data = ask(get(f'http://localhost:{port}/{{n}}'), wait=5)
    # An answer without end is read up to a megabyte here, and then let go.
    return 'long' if len(data) >= 1 << 20 else statuses(data)
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    for n, seen in enumerate(pool.map(one, range(1, {KINDS} + 2)), 1): said[f'/{{n}}'] = seen
json.dumps(said)"
    );
    let said = table(&session.python(&script).await);
    for (path, seen) in &said {
        let expected: &[&str] = match &**path {
            "/17" => &["200"],
            // On a busy machine nothing of it may have come yet.
            "/14" => &["long", "200", "open"],
            // Headers are out before the body turns out to be none.
            "/10" | "/11" | "/13" => &["200", "502", "closed"],
            "/15" | "/16" => &["200", "long", "open", "502", "closed"],
            // Headers that go on are read until the buffer for them is full.
            "/1" | "/2" | "/3" => &["502", "open"],
            _ => &["502"],
        };
        assert!(expected.contains(&&**seen), "{path}: {seen}");
    }
    // The page sees errors, and is there for the next one.
    let code = format!(
        "for (const n of [1, 3, 5, 6, 12, 14, 15, 16])
           await page.goto(`http://localhost:{port}/${{n}}`, {{ timeout: 500 }}).catch(() => {{}});
         const tab = await context.newPage();
         (await tab.goto('http://localhost:{port}/17')).status()"
    );
    assert_eq!(session.node(&code).await, "200");
    session.stop().await;
}
