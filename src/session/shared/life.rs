//! How long a session lives, and since when nothing was asked of it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::Shared;
use crate::session::EndReason;

/// How long it lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) since: SystemTime,
    pub(super) ttl: Duration,
    pub(super) idle_ttl: Duration,
}

impl Shared {
    pub(super) fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins another life; `false` when it is already ending.
    pub(in super::super) fn renew(
        &self,
        since: SystemTime,
        ttl: Duration,
        idle_ttl: Duration,
    ) -> bool {
        let mut life = self.life();
        if self.end_request.borrow().is_some() {
            return false;
        }
        self.touch();
        *life = Life {
            since,
            ttl,
            idle_ttl,
        };
        drop(life);
        self.life_changed.notify_one();
        true
    }

    /// Waits until its life is over, or begins anew; why it ends, if it does. From the moment it is
    /// told nobody renews it. Cancel safe.
    pub(in super::super) async fn life_over(&self) -> Option<EndReason> {
        let (left, idle_left) = {
            let life = self.life();
            let end = life.since + life.ttl;
            let left = end.duration_since(SystemTime::now()).unwrap_or_default();
            (left, life.idle_ttl.saturating_sub(self.idle_for()))
        };
        tokio::select! {
            () = tokio::time::sleep(left.min(idle_left)) => {}
            () = self.life_changed.notified() => return None,
        }
        let life = self.life();
        let reason = if life.since + life.ttl <= SystemTime::now() {
            EndReason::TtlExpired
        } else if self.idle_for() >= life.idle_ttl {
            EndReason::IdleExpired
        } else {
            return None;
        };
        self.request_end(reason);
        Some(reason)
    }

    /// It is not idle until what is returned is dropped.
    pub(in super::super) fn watched(self: &Arc<Self>) -> Watched {
        self.watchers.fetch_add(1, Ordering::Relaxed);
        Watched(Arc::clone(self))
    }

    /// It is not idle, whatever is asked of it.
    fn is_busy(&self) -> bool {
        self.running() > 0 || self.watchers.load(Ordering::Relaxed) > 0
    }

    /// Something was asked of it just now.
    pub(in super::super) fn touch(&self) {
        *self.activity() = (Instant::now(), SystemTime::now());
    }

    pub(super) fn last_activity(&self) -> SystemTime {
        if self.is_busy() {
            return SystemTime::now();
        }
        self.activity().1
    }

    fn activity(&self) -> MutexGuard<'_, (Instant, SystemTime)> {
        let activity = self.last_activity.lock();
        activity.unwrap_or_else(PoisonError::into_inner)
    }

    /// How long nothing has run, and nobody whose looking counts has looked; zero while so.
    fn idle_for(&self) -> Duration {
        if self.is_busy() {
            return Duration::ZERO;
        }
        self.activity().0.elapsed()
    }
}

/// Keeps a session from being idle.
#[derive(Debug)]
pub(in super::super) struct Watched(Arc<Shared>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.touch();
        self.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}
