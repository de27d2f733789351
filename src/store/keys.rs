//! The table of API keys. Holds hashes; what a key is made of, and who may do what with it, is
//! `tenant`'s.

use std::time::SystemTime;

use rusqlite::{OptionalExtension as _, Row, params};

use super::{Error, Store, millis, time};

/// What the owners that call with a key may, each of them; `None` is without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// Live sessions at once.
    pub max_sessions: Option<u32>,
    /// Requests in a minute.
    pub rate: Option<u32>,
    /// Minutes of all sessions of a calendar month together.
    pub session_minutes: Option<u32>,
    /// Credits of a calendar month.
    pub budget: Option<u32>,
}

/// A key, without what opens anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Names it to people.
    pub id: String,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    /// What it is for; may be empty.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// Whether its requests name their owner themselves.
    pub is_gateway: bool,
    /// Limits of each owner.
    pub limits: KeyLimits,
    /// When it was made.
    pub created: SystemTime,
    /// When it was revoked.
    pub revoked: Option<SystemTime>,
}

impl Store {
    /// Adds a key.
    ///
    /// # Errors
    /// When it cannot be written, or its id or hash is there already.
    pub async fn add_key(&self, key: KeyRecord) -> Result<(), Error> {
        self.call(move |transaction| {
            transaction.execute(
                "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                params![
                    key.id,
                    key.hash,
                    key.name,
                    key.tenant,
                    key.is_gateway,
                    key.limits.max_sessions,
                    key.limits.rate,
                    key.limits.session_minutes,
                    key.limits.budget,
                    millis(key.created),
                    key.revoked.map(millis),
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// All keys, oldest first, revoked ones too.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn keys(&self) -> Result<Vec<KeyRecord>, Error> {
        self.call(|transaction| {
            let mut statement = transaction.prepare("SELECT * FROM keys ORDER BY created, id")?;
            statement.query_map([], key)?.collect()
        })
        .await
    }

    /// Revokes a key; gives it as it now is, or `None` when there is none of this id. One that was
    /// revoked before stays so from then.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn revoke_key(
        &self,
        id: String,
        now: SystemTime,
    ) -> Result<Option<KeyRecord>, Error> {
        self.call(move |transaction| {
            transaction.execute(
                "UPDATE keys SET revoked = ? WHERE id = ? AND revoked IS NULL",
                params![millis(now), id],
            )?;
            transaction
                .query_row("SELECT * FROM keys WHERE id = ?", [id], key)
                .optional()
        })
        .await
    }
}

fn key(row: &Row<'_>) -> rusqlite::Result<KeyRecord> {
    Ok(KeyRecord {
        id: row.get("id")?,
        hash: row.get("hash")?,
        name: row.get("name")?,
        tenant: row.get("tenant")?,
        is_gateway: row.get("is_gateway")?,
        limits: KeyLimits {
            max_sessions: row.get("max_sessions")?,
            rate: row.get("rate")?,
            session_minutes: row.get("session_minutes")?,
            budget: row.get("budget")?,
        },
        created: time(row.get("created")?),
        revoked: row.get::<_, Option<i64>>("revoked")?.map(time),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn a_key(id: &str) -> KeyRecord {
        KeyRecord {
            id: id.to_owned(),
            hash: [id.as_bytes()[0]; 32],
            name: "laptop".to_owned(),
            tenant: "acme".to_owned(),
            is_gateway: true,
            limits: KeyLimits {
                max_sessions: Some(3),
                rate: Some(60),
                session_minutes: None,
                budget: Some(1000),
            },
            created: time(1_700_000_000_123),
            revoked: None,
        }
    }

    #[tokio::test]
    async fn keys_read_back_and_are_revoked_once() {
        let store = Store::in_memory().unwrap();
        let (first, second) = (a_key("a"), a_key("b"));
        store.add_key(first.clone()).await.unwrap();
        store.add_key(second.clone()).await.unwrap();
        store.add_key(first.clone()).await.unwrap_err();
        let revoked = KeyRecord {
            revoked: Some(time(5)),
            ..first
        };
        for now in [5, 6] {
            let found = store.revoke_key("a".to_owned(), time(now)).await.unwrap();
            assert_eq!(found.as_ref(), Some(&revoked));
        }
        let none = store.revoke_key("c".to_owned(), time(7)).await.unwrap();
        assert_eq!(none, None);
        assert_eq!(store.keys().await.unwrap(), [revoked, second]);
    }

    #[tokio::test]
    async fn a_change_by_another_program_is_seen_in_the_version() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pagebox.db");
        let (ours, other) = (Store::open(&path).unwrap(), Store::open(&path).unwrap());
        let before = ours.version().await.unwrap();
        ours.add_key(a_key("a")).await.unwrap();
        assert_eq!(ours.version().await.unwrap(), before);
        other.add_key(a_key("b")).await.unwrap();
        assert_ne!(ours.version().await.unwrap(), before);
        assert_eq!(ours.keys().await.unwrap().len(), 2);
        for file in std::fs::read_dir(directory.path()).unwrap() {
            let file = file.unwrap();
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file:?}");
        }
    }
}
