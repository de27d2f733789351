//! All keys of a daemon, in memory: whoever calls is found by a hash and a look-up.
//!
//! A task reads them again when another program (`pagebox key`) has changed the store. Once a store
//! has had a key, keys are asked for, revoked ones included: revoking the last one opens nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use subtle::ConstantTimeEq as _;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::key::{hash, prefix};
use super::rate::Rates;
use super::{Caller, Error, Owner};
use crate::store::{KeyLimits, KeyRecord, Store};
use crate::telemetry::Chain;

/// Between two looks at the store; a change is seen within a second.
const POLL: Duration = Duration::from_millis(250);
/// Longest name of an owner, in characters.
const MAX_USER: usize = 128;

/// Who may call; cheap to clone.
#[derive(Clone, Debug)]
pub struct Keys {
    table: Arc<RwLock<Arc<Table>>>,
    rates: Arc<Rates>,
    wait: Duration,
    #[expect(dead_code, reason = "its drop ends the task")]
    refresh: Arc<AbortOnDropHandle<()>>,
}

#[derive(Debug, Default)]
struct Table {
    /// Whether there is any, or ever was.
    asked_for: bool,
    /// By the head of their hash. None that was revoked.
    keys: HashMap<[u8; 8], Key>,
}

#[derive(Debug)]
struct Key {
    hash: [u8; 32],
    tenant: Arc<str>,
    is_gateway: bool,
    limits: KeyLimits,
}

/// What a request says of who sends it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// The value of `authorization`.
    pub authorization: Option<&'a [u8]>,
    /// The value of `pagebox-owner`.
    pub owner: Option<&'a [u8]>,
}

impl Keys {
    /// Reads the keys, and again whenever they have changed; inside the runtime. A request over its
    /// rate waits for at most `wait`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn load(store: Store, wait: Duration) -> Result<Self, crate::store::Error> {
        // Before the keys: a change between the two is seen as one.
        let version = store.version().await?;
        let table = Arc::new(RwLock::new(Arc::new(Table::of(store.keys().await?))));
        let rates = Arc::new(Rates::default());
        let refresh = refresh(store, version, Arc::clone(&table), Arc::clone(&rates));
        Ok(Self {
            table,
            rates,
            wait,
            refresh: Arc::new(AbortOnDropHandle::new(tokio::spawn(refresh))),
        })
    }

    /// Whether a key is asked for.
    #[must_use]
    pub fn asked_for(&self) -> bool {
        self.table().asked_for
    }

    /// Finds out who calls, and counts the request.
    ///
    /// # Errors
    /// No key, or none that is valid; an owner missing, unreadable or not allowed; too many requests.
    pub async fn admit(&self, credentials: Credentials<'_>) -> Result<Caller, Error> {
        let caller = self.identify(credentials)?;
        if let Some(rate) = caller.rate {
            let deadline = Instant::now() + self.wait;
            self.rates.take(rate, &caller.owner, deadline).await?;
        }
        Ok(caller)
    }

    fn identify(&self, credentials: Credentials<'_>) -> Result<Caller, Error> {
        let table = self.table();
        if !table.asked_for {
            return match credentials.owner {
                Some(_) => Err(Error::OwnerNotAllowed),
                None => Ok(Caller::anonymous()),
            };
        }
        let presented = bearer(credentials.authorization).ok_or(Error::KeyMissing)?;
        let hash = hash(presented);
        let key = table.keys.get(&prefix(&hash));
        let key = key.filter(|key| bool::from(key.hash.ct_eq(&hash)));
        let key = key.ok_or(Error::KeyUnknown)?;
        let user = match (key.is_gateway, credentials.owner) {
            (true, Some(user)) => readable(user)?,
            (true, None) => return Err(Error::OwnerMissing),
            (false, Some(_)) => return Err(Error::OwnerNotAllowed),
            (false, None) => "",
        };
        let most = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(Caller {
            owner: Owner {
                tenant: Arc::clone(&key.tenant),
                user: user.into(),
            },
            max_sessions: key.limits.max_sessions.map_or(usize::MAX, most),
            rate: key.limits.rate,
            session_minutes: key.limits.session_minutes,
            budget: key.limits.budget,
        })
    }

    fn table(&self) -> Arc<Table> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&table)
    }
}

impl Table {
    fn of(records: Vec<KeyRecord>) -> Self {
        let mut tenants: HashMap<String, Arc<str>> = HashMap::new();
        let mut table = Self {
            asked_for: !records.is_empty(),
            ..Self::default()
        };
        for record in records.into_iter().filter(|key| key.revoked.is_none()) {
            let tenant = tenants.entry(record.tenant);
            let tenant = tenant.or_insert_with_key(|name| name.as_str().into());
            let key = Key {
                hash: record.hash,
                tenant: Arc::clone(tenant),
                is_gateway: record.is_gateway,
                limits: record.limits,
            };
            table.keys.insert(prefix(&record.hash), key);
        }
        table
    }
}

async fn refresh(
    store: Store,
    mut version: i64,
    table: Arc<RwLock<Arc<Table>>>,
    rates: Arc<Rates>,
) {
    let failing = Mutex::new(false);
    let report = |failed: Option<&crate::store::Error>| {
        let mut failing = failing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = failed
            && !*failing
        {
            tracing::error!(error = %Chain(error), "cannot read the keys again; the known ones hold");
        }
        *failing = failed.is_some();
    };
    loop {
        tokio::time::sleep(POLL).await;
        rates.forget_idle();
        let read = async {
            let now = store.version().await?;
            if now == version {
                return Ok(None);
            }
            Ok(Some((now, store.keys().await?)))
        };
        match read.await {
            Ok(None) => report(None),
            Ok(Some((now, records))) => {
                report(None);
                version = now;
                let fresh = Arc::new(Table::of(records));
                *table.write().unwrap_or_else(PoisonError::into_inner) = fresh;
            }
            Err(error) => report(Some(&error)),
        }
    }
}

/// What follows `Bearer`, whatever its case.
fn bearer(authorization: Option<&[u8]>) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, key) = authorization?.split_at_checked(SCHEME.len())?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(SCHEME) && !key.is_empty()).then_some(key)
}

fn readable(user: &[u8]) -> Result<&str, Error> {
    let user = str::from_utf8(user).map_err(|_| Error::OwnerUnreadable)?;
    let length = user.chars().count();
    let good = (1..=MAX_USER).contains(&length)
        && !user.chars().any(char::is_control)
        && user.trim() == user;
    good.then_some(user).ok_or(Error::OwnerUnreadable)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::{Secret, id_of};
    use super::*;

    fn record(secret: &Secret, is_gateway: bool, limits: KeyLimits) -> KeyRecord {
        KeyRecord {
            id: id_of(&secret.hash()),
            hash: secret.hash(),
            name: String::new(),
            tenant: "acme".to_owned(),
            is_gateway,
            limits,
            created: SystemTime::now(),
            revoked: None,
        }
    }

    fn sent(key: &Secret) -> String {
        format!("Bearer {}", key.reveal())
    }

    fn with<'a>(authorization: &'a str, owner: Option<&'a str>) -> Credentials<'a> {
        Credentials {
            authorization: Some(authorization.as_bytes()),
            owner: owner.map(str::as_bytes),
        }
    }

    #[tokio::test]
    async fn without_keys_everyone_is_anonymous_and_nobody_names_owners() {
        let keys = Keys::load(Store::in_memory().unwrap(), Duration::ZERO).await;
        let keys = keys.unwrap();
        for authorization in [None, Some("Bearer"), Some("Bearer "), Some("Bearer x")] {
            let credentials = Credentials {
                authorization: authorization.map(str::as_bytes),
                owner: None,
            };
            let caller = keys.admit(credentials).await;
            assert_eq!(caller, Ok(Caller::anonymous()), "{authorization:?}");
        }
        let named = keys.admit(with("Bearer x", Some("ada"))).await;
        assert_eq!(named, Err(Error::OwnerNotAllowed));
    }

    #[tokio::test]
    async fn a_key_says_whose_it_is() {
        let store = Store::in_memory().unwrap();
        let [own, gateway] = [(); 2].map(|()| Secret::generate().unwrap());
        let limits = KeyLimits {
            max_sessions: Some(3),
            rate: None,
            session_minutes: Some(5),
            budget: Some(7),
        };
        store.add_key(record(&own, false, limits)).await.unwrap();
        let record = record(&gateway, true, KeyLimits::default());
        store.add_key(record).await.unwrap();
        let keys = Keys::load(store, Duration::ZERO).await.unwrap();

        let caller = |user: &str, limits: KeyLimits| Caller {
            owner: Owner {
                tenant: "acme".into(),
                user: user.into(),
            },
            max_sessions: limits.max_sessions.map_or(usize::MAX, |most| most as usize),
            rate: None,
            session_minutes: limits.session_minutes,
            budget: limits.budget,
        };
        let lower = sent(&own).replace("Bearer", "bearer");
        for authorization in [sent(&own), lower] {
            let found = keys.admit(with(&authorization, None)).await;
            assert_eq!(found, Ok(caller("", limits)));
        }
        let of_gateway = sent(&gateway);
        let found = keys.admit(with(&of_gateway, Some("ada@x"))).await;
        assert_eq!(found, Ok(caller("ada@x", KeyLimits::default())));

        let long = "x".repeat(129);
        for (authorization, owner, expected) in [
            ("", None, Error::KeyMissing),
            ("Bearer", None, Error::KeyMissing),
            ("Bearer ", None, Error::KeyMissing),
            ("Basic eDp5", None, Error::KeyMissing),
            ("Bearer pb_guessed", None, Error::KeyUnknown),
            (&sent(&own)[..20], None, Error::KeyUnknown),
            (&sent(&own), Some("ada"), Error::OwnerNotAllowed),
            (&of_gateway, None, Error::OwnerMissing),
            (&of_gateway, Some(""), Error::OwnerUnreadable),
            (&of_gateway, Some("a\u{7}"), Error::OwnerUnreadable),
            (&of_gateway, Some(&long), Error::OwnerUnreadable),
        ] {
            let refused = keys.admit(with(authorization, owner)).await;
            assert_eq!(refused, Err(expected), "{owner:?}");
        }
    }

    #[tokio::test]
    async fn what_another_program_does_holds_soon_and_the_last_revoked_key_opens_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pagebox.db");
        let ours = Store::open(&path).unwrap();
        let keys = Keys::load(ours, Duration::ZERO).await.unwrap();
        let other = Store::open(&path).unwrap();
        let key = Secret::generate().unwrap();
        let record = record(&key, false, KeyLimits::default());
        let authorization = sent(&key);
        let becomes = async |expected: Result<&str, Error>| {
            let deadline = Instant::now() + Duration::from_secs(10);
            loop {
                let found = keys.admit(with(&authorization, None)).await;
                let found = found.map(|caller| caller.owner.tenant);
                if found.as_deref() == expected.as_ref().copied() {
                    return;
                }
                assert!(Instant::now() < deadline, "{found:?}, not {expected:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        becomes(Ok("anonymous")).await;
        other.add_key(record.clone()).await.unwrap();
        becomes(Ok("acme")).await;
        other
            .revoke_key(record.id, SystemTime::now())
            .await
            .unwrap();
        becomes(Err(Error::KeyUnknown)).await;
    }
}
