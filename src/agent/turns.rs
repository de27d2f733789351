//! One prompt at a time in a session, first come first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use super::Error;
use crate::id::SessionId;

/// Who waits for which session.
#[derive(Debug)]
pub(super) struct Turns {
    most: usize,
    sessions: Mutex<HashMap<SessionId, Weak<tokio::sync::Mutex<()>>>>,
}

impl Turns {
    /// Turns for which at most so many wait.
    pub(super) fn new(most: usize) -> Self {
        let sessions = Mutex::default();
        Self { most, sessions }
    }

    /// Waits until no other prompt works in a session. Cancel safe.
    ///
    /// # Errors
    /// When too many wait already.
    pub(super) async fn take(&self, session: SessionId) -> Result<OwnedMutexGuard<()>, Error> {
        let turn = {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.retain(|_, turn| turn.strong_count() > 0);
            match sessions.get(&session).and_then(Weak::upgrade) {
                // Each that waits, and the one at work, holds it; and now this one.
                Some(turn) if Arc::strong_count(&turn) > self.most + 1 => {
                    return Err(Error::Busy { waiting: self.most });
                }
                Some(turn) => turn,
                None => {
                    let turn = Arc::default();
                    sessions.insert(session, Arc::downgrade(&turn));
                    turn
                }
            }
        };
        Ok(turn.lock_owned().await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn they_come_one_by_one_and_not_too_many() {
        let turns = Arc::new(Turns::new(2));
        let session = SessionId::generate();
        let first = turns.take(session).await.unwrap();
        let other = turns.take(SessionId::generate()).await.unwrap();
        let wait = || {
            let turns = Arc::clone(&turns);
            tokio::spawn(async move { turns.take(session).await.map(drop) })
        };
        let waiting = [wait(), wait()];
        while {
            let sessions = turns.sessions.lock().unwrap();
            sessions[&session].strong_count() < 3
        } {
            tokio::task::yield_now().await;
        }
        assert!(matches!(
            turns.take(session).await,
            Err(Error::Busy { waiting: 2 })
        ));
        drop(first);
        for waited in waiting {
            waited.await.unwrap().unwrap();
        }
        drop(turns.take(session).await.unwrap());
        drop(other);
    }
}
