//! Times how long it takes to have a browser for a job, against launching one: `make bench`.
//!
//! Each round has every contender once, each time from another one on: CreateSession without and from
//! the pool, a Chromium that a running Playwright script launches, and one that Playwright's run-server
//! launches for a connection. A job is the browser, a page loaded, its title, and the end of all of it.
//! Writes `target/bench/start.md` and `.json`.
//!
//! `ROUNDS=N` (20). `BENCH_OTHER=/path/to/pagebox` (an earlier build beside its `runners/` and
//! `sandbox-images/`) takes part in every round.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pagebox::grpc::v1::Language;
use serde_json::{Value, json};

#[path = "common/all.rs"]
mod common;

use common::client::{Client, OpenSession};
use common::daemon::Daemon;
use common::ground::TITLE;
use common::report::{Limit, Report};
use common::rival::{Peer, RunServer};
use common::samples::Samples;
use common::{ground, rival, samples, site};

/// Sessions kept ready where the pool is measured.
const POOL: usize = 2;
/// How long the pool has to be full again.
const REFILL: Duration = Duration::from_secs(3);

const COLD: &str = "CreateSession, no pool";
const FIRST: &str = "its first node execution, page.title()";
const COLD_JOB: &str = "job: CreateSession with a start url, page.title(), StopSession";
const WARM: &str = "CreateSession from the pool";
const WARM_FIRST: &str = "its first node execution then";
const WARM_JOB: &str = "the same job, from the pool";
const EMPTY: &str = "CreateSession, pool was empty";
const LAUNCH: &str = "Playwright, launch()";
const LAUNCH_PAGE: &str = "Playwright, launch() and newPage()";
const LAUNCH_JOB: &str = "job: Playwright, launch(), goto(), title(), close()";
const SERVER: &str = "run-server, connect() and newPage()";
const SERVER_JOB: &str = "job: run-server, connect(), goto(), title(), close()";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` starts this too, without the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("start: measured by `cargo bench` only");
        return Ok(());
    }
    let rounds = samples::number("ROUNDS", 20);
    let site = site::Site::start().await?;
    let url = site.url("/");
    let binary = Path::new(env!("CARGO_BIN_EXE_pagebox"));
    let cold = ground::start("");
    let pool = Daemon::start(binary, &format!("[pool]\nsize = {POOL}\n"));
    let other = std::env::var_os("BENCH_OTHER");
    let other = other.map(|path| Daemon::start(Path::new(&path), ""));
    let server = RunServer::start()?;
    let served = [server.endpoint.as_str(), rival::CHROMIUM, &url];

    let client = Client::new(&cold.url());
    let mut contenders = vec![
        Contender::Cold(client, ""),
        Contender::Launched(Peer::start(rival::script(
            "launched.mjs",
            &[rival::CHROMIUM, &url],
        ))?),
        Contender::Served(Peer::start(rival::script("served.mjs", &served))?),
        Contender::Pool(Client::new(&pool.url()), pool.url()),
    ];
    contenders.extend(other.as_ref().map(|daemon| {
        let client = Client::new(&daemon.url());
        Contender::Cold(client, "other: ")
    }));
    let mut samples = Samples::default();
    for number in 0..=rounds {
        let mut round = Samples::default();
        for place in 0..contenders.len() {
            // The first round that counts has them in their order.
            let turn = (place + number + contenders.len() - 1) % contenders.len();
            contenders[turn].run(&url, &mut round).await?;
        }
        // Page caches and compilers are filled by the first.
        if number > 0 {
            samples.extend(round);
        }
        eprint!("\rround {number} of {rounds}");
    }
    eprintln!();
    report(&samples, rounds)
}

/// Who has a browser for a job.
enum Contender {
    /// With what its rows begin with.
    Cold(Client, &'static str),
    /// With the daemon's URL.
    Pool(Client, String),
    Launched(Peer),
    Served(Peer),
}

impl Contender {
    async fn run(&mut self, url: &str, samples: &mut Samples) -> anyhow::Result<()> {
        match self {
            Self::Cold(client, who) => {
                let (session, created) = create(client, "").await?;
                samples.add(format!("{who}{COLD}"), created);
                samples.add(format!("{who}{FIRST}"), first(&session).await?);
                session.stop().await;
                samples.add(format!("{who}{COLD_JOB}"), whole(client, url).await?);
            }
            Self::Pool(client, daemon) => {
                tokio::time::sleep(REFILL).await;
                let (session, created) = create(client, "").await?;
                if is_warm(daemon, &session.id)? {
                    samples.add(WARM, created);
                    samples.add(WARM_FIRST, first(&session).await?);
                } else {
                    samples.add(EMPTY, created);
                }
                session.stop().await;
                tokio::time::sleep(REFILL).await;
                samples.add(WARM_JOB, whole(client, url).await?);
                // What takes their place is started before the next one is measured.
                tokio::time::sleep(REFILL).await;
            }
            Self::Launched(peer) => {
                let [launched, opened, all] = job(peer)?;
                samples.add(LAUNCH, launched);
                samples.add(LAUNCH_PAGE, opened);
                samples.add(LAUNCH_JOB, all);
            }
            Self::Served(peer) => {
                let [_, opened, all] = job(peer)?;
                samples.add(SERVER, opened);
                samples.add(SERVER_JOB, all);
            }
        }
        Ok(())
    }
}

async fn create(client: &Client, url: &str) -> anyhow::Result<(OpenSession, Duration)> {
    let begun = Instant::now();
    let session = ground::open(client, url).await?;
    Ok((session, begun.elapsed()))
}

/// A session for one page's title.
async fn whole(client: &Client, url: &str) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let (session, _) = create(client, url).await?;
    ground::title(&session, Language::Node).await?;
    session.stop().await;
    Ok(begun.elapsed())
}

async fn first(session: &OpenSession) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    session.good(Language::Node, ground::CODE).await;
    Ok(begun.elapsed())
}

/// Whether a session came from the pool: read from the reply as JSON, for every field it may have.
fn is_warm(daemon: &str, id: &str) -> anyhow::Result<bool> {
    let output = Command::new(env!("CARGO_BIN_EXE_pagebox"))
        .args(["session", "--server", daemon, "show", id, "--json"])
        .output()?;
    let shown: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        let why = String::from_utf8_lossy(&output.stderr);
        format!("pagebox session show: {why}")
    })?;
    Ok(shown["session"]["warm"] == true)
}

/// Until there is a browser, until it has a page, and until the job is done.
fn job(peer: &mut Peer) -> anyhow::Result<[Duration; 3]> {
    let answer = peer.ask("job")?;
    ensure!(answer.said["title"] == TITLE, "{answer:?}");
    let part = |name: &str| {
        let milliseconds = answer.said[name].as_f64().context("a time")?;
        anyhow::Ok(Duration::from_secs_f64(milliseconds / 1000.0))
    };
    Ok([part("launched")?, part("opened")?, answer.took])
}

fn report(samples: &Samples, rounds: usize) -> anyhow::Result<()> {
    let median = |name: &str| samples.percentile(name, 50);
    let mut report = Report::new("start");
    report.times(samples, Some(LAUNCH));
    report.set("rounds", json!(rounds));
    let warm = median(WARM);
    report.aim(
        "CreateSession from the pool, faster than launch()",
        median(LAUNCH) / warm,
        "times",
        Limit::AtLeast(20.0),
    );
    report.aim(
        "CreateSession from the pool",
        warm,
        "ms",
        Limit::Under(10.0),
    );
    for (what, ours, theirs) in [
        (
            "CreateSession without a pool, times launch() and newPage()",
            COLD,
            LAUNCH_PAGE,
        ),
        (
            "a job without a pool, times one with launch()",
            COLD_JOB,
            LAUNCH_JOB,
        ),
    ] {
        let ratio = median(ours) / median(theirs);
        report.aim(what, ratio, "times", Limit::AtMost(1.5));
    }
    for name in [COLD, WARM, LAUNCH, LAUNCH_PAGE, SERVER] {
        report.bar(name, median(name), [COLD, WARM].contains(&name));
    }
    report.publish()
}
