//! Tenants: who calls, what belongs to whom, and how much of it there may be.
//!
//! Knows nothing of the wire: whoever reads a request hands over what it says.

mod key;
mod keys;
mod rate;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

pub use key::{Secret, id_of};
pub use keys::{Credentials, Keys};

/// Config section `[tenant]`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long a request over its rate, or over the sessions it may open, waits for its turn instead of
    /// being refused; zero: not at all.
    #[serde(with = "humantime_serde")]
    pub wait: Duration,
}

/// Longest wait that may be configured: more than any client waits.
pub const MAX_WAIT: Duration = Duration::from_secs(300);

/// The one tenant of a daemon without keys.
const ANONYMOUS: &str = "anonymous";

/// Whom a session, a scrape or a profile belongs to: a tenant, and in it whoever the tenant's own
/// gateway named.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// The key's tenant.
    pub tenant: Arc<str>,
    /// Named by a gateway key with each request; empty for other keys.
    pub user: Arc<str>,
}

impl Owner {
    /// The owner of everything on a daemon without keys.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            tenant: ANONYMOUS.into(),
            user: "".into(),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tenant)?;
        if !self.user.is_empty() {
            write!(f, "/{}", self.user)?;
        }
        Ok(())
    }
}

/// Who sent a request, and what they may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Owns what the request makes, and sees nothing else.
    pub owner: Owner,
    /// Live sessions of this owner at most; the daemon's own limit holds beside it.
    pub max_sessions: usize,
    /// Requests in a minute at most.
    pub rate: Option<u32>,
    /// Minutes of all its sessions in a calendar month at most.
    pub session_minutes: Option<u32>,
    /// Credits of a calendar month at most.
    pub budget: Option<u32>,
}

impl Caller {
    /// Of a daemon without keys: only the daemon's own limits hold.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            owner: Owner::anonymous(),
            max_sessions: usize::MAX,
            rate: None,
            session_minutes: None,
            budget: None,
        }
    }
}

/// Why a request is not let in. The status of each on the wire is decided in the wire's layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It names no key.
    #[error("Unauthorized: this daemon asks for a key: send Authorization: Bearer KEY")]
    KeyMissing,
    /// Its key is none of this daemon, or was revoked.
    #[error("Unauthorized: the key is unknown here, or was revoked")]
    KeyUnknown,
    /// A gateway key names no owner.
    #[error("pagebox-owner is missing: a gateway key names the owner of each request with it")]
    OwnerMissing,
    /// The owner is no name.
    #[error("pagebox-owner must be given once, as 1 to 128 printable characters")]
    OwnerUnreadable,
    /// An owner is named without a gateway key.
    #[error("pagebox-owner is for gateway keys only, and this request has none")]
    OwnerNotAllowed,
    /// The owner sends too many requests.
    #[error("Rate limit exceeded: {rate} requests a minute are allowed; try again in {} s", whole_seconds(*.retry_after))]
    TooManyRequests {
        /// Of the minute.
        rate: u32,
        /// When one more will be let in.
        retry_after: Duration,
    },
}

/// Seconds, rounded up, at least one: as `Retry-After` says them.
#[must_use]
pub fn whole_seconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000_000))
        .unwrap_or(u64::MAX)
        .max(1)
}

/// The calendar month of a time, in UTC: when it began, and when the next one does.
#[must_use]
pub fn month_of(at: SystemTime) -> (SystemTime, SystemTime) {
    let date = OffsetDateTime::from(at).date();
    let first = |year, month| {
        let date = time::Date::from_calendar_date(year, month, 1);
        let date = date.expect("every month has a first day");
        SystemTime::from(date.midnight().assume_utc())
    };
    let (year, month) = (date.year(), date.month());
    let next_year = year + i32::from(month == time::Month::December);
    (first(year, month), first(next_year, month.next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_begins_and_ends_where_the_calendar_says() {
        let at = |text: &str| humantime::parse_rfc3339(text).unwrap();
        for (inside, first, next) in [
            (
                "2024-02-29T23:59:59Z",
                "2024-02-01T00:00:00Z",
                "2024-03-01T00:00:00Z",
            ),
            (
                "2025-12-01T00:00:00Z",
                "2025-12-01T00:00:00Z",
                "2026-01-01T00:00:00Z",
            ),
        ] {
            assert_eq!(month_of(at(inside)), (at(first), at(next)));
        }
    }

    #[test]
    fn seconds_to_wait_are_whole_and_never_none() {
        for (millis, expected) in [(0, 1), (1, 1), (1000, 1), (1001, 2)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), expected);
        }
    }
}
