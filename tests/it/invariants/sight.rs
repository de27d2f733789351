//! 1: what is planted on the host and in another session is found from outside, never from inside.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use pagebox::grpc::v1::Language;

use crate::client::{Client, OpenSession};
use crate::daemon::Daemon;
use crate::leaks::{descendants, eventually};
use crate::shared::{binary, site};

/// Two halves: code that looks for the whole must not hold it, or it finds itself.
const MARK: (&str, &str) = ("planted-by-the", "-invariants-31539700");

/// What bash looks through: everything any process shows, and everywhere a stranger's file may be.
const LOOK: &str = "set +e; mark=$1$2; all=$({ cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline; env; \
    ls -aR /home /root /etc /run /var /srv /mnt /media /opt /tmp /workspace /dev; \
    cat /tmp/* /workspace/*; } 2>/dev/null | tr '\\0' '\\n'); \
    grep -ac -- \"$mark\" <<<\"$all\"";

async fn bash_sees(session: &OpenSession) -> String {
    let (first, second) = MARK;
    let code = format!("set -- {first} {second}\n{LOOK}; true");
    session.bash(&code).await
}

#[tokio::test]
async fn invariant_1_user_code_and_web_content_see_nothing_of_the_host() {
    let mark = format!("{}{}", MARK.0, MARK.1);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(&mark);
    std::fs::write(&file, &mark).unwrap();
    let mut process = Command::new("sh")
        .args(["-c", "read -r _", &mark])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let site_port = site().port().to_string();
    let daemon = Daemon::start_in(
        binary(),
        "",
        &["--host-loopback", &site_port],
        &[("PLANTED", &mark)],
    );
    let client = Client::new(&daemon.url());

    // It is all there, for who is outside.
    let text = |path: String| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    assert!(text(format!("/proc/{}/cmdline", process.id())).contains(&mark));
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    drop(listener.accept().unwrap());
    listener.set_nonblocking(true).unwrap();

    // Another session's things, which it sees itself.
    let other = client.open(&site().url("/")).await;
    let keep = format!("echo {mark} > /workspace/{mark}; echo {mark} > /tmp/{mark}");
    other.bash(&keep).await;
    other.node(&format!("globalThis.planted = '{mark}'")).await;
    let cookie = format!("await page.evaluate(() => document.cookie = 'planted={mark}')");
    other.node(&cookie).await;
    let sees: u32 = bash_sees(&other).await.parse().unwrap();
    assert!(sees >= 4, "names and contents of two files: {sees}");

    let session = client.open(&site().url("/")).await;
    assert_eq!(bash_sees(&session).await, "0");
    let python = format!(
        "import os\nmark = '{}' + '{}'\nseen = []\n\
         for top in ['/proc', '/home', '/root', '/etc', '/run', '/var', '/tmp', '/workspace', '/opt']:\n\
         \x20 for folder, folders, files in os.walk(top):\n\
         \x20   folders[:] = [f for f in folders if f not in ('task', 'node_modules')]\n\
         \x20   seen += [folder + '/' + f for f in files if mark in f]\n\
         \x20   for name in files:\n\
         \x20     if name in ('environ', 'cmdline') or top in ('/tmp', '/workspace'):\n\
         \x20       try:\n\
         \x20         if mark.encode() in open(folder + '/' + name, 'rb').read(1 << 20): seen.append(name)\n\
         \x20       except OSError: pass\n\
         repr((seen, os.path.exists('{}'), [v for v in os.environ.values() if mark in v]))",
        MARK.0,
        MARK.1,
        file.display()
    );
    assert_eq!(session.python(&python).await, "([], False, [])");
    let node = format!(
        "const fs = await import('node:fs');\n\
         JSON.stringify([fs.existsSync('{}'), typeof globalThis.planted, \
         Object.values(process.env).some((v) => v.includes('{}' + '{}'))])",
        file.display(),
        MARK.0,
        MARK.1
    );
    let seen: serde_json::Value = serde_json::from_str(&session.node(&node).await).unwrap();
    assert_eq!(seen, serde_json::json!([false, "undefined", false]));

    // The port, straight and by the proxy, from code and page; the site's is what an open one gives.
    let direct = "python3 - $1 <<'E'\nimport socket, sys\ns = socket.socket()\ns.settimeout(10)\n\
                  print(s.connect_ex(('127.0.0.1', int(sys.argv[1]))))\nE";
    let refused = nix::errno::Errno::ECONNREFUSED as i32;
    assert_eq!(
        session.bash(&format!("set -- {port}\n{direct}")).await,
        refused.to_string()
    );
    let proxied = |port: u16| {
        format!(
            "set +e; curl -s -m 20 -o /dev/null -w '%{{http_code}}' --noproxy '' \
             http://127.0.0.1:{port}/; true"
        )
    };
    assert_eq!(session.bash(&proxied(site().port())).await, "200");
    // Its own localhost, where nothing listens: never the host's.
    assert_ne!(session.bash(&proxied(port)).await, "200");
    let page = |url: &str| {
        format!(
            "await page.goto('{url}', {{ timeout: 20000 }}).then((r) => r.status(), () => 'no')"
        )
    };
    assert_eq!(session.node(&page(&site().url("/"))).await, "200");
    let fetched = session
        .node(&format!(
            "await page.evaluate(() => fetch('http://127.0.0.1:{port}/', {{ mode: 'no-cors' }})\
             .then((r) => r.type, () => 'no'))"
        ))
        .await;
    assert_ne!(fetched, "basic");
    let went = session
        .node(&page(&format!("http://127.0.0.1:{port}/")))
        .await;
    assert_ne!(went, "200");
    let file_url = format!("file://{}", file.display());
    assert_eq!(session.node(&page(&file_url)).await, "no");
    assert_eq!(
        listener.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "nothing inside reached the host's port"
    );
    session.node(&page(&site().url("/"))).await;
    let cookies = session
        .node("await page.evaluate(() => document.cookie)")
        .await;
    assert!(!cookies.contains(&mark), "{cookies}");
    let cookies = "await page.evaluate(() => document.cookie)";
    assert!(other.node(cookies).await.contains(&mark));

    // Processes of the other session are no processes inside.
    let count = "ls -d /proc/[0-9]* | wc -l";
    let inside: usize = session.bash(count).await.trim().parse().unwrap();
    let outside = descendants(daemon.pid()).len();
    assert!(inside < 8 && outside > inside, "{inside} of {outside}");
    session.stop().await;
    other.stop().await;
    process.kill().unwrap();
    process.wait().unwrap();
    eventually(std::time::Duration::from_secs(10), async || {
        let left = descendants(daemon.pid()).len();
        (left == 1).then_some(()).ok_or(format!("{left} processes"))
    })
    .await;
    // A session that opens now finds nothing of those that ended, the same uid or not.
    let later = client.open("about:blank").await;
    assert_eq!(bash_sees(&later).await, "0");
    let kind = later
        .good(Language::Node, "typeof globalThis.planted")
        .await;
    assert_eq!(kind.result.as_deref(), Some("undefined"));
    later.stop().await;
}
