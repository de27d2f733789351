//! How much memory is left to this process: the least of what the host has, and what is left below the
//! limit of each control group it is in.

use std::fs;
use std::path::Path;

use super::cgroup::memory_groups;
use crate::limits::Bytes;

/// Where the kernel tells of a group's memory.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// In `memory.stat`: what the kernel takes back first.
    reclaimable: &'static str,
}

const V2: Files = Files {
    limit: "memory.max",
    used: "memory.current",
    reclaimable: "inactive_file",
};
const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file",
};

/// What could be used now without swapping; none left when the kernel does not tell.
#[must_use]
pub fn memory_left() -> Bytes {
    let host = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let host = field(&host, "MemAvailable:")
        .unwrap_or(0)
        .saturating_mul(1024);
    let groups = memory_groups();
    let v2 = groups.v2.iter().map(|dir| (dir, &V2));
    let of_groups = v2.chain(groups.v1.iter().map(|dir| (dir, &V1)));
    Bytes(of_groups.fold(host, |least, (dir, files)| least.min(left_in(dir, files))))
}

/// The least of a group and of those above it, as far up as they are shown.
fn left_in(dir: &Path, files: &Files) -> u64 {
    let each = dir.ancestors().map(|dir| {
        let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
        let limit = read(files.limit)?.trim().parse().ok()?;
        let used: u64 = read(files.used)?.trim().parse().ok()?;
        let stat = read("memory.stat").unwrap_or_default();
        let reclaimable = field(&stat, files.reclaimable).unwrap_or(0);
        Some(left_below(limit, used, reclaimable))
    });
    // Version 2 has no limit at its root, and "max" where none is set.
    each.flatten().min().unwrap_or(u64::MAX)
}

fn left_below(limit: u64, used: u64, reclaimable: u64) -> u64 {
    limit.saturating_sub(used.saturating_sub(reclaimable))
}

/// The number behind a word that begins a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next()? == name).then(|| words.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_word() {
        let text = "total_inactive_file 7\ninactive_file 5\nMemAvailable:   1024 kB\n";
        assert_eq!(field(text, "inactive_file"), Some(5));
        assert_eq!(field(text, "total_inactive_file"), Some(7));
        assert_eq!(field(text, "MemAvailable:"), Some(1024));
        assert_eq!(field(text, "inactive"), None);
    }

    #[test]
    fn what_the_kernel_takes_back_is_left() {
        assert_eq!(left_below(100, 60, 20), 60);
        assert_eq!(left_below(100, 130, 20), 0);
        assert_eq!(left_below(100, 10, 20), 100);
    }

    #[test]
    fn a_group_is_held_against_those_above_it() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("outer/inner");
        fs::create_dir_all(&inner).unwrap();
        let tell = |dir: &Path, limit: &str, used: &str| {
            fs::write(dir.join("memory.max"), limit).unwrap();
            fs::write(dir.join("memory.current"), used).unwrap();
            fs::write(dir.join("memory.stat"), "anon 1\ninactive_file 10\n").unwrap();
        };
        assert_eq!(left_in(&inner, &V2), u64::MAX);
        tell(&inner, "max\n", "40\n");
        assert_eq!(left_in(&inner, &V2), u64::MAX);
        tell(&root.path().join("outer"), "100\n", "50\n");
        assert_eq!(left_in(&inner, &V2), 60);
        tell(&inner, "50\n", "40\n");
        assert_eq!(left_in(&inner, &V2), 20);
    }

    #[test]
    fn this_host_has_some() {
        assert!(memory_left() > Bytes(0));
    }
}
