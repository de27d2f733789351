//! 3: on the host the daemon's tree listens on one port, and that speaks no CDP.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::client::Client;
use crate::daemon::Daemon;
use crate::leaks::descendants;
use crate::shared::{binary, site};

/// Listening TCP sockets of this network namespace: inode to port.
fn listening() -> BTreeMap<String, u16> {
    let files = ["/proc/net/tcp", "/proc/net/tcp6"];
    let text: String = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap_or_default())
        .collect();
    text.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let port = fields.get(1)?.rsplit_once(':')?.1;
            let port = u16::from_str_radix(port, 16).ok()?;
            (*fields.get(3)? == "0A").then_some(((*fields.get(9)?).to_owned(), port))
        })
        .collect()
}

/// Ports that a process, or any below it, listens on here.
fn ports_of(daemon: u32) -> BTreeSet<u16> {
    let listening = listening();
    let below = descendants(daemon).into_iter().map(|process| process.pid);
    let inodes = below.chain([daemon]).flat_map(|pid| {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd"));
        let links = entries.into_iter().flatten().flatten();
        links.filter_map(|entry| {
            let link = std::fs::read_link(entry.path()).ok()?;
            let inode = link.to_str()?.strip_prefix("socket:[")?;
            Some(inode.trim_end_matches(']').to_owned())
        })
    });
    inodes
        .filter_map(|inode| listening.get(&inode).copied())
        .collect()
}

/// The first line of the answer to a request, and all of it.
fn asked(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = [0; 4096];
    let mut text = String::new();
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    text
}

#[tokio::test]
async fn invariant_3_no_tcp_port_speaks_cdp_outside_a_sandbox() {
    let daemon = Daemon::start(binary(), "");
    let client = Client::new(&daemon.url());
    let session = client.open(&site().url("/")).await;
    session.python("await page.title()").await;
    session.bash("agent-browser get url").await;

    // Inside there is a port that speaks it, and it is none of the host's.
    let inside = "import os, socket\nfrom urllib.parse import urlsplit\n\
         url = urlsplit(os.environ['CDP_URL'])\n\
         peer = socket.create_connection((url.hostname, url.port))\n\
         peer.send(f'GET {url.path} HTTP/1.1\\r\\nHost: {url.netloc}\\r\\nConnection: Upgrade\\r\\n\
         Upgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n'.encode())\n\
         peer.recv(100).split()[1].decode()";
    assert_eq!(session.python(inside).await, "101");

    let port = daemon.address().port();
    assert_eq!(ports_of(daemon.pid()), BTreeSet::from([port]));
    for path in [
        "/json/version",
        "/json/list",
        "/json",
        "/devtools/browser/x",
    ] {
        let get = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        let upgrade = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let answered = asked(port, &get);
        assert!(!answered.contains("webSocketDebuggerUrl"), "{answered}");
        assert!(!answered.contains("Chrome"), "{answered}");
        // A connection it keeps open is no upgrade either; half closed, it ends.
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.write_all(upgrade.as_bytes()).unwrap();
        let mut bytes = [0; 512];
        let count = stream.read(&mut bytes).unwrap_or(0);
        let answered = String::from_utf8_lossy(&bytes[..count]).into_owned();
        assert!(!answered.contains(" 101 "), "{path}: {answered:?}");
    }
    session.stop().await;
    assert_eq!(ports_of(daemon.pid()), BTreeSet::from([port]));
}
