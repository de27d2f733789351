//! Starts the real spawner and runs programs in its sandboxes.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use pagebox::limits::Bytes;
use pagebox::sandbox::{
    Control, Exit, ExitStatus, GroupLimits, Network, Sandbox, SandboxLimits, SandboxSpec,
    Sandboxes, Space, SpaceSpec, SpawnerConfig, start_spawner,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use super::spawner;
use crate::daemon::host::Host;
use crate::shared::binary;

/// What this host isolates.
pub(super) fn host() -> &'static Host {
    crate::daemon::host::host(binary())
}

pub(super) const LIMITS: GroupLimits = GroupLimits {
    memory: Bytes::mib(512),
    processes: 256,
    cpu_percent: 200,
};

/// uids of its own for every spawner of a test run, so that a test finds its own processes.
const UIDS: u32 = 100;

pub(super) fn config() -> SpawnerConfig {
    config_of(&spawner::shipped())
}

/// With the images of another directory.
pub(super) fn config_of(images: &Path) -> SpawnerConfig {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id() % 10_000 * 100 + STARTED.fetch_add(1, Relaxed);
    let first = 100_000_000 + number * UIDS;
    spawner::config(images, first..first + UIDS)
}

/// Real processes under the uids of a spawner: pid and the text of /proc/PID/status.
pub(super) fn processes(config: &SpawnerConfig) -> Vec<(u32, String)> {
    let uids = config.uid_base..config.uid_base + config.uid_count;
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let uid = field(&status, "Uid")
                .split_whitespace()
                .next()?
                .parse()
                .ok()?;
            uids.contains(&uid).then_some((pid, status))
        })
        .collect()
}

/// A field of /proc/PID/status.
pub(super) fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_default()
        .trim()
}

pub(super) fn space_spec() -> SpaceSpec {
    spawner::space_spec(LIMITS)
}

pub(super) fn bash(script: &str) -> SandboxSpec {
    SandboxSpec {
        image: "bash".into(),
        argv: vec!["/bin/bash".into(), "-c".into(), script.into()],
        env: vec![
            ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()),
            ("HOME".into(), "/workspace".into()),
        ],
        cwd: "/workspace".into(),
        network: Network::Runner,
        control: Control::None,
        limits: SandboxLimits {
            group: GroupLimits {
                memory: Bytes::mib(128),
                processes: 64,
                cpu_percent: 200,
            },
            open_files: 256,
            file_size: Bytes::mib(16),
        },
    }
}

/// Everything a pipe gives until its end.
pub(super) async fn read_all(fd: OwnedFd) -> String {
    let mut pipe = pipe::Receiver::from_owned_fd(fd).unwrap();
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[derive(Debug)]
pub(super) struct Ran {
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) exit: Exit,
}

pub(super) async fn finish(mut sandbox: Sandbox) -> Ran {
    let stdout = read_all(sandbox.stdout.take().unwrap());
    let stderr = read_all(sandbox.stderr.take().unwrap());
    let all = async { tokio::join!(stdout, stderr, sandbox.wait()) };
    let (stdout, stderr, exit) = tokio::time::timeout(Duration::from_secs(20), all)
        .await
        .unwrap();
    Ran {
        stdout,
        stderr,
        exit,
    }
}

pub(super) async fn run(space: &Space, spec: SandboxSpec) -> Ran {
    finish(space.spawn(spec).await.unwrap()).await
}

/// Runs a bash script and gives its stdout; fails when it wrote to stderr.
pub(super) async fn output(space: &Space, script: &str) -> String {
    let ran = run(space, bash(script)).await;
    assert_eq!(ran.stderr, "", "{script}: {ran:?}");
    ran.stdout
}

/// A spawner with one space.
pub(super) struct World {
    pub(super) config: SpawnerConfig,
    pub(super) sandboxes: Sandboxes,
    pub(super) space: Space,
}

impl World {
    pub(super) async fn new() -> Self {
        let config = config();
        let sandboxes = Sandboxes::connect(start_spawner(&config).unwrap()).unwrap();
        let space = sandboxes.create_space(space_spec()).await.unwrap();
        Self {
            config,
            sandboxes,
            space,
        }
    }

    pub(super) async fn output(&self, script: &str) -> String {
        output(&self.space, script).await
    }

    /// The reason at the end of what a script that must fail writes to stderr.
    pub(super) async fn error(&self, script: &str) -> String {
        let ran = run(&self.space, bash(script)).await;
        assert_ne!(ran.exit.status, ExitStatus::Code(0), "{script}: {ran:?}");
        ran.stderr
            .lines()
            .next()
            .and_then(|line| line.rsplit(": ").next())
            .unwrap_or_default()
            .to_owned()
    }

    /// Closes everything; nothing may be left.
    pub(super) async fn end(self) {
        self.space.close().await.unwrap();
        assert_eq!(processes(&self.config), []);
        self.sandboxes.shutdown().await;
    }
}
