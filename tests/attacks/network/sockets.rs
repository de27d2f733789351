//! Sockets that are not the proxy's.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::Command;
use std::time::Duration;

use super::table;
use super::targets::own_address;
use crate::arena::Ground;

/// Opens sockets and sets options; changes nothing outside the sockets, so that it can run on the
/// host too. The last line is the table.
const KINDS: &str = r#"
import errno, json, socket, struct
said = {}
def tried(name, call):
    try:
        call()
        said[name] = 'worked'
    except OSError as e: said[name] = errno.errorcode.get(e.errno, str(e))
def opened(*kind): return lambda: socket.socket(*kind).close()
I4, I6, D, S, R = socket.AF_INET, socket.AF_INET6, socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_RAW
def option(level, name, value, family=I4, kind=D):
    def call():
        with socket.socket(family, kind) as s: s.setsockopt(level, name, value)
    return call
def bound(kind, address):
    def call():
        with socket.socket(I4, kind) as s: s.bind(address)
    return call
one = struct.pack('i', 1)
for name, kind in dict(raw_icmp=(I4, R, 1), raw_tcp=(I4, R, 6), raw_any=(I4, R, 255), raw6=(I6, R, 58),
        packet=(17, R, 0x300), packet_dgram=(17, D, 0x300), netlink_route=(16, R, 0), sock_diag=(16, R, 4),
        netfilter=(16, R, 12), audit=(16, R, 9), uevent=(16, D, 15), vsock=(40, S, 0), alg=(38, 5, 0),
        xdp=(44, R, 0), can=(29, R, 1), bluetooth=(31, R, 1), tipc=(30, D, 0), smc=(43, S, 0), kcm=(41, D, 0),
        rds=(21, 5, 0), key=(15, R, 2), x25=(9, 5, 0), ax25=(3, D, 0), nfc=(39, R, 0), qipcrtr=(42, D, 0)).items():
    tried(name, opened(*kind))
tried('mark', option(1, 36, one))
tried('rcvbufforce', option(1, 33, struct.pack('i', 1 << 30)))
tried('transparent', option(0, 19, one))
tried('tcp_repair', option(6, 19, one, kind=S))
tried('source_route', option(0, 4, bytes([131, 7, 4, 10, 0, 0, 5, 0])))
tried('join', option(0, 35, socket.inet_aton('224.0.0.251') + bytes(4)))
tried('bind_80', bound(S, ('127.0.0.1', 80)))
tried('bind_53', bound(D, ('127.0.0.9', 53)))
tried('bind_foreign', bound(S, ('10.0.0.5', 8000)))
"#;

/// What would change a network; only ever run inside, where there is none to change.
const CHANGES: &str = r#"
import fcntl
def control(code, data):
    def call():
        with socket.socket(I4, D) as s: fcntl.ioctl(s, code, data)
    return call
tried('if_down', control(0x8914, struct.pack('16sh22x', b'lo', 0)))
tried('if_address', control(0x8916, struct.pack('16sHH4s16x', b'lo', 2, 0, bytes([10, 0, 0, 5]))))
tried('route_add', control(0x890B, bytes(120)))
tried('arp_set', control(0x8955, bytes(68)))
tried('bridge_add', control(0x89a0, b'br0'.ljust(16, b'\0')))
"#;

const EXPECTED: &[(&str, &[&str])] = &[
    ("raw_", &["EPERM"]),
    ("raw6", &["EPERM"]),
    ("mark", &["EPERM"]),
    ("rcvbufforce", &["EPERM"]),
    ("transparent", &["EPERM"]),
    ("tcp_repair", &["EPERM"]),
    ("source_route", &["EPERM"]),
    ("join", &["ENODEV"]),
    ("bind_foreign", &["EADDRNOTAVAIL"]),
    ("bind_", &["EACCES"]),
    ("if_", &["EPERM"]),
    ("route_", &["EPERM"]),
    ("arp_", &["EPERM"]),
    ("bridge_", &["EPERM", "ENOPKG", "ENOTTY"]),
    // Everything else is a family that is not let through.
    ("", &["EAFNOSUPPORT"]),
];

pub(super) async fn kinds(ground: &Ground) {
    let session = ground.blank().await;
    let script = format!("{KINDS}{CHANGES}json.dumps(said)");
    let inside = table(&session.python(&script).await);
    for (name, seen) in &inside {
        let expected = EXPECTED.iter().find(|(start, _)| name.starts_with(start));
        let (_, errors) = expected.expect("the last one fits all");
        assert!(errors.contains(&&**seen), "{name}: {seen}");
    }
    let script = format!("{KINDS}print(json.dumps(said))");
    let host = Command::new("python3").args(["-c", &script]).output();
    let host = table(&String::from_utf8(host.expect("python3 is installed").stdout).unwrap());
    let proved: Vec<&String> = host
        .iter()
        .filter(|(_, seen)| *seen == "worked")
        .map(|(name, _)| name)
        .collect();
    println!(
        "    {} calls refused inside, {} of them seen to work on this host",
        inside.len(),
        proved.len()
    );
    // Without privilege the host itself has fewer of them.
    assert!(host.contains_key("netlink_route") && host["netlink_route"] == "worked");
    session.stop().await;
}

pub(super) async fn abstract_sockets(ground: &Ground) {
    let name = format!("pagebox-attack-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    listener.set_nonblocking(true).unwrap();
    UnixStream::connect_addr(&address).expect("the host itself connects");
    listener.accept().expect("it arrives");
    let session = ground.blank().await;
    let script = format!(
        "import errno, json, socket
said = {{}}
for name in ['{name}', '/tmp/.X11-unix/X0', '/run/dbus/system_bus_socket', 'dbus']:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as s:
            for path in ('\\0' + name, name):
                try: s.connect(path); said[f'{{path!r}} {{kind}}'] = 'connected'
                except OSError as e: said[f'{{path!r}} {{kind}}'] = errno.errorcode[e.errno]
json.dumps(said)"
    );
    for (path, seen) in table(&session.python(&script).await) {
        assert!(
            ["ECONNREFUSED", "ENOENT"].contains(&&*seen),
            "{path}: {seen}"
        );
    }
    let code = format!(
        "await new Promise((end) => require('net').connect('\\0{name}')
           .on('connect', () => end('connected')).on('error', (e) => end(e.code)))"
    );
    assert_eq!(session.node(&code).await, "ECONNREFUSED");
    let nobody = listener.accept().unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
    session.stop().await;
}

pub(super) async fn datagrams(ground: &Ground) {
    let inbox = tokio::net::UdpSocket::bind("0.0.0.0:0").await.unwrap();
    let port = inbox.local_addr().unwrap().port();
    let sender = tokio::net::UdpSocket::bind("0.0.0.0:0").await.unwrap();
    sender.send_to(b"pair", ("127.0.0.1", port)).await.unwrap();
    let mut seen = [0; 1500];
    let arrived = tokio::time::timeout(Duration::from_secs(10), inbox.recv(&mut seen)).await;
    assert_eq!(arrived.expect("the host itself sends").unwrap(), 4);

    let host = own_address().map_or_else(|| "192.0.2.1".to_owned(), |address| address.to_string());
    let session = ground.open("/about.html").await;
    let script = format!(
        "import errno, json, socket, struct
said = {{}}
def tried(name, call):
    try: said[name] = str(call() or 'sent')
    except socket.gaierror as e: said[name] = 'EAI_AGAIN' if e.errno == socket.EAI_AGAIN else str(e)
    except OSError as e: said[name] = errno.errorcode.get(e.errno, str(e))
def sent(family, address, *options, kind=socket.SOCK_DGRAM, flags=0):
    def call():
        with socket.socket(family, kind) as s:
            for o in options: s.setsockopt(*o)
            s.sendto(b'x' * 512, flags, address)
    return call
I4, I6 = socket.AF_INET, socket.AF_INET6
for host in ('{host}', '8.8.8.8', '10.0.0.5', '169.254.169.254', '224.0.0.251', '239.255.255.250', '192.0.2.255'):
    tried(host, sent(I4, (host, {port})))
tried('broadcast', sent(I4, ('255.255.255.255', {port}), (1, 6, struct.pack('i', 1))))
tried('mapped', sent(I6, ('::ffff:8.8.8.8', {port})))
tried('google6', sent(I6, ('2001:4860:4860::8888', 53)))
tried('mdns6', sent(I6, ('ff02::fb', 5353, 0, 1)))
for scope in (0, 1, 2, 3): tried(f'scope {{scope}}', sent(I6, ('fe80::1', 53, 0, scope)))
tried('fast open', sent(I4, ('8.8.8.8', 53), kind=socket.SOCK_STREAM, flags=0x20000000))
for name in ('example.com', 'localhost.example.com', 'printer.local', 'metadata.google.internal'):
    tried('name ' + name, lambda: socket.getaddrinfo(name, 80))
# To its own loopback it may send; nobody of the host is there.
own = sent(I4, ('127.0.0.1', {port})); own()
json.dumps(said)"
    );
    for (name, seen) in table(&session.python(&script).await) {
        let expected = if name.starts_with("name ") {
            "EAI_AGAIN"
        } else {
            "ENETUNREACH"
        };
        assert_eq!(seen, expected, "{name}");
    }
    let code = format!(
        "await page.evaluate(async () => {{
           const peer = new RTCPeerConnection({{ iceServers: [
             {{ urls: ['stun:{host}:{port}', 'stun:127.0.0.1:{port}', 'stun:8.8.8.8:{port}'] }},
             {{ urls: ['turn:{host}:{port}?transport=udp', 'turn:{host}:{port}?transport=tcp'],
               username: 'u', credential: 'p' }}] }});
           const found = [];
           peer.onicecandidate = (e) => e.candidate && found.push(e.candidate.candidate);
           const gathered = new Promise((done) => {{
             peer.onicegatheringstatechange = () => peer.iceGatheringState === 'complete' && done();
             setTimeout(done, 5000);
           }});
           peer.createDataChannel('x');
           await peer.setLocalDescription(await peer.createOffer());
           await gathered;
           const quic = await Promise.all(['{host}:{port}', '127.0.0.1:{port}'].map((to) => {{
             const transport = new WebTransport(`https://${{to}}/`);
             transport.closed.catch(() => {{}});
             return transport.ready.then(() => 'open', () => 'failed');
           }}));
           return [peer.iceGatheringState !== 'new', ...found, ...quic].join();
         }})"
    );
    assert_eq!(session.node(&code).await, "true,failed,failed");
    session.stop().await;
    let nothing = inbox.try_recv(&mut seen).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
}
