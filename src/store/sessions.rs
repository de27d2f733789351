//! The table of sessions, and what follows from it: usage, and whether one more may begin.
//!
//! A row is written at a session's start and completed at its end. What had no end, because its
//! daemon was killed, is closed by the next one.

#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::{Error, Store, duration, millis, span, time};
use crate::id::{ScrapeId, SessionId};

/// Credits of an hour, and the least of a session, when only code ran.
const CODE: (u64, u64) = (120, 2);
/// The same once a prompt was used.
const PROMPT: (u64, u64) = (420, 7);
const HOUR_MILLIS: u128 = 3_600_000;

/// What a session of this length costs.
#[must_use]
pub fn credits(lived: Duration, prompt: bool) -> u64 {
    let (hourly, least) = if prompt { PROMPT } else { CODE };
    let used = (lived.as_millis() * u128::from(hourly)).div_ceil(HOUR_MILLIS);
    u64::try_from(used).unwrap_or(u64::MAX).max(least)
}

/// What a session was made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SessionKind {
    /// Opened over gRPC, or for one execution.
    #[default]
    Grpc,
    /// Opened over HTTP by itself.
    Standalone,
    /// The browser of this scrape, taken over by an interaction.
    Interact(ScrapeId),
}

impl SessionKind {
    fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Standalone => "standalone",
            Self::Interact(_) => "interact",
        }
    }

    fn scrape(self) -> Option<ScrapeId> {
        match self {
            Self::Grpc | Self::Standalone => None,
            Self::Interact(scrape) => Some(scrape),
        }
    }
}

/// A session that begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStart {
    /// Which.
    pub id: SessionId,
    /// Its owner's tenant.
    pub tenant: String,
    /// Its owner in the tenant; empty without a gateway.
    pub user: String,
    /// What for.
    pub kind: SessionKind,
    /// From when on it costs.
    pub created: SystemTime,
    /// Its total life.
    pub ttl: Duration,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// When.
    pub at: SystemTime,
    /// Why, in words.
    pub reason: String,
    /// How long it lived.
    pub lived: Duration,
    /// Whether a prompt was used.
    pub prompt: bool,
    /// What it cost.
    pub credits: u64,
}

/// A session as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its owner's tenant.
    pub tenant: String,
    /// Its owner in the tenant.
    pub user: String,
    /// Its end, if it had one.
    pub finished: Option<Finished>,
}

/// What an owner may use from a time on; live sessions count with what they may still use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The start of what is counted.
    pub since: SystemTime,
    /// Minutes of all sessions together.
    pub session_minutes: Option<u32>,
    /// Credits.
    pub budget: Option<u32>,
}

/// Why one more session may not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Spent {
    /// Its minutes.
    #[error(
        "this month's {allowed} session minutes have {left} left, and a session of {needed} min may \
         use more; ask for a shorter ttl, or wait for the next month"
    )]
    Minutes {
        /// Of the month.
        allowed: u32,
        /// Not used, and not held for live sessions.
        left: u64,
        /// By a whole ttl, rounded up.
        needed: u64,
    },
    /// Its credits.
    #[error(
        "Insufficient credits for a {ttl}s browser session (requires ~{needed} credits): {left} of \
         this month's {budget} are left; ask for a shorter ttl, or wait for the next month"
    )]
    Credits {
        /// Of the month.
        budget: u32,
        /// Not used, and not held for live sessions.
        left: u64,
        /// By a whole ttl.
        needed: u64,
        /// The ttl, in seconds.
        ttl: u64,
    },
}

/// What the sessions of an owner used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many began.
    pub sessions: u64,
    /// How long they lived together; live ones until now.
    pub lived: Duration,
    /// What the ended ones cost, and the live ones would if they ended now.
    pub credits: u64,
}

impl Store {
    /// Keeps that a session began.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn session_began(&self, start: SessionStart) -> Result<(), Error> {
        self.call(move |transaction| insert(transaction, &start))
            .await
    }

    /// The same, if the owner may still use what the session may cost until its ttl.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub async fn admit_session(
        &self,
        start: SessionStart,
        allowance: Allowance,
    ) -> Result<Result<(), Spent>, Error> {
        self.call(move |transaction| {
            let (lived, spent): (i64, i64) = transaction.query_row(
                "SELECT coalesce(sum(coalesce(lived, ttl)), 0), \
                        coalesce(sum(coalesce(credits, reserved)), 0) \
                 FROM sessions WHERE tenant = ? AND user = ? AND created >= ?",
                params![start.tenant, start.user, millis(allowance.since)],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            if let Err(spent) = allowance.check(start.ttl, duration(lived), number(spent)) {
                return Ok(Err(spent));
            }
            insert(transaction, &start).map(Ok)
        })
        .await
    }

    /// Takes back what [`Self::admit_session`] kept: nothing began.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn forget_session(&self, id: SessionId) -> Result<(), Error> {
        self.call(move |transaction| {
            let forget = "DELETE FROM sessions WHERE id = ? AND ended IS NULL";
            transaction.execute(forget, [id.to_string()])?;
            Ok(())
        })
        .await
    }

    /// Keeps how a session ended; the first end stays.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn session_ended(&self, id: SessionId, end: Finished) -> Result<(), Error> {
        self.call(move |transaction| {
            transaction.execute(
                "UPDATE sessions SET ended = ?, end_reason = ?, lived = ?, prompt = ?, credits = ? \
                 WHERE id = ? AND ended IS NULL",
                params![
                    millis(end.at),
                    end.reason,
                    span(end.lived),
                    end.prompt,
                    i64::try_from(end.credits).unwrap_or(i64::MAX),
                    id.to_string(),
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn session(&self, id: SessionId) -> Result<Option<SessionRecord>, Error> {
        self.call(move |transaction| {
            transaction
                .query_row(
                    "SELECT * FROM sessions WHERE id = ?",
                    [id.to_string()],
                    record,
                )
                .optional()
        })
        .await
    }

    /// What an owner's sessions used that began in `since..until`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn usage(
        &self,
        tenant: String,
        user: String,
        since: SystemTime,
        until: SystemTime,
    ) -> Result<Usage, Error> {
        self.call(move |transaction| {
            let mut statement = transaction.prepare(
                "SELECT created, lived, prompt, credits FROM sessions \
                 WHERE tenant = ? AND user = ? AND created >= ? AND created < ?",
            )?;
            let now = millis(SystemTime::now());
            let mut rows = statement.query(params![tenant, user, millis(since), millis(until)])?;
            let mut usage = Usage::default();
            while let Some(row) = rows.next()? {
                let created: i64 = row.get("created")?;
                let lived: Option<i64> = row.get("lived")?;
                let lived = duration(lived.unwrap_or(now.saturating_sub(created)));
                let cost: Option<i64> = row.get("credits")?;
                usage.sessions += 1;
                usage.lived += lived;
                usage.credits += match cost {
                    Some(cost) => number(cost),
                    None => credits(lived, row.get("prompt")?),
                };
            }
            Ok(usage)
        })
        .await
    }

    /// Keeps that the sessions without an end are alive at this time.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn sessions_seen(&self, now: SystemTime) -> Result<(), Error> {
        self.call(move |transaction| {
            let seen = "UPDATE sessions SET seen = ? WHERE ended IS NULL";
            transaction.execute(seen, [millis(now)])?;
            Ok(())
        })
        .await
    }

    /// Ends what a killed daemon left without an end, when it was last seen; gives how many.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn close_sessions(&self, reason: String) -> Result<usize, Error> {
        self.call(move |transaction| {
            let mut statement = transaction
                .prepare("SELECT id, created, seen, prompt FROM sessions WHERE ended IS NULL")?;
            let left: Vec<(String, i64, i64, bool)> = statement
                .query_map([], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })?
                .collect::<Result<_, _>>()?;
            for (id, created, seen, prompt) in &left {
                let lived = seen.saturating_sub(*created).max(0);
                let cost = credits(duration(lived), *prompt);
                transaction.execute(
                    "UPDATE sessions SET ended = ?, end_reason = ?, lived = ?, credits = ? \
                     WHERE id = ?",
                    params![
                        seen,
                        reason,
                        lived,
                        i64::try_from(cost).unwrap_or(i64::MAX),
                        id
                    ],
                )?;
            }
            Ok(left.len())
        })
        .await
    }

    /// Forgets sessions that ended before this time; gives how many.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn sweep_sessions(&self, before: SystemTime) -> Result<usize, Error> {
        self.call(move |transaction| {
            transaction.execute("DELETE FROM sessions WHERE ended < ?", [millis(before)])
        })
        .await
    }
}

impl Allowance {
    fn check(&self, ttl: Duration, lived: Duration, spent: u64) -> Result<(), Spent> {
        const MINUTE: u64 = 60;
        if let Some(allowed) = self.session_minutes {
            let whole = Duration::from_secs(u64::from(allowed) * MINUTE);
            if lived + ttl > whole {
                return Err(Spent::Minutes {
                    allowed,
                    left: whole.saturating_sub(lived).as_secs() / MINUTE,
                    needed: ttl.as_secs().div_ceil(MINUTE),
                });
            }
        }
        if let Some(budget) = self.budget {
            let left = u64::from(budget).saturating_sub(spent);
            let needed = credits(ttl, false);
            if needed > left {
                return Err(Spent::Credits {
                    budget,
                    left,
                    needed,
                    ttl: ttl.as_secs(),
                });
            }
        }
        Ok(())
    }
}

fn insert(transaction: &Transaction<'_>, start: &SessionStart) -> rusqlite::Result<()> {
    let created = millis(start.created);
    transaction.execute(
        "INSERT INTO sessions \
         (id, tenant, user, kind, scrape_id, created, ttl, reserved, prompt, seen) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, false, ?)",
        params![
            start.id.to_string(),
            start.tenant,
            start.user,
            start.kind.name(),
            start.kind.scrape().map(|scrape| scrape.to_string()),
            created,
            span(start.ttl),
            i64::try_from(credits(start.ttl, false)).unwrap_or(i64::MAX),
            created,
        ],
    )?;
    Ok(())
}

fn record(row: &Row<'_>) -> rusqlite::Result<SessionRecord> {
    let ended: Option<i64> = row.get("ended")?;
    let finished = match ended {
        None => None,
        Some(at) => Some(Finished {
            at: time(at),
            reason: row.get("end_reason")?,
            lived: duration(row.get("lived")?),
            prompt: row.get("prompt")?,
            credits: number(row.get("credits")?),
        }),
    };
    Ok(SessionRecord {
        tenant: row.get("tenant")?,
        user: row.get("user")?,
        finished,
    })
}

fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
