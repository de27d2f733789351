//! A session's bytes, counted across its connections, and the bound on them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::Bytes;

/// Bytes of all connections of a session to hosts.
#[derive(Debug)]
pub(super) struct Meter {
    sent: AtomicU64,
    received: AtomicU64,
    most: Bytes,
}

impl Meter {
    /// Counts up to `most`, both ways together.
    pub(super) fn new(most: Bytes) -> Self {
        Self {
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            most,
        }
    }

    pub(super) fn add_sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// To hosts, so far.
    pub(super) fn sent(&self) -> Bytes {
        Bytes(self.sent.load(Ordering::Relaxed))
    }

    /// From hosts, so far.
    pub(super) fn received(&self) -> Bytes {
        Bytes(self.received.load(Ordering::Relaxed))
    }

    /// What may still pass.
    pub(super) fn left(&self) -> Bytes {
        let passed = self.sent().0.saturating_add(self.received().0);
        Bytes(self.most.0.saturating_sub(passed))
    }
}
