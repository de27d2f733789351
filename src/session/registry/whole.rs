//! What there is to say of all sessions together, and their end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Registry;
use crate::session::EndReason;
use crate::tenant::Owner;

impl Registry {
    /// Refuses new work, lets executions run for at most `grace`, then ends every session; returns
    /// when nothing is left.
    pub async fn drain(&self, grace: Duration) {
        const STEP: Duration = Duration::from_millis(20);
        self.inner.draining.store(true, Ordering::Release);
        self.inner.room.close();
        self.inner.kits.end();
        let live = self.sessions().not_ended();
        let quiet = async {
            while live.iter().any(|shared| shared.running() > 0) {
                tokio::time::sleep(STEP).await;
            }
        };
        // Past the grace period what still runs is cancelled with its session.
        let _ = tokio::time::timeout(grace, quiet).await;
        for shared in &live {
            shared.request_end(EndReason::Drained);
        }
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// What is weaker than designed for every session, as each shows it.
    #[must_use]
    pub fn degraded(&self) -> &[String] {
        &self.inner.degraded
    }

    /// Most sessions at the same time.
    #[must_use]
    pub fn max_sessions(&self) -> usize {
        self.inner.deps.configs.session.max_sessions
    }

    /// Whether it takes no new work any more.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::Acquire)
    }

    /// How many sessions are live.
    #[must_use]
    pub fn live_sessions(&self) -> usize {
        self.inner.room.taken()
    }

    /// How many kits stand ready.
    #[must_use]
    pub fn kits_ready(&self) -> usize {
        self.inner.kits.ready()
    }

    /// Callers of `owner` that wait for room for a session.
    #[must_use]
    pub fn waiting(&self, owner: &Owner) -> usize {
        self.inner.room.waiting(owner)
    }
}
