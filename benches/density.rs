//! Weighs sessions against a blank headless shell with the script that launched it, adds sessions until
//! there is no room, and shows what a caller sees at each limit: `make bench`.
//!
//! Weights are PSS, alone and at eight, sessions and shells in turn, medians of `ROUNDS=N` (3). Then
//! sessions are added up to `SESSIONS=N` (48), or until the host has little memory left. Writes
//! `target/bench/density.md` and `.json`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pagebox::grpc::v1::Language;
use serde_json::json;

#[path = "common/all.rs"]
mod common;
#[path = "density/limits.rs"]
mod limits;

use common::client::{Client, OpenSession};
use common::daemon::Daemon;
use common::report::{Limit, Report, shown};
use common::rival::Peer;
use common::samples::Samples;
use common::{ground, leaks, rival, samples, weight};

/// How many stand beside one another when they are weighed.
const COUNTS: [usize; 2] = [1, 8];
/// What starting leaves behind is collected by then.
const SETTLE: Duration = Duration::from_secs(3);
/// After which it is idle: node gives memory back after 10 s.
const IDLE: Duration = Duration::from_secs(15);
/// Calls that are timed at each number of sessions.
const CALLS: usize = 30;
/// No session more when the host has less than this left, in MiB.
const SPARE: f64 = 2048.0;
const SESSION: &str = "a session with node ready";
const SHELL: &str = "a blank shell with its script";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` starts this too, without the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("density: measured by `cargo bench` only");
        return Ok(());
    }
    let mut report = Report::new("density");
    weigh(&mut report).await?;
    grow(&mut report).await?;
    limits::all(&mut report).await?;
    report.publish()
}

/// MiB by what has it, of each time it was weighed.
#[derive(Debug, Default)]
struct Scale(BTreeMap<(usize, &'static str, String), Vec<f64>>);

impl Scale {
    fn add(&mut self, count: usize, who: &'static str, part: &str, mib: f64) {
        let weights = self.0.entry((count, who, part.to_owned())).or_default();
        #[allow(clippy::cast_precision_loss, reason = "a handful")]
        weights.push(mib / count as f64);
    }

    fn median(&self, count: usize, who: &'static str, part: &str) -> f64 {
        let weights = self.0.get(&(count, who, part.to_owned()));
        weights.map_or(f64::NAN, |weights| median(weights))
    }
}

fn place(count: usize) -> String {
    match count {
        1 => "alone".to_owned(),
        _ => format!("one of {count}"),
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

async fn weigh(report: &mut Report) -> anyhow::Result<()> {
    let rounds = samples::number("ROUNDS", 3);
    let mut scale = Scale::default();
    for round in 1..=rounds {
        for count in COUNTS {
            eprint!("\rweighed {round} of {rounds}, {count} at once ");
            sessions(&mut scale, count).await?;
            shells(&mut scale, count).await?;
        }
    }
    eprintln!();
    let rows: Vec<Vec<String>> = scale
        .0
        .iter()
        .map(|((count, who, part), weights)| {
            vec![
                format!("{who}, {}", place(*count)),
                part.clone(),
                format!("{:.1}", median(weights)),
            ]
        })
        .collect();
    report.table("memory", &["what", "part", "PSS, MiB"], &rows);
    for count in COUNTS {
        let ours = scale.median(count, SESSION, ALL);
        let at = place(count);
        let what = format!("idle session, PSS, times a blank shell and its script, {at}");
        let ratio = ours / scale.median(count, SHELL, ALL);
        report.aim(&what, ratio, "times", Limit::AtMost(0.95));
    }
    Ok(())
}

const ALL: &str = "in all";

/// Weighs so many sessions, with what the daemon needs for them.
async fn sessions(scale: &mut Scale, count: usize) -> anyhow::Result<()> {
    let daemon = ground::start("");
    let client = Client::new(&daemon.url());
    // What the daemon makes at the first use of all is no session's.
    let first = ground::open(&client, "").await?;
    first.good(Language::Node, ground::CODE).await;
    first.stop().await;
    tokio::time::sleep(SETTLE).await;
    let idle = leaks::descendants(daemon.pid());
    let before = weight::of_daemon(daemon.pid(), &idle);
    let mut open = Vec::new();
    for _ in 0..count {
        let session = ground::open(&client, "").await?;
        session.good(Language::Node, ground::CODE).await;
        open.push(session);
    }
    tokio::time::sleep(SETTLE).await;
    let theirs = leaks::descendants(daemon.pid());
    let theirs = theirs.difference(&idle).cloned().collect();
    let mib = weight::by_kind(&theirs).values().sum();
    scale.add(count, "a session that ran code a moment ago", ALL, mib);
    tokio::time::sleep(IDLE).await;
    let mut kinds = weight::by_kind(&theirs);
    let daemons = weight::of_daemon(daemon.pid(), &idle) - before;
    kinds.insert("more of the daemon", daemons.max(0.0));
    scale.add(count, SESSION, ALL, kinds.values().sum());
    for (kind, mib) in kinds {
        scale.add(count, SESSION, kind, mib);
    }
    if count == 1 {
        scale.add(1, "the daemon with its spawner, no session", ALL, before);
        open[0].good(Language::Python, ground::CODE).await;
        open[0].good(Language::Bash, ground::COMMAND).await;
        tokio::time::sleep(IDLE).await;
        let all = leaks::descendants(daemon.pid());
        let all = all.difference(&idle).cloned().collect();
        let mib = weight::by_kind(&all).values().sum();
        scale.add(1, "a session with node, python and bash ready", ALL, mib);
    }
    for session in open {
        session.stop().await;
    }
    Ok(())
}

/// Weighs so many shells, each with the script that launched it.
async fn shells(scale: &mut Scale, count: usize) -> anyhow::Result<()> {
    let mut open = Vec::new();
    for _ in 0..count {
        let mut peer = Peer::start(rival::script("blank.mjs", &[rival::CHROMIUM]))?;
        ensure!(peer.ask("title")?.said == "", "a blank page has no title");
        open.push(peer);
    }
    tokio::time::sleep(SETTLE + IDLE).await;
    let (mut browsers, mut scripts) = (0.0, 0.0);
    for peer in &open {
        browsers += leaks::descendants(peer.pid())
            .iter()
            .map(|process| weight::pss(process.pid))
            .sum::<f64>();
        scripts += weight::pss(peer.pid());
    }
    scale.add(count, SHELL, "browser", browsers);
    scale.add(count, SHELL, "node", scripts);
    scale.add(count, SHELL, ALL, browsers + scripts);
    Ok(())
}

/// Adds idle sessions, and times the calls of one among them.
async fn grow(report: &mut Report) -> anyhow::Result<()> {
    let most = samples::number("SESSIONS", 48);
    let mut daemon = ground::start(&format!("[session]\nmax_sessions = {}\n", most + 1));
    let client = Client::new(&daemon.url());
    let mut samples = Samples::default();
    let (mut open, mut rows): (Vec<OpenSession>, Vec<Vec<String>>) = (Vec::new(), Vec::new());
    let idle = leaks::descendants(daemon.pid());
    let before = weight::available();
    let mut next = 1;
    let ended = loop {
        while open.len() < next.min(most) && weight::available() > SPARE {
            let begun = Instant::now();
            let session = ground::open(&client, "").await?;
            let name = format!("CreateSession up to {next}");
            samples.add(name, begun.elapsed());
            session.good(Language::Node, ground::CODE).await;
            open.push(session);
            eprint!("\r{} sessions ", open.len());
        }
        tokio::time::sleep(SETTLE).await;
        let name = format!("Execute among {}", open.len());
        let session = open.first().context("room for one session")?;
        for _ in 0..CALLS {
            let begun = Instant::now();
            session.good(Language::Node, ground::CODE).await;
            samples.add(&name, begun.elapsed());
        }
        let created = format!("CreateSession up to {next}");
        let theirs = leaks::descendants(daemon.pid());
        let theirs = theirs.difference(&idle).cloned().collect();
        let shares: f64 = weight::by_kind(&theirs).values().sum();
        #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
        let each = |all: f64| all / open.len() as f64;
        rows.push(vec![
            open.len().to_string(),
            shown(samples.percentile(&created, 50)),
            shown(samples.percentile(&name, 50)),
            shown(samples.percentile(&name, 95)),
            shown(each(shares)),
            shown(each(before - weight::available())),
            shown(weight::pss(daemon.pid())),
        ]);
        if weight::available() <= SPARE {
            break "the host had less than 2 GiB left";
        }
        if open.len() >= most {
            break "that many were asked for";
        }
        next *= 2;
    };
    eprintln!();
    ensure!(daemon.is_running(), "the daemon has gone");
    let header = [
        "idle sessions",
        "CreateSession p50 ms",
        "page.title() p50 ms",
        "p95 ms",
        "PSS a session, MiB",
        "less memory available, a session, MiB",
        "daemon PSS, MiB",
    ];
    report.table("growth", &header, &rows);
    report.note(&format!("{} sessions, no more: {ended}.", open.len()));
    report.set(
        "growth_end",
        json!({ "sessions": open.len(), "why": ended }),
    );
    stop(open).await;
    Ok(())
}

async fn stop(sessions: Vec<OpenSession>) {
    futures_util::future::join_all(sessions.iter().map(OpenSession::stop)).await;
}

/// Whether a daemon that was at a limit still serves somebody else.
async fn serves(daemon: &mut Daemon, session: &OpenSession) -> anyhow::Result<Duration> {
    ensure!(daemon.is_running(), "the daemon has gone");
    let begun = Instant::now();
    session.good(Language::Node, ground::CODE).await;
    Ok(begun.elapsed())
}
