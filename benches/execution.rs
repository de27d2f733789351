//! Times sessions and executions against a plain node script that does the same: `make bench`.
//!
//! Each round runs, interleaved so that all see the same machine: the plain script
//! (`benches/plain.mjs`, process start to exit, against a Chromium that already runs), CreateSession
//! with its first node execution, and further node executions in that session. Then it weighs idle
//! sessions, and the daemon before and after many. Prints tables and writes
//! `target/bench/execution.md` and `.json`.
//!
//! `BENCH_OTHER=/path/to/pagebox` (an earlier build beside its `runners/` and
//! `sandbox-images/`) takes part in every round: a change is measured on the same machine in the
//! same minutes.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use pagebox::grpc::v1::Language;
use serde_json::json;

#[path = "../tests/common/client.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod client;
#[path = "../tests/common/daemon.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod daemon;
#[path = "../tests/common/leaks.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod leaks;
#[path = "common/samples.rs"]
mod samples;
#[path = "../tests/common/site.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod site;

use samples::Samples;

const CHROMIUM: &str = "/usr/lib/chromium/chromium-headless-shell";
const ROUNDS: usize = 20;
/// Executions per round after the first; each is one sample.
const WARM_PER_ROUND: usize = 10;
const TITLE: &str = "Tidewater Almanac";
/// Times are compared with this one.
const PLAIN: &str = "plain node, connectOverCDP, page.title()";
const CREATE: &str = "CreateSession with a start url";
const FIRST: &str = "first node execution of a session";
const BOTH: &str = "CreateSession + first node execution";
const WARM: &str = "second and later node execution";
/// The warm executions must be this many times faster than the plain script.
const WANTED: f64 = 50.0;
/// Sessions that are open at once when they are weighed.
const IDLE: usize = 5;
/// Sessions made and stopped between weighing the daemon and weighing it again.
const CYCLES: usize = 50;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` starts this too, without the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("execution: measured by `cargo bench` only");
        return Ok(());
    }
    let site = site::Site::start().await?;
    let url = site.url("/");
    let plain = PlainChromium::start(&url)?;
    let port = site.port().to_string();
    let binary = Path::new(env!("CARGO_BIN_EXE_pagebox"));
    let start = |binary: &Path| daemon::Daemon::start_with(binary, "", &["--host-loopback", &port]);
    let daemon = start(binary);
    let other = std::env::var_os("BENCH_OTHER").map(|path| start(Path::new(&path)));
    let client = client::Client::new(&daemon.url());
    let other_client = other
        .as_ref()
        .map(|other| client::Client::new(&other.url()));

    // Page caches and lazily made parts are filled once, for all.
    plain.title()?;
    round(&client, &url, "", &mut Samples::default()).await?;
    let mut samples = Samples::default();
    for number in 1..=ROUNDS {
        samples.add(PLAIN, plain.title()?);
        round(&client, &url, "", &mut samples).await?;
        if let Some(client) = &other_client {
            round(client, &url, "other: ", &mut samples).await?;
        }
        eprint!("\rround {number} of {ROUNDS}");
    }
    eprintln!();
    drop(other);
    let weights = weigh(&daemon, &client, &url).await?;
    report(&samples, &weights)
}

/// Memory by what has it, in MiB.
async fn weigh(
    daemon: &daemon::Daemon,
    client: &client::Client,
    url: &str,
) -> anyhow::Result<Vec<(String, f64)>> {
    let mut weights = Vec::new();
    let resident = || {
        leaks::descendants(daemon.pid())
            .iter()
            .map(|process| process.pid)
            .chain([daemon.pid()])
            .map(|pid| kib(pid, "status", "VmRSS:"))
            .sum::<f64>()
    };
    weights.push(("daemon and spawner, RSS, no session".to_owned(), resident()));
    for _ in 0..CYCLES {
        client.open(url).await.stop().await;
    }
    let name = format!("the same after {CYCLES} more sessions");
    weights.push((name, resident()));

    let before = leaks::descendants(daemon.pid());
    let mut sessions = Vec::new();
    for _ in 0..IDLE {
        let session = client.open(url).await;
        session.good(Language::Node, "await page.title()").await;
        sessions.push(session);
    }
    // What starting leaves behind is collected by then.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut by_name = std::collections::BTreeMap::<&str, f64>::new();
    for process in leaks::descendants(daemon.pid()).difference(&before) {
        let kind = match process.name.as_str() {
            name if name.starts_with("chromium") => "browser",
            "node" | "MainThread" => "node runner",
            _ => "pid 1 of each sandbox",
        };
        *by_name.entry(kind).or_default() += kib(process.pid, "smaps_rollup", "Pss:");
    }
    #[allow(clippy::cast_precision_loss, reason = "a handful")]
    let count = sessions.len() as f64;
    for (kind, all) in by_name {
        let name = format!("one of {IDLE} idle sessions, PSS: {kind}");
        weights.push((name, all / count));
    }
    for session in sessions {
        session.stop().await;
    }
    Ok(weights)
}

/// A field of a file in `/proc/PID`, in MiB; zero when the process is gone.
fn kib(pid: u32, file: &str, field: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(field)?.split_whitespace().next())
        .and_then(|number| number.parse::<f64>().ok())
        .unwrap_or_default()
        / 1024.0
}

/// One session: created, used, stopped.
async fn round(
    client: &client::Client,
    url: &str,
    who: &str,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let session = client.open(url).await;
    let created = start.elapsed();
    let mut first = true;
    for _ in 0..=WARM_PER_ROUND {
        let begun = Instant::now();
        let reply = session.exec(Language::Node, "await page.title()").await;
        let took = begun.elapsed();
        ensure!(
            reply.result.as_deref() == Some(TITLE),
            "{}",
            client::describe(&reply)
        );
        if std::mem::take(&mut first) {
            samples.add(format!("{who}{CREATE}"), created);
            samples.add(format!("{who}{FIRST}"), took);
            samples.add(format!("{who}{BOTH}"), created + took);
        } else {
            samples.add(format!("{who}{WARM}"), took);
        }
    }
    session.stop().await;
    Ok(())
}

fn report(samples: &Samples, weights: &[(String, f64)]) -> anyhow::Result<()> {
    let plain = samples.percentile(PLAIN, 50);
    let mut table = String::from(
        "| what | samples | p50 ms | p95 ms | plain node takes |\n|---|---|---|---|---|\n",
    );
    let mut rows = Vec::new();
    for (name, count) in samples.counts() {
        let (median, p95) = (samples.percentile(name, 50), samples.percentile(name, 95));
        let ratio = plain / median;
        table +=
            &format!("| {name} | {count} | {median:.2} | {p95:.2} | {ratio:.1} times that |\n");
        rows.push(json!({
            "name": name,
            "samples": count,
            "p50_ms": median,
            "p95_ms": p95,
            "plain_over_this": ratio,
        }));
    }
    table += "\n| memory | MiB |\n|---|---|\n";
    for (name, mib) in weights {
        table += &format!("| {name} | {mib:.1} |\n");
    }
    let memory: Vec<_> = weights
        .iter()
        .map(|(name, mib)| json!({ "name": name, "mib": mib }))
        .collect();
    let all = json!({ "rounds": ROUNDS, "rows": rows, "memory": memory });
    samples::publish("execution", &table, &all)?;
    let ratio = plain / samples.percentile(WARM, 50);
    ensure!(
        ratio >= WANTED,
        "a warm execution is {ratio:.1} times faster than plain node, not {WANTED}"
    );
    Ok(())
}

/// A Chromium with a debugging port, for the plain script only: pagebox itself never opens one.
#[derive(Debug)]
struct PlainChromium {
    child: Child,
    endpoint: String,
    modules: PathBuf,
    _profile: tempfile::TempDir,
}

impl PlainChromium {
    fn start(url: &str) -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt;

        let profile = tempfile::tempdir()?;
        std::fs::set_permissions(profile.path(), std::fs::Permissions::from_mode(0o777))?;
        let own_uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?);
        // Chromium refuses to run as root with its sandbox on; off would be another program.
        let mut command = if own_uid == 0 {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", CHROMIUM]);
            command
        } else {
            Command::new(CHROMIUM)
        };
        let mut child = command
            .args(["--remote-debugging-port=0", "--disable-gpu"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start Chromium")?;
        let stderr = BufReader::new(child.stderr.take().context("piped")?);
        let mut lines = stderr.lines().map_while(Result::ok);
        let endpoint = lines.find_map(|line| {
            line.strip_prefix("DevTools listening on ")
                .map(str::to_owned)
        });
        let Some(endpoint) = endpoint else {
            bail!(
                "Chromium ended without a debugging port: {:?}",
                child.wait()
            );
        };
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self {
            child,
            endpoint,
            modules: Path::new(env!("CARGO_MANIFEST_DIR")).join("runners/node"),
            _profile: profile,
        })
    }

    /// Runs the plain script once, process start to exit.
    fn title(&self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let output = Command::new("node")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/plain.mjs"))
            .arg(&self.modules)
            .arg(&self.endpoint)
            .output()
            .context("cannot start node")?;
        let took = start.elapsed();
        let title = String::from_utf8_lossy(&output.stdout);
        ensure!(
            title.trim() == TITLE,
            "the plain script said {title:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(took)
    }
}

impl Drop for PlainChromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
