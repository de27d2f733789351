//! Times how long after its deadline code is gone that does not want to end: `make bench`.
//!
//! Each round runs every one of them once with a timeout of a second; a small execution before it makes
//! sure that its runner is there. The reply is sent when every process of the runner is gone. Writes
//! `target/bench/kill.md` and `.json`. `ROUNDS=N` (10).

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use pagebox::grpc::v1::{Language, Outcome};
use serde_json::json;

#[path = "common/all.rs"]
mod common;

use common::client::Client;
use common::report::{Limit, Report};
use common::samples::Samples;
use common::{client, ground, samples};

const TIMEOUT: Duration = Duration::from_secs(1);
const LATE: &str = "from its deadline to the reply";
/// In milliseconds, at the median.
const WANTED: f64 = 50.0;
const CODES: [(&str, Language, &str); 5] = [
    ("busy loop in node", Language::Node, "for (;;);"),
    ("busy loop in python", Language::Python, "while True: pass"),
    ("busy loop in bash", Language::Bash, "while :; do :; done"),
    (
        "fork bomb in bash",
        Language::Bash,
        ":(){ :|:& };: 2>/dev/null; while :; do :; done",
    ),
    (
        "fork bomb in python",
        Language::Python,
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    ),
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` starts this too, without the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("kill: measured by `cargo bench` only");
        return Ok(());
    }
    let rounds = samples::number("ROUNDS", 10);
    let daemon = ground::start("");
    let session = ground::open(&Client::new(&daemon.url()), "").await?;
    let mut samples = Samples::default();
    for number in 0..=rounds {
        let mut round = Samples::default();
        for (name, language, code) in CODES {
            let small = match language {
                Language::Bash => ":",
                _ => "1",
            };
            session.good(language, small).await;
            let asked = SystemTime::now();
            let reply = session.exec_within(TIMEOUT, language, code).await;
            let took = asked.elapsed()?;
            ensure!(
                reply.outcome() == Outcome::TimedOut,
                "{name}: {}",
                client::describe(&reply)
            );
            let started = SystemTime::try_from(reply.start_time.context("a start")?)?;
            let until_started = started.duration_since(asked).unwrap_or_default();
            round.add(
                format!("{name}: from the request to its start"),
                until_started,
            );
            let late = took.saturating_sub(until_started + TIMEOUT);
            round.add(format!("{name}: {LATE}"), late);
        }
        if number > 0 {
            samples.extend(round);
        }
        eprint!("\rround {number} of {rounds}");
    }
    eprintln!();
    session.stop().await;
    let mut report = Report::new("kill");
    report.times(&samples, None);
    report.set("rounds", json!(rounds));
    for (name, ..) in CODES {
        let what = format!("{name}: {LATE}");
        let late = samples.percentile(&what, 50);
        report.aim(&what, late, "ms", Limit::AtMost(WANTED));
    }
    report.publish()
}
