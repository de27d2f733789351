//! Places for connections: how many each listener may hold, and the file descriptors they share.
//!
//! Every listener has a few places of its own, which nothing can take away. Those beyond come from
//! one pool of the daemon, made so that all of them in use leave it the file descriptors it needs.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Config, dial};

/// Places of a listener's own.
const OWN: usize = 16;
/// For the browser, for the code, and for the host's ports inside.
const LISTENERS: usize = 3;
/// Who looks names up: browser and code.
const SOURCES: usize = 2;
/// The client's end and the host's.
const FILES: usize = 2;

/// The places of every listener of a daemon; cheap to clone.
#[derive(Clone, Debug)]
pub struct Places {
    most: usize,
    shared: Arc<Semaphore>,
}

impl Places {
    /// Open files that places of their own take in one session, its lookups included.
    #[must_use]
    pub fn own_files() -> usize {
        LISTENERS * OWN * FILES + SOURCES * dial::EXTRA_FILES
    }

    /// Open files that all places beyond take in `sessions` sessions.
    #[must_use]
    pub fn shared_files(config: &Config, sessions: usize) -> usize {
        sessions
            .saturating_mul(LISTENERS * FILES)
            .saturating_mul(config.connections.saturating_sub(OWN))
    }

    /// At most `config.connections` for each listener, those beyond its own out of `files` open
    /// files.
    #[must_use]
    pub fn new(config: &Config, files: usize) -> Self {
        Self {
            most: config.connections,
            shared: Arc::new(Semaphore::new((files / FILES).min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Waits for a place for a listener that has `taken` of them, not while it has all it may.
    pub(super) async fn next(&self, taken: usize) -> Place {
        if taken >= self.most {
            // The caller asks again when one has been given back.
            return std::future::pending().await;
        }
        if taken < OWN {
            return Place(None);
        }
        // Never closed, so this only waits.
        Place(Arc::clone(&self.shared).acquire_owned().await.ok())
    }
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place(
    #[expect(dead_code, reason = "its drop gives it back")] Option<OwnedSemaphorePermit>,
);

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_listeners_own_places_are_never_taken_by_others() {
        let config = Config {
            connections: 18,
            ..Config::default()
        };
        let places = Places::new(&config, 3 * FILES);
        let next = |taken| places.next(taken).now_or_never();
        let held: Vec<_> = (0..18).map(|taken| next(taken).expect("a place")).collect();
        assert!(next(18).is_none(), "the most one may have");
        // Another listener gets its own, and the one that is left.
        let other: Vec<_> = (0..17).map(|taken| next(taken).expect("a place")).collect();
        assert!(next(17).is_none(), "the pool is empty");
        drop(held);
        assert!(next(17).is_some());
        drop(other);
    }
}
