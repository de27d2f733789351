//! Times sessions and executions against a plain node script that does the same: `make bench`.
//!
//! Each round runs, interleaved so that all see the same machine: the plain script
//! (`benches/plain.mjs`, process start to exit, against a Chromium that already runs), CreateSession
//! with its first node execution, and further node executions in that session. Prints a table and
//! writes `target/bench/execution.md` and `.json`.

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
#[path = "../tests/common/site.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod site;

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
    let daemon = daemon::Daemon::start_with(binary, "", &["--host-loopback", &port]);
    let client = client::Client::new(&daemon.url());

    // Page caches and lazily made parts are filled once, for both sides.
    plain.title()?;
    round(&client, &url, &mut Samples::default()).await?;

    let mut samples = Samples::default();
    for number in 1..=ROUNDS {
        samples.add(PLAIN, plain.title()?);
        round(&client, &url, &mut samples).await?;
        eprint!("\rround {number} of {ROUNDS}");
    }
    eprintln!();
    report(&samples)
}

/// One session: created, used, stopped.
async fn round(client: &client::Client, url: &str, samples: &mut Samples) -> anyhow::Result<()> {
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
            samples.add(CREATE, created);
            samples.add(FIRST, took);
            samples.add(BOTH, created + took);
        } else {
            samples.add(WARM, took);
        }
    }
    session.stop().await;
    Ok(())
}

/// Times by name, in the order they first came.
#[derive(Debug, Default)]
struct Samples(Vec<(&'static str, Vec<Duration>)>);

impl Samples {
    fn add(&mut self, name: &'static str, took: Duration) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, times)) => times.push(took),
            None => self.0.push((name, vec![took])),
        }
    }

    /// The value below which `part` of the samples lie, in milliseconds.
    fn quantile(&self, name: &str, part: f64) -> f64 {
        let Some((_, times)) = self.0.iter().find(|(known, _)| *known == name) else {
            return f64::NAN;
        };
        let mut times = times.clone();
        times.sort_unstable();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a few hundred samples"
        )]
        let index = ((times.len() - 1) as f64 * part).round() as usize;
        times[index].as_secs_f64() * 1000.0
    }
}

fn report(samples: &Samples) -> anyhow::Result<()> {
    let plain = samples.quantile(PLAIN, 0.5);
    let mut table = String::from(
        "| what | samples | p50 ms | p95 ms | plain node takes |\n|---|---|---|---|---|\n",
    );
    let mut rows = Vec::new();
    for (name, times) in &samples.0 {
        let (median, p95) = (samples.quantile(name, 0.5), samples.quantile(name, 0.95));
        let ratio = plain / median;
        let count = times.len();
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
    println!("{table}");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join("execution.md"), table)?;
    let text = serde_json::to_string_pretty(&json!({ "rounds": ROUNDS, "rows": rows }))?;
    std::fs::write(directory.join("execution.json"), text + "\n")?;
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
