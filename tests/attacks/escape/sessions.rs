//! Sandboxes that cooperate: of one session, and of two.

use pagebox::grpc::v1::Language;

use super::probe;
use crate::arena::Ground;

/// 118: descriptors of one sandbox in another of the same session.
pub(super) async fn descriptors(ground: &Ground) {
    let session = ground.blank().await;
    let give = r"
import os, socket, threading
given = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in ('/', '/proc', '/proc/self', '/dev/shm', '/opt/pagebox/runners/python')]
given.append(os.pidfd_open(os.getpid()))
open('/dev/shm/private', 'w').write('private')
server = socket.socket(socket.AF_UNIX)
server.bind('/workspace/meet')
server.listen()
def serve():
    peer, _ = server.accept()
    socket.send_fds(peer, [b'x'], given)
    peer.recv(1)
threading.Thread(target=serve, daemon=True).start()
";
    session.good(Language::Python, give).await;
    let take = r"
meet = socket.socket(socket.AF_UNIX)
meet.connect('/workspace/meet')
_, (root, proc, itself, memory, runner, pidfd), _, _ = socket.recv_fds(meet, 1, 6)
same = lambda fd, path: 'same' if os.path.samestat(os.fstat(fd), os.stat(path, dir_fd=fd)) else 'elsewhere'
def at(fd, path, flags=os.O_RDONLY): return lambda: os.open(path, flags, dir_fd=fd)
t('above root', lambda: same(root, '..'))
t('far above root', lambda: same(root, '../../../..'))
t('root', at(root, 'etc/shadow'))
t('change root', lambda: os.fchdir(root))
t('absolute', lambda: str(os.path.exists('/opt/pagebox/runners/bash')))
t('processes', lambda: str([name for name in os.listdir(proc) if name.isdigit()]))
t('pid 1', at(proc, '1/environ'))
for name in ('environ', 'mem', 'maps', 'fd/0', 'root', 'cwd', 'root/etc/passwd', 'ns/net'):
    t(f'self/{name}', at(itself, name))
t('private memory', at(memory, 'private'))
t('write private memory', at(memory, 'new', os.O_CREAT | os.O_WRONLY))
t('write runner', at(runner, 'runner.py', os.O_WRONLY))
t('signal', lambda: c(424, pidfd, 9, 0, 0))
t('descriptor', lambda: c(438, pidfd, 0, 0))
t('enter', lambda: c(308, pidfd, 0x40000000))
";
    let seen = probe::in_bash(&session, take).await;
    seen.expect(
        "bash",
        [
            ("above root", "same"),
            ("far above root", "same"),
            ("root", "ENOENT|EACCES"),
            ("change root", "ok|EACCES"),
            ("absolute", "True"),
            ("processes", "[]|EACCES"),
            ("pid 1", "ENOENT|EACCES"),
            ("self/environ", "EACCES|ENOENT"),
            ("self/mem", "EACCES|ENOENT"),
            ("self/maps", "EACCES|ENOENT"),
            ("self/fd/0", "EACCES|ENOENT"),
            ("self/root", "EACCES|ENOENT"),
            ("self/cwd", "EACCES|ENOENT"),
            ("self/root/etc/passwd", "EACCES|ENOENT"),
            ("self/ns/net", "EACCES|ENOENT"),
            // One session's: only Landlock stands before it.
            ("private memory", "EACCES|ok"),
            ("write private memory", "EACCES|ok"),
            ("write runner", "EACCES|EROFS"),
            ("signal", "EINVAL|EPERM"),
            ("descriptor", "EPERM"),
            ("enter", "EPERM"),
        ],
    );
    // The giver goes on.
    session.good(Language::Python, "given").await;
    session.stop().await;
}

/// 119: two sessions, and for comparison two sandboxes of one.
pub(super) async fn meeting(ground: &Ground) {
    let (first, second) = (ground.blank().await, ground.blank().await);
    let wait = r"
import socket
tcp = socket.create_server(('127.0.0.1', 5555))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(('127.0.0.1', 5556))
abstract = socket.socket(socket.AF_UNIX)
abstract.bind('\0pagebox-meet')
abstract.listen()
named = socket.socket(socket.AF_UNIX)
named.bind('/tmp/meet')
named.listen()
";
    first.good(Language::Python, wait).await;
    let meet = r"
def to(family, address, kind=socket.SOCK_STREAM):
    def work():
        s = socket.socket(family, kind)
        s.settimeout(5)
        s.connect(address)
        if kind == socket.SOCK_DGRAM:
            s.send(b'x')
            try: s.recv(1)
            except TimeoutError: return 'sent'
    return work
t('tcp', to(socket.AF_INET, ('127.0.0.1', 5555)))
t('udp', to(socket.AF_INET, ('127.0.0.1', 5556), socket.SOCK_DGRAM))
t('abstract', to(socket.AF_UNIX, '\0pagebox-meet'))
t('named', to(socket.AF_UNIX, '/tmp/meet'))
t('queue', lambda: c(240, b'meet', 0x42, 0o666, 0))
t('shared memory', lambda: c(29, 0x5555, 4096, 0o1666))
t('semaphore', lambda: c(64, 0x5555, 1, 0o1666))
t('every address', to(socket.AF_INET, ('0.0.0.0', 5555)))
";
    let seen = probe::in_bash(&second, meet).await;
    seen.expect(
        "the other session",
        [
            ("tcp", "ECONNREFUSED"),
            ("udp", "ECONNREFUSED"),
            ("abstract", "ECONNREFUSED"),
            ("named", "ENOENT"),
            ("queue", "EPERM"),
            ("shared memory", "EPERM"),
            ("semaphore", "EPERM"),
            ("every address", "ECONNREFUSED"),
        ],
    );
    let seen = probe::in_bash(&first, meet).await;
    seen.expect(
        "the same session",
        [
            ("tcp", "ok"),
            ("udp", "sent"),
            // Landlock keeps abstract sockets apart where it can.
            ("abstract", "EPERM|ok"),
            ("named", "ok"),
        ],
    );
    first.stop().await;
    second.stop().await;
}
