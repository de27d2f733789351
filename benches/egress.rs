//! Times the way through a session's proxy against the direct way: `make bench`.
//!
//! The same client programs go both ways, interleaved so that all see the same machine: curl for
//! 100 MB, a Chromium with the session's own flags for a page of 30 parts, and 200 connections at once.
//! For the proxy they run in the network namespace of a real session of a real daemon, so the sandbox
//! costs nothing here; what the session's own curl and Chromium take stands beside it.
//!
//! The origin is on this machine too, once as fast as loopback goes, where each hop costs a share of
//! the same processors, and once like a host some way off, which is what a proxy is used for. Prints
//! tables and writes `target/bench/egress.md` and `.json`.
//!
//! `BENCH_OTHER=/path/to/pagebox` (an earlier build beside its `runners/` and `sandbox-images/`) takes
//! part in every round.

use std::net::SocketAddr;
use std::path::Path;

use pagebox::grpc::v1::Language;

use chromium::Chromium;
use crowd::{Crowd, Kind};
use way::{Proxied, Way};

#[path = "egress/chromium.rs"]
mod chromium;
#[path = "../tests/common/client.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod client;
#[path = "egress/crowd.rs"]
mod crowd;
#[path = "../tests/common/daemon.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod daemon;
#[path = "../tests/common/leaks.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod leaks;
#[path = "egress/origin.rs"]
mod origin;
#[path = "egress/samples.rs"]
mod samples;
#[path = "egress/way.rs"]
mod way;

use samples::Samples;

const ROUNDS: usize = 10;
const LOADS_PER_ROUND: usize = 2;
const CROWD_ROUNDS: usize = 3;
/// Of a download.
const DOWNLOAD: usize = 100_000_000;
/// The two origins, by what their rows are called.
const PACES: [(&str, origin::Pace); 2] = [
    ("loopback", origin::LOOPBACK),
    ("1 Gbit/s", origin::GIGABIT),
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, flag, job] = &arguments[..]
        && flag == crowd::CLIENT
    {
        return crowd::client(job).await;
    }
    // `cargo test --benches` starts this too, without the flag.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("egress: measured by `cargo bench` only");
        return Ok(());
    }
    let mut origins = Vec::new();
    for (_, pace) in PACES {
        origins.push(origin::start(pace).await?);
    }
    let ours = Proxied::start(Path::new(env!("CARGO_BIN_EXE_pagebox")), &origins).await?;
    let other = match std::env::var_os("BENCH_OTHER") {
        Some(path) => Some(Proxied::start(Path::new(&path), &origins).await?),
        None => None,
    };

    let mut samples = Samples::default();
    let mut ways = vec![Contender::new("", &ours)?];
    if let Some(other) = &other {
        ways.push(Contender::new("other: ", other)?);
    }
    let mut plain = Chromium::start(Way::Direct, &ours)?;
    // Lazily made parts are made once, for all.
    round(&mut plain, &mut ways, &origins, &mut Samples::default()).await?;
    for number in 1..=ROUNDS {
        round(&mut plain, &mut ways, &origins, &mut samples).await?;
        eprint!("\rround {number} of {ROUNDS}");
    }
    eprintln!();
    drop(plain);
    for _ in 0..CROWD_ROUNDS {
        crowd_round(&ways, origins[0], &mut samples).await?;
    }
    samples::report(&samples)
}

/// A daemon that takes part, with a Chromium that goes through its proxy.
struct Contender<'a> {
    /// Goes before the names of its rows.
    who: &'static str,
    proxied: &'a Proxied,
    chromium: Chromium,
}

impl<'a> Contender<'a> {
    fn new(who: &'static str, proxied: &'a Proxied) -> anyhow::Result<Self> {
        Ok(Self {
            who,
            proxied,
            chromium: Chromium::start(Way::Through(proxied), proxied)?,
        })
    }
}

/// Every download and page load once, each way.
async fn round(
    plain: &mut Chromium,
    contenders: &mut [Contender<'_>],
    origins: &[SocketAddr],
    samples: &mut Samples,
) -> anyhow::Result<()> {
    for ((pace, _), origin) in PACES.iter().zip(origins) {
        let url = format!("http://{origin}/bytes?count={DOWNLOAD}");
        let direct = format!("100 MB, {pace}: direct");
        samples.base(
            &direct,
            way::curl(Way::Direct, false, &url, DOWNLOAD).await? * 1e3,
        );
        for Contender { who, proxied, .. } in &mut *contenders {
            for (form, tunnel) in [("CONNECT", true), ("absolute form", false)] {
                let busy = proxied.cpu_ms()?;
                let took = way::curl(Way::Through(proxied), tunnel, &url, DOWNLOAD).await? * 1e3;
                #[allow(clippy::cast_precision_loss, reason = "a few seconds")]
                let busy = (proxied.cpu_ms()? - busy) as f64;
                let name = format!("{who}100 MB, {pace}: {form}");
                samples.add(&name, &direct, took);
                samples.add_cost(&name, busy);
            }
            let took = curl_of_the_session(proxied, &url).await? * 1e3;
            let name = format!("{who}100 MB, {pace}: the session's own curl, absolute form");
            samples.add_beside(&name, &direct, took);
        }
    }
    for _ in 0..LOADS_PER_ROUND {
        for ((pace, _), origin) in PACES.iter().zip(origins) {
            let url = format!("http://{origin}/page");
            let direct = format!("page of 30 parts, {pace}: direct");
            samples.base(&direct, plain.load(&url).await?);
            for Contender {
                who,
                proxied,
                chromium,
            } in &mut *contenders
            {
                let name = format!("{who}page of 30 parts, {pace}: through the proxy");
                samples.add(&name, &direct, chromium.load(&url).await?);
                let name = format!("{who}page of 30 parts, {pace}: the session's own page");
                samples.add_beside(&name, &direct, load_of_the_session(proxied, &url).await?);
            }
        }
    }
    Ok(())
}

async fn curl_of_the_session(proxied: &Proxied, url: &str) -> anyhow::Result<f64> {
    let arguments = way::curl_arguments().map(|argument| format!("'{argument}'"));
    // The environment's proxy, also for what the environment exempts.
    let code = format!("curl {} --noproxy '' '{url}'", arguments.join(" "));
    let reply = proxied.session.good(Language::Bash, &code).await;
    way::curl_time(&reply.stdout, DOWNLOAD)
}

async fn load_of_the_session(proxied: &Proxied, url: &str) -> anyhow::Result<f64> {
    let code = format!(
        "const fresh = await browser.newContext(); \
         const tab = await fresh.newPage(); \
         await tab.goto('{url}'); \
         const told = await tab.evaluate(() => {}); \
         await fresh.close(); told",
        chromium::TIMING
    );
    chromium::whole_page(&proxied.session.node(&code).await)
}

/// Two hundred connections, each way, and the daemon's memory.
async fn crowd_round(
    contenders: &[Contender<'_>],
    origin: SocketAddr,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let mut crowd = Crowd::open(Way::Direct, Kind::Direct, origin).await?;
    let fetched = crowd.fetch().await?;
    samples.crowd(crowd::DIRECT, &crowd.opened, &fetched, None);
    crowd.close().await?;
    for Contender { who, proxied, .. } in contenders {
        for (form, kind) in [
            ("CONNECT", Kind::Connect),
            ("absolute form", Kind::Absolute),
        ] {
            let before = proxied.resident_kib();
            let mut crowd = Crowd::open(Way::Through(proxied), kind, origin).await?;
            let open = proxied.resident_kib();
            let fetched = crowd.fetch().await?;
            let resident = [before, open, proxied.resident_kib()];
            let name = format!("{who}200 at once: {form}");
            samples.crowd(&name, &crowd.opened, &fetched, Some(resident));
            crowd.close().await?;
        }
    }
    Ok(())
}
