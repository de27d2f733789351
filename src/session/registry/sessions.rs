//! The sessions that are known: live, and ended ones for a while.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::id::SessionId;

use super::super::State;
use super::super::shared::Shared;

/// Live and remembered sessions; how many of each is the registry's to say.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// Ids sort by time.
    all: BTreeMap<SessionId, Arc<Shared>>,
    live: usize,
    /// Oldest first.
    ended: VecDeque<SessionId>,
    by_key: HashMap<String, SessionId>,
}

impl Sessions {
    /// How many are live.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    pub(super) fn get(&self, id: SessionId) -> Option<&Arc<Shared>> {
        self.all.get(&id)
    }

    /// What an idempotency key stands for.
    pub(super) fn of_key(&self, key: &str) -> Option<&Arc<Shared>> {
        self.all.get(self.by_key.get(key)?)
    }

    /// A new session, live from now on.
    pub(super) fn add(&mut self, shared: Arc<Shared>, key: Option<String>) {
        self.live += 1;
        if let Some(key) = key {
            self.by_key.insert(key, shared.id);
        }
        self.all.insert(shared.id, shared);
    }

    /// A session has ended: it no longer counts, and the oldest ended one beyond `remembered` is
    /// forgotten.
    pub(super) fn end(&mut self, id: SessionId, remembered: usize) {
        self.live -= 1;
        self.ended.push_back(id);
        if self.ended.len() > remembered
            && let Some(oldest) = self.ended.pop_front()
        {
            self.all.remove(&oldest);
            self.by_key.retain(|_, id| *id != oldest);
        }
    }

    /// Those that have not ended.
    pub(super) fn not_ended(&self) -> Vec<Arc<Shared>> {
        let all = self.all.values();
        all.filter(|shared| !shared.state().ended())
            .cloned()
            .collect()
    }

    /// At most `limit` in these states (all, if empty), newest first, older than `before`.
    pub(super) fn newest(
        &self,
        states: &[State],
        before: Option<SessionId>,
        limit: usize,
    ) -> Vec<Arc<Shared>> {
        let older: Box<dyn Iterator<Item = &Arc<Shared>>> = match before {
            Some(before) => Box::new(self.all.range(..before).rev().map(|(_, shared)| shared)),
            None => Box::new(self.all.values().rev()),
        };
        older
            .filter(|shared| states.is_empty() || states.contains(&shared.state()))
            .take(limit)
            .cloned()
            .collect()
    }
}
