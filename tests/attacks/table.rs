//! The table a run prints: a line for each case.

use std::io::Write as _;
use std::time::Duration;

use crate::case::Case;
use crate::mode::Mode;

/// All lines of a run.
#[derive(Default)]
pub(crate) struct Table {
    mode: String,
    /// In the order they ran.
    pub(crate) rows: Vec<Row>,
}

/// A case that ran.
pub(crate) struct Row {
    /// Which.
    pub(crate) case: &'static Case,
    /// What was seen, or why it failed.
    pub(crate) verdict: Result<Seen, String>,
    /// All of it, with the looking.
    pub(crate) took: Duration,
    /// What the case itself had to say.
    pub(crate) notes: Vec<String>,
}

/// What was seen around a case.
pub(crate) struct Seen {
    /// Sorted times of the honest session's executions; at least one.
    pub(crate) honest: Vec<Duration>,
    /// From the end of the attack until the daemon held no more than before it.
    pub(crate) clean_after: Duration,
    /// Of the daemon, against before the case.
    pub(crate) memory_kib: i64,
}

impl Seen {
    fn percentile(&self, percent: usize) -> u128 {
        let last = self.honest.len().saturating_sub(1);
        let at = (last * percent).div_ceil(100);
        self.honest.get(at).map_or(0, Duration::as_millis)
    }
}

impl Table {
    /// What stands above it.
    pub(crate) fn mode(&mut self, mode: &Mode) {
        self.mode = mode.to_string();
    }

    /// Prints it, if anything ran.
    pub(crate) fn print(&self) {
        if self.rows.is_empty() {
            return;
        }
        let mut out = std::io::stdout().lock();
        let mut line = |text: String| {
            // Nobody reads it any more: nothing is lost.
            let _ = writeln!(out, "{text}");
        };
        line(format!("\nMode: {}", self.mode));
        line(format!(
            "{:<50} {:<6} {:>8} {:>9} {:>16} {:>12}",
            "case", "result", "took", "clean", "honest p50/p99", "memory"
        ));
        for row in &self.rows {
            let name = format!("{:>3} {}", row.case.number, row.case.name);
            let took = row.took.as_secs_f64();
            line(match &row.verdict {
                Ok(seen) => format!(
                    "{name:<50} held   {took:>6.1} s {:>6} ms {:>6}/{:<6} ms {:>+8} KiB",
                    seen.clean_after.as_millis(),
                    seen.percentile(50),
                    seen.percentile(99),
                    seen.memory_kib
                ),
                Err(_) => format!("{name:<50} FAILED {took:>6.1} s"),
            });
            for note in &row.notes {
                line(format!("    {note}"));
            }
        }
    }
}
