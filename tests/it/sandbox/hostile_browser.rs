//! What code that controls the browser's own process could do: the same image, profile and network,
//! with an interpreter added to stand for the exploit.

use std::path::Path;

use pagebox::sandbox::{
    Control, ExitStatus, Network, SandboxSpec, Sandboxes, Space, start_spawner,
};

use super::elf;
use super::harness::*;
use super::spawner;

/// A world whose browser image also holds python and the programs of a directory, as `/probe`.
async fn world(programs: &Path) -> World {
    let copy = tempfile::tempdir().unwrap();
    let images = spawner::shipped();
    std::fs::create_dir(copy.path().join("seccomp")).unwrap();
    for directory in ["", "seccomp"] {
        for entry in std::fs::read_dir(images.join(directory)).unwrap().flatten() {
            if entry.file_type().unwrap().is_file() {
                let to = copy.path().join(directory).join(entry.file_name());
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let browser = copy.path().join("browser.toml");
    let text = std::fs::read_to_string(&browser).unwrap();
    let more = format!(
        "binds = [\n{{ from = \"/usr/bin/python3*\" }},\n{{ from = \"/usr/lib/python3.*\" }},\n\
         {{ from = \"{}\", to = \"/probe\" }},",
        programs.display()
    );
    std::fs::write(&browser, text.replacen("binds = [", &more, 1)).unwrap();
    let config = config_of(copy.path());
    let sandboxes = Sandboxes::connect(start_spawner(&config).unwrap()).unwrap();
    let space = sandboxes.create_space(space_spec()).await.unwrap();
    World {
        config,
        sandboxes,
        space,
    }
}

fn browser(argv: &[&str]) -> SandboxSpec {
    SandboxSpec {
        image: "browser".into(),
        argv: argv.iter().map(ToString::to_string).collect(),
        env: vec![("HOME".into(), "/browser".into())],
        cwd: "/browser".into(),
        network: Network::Browser,
        control: Control::None,
        ..bash("")
    }
}

async fn python(space: &Space, code: &str) -> String {
    let prelude = "import ctypes, errno, os, socket, struct, sys\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        def c(n, *a):\n    ctypes.set_errno(0)\n    r = libc.syscall(ctypes.c_long(n), *[x if isinstance(x, bytes) else ctypes.c_long(x) for x in a])\n    \
        if r == -1: raise OSError(ctypes.get_errno(), '')\n    return r\n\
        def t(name, attempt):\n    try: got = attempt()\n    except OSError as e: got = errno.errorcode[e.errno]\n    \
        print(name, got if isinstance(got, str) else 'ok', flush=True)\n";
    let ran = run(
        space,
        browser(&["/usr/bin/python3", "-I", "-c", &format!("{prelude}{code}")]),
    )
    .await;
    assert_eq!(ran.exit.status, ExitStatus::Code(0), "{ran:?}");
    ran.stdout
}

#[tokio::test]
async fn it_makes_no_call_that_the_profile_does_not_list() {
    use std::os::unix::fs::PermissionsExt as _;
    let programs = tempfile::tempdir().unwrap();
    std::fs::set_permissions(programs.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let calls = elf::every_call(true);
    for (name, program) in [
        ("sweep", elf::sweep(&calls)),
        ("entry", elf::foreign_entry()),
    ] {
        let path = programs.path().join(name);
        std::fs::write(&path, program).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let world = world(programs.path()).await;
    let hex = "import subprocess; t('sweep', lambda: subprocess.run(['/probe/sweep'], stdout=subprocess.PIPE).stdout.hex())";
    let text = python(&world.space, hex).await;
    let hex = text.trim().strip_prefix("sweep ").unwrap();
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    let results = elf::results(&calls, &bytes);
    let allowed = elf::allowed(include_str!("../../../sandbox-images/seccomp/browser.json"));
    assert_eq!(elf::leaks(&results, &allowed), []);
    let ran = run(&world.space, browser(&["/probe/entry"])).await;
    assert_eq!(ran.exit.status, ExitStatus::Signal(libc::SIGSYS));
    world.end().await;
}

#[tokio::test]
async fn it_executes_nothing_that_it_has_written() {
    let programs = tempfile::tempdir().unwrap();
    let world = world(programs.path()).await;
    let code = "import shutil\n\
        def execute(path, *more):\n    def work():\n        pid = os.fork()\n        if pid == 0:\n            \
        os.close(2)\n            try: os.execv(path, [path, *more])\n            except OSError as e: os._exit(e.errno)\n        \
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n        if code: raise OSError(code if code != 127 else errno.EACCES, '')\n    return work\n\
        for where in ('/tmp', '/workspace', '/browser', '/dev/shm'):\n    path = where + '/x'\n    \
        shutil.copyfile('/usr/lib/x86_64-linux-gnu/libc.so.6', path); os.chmod(path, 0o755)\n    \
        t(where, execute(path))\n    t(where + ' by the loader', execute('/usr/lib64/ld-linux-x86-64.so.2', path))\n    \
        t(where + ' as a library', lambda: ctypes.CDLL(path) and 'loaded')\n";
    // ctypes gives OSError without errno for what the loader refuses.
    let code = code.replace(
        "lambda: ctypes.CDLL(path) and 'loaded'",
        "lambda: load(path)",
    );
    let load = "def load(path):\n    try: ctypes.CDLL(path)\n    except OSError as e: return str(e).split(': ')[-1]\n    return 'loaded'\n";
    let text = python(&world.space, &format!("{load}{code}")).await;
    let expected: String = ["/tmp", "/workspace", "/browser", "/dev/shm"]
        .iter()
        .map(|at| {
            format!(
                "{at} EACCES\n{at} by the loader EACCES\n\
                 {at} as a library failed to map segment from shared object\n"
            )
        })
        .collect();
    assert_eq!(text, expected);
    world.end().await;
}

#[tokio::test]
async fn it_reaches_its_proxy_and_nothing_else() {
    let programs = tempfile::tempdir().unwrap();
    let world = world(programs.path()).await;
    let code = "\
        def to(*address, kind=1, family=2):\n    def work():\n        s = socket.socket(family, kind); s.settimeout(5); s.connect(address); kind == 2 and s.send(b'x')\n    return work\n\
        t('proxy', to('127.0.0.1', 3128))\n\
        for port in (9222, 22, 80, 443, 7370): t(f'port {port}', to('127.0.0.1', port))\n\
        t('metadata', to('169.254.169.254', 3128))\n\
        t('internet', to('192.0.2.1', 3128))\n\
        t('internet 6', to('2001:db8::1', 3128, family=10))\n\
        t('udp', to('192.0.2.1', 53, kind=2))\n\
        t('bind', lambda: socket.socket().bind(('127.0.0.1', 8080)))\n\
        t('listen', lambda: socket.socket().listen())\n\
        t('raw', lambda: socket.socket(2, 3, 1))\n\
        t('netlink', lambda: socket.socket(16, 3, 0))\n\
        t('packet', lambda: socket.socket(17, 3, 0))\n";
    let text = python(&world.space, code).await;
    let landlock = "proxy ok\nport 9222 EACCES\nport 22 EACCES\nport 80 EACCES\nport 443 EACCES\n\
                    port 7370 EACCES\nmetadata ENETUNREACH\ninternet ENETUNREACH\n\
                    internet 6 ENETUNREACH\nudp ENETUNREACH\nbind EACCES\nlisten EPERM\nraw EPERM\n\
                    netlink EAFNOSUPPORT\npacket EAFNOSUPPORT\n";
    assert_eq!(text, landlock);
    world.end().await;
}

/// Chromium's own sandbox needs a user and a network namespace; who has them is root of nothing.
#[tokio::test]
async fn its_namespaces_give_it_no_part_of_the_kernel() {
    let programs = tempfile::tempdir().unwrap();
    let world = world(programs.path()).await;
    let inner = "\
        pid = c(56, 0x70000011, 0, 0, 0, 0)\n\
        if pid:\n    os.waitpid(pid, 0)\n    os._exit(0)\n\
        with open('/proc/self/status') as f: t('capabilities', lambda: [l.split()[1] for l in f if l.startswith('CapEff')][0])\n\
        t('raw', lambda: socket.socket(2, 3, 255))\n\
        s = socket.socket()\n\
        for name, level, option in (('iptables', 0, 64), ('arptables', 0, 96), ('ebtables', 0, 128), ('multicast', 0, 200), ('ip6tables', 41, 64), ('multicast 6', 41, 200)):\n    \
        t(name, lambda: s.setsockopt(level, option, b'\\0' * 96))\n    \
        t(name + ' asked', lambda: s.getsockopt(level, option, 96) and 'told')\n\
        s.setsockopt(1, 2, 1); s.setsockopt(6, 1, 1); s.setsockopt(0, 1, 0)\n\
        socket.socket(10).setsockopt(41, 26, 1); socket.socket(10).setsockopt(41, 67, 1)\n\
        t('mount', lambda: c(165, b'none', b'/tmp', b'tmpfs', 0, 0))\n\
        t('mount namespace', lambda: c(272, 0x20000))\n\
        t('pivot_root', lambda: c(155, b'/', b'/'))\n\
        t('setns', lambda: c(308, os.open('/proc/self/ns/net', 0), 0))\n\
        t('lo', lambda: __import__('fcntl').ioctl(s, 0x8914, b'lo'.ljust(16, b'\\0') + struct.pack('h', 1).ljust(24, b'\\0')) and 'ok')\n\
        t('chroot', lambda: os.chroot('/tmp'))\n\
        t('above', lambda: str(os.path.exists('../../../../etc/shadow')))\n";
    let text = python(&world.space, inner).await;
    let mut expected = "capabilities 000001ffffffffff\nraw ok\n".to_owned();
    for name in [
        "iptables",
        "arptables",
        "ebtables",
        "multicast",
        "ip6tables",
        "multicast 6",
    ] {
        expected += &format!("{name} EPERM\n{name} asked EPERM\n");
    }
    expected += "mount EPERM\nmount namespace EPERM\npivot_root EPERM\nsetns EPERM\nlo ok\nchroot ok\nabove False\n";
    assert_eq!(text, expected);
    world.end().await;
}

#[tokio::test]
async fn it_sees_its_own_files_and_lowers_no_score() {
    let programs = tempfile::tempdir().unwrap();
    let world = world(programs.path()).await;
    let code = "\
        t('root', lambda: ' '.join(sorted(os.listdir('/'))))\n\
        t('processes', lambda: ' '.join(n for n in os.listdir('/proc') if n.isdigit()))\n\
        for path in ('/etc/shadow', '/home', '/sys', '/run', '/opt', '/proc/1/environ', '/proc/sys', '/usr/bin/bash', '/usr/local'):\n    t(path, lambda: os.stat(path))\n\
        t('score', lambda: open('/proc/self/oom_score_adj', 'w', buffering=1).write('499\\n') and 'lowered')\n";
    let text = python(&world.space, code).await;
    let mut expected =
        "root browser dev etc lib lib64 probe proc tmp usr workspace\nprocesses 2\n".to_owned();
    for path in [
        "/etc/shadow",
        "/home",
        "/sys",
        "/run",
        "/opt",
        "/proc/1/environ",
        "/proc/sys",
        "/usr/bin/bash",
        "/usr/local",
    ] {
        expected += &format!("{path} ENOENT\n");
    }
    let last = &text[expected.len().min(text.len())..];
    assert!(text.starts_with(&expected), "{text}");
    // The floor is the spawner's where it is root, else that of whoever started it.
    let is_root = nix::unistd::Uid::effective().is_root();
    assert!(
        last == "score EACCES\n" || !is_root && last == "score lowered\n",
        "{last}"
    );
    world.end().await;
}
