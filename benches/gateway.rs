//! Times the HTTP gateway against gRPC, and a scrape until it is gone on from: `make bench`.
//!
//! Each round scrapes a page, runs code on it for the first time, which makes a session of the browser
//! that was kept, and then runs the same code in that session over HTTP and over gRPC in turn. Prints
//! a table and writes `target/bench/gateway.md` and `.json`. `ROUNDS=N` (30).

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use pagebox::grpc::v1::Language;
use serde_json::{Value, json};

#[path = "common/all.rs"]
mod common;

use common::report::{Limit, Report};
use common::samples::Samples;
use common::{client, daemon, http, samples, site};

/// Executions of each kind per round after the first; each is one sample.
const WARM_PER_ROUND: usize = 10;
/// When the page was loaded, in milliseconds since 1970.
const CODE: &str = "await page.evaluate(() => performance.timeOrigin)";
const SCRAPE: &str = "scrape";
const FIRST: &str = "first interact after a scrape";
const HTTP: &str = "later interact over HTTP";
const GRPC: &str = "the same code by gRPC Execute";
/// The first interaction must stay below this, in milliseconds, at the median.
const WANTED_FIRST: f64 = 100.0;
/// The median over HTTP may be this much above that of gRPC, in milliseconds.
const WANTED_MORE: f64 = 2.0;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` starts this too, without the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("gateway: measured by `cargo bench` only");
        return Ok(());
    }
    let rounds = samples::number("ROUNDS", 30);
    let site = site::Site::start().await?;
    let port = site.port().to_string();
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_pagebox"));
    let daemon = daemon::Daemon::start_with(binary, "", &["--host-loopback", &port]);
    let http = http::Http::new(&daemon.url());
    let client = client::Client::new(&daemon.url());
    let url = site.url("/article.html");

    // Page caches and lazily made parts are filled once.
    round(&http, &client, &url, &mut Samples::default()).await?;
    let mut samples = Samples::default();
    for number in 1..=rounds {
        round(&http, &client, &url, &mut samples).await?;
        eprint!("\rround {number} of {rounds}");
    }
    eprintln!();
    report(&samples, rounds)
}

/// One scrape and the session that goes on from it.
async fn round(
    http: &http::Http,
    client: &client::Client,
    url: &str,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let scraped = http.post("/v2/scrape", &json!({ "url": url })).await.good();
    samples.add(SCRAPE, begun.elapsed());
    let loaded_until = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let id = scraped["data"]["metadata"]["scrapeId"].as_str();
    let path = format!("/v2/scrape/{}/interact", id.context("a scrape id")?);

    let (first, took) = interact(http, &path).await;
    samples.add(FIRST, took);
    let loaded = loaded_at(first["result"].as_str())?;
    ensure!(
        loaded < loaded_until.as_secs_f64() * 1000.0,
        "the page was loaded again: its browser was not kept"
    );
    let id = first["sessionId"].as_str().context("a session id")?;
    let session = client::OpenSession::new(client.clone(), id.to_owned());
    for number in 0..WARM_PER_ROUND {
        // Neither is always the one that follows the other.
        for over_http in [number % 2 == 0, number % 2 == 1] {
            let found = if over_http {
                let (reply, took) = interact(http, &path).await;
                samples.add(HTTP, took);
                loaded_at(reply["result"].as_str())?
            } else {
                let begun = Instant::now();
                let reply = session.exec(Language::Node, CODE).await;
                samples.add(GRPC, begun.elapsed());
                loaded_at(reply.result.as_deref())?
            };
            ensure!(found.total_cmp(&loaded).is_eq(), "another page answered");
        }
    }
    http.delete(&path).await.good();
    Ok(())
}

async fn interact(http: &http::Http, path: &str) -> (Value, Duration) {
    let body = json!({ "code": CODE, "language": "node" });
    let begun = Instant::now();
    let reply = http.post(path, &body).await;
    let took = begun.elapsed();
    (reply.good(), took)
}

fn loaded_at(result: Option<&str>) -> anyhow::Result<f64> {
    let result = result.context("the code has a result")?;
    result
        .parse()
        .with_context(|| format!("not a time: {result:?}"))
}

fn report(samples: &Samples, rounds: usize) -> anyhow::Result<()> {
    let first = samples.percentile(FIRST, 50);
    let more = samples.percentile(HTTP, 50) - samples.percentile(GRPC, 50);
    let mut report = Report::new("gateway");
    report.times(samples, None);
    report.set("rounds", json!(rounds));
    report.aim(FIRST, first, "ms", Limit::Under(WANTED_FIRST));
    let what = "an interact over HTTP, more than the same by gRPC";
    report.aim(what, more, "ms", Limit::Under(WANTED_MORE));
    report.publish()
}
