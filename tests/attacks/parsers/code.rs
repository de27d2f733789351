//! What code's bytes do to the daemon from inside.

use std::time::Duration;

use pagebox::grpc::v1::{Language, Outcome};

use crate::arena::Ground;
use crate::client::{OpenSession, describe};

const LIMIT: Duration = Duration::from_secs(60);

async fn goes_on(session: &OpenSession) {
    for (language, code) in [
        (Language::Node, "await page.evaluate('6 * 7')"),
        (Language::Python, "6 * 7"),
    ] {
        let reply = session.good(language, code).await;
        assert_eq!(reply.result.as_deref(), Some("42"));
    }
    assert_eq!(session.bash("echo 42").await, "42");
}

pub(super) async fn frames(ground: &Ground) {
    let session = ground.blank().await;
    let frames = [
        ("text", "b'no frame\\n'"),
        ("no end", "b'{' + b'x' * 3000000"),
        ("nested", "b'[' * 500000 + b'\\n'"),
        ("no text", "b'\\xff\\xfe\\0\\n'"),
        (
            "twice",
            "b'{\"type\":\"finished\",\"id\":\"a\",\"id\":\"b\",\"exit_code\":0}\\n'",
        ),
        ("ready again", "b'{\"type\":\"ready\"}\\n' * 1000"),
        (
            "another's result",
            "b'{\"type\":\"finished\",\"id\":\"019a0000-0000-7000-8000-000000000000\",\
             \"exit_code\":0,\"result\":\"forged\"}\\n'",
        ),
    ];
    for (what, bytes) in frames {
        // The python runner keeps its socket elsewhere, so every socket gets them.
        let python = format!(
            "import os\nfor fd in os.listdir('/proc/self/fd'):\n  try:\n    \
             if os.readlink(f'/proc/self/fd/{{fd}}').startswith('socket:'): os.write(int(fd), {bytes})\n  \
             except OSError: pass\n'mine'"
        );
        let node = format!(
            "const text = {}; (await import('node:fs')).writeSync(3, Buffer.from(text, 'latin1')); 'mine'",
            bytes
                .replace("b'", "'")
                .replace(" * 3000000", ".repeat(3000000)")
                .replace(" * 500000", ".repeat(500000)")
                .replace(" * 1000", ".repeat(1000)"),
        );
        for (language, code) in [(Language::Python, python), (Language::Node, node)] {
            let reply = session.exec_within(LIMIT, language, &code).await;
            let told = describe(&reply);
            let is_good = match reply.outcome() {
                Outcome::RunnerCrashed => reply.result.is_none() && !reply.success,
                Outcome::Completed => reply.result.as_deref() == Some("mine") && reply.success,
                _ => false,
            };
            assert!(is_good, "{what}, {language:?}: {told}");
            let next = session.good(language, "6 * 7").await;
            assert_eq!(next.result.as_deref(), Some("42"), "after {what}");
        }
    }
    // Closed, and used by the code for something else.
    let sockets = "import os, socket\nfor fd in os.listdir('/proc/self/fd'):\n  try:\n    \
                   if os.readlink(f'/proc/self/fd/{fd}').startswith('socket:'): ";
    for what in [
        "os.close(int(fd))",
        "os.dup2(socket.socket().fileno(), int(fd))",
    ] {
        let code = format!("{sockets}{what}\n  except OSError: pass");
        let reply = session.exec_within(LIMIT, Language::Python, &code).await;
        let told = describe(&reply);
        let ends = [Outcome::RunnerCrashed, Outcome::Failed, Outcome::Completed];
        assert!(ends.contains(&reply.outcome()), "{told}");
        assert_eq!(reply.result, None, "{told}");
    }
    goes_on(&session).await;
    session.stop().await;
}

/// Connects to the CDP endpoint as a WebSocket, sends bytes, and says how that ended.
const CDP: &str = r#"
import os, socket, struct, json
host, port = os.environ['CDP_URL'].split('//')[1].split('/')[0].split(':')
def connect():
    s = socket.create_connection((host, int(port)), timeout=50)
    return s
def end(s):
    try:
        size = 0
        while True:
            piece = s.recv(65536)
            if not piece:
                return 'closed'
            size += len(piece)
            if size > 1 << 24:
                return 'talks'
    except socket.timeout:
        return 'open'
    except OSError:
        return 'closed'
def upgrade():
    s = connect()
    s.sendall(b'GET /devtools/browser/client HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n'
              b'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n'
              b'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n')
    head = b''
    while not head.endswith(b'\r\n\r\n'):
        head += s.recv(1)
    assert b' 101 ' in head, head
    return s
def frame(opcode, body, final=True, mask=True, length=None, reserved=0):
    n = len(body) if length is None else length
    head = bytes([(0x80 if final else 0) | reserved | opcode])
    m = 0x80 if mask else 0
    if n < 126: head += bytes([m | n])
    elif n < 65536: head += bytes([m | 126]) + struct.pack('>H', n)
    else: head += bytes([m | 127]) + struct.pack('>Q', n)
    return head + (b'\0\0\0\0' if mask else b'') + body
"#;

pub(super) async fn cdp(ground: &Ground) {
    let session = ground.blank().await;
    let code = format!(
        "{CDP}
said = {{}}
for name, head in {{
    'no key': b'GET /devtools/browser/client HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n',
    'other host': b'GET /json/version HTTP/1.1\\r\\nHost: evil.example\\r\\nConnection: close\\r\\n\\r\\n',
    'long': b'GET /' + b'x' * 1000000 + b' HTTP/1.1\\r\\n\\r\\n',
    'noise': bytes(range(256)) * 100 + b'\\r\\n\\r\\n',
    'fields': b'GET /json HTTP/1.1\\r\\n' + b'a: b\\r\\n' * 100000 + b'\\r\\n',
}}.items():
    s = connect()
    try:
        s.sendall(head)
        s.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    said[name] = end(s)
for name, sent in {{
    'length of 2^63': frame(1, b'', length=(1 << 63) - 1),
    'length of 2^64': frame(1, b'', length=(1 << 64) - 1),
    'unmasked': frame(1, b'{{}}', mask=False),
    'reserved bit': frame(1, b'{{}}', reserved=0x40),
    'reserved opcode': frame(5, b''),
    'long ping': frame(9, b'x' * 200),
    'ping in pieces': frame(9, b'', final=False),
    'nothing to go on with': frame(0, b'x'),
    'no text': frame(1, b'\\xff\\xfe'),
    'endless': frame(1, b'x' * 1000000, final=False) + frame(0, b'x' * 1000000, final=False) * 300,
}}.items():
    s = upgrade()
    try:
        s.sendall(sent)
    except OSError:
        pass
    said[name] = end(s)
json.dumps({{name: how for name, how in said.items() if how != 'closed'}})"
    );
    let reply = session
        .exec_within(Duration::from_secs(110), Language::Python, &code)
        .await;
    assert_eq!(reply.result.as_deref(), Some("{}"), "{}", describe(&reply));

    // Messages that are read: each is answered with an error, or with nothing, and the next is.
    let code = format!(
        "{CDP}
s = upgrade()
for text in [
    '', 'x', '[]', '{{}}', '{{\"id\":1}}', '{{\"id\":1,\"id\":2,\"method\":\"Browser.getVersion\"}}',
    '{{\"id\":1e3,\"method\":\"Browser.getVersion\"}}',
    '{{\"id\":99999999999999999999,\"method\":\"Browser.getVersion\"}}',
    '{{\"id\":2,\"method\":\"Browser.getVersion\",\"sessionId\":\"none\"}}',
    '{{\"id\":3,\"method\":\"Browser.getVersion\",\"params\":' + '[' * 200000 + ']' * 200000 + '}}',
    '{{\"id\":4,\"method\":\"Target.attachToTarget\",\"params\":' + '{{\"a\":' * 5000 + '1' + '}}' * 5000 + '}}',
    '{{\"id\":5,\"method\":\"' + 'x' * 1000000 + '\"}}',
]:
    s.sendall(frame(1, text.encode()))
s.sendall(frame(9, b'x') * 10000)
s.sendall(frame(1, b'{{\"id\":77,\"method\":\"Browser.getVersion\"}}'))
buffer = b''
while b'\"id\":77' not in buffer:
    piece = s.recv(65536)
    assert piece, buffer[-2000:]
    buffer = buffer[-100:] + piece
'answered'"
    );
    let reply = session.exec_within(LIMIT, Language::Python, &code).await;
    assert_eq!(
        reply.result.as_deref(),
        Some("answered"),
        "{}",
        describe(&reply)
    );
    goes_on(&session).await;
    session.stop().await;
}

pub(super) async fn proxy(ground: &Ground) {
    let session = ground.blank().await;
    let site = ground.site().url("/about.html");
    let code = format!(
        r#"
import os, socket, json
host, port = os.environ['HTTP_PROXY'].split('//')[1].rstrip('/').split(':')
site = '{site}'
def ask(sent):
    s = socket.create_connection((host, int(port)), timeout=50)
    try:
        s.sendall(sent if isinstance(sent, bytes) else sent.encode('latin1'))
        # Who closes before the answer may get none.
        if 'Connection: close' not in str(sent): s.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    said = b''
    try:
        while len(said) < 1 << 24:
            piece = s.recv(65536)
            if not piece: break
            said += piece
    except socket.timeout:
        return 'open'
    except OSError:
        pass
    return said.split(b'\r\n')[0].decode('latin1')[9:12] or 'closed'
def get(*fields, url=site, method='GET', rest=''):
    return f'{{method}} {{url}} HTTP/1.1\r\n' + ''.join(f + '\r\n' for f in fields) + '\r\n' + rest
bad = ['400', '431', 'closed']
wrong = []
for name, sent, good in [
    ('two lengths', get('Content-Length: 1', 'Content-Length: 2', rest='xx'), bad),
    ('a signed length', get('Content-Length: +1', rest='x'), bad),
    ('a huge length', get('Content-Length: 99999999999999999999'), bad),
    ('spaced encoding', get('Transfer-Encoding : chunked', rest='0\r\n\r\n'), bad),
    ('unknown encoding', get('Transfer-Encoding: x', rest='x'), bad),
    ('a huge chunk', get('Transfer-Encoding: chunked', method='POST', rest='FFFFFFFFFFFFFFFFF\r\nx'), bad + ['502', '200', '405']),
    ('a thousand fields', get(*['A: b'] * 1000), bad),
    ('a long field', get('A: ' + 'x' * 200000), bad),
    ('NUL in a field', get('A: \0'), bad),
    ('NUL in the URL', get(url=site + '\0'), bad),
    ('HTTP/2', b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + bytes(9), bad),
    ('TLS', b'\x16\x03\x01\x02\x00\x01\x00' + bytes(range(256)), bad),
    ('origin form', get('Host: 10.0.0.1', url='/'), bad),
    ('no scheme', get(url='10.0.0.1:80'), bad),
    ('user', get(url='http://localhost@10.0.0.1/'), bad),
    ('a Host that is allowed', get('Host: localhost', 'Connection: close', url='http://10.0.0.1/'), ['403']),
    ('a Host of another', get('Host: 10.0.0.1', 'Connection: close'), ['200']),
    ('one and a half', get('Host: x') + get(url='http://10.0.0.1/') + 'GET http://', ['200', 'closed']),
    ('CONNECT to none', 'CONNECT  HTTP/1.1\r\n\r\n', bad),
    ('CONNECT to a long name', 'CONNECT ' + 'a.' * 30000 + ':443 HTTP/1.1\r\n\r\n', bad),
    ('CONNECT, mapped', 'CONNECT [::ffff:10.0.0.1]:443 HTTP/1.1\r\nConnection: close\r\n\r\n', ['403']),
]:
    said = ask(sent)
    if said not in good: wrong.append([name, said])
json.dumps(wrong)"#
    );
    let reply = session
        .exec_within(Duration::from_secs(110), Language::Python, &code)
        .await;
    assert_eq!(reply.result.as_deref(), Some("[]"), "{}", describe(&reply));
    goes_on(&session).await;
    session.stop().await;
}
