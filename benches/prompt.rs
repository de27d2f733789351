//! Times prompts whose model answers at once: `make bench`.
//!
//! Each round has a model scroll a page up to its last step. What is neither the model's time nor its
//! commands' is the agent's own, the look at the page after each command included; divided by the steps
//! it must stay below 50 ms. Prints a table and writes `target/bench/prompt.md` and `.json`.
//! `ROUNDS=N` (20).

use std::time::Duration;

use anyhow::{Context as _, ensure};
use pagebox::grpc::v1::prompt_options::Place;
use pagebox::grpc::v1::{PromptOptions, PromptRequest};
use serde_json::json;

#[path = "common/all.rs"]
mod common;

use common::report::{Limit, Report};
use common::samples::Samples;
use common::{client, daemon, model, samples, site};

const STEPS: u32 = 10;
const OWN: &str = "the agent's own, a step";
const STEP: &str = "the command of a step";
const WHOLE: &str = "a step in all";
/// In milliseconds, at the median.
const WANTED: f64 = 50.0;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` starts this too, without the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("prompt: measured by `cargo bench` only");
        return Ok(());
    }
    let rounds = samples::number("ROUNDS", 20);
    let site = site::Site::start().await?;
    let models = model::Models::start().await?;
    let directory = tempfile::tempdir()?;
    let key = directory.path().join("key");
    std::fs::write(&key, model::KEY)?;
    let config = format!(
        "[agent]\nprovider = \"openai\"\nmodel = \"looper\"\nbase_url = \"{}\"\nkey_file = \"{}\"\n",
        models.url(),
        key.display()
    );
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_pagebox"));
    let port = site.port().to_string();
    let daemon = daemon::Daemon::start_with(binary, &config, &["--host-loopback", &port]);
    let client = client::Client::new(&daemon.url());
    let session = client.open(&site.url("/article.html")).await;

    // Page caches and lazily made parts are filled once.
    round(&session, &mut Samples::default()).await?;
    let mut samples = Samples::default();
    for number in 1..=rounds {
        round(&session, &mut samples).await?;
        eprint!("\rround {number} of {rounds}");
    }
    eprintln!();
    session.stop().await;
    report(&samples, rounds)
}

async fn round(session: &client::OpenSession, samples: &mut Samples) -> anyhow::Result<()> {
    let options = PromptOptions {
        place: Some(Place::SessionId(session.id.clone())),
        prompt: "Scroll on".into(),
        max_steps: STEPS,
        ..PromptOptions::default()
    };
    let request = PromptRequest {
        options: Some(options),
    };
    let reply = session
        .client()
        .executions()
        .prompt(request)
        .await?
        .into_inner();
    ensure!(reply.steps.len() == STEPS as usize, "{reply:?}");
    let time = |time: Option<prost_types::Duration>| -> anyhow::Result<Duration> {
        Ok(Duration::try_from(time.context("a duration")?)?)
    };
    samples.add(OWN, time(reply.overhead)? / STEPS);
    samples.add(WHOLE, time(reply.duration)? / STEPS);
    for step in reply.steps {
        samples.add(STEP, time(step.duration)?);
    }
    Ok(())
}

fn report(samples: &Samples, rounds: usize) -> anyhow::Result<()> {
    let mut report = Report::new("prompt");
    report.times(samples, None);
    report.set("rounds", json!(rounds));
    report.aim(OWN, samples.percentile(OWN, 50), "ms", Limit::Under(WANTED));
    report.publish()
}
