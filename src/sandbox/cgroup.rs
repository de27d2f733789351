//! cgroups: limits and counters of spaces and sandboxes, on version 2 where the controllers are
//! delegated to us, else on version 1. Only groups below our own are made, and only files of
//! groups we made are written (plus `cgroup.subtree_control` of our own on version 2).
//!
//! Everything is reached through held directory fds, because the spawner leaves the host's
//! mounts behind.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::error::StepError;
use super::spec::GroupLimits;
use super::wire::CounterKind;

/// CPU bandwidth period: the kernel's default, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;
/// A group whose last process was just reaped can stay busy for a moment.
const REMOVE_TRIES: u32 = 50;
const REMOVE_PAUSE: Duration = Duration::from_millis(2);
/// The kernel's fixed number of the first pid namespace.
const FIRST_PID_NAMESPACE: &str = "4026531836";

/// The four controllers used.
const CONTROLLERS: [&str; 4] = ["memory", "pids", "cpu", "cpuacct"];

/// What this host lets us use, and our own group in it.
pub(super) enum Cgroups {
    V2(Group),
    V1(Group),
    /// Why not.
    None(String),
}

/// One group; on version 1 one directory per controller.
pub(super) struct Group {
    version: Version,
    dirs: Vec<(&'static str, PathBuf)>,
    /// Keeps the base directories that `dirs` lead through open.
    _base: Vec<OwnedFd>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// One line of /proc/self/mountinfo that is a cgroup mount.
#[derive(Debug, PartialEq, Eq)]
struct CgroupMount {
    root: PathBuf,
    at: PathBuf,
    v2: bool,
    options: String,
}

fn parse_mounts(mountinfo: &str) -> Vec<CgroupMount> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            let v2 = match *right.first()? {
                "cgroup2" => true,
                "cgroup" => false,
                _ => return None,
            };
            Some(CgroupMount {
                root: PathBuf::from(left.get(3)?),
                at: PathBuf::from(left.get(4)?),
                v2,
                options: (*right.get(2)?).to_owned(),
            })
        })
        .collect()
}

/// Our own group's path for a controller; the empty name is version 2.
fn own_path<'a>(cgroup: &'a str, controller: &str) -> Option<&'a str> {
    cgroup.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let _id = fields.next()?;
        let names = fields.next()?;
        let path = fields.next()?;
        names
            .split(',')
            .any(|name| name == controller)
            .then_some(path)
    })
}

/// Where our own group's directory is.
fn own_dir(mounts: &[CgroupMount], cgroup: &str, controller: Option<&str>) -> Option<PathBuf> {
    let mount = mounts.iter().find(|mount| match controller {
        None => mount.v2,
        Some(name) => !mount.v2 && mount.options.split(',').any(|option| option == name),
    })?;
    let path = Path::new(own_path(cgroup, controller.unwrap_or(""))?);
    let below = path.strip_prefix(&mount.root).ok()?;
    Some(mount.at.join(below))
}

impl Cgroups {
    /// Finds what can be used, removes what dead spawners left, and makes our group.
    pub(super) fn detect(daemon_pid: i32) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mounts = parse_mounts(&read("/proc/self/mountinfo"));
        let cgroup = read("/proc/self/cgroup");
        let name = format!(
            "{}{}",
            prefix(),
            identity(std::process::id()).unwrap_or_default()
        );
        let v2 = own_dir(&mounts, &cgroup, None)
            .ok_or_else(|| "no cgroup version 2 hierarchy".to_owned())
            .and_then(|dir| version_2(&dir, &name, daemon_pid).map_err(|error| error.to_string()));
        let v2_reason = match v2 {
            Ok(group) => return Self::V2(group),
            Err(reason) => reason,
        };
        let dirs: Vec<_> = CONTROLLERS
            .into_iter()
            .filter_map(|name| Some((name, own_dir(&mounts, &cgroup, Some(name))?)))
            .collect();
        if !dirs.iter().any(|(name, _)| *name == "memory") {
            return Self::None(format!(
                "version 2: {v2_reason}; version 1: no memory controller"
            ));
        }
        match version_1(&dirs, &name) {
            Ok(group) => Self::V1(group),
            Err(error) => Self::None(format!("version 2: {v2_reason}; version 1: {error}")),
        }
    }

    /// The group all spaces are below.
    pub(super) fn top(&self) -> Option<&Group> {
        match self {
            Self::V1(group) | Self::V2(group) => Some(group),
            Self::None(_) => None,
        }
    }
}

fn version_1(own: &[(&'static str, PathBuf)], name: &str) -> Result<Group, StepError> {
    let mut base = Vec::new();
    let mut dirs = Vec::new();
    for (controller, dir) in own {
        let fd = hold(dir)?;
        sweep(dir);
        dirs.push((*controller, through(&fd).join(name)));
        base.push(fd);
    }
    let group = Group {
        version: Version::V1,
        dirs,
        _base: base,
    };
    group.make()?;
    Ok(group)
}

fn version_2(own: &Path, name: &str, daemon_pid: i32) -> Result<Group, StepError> {
    const ENABLE: &str = "+memory +pids +cpu";
    let controllers = own.join("cgroup.controllers");
    let available = fs::read_to_string(&controllers)
        .map_err(|error| StepError::io("cgroup", &error, controllers.display().to_string()))?;
    for controller in ["memory", "pids", "cpu"] {
        if !available.split_whitespace().any(|name| name == controller) {
            let detail = format!(
                "controller {controller} is not delegated to {}",
                own.display()
            );
            return Err(StepError::new("cgroup", nix::errno::Errno::ENOENT, detail));
        }
    }
    let fd = hold(own)?;
    sweep(own);
    let own = through(&fd);
    if write(&own.join("cgroup.subtree_control"), ENABLE).is_err() {
        // A group with processes cannot give controllers to children: move ours into a leaf.
        let leaf = own.join(format!("{name}-self"));
        make_dir(&leaf)?;
        for pid in [daemon_pid, std::process::id().cast_signed()] {
            write(&leaf.join("cgroup.procs"), &pid.to_string())?;
        }
        write(&own.join("cgroup.subtree_control"), ENABLE)?;
    }
    let group = Group {
        version: Version::V2,
        dirs: vec![("", own.join(name))],
        _base: vec![fd],
    };
    group.make()?;
    write(&group.dirs[0].1.join("cgroup.subtree_control"), ENABLE)?;
    Ok(group)
}

impl Group {
    /// Makes a group below this one, with limits. `inner` ones will hold groups, not processes.
    pub(super) fn child(
        &self,
        name: &str,
        limits: &GroupLimits,
        inner: bool,
    ) -> Result<Self, StepError> {
        let group = Self {
            version: self.version,
            dirs: self
                .dirs
                .iter()
                .map(|(c, dir)| (*c, dir.join(name)))
                .collect(),
            _base: Vec::new(),
        };
        let made = group
            .make()
            .and_then(|()| group.limit(limits))
            .and_then(|()| {
                if inner && self.version == Version::V2 {
                    write(
                        &group.dirs[0].1.join("cgroup.subtree_control"),
                        "+memory +pids +cpu",
                    )?;
                }
                Ok(())
            });
        made.inspect_err(|_| group.remove()).map(|()| group)
    }

    /// Names of the controllers in use.
    pub(super) fn controllers(&self) -> Vec<&'static str> {
        match self.version {
            Version::V1 => self.dirs.iter().map(|(name, _)| *name).collect(),
            Version::V2 => CONTROLLERS.to_vec(),
        }
    }

    /// Whether swap counts too.
    pub(super) fn limits_swap(&self) -> bool {
        let file = match self.version {
            Version::V1 => "memory.memsw.limit_in_bytes",
            Version::V2 => "memory.swap.max",
        };
        self.dir("memory")
            .is_some_and(|dir| dir.join(file).exists())
    }

    fn dir(&self, controller: &str) -> Option<&Path> {
        let wanted = match self.version {
            Version::V1 => controller,
            Version::V2 => "",
        };
        self.dirs
            .iter()
            .find_map(|(name, dir)| (*name == wanted).then_some(&**dir))
    }

    fn make(&self) -> Result<(), StepError> {
        self.dirs.iter().try_for_each(|(_, dir)| make_dir(dir))
    }

    fn limit(&self, limits: &GroupLimits) -> Result<(), StepError> {
        let quota = u64::from(limits.cpu_percent) * CPU_PERIOD_US / 100;
        let memory = limits.memory.0.to_string();
        let processes = limits.processes.to_string();
        let mut files: Vec<(&str, &str, String)> = vec![("pids", "pids.max", processes)];
        match self.version {
            Version::V1 => {
                files.push(("memory", "memory.limit_in_bytes", memory.clone()));
                // Present only with swap accounting; without it there is nothing to limit.
                if let Some(dir) = self.dir("memory")
                    && dir.join("memory.memsw.limit_in_bytes").exists()
                {
                    files.push(("memory", "memory.memsw.limit_in_bytes", memory));
                }
                files.push(("cpu", "cpu.cfs_period_us", CPU_PERIOD_US.to_string()));
                files.push(("cpu", "cpu.cfs_quota_us", quota.to_string()));
            }
            Version::V2 => {
                files.push(("memory", "memory.max", memory));
                if let Some(dir) = self.dir("memory")
                    && dir.join("memory.swap.max").exists()
                {
                    files.push(("memory", "memory.swap.max", "0".to_owned()));
                }
                files.push(("cpu", "cpu.max", format!("{quota} {CPU_PERIOD_US}")));
            }
        }
        for (controller, file, value) in files {
            if let Some(dir) = self.dir(controller) {
                write(&dir.join(file), &value)?;
            }
        }
        Ok(())
    }

    /// Moves a process in.
    pub(super) fn attach(&self, pid: i32) -> Result<(), StepError> {
        self.dirs
            .iter()
            .try_for_each(|(_, dir)| write(&dir.join("cgroup.procs"), &pid.to_string()))
    }

    /// The counters, opened so that another process under another uid can read them.
    pub(super) fn counters(&self) -> Vec<(CounterKind, File)> {
        let (peak, oom, cpu, cpu_kind) = match self.version {
            Version::V1 => (
                "memory.max_usage_in_bytes",
                "memory.oom_control",
                "cpuacct.usage",
                CounterKind::CpuNanoseconds,
            ),
            Version::V2 => (
                "memory.peak",
                "memory.events",
                "cpu.stat",
                CounterKind::CpuStat,
            ),
        };
        let wanted = [
            ("memory", peak, CounterKind::MemoryPeak),
            ("memory", oom, CounterKind::OomKills),
            ("cpuacct", cpu, cpu_kind),
        ];
        wanted
            .into_iter()
            .filter_map(|(controller, file, kind)| {
                let path = self.dir(controller)?.join(file);
                // The peak is writable only since Linux 6.12 on version 2.
                let writable = OpenOptions::new().read(true).write(true).open(&path);
                let file = match kind {
                    CounterKind::MemoryPeak => writable.or_else(|_| File::open(&path)),
                    _ => File::open(&path),
                };
                Some((kind, file.ok()?))
            })
            .collect()
    }

    /// Removes the group and those below it, waiting a moment for the kernel to let go.
    pub(super) fn remove(&self) {
        for (_, dir) in &self.dirs {
            remove_tree(dir);
        }
    }
}

fn hold(dir: &Path) -> Result<OwnedFd, StepError> {
    open(
        dir,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| StepError::new("cgroup", errno, dir.display().to_string()))
}

/// A path that leads through a held directory, whatever is mounted.
fn through(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn make_dir(dir: &Path) -> Result<(), StepError> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(StepError::io(
            "cgroup",
            &error,
            format!("mkdir {}", dir.display()),
        )),
        _ => Ok(()),
    }
}

fn write(path: &Path, value: &str) -> Result<(), StepError> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
        .map_err(|error| StepError::io("cgroup", &error, format!("{} = {value}", path.display())))
}

fn remove_tree(dir: &Path) {
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

/// `PID-STARTTIME`: unlike the pid alone, never that of another process. `None` when it has ended,
/// also while nobody has asked how.
fn identity(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name, in parentheses, may hold anything; the start time is field 22.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let start = fields.nth(18)?;
    Some(format!("{pid}-{start}"))
}

/// What groups of a spawner are called: `pagebox-PID-STARTTIME`, with the number of its pid namespace
/// before them where that is not the first. A pid of another namespace says nothing here: its
/// spawner may well live.
fn prefix() -> String {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let link = link.to_string_lossy();
    match link.trim_start_matches("pid:[").trim_end_matches(']') {
        FIRST_PID_NAMESPACE => "pagebox-".to_owned(),
        other => format!("pagebox.{other}-"),
    }
}

/// Removes groups of spawners that no longer live (killed before they could do it).
fn sweep(own: &Path) {
    let prefix = prefix();
    for entry in fs::read_dir(own).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(&*prefix)) else {
            continue;
        };
        let rest = rest.trim_end_matches("-self");
        let pid = rest.split('-').next().and_then(|pid| pid.parse().ok());
        if let Some(pid) = pid
            && identity(pid).as_deref() != Some(rest)
        {
            remove_tree(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
25 20 0:21 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
26 20 0:22 /docker/7 /sys/fs/cgroup/memory rw,relatime shared:3 - cgroup cgroup rw,memory
27 20 0:23 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
28 20 0:24 / /proc rw - proc proc rw";

    #[test]
    fn our_own_group_is_found_in_every_hierarchy() {
        let mounts = parse_mounts(MOUNTS);
        let own = "4:memory:/docker/7/me\n2:cpu,cpuacct:/\n0::/user.slice/x\n";
        let dir = |controller| own_dir(&mounts, own, controller);
        assert_eq!(dir(Some("memory")), Some("/sys/fs/cgroup/memory/me".into()));
        assert_eq!(dir(Some("cpuacct")), Some("/sys/fs/cgroup/cpu".into()));
        assert_eq!(dir(Some("pids")), None);
        assert_eq!(
            dir(None),
            Some("/sys/fs/cgroup/unified/user.slice/x".into())
        );
    }

    #[test]
    fn an_identity_tells_a_reused_pid() {
        let own = identity(std::process::id()).unwrap();
        assert!(own.starts_with(&format!("{}-", std::process::id())));
        assert_eq!(identity(u32::MAX), None);
    }
}
