//! Scrapes: what was asked for, by whom, what came of it, and which session goes on from it.

use std::time::SystemTime;

use rusqlite::{OptionalExtension as _, params};

use super::{Error, Store, millis};
use crate::id::{ScrapeId, SessionId};

/// A scrape as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeRecord {
    /// Its id.
    pub id: ScrapeId,
    /// Of its owner.
    pub tenant: String,
    /// Of its owner.
    pub user: String,
    /// What is needed to do it again, as JSON; none when it cannot be.
    pub options: Option<String>,
    /// The session made of it.
    pub session: Option<SessionId>,
}

impl Store {
    /// Keeps a scrape, with its document's JSON text.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn add_scrape(
        &self,
        record: ScrapeRecord,
        document: Option<String>,
    ) -> Result<(), Error> {
        let now = millis(SystemTime::now());
        self.call(move |transaction| {
            transaction.execute(
                "insert into scrapes (id, tenant, user, created, options, document, session) \
                 values (?, ?, ?, ?, ?, ?, ?)",
                params![
                    record.id.to_string(),
                    record.tenant,
                    record.user,
                    now,
                    record.options,
                    document,
                    record.session.map(|session| session.to_string()),
                ],
            )
        })
        .await
        .map(drop)
    }

    /// Reads one; none when it is not known.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn scrape(&self, id: ScrapeId) -> Result<Option<ScrapeRecord>, Error> {
        self.call(move |transaction| {
            let read = "select tenant, user, options, session from scrapes where id = ?";
            let record = transaction.query_row(read, [id.to_string()], |row| {
                let session: Option<String> = row.get(3)?;
                Ok(ScrapeRecord {
                    id,
                    tenant: row.get(0)?,
                    user: row.get(1)?,
                    options: row.get(2)?,
                    // Written here, from an id.
                    session: session.and_then(|session| session.parse().ok()),
                })
            });
            record.optional()
        })
        .await
    }

    /// Reads a scrape's document; none when none was kept.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn scrape_document(&self, id: ScrapeId) -> Result<Option<String>, Error> {
        self.call(move |transaction| {
            let read = "select document from scrapes where id = ?";
            let found = transaction.query_row(read, [id.to_string()], |row| row.get(0));
            found.optional().map(Option::flatten)
        })
        .await
    }

    /// Notes the session that goes on from a scrape.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn set_scrape_session(&self, id: ScrapeId, session: SessionId) -> Result<(), Error> {
        self.call(move |transaction| {
            let set = "update scrapes set session = ? where id = ?";
            transaction.execute(set, [session.to_string(), id.to_string()])
        })
        .await
        .map(drop)
    }

    /// Forgets scrapes that were made before this time; gives how many.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn sweep_scrapes(&self, before: SystemTime) -> Result<usize, Error> {
        self.call(move |transaction| {
            transaction.execute("delete from scrapes where created < ?", [millis(before)])
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_scrape_outlives_the_store_that_wrote_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pagebox.db");
        let record = ScrapeRecord {
            id: ScrapeId::generate(),
            tenant: "a".into(),
            user: "b".into(),
            options: Some("{}".into()),
            session: None,
        };
        let session = SessionId::generate();
        {
            let store = Store::open(&path).unwrap();
            let added = store.add_scrape(record.clone(), Some("{\"a\":1}".into()));
            added.await.unwrap();
            assert_eq!(store.scrape(record.id).await.unwrap(), Some(record.clone()));
            store.set_scrape_session(record.id, session).await.unwrap();
        }
        let store = Store::open(&path).unwrap();
        let read = store.scrape(record.id).await.unwrap().unwrap();
        assert_eq!(read.session, Some(session));
        let document = store.scrape_document(record.id).await.unwrap();
        assert_eq!(document.as_deref(), Some("{\"a\":1}"));
        assert_eq!(store.scrape(ScrapeId::generate()).await.unwrap(), None);
        let hour = Duration::from_secs(3600);
        let swept = store.sweep_scrapes(SystemTime::now() - hour).await;
        assert_eq!(swept.unwrap(), 0);
        let swept = store.sweep_scrapes(SystemTime::now() + hour).await;
        assert_eq!(swept.unwrap(), 1);
        assert_eq!(store.scrape(record.id).await.unwrap(), None);
    }
}
