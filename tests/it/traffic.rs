//! What a session did on the network, as the API tells it, and the limits on it.

use std::collections::BTreeSet;
use std::time::Duration;

use pagebox::grpc::v1::session_service_client::SessionServiceClient;
use pagebox::grpc::v1::watch_session_response::Event;
use pagebox::grpc::v1::{
    GetSessionRequest, GetSessionResponse, Language, NetworkOptions, NetworkRequest, NetworkSource,
    NetworkVerdict, Session, SessionOptions, SessionState, WatchSessionRequest,
    WatchSessionResponse,
};
use tokio_stream::StreamExt;
use tonic::transport::Endpoint;

use crate::client::{Client, OpenSession};
use crate::daemon::Daemon;
use crate::daemon::host::command;
use crate::shared::{binary, blank, client, daemon, open, site};

const SECRET: &str = "s3cr3tt0ken";
/// Long enough for anything that should happen at all on a busy machine.
const SOON: Duration = Duration::from_secs(60);

async fn read(session: &OpenSession) -> GetSessionResponse {
    let request = GetSessionRequest {
        session_id: session.id.clone(),
    };
    let reply = session.client().sessions().get_session(request).await;
    reply.unwrap().into_inner()
}

/// Waits until the session's requests are as `good` says.
async fn requests(
    session: &OpenSession,
    good: impl Fn(&[NetworkRequest]) -> bool,
) -> Vec<NetworkRequest> {
    let waiting = async {
        loop {
            let requests = read(session).await.network_requests;
            if good(&requests) {
                return requests;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    match tokio::time::timeout(SOON, waiting).await {
        Ok(requests) => requests,
        Err(_) => panic!("the requests stay {:?}", read(session).await),
    }
}

fn all_ended(requests: &[NetworkRequest]) -> bool {
    requests.iter().all(|request| request.end_time.is_some())
}

fn totals(session: &Session) -> (u64, u64, u64, u64) {
    let usage = session.network.unwrap();
    (
        usage.requests,
        usage.refused,
        usage.sent_bytes,
        usage.received_bytes,
    )
}

async fn watch(session: &OpenSession) -> tonic::Streaming<WatchSessionResponse> {
    let request = WatchSessionRequest {
        session_id: session.id.clone(),
    };
    let reply = session.client().sessions().watch_session(request).await;
    reply.unwrap().into_inner()
}

async fn next(events: &mut tonic::Streaming<WatchSessionResponse>) -> Option<Event> {
    let event = tokio::time::timeout(SOON, events.next()).await;
    event
        .expect("an event in time")
        .map(|event| event.unwrap().event.unwrap())
}

#[tokio::test]
async fn pages_and_code_are_logged_with_their_source_and_bytes() {
    const SIZE: u64 = 5 << 20;
    let session = open(&format!("/search?q={SECRET}")).await;
    let of_page = requests(&session, |all| !all.is_empty() && all_ended(all)).await;
    for request in &of_page {
        assert_eq!(request.source(), NetworkSource::Browser);
        assert_eq!(request.verdict(), NetworkVerdict::Allowed);
        assert_eq!(
            (&*request.host, request.port),
            ("localhost", u32::from(site().port()))
        );
        assert_eq!(request.address, "127.0.0.1");
        assert!(
            request.sent_bytes > 100 && request.received_bytes > 100,
            "{request:?}"
        );
    }
    let before = of_page.len();

    let url = site().url(&format!("/download/zeros?bytes={SIZE}&token={SECRET}"));
    let proxy = "\"$HTTP_PROXY\"";
    let bash = format!(
        "curl -sf --noproxy '' --proxy {proxy} -o /tmp/zeros '{url}'; stat -c %s /tmp/zeros"
    );
    assert_eq!(session.bash(&bash).await, SIZE.to_string());
    let python = format!(
        "import os, urllib.request as r\n\
         opener = r.build_opener(r.ProxyHandler({{'http': os.environ['HTTP_PROXY']}}))\n\
         req = r.Request('{url}'); req.set_proxy(os.environ['HTTP_PROXY'].split('//')[1].rstrip('/'), 'http')\n\
         len(r.build_opener(r.ProxyHandler({{}})).open(req).read())"
    );
    assert_eq!(session.python(&python).await, SIZE.to_string());
    let node = format!(
        "const proxy = new URL(process.env.HTTP_PROXY); const http = require('http');
         await new Promise((resolve, reject) => http.get({{ agent: new http.Agent(), host: proxy.hostname,
           port: proxy.port, path: '{url}' }}, (answer) => {{ let size = 0;
             answer.on('data', (piece) => {{ size += piece.length }});
             answer.on('end', () => resolve(size)) }}).on('error', reject))"
    );
    assert_eq!(session.node(&node).await, SIZE.to_string());
    session
        .node(&format!("await page.evaluate((url) => fetch(url).then((a) => a.arrayBuffer()).then(String), '{url}')"))
        .await;

    let all = requests(&session, |all| all.len() >= before + 4 && all_ended(all)).await;
    let large: Vec<_> = all.iter().filter(|r| r.received_bytes > 1 << 20).collect();
    let sources: Vec<_> = large.iter().map(|r| r.source()).collect();
    let code = NetworkSource::Code;
    assert_eq!(sources, [code, code, code, NetworkSource::Browser]);
    for request in large {
        let received = request.received_bytes;
        assert!((SIZE..SIZE + 100_000).contains(&received), "{request:?}");
        assert!((50..10_000).contains(&request.sent_bytes), "{request:?}");
    }
    let usage = totals(&session.now().await);
    assert_eq!(usage.0, all.len() as u64);
    assert_eq!(usage.1, 0);
    assert!(
        (4 * SIZE..4 * SIZE + 1_000_000).contains(&usage.3),
        "{usage:?}"
    );

    // Ended, it still shows them; and nothing of any path or query is anywhere.
    session.stop().await;
    let ended = read(&session).await;
    assert_eq!(ended.network_requests, all);
    assert_eq!(totals(ended.session.as_ref().unwrap()), usage);
    let text = format!("{:?}", ended.network_requests);
    for part in [SECRET, "zeros", "search", "token"] {
        assert!(!text.contains(part), "{part}: {text}");
        assert!(!daemon().log().contains(&format!("{part}?")), "{part}");
    }
    assert!(!daemon().log().contains(&format!("token={SECRET}")));
}

#[tokio::test]
async fn refusals_and_failures_say_why() {
    let session = blank().await;
    session
        .node(
            "await page.evaluate(() => new Promise((done) => { new WebSocket('ws://10.1.2.4/').onerror = done }).then(String));
             for (const url of ['http://10.1.2.3/s3cret', 'https://169.254.169.254/', 'http://nowhere.invalid/?s3cret'])
               await page.goto(url).catch(String);
             1",
        )
        .await;
    session
        .bash("curl -s http://10.1.2.5/s3cret; curl -s https://10.1.2.6/; curl -s --proxy \"$HTTP_PROXY\" --noproxy '' http://localhost:1/; true")
        .await;
    let hosts = [
        "10.1.2.3",
        "10.1.2.4",
        "10.1.2.5",
        "10.1.2.6",
        "169.254.169.254",
        "nowhere.invalid",
        "localhost",
    ];
    let all = requests(&session, |all| {
        hosts.iter().all(|host| all.iter().any(|r| r.host == *host)) && all_ended(all)
    })
    .await;
    for request in &all {
        let (verdict, rule) = match &*request.host {
            "169.254.169.254" => (NetworkVerdict::Refused, "metadata 169.254.169.254/32"),
            "nowhere.invalid" | "localhost" => (NetworkVerdict::Failed, ""),
            _ => (NetworkVerdict::Refused, "private-use 10.0.0.0/8"),
        };
        assert_eq!(
            (request.verdict(), &*request.rule),
            (verdict, rule),
            "{request:?}"
        );
        assert_eq!((request.sent_bytes, request.received_bytes), (0, 0));
        let error = match &*request.host {
            "nowhere.invalid" => "cannot resolve nowhere.invalid",
            "localhost" => "nothing listens on port 1 of the host that runs pagebox",
            _ => "",
        };
        assert!(request.error.contains(error), "{request:?}");
        assert_eq!(request.error.is_empty(), error.is_empty(), "{request:?}");
    }
    let sources: BTreeSet<_> = all
        .iter()
        .map(|r| (r.source().as_str_name(), &*r.host))
        .collect();
    let code = |host| sources.contains(&("NETWORK_SOURCE_CODE", host));
    assert!(code("10.1.2.5") && code("10.1.2.6") && !code("10.1.2.3") && !code("10.1.2.4"));
    let usage = totals(&session.now().await);
    assert_eq!((usage.2, usage.3), (0, 0));
    assert!(usage.1 >= 5 && usage.1 < usage.0, "{usage:?}");
    assert!(!format!("{all:?}").contains("s3cret"));
    session.stop().await;
}

#[tokio::test]
async fn the_log_is_bounded_and_the_totals_are_not() {
    let session = blank().await;
    session
        .bash("for i in $(seq 300); do echo \"url = http://10.0.0.1/$i\"; done | curl -s -K - -o /dev/null; true")
        .await;
    let reply = read(&session).await;
    assert_eq!(reply.network_requests.len(), 256);
    let ids: Vec<_> = reply.network_requests.iter().map(|r| r.id).collect();
    assert!(ids.windows(2).all(|two| two[1] == two[0] + 1), "{ids:?}");
    let usage = totals(reply.session.as_ref().unwrap());
    assert!(usage.0 >= 300 && usage.1 >= 300, "{usage:?}");
    assert_eq!(ids[255], usage.0);
    session.stop().await;
    // What an ended session keeps is bounded by its memory.
    let kept = read(&session).await.network_requests;
    assert!((50..=256).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept.last().unwrap().id, usage.0);
}

#[tokio::test]
async fn the_sessions_byte_limit_ends_a_download_and_is_named_afterwards() {
    const LIMIT: u64 = 1 << 20;
    let options = SessionOptions {
        network: Some(NetworkOptions {
            max_bytes: LIMIT,
            ..NetworkOptions::default()
        }),
        ..SessionOptions::default()
    };
    limit_holds(&client(), options, LIMIT).await;
}

#[tokio::test]
async fn the_daemons_byte_limit_holds_where_a_session_asks_for_none() {
    const LIMIT: u64 = 2 << 20;
    let daemon = Daemon::start(binary(), "[egress]\nmax_bytes = \"2 MiB\"\nlog = 4\n");
    let options = SessionOptions::default();
    limit_holds(&Client::new(&daemon.url()), options, LIMIT).await;
}

async fn limit_holds(client: &Client, options: SessionOptions, limit: u64) {
    let session = client.open_with(options).await;
    let url = site().url("/download/zeros?bytes=50000000");
    let get = "curl -s --proxy \"$HTTP_PROXY\" --noproxy ''";
    // 18: the transfer ended early.
    let code = format!("{get} -o /tmp/zeros '{url}'; echo $? $(stat -c %s /tmp/zeros)");
    let said = session.bash(&code).await;
    let (status, size) = said.split_once(' ').unwrap();
    assert_eq!(status, "18", "{said}");
    let size: u64 = size.parse().unwrap();
    // What was read and cut off before it was passed on counts too: a buffer, and headers.
    assert!((limit - 200_000..limit).contains(&size), "{said}");
    let all = requests(&session, all_ended).await;
    let last = all.last().unwrap();
    assert_eq!(
        (last.verdict(), &*last.rule),
        (NetworkVerdict::Refused, "byte-limit")
    );
    let usage = totals(&session.now().await);
    // One connection keeps to it exactly; Chromium's own may move bytes in the same moment.
    assert!(
        (limit..limit + 70_000).contains(&(usage.2 + usage.3)),
        "{usage:?}"
    );

    let said = session.bash(&format!("{get} -i '{url}'")).await;
    assert!(said.starts_with("HTTP/1.1 403 "), "{said}");
    assert!(said.contains("x-pagebox-egress: byte-limit"), "{said}");
    let code = format!("(await page.goto('{url}')).headers()['x-pagebox-egress']");
    assert_eq!(session.node(&code).await, "byte-limit");
    let after = totals(&session.now().await);
    assert_eq!(
        (after.2, after.3),
        (usage.2, usage.3),
        "nothing passed since"
    );
    assert!(after.1 >= usage.1 + 2);
    session.stop().await;
}

#[tokio::test]
async fn a_watcher_is_told_of_a_request_when_it_is_decided_and_when_it_has_ended() {
    let session = blank().await;
    let mut events = watch(&session).await;
    let url = site().url("/slow?ms=500");
    let code =
        format!("curl -sf --proxy \"$HTTP_PROXY\" --noproxy '' '{url}'; curl -s http://10.0.0.1/");
    session.bash(&code).await;
    let mut told = Vec::new();
    while told.len() < 3 {
        if let Event::NetworkRequest(request) = next(&mut events).await.expect("more")
            && request.source() == NetworkSource::Code
        {
            told.push(request);
        }
    }
    let [decided, ended, refused] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(
        (decided.id, decided.verdict()),
        (ended.id, NetworkVerdict::Allowed)
    );
    assert!(decided.end_time.is_none() && ended.end_time.is_some());
    assert_eq!(decided.received_bytes, 0);
    assert!(
        ended.received_bytes > 50 && ended.sent_bytes > 50,
        "{ended:?}"
    );
    assert_eq!(
        (&*refused.host, refused.verdict()),
        ("10.0.0.1", NetworkVerdict::Refused)
    );
    assert!(refused.end_time.is_some());
    session.stop().await;
    let mut last = None;
    while let Some(event) = next(&mut events).await {
        if let Event::Session(session) = event {
            last = Some(session.state());
        }
    }
    assert_eq!(last, Some(SessionState::Stopped));
}

#[tokio::test]
async fn a_watcher_that_reads_too_slowly_is_told_how_much_it_missed() {
    let session = blank().await;
    // A window of HTTP/2 that is soon full.
    let window = 64 << 10;
    let channel = Endpoint::from_shared(daemon().url())
        .unwrap()
        .initial_stream_window_size(window)
        .initial_connection_window_size(window)
        .connect_lazy();
    let request = WatchSessionRequest {
        session_id: session.id.clone(),
    };
    let reply = SessionServiceClient::new(channel)
        .watch_session(request)
        .await;
    let mut events = reply.unwrap().into_inner();
    // Far more than the queues on the way hold together.
    let name = format!("{0}.{0}.{0}.test", "x".repeat(60));
    session
        .bash(&format!(
            "for i in $(seq 6000); do echo \"url = http://{name}:22/$i\"; done | curl -s -K - -o /dev/null; true"
        ))
        .await;
    let total = totals(&session.now().await).0;
    session.stop().await;
    let (mut dropped, mut told) = (0, 0);
    while let Some(event) = next(&mut events).await {
        match event {
            Event::EventsDropped(event) => dropped += event.count,
            Event::NetworkRequest(_) => told += 1,
            _ => {}
        }
    }
    assert!(dropped > 0, "{told} told of {total}");
    assert!(
        told + dropped >= total,
        "{told} told, {dropped} dropped of {total}"
    );
}

/// Opens a page in it.
async fn title(session: &OpenSession) -> String {
    let code = format!(
        "await page.goto('{}'); await page.title()",
        site().url("/about.html")
    );
    session.node(&code).await
}

#[tokio::test]
async fn thousands_of_connections_starve_nobody_else() {
    let daemon = Daemon::start(binary(), "[egress]\nconnections = 64\n");
    let client = Client::new(&daemon.url());
    let session = client.open("about:blank").await;
    let neighbour = client.open("about:blank").await;
    // As many sockets as processes get, held open and silent.
    let flood = session
        .bash(
            "cat > /tmp/flood.py <<'END'\n\
             import os, socket, time\n\
             host, port = os.environ['HTTP_PROXY'].split('//')[1].rstrip('/').split(':')\n\
             held = []\n\
             for n in range(900):\n\
             \x20   s = socket.socket(); s.setblocking(False); s.connect_ex((host, int(port))); held.append(s)\n\
             time.sleep(1)\n\
             open(f'/tmp/flooding.{os.getpid()}', 'w').write(str(len(held)))\n\
             time.sleep(300)\n\
             END\n\
             for i in 1 2 3 4 5 6; do setsid python3 /tmp/flood.py >/dev/null 2>&1 & done\n\
             until [ $(ls /tmp/flooding.* 2>/dev/null | wc -l) -ge 6 ]; do sleep 0.2; done; cat /tmp/flooding.*",
        )
        .await;
    assert_eq!(flood, "900".repeat(6));
    // The page of the same session, and another session, go on.
    for session in [&session, &neighbour] {
        assert_ne!(title(session).await, "");
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid()))
        .unwrap()
        .count();
    assert!(open < 600, "{open} open files of the daemon");
    // A page that wants as many is held to what Chromium and the bound allow.
    let many = format!(
        "await page.evaluate((url) => {{ for (let n = 0; n < 10000; n++) fetch(url + '&n=' + n).catch(() => 0) }}, '{}'); 1",
        site().url("/slow?ms=60000")
    );
    session.node(&many).await;
    assert_ne!(title(&neighbour).await, "");
    assert_eq!(session.now().await.state(), SessionState::Ready);
    session.stop().await;
    neighbour.stop().await;
}

/// Far below the 60 s after which a connection nobody uses is closed anyway.
const AT_ONCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn connections_that_are_kept_for_later_delay_nobody() {
    let daemon = Daemon::start(binary(), "[egress]\nconnections = 8\n");
    let client = Client::new(&daemon.url());
    let session = client.open("about:blank").await;
    let url = site().url("/about.html");
    let at_once = async |what: &str, code: String| {
        let reply = session.good(Language::Node, &code);
        let reply = tokio::time::timeout(AT_ONCE, reply).await;
        let reply = reply.unwrap_or_else(|_| panic!("{what} waited"));
        reply.result.unwrap_or_default()
    };
    // Each is answered, and stays open for as long as the proxy likes.
    let hold = format!(
        "globalThis.net = await import('node:net'); globalThis.held = [];
         const {{ hostname, port }} = new URL(process.env.HTTP_PROXY);
         for (let n = 0; n < 100; n++) await new Promise((answered, failed) => {{
           const socket = net.connect(port, hostname).on('error', failed);
           socket.once('data', (bytes) => answered(held.push(String(bytes).slice(0, 12))));
           socket.on('data', () => 0);
           socket.write('GET {url} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n');
         }});
         [...new Set(held)].join() + held.length"
    );
    assert_eq!(at_once("the code", hold).await, "HTTP/1.1 200100");
    let title = format!("await page.goto('{url}'); await page.title()");
    assert_ne!(at_once("the page", title.clone()).await, "");
    // Chromium keeps a connection for each host it was at.
    let hosts = format!(
        "const kept = [];
         for (let n = 0; n < 24; n++)
           kept.push((await page.goto('{url}'.replace('localhost', `n${{n}}.localhost`))).status());
         String(kept.every((status) => status === 200))"
    );
    assert_eq!(at_once("the pages", hosts).await, "true");
    assert_ne!(at_once("the page", title).await, "");
    session.stop().await;
}

#[tokio::test]
async fn too_few_open_files_mean_fewer_connections_and_a_warning() {
    let script = format!("ulimit -n 2000; exec {} \"$@\"", binary().display());
    let wrapper = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(wrapper.path(), format!("#!/bin/sh\n{script}\n")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    let path = wrapper.into_temp_path();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let daemon = Daemon::start(
        &path,
        "[session]\nmax_sessions = 2\n[limits]\nconnections = 64\n",
    );
    // What it logs is read apart from the line that says it is ready.
    let warning = "this process may have 2000 open files, and 2 sessions may need ";
    crate::leaks::eventually(Duration::from_secs(10), async || match daemon.log() {
        log if log.contains(warning) => Ok(()),
        log => Err(log),
    })
    .await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    assert!(files.contains("2000"), "{files}");
}

#[tokio::test]
async fn the_command_line_shows_and_follows_it() {
    let session = blank().await;
    let cli = |arguments: &[&str]| {
        let mut command = command(binary());
        command
            .arg("session")
            .args(arguments)
            .arg(&session.id)
            .args(["--server", &daemon().url()]);
        command.stdout(std::process::Stdio::piped());
        command
    };
    let watching = cli(&["watch"]).spawn().unwrap();
    let json = cli(&["watch", "--json"]).spawn().unwrap();
    // Both are there once they are told of a request.
    session.bash("curl -s http://10.0.0.7/").await;
    let shown = cli(&["show"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("\nnetwork      "), "{shown}");
    let row = shown
        .lines()
        .find(|line| line.contains("10.0.0.7:80"))
        .unwrap();
    assert!(
        row.contains("code") && row.ends_with("private-use 10.0.0.0/8"),
        "{row}"
    );
    let shown = cli(&["show", "--json"]).output().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["session"]["id"], *session.id);
    assert_eq!(
        shown["networkRequests"][0]["verdict"], "NETWORK_VERDICT_REFUSED",
        "{shown}"
    );
    session.stop().await;
    let lines = |child: std::process::Child| {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let text = lines(watching);
    assert!(text.lines().next().unwrap().contains("session "), "{text}");
    assert!(text.trim_end().ends_with("session stopped"), "{text}");
    for line in lines(json).lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(event["time"].is_string(), "{line}");
    }
}
