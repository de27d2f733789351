//! Without a memory controller: looks at every process of every sandbox, and kills what is over its
//! limit. In between, RLIMIT_DATA holds each process.
//!
//! Two steps keep it cheap. `/proc/PID/stat` gives every process's parent and resident size in one
//! short read; only where those add up to more than a limit is each proportional size (PSS, what is
//! shared divided by its users) read, for which the kernel walks the page tables. And the further
//! from every limit, the later the next look.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{SysconfVar, sysconf};

use crate::id::{SandboxId, SpaceId};
use crate::limits::Bytes;

use super::super::cgroup::Controller;
use super::super::spec::{LimitOf, Usage};
use super::Spawner;
use super::processes::{Processes, Size};

/// From one look to the next, near a limit.
const SHORTEST: Duration = Duration::from_millis(100);
/// From one look to the next at most.
const LONGEST: Duration = Duration::from_millis(500);
/// Bytes a second that processes are taken to grow by at most. Up to that speed, looking late
/// lets them exceed a limit by no more than looking every [`SHORTEST`] would.
const FASTEST_GROWTH: u64 = 4 << 30;
/// What the processes of a sandbox may have resident beyond its limit by sharing pages: browsers and
/// forks stay below. More is the same file mapped again and again, and the walk over that, which
/// nobody else is served meanwhile, would take seconds.
const MOST_SHARED: Bytes = Bytes::gib(16);

/// How long until the next look, when what is nearest to its limit has so much left.
fn pause(left: Bytes) -> Duration {
    let until_full = Duration::from_secs_f64(left.0 as f64 / FASTEST_GROWTH as f64);
    until_full.clamp(SHORTEST, LONGEST)
}

/// What a tmpfs holds.
pub(super) fn used(tmpfs: &OwnedFd) -> Bytes {
    fstatvfs(tmpfs).map_or(Bytes(0), |at| {
        Bytes((at.blocks() - at.blocks_free()) * at.fragment_size())
    })
}

/// What one sandbox was seen to use.
struct Seen {
    id: SandboxId,
    space: SpaceId,
    tree: Vec<i32>,
    resident: Bytes,
    /// Its private memory: `/dev/shm` and the like.
    tmpfs: Bytes,
    /// Read only when the resident size is too much.
    exact: Option<Size>,
    limit: Bytes,
}

impl Seen {
    fn measure(&mut self) -> Size {
        *self.exact.get_or_insert_with(|| Size::of(&self.tree))
    }

    /// At most, unless it was measured.
    fn size(&self) -> Bytes {
        match self.exact {
            Some(size) => size.with_tmpfs(self.tmpfs),
            None => Bytes(self.resident.0 + self.tmpfs.0),
        }
    }
}

/// What all sandboxes of a space use together with its scratch, at most.
fn total(all: &[&mut Seen], scratch: Bytes) -> Bytes {
    Bytes(scratch.0 + all.iter().map(|seen| seen.size().0).sum::<u64>())
}

/// The same, measured.
fn measured_total(all: &mut [&mut Seen], scratch: Bytes) -> Bytes {
    let (mut size, mut tmpfs) = (Size::default(), scratch.0);
    for seen in all {
        size += seen.measure();
        tmpfs += seen.tmpfs.0;
    }
    size.with_tmpfs(Bytes(tmpfs))
}

impl Spawner {
    /// When the next look is due, if there is anything to look at.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let needed = !self.cgroups.has(Controller::Memory) && !self.sandboxes.is_empty();
        needed.then_some(self.look_at)
    }

    /// A sandbox more: nothing is known of it yet.
    pub(super) fn look_soon(&mut self) {
        self.look_at = self.look_at.min(Instant::now() + SHORTEST);
    }

    /// Looks, if it is due, and kills what is over a limit.
    pub(super) fn look(&mut self) {
        if self.next_look().is_none_or(|at| at > Instant::now()) {
            return;
        }
        let processes = self.processes();
        self.find_private(&processes);
        let (over, left) = self.over_limits(&processes);
        for (id, of) in over {
            let cpu_time = self.cpu_time(id, &processes);
            if let Some(sandbox) = self.sandboxes.get_mut(&id) {
                sandbox.cpu_time = cpu_time;
                sandbox.kill_for_memory(of);
            }
        }
        // After it: a look that takes long must not be followed by the next at once.
        self.look_at = Instant::now() + pause(left);
    }

    fn processes(&mut self) -> Processes {
        let inits: HashSet<i32> = self.sandboxes.values().map(|s| s.pid).collect();
        self.finder.look(&inits)
    }

    /// Opens the private memory of sandboxes that now run, through a process that has it: pid 1
    /// cannot be looked into without root, the program can.
    fn find_private(&mut self, processes: &Processes) {
        for sandbox in self.sandboxes.values_mut() {
            if sandbox.building.is_some() || sandbox.private.len() == sandbox.private_at.len() {
                continue;
            }
            for pid in [sandbox.pid].iter().chain(processes.children(sandbox.pid)) {
                let found = sandbox.private_at.iter().map(|at| open_private(*pid, at));
                if let Some(found) = found.collect() {
                    sandbox.private = found;
                    break;
                }
            }
        }
    }

    /// What is over a limit, and how much the nearest of the others has left.
    fn over_limits(&self, processes: &Processes) -> (Vec<(SandboxId, LimitOf)>, Bytes) {
        let page = page_size();
        let mut over = Vec::new();
        let mut left = u64::MAX;
        let mut alive: Vec<Seen> = Vec::new();
        for (id, sandbox) in &self.sandboxes {
            let tree = processes.tree(sandbox.pid);
            let mut seen = Seen {
                id: *id,
                space: sandbox.space,
                resident: processes.resident(&tree, page),
                tmpfs: Bytes(sandbox.private.iter().map(|tmpfs| used(tmpfs).0).sum()),
                tree,
                exact: None,
                limit: sandbox.memory,
            };
            if seen.size() > seen.limit
                && seen.size().0 <= seen.limit.0.saturating_add(MOST_SHARED.0)
            {
                seen.measure();
            }
            if seen.size() > seen.limit {
                over.push((*id, LimitOf::Sandbox));
            } else {
                left = left.min(seen.limit.0 - seen.size().0);
                alive.push(seen);
            }
        }
        for (id, space) in &self.spaces {
            let scratch = space.scratch_used();
            let mut of_space: Vec<&mut Seen> =
                alive.iter_mut().filter(|seen| seen.space == *id).collect();
            let mut together = total(&of_space, scratch);
            if together > space.memory {
                together = measured_total(&mut of_space, scratch);
            }
            let largest = of_space.iter().max_by_key(|seen| seen.size());
            match largest {
                Some(largest) if together > space.memory => {
                    over.push((largest.id, LimitOf::Space));
                }
                Some(_) => left = left.min(space.memory.0 - together.0),
                None => {}
            }
        }
        if !over.is_empty() {
            left = 0;
        }
        (over, Bytes(left))
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
    pub(super) fn usage_of(&mut self, id: SandboxId) -> Usage {
        let processes = self.processes();
        let cpu_time = self.cpu_time(id, &processes);
        let sandbox = self.sandboxes.get(&id);
        sandbox.map_or_else(Usage::default, |sandbox| Usage {
            cpu_time,
            ..sandbox.usage(Duration::ZERO)
        })
    }

    fn cpu_time(&self, id: SandboxId, processes: &Processes) -> Duration {
        let sandbox = self.sandboxes.get(&id);
        let ticks = sandbox.map_or(0, |s| processes.cpu_ticks(&processes.tree(s.pid)));
        Duration::from_millis(ticks * 1000 / ticks_per_second())
    }
}

/// A tmpfs at a place of the root of a process, if it may be looked into.
fn open_private(pid: i32, at: &Path) -> Option<OwnedFd> {
    let path = format!("/proc/{pid}/root{}", at.display());
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    open(path.as_str(), flags, Mode::empty()).ok()
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
    fn the_next_look_comes_before_the_fastest_could_be_over() {
        assert_eq!(pause(Bytes(0)), SHORTEST);
        assert_eq!(pause(Bytes::mib(256)), SHORTEST);
        assert_eq!(pause(Bytes::mib(1024)), Duration::from_millis(250));
        assert_eq!(pause(Bytes(u64::MAX)), LONGEST);
    }

    fn seen(resident: u64, tmpfs: u64, own: u64, shared: u64) -> Seen {
        Seen {
            id: SandboxId(1),
            space: SpaceId(1),
            tree: Vec::new(),
            resident: Bytes(resident),
            tmpfs: Bytes(tmpfs),
            exact: Some(Size {
                own: Bytes(own),
                shared: Bytes(shared),
            }),
            limit: Bytes(0),
        }
    }

    #[test]
    fn files_of_scratch_and_private_memory_count_once_however_they_are_mapped() {
        let (mut one, mut two) = (seen(90, 20, 50, 5), seen(80, 0, 30, 40));
        let mut both = [&mut one, &mut two];
        // 5 and 40 mapped, all of it perhaps from the 20 and the scratch's 30.
        assert_eq!(measured_total(&mut both, Bytes(30)), Bytes(50 + 30 + 50));
        assert_eq!(measured_total(&mut both, Bytes(10)), Bytes(50 + 30 + 45));
        both.iter_mut().for_each(|seen| seen.exact = None);
        assert_eq!(total(&both, Bytes(30)), Bytes(90 + 20 + 80 + 30));
    }
}
