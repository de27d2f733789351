//! The sessions that are known: live, ended ones for a while, and those that are nobody's as yet.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::execution::BadRequest;
use crate::id::SessionId;
use crate::tenant::Owner;

use super::super::shared::Shared;
use super::super::{EndReason, Error, SessionOptions, State};

/// What a session that is nobody's is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// At work.
    Borrowed,
    /// Left as it is for a while.
    Kept,
    /// Was kept, and is ending.
    Leaving,
}

/// Live and remembered sessions; how many of each is the registry's to say.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// Ids sort by time.
    all: BTreeMap<SessionId, Arc<Shared>>,
    /// Oldest first.
    ended: VecDeque<SessionId>,
    /// Those that are nobody's.
    lent: BTreeMap<SessionId, Use>,
    by_key: HashMap<(Owner, String), SessionId>,
}

impl Sessions {
    pub(super) fn get(&self, id: SessionId) -> Option<&Arc<Shared>> {
        self.all.get(&id)
    }

    /// A session of `owner`; `None` when there is none in memory.
    ///
    /// # Errors
    /// When it is another owner's, or nobody's.
    pub(super) fn known(&self, owner: &Owner, id: SessionId) -> Result<Option<Arc<Shared>>, Error> {
        if self.lent.contains_key(&id) {
            return Err(Error::SessionUnknown(id));
        }
        match self.all.get(&id) {
            Some(shared) if shared.owner != *owner => Err(Error::ForeignSession(id)),
            shared => Ok(shared.cloned()),
        }
    }

    /// The session an idempotency key stands for; one that failed to start frees its key.
    ///
    /// # Errors
    /// When it has other options.
    pub(super) fn of_key(
        &self,
        key: Option<&(Owner, String)>,
        options: &SessionOptions,
    ) -> Result<Option<Arc<Shared>>, Error> {
        let known = key.and_then(|key| self.by_key.get(key));
        let shared = known.and_then(|id| self.all.get(id));
        match shared.filter(|shared| !shared.start_failed()) {
            Some(shared) if shared.options != *options => {
                let message = "was used before, with other options";
                Err(BadRequest::new("idempotency_key", message).into())
            }
            shared => Ok(shared.cloned()),
        }
    }

    /// A new session, somebody's.
    pub(super) fn add(&mut self, shared: Arc<Shared>, key: Option<(Owner, String)>) {
        if let Some(key) = key {
            self.by_key.insert(key, shared.id);
        }
        self.all.insert(shared.id, shared);
    }

    /// A new session, nobody's as yet.
    pub(super) fn add_lent(&mut self, shared: Arc<Shared>) {
        self.lent.insert(shared.id, Use::Borrowed);
        self.all.insert(shared.id, shared);
    }

    /// What one that is nobody's is for.
    pub(super) fn lent(&self, id: SessionId) -> Option<Use> {
        self.lent.get(&id).copied()
    }

    /// One that is nobody's is for something else now; `false` when it is none of them.
    pub(super) fn set_use(&mut self, id: SessionId, now: Use) -> bool {
        let lent = self.lent.get_mut(&id);
        lent.map(|lent| *lent = now).is_some()
    }

    /// One that was nobody's is its owner's.
    pub(super) fn hand_over(&mut self, id: SessionId) {
        self.lent.remove(&id);
    }

    /// How many are kept.
    pub(super) fn kept(&self) -> usize {
        let kept = self.lent.values().filter(|lent| **lent == Use::Kept);
        kept.count()
    }

    /// Asks the oldest kept one to end.
    pub(super) fn end_oldest_kept(&mut self) -> Option<Arc<Shared>> {
        let mut lent = self.lent.iter_mut();
        let (id, lent) = lent.find(|(_, lent)| **lent == Use::Kept)?;
        *lent = Use::Leaving;
        let shared = Arc::clone(self.all.get(id)?);
        let detail = "it was kept, and others needed the room".to_owned();
        shared.request_end_because(EndReason::Stopped, detail);
        Some(shared)
    }

    /// A session has ended, and the oldest ended one beyond `remembered` is forgotten; whether it was
    /// somebody's. One that was nobody's is forgotten at once.
    pub(super) fn end(&mut self, id: SessionId, remembered: usize) -> bool {
        if self.lent.remove(&id).is_some() {
            self.all.remove(&id);
            return false;
        }
        self.ended.push_back(id);
        if self.ended.len() > remembered
            && let Some(oldest) = self.ended.pop_front()
        {
            self.all.remove(&oldest);
            self.by_key.retain(|_, id| *id != oldest);
        }
        true
    }

    /// Those that have not ended.
    pub(super) fn not_ended(&self) -> Vec<Arc<Shared>> {
        let all = self.all.values();
        all.filter(|shared| !shared.state().ended())
            .cloned()
            .collect()
    }

    /// At most `limit` of `owner` in these states (all, if empty), newest first, older than `before`.
    pub(super) fn newest(
        &self,
        owner: &Owner,
        states: &[State],
        before: Option<SessionId>,
        limit: usize,
    ) -> Vec<Arc<Shared>> {
        let older: Box<dyn Iterator<Item = &Arc<Shared>>> = match before {
            Some(before) => Box::new(self.all.range(..before).rev().map(|(_, shared)| shared)),
            None => Box::new(self.all.values().rev()),
        };
        older
            .filter(|shared| shared.owner == *owner && !self.lent.contains_key(&shared.id))
            .filter(|shared| states.is_empty() || states.contains(&shared.state()))
            .take(limit)
            .cloned()
            .collect()
    }
}
