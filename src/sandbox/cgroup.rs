//! cgroups: limits and counters of spaces and sandboxes, on version 2 or version 1. Only groups
//! below our own are made, and only files of groups we made are written (plus
//! `cgroup.subtree_control` of our own on version 2).
//!
//! Everything is reached through held directory fds, because the spawner leaves the host's
//! mounts behind.

mod group;
mod layout;

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::error::StepError;
use super::spec::CgroupMode;

pub(super) use self::group::{Entrances, Group};
use self::group::{Version, make_dir, remove_tree, write};
pub(super) use self::layout::Controller;
use self::layout::{Layout, offered};

/// The kernel's fixed number of the first pid namespace.
const FIRST_PID_NAMESPACE: &str = "4026531836";
/// How an operator gets a group.
const DELEGATE: &str = "start Pagebox in a group of its own: a systemd service with Delegate=yes, \
     or systemd-run --scope -p Delegate=yes (with --user when not root)";

/// What this host lets us use, and our own group in it.
pub(super) enum Cgroups {
    V2(Group),
    V1(Group),
    /// Why not.
    None(String),
}

impl Cgroups {
    /// Finds what can be used, removes what dead spawners left, and makes our group.
    ///
    /// `Auto` takes the version that can limit memory, 2 before 1, else one that can do anything.
    ///
    /// # Errors
    /// When a version was asked for by name and no group can be made in it.
    pub(super) fn detect(mode: CgroupMode, daemon_pid: i32) -> Result<Self, StepError> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let layout = Layout::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let name = format!(
            "{}{}",
            prefix(),
            identity(std::process::id()).unwrap_or_default()
        );
        let v2 = || version_2(layout.v2.as_deref(), &name, daemon_pid).map(Self::V2);
        let v1 = || version_1(&layout.v1, &name).map(Self::V1);
        match mode {
            CgroupMode::None => return Ok(Self::None("[sandbox] cgroups is none".to_owned())),
            CgroupMode::V2 => return v2().map_err(|error| asked("v2", error)),
            CgroupMode::V1 => return v1().map_err(|error| asked("v1", error)),
            CgroupMode::Auto => {}
        }
        let on_v2 = match &layout.v2 {
            Some(own) => offered(&read(&own.join("cgroup.controllers").to_string_lossy())),
            None => Vec::new(),
        };
        let on_v1: Vec<_> = layout
            .v1
            .iter()
            .map(|(controller, _)| *controller)
            .collect();
        let mut reasons = Vec::new();
        // For memory, then for anything.
        for wanted in [&[Controller::Memory][..], &Controller::ALL] {
            let any = |of: &[Controller]| wanted.iter().any(|c| of.contains(c));
            let tries = [
                (any(&on_v2), &v2 as &dyn Fn() -> Result<Self, StepError>),
                (any(&on_v1), &v1),
            ];
            for (_, attempt) in tries.iter().filter(|(worth_it, _)| *worth_it) {
                match attempt() {
                    Ok(found) if wanted.iter().any(|c| found.has(*c)) => return Ok(found),
                    Ok(other) => other.top().map_or((), Group::remove),
                    Err(error) => reasons.push(error.to_string()),
                }
            }
        }
        if reasons.is_empty() {
            reasons.push("no controller of version 1 or 2 is here".to_owned());
        }
        reasons.dedup();
        Ok(Self::None(reasons.join("; ")))
    }

    /// The group all spaces are below.
    pub(super) fn top(&self) -> Option<&Group> {
        match self {
            Self::V1(group) | Self::V2(group) => Some(group),
            Self::None(_) => None,
        }
    }

    /// Whether a controller is in force.
    pub(super) fn has(&self, controller: Controller) -> bool {
        self.top().is_some_and(|group| group.has(controller))
    }
}

/// The groups this process is in that may limit its memory.
pub(super) struct MemoryGroups {
    pub(super) v2: Option<PathBuf>,
    pub(super) v1: Option<PathBuf>,
}

pub(super) fn memory_groups() -> MemoryGroups {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let layout = Layout::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
    let mut v1 = layout.v1.into_iter();
    MemoryGroups {
        v2: layout.v2,
        v1: v1.find_map(|(controller, dir)| (controller == Controller::Memory).then_some(dir)),
    }
}

fn asked(mode: &str, mut error: StepError) -> StepError {
    error.detail = format!(
        "{}. [sandbox] cgroups = \"{mode}\" asks for it: {DELEGATE}, or set cgroups = \"auto\"",
        error.detail
    );
    error
}

fn version_1(own: &[(Controller, PathBuf)], name: &str) -> Result<Group, StepError> {
    if own.is_empty() {
        let detail = "no hierarchy with memory, pids, cpu or cpuacct is mounted";
        return Err(StepError::new("cgroup", Errno::ENOENT, detail));
    }
    let mut found: Vec<&Path> = Vec::new();
    let mut group = Group {
        version: Version::V1,
        dirs: Vec::new(),
        controllers: Vec::new(),
        base: Vec::new(),
    };
    for (controller, dir) in own {
        // Two controllers may share a hierarchy.
        let known = found.iter().position(|known| *known == dir.as_path());
        let index = match known {
            Some(index) => index,
            None => {
                let fd = hold(dir)?;
                sweep(dir);
                group.dirs.push(through(&fd).join(name));
                group.base.push(fd);
                found.push(dir);
                found.len() - 1
            }
        };
        group.controllers.push((*controller, index));
    }
    group.make().inspect_err(|_| group.remove())?;
    Ok(group)
}

fn version_2(own: Option<&Path>, name: &str, daemon_pid: i32) -> Result<Group, StepError> {
    let own = own.ok_or_else(|| {
        StepError::new(
            "cgroup",
            Errno::ENOENT,
            "no hierarchy of version 2 is mounted",
        )
    })?;
    let file = own.join("cgroup.controllers");
    let available = fs::read_to_string(&file)
        .map_err(|error| StepError::io("cgroup", &error, file.display().to_string()))?;
    let fd = hold(own)?;
    sweep(own);
    let base = through(&fd);
    let mut group = Group {
        version: Version::V2,
        dirs: vec![base.join(name)],
        // Cpu time is counted in every group, whatever is delegated.
        controllers: vec![(Controller::Cpuacct, 0)],
        base: vec![fd],
    };
    // First of all: who may not even do this needs to hear no more.
    group.make()?;
    let mut refused = None;
    for controller in offered(&available) {
        // One by one: the kernel may refuse one alone (cpu, while there are real-time processes).
        match enable(&base, name, daemon_pid, controller) {
            Ok(()) => group.controllers.push((controller, 0)),
            Err(error) => {
                eprintln!("pagebox spawner: {}: {error}", own.display());
                refused.get_or_insert(error);
            }
        }
    }
    let delegated = match refused {
        Some(error) if group.controllers.len() == 1 => Err(error),
        _ => group.delegate(),
    };
    delegated.inspect_err(|_| group.remove())?;
    Ok(group)
}

/// Gives a controller to the groups below our own.
fn enable(
    own: &Path,
    name: &str,
    daemon_pid: i32,
    controller: Controller,
) -> Result<(), StepError> {
    let file = own.join("cgroup.subtree_control");
    let value = format!("+{}", controller.name());
    match write(&file, &value) {
        // A group with processes cannot give controllers to its children: move ours into a leaf.
        Err(error) if error.errno == Errno::EBUSY as i32 => {
            let pids = [daemon_pid, std::process::id().cast_signed()];
            let leaf = own.join(format!("{name}-self"));
            move_to(&leaf, &pids)?;
            write(&file, &value).map_err(|mut error| {
                // Others are there too, which are not ours to move.
                if error.errno == Errno::EBUSY as i32 {
                    error.detail = format!("{}: other processes are in this group", error.detail);
                }
                let back = pids
                    .iter()
                    .try_for_each(|pid| write(&own.join("cgroup.procs"), &pid.to_string()));
                if back.is_ok() {
                    remove_tree(&leaf);
                }
                error
            })
        }
        written => written,
    }
}

fn move_to(leaf: &Path, pids: &[i32]) -> Result<(), StepError> {
    make_dir(leaf)?;
    pids.iter()
        .try_for_each(|pid| write(&leaf.join("cgroup.procs"), &pid.to_string()))
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

    #[test]
    fn an_identity_tells_a_reused_pid() {
        let own = identity(std::process::id()).unwrap();
        assert!(own.starts_with(&format!("{}-", std::process::id())));
        assert_eq!(identity(u32::MAX), None);
    }

    #[test]
    fn a_version_asked_for_by_name_must_be_there() {
        for (mode, missing) in [
            ("v1", version_1(&[], "x").map(drop)),
            ("v2", version_2(None, "x", 1).map(drop)),
        ] {
            let error = asked(mode, missing.unwrap_err()).to_string();
            assert!(error.contains("mounted"), "{error}");
            assert!(error.contains(&format!("cgroups = \"{mode}\"")), "{error}");
            assert!(error.contains("set cgroups = \"auto\""), "{error}");
        }
    }
}
