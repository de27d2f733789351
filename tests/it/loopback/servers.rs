//! Servers of the session's own code, reached by its page and its code.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pagebox::grpc::v1::{Language, NetworkOptions, SessionOptions};

use super::{blank, by_proxy, daemon, nothing, until_up, visit};
use crate::client::{Client, OpenSession};
use crate::leaks::descendants;
use crate::shared::binary;

/// Names of this machine in a URL.
const NAMES: [&str; 6] = [
    "localhost",
    "127.0.0.1",
    "[::1]",
    "foo.localhost",
    "127.1",
    "LOCALHOST.",
];

#[tokio::test]
async fn a_site_served_by_one_execution_is_opened_and_clicked_by_the_next() {
    let session = blank().await;
    let page = "<!doctype html><title>Shop</title><h1>No boats</h1>\
                <button onclick=\"document.querySelector('h1').innerText='One boat'\">Buy</button>";
    let serve = format!(
        "mkdir site; cd site; echo \"{}\" > index.html; python3 -m http.server 8000 & {}",
        page.replace('"', "\\\""),
        until_up(8000)
    );
    session.bash(&serve).await;
    for name in NAMES {
        let seen = visit(&session, &format!("http://{name}:8000/")).await;
        assert!(seen.starts_with("200 No boats"), "{name}: {seen}");
    }
    session
        .node("await page.click('text=Buy'); page.url()")
        .await;
    let python = session
        .python("await page.locator('h1').inner_text()")
        .await;
    assert_eq!(python, "One boat");

    let agent = "agent-browser open http://localhost:8000/ >/dev/null; \
                 agent-browser find role button click --name Buy >/dev/null; agent-browser get text h1";
    assert_eq!(session.bash(agent).await, "One boat");
    session.stop().await;
}

#[tokio::test]
async fn every_way_into_the_background_outlives_its_execution() {
    let session = blank().await;
    let ways = [
        (8001, "python3 -m http.server 8001 &"),
        (8002, "nohup python3 -m http.server 8002 &"),
        (8003, "setsid python3 -m http.server 8003 &"),
        (8004, "(python3 -m http.server 8004 > /tmp/log 2>&1 &)"),
    ];
    for (_, start) in ways {
        session.bash(start).await;
    }
    for (port, start) in ways {
        session.bash(&until_up(port)).await;
        let seen = visit(&session, &format!("http://localhost:{port}/")).await;
        assert!(seen.starts_with("200 Directory listing"), "{start}: {seen}");
    }
    session.stop().await;
}

/// Starts a server in each language's context that says its name.
async fn one_server_in_each_language(session: &OpenSession) {
    let node = "const http = require('node:http');
                const answer = (_, reply) => reply.end('from node');
                await new Promise((up) => http.createServer(answer).listen(3000, up));
                await new Promise((up) => http.createServer(answer).listen(3001, '::1', up));";
    session.good(Language::Node, node).await;
    let python = "import asyncio, subprocess, sys
async def answer(reader, writer):
    await reader.readuntil(b'\\r\\n\\r\\n')
    writer.write(b'HTTP/1.1 200 OK\\r\\nContent-Type: text/plain\\r\\nContent-Length: 11\\r\\n\\r\\nfrom python')
    await writer.drain()
    writer.close()
server = await asyncio.start_server(answer, '127.0.0.1', 4000)
child = subprocess.Popen([sys.executable, '-m', 'http.server', '4001', '--bind', '::1'])";
    session.good(Language::Python, python).await;
    session
        .bash(&until_up(4001).replace("localhost", "[::1]"))
        .await;
}

const SERVERS: [(u16, &str, &str); 4] = [
    (3000, "localhost", "from node"),
    (3001, "[::1]", "from node"),
    (4000, "localhost", "from python"),
    (4001, "[::1]", "Directory listing"),
];

#[tokio::test]
async fn servers_of_node_and_python_answer_page_and_code_by_proxy_or_not() {
    let session = blank().await;
    one_server_in_each_language(&session).await;
    for (port, address, says) in SERVERS {
        // Pages need not know where a server listens: IPv4 and then IPv6 are tried.
        let seen = visit(&session, &format!("http://localhost:{port}/")).await;
        assert!(seen.starts_with(&format!("200 {says}")), "{port}: {seen}");
        let url = format!("http://{address}:{port}/");
        let curl = session.bash(&format!("curl -sS '{url}'")).await;
        assert!(curl.contains(says), "{url}: {curl}");
        assert_eq!(by_proxy(&session, &url).await, "000 200", "{url}");
        let fetched = format!("await (await fetch('{url}')).text()");
        assert!(session.node(&fetched).await.contains(says), "{url}");
        let urllib = format!(
            "import asyncio, urllib.request; (await asyncio.to_thread(urllib.request.urlopen, '{url}')).read().decode()"
        );
        assert!(session.python(&urllib).await.contains(says), "{url}");
    }
    session.stop().await;
}

#[tokio::test]
async fn servers_end_with_their_context_and_the_page_is_told() {
    let session = blank().await;
    one_server_in_each_language(&session).await;
    session
        .bash(&format!(
            "setsid python3 -m http.server 8000 & {}",
            until_up(8000)
        ))
        .await;
    for (language, busy, ports) in [
        (Language::Bash, "while :; do :; done", &[8000][..]),
        (Language::Node, "for (;;);", &[3000, 3001]),
        (Language::Python, "while True: pass", &[4000, 4001]),
    ] {
        for port in ports {
            let seen = visit(&session, &format!("http://localhost:{port}/")).await;
            assert!(seen.starts_with("200 "), "{port}: {seen}");
        }
        let reply = session
            .exec_within(Duration::from_secs(2), language, busy)
            .await;
        assert!(reply.killed);
        for &port in ports {
            let seen = visit(&session, &format!("http://localhost:{port}/")).await;
            assert!(seen.starts_with(&nothing(port)), "{port}: {seen}");
        }
    }
    session.stop().await;
}

#[tokio::test]
async fn a_server_that_prints_without_end_is_never_held_up() {
    let session = blank().await;
    let serve = "import http.server, sys
class Chatty(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        for stream in (sys.stdout, sys.stderr):
            stream.write('x' * (1 << 20))
            stream.flush()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'done')
http.server.HTTPServer(('127.0.0.1', 8000), Chatty).serve_forever()";
    let start = format!("cat > serve.py <<'END'\n{serve}\nEND\npython3 serve.py &");
    session.bash(&start).await;
    let code =
        "for (let n = 0; n < 200 && !(await page.goto('http://localhost:8000/')).ok(); n += 1)
                  await page.waitForTimeout(100);
                const said = [];
                for (let n = 0; n < 20; n += 1)
                  said.push(await page.evaluate(async () => (await fetch('/')).text()));
                new Set(said).size + ' ' + said[0]";
    assert_eq!(session.node(code).await, "1 done");
    // What it printed belongs to nobody.
    let reply = session.good(Language::Bash, "echo mine").await;
    assert_eq!((&*reply.stdout, &*reply.stderr), ("mine\n", ""));
    session.stop().await;
}

#[tokio::test]
async fn https_on_localhost_is_a_tunnel_to_the_own_server() {
    let session = blank().await;
    let serve = "printf '[req]\\ndistinguished_name = name\\n[name]\\n' > request.conf\n\
                 openssl req -x509 -config request.conf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
                 -subj /CN=localhost -keyout key.pem -out cert.pem 2>/dev/null\n\
                 cat > tls.py <<'END'\n\
                 import http.server, ssl\n\
                 server = http.server.HTTPServer(('127.0.0.1', 8443), http.server.SimpleHTTPRequestHandler)\n\
                 context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
                 context.load_cert_chain('cert.pem', 'key.pem')\n\
                 server.socket = context.wrap_socket(server.socket, server_side=True)\n\
                 server.serve_forever()\n\
                 END\n\
                 python3 tls.py &\n\
                 for i in $(seq 300); do curl -sk -o /dev/null https://localhost:8443/ && break; sleep 0.1; done";
    session.bash(serve).await;
    assert_eq!(
        by_proxy(&session, "https://localhost:8443/").await,
        "200 200"
    );
    // The browser came as far as its certificate, which nobody it trusts has signed.
    assert_eq!(
        visit(&session, "https://localhost:8443/").await,
        "net::ERR_CERT_AUTHORITY_INVALID"
    );
    assert_eq!(
        by_proxy(&session, "https://localhost:8444/").await,
        "502 000"
    );
    assert_eq!(
        visit(&session, "https://localhost:8444/").await,
        "net::ERR_TUNNEL_CONNECTION_FAILED"
    );
    session.stop().await;
}

#[tokio::test]
async fn servers_end_with_their_session() {
    let session = blank().await;
    // Not to be found anywhere else.
    let mark = "/tmp/served-until-the-session-ends";
    session
        .bash(&format!(
            "mkdir {mark}; setsid python3 -m http.server 8000 --directory {mark} & {}",
            until_up(8000)
        ))
        .await;
    let runs = || {
        descendants(daemon().pid()).iter().any(|process| {
            let line = std::fs::read_to_string(format!("/proc/{}/cmdline", process.pid));
            line.unwrap_or_default().contains(mark)
        })
    };
    assert!(runs());
    session.stop().await;
    assert!(!runs());
}

#[test]
fn the_example_serves_opens_and_clicks() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = binary().parent().expect("it lies in a directory");
    let path = std::env::var("PATH").expect("a PATH");
    let path = format!("{}:{path}", program.display());
    let output = Command::new(root.join("examples/dev-server.sh"))
        .arg(daemon().address().to_string())
        .env("PATH", path)
        .output()
        .expect("the script starts");
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stdout);
    let want = "== bash starts a server\n== node opens and clicks it\nOne boat\n\
                == python edits it\nTwo boats\n";
    assert_eq!(told, want);
}

#[tokio::test]
async fn no_rule_of_a_session_closes_its_own_localhost() {
    let rules = NetworkOptions {
        allow: vec!["example.com".to_owned()],
        deny: vec!["*:8000".to_owned(), "127.0.0.0/8".to_owned()],
        ..NetworkOptions::default()
    };
    let offline = NetworkOptions {
        offline: true,
        ..NetworkOptions::default()
    };
    for network in [rules, offline] {
        let options = SessionOptions {
            network: Some(network),
            ..SessionOptions::default()
        };
        let client = Client::new(&daemon().url());
        let session = client.create(options).await.unwrap();
        let session = OpenSession::new(client, session.id);
        session
            .bash(&format!("python3 -m http.server 8000 & {}", until_up(8000)))
            .await;
        let seen = visit(&session, "http://localhost:8000/").await;
        assert!(seen.starts_with("200 Directory listing"), "{seen}");
        assert_eq!(
            by_proxy(&session, "http://127.0.0.1:8000/").await,
            "000 200"
        );
        session.stop().await;
    }
}
