//! Places for connections: how many each listener may hold, and the file descriptors they share.
//!
//! Every listener has a few places of its own, which nothing can take away. Those beyond come from
//! one pool of the daemon, made so that all of them in use leave it the file descriptors it needs.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Config, dial, upstream};

/// Places of a listener's own: as many connections as Chromium opens through one proxy, WebSockets
/// aside, so that a browser whose idle tunnels fill them closes one itself.
const OWN: usize = 32;
/// For the browser, for the code, and for the host's ports inside.
const LISTENERS: usize = 3;
/// Who looks names up: browser and code.
const SOURCES: usize = 2;
/// The client's end and the host's.
const FILES: usize = 2;
/// The client of a listener that waits for a place.
const WAITING_FILES: usize = 1;

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
        LISTENERS * (OWN * FILES + WAITING_FILES)
            + SOURCES * dial::EXTRA_FILES
            + upstream::EXTRA_FILES
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

    /// A place for a listener that has `taken` of them, if there is one now.
    pub(super) fn free(&self, taken: usize) -> Option<Place> {
        if taken >= self.most {
            return None;
        }
        if taken < OWN {
            return Some(Place(None));
        }
        let shared = Arc::clone(&self.shared).try_acquire_owned().ok()?;
        Some(Place(Some(shared)))
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
            connections: OWN + 2,
            ..Config::default()
        };
        let places = Places::new(&config, 3 * FILES);
        let next = |taken| places.next(taken).now_or_never();
        let held: Vec<_> = (0..OWN + 2)
            .map(|taken| next(taken).expect("a place"))
            .collect();
        assert!(next(OWN + 2).is_none(), "the most one may have");
        // Another listener gets its own, and the one that is left.
        let other: Vec<_> = (0..=OWN)
            .map(|taken| next(taken).expect("a place"))
            .collect();
        assert!(next(OWN + 1).is_none(), "the pool is empty");
        assert!(places.free(OWN + 1).is_none() && places.free(OWN - 1).is_some());
        drop(held);
        assert!(next(OWN + 1).is_some() && places.free(OWN + 1).is_some());
        drop(other);
    }

    #[test]
    fn without_open_files_to_share_each_of_three_listeners_has_its_own() {
        let places = Places::new(&Config::default(), 0);
        let next = |taken| places.next(taken).now_or_never();
        let held: Vec<_> = (0..LISTENERS)
            .flat_map(|_| (0..OWN).map(|taken| next(taken).expect("a place")))
            .collect();
        assert_eq!(held.len(), LISTENERS * OWN);
        assert!(next(OWN).is_none());
    }
}
