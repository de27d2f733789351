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
    /// Whether it is to be within [`WANTED`].
    has_aim: bool,
    values: Vec<f64>,
    /// Processor time of the daemon for each value, in milliseconds.
    costs: Vec<f64>,
}

/// Many connections at once, one way.
#[derive(Debug)]
struct Crowd {
    name: String,
    /// All bytes of all connections, each round.
    mib_per_second: Vec<f64>,
    /// Resident memory of the daemon in the first round, when its allocator has nothing to spare:
    /// before, with the connections open, and when each has fetched. In KiB.
    resident: Option<[u64; 3]>,
}

/// Rows in the order they first came.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    rows: Vec<Row>,
    crowds: Vec<Crowd>,
}

impl Samples {
    /// A time of the direct way.
    pub(crate) fn base(&mut self, name: &str, value: f64) {
        self.row(name, None).values.push(value);
    }

    /// A time of another way, which should be close to the row `base`.
    pub(crate) fn add(&mut self, name: &str, base: &str, value: f64) {
        let row = self.row(name, Some(base));
        row.has_aim = true;
        row.values.push(value);
    }

    /// A time that has other reasons too to differ from the row `base`.
    pub(crate) fn add_beside(&mut self, name: &str, base: &str, value: f64) {
        self.row(name, Some(base)).values.push(value);
    }

    /// What a value of this row cost the daemon.
    pub(crate) fn add_cost(&mut self, name: &str, value: f64) {
        self.row(name, None).costs.push(value);
    }

    /// A round of many connections at once; `resident` is the daemon's memory, see [`Crowd`].
    pub(crate) fn crowd(
        &mut self,
        name: &str,
        opened: &Times,
        fetched: &Times,
        resident: Option<[u64; 3]>,
    ) {
        let direct = crowd::DIRECT;
        for (what, times) in [("one connected", opened), ("one has its 1 MiB", fetched)] {
            let base = (name != direct).then(|| format!("{direct}, {what}"));
            let row = self.row(&format!("{name}, {what}"), base.as_deref());
            row.values.extend(times.each.iter().map(|time| time * 1e3));
        }
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
        let mib = ((crowd::CONNECTIONS * crowd::BYTES) >> 20) as f64;
        match self.crowds.iter_mut().find(|crowd| crowd.name == name) {
            Some(crowd) => crowd.mib_per_second.push(mib / fetched.all),
            None => self.crowds.push(Crowd {
                name: name.to_owned(),
                mib_per_second: vec![mib / fetched.all],
                resident,
            }),
        }
    }

    fn row(&mut self, name: &str, base: Option<&str>) -> &mut Row {
        let known = self.rows.iter().position(|row| row.name == name);
        let index = known.unwrap_or_else(|| {
            self.rows.push(Row {
                name: name.to_owned(),
                base: base.map(str::to_owned),
                has_aim: false,
                values: Vec::new(),
                costs: Vec::new(),
            });
            self.rows.len() - 1
        });
        &mut self.rows[index]
    }

    /// How many times as long as its base a row takes, by the medians.
    fn ratio(&self, row: &Row) -> Option<f64> {
        let base = self
            .rows
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
pub(crate) fn report(samples: &Samples) -> anyhow::Result<()> {
    let (times, rows) = times(samples);
    let (together, crowds) = together(samples);
    let text = format!("{times}\n{together}\n{}", legend());
    println!("{text}");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join("egress.md"), text)?;
    let all = json!({ "wanted": WANTED, "rows": rows, "crowds": crowds });
    let text = serde_json::to_string_pretty(&all)?;
    std::fs::write(directory.join("egress.json"), text + "\n")?;
    Ok(())
}

fn times(samples: &Samples) -> (String, Vec<Value>) {
    let mut table = format!(
        "| what | samples | p50 ms | p95 ms | times direct | within {WANTED} | daemon's CPU ms |\n\
         |---|---|---|---|---|---|---|\n"
    );
    let mut rows = Vec::new();
    for row in &samples.rows {
        let (name, count) = (&row.name, row.values.len());
        let (median, p95) = (quantile(&row.values, 0.5), quantile(&row.values, 0.95));
        let ratio = samples.ratio(row);
        let is_within = ratio.filter(|_| row.has_aim).map(|ratio| ratio <= WANTED);
        let within = match is_within {
            Some(true) => "yes",
            Some(false) => "no",
            None => "",
        };
        let times = ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
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
            "within": is_within,
            "daemon_cpu_ms": cost,
        }));
    }
    (table, rows)
}

fn together(samples: &Samples) -> (String, Vec<Value>) {
    let mut table = String::from(
        "| together | MiB/s | daemon's RSS before, MiB | KiB more a connection, open | when it has \
         its 1 MiB |\n|---|---|---|---|---|\n",
    );
    let mut crowds = Vec::new();
    for crowd in &samples.crowds {
        let (name, speed) = (&crowd.name, quantile(&crowd.mib_per_second, 0.5));
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let weights = crowd.resident.map(|all| {
            let [before, open, fetched] = all.map(|kib| kib as f64);
            let each = |now: f64| (now - before) / crowd::CONNECTIONS as f64;
            (before / 1024.0, each(open), each(fetched))
        });
        let cells = weights
            .map(|(before, open, fetched)| format!("{before:.1} | {open:.1} | {fetched:.1}"));
        let cells = cells.unwrap_or_else(|| " | | ".to_owned());
        table += &format!("| {name} | {speed:.0} | {cells} |\n");
        crowds.push(json!({
            "name": name,
            "mib_per_second": speed,
            "daemon_mib_before": weights.map(|weights| weights.0),
            "kib_per_open_connection": weights.map(|weights| weights.1),
            "kib_per_used_connection": weights.map(|weights| weights.2),
        }));
    }
    (table, crowds)
}

fn legend() -> String {
    let (connections, mib) = (crowd::CONNECTIONS, crowd::BYTES >> 20);
    format!(
        "* loopback: origin, proxy and client share this machine's processors and nothing else \
         limits them, so every byte that is moved once more shows.\n\
         * 1 Gbit/s: the origin waits 20 ms before each answer and sends at 1 Gbit/s a connection, \
         as a well connected host some way off does.\n\
         * page: nothing cached, no connection open, to the load event.\n\
         * the session's own: inside the sandbox with its limits, the page driven by Playwright, \
         which is told of every request; the other rows are the same programs without either.\n\
         * {connections} at once: over loopback, {mib} MiB each, and every one has succeeded. \
         Connected means through to the origin for CONNECT, to the proxy for the absolute form.\n"
    )
}
