//! Times a call in a session against what one would do instead: `make bench`.
//!
//! Everybody asks the same page for its title. Each round has every contender that stays connected
//! several times, in turn and each time from another one on, some of them also back to back, and then the
//! scripts that begin anew, once each. So all see the same machine in the same minutes. Writes
//! `target/bench/execution.md` and `.json`.
//!
//! `ROUNDS=N` (30). `BENCH_OTHER=/path/to/pagebox` (an earlier build beside its `runners/` and
//! `sandbox-images/`) takes part in every round.

use std::path::Path;
use std::time::Instant;

use anyhow::ensure;
use pagebox::grpc::v1::Language;
use serde_json::json;

#[path = "common/all.rs"]
mod common;

use common::client::{Client, OpenSession};
use common::daemon::Daemon;
use common::ground::TITLE;
use common::report::{Limit, Report};
use common::rival::{ByHand, Cdp, Peer, PlainChromium, RunServer};
use common::samples::Samples;
use common::{ground, rival, samples, site};

/// How often in a round each of those is asked that stay connected.
const REPEATS: usize = 5;

/// And how often one after the other, those that are the least a call can take, and what they are the
/// floor of.
const IN_A_ROW: usize = 10;
const FLOOR: [&str; 5] = [RAW_HUB, NODE_HUB, NODE, PYTHON_HUB, PYTHON];
const BACK_TO_BACK: &str = ", back to back";

const RAW_PLAIN: &str = "raw CDP, plain Chromium";
const RAW_HUB: &str = "raw CDP, the session's cdpUrl";
const NODE_PLAIN: &str = "connected Playwright (node), plain Chromium";
const NODE_HUB: &str = "connected Playwright (node), cdpUrl";
const NODE_INSIDE: &str = "the same, as the script sees it";
const NODE: &str = "Execute node";
const PYTHON_HUB: &str = "connected Playwright (python), cdpUrl";
const PYTHON_INSIDE: &str = "the same, as the python script sees it";
const PYTHON: &str = "Execute python";
const SERVED: &str = "connected Playwright, run-server";
const HAND: &str = "agent-browser by hand";
const BASH: &str = "Execute bash, agent-browser";
const FRESH_NODE: &str = "fresh node script, connectOverCDP";
const FRESH_PYTHON: &str = "fresh python script, connect_over_cdp";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` starts this too, without the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("execution: measured by `cargo bench` only");
        return Ok(());
    }
    let rounds = samples::number("ROUNDS", 30);
    let site = site::Site::start().await?;
    let url = site.url("/");
    let mut stage = Stage::set(&url).await?;

    // Page caches, compilers and what is made at its first use.
    stage.round(0, &mut Samples::default()).await?;
    let mut samples = Samples::default();
    for number in 0..rounds {
        stage.round(number, &mut samples).await?;
        eprint!("\rround {} of {rounds}", number + 1);
    }
    eprintln!();
    report(&samples, rounds)
}

/// Who is asked for the title.
enum Contender {
    Raw(Box<Cdp>),
    /// With the name of what it measures itself.
    Script(Peer, &'static str),
    Hand(ByHand),
    Session(OpenSession, Language),
}

/// All contenders and what they need.
struct Stage {
    connected: Vec<(String, Contender)>,
    plain: PlainChromium,
    _server: RunServer,
    _daemons: Vec<Daemon>,
}

impl Stage {
    async fn set(url: &str) -> anyhow::Result<Self> {
        let plain = PlainChromium::start(url)?;
        let server = RunServer::start()?;
        let connected = |name: &str, endpoint: &str| -> anyhow::Result<Contender> {
            let peer = Peer::start(rival::script(name, &[endpoint]))?;
            let inside = match name.ends_with(".py") {
                true => PYTHON_INSIDE,
                false => NODE_INSIDE,
            };
            Ok(Contender::Script(peer, inside))
        };
        let daemon = ground::start("");
        let client = Client::new(&daemon.url());
        let (node, python, bash) = (
            ground::open(&client, url).await?,
            ground::open(&client, url).await?,
            ground::open(&client, url).await?,
        );
        let node_url = ground::cdp_url(&daemon, &node).await?;
        let python_url = ground::cdp_url(&daemon, &python).await?;
        let served = [server.endpoint.as_str(), rival::CHROMIUM, url];
        let served = Peer::start(rival::script("served.mjs", &served))?;
        let plain_node = Peer::start(rival::script("connected.mjs", &[&plain.endpoint]))?;
        let mut contenders = vec![
            (
                RAW_PLAIN,
                Contender::Raw(Box::new(Cdp::connect(&plain.endpoint).await?)),
            ),
            (
                RAW_HUB,
                Contender::Raw(Box::new(Cdp::connect(&node_url).await?)),
            ),
            (NODE_PLAIN, Contender::Script(plain_node, "")),
            (SERVED, Contender::Script(served, "")),
            (NODE_HUB, connected("connected.mjs", &node_url)?),
            (NODE, Contender::Session(node, Language::Node)),
            (PYTHON_HUB, connected("connected.py", &python_url)?),
            (PYTHON, Contender::Session(python, Language::Python)),
            (HAND, Contender::Hand(ByHand::connect(&plain.endpoint)?)),
            (BASH, Contender::Session(bash, Language::Bash)),
        ]
        .into_iter()
        .map(|(name, contender)| (name.to_owned(), contender))
        .collect::<Vec<_>>();
        let mut daemons = vec![daemon];
        if let Some(other) = std::env::var_os("BENCH_OTHER") {
            let daemon = Daemon::start(Path::new(&other), "");
            let client = Client::new(&daemon.url());
            for (name, language) in [
                (NODE, Language::Node),
                (PYTHON, Language::Python),
                (BASH, Language::Bash),
            ] {
                let session = ground::open(&client, url).await?;
                let contender = Contender::Session(session, language);
                contenders.push((format!("other: {name}"), contender));
            }
            daemons.push(daemon);
        }
        Ok(Self {
            connected: contenders,
            plain,
            _server: server,
            _daemons: daemons,
        })
    }

    async fn round(&mut self, number: usize, samples: &mut Samples) -> anyhow::Result<()> {
        let count = self.connected.len();
        for repeat in 0..REPEATS {
            for place in 0..count {
                // None is always the one that follows the same other.
                let turn = (place + repeat + number * REPEATS) % count;
                let (name, contender) = &mut self.connected[turn];
                ask(name, contender, samples).await?;
            }
        }
        for (name, contender) in &mut self.connected {
            if !FLOOR.contains(&name.as_str()) {
                continue;
            }
            let name = format!("{name}{BACK_TO_BACK}");
            for _ in 0..IN_A_ROW {
                ask(&name, contender, samples).await?;
            }
        }
        let endpoint = [self.plain.endpoint.as_str()];
        for (name, script) in [(FRESH_NODE, "title.mjs"), (FRESH_PYTHON, "title.py")] {
            let (title, took) = rival::run(rival::script(script, &endpoint))?;
            ensure!(title == TITLE, "{script} said {title:?}");
            samples.add(name, took);
        }
        Ok(())
    }
}

async fn ask(name: &str, contender: &mut Contender, samples: &mut Samples) -> anyhow::Result<()> {
    let begun = Instant::now();
    match contender {
        Contender::Raw(client) => {
            let title = client.title().await?;
            samples.add(name, begun.elapsed());
            ensure!(title == TITLE, "{name}: {title:?}");
        }
        Contender::Script(peer, inside) => {
            let answer = peer.ask("title")?;
            samples.add(name, answer.took);
            let is_alone = name.ends_with(BACK_TO_BACK);
            if !inside.is_empty() && !is_alone {
                samples.add(*inside, answer.inside);
            }
            ensure!(answer.said == TITLE, "{name}: {answer:?}");
        }
        Contender::Hand(hand) => {
            let (title, took) = rival::run(hand.command(&["get", "title"]))?;
            samples.add(name, took);
            ensure!(title == TITLE, "{name}: {title:?}");
        }
        Contender::Session(session, language) => {
            ground::title(session, *language).await?;
            samples.add(name, begun.elapsed());
        }
    }
    Ok(())
}

fn report(samples: &Samples, rounds: usize) -> anyhow::Result<()> {
    let median = |name: &str| samples.percentile(name, 50);
    let mut report = Report::new("execution");
    report.times(samples, Some(NODE_HUB));
    report.set("rounds", json!(rounds));
    for (what, ours, theirs, limit) in [
        (
            "warm node execution, times a connected script's call",
            NODE,
            NODE_HUB,
            2.0,
        ),
        (
            "warm python execution, times a connected script's call",
            PYTHON,
            PYTHON_HUB,
            2.0,
        ),
        (
            "agent-browser in bash, times the same by hand",
            BASH,
            HAND,
            2.0,
        ),
    ] {
        let ratio = median(ours) / median(theirs);
        report.aim(what, ratio, "times", Limit::AtMost(limit));
    }
    for (what, ours, theirs, limit) in [
        (
            "warm node execution, faster than a fresh node script",
            NODE,
            FRESH_NODE,
            200.0,
        ),
        (
            "warm python execution, faster than a fresh python script",
            PYTHON,
            FRESH_PYTHON,
            100.0,
        ),
    ] {
        let ratio = median(theirs) / median(ours);
        report.aim(what, ratio, "times", Limit::AtLeast(limit));
    }
    for name in [
        RAW_HUB,
        NODE_HUB,
        NODE,
        PYTHON_HUB,
        PYTHON,
        SERVED,
        HAND,
        BASH,
        FRESH_NODE,
        FRESH_PYTHON,
    ] {
        report.bar(name, median(name), [NODE, PYTHON, BASH].contains(&name));
    }
    report.publish()
}
