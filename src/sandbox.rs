//! Sandboxes: isolated process trees, built by the spawner.
//!
//! The interface the layers above use. It knows nothing of sessions, browsers or languages.
#![allow(missing_docs, clippy::todo, unused_variables, clippy::unused_async)] // SKELETON

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::id::{SandboxId, SpaceId};
use crate::limits::Bytes;

/// Entry of the re-executed helper process; never returns. `main` calls it before anything else
/// when it finds it is that process (`is_spawner()`), so the spawner has an empty environment and
/// no tokio.
pub fn is_spawner() -> bool {
    false
}
pub fn spawner_main() -> ! {
    todo!()
}

/// What the spawner is started with. Plain data from config; paths are absolute.
#[derive(Clone, Debug)]
pub struct SpawnerConfig {
    /// The images it may build, by name, already resolved from `sandbox-images/*.toml`.
    pub images: Vec<Image>,
    /// Weaker isolation the operator allowed by name (closed enum, e.g. `no-cgroup`, `shared-uid`).
    pub allow_degraded: Vec<Weakening>,
    /// First uid given to sessions when started as root, and how many.
    pub uid_base: u32,
    pub uid_count: u32,
    /// uid:gid the daemon itself drops to once the spawner runs, when started as root.
    pub daemon_uid: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weakening {
    NoCgroup,
    NoLandlock,
    SharedUid,
}

/// What a sandbox sees: parsed from `sandbox-images/NAME.toml`.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Image {
    pub name: String,
}

impl Image {
    /// Reads every `*.toml` of a directory; `${runners}` and such are replaced from `vars`.
    pub fn load_all(dir: &Path, vars: &[(&str, &Path)]) -> Result<Vec<Image>, Error> {
        todo!()
    }
}

/// A started spawner, before tokio runs.
#[derive(Debug)]
pub struct SpawnerProcess(());

/// Starts the spawner: must be called from the main thread before tokio (PDEATHSIG is per
/// thread), then, as root, drops this process to `daemon_uid` (no capability left).
pub fn start_spawner(config: &SpawnerConfig) -> Result<SpawnerProcess, Error> {
    todo!()
}

/// As root: drops this process to that uid, no capability left. Else does nothing.
pub fn drop_privileges(daemon_uid: u32) -> Result<(), Error> {
    todo!()
}

/// Handle on the spawner; cheap to clone.
#[derive(Clone, Debug)]
pub struct Sandboxes(());

impl Sandboxes {
    /// Takes over the command socket inside a tokio runtime.
    pub fn connect(process: SpawnerProcess) -> Result<Self, Error> {
        todo!()
    }
    /// What this host isolates, probed by using it.
    pub fn report(&self) -> &HostReport {
        todo!()
    }
    /// Makes a session's ground. Cancel safe: a dropped call leaves nothing.
    pub async fn create_space(&self, spec: SpaceSpec) -> Result<Space, Error> {
        todo!()
    }
    /// Resolves when the spawner has died (the daemon must then exit: fail closed).
    pub async fn died(&self) {
        todo!()
    }
    /// Ends the spawner and everything in it; returns when it is gone.
    pub async fn shutdown(&self) {
        todo!()
    }
}

/// One probed mechanism.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Probe {
    /// e.g. "user namespaces", "cgroup memory (v1)", "landlock"
    pub mechanism: String,
    pub state: ProbeState,
    /// What is lost, why, and what to do; empty when it works.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeState {
    Works,
    Degraded,
    Refused,
}

#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct HostReport {
    pub probes: Vec<Probe>,
}

#[derive(Clone, Debug)]
pub struct SpaceSpec {
    /// Size of the scratch tmpfs and how many inodes.
    pub scratch: Bytes,
    pub scratch_inodes: u64,
    /// Limits on all sandboxes of the space together.
    pub limits: GroupLimits,
    /// 127.0.0.1 ports to listen on inside the runners' network namespace, and the browser's.
    pub runner_ports: Vec<u16>,
    pub browser_ports: Vec<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GroupLimits {
    pub memory: Bytes,
    pub processes: u32,
    /// Hundredths of a core; 200 is two cores.
    pub cpu_percent: u32,
}

/// A session's ground: uid range, scratch, two network namespaces, a cgroup.
#[derive(Debug)]
pub struct Space {
    /// In the order of `SpaceSpec::runner_ports`; non-blocking.
    pub runner_listeners: Vec<TcpListener>,
    pub browser_listeners: Vec<TcpListener>,
}

impl Space {
    pub fn id(&self) -> SpaceId {
        todo!()
    }
    /// The session's files, reached only through a held directory fd with openat2.
    pub fn scratch(&self) -> &Scratch {
        todo!()
    }
    /// Builds a sandbox and starts its program; returns when execve has succeeded.
    pub async fn spawn(&self, spec: SandboxSpec) -> Result<Sandbox, Error> {
        todo!()
    }
    /// Opens a socket inside the runners' network namespace, not yet connected.
    pub async fn runner_socket(&self) -> Result<std::net::TcpStream, Error> {
        todo!()
    }
    /// Kills what is left, and returns when processes, mounts, cgroups and namespaces are gone.
    /// Dropping a space does the same in the background.
    pub async fn close(&self) -> Result<(), Error> {
        todo!()
    }
}

/// The scratch as seen from outside.
#[derive(Debug)]
pub struct Scratch(());

impl Scratch {
    /// Opens a regular file below `/tmp` or `/workspace` (paths as inside), RESOLVE_BENEATH,
    /// NO_SYMLINKS, NO_MAGICLINKS, O_NONBLOCK.
    pub fn open(&self, path: &Path) -> Result<std::fs::File, Error> {
        todo!()
    }
    /// Renames/moves a regular file within the scratch, creating parent directories (mode 0700,
    /// owned by the session's uid).
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        todo!()
    }
    /// Makes a directory readable and writable by the session's uid.
    pub fn create_dir_all(&self, path: &Path) -> Result<(), Error> {
        todo!()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Network {
    /// The browser's namespace.
    Browser,
    /// The one the session's runners share.
    Runner,
}

/// What fds 3 and up are inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Control {
    /// No fd beyond 2.
    None,
    /// fd 3 is one end of a stream socketpair.
    Frames,
    /// fd 3 is the read end, fd 4 the write end (Chromium's debugging pipe).
    CdpPipe,
}

/// One sandbox to build.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct SandboxSpec {
    /// Image name: decides root, mounts, seccomp profile.
    pub image: String,
    /// Absolute path inside, then arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Directory it starts in, inside.
    pub cwd: PathBuf,
    pub network: Network,
    pub control: Control,
    pub limits: SandboxLimits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SandboxLimits {
    pub group: GroupLimits,
    /// RLIMIT_NOFILE.
    pub open_files: u64,
    /// RLIMIT_FSIZE.
    pub file_size: Bytes,
}

/// The daemon's ends of a sandbox's control fds.
#[derive(Debug)]
pub enum ControlEnd {
    None,
    /// Non-blocking stream socket.
    Frames(std::os::unix::net::UnixStream),
    /// `to` writes to its fd 3, `from` reads its fd 4; non-blocking.
    CdpPipe {
        to: OwnedFd,
        from: OwnedFd,
    },
}

/// A running sandbox. Dropping it kills it.
#[derive(Debug)]
pub struct Sandbox {
    /// Read ends of its stdout and stderr pipes; non-blocking.
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    pub control: ControlEnd,
}

impl Sandbox {
    pub fn id(&self) -> SandboxId {
        todo!()
    }
    /// Starts killing it; idempotent, does not wait.
    pub fn kill(&self) {
        todo!()
    }
    /// Waits until nothing of it is left (pid 1 reaped by the spawner). Cancel safe, callable
    /// by several, also after it ended.
    pub async fn wait(&self) -> Exit {
        todo!()
    }
    /// What it used so far; reads counters directly, microseconds, no spawner round trip.
    pub fn usage(&self) -> Usage {
        todo!()
    }
    /// Starts a new peak: `usage().peak_memory` then counts from now.
    pub fn reset_peak(&self) {
        todo!()
    }
}

/// How a sandbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Exit {
    pub status: ExitStatus,
    pub usage: Usage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ExitStatus {
    /// Its program ended with this code.
    Code(i32),
    /// Its program was ended by this signal.
    Signal(i32),
    /// The whole sandbox was killed from outside (kill, or the end of its space).
    Killed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    pub cpu_time: Duration,
    /// `None` without a memory controller.
    pub peak_memory: Option<Bytes>,
    /// Processes the kernel killed for the memory limit so far.
    pub oom_kills: u64,
}

/// A step that failed, on what, and why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("SKELETON")]
    Skeleton,
}
