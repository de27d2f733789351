//! What outlives the daemon: one SQLite file, and one thread that alone uses it.
//!
//! Every call is one transaction. The thread takes calls in order; callers wait, without blocking
//! a runtime, in a bounded queue.

mod migrations;
mod scrapes;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

pub use scrapes::ScrapeRecord;

/// Calls waiting for the thread; when full, callers wait.
const QUEUE: usize = 256;
/// How long another program (a `pagebox key` command) may hold the file.
const BUSY: Duration = Duration::from_secs(5);

/// Config section `[store]`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The file, in a directory the daemon may write to; without it nothing outlives the daemon.
    pub path: Option<PathBuf>,
}

impl Config {
    /// Opens what is configured.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(&self) -> Result<Store, Error> {
        match &self.path {
            Some(path) => Store::open(path),
            None => Store::in_memory(),
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
        source: rusqlite::Error,
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
        let connection = Connection::open(path).map_err(failed)?;
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .map_err(failed)?;
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
        connection.busy_timeout(BUSY)?;
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

    /// Runs `work` in a transaction, which is undone when it fails. Goes on when the caller does
    /// not wait for it.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let call = move |connection: &mut Connection| {
            let done = || {
                let transaction =
                    connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let value = work(&transaction)?;
                transaction.commit()?;
                Ok(value)
            };
            // Whoever asked may be gone.
            let _ = reply.send(done());
        };
        let sent = self.calls.send(Box::new(call)).await;
        sent.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}
