//! Without a memory controller: looks at every process of every sandbox ten times a second, and
//! kills what is over its limit. In between, RLIMIT_DATA holds each process.
//!
//! Two steps keep it cheap. `/proc/PID/stat` gives every process's parent and resident size in one
//! short read; only where those add up to more than a limit is each proportional size (PSS, what is
//! shared divided by its users) read, for which the kernel walks the page tables.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use nix::unistd::{SysconfVar, sysconf};

use crate::id::{SandboxId, SpaceId};
use crate::limits::Bytes;

use super::super::cgroup::Controller;
use super::super::spec::{LimitOf, Usage};
use super::Spawner;

/// From one look to the next.
const PERIOD: Duration = Duration::from_millis(100);
/// What the processes of a sandbox may have resident beyond its limit by sharing pages: browsers and
/// forks stay below. More is the same file mapped again and again, and the walk over that, which
/// nobody else is served meanwhile, would take seconds.
const MOST_SHARED: Bytes = Bytes::gib(16);

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

/// Every process of the host, by its parent.
struct Processes {
    by_parent: HashMap<i32, Vec<i32>>,
    stats: HashMap<i32, Stat>,
}

impl Processes {
    fn read() -> Self {
        let mut all = Self {
            by_parent: HashMap::new(),
            stats: HashMap::new(),
        };
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
            // One that has ended meanwhile uses nothing.
            let text = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
            if let Some(stat) = parse_stat(&String::from_utf8_lossy(&text)) {
                all.by_parent.entry(stat.parent).or_default().push(pid);
                all.stats.insert(pid, stat);
            }
        }
        all
    }

    /// A sandbox's pid 1 and all below it: the kernel gives it every orphan inside.
    fn tree(&self, pid: i32) -> Vec<i32> {
        let mut found = vec![pid];
        let mut next = 0;
        while let Some(parent) = found.get(next).copied() {
            found.extend(self.by_parent.get(&parent).into_iter().flatten());
            next += 1;
        }
        found
    }

    fn resident(&self, tree: &[i32], page: u64) -> Bytes {
        let pages = tree.iter().filter_map(|pid| self.stats.get(pid));
        Bytes(pages.map(|stat| stat.resident_pages).sum::<u64>() * page)
    }
}

/// The proportional size of all of them together.
fn proportional(tree: &[i32]) -> Bytes {
    Bytes(tree.iter().map(|pid| proportional_size(*pid).0).sum())
}

/// A process that may not be looked into counts with all that is not a file's; one that has ended
/// with nothing.
fn proportional_size(pid: i32) -> Bytes {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    if let Some(size) = rollup.ok().and_then(|text| kib(&text, "Pss")) {
        return size;
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let part = |name| kib(&status, name).unwrap_or_default().0;
    Bytes(part("RssAnon") + part("RssShmem"))
}

/// What one sandbox was seen to use.
struct Seen {
    id: SandboxId,
    space: SpaceId,
    tree: Vec<i32>,
    size: Bytes,
    limit: Bytes,
}

impl Spawner {
    /// When the next look is due, if there is anything to look at.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let needed = !self.cgroups.has(Controller::Memory) && !self.sandboxes.is_empty();
        needed.then(|| self.last_look + PERIOD)
    }

    /// Looks, if it is due, and kills what is over a limit.
    pub(super) fn look(&mut self) {
        if self.next_look().is_none_or(|at| at > Instant::now()) {
            return;
        }
        for (id, of) in self.over_limits() {
            let cpu_time = self.usage_of(id).cpu_time;
            if let Some(sandbox) = self.sandboxes.get_mut(&id) {
                sandbox.cpu_time = cpu_time;
                sandbox.kill_for_memory(of);
            }
        }
        // After it: a look that takes long must not be followed by the next at once.
        self.last_look = Instant::now();
    }

    fn over_limits(&self) -> Vec<(SandboxId, LimitOf)> {
        let processes = Processes::read();
        let page = page_size();
        let mut over = Vec::new();
        let mut alive: Vec<Seen> = Vec::new();
        for (id, sandbox) in &self.sandboxes {
            let tree = processes.tree(sandbox.pid);
            let mut seen = Seen {
                id: *id,
                space: sandbox.space,
                size: processes.resident(&tree, page),
                tree,
                limit: sandbox.memory,
            };
            if seen.size > seen.limit && seen.size.0 <= seen.limit.0.saturating_add(MOST_SHARED.0) {
                seen.size = proportional(&seen.tree);
            }
            if seen.size > seen.limit {
                over.push((*id, LimitOf::Sandbox));
            } else {
                alive.push(seen);
            }
        }
        for (id, space) in &self.spaces {
            let scratch = space.scratch_used();
            let mut of_space: Vec<&mut Seen> =
                alive.iter_mut().filter(|seen| seen.space == *id).collect();
            let total =
                |all: &[&mut Seen]| Bytes(scratch.0 + all.iter().map(|s| s.size.0).sum::<u64>());
            if total(&of_space) <= space.memory {
                continue;
            }
            for seen in &mut of_space {
                seen.size = proportional(&seen.tree);
            }
            if total(&of_space) > space.memory
                && let Some(largest) = of_space.iter().max_by_key(|seen| seen.size)
            {
                over.push((largest.id, LimitOf::Space));
            }
        }
        over
    }

    /// Kills a sandbox because the daemon asks for it.
    pub(super) fn kill(&mut self, id: SandboxId) {
        let uncounted = self.sandboxes.get(&id).is_some_and(|s| !s.counts_cpu());
        let cpu_time = if uncounted {
            self.usage_of(id).cpu_time
        } else {
            Duration::ZERO
        };
        if let Some(sandbox) = self.sandboxes.get_mut(&id) {
            sandbox.cpu_time = cpu_time;
            sandbox.kill();
        }
    }

    /// What a sandbox used, as far as its processes tell; nothing when there is no such sandbox.
    pub(super) fn usage_of(&self, id: SandboxId) -> Usage {
        let Some(sandbox) = self.sandboxes.get(&id) else {
            return Usage::default();
        };
        let processes = Processes::read();
        let tree = processes.tree(sandbox.pid);
        let stats = tree.iter().filter_map(|pid| processes.stats.get(pid));
        let ticks: u64 = stats.map(|stat| stat.cpu_ticks).sum();
        Usage {
            cpu_time: Duration::from_millis(ticks * 1000 / ticks_per_second()),
            ..sandbox.usage(Duration::ZERO)
        }
    }
}

fn page_size() -> u64 {
    constant(SysconfVar::PAGE_SIZE, 4096)
}

fn ticks_per_second() -> u64 {
    constant(SysconfVar::CLK_TCK, 100)
}

/// One of the kernel's constants; what every architecture here has where libc does not say.
fn constant(name: SysconfVar, usual: u64) -> u64 {
    let value = sysconf(name).ok().flatten();
    value
        .and_then(|value| u64::try_from(value).ok())
        .filter(|value| *value > 0)
        .unwrap_or(usual)
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

    #[test]
    fn a_tree_is_everything_below_and_nothing_beside() {
        let stat = |parent| Stat {
            parent,
            cpu_ticks: 0,
            resident_pages: 2,
        };
        let mut all = Processes {
            by_parent: HashMap::new(),
            stats: HashMap::new(),
        };
        for (pid, parent) in [(1, 0), (10, 1), (11, 10), (12, 10), (13, 11), (20, 1)] {
            all.by_parent.entry(parent).or_default().push(pid);
            all.stats.insert(pid, stat(parent));
        }
        let mut tree = all.tree(10);
        tree.sort_unstable();
        assert_eq!(tree, [10, 11, 12, 13]);
        assert_eq!(all.resident(&tree, 4096), Bytes(8 * 4096));
        assert_eq!(all.tree(99), [99]);
    }

    #[test]
    fn this_process_is_seen_at_a_size_that_makes_sense() {
        let own = i32::try_from(std::process::id()).unwrap();
        let all = Processes::read();
        let resident = all.resident(&[own], page_size());
        let proportional = proportional_size(own);
        assert!(proportional > Bytes::mib(1), "{proportional}");
        assert!(resident > Bytes::mib(1), "{resident}");
    }
}
