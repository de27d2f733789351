//! Limits, kills, and what is left afterwards.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pagebox::limits::Bytes;
use pagebox::sandbox::{
    ExitStatus, GroupLimits, ProbeState, Sandboxes, SpawnerConfig, Weakening, start_spawner,
};

use super::browser::{Cdp, chromium};
use super::harness::*;

#[tokio::test]
async fn an_exit_code_and_a_signal_are_told_apart() {
    let world = World::new().await;
    for (script, status) in [
        ("exit 0", ExitStatus::Code(0)),
        ("exit 7", ExitStatus::Code(7)),
        ("kill -9 $$", ExitStatus::Signal(9)),
        ("sleep 60 & kill -9 -1; exit 5", ExitStatus::Code(5)),
        ("kill -9 1; exit 3", ExitStatus::Code(3)),
        ("kill -STOP 1; exit 4", ExitStatus::Code(4)),
    ] {
        assert_eq!(
            run(&world.space, bash(script)).await.exit.status,
            status,
            "{script}"
        );
    }
    world.end().await;
}

#[tokio::test]
async fn memory_is_limited_and_the_kill_is_counted() {
    if !host().can("memory_is_limited_and_the_kill_is_counted", "cgroup-memory") {
        return;
    }
    let world = World::new().await;
    for bomb in [
        "x = bytearray(10**9)\nfor i in range(0, 10**9, 4096): x[i] = 1",
        "import mmap\nx = mmap.mmap(-1, 10**9)\nfor i in range(0, 10**9, 4096): x[i] = 1",
        "import os\nf = os.memfd_create('x')\nfor i in range(1000): os.pwrite(f, b'x' * 2**20, (i % 16) * 2**20)\n\
         fs = [os.memfd_create(str(n)) for n in range(60)]\n\
         for f in fs: [os.pwrite(f, b'x' * 2**20, i * 2**20) for i in range(15)]",
    ] {
        let mut spec = bash("");
        spec.argv = vec![
            "/usr/bin/python3".into(),
            "-I".into(),
            "-c".into(),
            bomb.into(),
        ];
        let exit = run(&world.space, spec).await.exit;
        // Also of memory that is nobody's own, as a memfd's, pid 1 is not the first victim.
        assert_eq!(exit.status, ExitStatus::Signal(9), "{bomb}");
        assert_eq!(exit.usage.oom_kills, 1, "{bomb}");
        assert!(exit.usage.peak_memory.unwrap() <= Bytes::mib(128));
        assert!(exit.usage.peak_memory.unwrap() >= Bytes::mib(120));
    }
    world.end().await;
}

#[tokio::test]
async fn usage_is_read_while_it_runs_and_the_peak_starts_anew() {
    if !host().can(
        "usage_is_read_while_it_runs_and_the_peak_starts_anew",
        "cgroup-memory",
    ) {
        return;
    }
    let world = World::new().await;
    let code = "import time\nx = bytearray(60 * 2**20)\ndel x\n\
                t = time.process_time()\nwhile time.process_time() - t < 0.2: pass\n\
                print('done', flush=True)\ntime.sleep(60)";
    let mut spec = bash("");
    spec.argv = vec![
        "/usr/bin/python3".into(),
        "-I".into(),
        "-c".into(),
        code.into(),
    ];
    let mut sandbox = world.space.spawn(spec).await.unwrap();
    let mut out =
        tokio::net::unix::pipe::Receiver::from_owned_fd(sandbox.stdout.take().unwrap()).unwrap();
    tokio::io::AsyncReadExt::read_u8(&mut out).await.unwrap();
    let usage = sandbox.usage().await;
    assert!(usage.peak_memory.unwrap() > Bytes::mib(60), "{usage:?}");
    assert!(usage.cpu_time > Duration::from_millis(200), "{usage:?}");
    sandbox.reset_peak();
    let usage = sandbox.usage().await;
    assert!(usage.peak_memory.unwrap() < Bytes::mib(40), "{usage:?}");
    sandbox.kill();
    assert_eq!(sandbox.wait().await.status, ExitStatus::Killed);
    assert!(sandbox.usage().await.cpu_time > Duration::from_millis(200));
    world.end().await;
}

#[tokio::test]
async fn processes_are_limited_and_die_together() {
    if !host().can("processes_are_limited_and_die_together", "session-uids") {
        return;
    }
    let world = World::new().await;
    for (script, at_least) in [
        // A fork bomb.
        ("bomb() { bomb | bomb & }; bomb; sleep 60", 50),
        // Daemons: double fork, own session, no open files, every catchable signal ignored.
        (
            "trap '' HUP INT TERM QUIT; for i in $(seq 20); do (setsid sleep 60 >&- 2>&- <&- &); done; sleep 60",
            20,
        ),
        (
            "for i in $(seq 20); do sleep 60 & done; kill -STOP -1; sleep 60",
            20,
        ),
    ] {
        let sandbox = world.space.spawn(bash(script)).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut count = 0;
        while count < at_least && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
            count = processes(&world.config).len();
        }
        assert!((at_least..=64).contains(&count), "{script}: {count}");
        let started = Instant::now();
        sandbox.kill();
        sandbox.wait().await;
        println!("{count} processes gone after {:?}", started.elapsed());
        assert_eq!(processes(&world.config), [], "{script}");
    }
    world.end().await;
}

#[tokio::test]
async fn what_a_program_leaves_behind_dies_with_it() {
    let world = World::new().await;
    let out = world
        .output("(setsid sleep 60 >&- 2>&- <&- &); sleep 0.1; echo done")
        .await;
    assert_eq!(out, "done\n");
    assert_eq!(processes(&world.config), []);
    world.end().await;
}

#[tokio::test]
async fn dropping_a_handle_ends_what_it_stands_for() {
    let world = World::new().await;
    let other = world.sandboxes.create_space(space_spec()).await.unwrap();
    drop(other.spawn(bash("sleep 60")).await.unwrap());
    until_none(&world.config).await;
    let sandbox = other.spawn(bash("sleep 60")).await.unwrap();
    drop(other);
    assert_eq!(sandbox.wait().await.status, ExitStatus::Killed);
    // Cancelled in the middle.
    for delay in [0, 200, 500, 1000, 2000, 4000] {
        let spawn = world.space.spawn(bash("sleep 60"));
        let _ = tokio::time::timeout(Duration::from_micros(delay), spawn).await;
        let create = world.sandboxes.create_space(space_spec());
        let _ = tokio::time::timeout(Duration::from_micros(delay), create).await;
    }
    until_none(&world.config).await;
    world.end().await;
}

async fn until_none(config: &SpawnerConfig) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !processes(config).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", processes(config));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a spawner holds: descriptors, children, mounts; and its groups in every hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    descriptors: usize,
    mounts: usize,
    groups: usize,
    processes: usize,
    own_descriptors: usize,
}

fn holdings(config: &SpawnerConfig, spawner: u32) -> Holdings {
    let count = |path: String| std::fs::read_dir(path).map(Iterator::count).unwrap_or(0);
    Holdings {
        descriptors: count(format!("/proc/{spawner}/fd")),
        mounts: std::fs::read_to_string(format!("/proc/{spawner}/mountinfo"))
            .unwrap_or_default()
            .lines()
            .count(),
        groups: groups(spawner).len(),
        processes: processes(config).len(),
        own_descriptors: count("/proc/self/fd".into()),
    }
}

/// Every group of a spawner.
fn groups(spawner: u32) -> Vec<PathBuf> {
    fn walk(dir: &Path, depth: u32, of_spawner: bool, prefix: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) || depth == 0 {
                continue;
            }
            let ours = of_spawner || entry.file_name().to_string_lossy().starts_with(prefix);
            if ours {
                found.push(entry.path());
            }
            walk(&entry.path(), depth - 1, ours, prefix, found);
        }
    }
    let mut found = Vec::new();
    walk(
        Path::new("/sys/fs/cgroup"),
        8,
        false,
        &format!("pagebox-{spawner}-"),
        &mut found,
    );
    found
}

/// The spawners that this process started (one for each running test), by uid range.
fn spawner_of(sandboxes_started_after: &BTreeMap<u32, ()>) -> u32 {
    *children()
        .keys()
        .find(|pid| !sandboxes_started_after.contains_key(pid))
        .unwrap()
}

fn children() -> BTreeMap<u32, ()> {
    let own = std::process::id().to_string();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            field(&status, "PPid") == own
        })
        .map(|pid: u32| (pid, ()))
        .collect()
}

/// In a process of its own, because it counts what the process and its only spawner hold.
#[test]
fn fifty_spaces_leave_nothing() {
    in_own_process("sandbox::lifecycle::fifty_spaces", &[]);
}

#[tokio::test]
async fn fifty_spaces() {
    if !is_helper() {
        return;
    }
    let before = children();
    let world = World::new().await;
    let spawner = spawner_of(&before);
    let round = async || {
        let space = world.sandboxes.create_space(space_spec()).await.unwrap();
        let mut first = space.spawn(bash("sleep 60 & sleep 60")).await.unwrap();
        first.stdout = None;
        assert_eq!(output(&space, "echo hi > /tmp/x; cat /tmp/x").await, "hi\n");
        space.close().await.unwrap();
    };
    round().await;
    let start = holdings(&world.config, spawner);
    assert_eq!(
        start.groups > 0,
        host().has("cgroup-processes"),
        "{start:?}"
    );
    // What a process without privileges holds, only root may count.
    assert!(
        !nix::unistd::Uid::effective().is_root() || start.mounts > 10 && start.descriptors > 5,
        "{start:?}"
    );
    let started = Instant::now();
    for _ in 0..50 {
        round().await;
    }
    println!("a space with two sandboxes: {:?}", started.elapsed() / 50);
    assert_eq!(holdings(&world.config, spawner), start);
    world.end().await;
    assert_eq!(groups(spawner), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn the_cost_of_a_sandbox_is_printed() {
    let world = World::new().await;
    let mut times = Vec::new();
    for _ in 0..20 {
        let started = Instant::now();
        let sandbox = world.space.spawn(bash("true")).await.unwrap();
        times.push(started.elapsed());
        sandbox.wait().await;
    }
    times.sort();
    println!(
        "spawn until execve: median {:?}, worst {:?}",
        times[10], times[19]
    );
    assert!(times[10] < Duration::from_millis(500));
    world.end().await;
}

#[test]
fn nothing_survives_the_daemon() {
    if !host().can("nothing_survives_the_daemon", "session-uids") {
        return;
    }
    let mut daemon = helper("sandbox::lifecycle::daemon_to_kill", &[]);
    let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
    let line = lines
        .by_ref()
        .map(Result::unwrap)
        .find(|line| line.contains("READY "))
        .unwrap();
    let numbers: Vec<u32> = line
        .rsplit("READY ")
        .next()
        .unwrap()
        .split(' ')
        .map(|number| number.parse().unwrap())
        .collect();
    let mut config = config();
    config.uid_base = numbers[0];
    let spawner = numbers[1];
    // Chromium's zygote and children come after the browser process.
    let asked = Instant::now();
    while processes(&config).len() <= 8 {
        assert!(
            asked.elapsed() < Duration::from_secs(30),
            "Chromium, and a daemonised program: {:?}",
            processes(&config)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let killed = Instant::now();
    // A zombie waits for the machine's init, who may be slow.
    let lives = || {
        std::fs::read_to_string(format!("/proc/{spawner}/status"))
            .is_ok_and(|status| !field(&status, "State").starts_with('Z'))
    };
    while !processes(&config).is_empty() || lives() {
        assert!(
            killed.elapsed() < Duration::from_secs(1),
            "{:?}",
            processes(&config)
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("all gone {:?} after the daemon", killed.elapsed());
    assert_eq!(groups(spawner), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn daemon_to_kill() {
    if !is_helper() {
        return;
    }
    let before = children();
    let world = World::new().await;
    let spawner = spawner_of(&before);
    // As the real daemon: under another uid, it may not signal a root spawner by dying.
    pagebox::sandbox::drop_privileges(65534).unwrap();
    let _browser = world.space.spawn(chromium()).await.unwrap();
    let _sandbox = world
        .space
        .spawn(bash(
            "(setsid sleep 60 >&- 2>&- <&- &); trap '' TERM; sleep 60",
        ))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    println!("READY {} {spawner}", world.config.uid_base);
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[test]
fn nothing_survives_the_spawner_and_the_next_one_removes_its_groups() {
    in_own_process("sandbox::lifecycle::kill_the_spawner", &[]);
}

#[tokio::test]
async fn kill_the_spawner() {
    if !is_helper() {
        return;
    }
    let before = children();
    let world = World::new().await;
    let spawner = spawner_of(&before);
    let sandbox = world
        .space
        .spawn(bash("(setsid sleep 60 &) ; sleep 60"))
        .await
        .unwrap();
    let raw = i32::try_from(spawner).unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(raw),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    tokio::time::timeout(Duration::from_secs(1), world.sandboxes.died())
        .await
        .unwrap();
    assert_eq!(sandbox.wait().await.status, ExitStatus::Killed);
    let error = world.space.spawn(bash("true")).await.unwrap_err();
    assert_eq!(error.to_string(), "the spawner has ended");
    until_none(&world.config).await;
    // Any spawner that starts does this; here another test's may come first.
    drop(World::new().await);
    assert_eq!(groups(spawner), [] as [PathBuf; 0]);
}

#[test]
fn rootless_isolates_too_and_reports_what_is_weaker() {
    let setpriv = [
        "/usr/bin/setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
    ];
    // One without privileges is that already.
    let before = match nix::unistd::Uid::effective().is_root() {
        true => &setpriv[..],
        false => &[],
    };
    in_own_process("sandbox::lifecycle::rootless", before);
}

#[tokio::test]
async fn rootless() {
    if !is_helper() {
        return;
    }
    let mut config = config();
    config.allow_degraded = vec![];
    let refusal = start_spawner(&config).unwrap_err().to_string();
    assert!(refusal.contains("shared-uid"), "{refusal}");
    config.allow_degraded = vec![Weakening::NoCgroup, Weakening::SharedUid];
    let sandboxes = Sandboxes::connect(start_spawner(&config).unwrap()).unwrap();
    let degraded: Vec<_> = sandboxes
        .report()
        .degraded()
        .map(|probe| probe.mechanism.as_str())
        .collect();
    assert_eq!(
        degraded,
        [
            "cgroup-memory",
            "cgroup-processes",
            "cgroup-cpu",
            "session-uids"
        ],
        "{:?}",
        sandboxes.report()
    );
    assert!(
        sandboxes
            .report()
            .probes
            .iter()
            .all(|probe| probe.state != ProbeState::Refused)
    );
    let space = sandboxes.create_space(space_spec()).await.unwrap();
    assert_eq!(
        output(
            &space,
            "id -u; echo /proc/[0-9]*; ls /root /home 2>/dev/null; echo x > /tmp/x; cat /tmp/x"
        )
        .await,
        "1000\n/proc/2\nx\n"
    );
    let file = space.scratch().open(Path::new("/tmp/x")).await.unwrap();
    assert!(file.as_raw_fd() > 2);
    let bomb = "import mmap\ntry: bytearray(10**9)\nexcept MemoryError: print('no memory')\n\
                try: mmap.mmap(-1, 10**9)\nexcept PermissionError: print('no shared memory')";
    let mut spec = bash("");
    spec.argv = vec![
        "/usr/bin/python3".into(),
        "-I".into(),
        "-c".into(),
        bomb.into(),
    ];
    assert_eq!(
        run(&space, spec).await.stdout,
        "no memory\nno shared memory\n"
    );
    let mut spec = chromium();
    spec.limits.group = GroupLimits {
        memory: Bytes::gib(2),
        ..spec.limits.group
    };
    let mut browser = space.spawn(spec).await.unwrap();
    let mut cdp = Cdp::of(&mut browser);
    let version = cdp
        .call(None, "Browser.getVersion", serde_json::json!({}))
        .await;
    assert!(
        version["product"].as_str().unwrap().contains("Chrome"),
        "{version}"
    );
    space.close().await.unwrap();
    sandboxes.shutdown().await;
}

const HELPER: &str = "SANDBOX_TEST_HELPER";

/// Whether this is the test's body in a process of its own, rather than the run of all tests.
pub(super) fn is_helper() -> bool {
    std::env::var_os(HELPER).is_some()
}

fn helper(test: &str, before: &[&str]) -> std::process::Child {
    let this = std::env::current_exe().unwrap();
    let mut words = before.to_vec();
    words.push(this.to_str().unwrap());
    Command::new(words[0])
        .args(&words[1..])
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(HELPER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

pub(super) fn in_own_process(test: &str, before: &[&str]) {
    let output = helper(test, before).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}
