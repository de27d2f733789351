//! The honest session: what anyone would run, beside every attack.

use std::time::{Duration, Instant};

use pagebox::grpc::v1::{Language, Outcome, SessionOptions};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client::{Client, OpenSession, describe, seconds};

/// Between two executions.
const PAUSE: Duration = Duration::from_millis(100);
/// The slowest execution, generously: attack and honest share a small machine here. The table has
/// the times.
const LIMIT: Duration = Duration::from_secs(30);

/// A session that lives as long as the daemon.
pub(crate) struct Honest(OpenSession);

/// Its work during one case.
pub(crate) struct Beside {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Vec<Duration>, String>>,
}

impl Honest {
    /// Opens it and lets it work once, so that its processes are there.
    pub(crate) async fn open(client: &Client) -> Self {
        let options = SessionOptions {
            ttl: seconds(3600),
            idle_ttl: seconds(3600),
            ..SessionOptions::default()
        };
        let honest = Self(client.open_with(options).await);
        honest.work().await.expect("it works before any attack");
        honest
    }

    /// Its id.
    pub(crate) fn id(&self) -> &str {
        &self.0.id
    }

    /// One execution that speaks to the page.
    ///
    /// # Errors
    /// What came instead of its result, in words.
    pub(crate) async fn work(&self) -> Result<Duration, String> {
        work(&self.0).await
    }
}

impl Beside {
    /// Works until told to end.
    pub(crate) fn start(honest: &Honest) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let session = honest.0.clone();
        let task = tokio::spawn(async move {
            let mut times = Vec::new();
            loop {
                times.push(work(&session).await?);
                tokio::select! {
                    _ = &mut stopped => return Ok(times),
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        });
        Self { stop, task }
    }

    /// The times of its executions, sorted; at least one.
    ///
    /// # Errors
    /// When one of them did not end as it should.
    pub(crate) async fn end(self) -> Result<Vec<Duration>, String> {
        // An error means that it has ended already, by its own failure.
        let _ = self.stop.send(());
        let ended = self.task.await.map_err(|error| error.to_string())?;
        let mut times = ended.map_err(|why| format!("the honest session beside it: {why}"))?;
        times.sort();
        Ok(times)
    }
}

async fn work(session: &OpenSession) -> Result<Duration, String> {
    let started = Instant::now();
    let options = session.options(Language::Node, "await page.evaluate('6 * 7')");
    let reply = tokio::time::timeout(LIMIT, session.client().execute(options))
        .await
        .map_err(|_| format!("an execution took longer than {LIMIT:?}"))?
        .map_err(|status| status.to_string())?;
    if reply.outcome() == Outcome::Completed && reply.result.as_deref() == Some("42") {
        Ok(started.elapsed())
    } else {
        Err(describe(&reply))
    }
}
