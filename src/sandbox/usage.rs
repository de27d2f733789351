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

    /// What they say now; a counter that is missing or gone counts as zero or `None`.
    pub(super) fn read(&self) -> Usage {
        let mut usage = Usage::default();
        for (kind, file) in &self.0 {
            let mut bytes = [0; MAX_COUNTER];
            let Ok(length) = file.read_at(&mut bytes, 0) else {
                continue;
            };
            let text = String::from_utf8_lossy(&bytes[..length]);
            match kind {
                CounterKind::MemoryPeak => usage.peak_memory = number(&text).map(Bytes),
                CounterKind::OomKills => usage.oom_kills = field(&text, "oom_kill").unwrap_or(0),
                CounterKind::CpuNanoseconds => {
                    usage.cpu_time = Duration::from_nanos(number(&text).unwrap_or(0));
                }
                CounterKind::CpuStat => {
                    usage.cpu_time = Duration::from_micros(field(&text, "usage_usec").unwrap_or(0));
                }
            }
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
    use super::*;

    #[test]
    fn fields_are_whole_words() {
        let text = "oom 3\noom_kill 2\noom_kill_disable 0\n";
        assert_eq!(field(text, "oom_kill"), Some(2));
        assert_eq!(field(text, "oom_group_kill"), None);
        assert_eq!(number("4096\n"), Some(4096));
    }
}
