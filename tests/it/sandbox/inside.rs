//! What a program sees and may do inside. Denials come in pairs where the host allows the same
//! thing: done outside by the test, refused inside with the expected errno.

use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use pagebox::sandbox::{Control, ControlEnd, Error, ExitStatus, IpFamily, Network};

use super::harness::*;

#[tokio::test]
async fn a_program_runs_as_uid_1000_in_a_world_of_its_own() {
    let world = World::new().await;
    let out = world
        .output("id -u; id -g; id -G; echo $$; hostname; pwd; umask; echo /*; echo /proc/[0-9]*")
        .await;
    let expected = "1000\n1000\n1000\n2\npagebox\n/workspace\n0077\n\
                    /bin /dev /etc /lib /lib64 /node_modules /opt /proc /run /tmp /usr /workspace\n/proc/2\n";
    assert_eq!(out.replace(" /opt", ""), expected.replace(" /opt", ""));
    assert_eq!(
        world.output("export -n SHLVL; env | sort").await,
        "HOME=/workspace\nPATH=/usr/local/bin:/usr/bin:/bin\nPWD=/workspace\n_=/usr/bin/env\n"
    );
    // The host's group path is hidden: nothing of ours is named.
    assert_eq!(
        world
            .output("grep -c pagebox /proc/self/cgroup; true")
            .await,
        "0\n"
    );
    world.end().await;
}

#[tokio::test]
async fn the_status_of_a_program_shows_every_layer() {
    let world = World::new().await;
    let status = world.output("cat /proc/self/status").await;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(&status, set), "0000000000000000", "{set}");
    }
    assert_eq!(field(&status, "NoNewPrivs"), "1");
    assert_eq!(field(&status, "Seccomp"), "2");
    // Two more stand for the limits of a missing memory controller.
    let filters = if host().has("cgroup-memory") {
        "4"
    } else {
        "6"
    };
    assert_eq!(field(&status, "Seccomp_filters"), filters);
    assert_eq!(field(&status, "Groups"), "");
    world.end().await;
}

#[tokio::test]
async fn no_file_process_or_environment_of_the_host_is_seen() {
    let world = World::new().await;
    for path in [
        "/etc/shadow",
        "/root",
        "/home",
        "/sys",
        "/var",
        "/proc/kallsyms",
        "/proc/sys",
    ] {
        assert!(
            Path::new(path).exists(),
            "{path} is no test: not on this host either"
        );
        assert_eq!(
            world.error(&format!("ls {path}")).await,
            "No such file or directory",
            "{path}"
        );
    }
    for path in [
        "/proc/1/environ",
        "/proc/1/exe",
        "/proc/1/fd",
        "/proc/1/root",
    ] {
        assert_eq!(
            world.error(&format!("ls {path}")).await,
            "No such file or directory",
            "{path}"
        );
    }
    assert_eq!(
        world
            .output("grep -v -e pagebox -e nobody -e root /etc/passwd | wc -l")
            .await,
        "0\n"
    );
    world.end().await;
}

#[tokio::test]
async fn the_root_is_read_only_and_the_scratch_is_not() {
    let world = World::new().await;
    for path in [
        "/usr/bin/x",
        "/etc/x",
        "/x",
        "/dev/x",
        "/opt/x",
        "/bin/bash",
    ] {
        let error = world.error(&format!("echo > {path}")).await;
        assert!(
            [
                "Read-only file system",
                "Permission denied",
                "No such file or directory"
            ]
            .contains(&&*error),
            "{path}: {error}"
        );
    }
    assert_eq!(
        world.error("touch /usr/bin/x").await,
        "Read-only file system"
    );
    assert_eq!(
        world
            .output(
                "for d in /tmp /workspace; do echo hi > $d/f && cat $d/f; stat -c %U:%a $d; done"
            )
            .await,
        "hi\npagebox:700\nhi\npagebox:700\n"
    );
    // One scratch, whatever the sandbox.
    assert_eq!(world.output("cat /tmp/f /workspace/f").await, "hi\nhi\n");
    assert_eq!(
        world
            .output("printf '#!/bin/sh\\necho ran' > /tmp/x; chmod +x /tmp/x; /tmp/x")
            .await,
        "ran\n"
    );
    // A file ends at its limit (16 MiB), the scratch at its size (64 MiB) and its inodes (1000).
    assert_eq!(
        world.output("{ head -c 100M /dev/zero > /tmp/big; } 2>/dev/null; stat -c %s /tmp/big; rm /tmp/big").await,
        "16777216\n"
    );
    assert_eq!(
        world
            .error("for i in 1 2 3 4 5; do head -c 15M /dev/zero > /tmp/big$i || exit; done")
            .await,
        "No space left on device"
    );
    assert_eq!(
        world
            .error("rm /tmp/big*; cd /tmp; touch $(seq 1100)")
            .await,
        "No space left on device"
    );
    world.end().await;
}

#[tokio::test]
async fn descriptors_are_exactly_those_given() {
    let world = World::new().await;
    // A descriptor of ours that is not close-on-exec must not get anywhere.
    let secret = std::fs::File::open("/proc/self/environ").unwrap();
    nix_keep(&secret);
    let list = "cd /proc/self/fd; for f in *; do [ -e $f ] && echo $f; done; readlink 0";
    for (control, expected) in [
        (Control::None, "0\n1\n2\n"),
        (Control::Frames, "0\n1\n2\n3\n"),
        (Control::CdpPipe, "0\n1\n2\n3\n4\n"),
    ] {
        let mut spec = bash(list);
        spec.control = control;
        let ran = run(&world.space, spec).await;
        assert_eq!(
            ran.stdout.replace("255\n", ""),
            format!("{expected}/dev/null\n"),
            "{ran:?}"
        );
    }
    world.end().await;
}

/// Clears close-on-exec, as a careless library would.
fn nix_keep(file: &std::fs::File) {
    let script = format!("/proc/self/fd/{}", file.as_raw_fd());
    assert!(Path::new(&script).exists());
    nix::fcntl::fcntl(
        file,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
    )
    .unwrap();
}

#[tokio::test]
async fn control_descriptors_reach_the_daemon() {
    let world = World::new().await;
    let mut spec = bash("read line <&3; echo \"got $line\" >&3");
    spec.control = Control::Frames;
    let mut sandbox = world.space.spawn(spec).await.unwrap();
    let ControlEnd::Frames(mut socket) = std::mem::replace(&mut sandbox.control, ControlEnd::None)
    else {
        panic!("no socket");
    };
    socket.write_all(b"hello\n").unwrap();
    assert_eq!(sandbox.wait().await.status, ExitStatus::Code(0));
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "got hello\n");
    world.end().await;
}

/// System calls by number and arguments, made by python, and the errno they must give inside.
const DENIED: &[(&str, i64, &[i64], i32)] = &[
    (
        "ptrace(TRACEME)",
        libc::SYS_ptrace,
        &[0, 0, 0, 0],
        libc::EPERM,
    ),
    (
        "process_vm_readv",
        libc::SYS_process_vm_readv,
        &[1, 0, 0, 0, 0, 0],
        libc::EPERM,
    ),
    ("kcmp", libc::SYS_kcmp, &[1, 1, 0, 0, 0], libc::EPERM),
    (
        "pidfd_getfd",
        libc::SYS_pidfd_getfd,
        &[0, 0, 0],
        libc::EPERM,
    ),
    (
        "unshare(NEWUSER)",
        libc::SYS_unshare,
        &[0x1000_0000],
        libc::EPERM,
    ),
    (
        "unshare(NEWNS)",
        libc::SYS_unshare,
        &[0x2_0000],
        libc::EPERM,
    ),
    (
        "clone(NEWUSER)",
        libc::SYS_clone,
        &[0x1000_0011, 0, 0, 0, 0],
        libc::EPERM,
    ),
    ("clone3", libc::SYS_clone3, &[0, 0], libc::ENOSYS),
    ("setns", libc::SYS_setns, &[0, 0], libc::EPERM),
    ("mount", libc::SYS_mount, &[0, 0, 0, 0, 0], libc::EPERM),
    ("umount2", libc::SYS_umount2, &[0, 0], libc::EPERM),
    ("pivot_root", libc::SYS_pivot_root, &[0, 0], libc::EPERM),
    ("chroot", libc::SYS_chroot, &[0], libc::EPERM),
    ("fsopen", libc::SYS_fsopen, &[0, 0], libc::EPERM),
    ("open_tree", libc::SYS_open_tree, &[0, 0, 0], libc::EPERM),
    ("keyctl", libc::SYS_keyctl, &[0, 0, 0, 0, 0], libc::EPERM),
    ("add_key", libc::SYS_add_key, &[0, 0, 0, 0, 0], libc::EPERM),
    ("bpf", libc::SYS_bpf, &[0, 0, 0], libc::EPERM),
    (
        "perf_event_open",
        libc::SYS_perf_event_open,
        &[0, 0, 0, 0, 0],
        libc::EPERM,
    ),
    ("userfaultfd", libc::SYS_userfaultfd, &[1], libc::EPERM),
    (
        "io_uring_setup",
        libc::SYS_io_uring_setup,
        &[1, 0],
        libc::EPERM,
    ),
    ("memfd_secret", libc::SYS_memfd_secret, &[0], libc::EPERM),
    ("splice", libc::SYS_splice, &[0, 0, 0, 0, 0, 0], libc::EPERM),
    (
        "personality",
        libc::SYS_personality,
        &[0x40_0000],
        libc::EPERM,
    ),
    ("modify_ldt", libc::SYS_modify_ldt, &[0, 0, 0], libc::EPERM),
    ("syslog", libc::SYS_syslog, &[10, 0, 0], libc::EPERM),
    ("reboot", libc::SYS_reboot, &[0, 0, 0, 0], libc::EPERM),
    ("acct", libc::SYS_acct, &[0], libc::EPERM),
    (
        "open_by_handle_at",
        libc::SYS_open_by_handle_at,
        &[0, 0, 0],
        libc::EPERM,
    ),
    ("seccomp", libc::SYS_seccomp, &[0, 0, 0], libc::EPERM),
    (
        "execveat",
        libc::SYS_execveat,
        &[0, 0, 0, 0, 0],
        libc::EPERM,
    ),
    (
        "mknodat(block device)",
        libc::SYS_mknodat,
        &[-100, 0, 0o60600, 0x800],
        libc::EPERM,
    ),
    (
        "ioctl(TIOCSTI)",
        libc::SYS_ioctl,
        &[0, 0x5412, 0],
        libc::EPERM,
    ),
    (
        "x32 getpid",
        0x4000_0000 + libc::SYS_getpid,
        &[],
        libc::EPERM,
    ),
    (
        "socket(AF_NETLINK)",
        libc::SYS_socket,
        &[16, 3, 0],
        libc::EAFNOSUPPORT,
    ),
    (
        "socket(AF_ALG)",
        libc::SYS_socket,
        &[38, 5, 0],
        libc::EAFNOSUPPORT,
    ),
    (
        "socket(AF_VSOCK)",
        libc::SYS_socket,
        &[40, 1, 0],
        libc::EAFNOSUPPORT,
    ),
    (
        "socket(AF_PACKET)",
        libc::SYS_socket,
        &[17, 3, 0],
        libc::EAFNOSUPPORT,
    ),
    (
        "socket(AF_INET, RAW)",
        libc::SYS_socket,
        &[2, 3, 1],
        libc::EPERM,
    ),
];

/// Calls that the host answers differently, so that the filter is what denies them inside.
const WORKS_OUTSIDE: &[&str] = &[
    "ptrace(TRACEME)",
    "io_uring_setup",
    "socket(AF_NETLINK)",
    "personality",
];

#[tokio::test]
async fn dangerous_system_calls_are_denied_with_their_errno() {
    let script = |calls: &[&(&str, i64, &[i64], i32)]| {
        let mut script = String::from(
            "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\n\
             def t(*a):\n ctypes.set_errno(0)\n r = c.syscall(*[ctypes.c_long(x) for x in a])\n\
             \x20print(ctypes.get_errno() if r == -1 else 0)\n",
        );
        for (_, number, arguments, _) in calls {
            let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
            script += &format!(
                "t({})\n",
                [vec![number.to_string()], arguments].concat().join(",")
            );
        }
        script
    };
    let world = World::new().await;
    let all: Vec<_> = DENIED.iter().collect();
    let mut spec = bash("");
    spec.argv = vec![
        "/usr/bin/python3".into(),
        "-I".into(),
        "-c".into(),
        script(&all),
    ];
    let ran = run(&world.space, spec).await;
    let errors: Vec<i32> = ran
        .stdout
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    let got: Vec<_> = DENIED
        .iter()
        .zip(errors)
        .map(|((name, ..), errno)| (*name, errno))
        .collect();
    let expected: Vec<_> = DENIED
        .iter()
        .map(|(name, _, _, errno)| (*name, *errno))
        .collect();
    assert_eq!(got, expected, "{}", ran.stderr);

    let some: Vec<_> = DENIED
        .iter()
        .filter(|(name, ..)| WORKS_OUTSIDE.contains(name))
        .collect();
    let outside = std::process::Command::new("/usr/bin/python3")
        .args(["-I", "-c", &script(&some)])
        .output()
        .unwrap();
    for ((name, _, _, errno), line) in some
        .iter()
        .zip(String::from_utf8_lossy(&outside.stdout).lines())
    {
        assert_ne!(line, errno.to_string(), "{name} is denied outside too");
    }
    world.end().await;
}

#[tokio::test]
async fn a_foreign_architecture_is_killed() {
    let world = World::new().await;
    // getpid by int 0x80, in machine code.
    let code = "import ctypes, mmap\nm = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE, 7)\n\
                m.write(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3')\n\
                ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()";
    let mut spec = bash("");
    spec.argv = vec![
        "/usr/bin/python3".into(),
        "-I".into(),
        "-c".into(),
        code.into(),
    ];
    assert_eq!(
        run(&world.space, spec).await.exit.status,
        ExitStatus::Signal(libc::SIGSYS)
    );
    world.end().await;
}

#[tokio::test]
async fn a_listener_inside_is_reached_from_outside_and_nothing_else_is_reached_from_inside() {
    let world = World::new().await;
    let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let error = |target: &str| {
        format!(
            "(exec 3<>/dev/tcp/{target}) 2>&1 | grep -o -e 'Connection refused' -e 'Network is unreachable' | head -1"
        )
    };
    assert_eq!(
        world.output(&error(&format!("127.0.0.1/{port}"))).await,
        "Connection refused\n"
    );
    assert_eq!(
        world.output(&error("192.0.2.1/80")).await,
        "Network is unreachable\n"
    );
    assert_eq!(
        world.output(&error("169.254.169.254/80")).await,
        "Network is unreachable\n"
    );

    let listener = world.space.runner_listeners[0].try_clone().unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"from outside")
            .await
            .unwrap();
    };
    let ask = world.output("cat < /dev/tcp/127.0.0.1/9222");
    assert_eq!(tokio::join!(serve, ask).1, "from outside");

    // The browser's namespace has no such listener, and its image no second network.
    let mut spec = bash("exec 3<>/dev/tcp/127.0.0.1/9222");
    spec.network = Network::Browser;
    assert!(
        run(&world.space, spec)
            .await
            .stderr
            .contains("Connection refused")
    );
    world.end().await;
}

#[tokio::test]
async fn a_socket_of_the_namespace_reaches_a_server_inside() {
    let world = World::new().await;
    let server = "import socket\ns = socket.create_server(('127.0.0.1', 8000))\n\
                  print('up', flush=True)\nc, _ = s.accept()\nc.sendall(b'from inside')";
    let mut spec = bash("");
    spec.argv = vec![
        "/usr/bin/python3".into(),
        "-I".into(),
        "-c".into(),
        server.into(),
    ];
    let mut sandbox = world.space.spawn(spec).await.unwrap();
    let mut out =
        tokio::net::unix::pipe::Receiver::from_owned_fd(sandbox.stdout.take().unwrap()).unwrap();
    let mut line = [0; 3];
    tokio::io::AsyncReadExt::read_exact(&mut out, &mut line)
        .await
        .unwrap();
    let socket = world.space.runner_socket(IpFamily::V4).await.unwrap();
    let socket = tokio::net::TcpSocket::from_std_stream(socket);
    let mut stream = socket.connect(([127, 0, 0, 1], 8000).into()).await.unwrap();
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text)
        .await
        .unwrap();
    assert_eq!(text, "from inside");
    world.end().await;
}

#[tokio::test]
async fn two_spaces_share_nothing() {
    if !host().can("two_spaces_share_nothing", "session-uids") {
        return;
    }
    let world = World::new().await;
    let other = world.sandboxes.create_space(space_spec()).await.unwrap();
    world.output("echo secret > /tmp/secret").await;
    assert_eq!(
        output(&other, "ls -A /tmp /workspace").await,
        "/tmp:\n\n/workspace:\n"
    );
    let uid = |status: &str| field(status, "Uid").to_owned();
    let mut first = world.space.spawn(bash("sleep 60")).await.unwrap();
    let mut second = other.spawn(bash("sleep 60")).await.unwrap();
    let uids: std::collections::BTreeSet<_> = processes(&world.config)
        .iter()
        .map(|(_, status)| uid(status))
        .collect();
    assert_eq!(uids.len(), 2);
    assert_eq!(output(&other, "echo /proc/[0-9]*").await, "/proc/2\n");
    first.stdout = None;
    second.stdout = None;
    other.close().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn the_scratch_is_reached_from_outside_without_following_links() {
    let world = World::new().await;
    let scratch = world.space.scratch().clone();
    world
        .output("umask 077; echo inside > /tmp/a; ln -s /etc/shadow /tmp/link; ln -s .. /tmp/up; mkfifo /tmp/fifo; mkdir /tmp/dir")
        .await;
    let mut text = String::new();
    scratch
        .open(Path::new("/tmp/a"))
        .await
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "inside\n");
    let errno = async |path: &str| match scratch.open(Path::new(path)).await {
        Err(Error::Step(error)) => error.errno,
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(errno("/tmp/link").await, libc::ELOOP);
    assert_eq!(errno("/tmp/up/tmp/a").await, libc::ELOOP);
    assert_eq!(errno("/tmp/fifo").await, libc::EINVAL);
    assert_eq!(errno("/tmp/dir").await, libc::EINVAL);
    assert_eq!(errno("/tmp/none").await, libc::ENOENT);
    for outside in [
        "/etc/passwd",
        "/tmp/../etc/passwd",
        "tmp/a",
        "/",
        "/agent/x",
    ] {
        assert_eq!(errno(outside).await, libc::EINVAL, "{outside}");
    }
    let mut file = scratch.create(Path::new("/workspace/in/b")).await.unwrap();
    file.write_all(b"given\n").unwrap();
    drop(file);
    assert_eq!(
        world
            .output("cat in/b; stat -c %U:%a in in/b; echo more >> in/b")
            .await,
        "given\npagebox:700\npagebox:600\n"
    );
    scratch
        .link(Path::new("/workspace/in/b"), Path::new("/tmp/out/c"))
        .await
        .unwrap();
    scratch
        .create_dir_all(Path::new("/workspace/x/y"))
        .await
        .unwrap();
    assert_eq!(
        world.output("cat /tmp/out/c; ls in x").await,
        "given\nmore\nin:\nb\n\nx:\ny\n"
    );
    assert!(
        scratch
            .link(Path::new("/tmp/link"), Path::new("/tmp/z"))
            .await
            .is_err()
    );
    assert!(scratch.create(Path::new("/tmp/up/x")).await.is_err());
    scratch.remove(Path::new("/tmp/link")).await.unwrap();
    assert!(scratch.remove(Path::new("/tmp/dir")).await.is_err());
    assert!(scratch.remove(Path::new("/tmp")).await.is_err());
    let service = Path::new("/run/agent-browser/config");
    scratch
        .create(service)
        .await
        .unwrap()
        .write_all(b"x")
        .unwrap();
    assert_eq!(
        world
            .output("cat /run/agent-browser/config; ls -A /tmp")
            .await,
        "xa\ndir\nfifo\nout\nup\n"
    );
    assert_eq!(
        world.error("touch /run/agent-browser/y").await,
        "Read-only file system"
    );
    world.end().await;
}

#[tokio::test]
async fn interpreters_run_in_their_images() {
    let world = World::new().await;
    for (image, argv, expected) in [
        (
            "node",
            &[
                "/usr/local/bin/node",
                "-e",
                "console.log(process.version.slice(0, 1), require('os').userInfo().username)",
            ][..],
            "v pagebox\n",
        ),
        (
            "python",
            &[
                "/usr/bin/python3",
                "-c",
                "import ssl, sqlite3, asyncio, os; sqlite3.connect('/tmp/db').execute('create table t(x)'); print(os.getuid())",
            ][..],
            "1000\n",
        ),
        (
            "bash",
            &[
                "/bin/bash",
                "-c",
                "echo a | sed s/a/b/ | awk '{print $1}' | tr b c; jq -n 1; cat <(echo sub); node -e 'console.log(2)'; mkfifo /tmp/p",
            ][..],
            "c\n1\nsub\n2\n",
        ),
    ] {
        let mut spec = bash("");
        spec.image = image.into();
        spec.argv = argv.iter().map(ToString::to_string).collect();
        spec.limits.group.memory = pagebox::limits::Bytes::mib(512);
        let ran = run(&world.space, spec).await;
        assert_eq!(
            (ran.stdout.as_str(), ran.stderr.as_str()),
            (expected, ""),
            "{image}"
        );
    }
    world.end().await;
}

#[tokio::test]
async fn the_agent_image_executes_nothing_but_its_own_program() {
    let world = World::new().await;
    world
        .output("cp /usr/bin/true /tmp/x; chmod +x /tmp/x; /tmp/x")
        .await;
    let agent = |argv: &[&str]| {
        let mut spec = bash("");
        spec.image = "agent".into();
        spec.argv = argv.iter().map(ToString::to_string).collect();
        spec
    };
    let error = world
        .space
        .spawn(agent(&["/tmp/x"]))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("execve: /tmp/x: EACCES"), "{error}");
    let library = "/usr/lib/x86_64-linux-gnu/libc.so.6";
    let error = world
        .space
        .spawn(agent(&[library]))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("EACCES"), "{error}");
    // The loader may run, but maps nothing executable from what the session can write.
    let ran = run(
        &world.space,
        agent(&["/usr/lib64/ld-linux-x86-64.so.2", "/tmp/x"]),
    )
    .await;
    assert!(ran.stderr.contains("failed to map segment"), "{ran:?}");
    world.end().await;
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_and_says_why() {
    let world = World::new().await;
    let refusal = async |change: fn(&mut pagebox::sandbox::SandboxSpec)| {
        let mut spec = bash("true");
        change(&mut spec);
        world.space.spawn(spec).await.unwrap_err().to_string()
    };
    let error = refusal(|spec| spec.image = "none".into()).await;
    assert!(error.contains("no image \"none\""), "{error}");
    let error = refusal(|spec| spec.argv[0] = "/bin/nothing".into()).await;
    assert!(error.starts_with("execve: /bin/nothing: ENOENT"), "{error}");
    let error = refusal(|spec| spec.cwd = "/nowhere".into()).await;
    assert!(error.starts_with("directory: /nowhere: ENOENT"), "{error}");
    let error = refusal(|spec| spec.argv.push("x".repeat(200_000))).await;
    assert!(error.contains("too long"), "{error}");
    assert_eq!(world.output("echo still here").await, "still here\n");
    world.end().await;
}
