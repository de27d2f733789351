//! What was measured, by name, and the tables of it.

use std::path::Path;

use serde_json::{Value, json};

use super::crowd::{self, Times};

/// A way through the proxy should take at most this many times as long as the direct one.
pub(crate) const WANTED: f64 = 1.15;

/// Milliseconds, unless the name says another unit.
#[derive(Debug)]
struct Row {
    name: String,
    /// The row this one is compared with.
    base: Option<String>,
    values: Vec<f64>,
    /// Processor time of the daemon for each value, in milliseconds.
    costs: Vec<f64>,
}

/// Rows in the order they first came.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<Row>);

impl Samples {
    /// A time of the direct way.
    pub(crate) fn base(&mut self, name: &str, value: f64) {
        self.row(name, None).values.push(value);
    }

    /// A time of another way, to be compared with the row `base`.
    pub(crate) fn add(&mut self, name: &str, base: &str, value: f64) {
        self.row(name, Some(base)).values.push(value);
    }

    /// What a value of this row cost the daemon.
    pub(crate) fn add_cost(&mut self, name: &str, value: f64) {
        self.row(name, None).costs.push(value);
    }

    /// The times of many connections at once.
    pub(crate) fn crowd(&mut self, name: &str, base: &str, opened: &Times, fetched: &Times) {
        for (what, times) in [("one connected", opened), ("one has its 1 MiB", fetched)] {
            let base = (name != base).then(|| format!("{base}, {what}"));
            let row = self.row(&format!("{name}, {what}"), base.as_deref());
            row.values.extend(times.each.iter().map(|time| time * 1e3));
        }
        let base = (name != base).then(|| format!("{base}, all have 1 MiB"));
        let row = self.row(&format!("{name}, all have 1 MiB"), base.as_deref());
        row.values.push(fetched.all * 1e3);
    }

    fn row(&mut self, name: &str, base: Option<&str>) -> &mut Row {
        let known = self.0.iter().position(|row| row.name == name);
        let index = known.unwrap_or_else(|| {
            self.0.push(Row {
                name: name.to_owned(),
                base: base.map(str::to_owned),
                values: Vec::new(),
                costs: Vec::new(),
            });
            self.0.len() - 1
        });
        &mut self.0[index]
    }

    /// How many times as long as its base a row takes, by the medians.
    fn ratio(&self, row: &Row) -> Option<f64> {
        let base = self
            .0
            .iter()
            .find(|base| Some(&base.name) == row.base.as_ref())?;
        Some(quantile(&row.values, 0.5) / quantile(&base.values, 0.5))
    }
}

/// The value below which `part` of the values lie.
fn quantile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a few hundred samples"
    )]
    let index = (values.len().saturating_sub(1) as f64 * part).round() as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}

/// Prints the tables and writes them to `target/bench`.
pub(crate) fn report(samples: &Samples, memory: &[(String, f64)]) -> anyhow::Result<()> {
    let mut table = format!(
        "| what | samples | p50 ms | p95 ms | times direct | within {WANTED} | daemon's CPU ms |\n\
         |---|---|---|---|---|---|---|\n"
    );
    let mut rows = Vec::new();
    for row in &samples.0 {
        let (name, count) = (&row.name, row.values.len());
        let (median, p95) = (quantile(&row.values, 0.5), quantile(&row.values, 0.95));
        let ratio = samples.ratio(row);
        let (times, within) = match ratio {
            Some(ratio) if ratio <= WANTED => (format!("{ratio:.2}"), "yes"),
            Some(ratio) => (format!("{ratio:.2}"), "no"),
            None => (String::new(), ""),
        };
        #[allow(clippy::cast_precision_loss, reason = "a few samples")]
        let cost =
            (!row.costs.is_empty()).then(|| row.costs.iter().sum::<f64>() / row.costs.len() as f64);
        let cpu = cost.map(|cost| format!("{cost:.0}")).unwrap_or_default();
        table += &format!(
            "| {name} | {count} | {median:.1} | {p95:.1} | {times} | {within} | {cpu} |\n"
        );
        rows.push(json!({
            "name": name,
            "samples": count,
            "p50_ms": median,
            "p95_ms": p95,
            "times_direct": ratio,
            "within": ratio.map(|ratio| ratio <= WANTED),
            "daemon_cpu_ms": cost,
        }));
    }
    table += "\n| daemon's memory, 200 connections at once | RSS MiB |\n|---|---|\n";
    for (name, mib) in memory {
        table += &format!("| {name} | {mib:.1} |\n");
    }
    table += &format!("\n{}", legend());
    println!("{table}");
    let memory: Vec<Value> = memory
        .iter()
        .map(|(name, mib)| json!({ "name": name, "mib": mib }))
        .collect();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join("egress.md"), table)?;
    let all = json!({ "wanted": WANTED, "rows": rows, "memory": memory });
    let text = serde_json::to_string_pretty(&all)?;
    std::fs::write(directory.join("egress.json"), text + "\n")?;
    Ok(())
}

fn legend() -> String {
    let (connections, bytes) = (crowd::CONNECTIONS, crowd::BYTES >> 20);
    format!(
        "* loopback: origin, proxy and client share this machine's processors and nothing else \
         limits them, so every byte that is moved once more shows.\n\
         * 1 Gbit/s: the origin waits 20 ms before each answer and sends at 1 Gbit/s a connection, \
         as a well connected host some way off does.\n\
         * page: nothing cached, no connection open, to the load event.\n\
         * the session's own: inside the sandbox with its limits; the other rows are the same \
         programs outside of it.\n\
         * {connections} at once: over loopback, {bytes} MiB each; every one must succeed.\n"
    )
}
