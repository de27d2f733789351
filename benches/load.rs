//! Times calls while sessions are busy: `make bench`.
//!
//! Every busy session asks its page for the title once a second, each at its own time of the second, for
//! `LOAD_SECONDS=N` (20). Sessions are added from row to row, and some rows have idle ones beside them. What a
//! call takes counts from the moment it was due, so that a slow one makes the next one late and not fewer.
//! Writes `target/bench/load.md` and `.json`. `SESSIONS=N` (32) is the most busy ones.

use std::time::Duration;

use anyhow::Context as _;
use pagebox::grpc::v1::Language;
use serde_json::json;
use tokio::time::Instant;

#[path = "common/all.rs"]
mod common;

use common::client::{Client, OpenSession};
use common::report::{Limit, Report};
use common::samples::Samples;
use common::{ground, samples, site};

/// Busy sessions, and idle ones beside them.
const ROWS: [(usize, usize); 8] = [
    (1, 0),
    (2, 0),
    (4, 0),
    (8, 0),
    (1, 8),
    (4, 8),
    (16, 0),
    (32, 0),
];
const AIM: (usize, usize) = (8, 0);
const PERIOD: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` starts this too, without the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("load: measured by `cargo bench` only");
        return Ok(());
    }
    let seconds = samples::number("LOAD_SECONDS", 20);
    let most = samples::number("SESSIONS", 32);
    let site = site::Site::start().await?;
    let url = site.url("/");
    let daemon = ground::start(&format!("[session]\nmax_sessions = {}\n", most.max(16)));
    let client = Client::new(&daemon.url());
    let mut open: Vec<OpenSession> = Vec::new();
    let mut samples = Samples::default();
    for (busy, idle) in ROWS {
        if busy + idle > most {
            continue;
        }
        while open.len() > busy + idle {
            open.pop().context("there are some")?.stop().await;
        }
        while open.len() < busy + idle {
            let session = ground::open(&client, &url).await?;
            ground::title(&session, Language::Node).await?;
            open.push(session);
        }
        eprint!("\r{busy} busy, {idle} idle  ");
        tokio::time::sleep(PERIOD).await;
        let begun = Instant::now();
        let mut calling = tokio::task::JoinSet::new();
        for (place, session) in open.iter().take(busy).cloned().enumerate() {
            let offset = PERIOD * u32::try_from(place)? / u32::try_from(busy)?;
            calling.spawn(calls(session, begun + offset, seconds));
        }
        while let Some(times) = calling.join_next().await {
            for took in times?? {
                samples.add(name((busy, idle)), took);
            }
        }
    }
    eprintln!();
    futures_util::future::join_all(open.iter().map(OpenSession::stop)).await;

    let mut report = Report::new("load");
    report.times(&samples, Some(&name((1, 0))));
    report.set("seconds", json!(seconds));
    let (median, p95) = (
        samples.percentile(&name(AIM), 50),
        samples.percentile(&name(AIM), 95),
    );
    let what = "8 sessions, a call a second each: p95, times the median";
    report.aim(what, p95 / median, "times", Limit::Under(2.0));
    report.publish()
}

fn name((busy, idle): (usize, usize)) -> String {
    match idle {
        0 => format!("{busy} busy"),
        _ => format!("{busy} busy, {idle} idle"),
    }
}

/// One call a second; what each took since it was due.
async fn calls(
    session: OpenSession,
    first: Instant,
    count: usize,
) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::new();
    for number in 0..count {
        let due = first + PERIOD * u32::try_from(number)?;
        tokio::time::sleep_until(due).await;
        ground::title(&session, Language::Node).await?;
        times.push(due.elapsed());
    }
    Ok(times)
}
