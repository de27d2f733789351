//! Network: nothing but the proxy leads out, and the proxy leads nowhere that is closed.

use std::collections::BTreeMap;

use pagebox::grpc::v1::{GetSessionRequest, NetworkRequest, NetworkVerdict};

use crate::case::{Case, Group};
use crate::client::OpenSession;

#[path = "network/answers.rs"]
mod answers;
#[path = "network/cdp.rs"]
mod cdp;
#[path = "network/pages.rs"]
mod pages;
#[path = "network/peer.rs"]
mod peer;
#[path = "network/proxy.rs"]
mod proxy;
#[path = "network/sessions.rs"]
mod sessions;
#[path = "network/sockets.rs"]
mod sockets;
#[path = "network/targets.rs"]
mod targets;

pub(crate) fn group() -> Group {
    Group {
        title: "Network",
        cases: CASES,
    }
}

const CASES: &[Case] = &[
    Case {
        number: 51,
        name: "the daemon's own port",
        tries: "connects to the daemon's gRPC port from python, curl and the page, by every spelling of \
                loopback and every address and name of the host, directly, by CONNECT and in absolute \
                form, and through a redirect, while every other port of the host is open",
        observed: "no direct connection (ECONNREFUSED, ENETUNREACH); the proxy answers 403 \
                   `protected-port` or the rule of the range; the site beside it answers 200",
        run: |ground| Box::pin(targets::own_port(ground)),
    },
    Case {
        number: 52,
        name: "another session's listeners",
        tries: "connects to ports, abstract and path unix sockets, UDP and shared memory of another \
                session, and to its CDP endpoint and proxy",
        observed: "ECONNREFUSED or ENOENT; 9222 and 3128 are always the session's own",
        run: |ground| Box::pin(sessions::listeners(ground)),
    },
    Case {
        number: 53,
        name: "metadata services",
        tries: "asks for every metadata address known, directly and by the proxy, in many spellings",
        observed: "ENETUNREACH directly; 403 with the rule by the proxy",
        run: |ground| Box::pin(targets::metadata(ground)),
    },
    Case {
        number: 54,
        name: "private and special ranges",
        tries: "asks the proxy for an address of every special range, from python, fetch, curl and the page",
        observed: "403 with the range's name; in the session's log nothing but refusals",
        run: |ground| Box::pin(targets::ranges(ground)),
    },
    Case {
        number: 57,
        name: "a redirect to a closed place",
        tries: "follows a redirect of an open site to private, metadata and loopback addresses, to the \
                daemon and to file:, in the page, node, requests, urllib and curl",
        observed: "403 or an error on the second hop; the redirect to an open page is followed",
        run: |ground| Box::pin(targets::redirects(ground)),
    },
    Case {
        number: 58,
        name: "requests that disagree with themselves",
        tries: "sends the proxy CONNECT to a closed port, WebSocket to private hosts, a Host other than \
                the target, user names in URLs, relative and foreign-scheme URLs",
        observed: "the target alone decides: 403 or 400; the host sees its own name",
        run: |ground| Box::pin(proxy::disagreeing(ground)),
    },
    Case {
        number: 59,
        name: "unix sockets of the host",
        tries: "connects to abstract sockets that listen on the host",
        observed: "ECONNREFUSED; the host itself connects",
        run: |ground| Box::pin(sockets::abstract_sockets(ground)),
    },
    Case {
        number: 60,
        name: "datagrams, names, WebRTC, QUIC",
        tries: "sends UDP to the host, the internet, broadcast and multicast, looks names up without the \
                proxy, gathers WebRTC candidates and opens WebTransport",
        observed: "ENETUNREACH, ECONNREFUSED, EAI_AGAIN; no candidate; no datagram reaches the host",
        run: |ground| Box::pin(sockets::datagrams(ground)),
    },
    Case {
        number: 61,
        name: "a browser context with a proxy",
        tries: "makes browser contexts with a proxy or a bypass list of their own, by CDP and Playwright",
        observed: "refused; a context without one works, and goes through the session's proxy",
        run: |ground| Box::pin(cdp::contexts(ground)),
    },
    Case {
        number: 140,
        name: "requests smuggled through the proxy",
        tries: "sends a second request inside the first: both lengths, two lengths, odd encodings, line \
                folding, bare LF, NUL, a body after CONNECT, pipelining after a refusal, trailers",
        observed: "400, or the host gets one request in the proxy's own words, and never the hidden one",
        run: |ground| Box::pin(proxy::smuggling(ground)),
    },
    Case {
        number: 141,
        name: "other protocols to the proxy",
        tries: "speaks HTTP/0.9, HTTP/2 with prior knowledge, TLS, SOCKS and noise to the proxy",
        observed: "400 or the end of the connection; the next request is answered",
        run: |ground| Box::pin(proxy::other_protocols(ground)),
    },
    Case {
        number: 142,
        name: "hosts that answer badly",
        tries: "has page and code read answers without end, with impossible lengths, header floods, \
                unasked upgrades, injected header lines",
        observed: "502, or the answer breaks off; the proxy goes on",
        run: |ground| Box::pin(answers::bad_answers(ground)),
    },
    Case {
        number: 143,
        name: "half-open connections",
        tries: "opens 400 connections to the proxy that send half a header, and a storm of 3000 that close",
        observed: "code's own places are used up; the page, the CDP endpoint and other sessions go on; \
                   the end of the context frees them",
        run: |ground| Box::pin(proxy::half_open(ground)),
    },
    Case {
        number: 144,
        name: "the CDP endpoint over HTTP",
        tries: "sends Origin, foreign Hosts, every method and path of DevTools, broken handshakes, and \
                tunnels to it from the page",
        observed: "403, 404, 405, 426, 400; only loopback names without Origin are answered",
        run: |ground| Box::pin(cdp::endpoint(ground)),
    },
    Case {
        number: 145,
        name: "sockets of every kind",
        tries: "opens raw, packet, netlink and a dozen other sockets, sets the options that change routes, \
                marks and devices, joins multicast groups, binds privileged ports and foreign addresses",
        observed: "EAFNOSUPPORT, EPERM, EACCES, ENODEV, ENETUNREACH; the same calls work on the host",
        run: |ground| Box::pin(sockets::kinds(ground)),
    },
    Case {
        number: 146,
        name: "two sessions that cooperate",
        tries: "passes a word from one session to another by files, shared memory, System V IPC, message \
                queues, unix sockets and ports",
        observed: "nothing arrives; within one session it does",
        run: |ground| Box::pin(sessions::cooperate(ground)),
    },
    Case {
        number: 147,
        name: "every way a page can send",
        tries: "img, script, iframe, form, beacon, EventSource, WebSocket, fetch without CORS, workers, \
                prefetch and ping to closed places",
        observed: "the session's log has a refusal for what was sent and allows nothing",
        run: |ground| Box::pin(pages::ways(ground)),
    },
];

/// What a script printed as a table of names and outcomes.
fn table(json: &str) -> BTreeMap<String, String> {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// Every network request of a session that its log still has.
async fn log(session: &OpenSession) -> Vec<NetworkRequest> {
    let request = GetSessionRequest {
        session_id: session.id.clone(),
    };
    let reply = session.client().sessions().get_session(request).await;
    reply.expect("it is known").into_inner().network_requests
}

/// Asserts that of a session's requests only those to `port` of the host were let through.
async fn only_allowed(session: &OpenSession, port: u16) {
    for request in log(session).await {
        assert!(
            request.verdict() == NetworkVerdict::Refused || request.port == u32::from(port),
            "{request:?}"
        );
    }
}

/// Python that can write to the proxy by hand, for many requests at once: `asked(list of bytes)`
/// gives what came back, `statuses` its status codes.
const BY_HAND: &str = r#"
import concurrent.futures, json, socket, time
def ask(request, host='127.0.0.1', port=3128, wait=4):
    data = b''
    try:
        with socket.create_connection((host, port), timeout=30) as s:
            s.settimeout(wait)
            s.sendall(request)
            until = time.monotonic() + 2 * wait
            while len(data) < 1 << 20 and time.monotonic() < until and (chunk := s.recv(65536)): data += chunk
    except TimeoutError: data += b'<open>'
    except OSError: data += b'<reset>'
    return data
def asked(requests):
    with concurrent.futures.ThreadPoolExecutor(32) as pool: return list(pool.map(ask, requests))
def statuses(data):
    seen = [line.split(b' ')[1].decode() for line in data.split(b'\r\n') if line.startswith(b'HTTP/1.1 ')]
    return ' '.join(seen) or ('open' if b'<open>' in data else 'closed')
def get(url, host='x'):
    return f'GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n'.encode()
def connect(authority):
    return f'CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n'.encode()
"#;
