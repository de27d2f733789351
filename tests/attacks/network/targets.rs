//! Places that are closed, asked for in every way.

use std::net::{Ipv4Addr, UdpSocket};

use pagebox::grpc::v1::Language;

use super::{BY_HAND, only_allowed, table};
use crate::arena::Ground;
use crate::client::OpenSession;

/// Spellings of loopback: of those in the first half the site answers.
const OPEN_LOOPBACK: [&str; 11] = [
    "127.0.0.1",
    "localhost",
    "[::1]",
    "127.1",
    "2130706433",
    "0x7f.1",
    "0177.0.0.1",
    "127.0.0.1.",
    "LOCALHOST.",
    "a.localhost",
    "[0:0:0:0:0:0:0:1]",
];
const OTHER_LOOPBACK: [&str; 8] = [
    "127.0.0.2",
    "127.255.255.254",
    "0.0.0.0",
    "0",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[::ffff:7f00:1]",
];

/// An address of this host's way out, if it has one.
pub(super) fn own_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Sends nothing: it only chooses a route.
    socket.connect("198.51.100.1:9").ok()?;
    match socket.local_addr().ok()?.ip() {
        std::net::IpAddr::V4(address) if !address.is_unspecified() => Some(address),
        _ => None,
    }
}

fn quoted(hosts: &[String]) -> String {
    serde_json::to_string(hosts).expect("strings")
}

pub(super) async fn own_port(ground: &Ground) {
    let session = ground.open("/about.html").await;
    let (own, site) = (ground.daemon().address().port(), ground.site().port());
    let mut hosts: Vec<String> = OPEN_LOOPBACK
        .iter()
        .chain(&OTHER_LOOPBACK)
        .map(|host| (*host).to_owned())
        .collect();
    hosts.extend(own_address().map(|address| address.to_string()));
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    hosts.extend(Some(name.trim().to_owned()).filter(|name| !name.is_empty()));
    let script = format!(
        "{BY_HAND}
hosts = {hosts}
said = {{}}
for port in ({own}, {site}):
    for kind, requests in [('get', [get(f'http://{{h}}:{{port}}/about.html') for h in hosts]),
                           ('connect', [connect(f'{{h}}:{{port}}') for h in hosts])]:
        for host, data in zip(hosts, asked(requests)): said[f'{{kind}} {{host}} {{port}}'] = statuses(data)
for host in ['127.0.0.1', '127.0.0.2', '0.0.0.0', '::1', '::', '::ffff:127.0.0.1', *[h for h in hosts[19:20]]]:
    try:
        socket.create_connection((host, {own}), timeout=30)
        said['direct ' + host] = 'connected'
    except OSError as e: said['direct ' + host] = type(e).__name__
json.dumps(said)",
        hosts = quoted(&hosts)
    );
    let said = table(&session.python(&script).await);
    for (asked, status) in &said {
        let open = !asked.starts_with("direct")
            && asked.ends_with(&format!(" {site}"))
            && OPEN_LOOPBACK.contains(&asked.split(' ').nth(1).unwrap_or_default());
        if open {
            assert!(status.starts_with("200"), "{asked}: {status}");
        } else {
            let closed = ["400", "403", "502", "ConnectionRefusedError", "OSError"];
            assert!(closed.contains(&&**status), "{asked}: {status}");
        }
    }
    for host in OPEN_LOOPBACK {
        for kind in ["get", "connect"] {
            let status = &said[&format!("{kind} {host} {own}")];
            assert_eq!(status, "403", "{kind} {host}");
        }
    }
    // The page, and a redirect in the page.
    let code = format!(
        "const said = [];
         for (const url of ['http://localhost:{own}/', 'http://[::1]:{own}/', 'http://0x7f.1:{own}/',
             'http://localhost:{site}/redirect?to=http://127.0.0.1:{own}/',
             'http://localhost:{site}/about.html'])
           said.push((await page.goto(url)).status());
         said.join(' ')"
    );
    assert_eq!(session.node(&code).await, "403 403 403 403 200");
    only_allowed(&session, site).await;
    session.stop().await;
}

pub(super) async fn metadata(ground: &Ground) {
    const DIRECT: [&str; 6] = [
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
    ];
    const HOSTS: [&str; 22] = [
        "169.254.169.254",
        "169.254.169.254.",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]",
        "[fd00:ec2::254]",
        "[fd00:ec2::23]",
        "[fd20:ce::254]",
        "[fd00:42::42]",
        "[fd00:c1::a9fe:a9fe]",
        "[fd00:a9fe:a9fe::1]",
        "[fd00:100::100:200]",
        "[FE80::a9fe:a9fe]",
        "\u{ff11}\u{ff16}\u{ff19}.254.169.254",
    ];
    let session = ground.open("/about.html").await;
    closed(&session, &HOSTS, &DIRECT).await;
    only_allowed(&session, ground.site().port()).await;
    session.stop().await;
}

pub(super) async fn ranges(ground: &Ground) {
    const DIRECT: [&str; 8] = [
        "10.0.0.5",
        "172.16.0.5",
        "192.168.1.5",
        "100.64.0.5",
        "198.18.0.5",
        "8.8.8.8",
        "fd00::5",
        "2606:4700:4700::1111",
    ];
    const HOSTS: [&str; 34] = [
        "10.0.0.5",
        "10.5",
        "167772165",
        "012.0.0.05",
        "172.16.0.5",
        "172.31.255.254",
        "192.168.1.5",
        "0xc0a80105",
        "100.64.0.5",
        "100.127.255.254",
        "169.254.1.1",
        "192.0.0.170",
        "192.0.2.5",
        "192.88.99.5",
        "198.18.0.5",
        "198.19.255.254",
        "198.51.100.5",
        "203.0.113.5",
        "224.0.0.251",
        "239.255.255.250",
        "240.0.0.5",
        "255.255.255.255",
        "[fd00::5]",
        "[fc00::5]",
        "[fe80::5]",
        "[ff02::fb]",
        "[::ffff:10.0.0.5]",
        "[::10.0.0.5]",
        "[64:ff9b::a00:5]",
        "[2002:a00:5::]",
        "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
        "[2001:db8::5]",
        "[5f00::5]",
        "[4000::5]",
    ];
    let session = ground.open("/about.html").await;
    closed(&session, &HOSTS, &DIRECT).await;
    // By name no port but 80 and 443 is open, whatever the name's addresses.
    let script = format!(
        "{BY_HAND}
hosts = ['93.184.216.34:22', '93.184.216.34:25', '93.184.216.34:53', '93.184.216.34:6379', '[2606:4700::1]:22']
json.dumps({{h: statuses(d) for h, d in zip(hosts, asked([connect(h) for h in hosts]))}})"
    );
    for (host, status) in table(&session.python(&script).await) {
        assert_eq!(status, "403", "{host}");
    }
    only_allowed(&session, ground.site().port()).await;
    session.stop().await;
}

/// Asserts that `hosts` are refused to python by hand, to fetch, curl and the page, and that nothing
/// leads to `direct` without the proxy.
async fn closed(session: &OpenSession, hosts: &[&str], direct: &[&str]) {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let direct: Vec<String> = direct.iter().map(|host| (*host).to_owned()).collect();
    let script = format!(
        "{BY_HAND}
import errno
hosts, direct, said = {hosts}, {direct}, {{}}
requests = [(f'{{kind}} {{h}}', make(h)) for h in hosts for kind, make in
    [('get', lambda h: get(f'http://{{h}}/latest/meta-data/')), ('connect', lambda h: connect(h + ':443'))]]
for (name, _), data in zip(requests, asked([request for _, request in requests])):
    rule = [l for l in data.split(b'\\r\\n') if l.startswith(b'x-pagebox-egress: ')]
    said[name] = statuses(data) + ('' if rule else ' without a rule')
for host in direct:
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(family, kind) as s:
            s.settimeout(30)
            try:
                s.connect((host, 80)); s.send(b'x'); said[f'{{host}} {{kind}}'] = 'sent'
            except OSError as e: said[f'{{host}} {{kind}}'] = errno.errorcode.get(e.errno, str(e))
json.dumps(said)",
        hosts = quoted(&hosts),
        direct = quoted(&direct)
    );
    for (asked, status) in table(&session.python(&script).await) {
        let by_proxy = asked.starts_with("get ") || asked.starts_with("connect ");
        // What is no host in a request line at all is 400.
        let full_width = !asked.is_ascii() && status == "400 without a rule";
        let expected = if by_proxy { "403" } else { "ENETUNREACH" };
        assert!(full_width || status == expected, "{asked}: {status}");
    }
    let few: Vec<String> = hosts.iter().step_by(4).cloned().collect();
    let code = format!(
        "const hosts = {few}; const said = {{}};
         await Promise.all(hosts.map(async (host) => {{
           said['fetch ' + host] = await fetch(`http://${{host}}/`).then((r) => r.status,
             (e) => / 40[03] /.test(e.cause?.message ?? '') ? 'refused' : String(e.cause ?? e));
           const tab = await context.newPage();
           said['page ' + host] = await tab.goto(`http://${{host}}/`).then((r) => String(r.status()), (e) => e.message);
           said['tunnel ' + host] = await tab.goto(`https://${{host}}/`).then((r) => String(r.status()),
             (e) => /ERR_TUNNEL_CONNECTION_FAILED|ERR_ADDRESS_INVALID|ERR_NAME_NOT_RESOLVED/.test(e.message) ? 'refused' : e.message);
           await tab.close();
         }}));
         said",
        few = quoted(&few)
    );
    for (asked, status) in table(&session.node(&code).await) {
        let expected = if asked.starts_with("page ") {
            "403"
        } else {
            "refused"
        };
        // An address Chromium itself takes for invalid it does not even ask for.
        let invalid = status.contains("ERR_ADDRESS_INVALID");
        assert!(status == expected || invalid, "{asked}: {status}");
    }
    let urls: String = few
        .iter()
        .map(|host| format!(" 'http://{host}/'"))
        .collect();
    let curl = format!(
        "for u in{urls}; do curl -g -s -m 20 -o /dev/null -w '%{{http_code}} ' --noproxy '' \"$u\" || true; done"
    );
    let said = session.exec(Language::Bash, &curl).await.stdout;
    assert!(
        said.split_whitespace()
            .all(|code| ["403", "000"].contains(&code))
            && said.contains("403"),
        "{said}"
    );
}

pub(super) async fn redirects(ground: &Ground) {
    let session = ground.open("/about.html").await;
    let (own, site) = (ground.daemon().address().port(), ground.site().port());
    let targets = [
        "http://10.0.0.5/".to_owned(),
        "http://169.254.169.254/latest/".to_owned(),
        "http://[fd00::5]/".to_owned(),
        "http://0xa000005/".to_owned(),
        format!("http://127.0.0.1:{own}/"),
        "http://localhost:9222/json/version".to_owned(),
        "http://localhost:3128/".to_owned(),
        "http://93.184.216.34:22/".to_owned(),
        "file:///etc/passwd".to_owned(),
    ];
    let hop = |to: &str| {
        let to: String = url::form_urlencoded::byte_serialize(to.as_bytes()).collect();
        format!("http://localhost:{site}/redirect?to={to}")
    };
    let urls: Vec<String> = targets.iter().map(|to| hop(to)).collect();
    let open = hop("/about.html");
    let closed = |text: &str| {
        [
            "403",
            "ERR_",
            "failed",
            "refused",
            "not supported",
            "unknown url type",
            "Unsupported",
        ]
        .iter()
        .any(|word| text.contains(word))
            && !text.starts_with("200")
    };
    let code = format!(
        "const said = {{}};
         for (const url of {urls}) {{
           said['page ' + url] = await page.goto(url).then((r) => String(r.status()), (e) => e.message);
         }}
         said",
        urls = quoted(&urls)
    );
    for (asked, text) in table(&session.node(&code).await) {
        assert!(closed(&text), "{asked}: {text}");
    }
    let code = format!(
        "import json, os, subprocess, urllib.request, requests
os.environ.pop('NO_PROXY', None); os.environ.pop('no_proxy', None)
said = {{}}
def tried(name, call):
    try: said[name] = str(call())
    except Exception as e: said[name] = 'failed ' + str(e)
for url in {urls}:
    tried('urllib ' + url, lambda: urllib.request.urlopen(url, timeout=20).status)
    tried('requests ' + url, lambda: requests.get(url, timeout=20).status_code)
    curl = ['curl', '-sSL', '-m', '20', '-o', '/dev/null', '-w', '%{{http_code}}', '--noproxy', '', url]
    tried('curl ' + url, lambda: (lambda r: r.stdout if r.returncode == 0 else 'failed ' + r.stderr)(
        subprocess.run(curl, capture_output=True, text=True)))
json.dumps(said)",
        urls = quoted(&urls)
    );
    for (asked, text) in table(&session.python(&code).await) {
        assert!(closed(&text), "{asked}: {text}");
    }
    // A node program of its own, that takes the proxy for localhost too.
    let fetch = |urls: &[String]| {
        format!(
            "NO_PROXY= no_proxy= node -e 'const said = {{}};
             Promise.all({}.map(async (url) => {{
               said[url] = await fetch(url).then((r) => String(r.status), (e) => `failed ${{e.cause ?? e}}`);
             }})).then(() => console.log(JSON.stringify(said)))'",
            quoted(urls)
        )
    };
    for (asked, text) in table(&session.bash(&fetch(&urls)).await) {
        assert!(
            closed(&text) && !text.contains("ECONNREFUSED"),
            "fetch {asked}: {text}"
        );
    }
    let followed = table(&session.bash(&fetch(std::slice::from_ref(&open))).await);
    assert_eq!(followed[&open], "200");
    let followed = format!("(await page.goto('{open}')).status()");
    assert_eq!(session.node(&followed).await, "200");
    only_allowed(&session, site).await;
    session.stop().await;
}
