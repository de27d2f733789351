//! What the kernel keeps for a program, and what it counts for a user of the host.

use std::time::Duration;

use pagebox::grpc::v1::{Language, Outcome};

use crate::arena::Ground;
use crate::inside::{self, goes_on, last_number};
use crate::outside;

/// Memory of a runner here.
const LIMIT_MIB: u64 = 256;
const FUSE: Duration = Duration::from_secs(60);

/// In each of 12 children, takes sockets or pipes and writes into them until they are full; prints
/// how many MiB nobody reads.
const BUFFERS: &str = "\
import os, socket, time
def pipes():
    r, w = os.pipe()
    os.set_blocking(w, False)
    return r, w, lambda data: os.write(w, data)
def unix():
    a, b = socket.socketpair()
    a.setblocking(False)
    return a, b, a.send
listener = socket.create_server(('127.0.0.1', 0), backlog=4096)
def tcp():
    a = socket.create_connection(listener.getsockname())
    b, _ = listener.accept()
    a.setblocking(False)
    return a, b, a.send
total_r, total_w = os.pipe()
end, keep = os.pipe()
children = []
for _ in range(12):
    child = os.fork()
    if child == 0:
        os.close(keep)
        held, total, piece = [], 0, bytes(65536)
        try:
            for _ in range(COUNT):
                held.append(KIND())
                try:
                    while True: total += held[-1][2](piece)
                except BlockingIOError: pass
        except OSError: pass
        os.write(total_w, f'{total >> 20}\\n'.encode())
        os.close(total_w)
        os.read(end, 1)
        os._exit(0)
    children.append(child)
os.close(total_w)
seen = b''
while more := os.read(total_r, 4096): seen += more
os.close(keep)
for child in children: os.waitpid(child, 0)
print(sum(map(int, seen.split())))";

/// Makes inotify instances, then watches, until it cannot; keeps them until its input ends.
const INOTIFY: &str = "\
import ctypes, errno, os, sys, tempfile
libc = ctypes.CDLL(None, use_errno=True)
def code(): return errno.errorcode[ctypes.get_errno()]
held, why = [], 'none'
while len(held) < INSTANCES:
    fd = libc.inotify_init1(0)
    if fd < 0:
        why = code()
        break
    held.append(fd)
watches, why_watch = 0, 'none'
base = tempfile.mkdtemp()
while watches < WATCHES:
    path = f'{base}/{watches}'
    open(path, 'w').close()
    if libc.inotify_add_watch(held[0], path.encode(), 0x100) < 0:
        why_watch = code()
        break
    watches += 1
print(why, len(held), why_watch, watches, flush=True)";

/// Makes timers that never end; keeps them.
const TIMERS: &str = "\
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
timer, count, why = ctypes.c_void_p(), 0, 'none'
while count < COUNT:
    if libc.timer_create(1, None, ctypes.byref(timer)) != 0:
        why = errno.errorcode[ctypes.get_errno()]
        break
    count += 1
print(why, count, flush=True)";

pub(super) async fn buffers(ground: &Ground) {
    let own = ground.own(&format!("[runner]\nmemory = \"{LIMIT_MIB} MiB\"\n"));
    let session = own.blank().await;
    for (kind, count) in [("pipes", 400), ("unix", 400), ("tcp", 200)] {
        let code = BUFFERS
            .replace("KIND", kind)
            .replace("COUNT", &count.to_string());
        let reply = session.exec_within(FUSE, Language::Python, &code).await;
        let buffered = match reply.outcome() {
            Outcome::Completed => last_number(&reply.stdout),
            _ => 0,
        };
        ground.note(format!("{kind}: {:?}, {buffered} MiB", reply.outcome()));
        if ground.mode().limits_groups() {
            inside::ended(&reply, &[Outcome::OutOfMemory, Outcome::Completed]);
            // Version 1 counts TCP apart, and gives each socket a little in any case.
            assert!(buffered <= 2 * LIMIT_MIB, "{kind}: {buffered} MiB");
            assert!(reply.peak_memory_bytes <= LIMIT_MIB << 20, "{kind}");
        }
        goes_on(&session).await;
    }
    session.stop().await;
    own.end().await;
}

pub(super) async fn inotify(ground: &Ground) {
    let session = ground.blank().await;
    let code = INOTIFY
        .replace("INSTANCES", "900")
        .replace("WATCHES", "60000");
    let seen = session.good(Language::Python, &code).await.stdout;
    let words: Vec<&str> = seen.split_whitespace().collect();
    let [why, instances, why_watch, watches] = words[..] else {
        panic!("{seen}");
    };
    assert_eq!((why, why_watch), ("EMFILE", "ENOSPC"), "{seen}");
    assert!(
        last_number(instances) <= 32 && last_number(watches) <= 16_384,
        "{seen}"
    );
    let few = INOTIFY.replace("INSTANCES", "4").replace("WATCHES", "100");
    let other = ground.blank().await;
    assert_eq!(
        other.good(Language::Python, &few).await.stdout,
        "none 4 none 100\n"
    );
    assert_eq!(
        outside::good(Language::Python, &few).await,
        "none 4 none 100"
    );
    other.stop().await;
    session.stop().await;
}

pub(super) async fn timers(ground: &Ground) {
    let session = ground.blank().await;
    let code = TIMERS.replace("COUNT", "200000");
    let seen = session.good(Language::Python, &code).await.stdout;
    assert!(
        seen.starts_with("EAGAIN") && last_number(&seen) <= 4096,
        "{seen}"
    );
    let few = TIMERS.replace("COUNT", "100");
    let other = ground.blank().await;
    assert_eq!(
        other.good(Language::Python, &few).await.stdout,
        "none 100\n"
    );
    assert_eq!(outside::good(Language::Python, &few).await, "none 100");
    other.stop().await;
    session.stop().await;
}
