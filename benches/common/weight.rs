//! Memory of processes, as `/proc` has it.

use std::collections::{BTreeMap, BTreeSet};

use super::leaks::Process;

/// A field of a file in `/proc/PID`, in MiB; zero when the process is gone.
fn field(pid: u32, file: &str, field: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(field)?.split_whitespace().next())
        .and_then(|number| number.parse::<f64>().ok())
        .unwrap_or_default()
        / 1024.0
}

/// A process's own memory, and its share of what it has in common with others, in MiB.
pub(crate) fn pss(pid: u32) -> f64 {
    field(pid, "smaps_rollup", "Pss:")
}

/// What the host could still give, in MiB.
pub(crate) fn available() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    number.unwrap_or_default() / 1024.0
}

/// PSS by what has it, in MiB.
pub(crate) fn by_kind(processes: &BTreeSet<Process>) -> BTreeMap<&'static str, f64> {
    let mut kinds = BTreeMap::new();
    for process in processes {
        let kind = match process.name.as_str() {
            name if name.starts_with("chromium") => "browser",
            name if name.starts_with("headless") => "browser",
            "node" | "node-MainThread" | "MainThread" => "node",
            name if name.starts_with("python") => "python",
            "bash" => "bash",
            name if name.starts_with("agent-browser") => "agent-browser",
            _ => "pid 1 of each sandbox",
        };
        *kinds.entry(kind).or_default() += pss(process.pid);
    }
    kinds
}

/// The daemon with what it had below it before any session: its spawner. In MiB.
pub(crate) fn of_daemon(daemon: u32, idle: &BTreeSet<Process>) -> f64 {
    let below = idle.iter().map(|process| pss(process.pid));
    pss(daemon) + below.sum::<f64>()
}
