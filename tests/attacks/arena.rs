//! Where cases run: one daemon, an honest session beside the attack, and what is looked at after
//! every case.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use pagebox::grpc::v1::{Language, Outcome, SessionOptions};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::case::Case;
use crate::client::{Client, OpenSession, describe, seconds};
use crate::daemon::Daemon;
use crate::leaks::{Holdings, holdings, resident_kib};
use crate::site::Site;

const CONFIG: &str = "[session]\nmax_sessions = 20\n";
/// No case takes this long; a hang is a failure.
const CASE_LIMIT: Duration = Duration::from_secs(180);
/// Generous: what is asked for is one second, and the table says how long it was.
const CLEAN_LIMIT: Duration = Duration::from_secs(10);
/// Between two executions of the honest session.
const HONEST_PAUSE: Duration = Duration::from_millis(100);
/// The honest session's slowest execution, generously: attack and honest share two cores here.
const HONEST_LIMIT: Duration = Duration::from_secs(20);
/// What the daemon may keep of a case in memory.
const MEMORY_LIMIT_KIB: u64 = 64 << 10;

/// All cases' ground, built by the first that runs, and the rows of the table.
#[derive(Default)]
pub(crate) struct Arena {
    ground: OnceLock<(Ground, Runtime)>,
    rows: Mutex<Vec<Row>>,
}

/// What a case has to work with.
pub(crate) struct Ground {
    daemon: Daemon,
    site: Site,
    client: Client,
}

struct Row {
    number: u16,
    name: &'static str,
    verdict: Result<Observed, String>,
    took: Duration,
}

/// What was seen around a case.
struct Observed {
    /// Sorted times of the honest session's executions.
    honest: Vec<Duration>,
    clean_after: Duration,
    /// Of the daemon, against before the case.
    memory_kib: i64,
}

impl Arena {
    /// Runs a case and looks at what is left of it.
    ///
    /// # Errors
    /// With what was wrong, in words.
    pub(crate) fn run(&self, case: &'static Case) -> Result<(), String> {
        let (ground, runtime) = self.ground.get_or_init(|| {
            let runtime = Runtime::new().expect("a runtime");
            let ground = runtime.block_on(Ground::start());
            (ground, runtime)
        });
        let started = Instant::now();
        let work = std::panic::AssertUnwindSafe(|| runtime.block_on(ground.observe(case)));
        let verdict = std::panic::catch_unwind(work).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(text.unwrap_or_else(|| "it panicked".to_owned()))
        });
        let result = verdict.as_ref().map(|_| ()).map_err(Clone::clone);
        self.rows.lock().expect("no panic with it").push(Row {
            number: case.number,
            name: case.name,
            verdict,
            took: started.elapsed(),
        });
        result
    }

    /// A line for each case that ran.
    pub(crate) fn print_table(&self) {
        let rows = self.rows.lock().expect("no panic with it");
        if rows.is_empty() {
            return;
        }
        let mut out = std::io::stdout().lock();
        let head = "case                                          result   took  clean  honest p50/p99    memory";
        let _ = writeln!(out, "\n{head}");
        for row in &*rows {
            let name = format!("{:>3} {}", row.number, row.name);
            let took = row.took.as_secs_f64();
            let _ = match &row.verdict {
                Ok(seen) => writeln!(
                    out,
                    "{name:<46}held   {took:>4.1} s {:>4} ms {:>6}/{:<6} ms {:>+6} KiB",
                    seen.clean_after.as_millis(),
                    seen.percentile(50).as_millis(),
                    seen.percentile(99).as_millis(),
                    seen.memory_kib
                ),
                Err(_) => writeln!(out, "{name:<46}FAILED {took:>4.1} s"),
            };
        }
    }
}

impl Observed {
    fn percentile(&self, percent: usize) -> Duration {
        let last = self.honest.len().saturating_sub(1);
        self.honest
            .get(last * percent / 100)
            .copied()
            .unwrap_or_default()
    }
}

impl Ground {
    async fn start() -> Self {
        let daemon = Daemon::start(Path::new(env!("CARGO_BIN_EXE_pagebox")), CONFIG);
        let client = Client::new(&daemon.url());
        let site = Site::start().await.expect("a free port");
        Self {
            daemon,
            site,
            client,
        }
    }

    /// The daemon under attack.
    pub(crate) fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// A web site on the host's loopback, which this daemon lets sessions reach.
    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    /// A connection to the daemon.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// A new session on a page of the site. The case stops it.
    pub(crate) async fn open(&self, path: &str) -> OpenSession {
        self.client.open(&self.site.url(path)).await
    }

    /// A new session on a blank page. The case stops it.
    pub(crate) async fn blank(&self) -> OpenSession {
        self.client.open("about:blank").await
    }

    fn holdings(&self) -> Holdings {
        holdings(self.daemon.pid(), &self.daemon.temporary())
    }

    async fn observe(&self, case: &Case) -> Result<Observed, String> {
        let options = SessionOptions {
            ttl: seconds(600),
            ..SessionOptions::default()
        };
        let honest = self.client.open_with(options).await;
        work(&honest).await?;
        let before = self.holdings();
        let memory = resident_kib(self.daemon.pid());
        let (stop, stopped) = oneshot::channel();
        let beside = tokio::spawn(beside(honest.clone(), stopped));
        let attacked = tokio::time::timeout(CASE_LIMIT, (case.run)(self)).await;
        let cleaning = Instant::now();
        // The honest session's own work comes and goes, so it ends before anything is counted.
        let _ = stop.send(());
        let times = beside.await.map_err(|error| error.to_string())?;
        attacked.map_err(|_| format!("it did not end within {CASE_LIMIT:?}"))?;
        let honest_times = times.map_err(|why| format!("the honest session beside it: {why}"))?;
        work(&honest).await?;
        let mut after = self.holdings();
        while after != before && cleaning.elapsed() < CLEAN_LIMIT {
            tokio::time::sleep(Duration::from_millis(20)).await;
            after = self.holdings();
        }
        let clean_after = cleaning.elapsed();
        if after != before {
            return Err(format!(
                "{CLEAN_LIMIT:?} later the daemon holds\n{after:?}, before\n{before:?}"
            ));
        }
        let now = resident_kib(self.daemon.pid());
        if now > memory + MEMORY_LIMIT_KIB {
            return Err(format!("the daemon grew from {memory} to {now} KiB"));
        }
        honest.stop().await;
        Ok(Observed {
            honest: honest_times,
            clean_after,
            memory_kib: now.cast_signed() - memory.cast_signed(),
        })
    }
}

/// One execution as anyone would run it.
async fn work(honest: &OpenSession) -> Result<Duration, String> {
    let started = Instant::now();
    let reply = honest.exec(Language::Node, "await page.evaluate('6 * 7')");
    let reply = tokio::time::timeout(HONEST_LIMIT, reply)
        .await
        .map_err(|_| format!("an execution took longer than {HONEST_LIMIT:?}"))?;
    if reply.outcome() == Outcome::Completed && reply.result.as_deref() == Some("42") {
        Ok(started.elapsed())
    } else {
        Err(describe(&reply))
    }
}

/// Works until told to stop; the times, sorted.
async fn beside(
    honest: OpenSession,
    mut stopped: oneshot::Receiver<()>,
) -> Result<Vec<Duration>, String> {
    let mut times = Vec::new();
    while stopped.try_recv().is_err() {
        times.push(work(&honest).await?);
        tokio::time::sleep(HONEST_PAUSE).await;
    }
    times.sort();
    Ok(times)
}
