//! Times sessions with a profile against those without: `make bench`.
//!
//! Each round opens a session without a profile, and one that begins with a profile of 5 MB and saves
//! it again; each executes something first. Prints a table and writes `target/bench/profile.md` and `.json`.
//! `ROUNDS=N` (20).

use std::time::Instant;

use anyhow::{Context as _, ensure};
use pagebox::grpc::v1::{ProfileOptions, SessionOptions};
use serde_json::json;

#[path = "common/all.rs"]
mod common;

use common::client::{Client, OpenSession};
use common::report::{Limit, Report};
use common::samples::Samples;
use common::{daemon, samples, site};

/// What is stored, which no compression makes smaller.
const BYTES: u32 = 5_000_000;
const NAME: &str = "bench";
const WITHOUT: &str = "session without a profile";
const READER: &str = "session with a profile of 5 MB";
const FIRST: &str = "the same and its first execution";
const FIRST_WITH: &str = "the same with that profile";
const STOP: &str = "stop of a session without a profile";
const SAVE: &str = "stop of a session that saves it";
/// The median of a session with a profile must stay below this, in milliseconds.
const WANTED_READY: f64 = 400.0;
/// The median of a stop with its save likewise.
const WANTED_SAVE: f64 = 500.0;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` starts this too, without the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("profile: measured by `cargo bench` only");
        return Ok(());
    }
    let rounds = samples::number("ROUNDS", 20);
    let site = site::Site::start().await?;
    let port = site.port().to_string();
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_pagebox"));
    let daemon = daemon::Daemon::start_with(binary, "", &["--host-loopback", &port]);
    let client = Client::new(&daemon.url());
    let session = OpenSession::new(client.clone(), open(&client, true).await?);
    let store = format!(
        "await page.goto('{}'); await page.evaluate(async (bytes) => {{
           const database = await new Promise((resolve, reject) => {{
             const opening = indexedDB.open('bench');
             opening.onupgradeneeded = () => opening.result.createObjectStore('blobs');
             opening.onsuccess = () => resolve(opening.result);
             opening.onerror = () => reject(opening.error);
           }});
           const data = new Uint8Array(bytes);
           for (let at = 0; at < bytes; at += 65536) {{
             crypto.getRandomValues(data.subarray(at, Math.min(at + 65536, bytes)));
           }}
           const writing = database.transaction('blobs', 'readwrite');
           writing.objectStore('blobs').put(data, 1);
           await new Promise((resolve) => {{ writing.oncomplete = resolve; }});
           localStorage.setItem('stored', bytes);
           sessionStorage.setItem('stored', bytes);
         }}, {BYTES}); 'stored'",
        site.url("/")
    );
    ensure!(session.node(&store).await == "stored", "nothing was stored");
    session.stop().await;

    let mut samples = Samples::default();
    for number in 0..=rounds {
        let mut round = Samples::default();
        for (profile, [opening, first, stopping]) in [
            (false, [WITHOUT, FIRST, STOP]),
            (true, [READER, FIRST_WITH, SAVE]),
        ] {
            let begun = Instant::now();
            let id = match profile {
                true => open(&client, true).await?,
                false => client.create(SessionOptions::default()).await?.id,
            };
            round.add(opening, begun.elapsed());
            let session = OpenSession::new(client.clone(), id.clone());
            session.node("await page.title()").await;
            round.add(first, begun.elapsed());
            let begun = Instant::now();
            let stopped = client.stop(&id).await?;
            round.add(stopping, begun.elapsed());
            let saved = stopped.session.context("a session")?.profile;
            let error = saved.map(|saved| saved.save_error).unwrap_or_default();
            ensure!(error.is_empty(), "not saved: {error}");
        }
        // Page caches are filled by the first.
        if number > 0 {
            samples.extend(round);
        }
        eprint!("\rround {number} of {rounds}");
    }
    eprintln!();
    let still = OpenSession::new(client.clone(), open(&client, false).await?);
    let look = format!(
        "await page.goto('{}'); await page.evaluate(() => localStorage.getItem('stored'))",
        site.url("/")
    );
    ensure!(still.node(&look).await == BYTES.to_string(), "it was lost");
    still.stop().await;
    report(&samples, rounds)
}

async fn open(client: &Client, save_changes: bool) -> anyhow::Result<String> {
    let options = SessionOptions {
        profile: Some(ProfileOptions {
            name: NAME.to_owned(),
            save_changes: Some(save_changes),
        }),
        ..SessionOptions::default()
    };
    Ok(client.create(options).await?.id)
}

fn report(samples: &Samples, rounds: usize) -> anyhow::Result<()> {
    let mut report = Report::new("profile");
    report.times(samples, None);
    report.set("rounds", json!(rounds));
    for (name, wanted) in [(READER, WANTED_READY), (SAVE, WANTED_SAVE)] {
        let median = samples.percentile(name, 50);
        report.aim(name, median, "ms", Limit::Under(wanted));
    }
    report.publish()
}
