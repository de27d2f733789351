//! What a caller sees at each limit, and whether the daemon still serves another one.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pagebox::grpc::v1::{ExecuteResponse, Language, Outcome};
use tonic::{Code, Status};

use super::common::client::{Client, OpenSession, reason};
use super::common::daemon::Daemon;
use super::common::report::{Report, shown};
use super::common::{ground, leaks};
use super::{serves, stop};

/// Sessions, where their number is the limit.
const ROOM: usize = 4;
/// Executions sent at once, more than a session takes.
const CROWD: usize = 40;
/// Sessions that take all their memory at once.
const EATERS: usize = 4;
const LONG: Duration = Duration::from_secs(60);
const EATS_IN_CODE: &str = "const hoard = []; for (;;) hoard.push(Buffer.alloc(16 << 20, 1))";
const EATS_IN_PAGE: &str = "await page.evaluate(() => { const hoard = [];
  for (;;) hoard.push(new Uint8Array(16 << 20).fill(1)); })";

/// The table of limits, a row for each.
struct Table(Vec<Vec<String>>);

impl Table {
    async fn row(
        &mut self,
        what: &str,
        seen: String,
        took: Duration,
        daemon: &mut Daemon,
        other: &OpenSession,
    ) -> anyhow::Result<()> {
        let answers = serves(daemon, other).await?;
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52 KiB")]
        let resident = leaks::resident_kib(daemon.pid()) as f64 / 1024.0;
        let milliseconds = |time: Duration| shown(time.as_secs_f64() * 1000.0);
        self.0.push(vec![
            what.to_owned(),
            seen,
            milliseconds(took),
            milliseconds(answers),
            shown(resident),
        ]);
        Ok(())
    }
}

/// Drives a daemon to each of its limits.
pub(crate) async fn all(report: &mut Report) -> anyhow::Result<()> {
    let mut table = Table(Vec::new());
    count(&mut table).await?;
    queue(&mut table).await?;
    memory(&mut table).await?;
    let header = [
        "at the limit",
        "what the caller sees",
        "after ms",
        "another session answers in ms",
        "daemon RSS, MiB",
    ];
    report.table("limits", &header, &table.0);
    Ok(())
}

/// More sessions than `session.max_sessions`.
async fn count(table: &mut Table) -> anyhow::Result<()> {
    let mut daemon = ground::start(&format!("[session]\nmax_sessions = {ROOM}\n"));
    let client = Client::new(&daemon.url());
    let mut open = Vec::new();
    for _ in 0..ROOM {
        open.push(ground::open(&client, "").await?);
    }
    let begun = Instant::now();
    let refused = client.create(Default::default()).await;
    let took = begun.elapsed();
    let refused = refused.err().context("one session too many opened")?;
    ensure!(refused.code() == Code::ResourceExhausted, "{refused}");
    let what = format!("{ROOM} sessions of {ROOM}, one more");
    let other = open[0].clone();
    table
        .row(&what, words(&refused), took, &mut daemon, &other)
        .await?;
    // What it advises helps.
    let last = open.pop().context("there are some")?;
    last.stop().await;
    open.push(ground::open(&client, "").await?);
    stop(open).await;
    Ok(())
}

/// More executions than one session runs and lets wait.
async fn queue(table: &mut Table) -> anyhow::Result<()> {
    let mut daemon = ground::start("");
    let client = Client::new(&daemon.url());
    let (busy, other) = (
        ground::open(&client, "").await?,
        ground::open(&client, "").await?,
    );
    let slow = "await new Promise((resolve) => setTimeout(resolve, 200))";
    let begun = Instant::now();
    let calls = (0..CROWD).map(|_| async {
        let reply = client.execute(busy.options(Language::Node, slow)).await;
        (reply, begun.elapsed())
    });
    let all = futures_util::future::join_all(calls).await;
    let ran = all.iter().filter(|(reply, _)| reply.is_ok()).count();
    let refused = all
        .into_iter()
        .filter_map(|(reply, took)| Some((reply.err()?, took)));
    let (status, took) = refused
        .max_by_key(|(_, took)| *took)
        .context("none was refused")?;
    ensure!(status.code() == Code::ResourceExhausted, "{status}");
    let what = format!("{CROWD} executions of one session at once");
    let seen = format!("{ran} ran; the others: {}", words(&status));
    table.row(&what, seen, took, &mut daemon, &other).await?;
    stop(vec![busy, other]).await;
    Ok(())
}

/// Sessions that take more memory than `session.memory`.
async fn memory(table: &mut Table) -> anyhow::Result<()> {
    let mut daemon = ground::start("[session]\nmemory = \"512 MiB\"\n");
    let client = Client::new(&daemon.url());
    let other = ground::open(&client, "").await?;
    for (what, code) in [("code", EATS_IN_CODE), ("a page", EATS_IN_PAGE)] {
        let mut open = Vec::new();
        for _ in 0..EATERS {
            open.push(ground::open(&client, "").await?);
        }
        let begun = Instant::now();
        let replies = open
            .iter()
            .map(|session| session.exec_within(LONG, Language::Node, code));
        let replies = futures_util::future::join_all(replies).await;
        let took = begun.elapsed();
        ensure!(
            replies
                .iter()
                .all(|reply| reply.outcome() != Outcome::Completed),
            "a session took all the memory it wanted"
        );
        let what = format!("{EATERS} sessions of 512 MiB, {what} takes all it can get");
        table
            .row(&what, outcomes(&replies), took, &mut daemon, &other)
            .await?;
        stop(open).await;
    }
    other.stop().await;
    Ok(())
}

fn words(status: &Status) -> String {
    // As gRPC spells them.
    let code = match status.code() {
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED".to_owned(),
        code => format!("{code:?}"),
    };
    format!("{code} ({}): {}", reason(status), status.message())
}

/// How executions ended, with how many did, and the message of the first.
fn outcomes(replies: &[ExecuteResponse]) -> String {
    let mut seen: Vec<(&str, usize, String)> = Vec::new();
    for reply in replies {
        let name = reply.outcome().as_str_name().trim_start_matches("OUTCOME_");
        match seen.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, count, _)) => *count += 1,
            None => {
                let error = reply.error.as_ref().map(|error| error.message.clone());
                seen.push((name, 1, error.unwrap_or_default()));
            }
        }
    }
    let mut text = String::new();
    for (name, count, message) in seen {
        let message: String = message
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(120)
            .collect();
        let _ = write!(
            text,
            "{}{count} times {name}: {message}",
            if text.is_empty() { "" } else { "; " }
        );
    }
    text
}
