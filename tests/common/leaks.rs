//! What a daemon holds of the host: processes, mounts, cgroups, descriptors, temporary files,
//! memory. Read from `/proc` and `/sys/fs/cgroup`; changes nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One process, told from a later one with the same pid. Earlier ones come first: pids begin anew.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    /// When it started, in clock ticks after boot.
    pub(crate) start_time: u64,
    /// Its pid.
    pub(crate) pid: u32,
    /// Its command name.
    pub(crate) name: String,
}

impl Process {
    /// Whether it still runs; a zombie does not.
    pub(crate) fn is_alive(&self) -> bool {
        stat(self.pid)
            .is_some_and(|stat| stat.process.start_time == self.start_time && !stat.is_zombie)
    }
}

struct Stat {
    process: Process,
    parent: u32,
    is_zombie: bool,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, parentheses too; what follows the last one is numbers.
    let (before, after) = text.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = after.split_whitespace().collect();
    Some(Stat {
        process: Process {
            start_time: fields.get(19)?.parse().ok()?,
            pid,
            name,
        },
        parent: fields.get(1)?.parse().ok()?,
        is_zombie: *fields.first()? == "Z",
    })
}

/// Every process below `root`, itself not counted.
pub(crate) fn descendants(root: u32) -> BTreeSet<Process> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    let all: Vec<Stat> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .collect();
    let mut found = BTreeSet::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for child in all.iter().filter(|stat| stat.parent == parent) {
            if found.insert(child.process.clone()) {
                parents.push(child.process.pid);
            }
        }
    }
    found
}

/// The cgroup directories `processes` are in, our own ones left out.
pub(crate) fn cgroups<'a>(processes: impl IntoIterator<Item = &'a Process>) -> BTreeSet<PathBuf> {
    let own = cgroup_directories("self");
    processes
        .into_iter()
        .flat_map(|process| cgroup_directories(&process.pid.to_string()))
        .filter(|path| !own.contains(path))
        .collect()
}

fn cgroup_directories(pid: &str) -> BTreeSet<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
        })
        .flat_map(|(controllers, path)| {
            let names = if controllers.is_empty() {
                vec!["unified".to_owned(), String::new()]
            } else {
                vec![controllers]
            };
            names.into_iter().map(move |name| {
                Path::new("/sys/fs/cgroup")
                    .join(name)
                    .join(path.trim_start_matches('/'))
            })
        })
        .filter(|path| path.is_dir())
        .collect()
}

/// What is counted of one daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holdings {
    /// Processes below it.
    pub(crate) processes: usize,
    /// Mounts in the mount namespaces of it and its direct children.
    pub(crate) mounts: usize,
    /// Cgroup directories next to, or below, those its children are in.
    pub(crate) cgroups: usize,
    /// Its open descriptors and those of its direct children.
    pub(crate) descriptors: usize,
    /// Files and directories in its TMPDIR.
    pub(crate) temporary_files: usize,
}

/// Counts what the daemon `pid` holds.
pub(crate) fn holdings(pid: u32, temporary: &Path) -> Holdings {
    let below = descendants(pid);
    let direct: Vec<u32> = below
        .iter()
        .map(|process| process.pid)
        .filter(|child| stat(*child).is_some_and(|stat| stat.parent == pid))
        .chain([pid])
        .collect();
    Holdings {
        processes: below.len(),
        mounts: direct.iter().map(|pid| lines_of(*pid, "mountinfo")).sum(),
        cgroups: pagebox_cgroups(pid, &direct),
        descriptors: direct.iter().map(|pid| entries_of(*pid)).sum(),
        temporary_files: files_below(temporary),
    }
}

fn lines_of(pid: u32, file: &str) -> usize {
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).map_or(0, |text| text.lines().count())
}

fn entries_of(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn files_below(directory: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| {
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            1 + if is_directory {
                files_below(&entry.path())
            } else {
                0
            }
        })
        .sum()
}

/// Cgroup directories that carry the name of this daemon's or its spawner's pid.
fn pagebox_cgroups(pid: u32, direct: &[u32]) -> usize {
    let pids: Vec<String> = direct.iter().chain([&pid]).map(u32::to_string).collect();
    let mut found = 0;
    let mut left = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = left.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.filter_map(Result::ok) {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = entry.path();
            let text = path.to_string_lossy();
            let is_ours = text.split_once("pagebox").is_some_and(|(_, rest)| {
                rest.split(|c: char| !c.is_ascii_digit())
                    .any(|number| pids.iter().any(|pid| pid == number))
            });
            found += usize::from(is_ours);
            left.push(path);
        }
    }
    found
}

/// Resident memory of a process, in KiB.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

/// Asks again and again until `probe` has nothing to say against it.
///
/// # Panics
/// With the last complaint, at the deadline.
pub(crate) async fn eventually(
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Result<(), String>,
) {
    let deadline = Instant::now() + limit;
    loop {
        match probe().await {
            Ok(()) => return,
            Err(complaint) => assert!(
                Instant::now() < deadline,
                "after {limit:?} still: {complaint}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
