//! Opens, uses and stops many sessions, and looks at what the daemon holds: `make soak`, shorter in
//! `make bench`.
//!
//! `SESSIONS=N` (50) sessions, `CONCURRENT=N` (4) at a time, each with five executions: node, python and
//! bash, fresh ones, errors, endless loops, large outputs, pages and screenshots, in turn. After each
//! batch, when all of its sessions are stopped, the daemon is counted. Flat means that the last fifth of
//! the counts is no higher than the second fifth: processes, mounts, cgroups and temporary files not at
//! all, descriptors by [`SPARE_DESCRIPTORS`] at most, memory by a tenth at most. Fails when it is not.
//! Writes `target/bench/soak.md`, `.json` and `.svg`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use pagebox::grpc::v1::{Language, Outcome};
use serde_json::json;

#[path = "common/all.rs"]
mod common;

use common::client::{Client, OpenSession};
use common::daemon::Daemon;
use common::report::{Limit, Report, shown};
use common::samples::Samples;
use common::{client, ground, leaks, plot, samples, site};

/// How often the daemon is counted in a run, about.
const COUNTS: usize = 50;
const PER_SESSION: usize = 5;
/// Connections of clients that come and go.
const SPARE_DESCRIPTORS: f64 = 4.0;
const MEMORY: &str = "daemon and spawner, RSS, MiB";
/// What ended sessions leave in memory is reached early then, and the rest has to be flat.
const CONFIG: &str = "[session]\nremembered = 16\n";
/// Nothing of a session is left after this.
const SETTLE: Duration = Duration::from_secs(1);

/// An execution, and how it is to end.
struct Kind {
    name: &'static str,
    language: Language,
    code: &'static str,
    is_fresh: bool,
    ends: Outcome,
}

const fn kind(name: &'static str, language: Language, code: &'static str) -> Kind {
    Kind {
        name,
        language,
        code,
        is_fresh: false,
        ends: Outcome::Completed,
    }
}

const KINDS: [Kind; 12] = [
    kind("node", Language::Node, ground::CODE),
    kind("python", Language::Python, ground::CODE),
    kind("bash", Language::Bash, ground::COMMAND),
    Kind {
        is_fresh: true,
        ..kind("fresh node", Language::Node, ground::CODE)
    },
    Kind {
        ends: Outcome::TimedOut,
        ..kind("endless node", Language::Node, "for (;;);")
    },
    kind(
        "screenshot",
        Language::Node,
        "(await page.screenshot()).length",
    ),
    Kind {
        is_fresh: true,
        ..kind("fresh python", Language::Python, "1 + 1")
    },
    Kind {
        ends: Outcome::Failed,
        ..kind("error in node", Language::Node, "throw new Error('meant')")
    },
    kind(
        "large output",
        Language::Bash,
        "head -c 2000000 /dev/zero | tr '\\0' x",
    ),
    Kind {
        ends: Outcome::TimedOut,
        ..kind(
            "fork bomb",
            Language::Bash,
            ":(){ :|:& };: 2>/dev/null; while :; do :; done",
        )
    },
    kind(
        "pages",
        Language::Node,
        "const other = await context.newPage(); await other.goto(page.url()); await other.close()",
    ),
    Kind {
        ends: Outcome::Failed,
        ..kind(
            "error in python",
            Language::Python,
            "raise ValueError('meant')",
        )
    },
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` starts this too, without the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("soak: measured by `cargo bench` only");
        return Ok(());
    }
    let sessions = samples::number("SESSIONS", 50);
    let concurrent = samples::number("CONCURRENT", 4).max(1);
    let batch = (sessions / COUNTS).max(concurrent);
    let site = site::Site::start().await?;
    let url: Arc<str> = site.url("/").into();
    let mut daemon = ground::start(CONFIG);
    let client = Client::new(&daemon.url());
    let begun = Instant::now();
    let (mut samples, mut counts) = (Samples::default(), Vec::new());
    let mut done = 0;
    while done < sessions {
        let until = (done + batch).min(sessions);
        let next = Arc::new(AtomicUsize::new(done));
        let mut working = tokio::task::JoinSet::new();
        for _ in 0..concurrent {
            let (client, url, next) = (client.clone(), Arc::clone(&url), Arc::clone(&next));
            working.spawn(async move {
                let mut samples = Samples::default();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= until {
                        return anyhow::Ok(samples);
                    }
                    life(&client, &url, number, &mut samples).await?;
                }
            });
        }
        while let Some(worked) = working.join_next().await {
            samples.extend(worked??);
        }
        done = until;
        tokio::time::sleep(SETTLE).await;
        ensure!(daemon.is_running(), "the daemon has gone");
        counts.push(Count::of(&daemon, done));
        eprint!("\r{done} of {sessions} sessions ");
    }
    eprintln!();
    report(&samples, &counts, begun.elapsed())
}

/// One session, from its start to its end.
async fn life(
    client: &Client,
    url: &str,
    number: usize,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let session = ground::open(client, url).await?;
    samples.add("CreateSession", begun.elapsed());
    for step in 0..PER_SESSION {
        // Every session begins elsewhere, and all kinds come to be the first of one.
        let kind = &KINDS[(number * PER_SESSION + step) % KINDS.len()];
        let took = execute(&session, kind).await?;
        samples.add(kind.name, took);
    }
    let begun = Instant::now();
    session.stop().await;
    samples.add("StopSession", begun.elapsed());
    Ok(())
}

async fn execute(session: &OpenSession, kind: &Kind) -> anyhow::Result<Duration> {
    let mut options = session.options(kind.language, kind.code);
    options.fresh = kind.is_fresh;
    if kind.ends == Outcome::TimedOut {
        options.timeout = client::seconds(1);
    }
    let begun = Instant::now();
    let reply = session.run(options).await;
    let took = begun.elapsed();
    ensure!(
        reply.outcome() == kind.ends,
        "{}: {}",
        kind.name,
        client::describe(&reply)
    );
    Ok(took)
}

/// What the daemon holds when no session is open.
#[derive(Debug)]
struct Count {
    sessions: usize,
    values: [(&'static str, f64); 6],
}

impl Count {
    fn of(daemon: &Daemon, sessions: usize) -> Self {
        let held = leaks::holdings(daemon.pid(), &daemon.temporary());
        let below = leaks::descendants(daemon.pid());
        let pids = below.iter().map(|process| process.pid);
        let resident: u64 = pids.chain([daemon.pid()]).map(leaks::resident_kib).sum();
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let values = [
            (MEMORY, resident as f64 / 1024.0),
            (DESCRIPTORS, held.descriptors as f64),
            ("processes below the daemon", held.processes as f64),
            ("mounts", held.mounts as f64),
            ("cgroups", held.cgroups as f64),
            ("temporary files", held.temporary_files as f64),
        ];
        Self { sessions, values }
    }
}

const DESCRIPTORS: &str = "open descriptors";

/// One value of the second fifth of a run and of its last: the medians of memory, the most of the others.
fn fifths(values: &[f64], is_memory: bool) -> [f64; 2] {
    let fifth = values.len().div_ceil(5);
    let second = values.iter().skip(fifth).take(fifth);
    let last = values.iter().skip(values.len() - fifth);
    [second.copied().collect::<Vec<_>>(), last.copied().collect()].map(|mut part| {
        part.sort_by(f64::total_cmp);
        let at = if is_memory {
            part.len() / 2
        } else {
            part.len().saturating_sub(1)
        };
        part.get(at).copied().unwrap_or(f64::NAN)
    })
}

fn report(samples: &Samples, counts: &[Count], took: Duration) -> anyhow::Result<()> {
    let mut report = Report::new("soak");
    report.times(samples, None);
    let sessions = counts.last().map_or(0, |count| count.sessions);
    report.note(&format!(
        "{sessions} sessions, {} executions, {} s.",
        sessions * PER_SESSION,
        took.as_secs()
    ));
    let (mut rows, mut series, mut grown) = (Vec::new(), Vec::new(), Vec::new());
    for (place, (name, _)) in counts[0].values.iter().enumerate() {
        let values: Vec<f64> = counts.iter().map(|count| count.values[place].1).collect();
        let [early, late] = fifths(&values, *name == MEMORY);
        let limit = match *name {
            MEMORY => early * 1.1,
            DESCRIPTORS => early + SPARE_DESCRIPTORS,
            _ => early,
        };
        let first = values.first().copied().unwrap_or(f64::NAN);
        rows.push(vec![
            (*name).to_owned(),
            shown(first),
            shown(early),
            shown(late),
        ]);
        report.aim(
            &format!("{sessions} sessions, the last fifth: {name}"),
            late,
            "",
            Limit::AtMost((limit * 10.0).round() / 10.0),
        );
        if late > limit {
            grown.push(*name);
        }
        #[allow(clippy::cast_precision_loss, reason = "thousands")]
        let points = counts
            .iter()
            .zip(values)
            .map(|(count, value)| (count.sessions as f64, value));
        series.push(plot::Series {
            name: (*name).to_owned(),
            points: points.collect(),
        });
    }
    let header = [
        "held with no session open",
        "at first",
        "second fifth",
        "last fifth",
    ];
    report.table("held", &header, &rows);
    let all: Vec<_> = counts
        .iter()
        .map(|count| json!({ "sessions": count.sessions, "held": count.values.to_vec() }))
        .collect();
    report.set("counts", json!(all));
    let title = format!("What the daemon holds between {sessions} sessions");
    let drawn = plot::lines(&title, "sessions", &series);
    report.publish()?;
    std::fs::write(samples::directory().join("soak.svg"), drawn)?;
    ensure!(grown.is_empty(), "not flat: {}", grown.join(", "));
    Ok(())
}
