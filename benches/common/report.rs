//! What a benchmark has found: tables for people, the same for programs, and its aims with whether they
//! are met. Whoever publishes also writes what all benchmarks say together, `aims.md` and `overview.svg`,
//! from the results that lie in `target/bench`.

use std::fmt::Write as _;
use std::process::Command;

use serde_json::{Map, Value, json};

use super::plot;
use super::samples::{self, Samples};

/// What a measured value is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
    Under(f64),
}

impl Limit {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
            Self::Under(limit) => value < limit,
        }
    }

    fn words(self, unit: &str) -> String {
        let (word, limit) = match self {
            Self::AtMost(limit) => ("at most", limit),
            Self::AtLeast(limit) => ("at least", limit),
            Self::Under(limit) => ("under", limit),
        };
        format!("{word} {}", with_unit(&limit.to_string(), unit))
    }
}

/// One benchmark's results.
#[derive(Debug)]
pub(crate) struct Report {
    name: &'static str,
    text: String,
    all: Map<String, Value>,
    aims: Vec<Value>,
    bars: Vec<Value>,
}

impl Report {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            text: String::new(),
            all: Map::new(),
            aims: Vec::new(),
            bars: Vec::new(),
        }
    }

    /// A table, and its rows for programs.
    pub(crate) fn table(&mut self, key: &str, header: &[&str], rows: &[Vec<String>]) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text += &table(header, rows);
        let named = rows.iter().map(|row| {
            let cells = header.iter().zip(row);
            let cells = cells.map(|(name, cell)| ((*name).to_owned(), json!(cell)));
            Value::Object(cells.collect())
        });
        self.all.insert(key.to_owned(), named.collect());
    }

    /// A sentence below what came so far.
    pub(crate) fn note(&mut self, text: &str) {
        self.text += &format!("\n{text}\n");
    }

    /// A table of times. With `base` each is also said as a multiple of that one's median.
    pub(crate) fn times(&mut self, samples: &Samples, base: Option<&str>) {
        let mut header = vec!["what", "samples", "p50 ms", "p95 ms"];
        let heading = base.map(|base| format!("p50, times that of “{base}”"));
        header.extend(heading.as_deref());
        let base = base.map(|base| samples.percentile(base, 50));
        let (mut rows, mut times) = (Vec::new(), Vec::new());
        for (name, count) in samples.counts() {
            let (median, p95) = (samples.percentile(name, 50), samples.percentile(name, 95));
            let ratio = base.map(|base| median / base);
            let shown = ratio.map(shown);
            let cells = [name.to_owned(), count.to_string()];
            let values = [format!("{median:.2}"), format!("{p95:.2}")];
            rows.push(cells.into_iter().chain(values).chain(shown).collect());
            times.push(json!({
                "name": name, "samples": count, "p50_ms": median, "p95_ms": p95,
                "times_base": ratio,
            }));
        }
        self.table("rows", &header, &rows);
        self.set("rows", json!(times));
    }

    /// Something for programs only.
    pub(crate) fn set(&mut self, key: &str, value: Value) {
        self.all.insert(key.to_owned(), value);
    }

    /// What a value is to be, and is.
    pub(crate) fn aim(&mut self, what: &str, measured: f64, unit: &str, limit: Limit) {
        let is_measured = measured.is_finite();
        self.aims.push(json!({
            "what": what,
            "value": measured,
            "measured": match is_measured {
                true => with_unit(&shown(measured), unit),
                false => "not measured".to_owned(),
            },
            "aim": limit.words(unit),
            "met": is_measured.then(|| limit.is_met_by(measured)),
        }));
    }

    /// A bar of the overview: milliseconds, and whether they are Pagebox's.
    pub(crate) fn bar(&mut self, name: &str, milliseconds: f64, is_ours: bool) {
        if milliseconds.is_finite() {
            self.bars
                .push(json!({ "name": name, "ms": milliseconds, "ours": is_ours }));
        }
    }

    /// Prints everything and writes it to `target/bench`.
    pub(crate) fn publish(mut self) -> anyhow::Result<()> {
        if !self.aims.is_empty() {
            let rows: Vec<_> = self.aims.iter().map(aim_cells).collect();
            self.text += "\n";
            self.text += &table(&["aim", "measured", "wanted", "met"], &rows);
        }
        self.set("aims", json!(self.aims));
        self.set("bars", json!(self.bars));
        let machine = machine();
        self.set("machine", json!(machine));
        samples::publish(self.name, &self.text, &Value::Object(self.all))?;
        together(&machine)
    }
}

/// What all benchmarks say whose results are there.
fn together(machine: &[[String; 2]]) -> anyhow::Result<()> {
    let directory = samples::directory();
    let mut files: Vec<_> = std::fs::read_dir(&directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|kind| kind == "json"))
        .collect();
    files.sort();
    let (mut aims, mut bars) = (Vec::new(), Vec::new());
    for file in files {
        let all: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        for aim in all["aims"].as_array().into_iter().flatten() {
            let mut cells = aim_cells(aim);
            cells.push(format!("`{name}`"));
            aims.push(cells);
        }
        for bar in all["bars"].as_array().into_iter().flatten() {
            bars.push(plot::Bar {
                name: text(bar, "name"),
                value: bar["ms"].as_f64().unwrap_or(f64::NAN),
                is_ours: bar["ours"] == true,
            });
        }
    }
    bars.sort_by(|one, other| one.value.total_cmp(&other.value));
    let header = ["aim", "measured", "wanted", "met", "benchmark"];
    std::fs::write(directory.join("aims.md"), table(&header, &aims))?;
    let rows: Vec<_> = machine.iter().map(|row| row.to_vec()).collect();
    let about = table(&["machine", ""], &rows);
    std::fs::write(directory.join("machine.md"), about)?;
    let drawn = plot::bars("Median times, milliseconds, logarithmic", &bars);
    Ok(std::fs::write(directory.join("overview.svg"), drawn)?)
}

fn aim_cells(aim: &Value) -> Vec<String> {
    let met = match aim["met"].as_bool() {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    };
    let mut cells: Vec<_> = ["what", "measured", "aim"].map(|key| text(aim, key)).into();
    cells.push(met.to_owned());
    cells
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = format!(
        "| {} |\n|{}\n",
        header.join(" | "),
        "---|".repeat(header.len())
    );
    for row in rows {
        let cells: Vec<_> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(table, "| {} |", cells.join(" | "));
    }
    table
}

/// A count has no unit.
fn with_unit(value: &str, unit: &str) -> String {
    format!("{value} {unit}").trim_end().to_owned()
}

/// As many digits as mean something.
pub(crate) fn shown(value: f64) -> String {
    match value.abs() {
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// What was measured on, and with.
fn machine() -> Vec<[String; 2]> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok();
        let output = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        output.unwrap_or_default().trim().to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let memory = memory.trim_end_matches(" kB").parse::<f64>();
    let memory = memory.map_or_else(
        |_| String::new(),
        |kib| format!("{:.1} GiB", kib / 1048576.0),
    );
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    [
        ("processor", field(&read("/proc/cpuinfo"), "model name")),
        ("cores", cores.to_string()),
        ("memory", memory),
        ("kernel", said("uname", &["-r"])),
        ("Chromium", said(super::rival::CHROMIUM, &["--version"])),
        ("node", said("node", &["--version"])),
        (
            "python",
            said(&super::rival::python().to_string_lossy(), &["--version"]),
        ),
        ("build", build.to_owned()),
        ("revision", said("git", &["rev-parse", "--short", "HEAD"])),
    ]
    .map(|(name, value)| [name.to_owned(), value])
    .into()
}
