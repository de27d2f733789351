//! What outlives the daemon: one SQLite file, and one thread that alone uses it.
//!
//! Every call is one transaction. The thread takes calls in order; callers wait, without blocking
//! a runtime, in a bounded queue.

mod keys;
mod migrations;
mod scrapes;
mod sessions;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

pub use keys::{KeyLimits, KeyRecord};
pub use scrapes::ScrapeRecord;
pub use sessions::{
    Allowance, Finished, SessionKind, SessionRecord, SessionStart, Spent, Usage, credits,
};

/// Calls waiting for the thread; when full, callers wait.
const QUEUE: usize = 256;
/// How long another program (a `pagebox key` command) may hold the file.
const BUSY: Duration = Duration::from_secs(5);

/// Config section `[store]`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long an ended session is known: its id is answered as ended, and it counts in usage. What
    /// the current month's usage needs stays until the month is over.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(30 * 24 * 60 * 60),
        }
    }
}

type Call = Box<dyn FnOnce(&mut Connection) + Send>;

/// The store; cheap to clone. The file is closed with the last one.
#[derive(Clone, Debug)]
pub struct Store {
    calls: mpsc::Sender<Call>,
}

/// Why something could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error("cannot open {path}: {source}")]
    Open {
        /// Which.
        path: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file was written by a later version of Pagebox.
    #[error("{path} has schema {found}, this version knows up to {known}: use a newer Pagebox")]
    TooNew {
        /// Which.
        path: String,
        /// Its schema.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// A statement.
    #[error("the store failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The thread has ended.
    #[error("the store is closed")]
    Closed,
}

impl Store {
    /// Opens the file, or makes it, readable by this user only, and brings it up to date.
    ///
    /// # Errors
    /// When it cannot be used, or is of a later version.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let failed = |source| Error::Open {
            path: name.clone(),
            source,
        };
        // SQLite gives the files beside it the same mode.
        let mut create = OpenOptions::new();
        create.read(true).write(true).create(true).mode(0o600);
        create.open(path).map_err(|error| failed(error.into()))?;
        let open = || {
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            Ok(connection)
        };
        let connection = open().map_err(|error: rusqlite::Error| failed(error.into()))?;
        Self::over(connection, &name)
    }

    /// One that is gone with the process.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn in_memory() -> Result<Self, Error> {
        Self::over(Connection::open_in_memory()?, "memory")
    }

    fn over(mut connection: Connection, name: &str) -> Result<Self, Error> {
        connection.pragma_update(None, "foreign_keys", true)?;
        migrations::apply(&mut connection, name)?;
        let (calls, mut inbox) = mpsc::channel::<Call>(QUEUE);
        let serve = move || {
            while let Some(call) = inbox.blocking_recv() {
                call(&mut connection);
            }
        };
        let started = thread::Builder::new().name("store".to_owned()).spawn(serve);
        started.map_err(|_| Error::Closed)?;
        Ok(Self { calls })
    }

    /// A number that is another one after another program has changed the file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn version(&self) -> Result<i64, Error> {
        let read = |connection: &mut Connection| {
            connection.pragma_query_value(None, "data_version", |row| row.get(0))
        };
        self.run(read).await
    }

    /// Runs `work` in a transaction, which is undone when it fails. Goes on when the caller does
    /// not wait for it.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        self.run(|connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let call = move |connection: &mut Connection| {
            // Whoever asked may be gone.
            let _ = reply.send(work(connection));
        };
        let sent = self.calls.send(Box::new(call)).await;
        sent.map_err(|_| Error::Closed)?;
        Ok(answer.await.map_err(|_| Error::Closed)??)
    }
}

/// As the file has it.
fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    span(since.unwrap_or_default())
}

fn span(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn time(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + duration(millis)
}
