//! Whom the kernel kills first when memory runs out.

use pagebox::sandbox::ExitStatus;

use super::harness::*;

/// `oom_score_adj` of every process of a world: whether it is a sandbox's pid 1, and the score.
fn scores(world: &World) -> Vec<(bool, i32)> {
    let mut scores: Vec<_> = processes(&world.config)
        .into_iter()
        .filter_map(|(pid, status)| {
            let score = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?;
            let first = field(&status, "NSpid").split_whitespace().last() == Some("1");
            Some((first, score.trim().parse().unwrap()))
        })
        .collect();
    scores.sort_unstable();
    scores
}

#[tokio::test]
async fn a_program_is_killed_before_its_pid_1() {
    if !host().can("a_program_is_killed_before_its_pid_1", "session-uids") {
        return;
    }
    let world = World::new().await;
    let sandbox = world.space.spawn(bash("sleep 60 & wait")).await.unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let expected = vec![(false, 1000), (false, 1000), (true, 500)];
    while scores(&world) != expected {
        assert!(std::time::Instant::now() < deadline, "{:?}", scores(&world));
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(sandbox);
    world.end().await;
}

/// The floor: what the spawner set holds also where the file can be written, for Chromium.
#[tokio::test]
async fn no_program_lowers_its_score() {
    let world = World::new().await;
    let lower = "for score in 1000 999 500 499 0; do { echo $score > /proc/self/oom_score_adj; } \
                 2>&1 | grep -o 'Read-only file system'; done; cat /proc/self/oom_score_adj";
    let read_only = "Read-only file system\n".repeat(5);
    assert_eq!(world.output(lower).await, read_only + "1000\n");
    world.end().await;
}

/// Shared memory counts for every process that maps it, so it is the score that decides.
#[tokio::test]
async fn a_bomb_of_shared_memory_ends_the_program_and_not_pid_1() {
    if !host().can(
        "a_bomb_of_shared_memory_ends_the_program_and_not_pid_1",
        "cgroup-memory",
    ) {
        return;
    }
    let world = World::new().await;
    let bomb = "import mmap, os\nm = mmap.mmap(-1, 1 << 30)\nos.fork()\n\
                while True:\n for at in range(0, 1 << 30, 4096): m[at] = 1";
    for _ in 0..3 {
        let mut spec = bash("");
        spec.argv = ["/usr/bin/python3", "-I", "-c", bomb]
            .map(Into::into)
            .into();
        let exit = run(&world.space, spec).await.exit;
        assert_eq!(exit.status, ExitStatus::Signal(libc::SIGKILL), "{exit:?}");
        assert!(exit.usage.oom_kills >= 1, "{exit:?}");
    }
    world.end().await;
}
