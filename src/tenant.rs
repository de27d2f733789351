//! Tenants: who calls, what belongs to whom, and how much of it there may be.
//!
//! Knows nothing of the wire: whoever reads a request hands over what it says.

use std::fmt;
use std::sync::Arc;

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
}

impl Caller {
    /// Of a daemon without keys: only the daemon's own limits hold.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            owner: Owner::anonymous(),
            max_sessions: usize::MAX,
        }
    }
}
