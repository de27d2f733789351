//! Reading a sandbox's counters: open cgroup files, read in place by whoever holds them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::limits::Bytes;

use super::spec::Usage;
use super::wire::CounterKind;

/// Longest cgroup counter file that is read; `cpu.stat` and `memory.events` stay below 1 KiB.
const MAX_COUNTER: usize = 2048;

/// The open counters of one sandbox.
#[derive(Debug)]
pub(super) struct Counters(Vec<(CounterKind, File)>);

impl Counters {
    pub(super) fn new(files: Vec<(CounterKind, File)>) -> Self {
        Self(files)
    }

    /// Whether cpu time is counted: then the rest is as far as this host can.
    pub(super) fn count_cpu(&self) -> bool {
        self.0
            .iter()
            .any(|(kind, _)| matches!(kind, CounterKind::CpuNanoseconds | CounterKind::CpuStat))
    }

    /// What they say now; a counter that is missing or gone counts as zero or `None`.
    pub(super) fn read(&self) -> Usage {
        let mut usage = Usage::default();
        for (kind, file) in &self.0 {
            let mut bytes = [0; MAX_COUNTER];
            let Ok(length) = file.read_at(&mut bytes, 0) else {
                continue;
            };
            add(
                &mut usage,
                *kind,
                &String::from_utf8_lossy(&bytes[..length]),
            );
        }
        usage
    }

    /// Starts a new peak, where the kernel can.
    pub(super) fn reset_peak(&self) {
        for (kind, file) in &self.0 {
            if *kind == CounterKind::MemoryPeak {
                // Before Linux 6.12 version 2 cannot; the peak then is that of the whole life.
                let _ = file.write_at(b"0", 0);
            }
        }
    }
}

/// Adds what one counter file says.
fn add(usage: &mut Usage, kind: CounterKind, text: &str) {
    let field = |name| field(text, name);
    match kind {
        CounterKind::MemoryPeak => usage.peak_memory = number(text).map(Bytes),
        CounterKind::MemoryEvents => {
            usage.oom_kills = field("oom_kill").unwrap_or(0);
            if let Some(reached) = field("oom") {
                usage.memory_reached = reached;
            }
        }
        CounterKind::MemoryReached => usage.memory_reached = number(text).unwrap_or(0),
        CounterKind::SpaceMemoryReached => {
            usage.space_memory_reached = number(text).or_else(|| field("oom")).unwrap_or(0);
        }
        CounterKind::PidsEvents => usage.forks_refused = field("max").unwrap_or(0),
        CounterKind::CpuNanoseconds => {
            usage.cpu_time = Duration::from_nanos(number(text).unwrap_or(0));
        }
        CounterKind::CpuStat => {
            usage.cpu_time = Duration::from_micros(field("usage_usec").unwrap_or(0));
            usage.cpu_throttled = Duration::from_micros(field("throttled_usec").unwrap_or(0));
        }
        CounterKind::CpuThrottled => {
            usage.cpu_throttled = Duration::from_nanos(field("throttled_time").unwrap_or(0));
        }
    }
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::super::spec::LimitOf;
    use super::*;

    #[test]
    fn fields_are_whole_words() {
        let text = "oom 3\noom_kill 2\noom_kill_disable 0\n";
        assert_eq!(field(text, "oom_kill"), Some(2));
        assert_eq!(field(text, "oom_group_kill"), None);
        assert_eq!(number("4096\n"), Some(4096));
    }

    fn read(files: &[(CounterKind, &str)]) -> Usage {
        let mut usage = Usage::default();
        for (kind, text) in files {
            add(&mut usage, *kind, text);
        }
        usage
    }

    #[test]
    fn a_kill_is_for_the_innermost_limit_that_was_reached_since() {
        let usage = |oom_kills, memory_reached, space_memory_reached| Usage {
            oom_kills,
            memory_reached,
            space_memory_reached,
            ..Usage::default()
        };
        for (now, whose) in [
            (usage(2, 6, 6), None),
            (usage(3, 7, 5), Some(LimitOf::Sandbox)),
            (usage(3, 7, 6), Some(LimitOf::Sandbox)),
            (usage(3, 6, 6), Some(LimitOf::Space)),
            (usage(3, 6, 5), Some(LimitOf::Host)),
        ] {
            let before = usage(2, 6, 5);
            assert_eq!(now.since(&before).killed_for(), whose, "{now:?}");
        }
    }

    const EXPECTED: Usage = Usage {
        cpu_time: Duration::from_micros(2_500_001),
        peak_memory: Some(Bytes(8_392_704)),
        oom_kills: 2,
        memory_reached: 5,
        space_memory_reached: 6,
        forks_refused: 3,
        cpu_throttled: Duration::from_micros(700),
    };

    #[test]
    fn the_files_of_version_2_are_understood() {
        let usage = read(&[
            (CounterKind::MemoryPeak, "8392704\n"),
            (
                CounterKind::MemoryEvents,
                "low 0\nhigh 0\nmax 41\noom 5\noom_kill 2\noom_group_kill 0\nsock_throttled 0\n",
            ),
            (
                CounterKind::SpaceMemoryReached,
                "low 0\nhigh 0\nmax 9\noom 6\noom_kill 0\n",
            ),
            (CounterKind::PidsEvents, "max 3\n"),
            (
                CounterKind::CpuStat,
                "usage_usec 2500001\nuser_usec 2400000\nsystem_usec 100001\nnice_usec 0\n\
                 nr_periods 12\nnr_throttled 4\nthrottled_usec 700\nnr_bursts 0\nburst_usec 0\n",
            ),
        ]);
        assert_eq!(usage, EXPECTED);
        // Without the cpu controller, `cpu.stat` counts but does not throttle.
        let text = "usage_usec 7\nuser_usec 5\nsystem_usec 2\n";
        let alone = read(&[(CounterKind::CpuStat, text)]);
        assert_eq!(alone.cpu_time, Duration::from_micros(7));
        assert_eq!(alone.cpu_throttled, Duration::ZERO);
    }

    #[test]
    fn the_files_of_version_1_are_understood() {
        let usage = read(&[
            (CounterKind::MemoryPeak, "8392704\n"),
            (
                CounterKind::MemoryEvents,
                "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            ),
            (CounterKind::MemoryReached, "5\n"),
            (CounterKind::SpaceMemoryReached, "6\n"),
            (CounterKind::PidsEvents, "max 3\n"),
            (
                CounterKind::CpuThrottled,
                "nr_periods 12\nnr_throttled 4\nthrottled_time 700000\nnr_bursts 0\nburst_time 0\n",
            ),
            (CounterKind::CpuNanoseconds, "2500001000\n"),
        ]);
        assert_eq!(usage, EXPECTED);
    }
}
