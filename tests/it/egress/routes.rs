//! Nothing but the proxy leads out: no socket of code, no side channel of a page.

use std::collections::BTreeSet;
use std::time::Duration;

use super::clients::{curl, goto};
use super::world::{nothing_closed_was_reached, own, world};
use crate::internet::{DNS, PUBLIC_V4, PUBLIC_V6, World};

/// Errors of sockets that have no route.
const NO_ROUTE: &str = "ENETUNREACH";

fn asked(world: &World, mark: &str) -> Vec<String> {
    let questions = world.dns().questions().into_iter();
    questions
        .map(|question| question.name)
        .filter(|name| name.contains(mark))
        .collect()
}

#[tokio::test]
async fn sockets_of_code_have_no_route_anywhere() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    let code = format!(
        "
import errno, json, socket
def tried(call):
    try:
        call()
        return 'worked'
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e))
def connect(host, port):
    return lambda: socket.create_connection((host, port), timeout=30)
def send(host, port):
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    return lambda: socket.socket(family, socket.SOCK_DGRAM).sendto(b'x', (host, port))
json.dumps([
    *[tried(connect(host, 80)) for host in ['{PUBLIC_V4}', '10.0.0.5', '169.254.169.254', '45.76.10.2']],
    *[tried(send(host, port)) for host, port in [('{DNS}', 53), ('{PUBLIC_V4}', 443), ('10.0.0.5', 53)]],
    tried(connect('{PUBLIC_V6}', 80)), tried(send('{PUBLIC_V6}', 443)),
])"
    );
    let said: Vec<String> = serde_json::from_str(&session.python(&code).await).unwrap();
    assert_eq!(said, [NO_ROUTE; 9]);
    let code = format!(
        "const net = await import('node:net');
         await new Promise((done) => net.connect(80, '{PUBLIC_V4}')
           .on('connect', () => done('connected')).on('error', (e) => done(e.code)))"
    );
    assert_eq!(session.node(&code).await, NO_ROUTE);
    let code = format!("curl -s --noproxy '*' -m 30 http://{PUBLIC_V4}/; echo $?");
    assert_eq!(session.bash(&code).await, "7");
    // The same address, through the proxy.
    let url = format!("http://{PUBLIC_V4}/");
    assert_eq!(curl(&session, &[&url]).await, ["200"]);
    session.stop().await;
    nothing_closed_was_reached(world);
}

/// Code has no resolver: a name it looks up is asked for nowhere, not on the host either.
#[tokio::test]
async fn names_that_code_looks_up_are_asked_for_nowhere() {
    let Some(world) = world() else { return };
    world.dns().fixed("lookup.sites.example", &[PUBLIC_V4]);
    let session = world.client().open("about:blank").await;
    let code = "import socket\ntry:\n    socket.getaddrinfo('lookup.sites.example', 80)\n    r = 'found'\n\
                except OSError as e:\n    r = type(e).__name__\nr";
    assert_eq!(session.python(code).await, "gaierror");
    let code = "const dns = await import('node:dns/promises');
        const [a, b] = await Promise.allSettled([
          dns.lookup('lookup.sites.example'), dns.resolve4('lookup.sites.example')]);
        a.status + ' ' + b.status";
    assert_eq!(session.node(code).await, "rejected rejected");
    let code = "getent hosts lookup.sites.example || echo nothing";
    assert_eq!(session.bash(code).await, "nothing");
    assert_eq!(asked(world, "lookup.sites"), [""; 0]);
    // The pair: the proxy looks it up.
    assert_eq!(
        curl(&session, &["http://lookup.sites.example/"]).await,
        ["200"]
    );
    assert_eq!(asked(world, "lookup.sites").len(), 2);
    session.stop().await;
}

#[tokio::test]
async fn webrtc_finds_no_address_and_sends_nothing() {
    let Some(world) = world() else { return };
    let session = world.client().open("http://public.example/page").await;
    let code = format!(
        "await page.evaluate(async () => {{
           const peer = new RTCPeerConnection({{ iceServers: [
             {{ urls: 'stun:{PUBLIC_V4}:3478' }},
             {{ urls: ['turn:{PUBLIC_V4}:3478?transport=udp', 'turn:10.0.0.5:3478?transport=tcp',
                       'turns:10.0.0.5:8080?transport=tcp'], username: 'u', credential: 'p' }},
           ] }});
           const found = [];
           peer.onicecandidate = (e) => e.candidate && found.push(e.candidate.candidate);
           const gathered = new Promise((done) => {{
             peer.onicegatheringstatechange = () => peer.iceGatheringState === 'complete' && done();
             setTimeout(done, 10000);
           }});
           peer.createDataChannel('x');
           await peer.setLocalDescription(await peer.createOffer());
           await gathered;
           return JSON.stringify([peer.iceGatheringState !== 'new', ...found]);
         }})"
    );
    let said = session.node(&code).await;
    // It did look for ways, for as long as it was given, and found none.
    assert_eq!(said, "[true]");
    session.stop().await;
    nothing_closed_was_reached(world);
}

/// The sites offer HTTP/3 with every answer; `nothing_closed_was_reached` counts datagrams.
#[tokio::test]
async fn an_offer_of_http3_is_not_taken() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    let urls = ["https://public.example/h3"; 4];
    assert_eq!(goto(&session, &urls).await, ["200"; 4]);
    let version = "const cdp = await context.newCDPSession(page);
        await cdp.send('Security.setIgnoreCertificateErrors', { ignore: true });
        await page.goto('https://public.example/h3');
        await page.evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol)";
    assert_eq!(session.node(version).await, "http/1.1");
    session.stop().await;
    nothing_closed_was_reached(world);
}

/// Hints of a page for names it may need: those of DNS ask nothing, those to connect are judged.
#[tokio::test]
async fn hints_of_a_page_lead_nowhere_a_request_may_not_go() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    for name in ["prefetch", "anchor"] {
        let name = format!("{name}.sites.example");
        world.dns().fixed(&name, &[PUBLIC_V4]);
    }
    world
        .dns()
        .fixed("private-hint.sites.example", &["10.0.0.5"]);
    let html = "<link rel=dns-prefetch href='//prefetch.sites.example'>
        <meta http-equiv=x-dns-prefetch-control content=on>
        <a href='http://anchor.sites.example/'>x</a>
        <link rel=preload as=image href='http://other.example/pixel.gif?preload-pair'>
        <link rel=preconnect href='http://private-hint.sites.example'>
        <link rel=preconnect href='http://10.0.0.5'>
        <link rel=preconnect href='https://169.254.169.254'>
        <link rel=prefetch href='http://10.0.0.5/hint'>
        <link rel=preload as=image href='http://10.0.0.5/hint'>
        <link rel=modulepreload href='http://10.0.0.5/hint'>
        <script type=speculationrules>{\"prerender\":[{\"source\":\"list\",
          \"urls\":[\"http://10.0.0.5/hint\"]}]}</script>
        <img src='http://other.example/pixel.gif?hint-pair'>";
    let html: String = url::form_urlencoded::byte_serialize(html.as_bytes()).collect();
    let code = format!(
        "await page.goto('http://public.example/page?html={html}');
         await page.hover('a'); await page.waitForTimeout(3000); 'waited'"
    );
    session.node(&code).await;
    assert_eq!(asked(world, "prefetch.sites"), [""; 0]);
    assert_eq!(asked(world, "anchor.sites"), [""; 0]);
    // The pair: hints that are followed, and are let through.
    assert_eq!(world.sites().of_request("gif?preload-pair").len(), 1);
    assert_eq!(world.sites().of_request("gif?hint-pair").len(), 1);
    session.stop().await;
    nothing_closed_was_reached(world);
}

/// A browser left alone speaks to no one: in a world of its own, everything there is to see is what
/// the test did.
#[tokio::test]
async fn an_idle_browser_asks_for_nothing() {
    let Some(world) = own("") else { return };
    let session = world.client().open("http://public.example/idle").await;
    assert_eq!(
        goto(&session, &["https://public.example/idle"]).await,
        ["200"]
    );
    session.python("await page.title()").await;
    session.bash("agent-browser get title").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let names: BTreeSet<String> = asked(&world, "").into_iter().collect();
    assert_eq!(names, BTreeSet::from(["public.example".to_owned()]));
    let paths: BTreeSet<String> = world
        .sites()
        .all()
        .into_iter()
        .filter_map(|arrival| match arrival {
            crate::internet::Arrival::Request { path, .. } => Some(path),
            _ => None,
        })
        .collect();
    let own = ["/idle", "/favicon.ico"].map(str::to_owned);
    assert!(paths.is_subset(&BTreeSet::from(own)), "{paths:?}");
    session.stop().await;
    nothing_closed_was_reached(&world);
}
