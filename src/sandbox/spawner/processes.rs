//! The processes of the sandboxes, found in /proc, and what they use.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use crate::limits::Bytes;

/// How long a process that belongs to no sandbox is not looked at again. Its number may be used
/// again within one look, for one of a sandbox, which is then missed for as long.
const REMEMBER: Duration = Duration::from_secs(5);

/// What `/proc/PID/stat` says of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: i32,
    /// Clock ticks of it and of the children it waited for.
    cpu_ticks: u64,
    resident_pages: u64,
}

/// Reads one line of `/proc/PID/stat`, proc_pid_stat(5).
fn parse_stat(text: &str) -> Option<Stat> {
    // The name, in parentheses, may hold anything; what follows the last one is numbers.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    // Field 3, the state, is the first here.
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        cpu_ticks: (11..=14).filter_map(number).sum(),
        resident_pages: number(21)?,
    })
}

/// The number after a name in `smaps_rollup` or `status`, which count in KiB.
fn kib(text: &str, name: &str) -> Option<Bytes> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number = line.strip_prefix(':')?.trim().strip_suffix(" kB")?;
    number.trim().parse().ok().map(Bytes::kib)
}

/// The processes of all sandboxes at one moment, by their parents.
#[derive(Debug, Default)]
pub(super) struct Processes {
    by_parent: HashMap<i32, Vec<i32>>,
    stats: HashMap<i32, Stat>,
}

impl Processes {
    fn add(&mut self, pid: i32, stat: Stat) {
        self.by_parent.entry(stat.parent).or_default().push(pid);
        self.stats.insert(pid, stat);
    }

    /// A sandbox's pid 1 and all below it: the kernel gives it every orphan inside.
    pub(super) fn tree(&self, pid: i32) -> Vec<i32> {
        let mut found = vec![pid];
        let mut next = 0;
        while let Some(parent) = found.get(next).copied() {
            found.extend(self.children(parent));
            next += 1;
        }
        found
    }

    pub(super) fn children(&self, pid: i32) -> impl Iterator<Item = &i32> {
        self.by_parent.get(&pid).into_iter().flatten()
    }

    pub(super) fn resident(&self, tree: &[i32], page: u64) -> Bytes {
        Bytes(self.of(tree).map(|stat| stat.resident_pages).sum::<u64>() * page)
    }

    /// Clock ticks.
    pub(super) fn cpu_ticks(&self, tree: &[i32]) -> u64 {
        self.of(tree).map(|stat| stat.cpu_ticks).sum()
    }

    fn of(&self, tree: &[i32]) -> impl Iterator<Item = &Stat> {
        tree.iter().filter_map(|pid| self.stats.get(pid))
    }
}

/// Finds the processes of sandboxes. Listing /proc is cheap, reading every process is not: which
/// ones are not below any pid 1 of a sandbox is remembered.
pub(super) struct Finder {
    outside: HashSet<i32>,
    forget_at: Instant,
}

impl Finder {
    pub(super) fn new() -> Self {
        Self {
            outside: HashSet::new(),
            forget_at: Instant::now(),
        }
    }

    /// All that are below these pids 1, and those that are not known yet.
    pub(super) fn look(&mut self, inits: &HashSet<i32>) -> Processes {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        self.sort(&pids.collect(), inits, |pid| {
            // One that has ended meanwhile uses nothing.
            let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
            parse_stat(&String::from_utf8_lossy(&text))
        })
    }

    fn sort(
        &mut self,
        pids: &HashSet<i32>,
        inits: &HashSet<i32>,
        read: impl Fn(i32) -> Option<Stat>,
    ) -> Processes {
        let now = Instant::now();
        if now >= self.forget_at {
            self.outside.clear();
            self.forget_at = now + REMEMBER;
        }
        self.outside
            .retain(|pid| pids.contains(pid) && !inits.contains(pid));
        let mut found = Processes::default();
        for pid in pids.iter().filter(|pid| !self.outside.contains(pid)) {
            if let Some(stat) = read(*pid) {
                found.add(*pid, stat);
            }
        }
        // Only what is certainly outside, all the way up: a parent that ended between two reads
        // leaves a process that cannot be told yet.
        let outside = |stat: &Stat| stat.parent == 0 || self.outside.contains(&stat.parent);
        let mut next: Vec<i32> = found
            .stats
            .iter()
            .filter(|(_, stat)| outside(stat))
            .map(|(pid, _)| *pid)
            .collect();
        while let Some(pid) = next.pop() {
            if !inits.contains(&pid) && self.outside.insert(pid) {
                next.extend(found.children(pid));
            }
        }
        found
    }
}

/// Memory of processes, each page divided by its users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Their own, and mapped files of a disk.
    pub(super) own: Bytes,
    /// Mapped files of a tmpfs, and shared memory.
    pub(super) shared: Bytes,
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.own.0 += other.own.0;
        self.shared.0 += other.shared.0;
    }
}

impl Size {
    /// Of all these processes; the kernel walks their page tables for it.
    pub(super) fn of(tree: &[i32]) -> Self {
        let mut size = Self::default();
        for pid in tree {
            size += Self::of_process(*pid);
        }
        size
    }

    /// A process that may not be looked into counts with all that is not a file's; one that has
    /// ended with nothing.
    fn of_process(pid: i32) -> Self {
        let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let rollup = read("smaps_rollup");
        if let (Some(all), shared) = (kib(&rollup, "Pss"), kib(&rollup, "Pss_Shmem")) {
            let shared = shared.unwrap_or(Bytes(0));
            return Self {
                own: Bytes(all.0.saturating_sub(shared.0)),
                shared,
            };
        }
        let status = read("status");
        let part = |name| kib(&status, name).unwrap_or(Bytes(0));
        Self {
            own: part("RssAnon"),
            shared: part("RssShmem"),
        }
    }

    /// Together with tmpfs that hold so much: what is mapped of them is counted once. Not more
    /// than the truth; less by what is shared memory of no tmpfs, at most.
    pub(super) fn with_tmpfs(self, used: Bytes) -> Bytes {
        Bytes(self.own.0 + self.shared.0.max(used.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_behind_any_name() {
        let line = "4242 (a) b) (c) S 17 4242 4242 0 -1 4194560 913 700 1 2 11 5 30 4 20 0 3 0 \
                    2358769 1089212416 12345 18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1";
        assert_eq!(
            parse_stat(line),
            Some(Stat {
                parent: 17,
                cpu_ticks: 50,
                resident_pages: 12345,
            })
        );
        for line in ["", "1 (x)", "1 (x) S 2 3", "1 x S 2"] {
            assert_eq!(parse_stat(line), None, "{line}");
        }
    }

    #[test]
    fn sizes_are_read_by_their_whole_name() {
        let rollup = "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss:     2048 kB\n\
                      Pss:     1536 kB\nPss_Anon:    1024 kB\n";
        assert_eq!(kib(rollup, "Pss"), Some(Bytes::kib(1536)));
        assert_eq!(kib(rollup, "Pss_Anon"), Some(Bytes::kib(1024)));
        assert_eq!(kib(rollup, "Pss_"), None);
        assert_eq!(kib("", "Pss"), None);
    }

    /// A host whose processes are these, as pid and parent.
    fn host<'a>(parents: &'a [(i32, i32)]) -> (HashSet<i32>, impl Fn(i32) -> Option<Stat> + 'a) {
        let pids = parents.iter().map(|(pid, _)| *pid).collect();
        let read = |wanted| {
            let (_, parent) = parents.iter().find(|(pid, _)| *pid == wanted)?;
            Some(Stat {
                parent: *parent,
                cpu_ticks: 3,
                resident_pages: 2,
            })
        };
        (pids, read)
    }

    fn sorted(mut tree: Vec<i32>) -> Vec<i32> {
        tree.sort_unstable();
        tree
    }

    #[test]
    fn a_tree_is_everything_below_and_nothing_beside() {
        let (pids, read) = host(&[(1, 0), (10, 1), (11, 10), (12, 10), (13, 11), (20, 1)]);
        let all = Finder::new().sort(&pids, &HashSet::from([10]), read);
        let tree = sorted(all.tree(10));
        assert_eq!(tree, [10, 11, 12, 13]);
        assert_eq!(all.resident(&tree, 4096), Bytes(8 * 4096));
        assert_eq!(all.cpu_ticks(&tree), 12);
        assert_eq!(all.tree(99), [99]);
    }

    #[test]
    fn only_what_is_certainly_outside_is_not_read_again() {
        let inits = HashSet::from([10]);
        let mut finder = Finder::new();
        // 14's parent, one of the sandbox, ended between the two reads; 22's, of the host, too.
        let (pids, read) = host(&[
            (1, 0),
            (10, 1),
            (11, 10),
            (14, 13),
            (20, 1),
            (21, 20),
            (22, 19),
        ]);
        finder.sort(&pids, &inits, read);
        assert_eq!(finder.outside, HashSet::from([1, 20, 21]));

        // 14 went to its pid 1; 11 has a child; 20 has ended, and 21's number is now a pid 1.
        let (pids, read) = host(&[
            (1, 0),
            (10, 1),
            (11, 10),
            (14, 10),
            (15, 11),
            (21, 1),
            (22, 1),
        ]);
        let inits = HashSet::from([10, 21]);
        let all = finder.sort(&pids, &inits, read);
        assert_eq!(sorted(all.tree(10)), [10, 11, 14, 15]);
        assert!(all.stats.contains_key(&21));
        assert!(!all.stats.contains_key(&1), "known");
        assert_eq!(finder.outside, HashSet::from([1, 22]));
    }

    #[test]
    fn what_is_mapped_of_a_tmpfs_is_counted_once() {
        let size = Size {
            own: Bytes(10),
            shared: Bytes(4),
        };
        for (used, total) in [(0, 14), (3, 14), (7, 17)] {
            assert_eq!(size.with_tmpfs(Bytes(used)), Bytes(total));
        }
    }

    #[test]
    fn this_process_is_seen_at_a_size_that_makes_sense() {
        let own = i32::try_from(std::process::id()).unwrap();
        let all = Finder::new().look(&HashSet::from([own]));
        let resident = all.resident(&[own], 4096);
        let size = Size::of(&[own]);
        assert!(size.own > Bytes::mib(1), "{size:?}");
        assert!(resident > Bytes::mib(1), "{resident}");
    }
}
