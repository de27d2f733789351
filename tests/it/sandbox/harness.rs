//! Starts the real spawner and runs programs in its sandboxes.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pagebox::limits::Bytes;
use pagebox::sandbox::{
    Control, Exit, GroupLimits, Image, Network, Sandbox, SandboxLimits, SandboxSpec, Sandboxes,
    Space, SpaceSpec, SpawnerConfig, Weakening, start_spawner,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

pub(super) const LIMITS: GroupLimits = GroupLimits {
    memory: Bytes::mib(512),
    processes: 256,
    cpu_percent: 200,
};

pub(super) fn config() -> SpawnerConfig {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let images = Image::load_all(
        &root.join("sandbox-images"),
        &[("runners", &root.join("runners"))],
    )
    .unwrap();
    SpawnerConfig {
        executable: Some(PathBuf::from(env!("CARGO_BIN_EXE_pagebox"))),
        images,
        allow_degraded: vec![Weakening::SharedUid, Weakening::NoCgroup],
        uid_base: 2_000_000 + std::process::id() % 1000 * 100,
        uid_count: 100,
        daemon_uid: 65534,
    }
}

/// Must run inside a tokio runtime that runs on the calling thread.
pub(super) fn start() -> Sandboxes {
    Sandboxes::connect(start_spawner(&config()).unwrap()).unwrap()
}

pub(super) fn space_spec() -> SpaceSpec {
    SpaceSpec {
        scratch: Bytes::mib(64),
        scratch_inodes: 1000,
        limits: LIMITS,
        runner_ports: vec![9222, 3128],
        browser_ports: vec![3128],
    }
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
    let (stdout, stderr, exit) =
        tokio::time::timeout(Duration::from_secs(20), all).await.unwrap();
    Ran { stdout, stderr, exit }
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
