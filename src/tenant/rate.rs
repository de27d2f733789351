//! Requests in a minute, counted for each owner.
//!
//! Owners wait, where waiting is configured, each for its own tokens: none can delay another.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

use super::{Error, Owner};

type Limiter = DefaultKeyedRateLimiter<Owner>;

/// One limiter for each rate that keys have: two keys of one tenant share what it has used.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<HashMap<u32, Arc<Limiter>>>);

impl Rates {
    /// Takes one request of a minute's `rate`; waits for it until the deadline.
    pub(super) async fn take(
        &self,
        rate: u32,
        owner: &Owner,
        deadline: Instant,
    ) -> Result<(), Error> {
        let limiter = self.limiter(rate);
        loop {
            let Err(not_until) = limiter.check_key(owner) else {
                return Ok(());
            };
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            if Instant::now() + wait > deadline {
                return Err(Error::TooManyRequests {
                    rate,
                    retry_after: wait,
                });
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Forgets owners whose minute is whole again.
    pub(super) fn forget_idle(&self) {
        let limiters: Vec<_> = self.lock().values().cloned().collect();
        for limiter in limiters {
            limiter.retain_recent();
        }
    }

    fn limiter(&self, rate: u32) -> Arc<Limiter> {
        let new = || {
            let rate = NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN);
            Arc::new(RateLimiter::keyed(Quota::per_minute(rate)))
        };
        Arc::clone(self.lock().entry(rate).or_insert_with(new))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Arc<Limiter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn owner(user: &str) -> Owner {
        Owner {
            tenant: "acme".into(),
            user: user.into(),
        }
    }

    #[tokio::test]
    async fn each_owner_has_its_own_minute() {
        let rates = Rates::default();
        let now = Instant::now();
        for user in ["ada", "bob"] {
            for _ in 0..2 {
                rates.take(2, &owner(user), now).await.unwrap();
            }
            let refused = rates.take(2, &owner(user), now).await.unwrap_err();
            let Error::TooManyRequests { rate, retry_after } = refused else {
                panic!("{refused:?}");
            };
            assert_eq!(rate, 2);
            assert!(retry_after <= Duration::from_secs(30), "{retry_after:?}");
        }
        rates.forget_idle();
        assert_eq!(rates.limiter(2).len(), 2);
    }

    #[tokio::test]
    async fn where_waiting_is_allowed_a_request_comes_through_later() {
        let rates = Rates::default();
        // One more every 10 ms.
        for _ in 0..6000 {
            rates
                .take(6000, &owner("ada"), Instant::now())
                .await
                .unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        for _ in 0..3 {
            rates.take(6000, &owner("ada"), deadline).await.unwrap();
        }
    }
}
