//! One group: made with its limits, joined, counted, killed, removed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use crate::limits::Bytes;

use super::super::error::StepError;
use super::super::spec::{GroupLimits, Weight};
use super::super::wire::CounterKind;
use super::layout::Controller;

/// CPU bandwidth period: the kernel's default, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;
/// A group whose last process was just reaped can stay busy for a moment.
const REMOVE_TRIES: u32 = 50;
const REMOVE_PAUSE: Duration = Duration::from_millis(2);
/// On version 1, memory and swap together may be this much more than memory: more than the kernel
/// charges at once where it kills. Memory's own limit is then reached first, which is what
/// `memory.failcnt` counts; `memory.memsw.failcnt` counts nothing in some kernels (6.18).
const SWAP_MARGIN: Bytes = Bytes::mib(1);
/// Socket buffers may take this part of a group's memory on version 1, on top of it.
const SOCKET_MEMORY_PART: u64 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Version {
    V1,
    V2,
}

/// One group; on version 1 one directory in each hierarchy.
pub(in super::super) struct Group {
    pub(super) version: Version,
    /// Every directory, once.
    pub(super) dirs: Vec<PathBuf>,
    /// The controllers in force, each with the number of its directory.
    pub(super) controllers: Vec<(Controller, usize)>,
    /// Keeps the base directories that `dirs` lead through open.
    pub(super) base: Vec<OwnedFd>,
}

impl Group {
    /// Makes a group below this one, with limits. `inner` ones will hold groups, not processes:
    /// version 2 lets a group limit its children only when it has no processes of its own.
    pub(in super::super) fn child(
        &self,
        name: &str,
        limits: &GroupLimits,
        inner: bool,
    ) -> Result<Self, StepError> {
        let group = Self {
            version: self.version,
            dirs: self.dirs.iter().map(|dir| dir.join(name)).collect(),
            controllers: self.controllers.clone(),
            base: Vec::new(),
        };
        let made = group
            .make()
            .and_then(|()| group.limit(limits))
            .and_then(|()| if inner { group.delegate() } else { Ok(()) });
        made.inspect_err(|_| group.remove()).map(|()| group)
    }

    /// Whether a controller is in force.
    pub(in super::super) fn has(&self, controller: Controller) -> bool {
        self.dir(controller).is_some()
    }

    /// Whether swap counts too.
    pub(in super::super) fn limits_swap(&self) -> bool {
        let file = match self.version {
            Version::V1 => "memory.memsw.limit_in_bytes",
            Version::V2 => "memory.swap.max",
        };
        self.dir(Controller::Memory)
            .is_some_and(|dir| dir.join(file).exists())
    }

    fn dir(&self, controller: Controller) -> Option<&Path> {
        let (_, dir) = self
            .controllers
            .iter()
            .find(|(known, _)| *known == controller)?;
        self.dirs.get(*dir).map(PathBuf::as_path)
    }

    pub(super) fn make(&self) -> Result<(), StepError> {
        self.dirs.iter().try_for_each(|dir| make_dir(dir))
    }

    /// Version 2: gives the controllers to the groups below.
    pub(super) fn delegate(&self) -> Result<(), StepError> {
        if self.version == Version::V1 {
            return Ok(());
        }
        let names = self
            .controllers
            .iter()
            .filter(|(controller, _)| Controller::V2.contains(controller));
        let enable: Vec<String> = names.map(|(c, _)| format!("+{}", c.name())).collect();
        if enable.is_empty() {
            return Ok(());
        }
        self.dirs
            .iter()
            .try_for_each(|dir| write(&dir.join("cgroup.subtree_control"), &enable.join(" ")))
    }

    fn limit(&self, limits: &GroupLimits) -> Result<(), StepError> {
        for (controller, _) in &self.controllers {
            let Some(dir) = self.dir(*controller) else {
                continue;
            };
            for Setting {
                file,
                value,
                if_there,
            } in settings(self.version, *controller, limits)
            {
                let path = dir.join(file);
                if if_there && !path.exists() {
                    continue;
                }
                match write(&path, &value) {
                    // Version 1 refuses a quota above what a group further up has, such as the
                    // container's. That lower one then holds.
                    Err(error)
                        if file == "cpu.cfs_quota_us" && error.errno == Errno::EINVAL as i32 => {}
                    written => written?,
                }
            }
        }
        Ok(())
    }

    /// What it gets of the cores beside its neighbours; nothing is done where cpu is not limited.
    pub(in super::super) fn weigh(&self, weight: Weight) -> Result<(), StepError> {
        let Some(dir) = self.dir(Controller::Cpu) else {
            return Ok(());
        };
        let (file, value) = share(self.version, weight);
        write(&dir.join(file), value)
    }

    /// Opens what a process [`join`]s the group by. Who opened it counts, not who writes: the process
    /// needs no rights of its own.
    pub(in super::super) fn entrances(&self) -> Result<Entrances, StepError> {
        let file = match self.version {
            // A thread that moves itself: the kernel then need not wait until no process is forking,
            // which takes it a grace period, 10 ms and more.
            Version::V1 => "tasks",
            Version::V2 => "cgroup.procs",
        };
        let open = |dir: &PathBuf| {
            let path = dir.join(file);
            let opened = OpenOptions::new().write(true).open(&path);
            opened.map_err(|error| StepError::io("cgroup", &error, path.display().to_string()))
        };
        self.dirs
            .iter()
            .map(open)
            .collect::<Result<_, _>>()
            .map(Entrances)
    }

    /// Kills everything in it at once, forks under way included; version 2 only (Linux 5.14). The
    /// death of pid 1 does the same and works everywhere: this is a second means, not the one
    /// relied on.
    pub(in super::super) fn kill(&self) {
        if self.version == Version::V2 {
            for dir in &self.dirs {
                let _ = write(&dir.join("cgroup.kill"), "1");
            }
        }
    }

    /// The counters of a sandbox's group, and of its space's above it, opened so that another
    /// process under another uid can read them.
    pub(in super::super) fn counters(&self) -> Vec<(CounterKind, File)> {
        let wanted: &[(Controller, &str, CounterKind)] = match self.version {
            Version::V1 => &[
                (
                    Controller::Memory,
                    "memory.max_usage_in_bytes",
                    CounterKind::MemoryPeak,
                ),
                (
                    Controller::Memory,
                    "memory.oom_control",
                    CounterKind::MemoryEvents,
                ),
                (
                    Controller::Memory,
                    "memory.failcnt",
                    CounterKind::MemoryReached,
                ),
                (
                    Controller::Memory,
                    "../memory.failcnt",
                    CounterKind::SpaceMemoryReached,
                ),
                (Controller::Pids, "pids.events", CounterKind::PidsEvents),
                (Controller::Cpu, "cpu.stat", CounterKind::CpuThrottled),
                (
                    Controller::Cpuacct,
                    "cpuacct.usage",
                    CounterKind::CpuNanoseconds,
                ),
            ],
            Version::V2 => &[
                (Controller::Memory, "memory.peak", CounterKind::MemoryPeak),
                (
                    Controller::Memory,
                    "memory.events",
                    CounterKind::MemoryEvents,
                ),
                // The plain file adds up what is below: kills for the limits of other sandboxes too.
                (
                    Controller::Memory,
                    "../memory.events.local",
                    CounterKind::SpaceMemoryReached,
                ),
                (Controller::Pids, "pids.events", CounterKind::PidsEvents),
                (Controller::Cpuacct, "cpu.stat", CounterKind::CpuStat),
            ],
        };
        wanted
            .iter()
            .filter_map(|(controller, file, kind)| {
                let path = self.dir(*controller)?.join(file);
                // The peak is writable only since Linux 6.12 on version 2.
                let writable = || OpenOptions::new().read(true).write(true).open(&path);
                let file = match kind {
                    CounterKind::MemoryPeak => writable().or_else(|_| File::open(&path)),
                    _ => File::open(&path),
                };
                Some((*kind, file.ok()?))
            })
            .collect()
    }

    /// Removes the group and those below it, waiting a moment for the kernel to let go.
    pub(in super::super) fn remove(&self) {
        for dir in &self.dirs {
            remove_tree(dir);
        }
    }
}

/// The ways into a group: one in each hierarchy, none into no group.
#[derive(Default)]
pub(in super::super) struct Entrances(Vec<File>);

impl Entrances {
    /// Moves this process, which has one thread, into the group.
    pub(in super::super) fn join(self) -> Result<(), StepError> {
        self.0
            .iter()
            .try_for_each(|mut entrance| io::Write::write_all(&mut entrance, b"0"))
            .map_err(|error| StepError::io("cgroup", &error, "move this process in"))
    }
}

/// One file of a group and what is written there.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    file: &'static str,
    value: String,
    /// Written only where the kernel has the file (swap accounting).
    if_there: bool,
}

/// The files that put limits in force, in the order they must be written.
///
/// Not used on version 2: `memory.high`, which slows code down at its limit instead of ending it,
/// so that it would be a timeout; and `memory.oom.group`, which would end the whole sandbox for one
/// process, a browser for its heaviest page and a shell for its child.
fn settings(version: Version, controller: Controller, limits: &GroupLimits) -> Vec<Setting> {
    let setting = |file, value| Setting {
        file,
        value,
        if_there: false,
    };
    let if_there = |file, value| Setting {
        file,
        value,
        if_there: true,
    };
    let memory = limits.memory.0.to_string();
    let with_swap = (limits.memory.0 + SWAP_MARGIN.0).to_string();
    let sockets = (limits.memory.0 / SOCKET_MEMORY_PART).to_string();
    let quota = u64::from(limits.cpu_percent) * CPU_PERIOD_US / 100;
    match (version, controller) {
        (Version::V1, Controller::Memory) => vec![
            setting("memory.limit_in_bytes", memory.clone()),
            if_there("memory.memsw.limit_in_bytes", with_swap),
            // Version 1 counts it apart, and without a limit of ours not at all: one session could
            // then take what there is for the whole host.
            if_there("memory.kmem.tcp.limit_in_bytes", sockets),
        ],
        (Version::V1, Controller::Cpu) => vec![
            setting("cpu.cfs_period_us", CPU_PERIOD_US.to_string()),
            setting("cpu.cfs_quota_us", quota.to_string()),
        ],
        (Version::V2, Controller::Memory) => vec![
            setting("memory.max", memory),
            if_there("memory.swap.max", "0".to_owned()),
        ],
        (Version::V2, Controller::Cpu) => {
            vec![setting("cpu.max", format!("{quota} {CPU_PERIOD_US}"))]
        }
        (_, Controller::Pids) => vec![setting("pids.max", limits.processes.to_string())],
        (_, Controller::Cpuacct) => vec![],
    }
}

/// The kernel's default, and the least it takes.
fn share(version: Version, weight: Weight) -> (&'static str, &'static str) {
    match (version, weight) {
        (Version::V1, Weight::Normal) => ("cpu.shares", "1024"),
        (Version::V1, Weight::Least) => ("cpu.shares", "2"),
        (Version::V2, Weight::Normal) => ("cpu.weight", "100"),
        (Version::V2, Weight::Least) => ("cpu.weight", "1"),
    }
}

pub(super) fn make_dir(dir: &Path) -> Result<(), StepError> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(StepError::io(
            "cgroup",
            &error,
            format!("mkdir {}", dir.display()),
        )),
        _ => Ok(()),
    }
}

pub(super) fn write(path: &Path, value: &str) -> Result<(), StepError> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
        .map_err(|error| StepError::io("cgroup", &error, format!("{} = {value}", path.display())))
}

pub(super) fn remove_tree(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    for _ in 0..REMOVE_TRIES {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                thread::sleep(REMOVE_PAUSE)
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(version: Version) -> Vec<(&'static str, String)> {
        let limits = GroupLimits {
            memory: Bytes::mib(1),
            processes: 7,
            cpu_percent: 150,
        };
        Controller::ALL
            .into_iter()
            .flat_map(|controller| settings(version, controller, &limits))
            .map(|setting| (setting.file, setting.value))
            .collect()
    }

    #[test]
    fn limits_are_written_as_each_version_wants_them() {
        let text = |pairs: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
            pairs.iter().map(|(f, v)| (*f, (*v).to_owned())).collect()
        };
        assert_eq!(
            written(Version::V1),
            text(&[
                ("memory.limit_in_bytes", "1048576"),
                ("memory.memsw.limit_in_bytes", "2097152"),
                ("memory.kmem.tcp.limit_in_bytes", "262144"),
                ("pids.max", "7"),
                ("cpu.cfs_period_us", "100000"),
                ("cpu.cfs_quota_us", "150000"),
            ])
        );
        assert_eq!(
            written(Version::V2),
            text(&[
                ("memory.max", "1048576"),
                ("memory.swap.max", "0"),
                ("pids.max", "7"),
                ("cpu.max", "150000 100000"),
            ])
        );
    }
}
