//! System calls: those that lead out, one by one with arguments that work outside, and all there
//! are by number.

use pagebox::grpc::v1::Language;

use super::elf;
use super::probe::{self, Pair};
use crate::arena::Ground;
use crate::client::OpenSession;

const RUNNER: &str = include_str!("../../../sandbox-images/seccomp/runner.json");

async fn tried(ground: &Ground, code: &str, pairs: &[Pair]) {
    let session = ground.blank().await;
    probe::pairs(&session, code, pairs).await;
    session.stop().await;
}

/// 23 and 24: other processes' memory and descriptors, of a child that is one's own.
pub(super) async fn other_processes(ground: &Ground) {
    let code = r"
secret = ctypes.create_string_buffer(b'secret')
at = ctypes.addressof(secret)
pid = os.fork()
if pid == 0:
    import time
    time.sleep(60); os._exit(0)
got = ctypes.create_string_buffer(6)
def io(buffer_at): return (ctypes.c_size_t * 2)(buffer_at, 6)
def pidfd(): return os.pidfd_open(pid)
t('traceme', lambda: child(lambda: c(101, 0, 0, 0, 0)))
t('seize', lambda: c(101, 0x4206, pid, 0, 0))
t('attach', lambda: c(101, 16, pid, 0, 0))
t('process_vm_readv', lambda: c(310, pid, io(ctypes.addressof(got)), 1, io(at), 1, 0))
t('process_vm_writev', lambda: c(311, pid, io(ctypes.addressof(got)), 1, io(at), 1, 0))
t('pidfd_getfd', lambda: c(438, pidfd(), 1, 0))
t('kcmp', lambda: c(312, pid, os.getpid(), 0, 0, 0))
t('process_madvise', lambda: c(440, pidfd(), io(at), 1, 21, 0))
t('process_mrelease', lambda: c(448, pidfd(), 0))
t('move_pages', lambda: c(279, pid, 0, 0, 0, 0, 0))
os.kill(pid, 9)
";
    tried(
        ground,
        code,
        &[
            ("traceme", "EPERM", "ok"),
            ("seize", "EPERM", "ok"),
            ("attach", "EPERM", "ok|EPERM"),
            ("process_vm_readv", "EPERM", "ok"),
            ("process_vm_writev", "EPERM", "ok"),
            ("pidfd_getfd", "EPERM", "ok"),
            ("kcmp", "EPERM", "ok"),
            ("process_madvise", "EPERM", "ok|EINVAL|EPERM"),
            ("process_mrelease", "EPERM", "EINVAL|EBADF"),
            ("move_pages", "EPERM", "ok|ENOSYS"),
        ],
    )
    .await;
}

/// 31 and 48: mounts, in a user namespace of one's own where outside allows that.
pub(super) async fn mounts(ground: &Ground) {
    // Outside each is tried as root of a new user and mount namespace.
    let code = r"
def own(attempt):
    def work():
        try: c(272, 0x10020000)
        except OSError: pass
        attempt()
    return lambda: child(work)
t('mount tmpfs', own(lambda: c(165, b'none', b'/tmp', b'tmpfs', 0, 0)))
t('mount cgroup', own(lambda: c(165, b'none', b'/tmp', b'cgroup', 0, b'memory')))
t('mount proc', own(lambda: c(165, b'none', b'/proc', b'proc', 0, 0)))
t('remount', own(lambda: c(165, b'none', b'/usr/bin', b'none', 0x1020, 0)))
t('bind', own(lambda: c(165, b'/tmp', b'/usr', b'none', 0x1000, 0)))
t('umount', own(lambda: c(166, b'/proc', 2)))
t('pivot_root', own(lambda: c(155, b'/tmp', b'/tmp')))
t('chroot', own(lambda: c(161, b'/')))
t('fsopen', own(lambda: c(430, b'tmpfs', 0)))
t('open_tree', own(lambda: c(428, -100, b'/', 1)))
t('move_mount', own(lambda: c(429, -1, b'', -100, b'/tmp', 4)))
t('mount_setattr', own(lambda: c(442, -100, b'/', 0, b'\0' * 32, 32)))
t('fspick', own(lambda: c(433, -100, b'/tmp', 0)))
t('statmount', lambda: c(457, 0, 0, 0, 0))
t('listmount', lambda: c(458, 0, 0, 0, 0))
t('swapon', lambda: c(167, b'/dev/null', 0))
t('quotactl', lambda: c(179, 0x80000100, 0, 0, 0))
t('name_to_handle_at', lambda: c(303, -100, b'/usr', struct.pack('ii', 128, 0) + b'\0' * 128, ctypes.create_string_buffer(4), 0))
t('open_by_handle_at', lambda: c(304, -100, struct.pack('ii', 8, 1) + b'\0' * 8, 0))
";
    tried(
        ground,
        code,
        &[
            ("mount tmpfs", "EPERM", "ok"),
            ("mount cgroup", "EPERM", ""),
            ("mount proc", "EPERM", ""),
            ("remount", "EPERM", "EINVAL|EPERM"),
            ("bind", "EPERM", "ok"),
            ("umount", "EPERM", "ok|EINVAL"),
            ("pivot_root", "EPERM", "EINVAL|EBUSY"),
            ("chroot", "EPERM", "ok"),
            ("fsopen", "EPERM", "ok"),
            ("open_tree", "EPERM", "ok|EINVAL"),
            ("move_mount", "EPERM", "EBADF"),
            ("mount_setattr", "EPERM", "ok|EINVAL"),
            ("fspick", "EPERM", "ok|EPERM|EINVAL"),
            ("statmount", "EPERM", "EFAULT|EINVAL|ENOSYS"),
            ("listmount", "EPERM", "EFAULT|EINVAL|ENOSYS"),
            ("swapon", "EPERM", ""),
            (
                "quotactl",
                "EPERM",
                "ok|EFAULT|ENOSYS|ENODEV|ESRCH|ENOTBLK|EINVAL|ENOENT",
            ),
            ("name_to_handle_at", "EPERM", "ok|ENOTSUP|EOVERFLOW"),
            ("open_by_handle_at", "EPERM", "ESTALE|EPERM|ENOTSUP|EINVAL"),
        ],
    )
    .await;
}

/// 32: namespaces, by every call that makes or enters one.
pub(super) async fn namespaces(ground: &Ground) {
    let mut code = String::new();
    let mut pairs: Vec<Pair> = Vec::new();
    for (name, flag) in NAMESPACES {
        code +=
            &format!("t('unshare {name}', lambda: child(lambda: c(272, {flag} | 0x10000000)))\n");
        code += &format!(
            "t('clone {name}', lambda: c(56, {flag} | 0x10000000 | 17, 0, 0, 0, 0) or os._exit(0))\n"
        );
    }
    for (unshare, clone) in UNSHARE_CLONE {
        pairs.push((unshare, "EPERM", "ok"));
        pairs.push((clone, "EPERM", "ok"));
    }
    code += "t('setns', lambda: c(308, os.open('/proc/self/ns/net', 0), 0))\n\
             t('clone3', lambda: c(435, struct.pack('8Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0), 64) or os._exit(0))\n\
             t('limits', lambda: write('/proc/sys/user/max_user_namespaces', b'9'))\n";
    pairs.push(("setns", "EPERM", ""));
    pairs.push(("clone3", "ENOSYS", "ok"));
    pairs.push(("limits", "ENOENT", ""));
    tried(ground, &code, &pairs).await;
}

const NAMESPACES: [(&str, &str); 8] = [
    ("user", "0x10000000"),
    ("mount", "0x20000"),
    ("pid", "0x20000000"),
    ("net", "0x40000000"),
    ("ipc", "0x8000000"),
    ("uts", "0x4000000"),
    ("cgroup", "0x2000000"),
    ("time", "0x80"),
];

/// clone has no flag for a time namespace: those bits are the signal.
const UNSHARE_CLONE: [(&str, &str); 7] = [
    ("unshare user", "clone user"),
    ("unshare mount", "clone mount"),
    ("unshare pid", "clone pid"),
    ("unshare net", "clone net"),
    ("unshare ipc", "clone ipc"),
    ("unshare uts", "clone uts"),
    ("unshare cgroup", "clone cgroup"),
];

/// 34, 35, 47: parts of the kernel that are attacked more than they are used.
pub(super) async fn kernel_parts(ground: &Ground) {
    let code = r"
t('bpf', lambda: c(321, 0, b'\0' * 72, 72))
t('perf_event_open', lambda: c(298, struct.pack('II', 1, 128) + b'\0' * 120, 0, -1, -1, 0))
t('userfaultfd', lambda: c(323, 1))
t('io_uring_setup', lambda: c(425, 4, ctypes.create_string_buffer(120)))
t('io_uring_enter', lambda: c(426, -1, 0, 0, 0, 0, 0))
t('io_uring_register', lambda: c(427, -1, 0, 0, 0))
t('personality no ASLR', lambda: child(lambda: c(135, 0x40000)))
t('personality read implies exec', lambda: child(lambda: c(135, 0x400000)))
t('personality asked', lambda: c(135, 0xffffffff))
t('modify_ldt', lambda: c(154, 0, ctypes.create_string_buffer(16), 16))
t('iopl', lambda: c(172, 0))
t('ioperm', lambda: c(173, 0, 1, 0))
t('memfd_secret', lambda: c(447, 0))
t('splice', lambda: c(275, os.open('/dev/zero', 0), 0, os.pipe()[1], 0, 16, 0))
t('vmsplice', lambda: c(278, os.pipe()[1], struct.pack('QQ', 0, 0), 0, 0))
t('tee', lambda: c(276, os.pipe()[0], os.pipe()[1], 0, 0))
t('fanotify_init', lambda: c(300, 0x200, 0))
t('migrate_pages', lambda: c(256, 0, 0, 0, 0))
t('execveat', lambda: c(322, -100, b'/nothing', 0, 0, 0))
t('seccomp', lambda: c(317, 2, 0, struct.pack('I', 0x7fff0000)))
t('lsm attributes', lambda: c(459, 100, 0, 0, 0))
t('map_shadow_stack', lambda: c(453, 0, 0x1000, 0))
t('mq_open', lambda: c(240, b'pagebox', 0x42, 0o600, 0) and c(241, b'pagebox'))
t('shmget', lambda: c(31, c(29, 0, 4096, 0o1600), 0, 0))
t('semget', lambda: c(66, c(64, 0, 1, 0o1600), 0, 0))
t('msgget', lambda: c(71, c(68, 0, 0o1600), 0, 0))
";
    tried(
        ground,
        code,
        &[
            ("bpf", "EPERM", "EPERM|EINVAL|E2BIG|ok"),
            ("perf_event_open", "EPERM", "ok|EACCES|EPERM|ENOENT"),
            ("userfaultfd", "EPERM", "ok|EPERM"),
            ("io_uring_setup", "EPERM", "ok|EPERM"),
            ("io_uring_enter", "EPERM", "EBADF|EINVAL"),
            ("io_uring_register", "EPERM", "EBADF|EINVAL"),
            ("personality no ASLR", "EPERM", "ok"),
            ("personality read implies exec", "EPERM", "ok"),
            ("personality asked", "ok", "ok"),
            ("modify_ldt", "EPERM", "ok|ENOSYS"),
            ("iopl", "EPERM", "ok|ENOSYS"),
            ("ioperm", "EPERM", "ok|ENOSYS"),
            ("memfd_secret", "EPERM", "ok|ENOSYS"),
            ("splice", "EPERM", "ok|EINVAL"),
            ("vmsplice", "EPERM", "ok"),
            ("tee", "EPERM", "ok"),
            ("fanotify_init", "EPERM", "ok|ENOSYS"),
            ("migrate_pages", "EPERM", "ok|EFAULT|ENOSYS|EINVAL"),
            ("execveat", "EPERM", "ENOENT"),
            ("seccomp", "EPERM", "ok"),
            ("lsm attributes", "EPERM", ""),
            ("map_shadow_stack", "EPERM", ""),
            ("mq_open", "EPERM", "ok|ENOSYS"),
            ("shmget", "EPERM", "ok|ENOSYS"),
            ("semget", "EPERM", "ok|ENOSYS"),
            ("msgget", "EPERM", "ok|ENOSYS"),
        ],
    )
    .await;
}

/// 37: the machine itself. Outside these would work as root, and so are not tried there.
pub(super) async fn the_machine(ground: &Ground) {
    let code = r"
t('syslog size', lambda: c(103, 10, 0, 0))
t('kexec_load', lambda: c(246, 0, 0, 0, 0))
t('kexec_file_load', lambda: c(320, -1, -1, 0, 0, 8))
t('init_module', lambda: c(175, b'', 0, b''))
t('finit_module', lambda: c(313, 0, b'', 0))
t('delete_module', lambda: c(176, b'nothing', 0))
t('reboot', lambda: c(169, 0xfee1dead, 672274793, 0, 0))
t('acct', lambda: c(163, 0))
t('swapoff', lambda: c(168, b'/nothing'))
t('sethostname', lambda: c(170, b'x', 1))
t('setdomainname', lambda: c(171, b'x', 1))
t('settimeofday', lambda: c(164, 0, 0))
t('clock_settime', lambda: c(227, 0, struct.pack('qq', 0, 0)))
t('clock_adjtime', lambda: c(305, 0, ctypes.create_string_buffer(208)))
t('adjtimex', lambda: c(159, ctypes.create_string_buffer(208)))
t('vhangup', lambda: c(153))
t('setuid', lambda: c(105, 0))
t('setgid', lambda: c(106, 0))
t('setgroups', lambda: c(116, 0, 0))
t('setfsuid', lambda: c(122, 0))
t('capset', lambda: c(126, struct.pack('II', 0x20080522, 0), struct.pack('6I', 0xffffffff, 0xffffffff, 0, 0xffffffff, 0xffffffff, 0)))
";
    let pairs: Vec<Pair> = [
        "kexec_load",
        "kexec_file_load",
        "init_module",
        "finit_module",
        "delete_module",
        "reboot",
        "acct",
        "swapoff",
        "sethostname",
        "setdomainname",
        "settimeofday",
        "clock_settime",
        "clock_adjtime",
        "vhangup",
        "setuid",
        "setgid",
        "setgroups",
        "setfsuid",
        "capset",
    ]
    .map(|name| (name, "EPERM", ""))
    .into_iter()
    .chain([
        ("syslog size", "EPERM", "ok|EPERM"),
        ("adjtimex", "EPERM", "ok"),
    ])
    .collect();
    tried(ground, code, &pairs).await;
}

/// 41: families of sockets, and kinds of those there are.
pub(super) async fn sockets(ground: &Ground) {
    let mut code = String::from(
        "def s(family, kind=1, protocol=0):\n    return lambda: c(41, family, kind, protocol)\n\
         for family in range(0, 60):\n    t(f'family {family}', s(family, 3 if family in (16, 17, 38) else 1))\n",
    );
    code += "t('netlink', s(16, 3))\nt('alg', s(38, 5))\nt('raw', s(2, 3, 1))\nt('raw 6', s(10, 3, 58))\n\
             t('netlink pair', lambda: c(53, 16, 3, 0, ctypes.create_string_buffer(8)))\n\
             t('ping', s(2, 2, 1))\nt('mptcp', s(2, 1, 262))\nt('sctp', s(2, 1, 132))\n";
    let session = ground.blank().await;
    for (place, seen) in [
        ("bash", probe::in_bash(&session, &code).await),
        ("python", probe::in_python(&session, &code).await),
    ] {
        for family in 0..60 {
            let expected = match family {
                1 | 2 | 10 => "ok",
                _ => "EAFNOSUPPORT",
            };
            let name = format!("family {family}");
            seen.expect(place, [(&*name, expected)]);
        }
        seen.expect(
            place,
            [
                ("netlink", "EAFNOSUPPORT"),
                ("alg", "EAFNOSUPPORT"),
                ("netlink pair", "EAFNOSUPPORT"),
                ("raw", "EPERM"),
                ("raw 6", "EPERM"),
            ],
        );
    }
    probe::outside(&code).expect("outside", [("netlink", "ok")]);
    session.stop().await;
}

/// 36: keyrings outlive processes and belong to a uid.
pub(super) async fn keyrings(ground: &Ground) {
    let code = r"
t('add_key', lambda: c(248, b'user', b'pagebox-attack', b'secret', 6, -2))
t('request_key', lambda: c(249, b'user', b'pagebox-attack', 0, 0))
t('persistent', lambda: c(250, 22, -1, -2))
t('describe', lambda: c(250, 6, -2, 0, 0))
";
    let pairs = &[
        ("add_key", "EPERM", "ok|ENOSYS"),
        ("request_key", "EPERM", "ok|ENOSYS|ENOKEY"),
        ("persistent", "EPERM", "ok|ENOSYS|ENOTSUP|EACCES"),
        ("describe", "EPERM", "ok|ENOSYS"),
    ];
    let (first, second) = (ground.blank().await, ground.blank().await);
    probe::pairs(&first, code, pairs).await;
    probe::pairs(&second, code, pairs).await;
    first.stop().await;
    second.stop().await;
}

/// 38: the terminal.
pub(super) async fn terminals(ground: &Ground) {
    let code = r"
import fcntl
def request(number): return lambda: fcntl.ioctl(1, number, b'x')
t('TIOCSTI', request(0x5412))
t('TIOCLINUX', request(0x541c))
t('TIOCSETD', request(0x5423))
t('TIOCSTI, high bits', lambda: c(16, 1, 0x100005412, b'x'))
t('TIOCSCTTY', request(0x540e))
t('tty', lambda: os.open('/dev/tty', os.O_RDWR))
t('ptmx', lambda: os.open('/dev/ptmx', os.O_RDWR))
t('console', lambda: os.open('/dev/console', os.O_RDWR))
t('terminal', lambda: str(os.isatty(0) or os.isatty(1) or os.isatty(2)))
";
    tried(
        ground,
        code,
        &[
            ("TIOCSTI", "EPERM", "ENOTTY"),
            ("TIOCLINUX", "EPERM", "ENOTTY"),
            ("TIOCSETD", "EPERM", "ENOTTY"),
            ("TIOCSTI, high bits", "EPERM", "ENOTTY"),
            ("TIOCSCTTY", "ENOTTY", "ENOTTY"),
            ("tty", "ENOENT", ""),
            ("ptmx", "ENOENT", ""),
            ("console", "ENOENT", ""),
            ("terminal", "False", ""),
        ],
    )
    .await;
}

/// 110: every number there is, by both 64-bit entries, in native code of every sandbox.
pub(super) async fn every_number(ground: &Ground) {
    let session = ground.blank().await;
    let calls = elf::every_call(true);
    place(&session, "sweep", &elf::sweep(&calls)).await;
    place(&session, "entry", &elf::foreign_entry()).await;
    let allowed = elf::allowed(RUNNER);
    for (language, run) in [
        (Language::Bash, "/workspace/sweep | base64 -w0"),
        (
            Language::Python,
            "import base64, subprocess\n\
             print(base64.b64encode(subprocess.run(['/workspace/sweep'], check=True, \
             stdout=subprocess.PIPE).stdout).decode())",
        ),
        (
            Language::Node,
            "console.log(require('child_process').execFileSync('/workspace/sweep').toString('base64'))",
        ),
    ] {
        let reply = session.good(language, run).await;
        let results = elf::results(&calls, &base64_decode(reply.stdout.trim()));
        let leaks = elf::leaks(&results, &allowed);
        assert_eq!(
            leaks,
            [],
            "{language:?}: number and errno of what is on no list"
        );
        assert_eq!(results[&39], 0, "{language:?}: getpid is on the list");
        // clone3, which libc must believe is not there.
        assert_eq!(results[&435], libc::ENOSYS, "{language:?}");
        let reply = session
            .exec(Language::Bash, "/workspace/entry; echo \"ended with $?\"")
            .await;
        assert_eq!(reply.stdout, format!("ended with {}\n", 128 + libc::SIGSYS));
    }
    session.stop().await;

    // Outside the same program is refused by the kernel itself in far fewer places.
    let calls = elf::every_call(false);
    let outside = elf::results(&calls, &run_outside(&elf::sweep(&calls)));
    let natural = outside
        .iter()
        .filter(|(number, errno)| {
            **number < elf::X32
                && !allowed.contains(number)
                && ![libc::EPERM, libc::ENOSYS].contains(errno)
        })
        .count();
    assert!(
        natural > 60,
        "only {natural} of the refused calls answer outside"
    );
}

/// Puts a program into a session's scratch.
async fn place(session: &OpenSession, name: &str, program: &[u8]) {
    let bytes: String = program.iter().map(|byte| format!("{byte:02x}")).collect();
    let code = format!(
        "python3 -c 'open(\"/workspace/{name}\", \"wb\").write(bytes.fromhex(\"{bytes}\"))'; \
         chmod +x /workspace/{name}"
    );
    session.bash(&code).await;
}

fn run_outside(program: &[u8]) -> Vec<u8> {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("sweep");
    std::fs::write(&path, program).expect("our own directory");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("our file");
    let output = std::process::Command::new(&path)
        .current_dir(directory.path())
        .stdin(std::process::Stdio::null())
        .output()
        .expect("a program of our own");
    output.stdout
}

fn base64_decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .expect("base64")
}
