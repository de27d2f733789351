//! What callers ask for and what they learn: plain data, no behaviour.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::Bytes;

use super::image::Image;

/// What the spawner is started with. Plain data from config; paths are absolute.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SpawnerConfig {
    /// The program to run as the spawner; `None` runs this one again.
    pub executable: Option<PathBuf>,
    /// The images it may build, already resolved from `sandbox-images/*.toml`.
    pub images: Vec<Image>,
    /// Weaker isolation the operator allowed by name.
    pub allow_degraded: Vec<Weakening>,
    /// First uid given to sessions when started as root.
    pub uid_base: u32,
    /// How many uids there are, one per live session.
    pub uid_count: u32,
    /// Which cgroups to use.
    pub cgroups: CgroupMode,
}

/// Which cgroups limit and count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupMode {
    /// The version that can limit memory, 2 before 1.
    #[default]
    Auto,
    /// Version 2, with the controllers that are delegated.
    V2,
    /// Version 1, with the controllers that are mounted.
    V1,
    /// None: what is then limited, and how, is in `docs/sandbox.md`.
    None,
}

/// Weaker isolation that is refused unless the operator names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weakening {
    /// Limits by rlimits only: memory per process, no CPU limit.
    NoCgroup,
    /// No Landlock, or one without network rules and scopes.
    NoLandlock,
    /// Every session under the one uid the daemon was started with.
    SharedUid,
}

/// A session's ground to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SpaceSpec {
    /// Size of the scratch tmpfs.
    pub scratch: Bytes,
    /// How many files and directories it may hold.
    pub scratch_inodes: u64,
    /// Size of the browser's own tmpfs.
    pub browser_data: Bytes,
    /// How many files and directories that may hold.
    pub browser_data_inodes: u64,
    /// Limits on all sandboxes of the space together.
    pub limits: GroupLimits,
    /// 127.0.0.1 ports to listen on inside the runners' network namespace.
    pub runner_ports: Vec<u16>,
    /// The same in the browser's; its programs may connect to these ports only.
    pub browser_ports: Vec<u16>,
}

/// Limits on a group of processes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupLimits {
    /// Memory, page cache and tmpfs included.
    pub memory: Bytes,
    /// Processes and threads.
    pub processes: u32,
    /// Hundredths of a core; 200 is two cores.
    pub cpu_percent: u32,
}

/// How much of the cores a space gets while others want them too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Weight {
    /// As much as any other.
    Normal,
    /// What the others leave, and as little beside them as the kernel can give.
    Least,
}

/// Which of a space's two network namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The browser's namespace.
    Browser,
    /// The one the session's runners share.
    Runner,
}

/// Which protocol a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What fds 3 and up are inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// No fd beyond 2.
    None,
    /// fd 3 is one end of a stream socketpair.
    Frames,
    /// fd 3 is the read end, fd 4 the write end (Chromium's debugging pipe).
    CdpPipe,
}

impl Control {
    /// The first number that is closed inside.
    pub(super) fn first_closed(self) -> u32 {
        match self {
            Self::None => 3,
            Self::Frames => 4,
            Self::CdpPipe => 5,
        }
    }
}

/// One sandbox to build.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Image name: decides root, mounts, seccomp profile.
    pub image: String,
    /// Absolute path inside, then arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Directory it starts in, inside.
    pub cwd: PathBuf,
    /// The network namespace it joins.
    pub network: Network,
    /// What its fds 3 and up are.
    pub control: Control,
    /// What it may use.
    pub limits: SandboxLimits,
}

/// Limits of one sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxLimits {
    /// On all its processes together.
    pub group: GroupLimits,
    /// RLIMIT_NOFILE, per process.
    pub open_files: u64,
    /// RLIMIT_FSIZE, per file.
    pub file_size: Bytes,
}

/// How a sandbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Why.
    pub status: ExitStatus,
    /// What it used in all.
    pub usage: Usage,
}

/// Why a sandbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// Its program ended with this code.
    Code(i32),
    /// Its program was ended by this signal.
    Signal(i32),
    /// The whole sandbox was killed from outside (kill, or the end of its space).
    Killed,
    /// The whole sandbox was killed for a memory limit, where no cgroup holds it. Where one does,
    /// the kernel kills a process, and [`Usage::oom_kills`] counts it.
    OutOfMemory(LimitOf),
}

/// Whose limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitOf {
    /// The sandbox's own.
    Sandbox,
    /// That of all sandboxes of the space together.
    Space,
    /// None of these: the host's memory ended, or that of a group above ours.
    Host,
}

/// What a sandbox used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// User and system time of all its processes.
    pub cpu_time: Duration,
    /// `None` without a memory controller.
    pub peak_memory: Option<Bytes>,
    /// Processes the kernel killed for a memory limit so far.
    pub oom_kills: u64,
    /// How often the sandbox reached its own memory limit so far. Version 1 counts the times it
    /// could still free something, too.
    pub memory_reached: u64,
    /// How often all sandboxes of the space together reached the space's so far; counted as above.
    pub space_memory_reached: u64,
    /// Processes and threads refused at the process limit so far.
    pub forks_refused: u64,
    /// How long it was held back for its cpu limit so far.
    pub cpu_throttled: Duration,
}

impl Usage {
    /// What came since an earlier look; the peak as it is now.
    #[must_use]
    pub fn since(self, before: &Self) -> Self {
        Self {
            cpu_time: self.cpu_time.saturating_sub(before.cpu_time),
            peak_memory: self.peak_memory,
            oom_kills: self.oom_kills.saturating_sub(before.oom_kills),
            memory_reached: self.memory_reached.saturating_sub(before.memory_reached),
            space_memory_reached: self
                .space_memory_reached
                .saturating_sub(before.space_memory_reached),
            forks_refused: self.forks_refused.saturating_sub(before.forks_refused),
            cpu_throttled: self.cpu_throttled.saturating_sub(before.cpu_throttled),
        }
    }

    /// Whose limit the kernel killed for, if it did: the innermost that was reached.
    #[must_use]
    pub fn killed_for(&self) -> Option<LimitOf> {
        let reached = match (self.memory_reached, self.space_memory_reached) {
            (0, 0) => LimitOf::Host,
            (0, _) => LimitOf::Space,
            _ => LimitOf::Sandbox,
        };
        (self.oom_kills > 0).then_some(reached)
    }
}

impl Weakening {
    const NAMES: [(Self, &str); 3] = [
        (Self::NoCgroup, "no-cgroup"),
        (Self::NoLandlock, "no-landlock"),
        (Self::SharedUid, "shared-uid"),
    ];
}

impl fmt::Display for Weakening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::NAMES.iter().find(|(value, _)| value == self);
        f.write_str(named.map_or("", |(_, name)| name))
    }
}

impl FromStr for Weakening {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let named = Self::NAMES.iter().find(|(_, name)| *name == text);
        named.map(|(value, _)| *value).ok_or(())
    }
}

/// One probed mechanism.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Its name, which stays the same: `user-namespaces`, `cgroup-memory`, `chromium`.
    pub mechanism: String,
    /// Whether it can be used.
    pub state: ProbeState,
    /// What was found: a version, or what is lost and why. May be empty when it works.
    pub detail: String,
    /// What to type or change so that it works; empty when it does.
    pub remedy: String,
    /// The setting that allows it to be missing, when it is and one does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub weakening: Option<Weakening>,
}

impl Probe {
    /// It works; `detail` says which version, or nothing.
    pub fn works(mechanism: &str, detail: impl Into<String>) -> Self {
        Self::new(mechanism, ProbeState::Works, detail, "")
    }

    /// It is weaker than designed; `detail` says what is lost and why.
    pub fn degraded(mechanism: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(mechanism, ProbeState::Degraded, detail, remedy)
    }

    /// It is missing, and nothing runs without it; `detail` says why.
    pub fn refused(mechanism: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(mechanism, ProbeState::Refused, detail, remedy)
    }

    /// It was not tried; `detail` says what it needs.
    pub fn unknown(mechanism: &str, detail: impl Into<String>) -> Self {
        Self::new(mechanism, ProbeState::Unknown, detail, "")
    }

    fn new(
        mechanism: &str,
        state: ProbeState,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            mechanism: mechanism.to_owned(),
            state,
            detail: detail.into(),
            remedy: remedy.into(),
            weakening: None,
        }
    }
}

/// Whether a mechanism can be used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeState {
    /// As designed.
    Works,
    /// Weaker than designed, and allowed by config or by design.
    Degraded,
    /// Missing, and nothing runs without it.
    Refused,
    /// Not tried, because something it needs is refused.
    Unknown,
}

/// What this host isolates, probed by using it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HostReport {
    /// In the order of the layers, outermost first.
    pub probes: Vec<Probe>,
}

impl HostReport {
    /// The mechanisms that are missing and not allowed to be.
    pub fn refused(&self) -> impl Iterator<Item = &Probe> {
        self.with(ProbeState::Refused)
    }

    /// The mechanisms that are weaker than designed.
    pub fn degraded(&self) -> impl Iterator<Item = &Probe> {
        self.with(ProbeState::Degraded)
    }

    fn with(&self, state: ProbeState) -> impl Iterator<Item = &Probe> {
        self.probes.iter().filter(move |probe| probe.state == state)
    }
}
