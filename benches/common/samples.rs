//! Times by name, and where their tables go.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

/// A number that the environment may give, such as `ROUNDS`.
pub(crate) fn number(name: &str, otherwise: usize) -> usize {
    let given = std::env::var(name).ok();
    given
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

/// Times by name, in the order they first came.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<(String, Vec<Duration>)>);

impl Samples {
    pub(crate) fn add(&mut self, name: impl Into<String>, took: Duration) {
        let name = name.into();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, times)) => times.push(took),
            None => self.0.push((name, vec![took])),
        }
    }

    /// Adds those of another run.
    pub(crate) fn extend(&mut self, other: Self) {
        for (name, times) in other.0 {
            for took in times {
                self.add(name.clone(), took);
            }
        }
    }

    /// The smallest value that `percent` of the samples do not pass, in milliseconds.
    pub(crate) fn percentile(&self, name: &str, percent: usize) -> f64 {
        let Some((_, times)) = self.0.iter().find(|(known, _)| known == name) else {
            return f64::NAN;
        };
        let mut times = times.clone();
        times.sort_unstable();
        times[(times.len() * percent).div_ceil(100).max(1) - 1].as_secs_f64() * 1000.0
    }

    /// Each name with how many samples it has.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&str, usize)> {
        let rows = self.0.iter();
        rows.map(|(name, times)| (name.as_str(), times.len()))
    }
}

/// Where results go.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench")
}

/// Prints a table and writes it, and the same for programs, to `target/bench`.
pub(crate) fn publish(name: &str, table: &str, all: &Value) -> anyhow::Result<()> {
    println!("{table}");
    let directory = directory();
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join(format!("{name}.md")), table)?;
    let text = serde_json::to_string_pretty(all)?;
    std::fs::write(directory.join(format!("{name}.json")), text + "\n")?;
    Ok(())
}
