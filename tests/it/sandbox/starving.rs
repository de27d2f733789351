//! What one session could take from the spawner, and so from all: descriptors under way, time,
//! memory that no watchdog sees, room on the stage.

use std::path::Path;
use std::time::Duration;

use pagebox::limits::Bytes;
use pagebox::sandbox::{
    CgroupMode, Control, ExitStatus, LimitOf, SandboxSpec, Sandboxes, Space, start_spawner,
};

use super::harness::*;
use super::lifecycle::{in_own_process, is_helper};

/// The browser may have as many open files, by default.
const OPEN_FILES: u64 = 4096;

fn python(code: &str) -> SandboxSpec {
    let mut spec = bash("");
    spec.argv = ["/usr/bin/python3", "-I", "-c", code]
        .map(Into::into)
        .into();
    spec.limits.open_files = OPEN_FILES;
    spec
}

/// A spawner without any cgroup, with one space.
async fn without_cgroups() -> (Sandboxes, Space) {
    let mut config = config();
    config.cgroups = CgroupMode::None;
    let sandboxes = Sandboxes::connect(start_spawner(&config).unwrap()).unwrap();
    let space = sandboxes.create_space(space_spec()).await.unwrap();
    (sandboxes, space)
}

#[test]
fn descriptors_under_way_in_one_session_do_not_end_the_spawner() {
    // As an ordinary user: root is not counted. Less than a sandbox may have, so that what the
    // spawner sends is refused; and as a shell has it, so that it is not.
    for (limit, refused) in [("-n 2048", "1"), ("-Sn 1024", "0")] {
        // At a low priority too, which nobody without root can leave again.
        let script = format!("ulimit {limit} && REFUSED={refused} exec nice -n 10 \"$@\"");
        let mut before = vec!["/bin/bash", "-c", &script, "bash"];
        if nix::unistd::geteuid().is_root() {
            before.extend(["/usr/bin/setpriv", "--reuid=61235", "--regid=61235"]);
            before.push("--clear-groups");
        }
        in_own_process("sandbox::starving::descriptors_under_way", &before);
    }
}

#[tokio::test]
async fn descriptors_under_way() {
    if !is_helper() {
        return;
    }
    let refused = std::env::var("REFUSED").unwrap() == "1";
    let world = World::new().await;
    let other = world.sandboxes.create_space(space_spec()).await.unwrap();
    let hold = "import os, socket, time\nwhile not os.path.exists('/tmp/go'): time.sleep(0.01)\n\
        held, sent = [], 0\n\
        try:\n while True:\n  pair = socket.socketpair()\n  held.append(pair)\n  \
        socket.send_fds(pair[0], [b'x'], [0] * 250)\n  sent += 250\n\
        except OSError: pass\n\
        open('/tmp/held', 'w').close()\nprint(sent, flush=True)\ntime.sleep(60)";
    let mut spec = python(hold);
    if refused {
        spec.limits.open_files = 2048;
    }
    let hostile = world.space.spawn(spec).await.unwrap();
    // Not before its own descriptors have come.
    world.output("touch /tmp/go").await;
    let scratch = world.space.scratch();
    let held = async {
        // Once it holds them, this open is refused another way.
        while let Err(error) = scratch.open(Path::new("/tmp/held")).await {
            if error.to_string().contains("hand-over") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), held)
        .await
        .unwrap();
    let (sandbox, space) = (
        other.spawn(bash("echo hi")).await,
        world.sandboxes.create_space(space_spec()).await,
    );
    if refused {
        for error in [sandbox.unwrap_err(), space.unwrap_err()] {
            assert!(error.to_string().starts_with("hand-over: "), "{error}");
        }
    } else {
        assert_eq!(finish(sandbox.unwrap()).await.stdout, "hi\n");
        space.unwrap().close().await.unwrap();
    }
    hostile.kill();
    let ran = finish(hostile).await;
    let sent: u64 = ran.stdout.trim().parse().unwrap();
    assert!(sent >= 2048, "{ran:?}");
    // The kernel gives the count back once it has torn the sockets down, soon after the end.
    let again = async {
        loop {
            match other.spawn(bash("echo again")).await {
                Ok(sandbox) => break finish(sandbox).await,
                Err(error) if error.to_string().starts_with("hand-over: ") => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(10), again).await;
    assert_eq!(again.unwrap().stdout, "again\n");
    world.end().await;
}

/// Shared pages of /dev/zero stay when a program unmaps them: no process would have them.
#[tokio::test]
async fn without_cgroups_no_memory_is_hidden_behind_dev_zero() {
    let code = "import mmap, os\n\
        try:\n f = os.open('/dev/zero', os.O_RDWR)\n \
        m = mmap.mmap(f, 1 << 20)\n m[0] = 1\n m.madvise(mmap.MADV_DONTNEED)\n print('kept', m[0])\n\
        except PermissionError: print('refused')\n\
        f = os.open('/dev/zero', os.O_RDONLY)\nprint(os.read(f, 4) == bytes(4))\n\
        try: mmap.mmap(f, 1 << 20)\n\
        except PermissionError: print('refused')";
    let outside = std::process::Command::new("/usr/bin/python3")
        .args(["-I", "-c", code])
        .output()
        .unwrap();
    let outside = String::from_utf8_lossy(&outside.stdout).into_owned();
    assert_eq!(outside, "kept 1\nTrue\nrefused\n");
    let (sandboxes, space) = without_cgroups().await;
    let ran = run(&space, python(code)).await;
    assert_eq!(ran.stdout, "refused\nTrue\nrefused\n", "{ran:?}");
    space.close().await.unwrap();
    sandboxes.shutdown().await;
}

/// One file mapped hundreds of times is hardly any memory, but a long walk for who measures it.
#[tokio::test]
async fn without_cgroups_a_file_mapped_again_and_again_is_over_the_limit() {
    let (sandboxes, space) = without_cgroups().await;
    let map = "import mmap, os\nf = os.open('/usr/local/bin/node', os.O_RDONLY)\n\
        size, held = os.fstat(f).st_size, []\n\
        while True:\n \
        held.append(mmap.mmap(f, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=mmap.PROT_READ))\n \
        if len(held) * size > 4 << 30: print('.', end='', flush=True)";
    let mut spec = python(map);
    spec.image = "python".into();
    let mut sandbox = space.spawn(spec).await.unwrap();
    let stdout = read_all(sandbox.stdout.take().unwrap());
    let ended = async { tokio::join!(stdout, sandbox.wait()) };
    let (stdout, exit) = tokio::time::timeout(Duration::from_secs(120), ended)
        .await
        .unwrap();
    assert_eq!(exit.status, ExitStatus::OutOfMemory(LimitOf::Sandbox));
    // Far beyond the limit of 128 MiB it was measured, and found to be little.
    assert!(stdout.starts_with('.'), "{exit:?}");
    space.close().await.unwrap();
    sandboxes.shutdown().await;
}

/// Who holds a lease keeps others waiting: whoever opens that file, or changes that directory (a
/// delegation, Linux 6.19). Without root, the files of all images belong to every session's uid.
#[tokio::test]
async fn no_program_keeps_others_waiting_for_a_file() {
    let world = World::new().await;
    let code = "import errno, fcntl, os, tempfile\n\
        def lease(path, command, how):\n \
        f = os.open(path, os.O_RDONLY)\n \
        try: fcntl.fcntl(f, command, how)\n except OSError as e: return errno.errorcode[e.errno]\n \
        return 'held'\n\
        own = tempfile.mkstemp()\nos.close(own[0])\n\
        print(lease(own[1], fcntl.F_SETLEASE, fcntl.F_WRLCK))\n\
        print(lease('/usr/bin/jq', fcntl.F_SETLEASE, fcntl.F_WRLCK))\n\
        if os.getuid() == 1000: print(lease('.', 1040, bytes(8)))";
    let outside = std::process::Command::new("/usr/bin/python3")
        .args(["-I", "-c", code])
        .output()
        .unwrap();
    assert!(outside.stdout.starts_with(b"held\n"), "{outside:?}");
    let inside = run(&world.space, python(code)).await;
    assert_eq!(inside.stdout, "EPERM\nEPERM\nEPERM\n", "{inside:?}");
    world.end().await;
}

/// The spawner is the peer of a control socket; a handle of it is good for nothing.
#[tokio::test]
async fn a_handle_of_the_spawner_is_good_for_nothing() {
    let world = World::new().await;
    // SO_PEERPIDFD; PIDFD_GET_*_NAMESPACE and PIDFD_GET_INFO.
    let code = "import errno, fcntl, signal, socket\ns = socket.socket(fileno=3)\n\
        try: handle = s.getsockopt(socket.SOL_SOCKET, 77)\n\
        except OSError as e: raise SystemExit(0) if e.errno == errno.ENOPROTOOPT else e\n\
        def refused(what, *args):\n \
        try: what(*args)\n except OSError: return\n \
        print('not refused', what, args)\n\
        for number in (0, 9): refused(signal.pidfd_send_signal, handle, number)\n\
        for request in range(0xff01, 0xff0b): refused(fcntl.ioctl, handle, request, 0)\n\
        refused(fcntl.ioctl, handle, 3 << 30 | 64 << 16 | 0xff0b, bytearray(64))";
    let mut spec = python(code);
    spec.control = Control::Frames;
    let ran = run(&world.space, spec).await;
    assert_eq!(ran.exit.status, ExitStatus::Code(0), "{ran:?}");
    assert_eq!((&*ran.stdout, &*ran.stderr), ("", ""));
    world.end().await;
}

/// Scratches of the stage of every spawner that is a child of this process.
fn scratches() -> usize {
    let own = std::process::id().to_string();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|process| {
            let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
            field(&status, "PPid") == own
        })
        .map(|process| {
            let mounts = std::fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
            mounts.matches(" /spaces/").count()
        })
        .sum()
}

#[test]
fn a_scratch_that_cannot_be_made_leaves_nothing() {
    in_own_process("sandbox::starving::scratch_that_cannot_be_made", &[]);
}

#[tokio::test]
async fn scratch_that_cannot_be_made() {
    if !is_helper() {
        return;
    }
    let world = World::new().await;
    let before = scratches();
    // What code and browser share, and on it what is the browser's alone.
    assert_eq!(before, 2);
    let mut spec = space_spec();
    spec.scratch_inodes = 1; // its root
    spec.scratch = Bytes::mib(1);
    for _ in 0..3 {
        let error = world
            .sandboxes
            .create_space(spec.clone())
            .await
            .unwrap_err();
        assert!(error.to_string().starts_with("scratch: "), "{error}");
    }
    assert_eq!(scratches(), before);
    world.end().await;
}
