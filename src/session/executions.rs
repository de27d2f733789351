//! The executions one can cancel, and the ones that have ended, remembered for a while.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use tokio_util::sync::CancellationToken;

use crate::id::ExecutionId;

/// Bounded memory of executions.
#[derive(Debug)]
pub(super) struct Executions {
    remembered: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// `None` once it has ended.
    known: HashMap<ExecutionId, Option<CancellationToken>>,
    ended: VecDeque<ExecutionId>,
}

/// What a cancel met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    Cancelled,
    AlreadyEnded,
    Unknown,
}

impl Executions {
    pub(super) fn new(remembered: usize) -> Self {
        Self {
            remembered,
            inner: Mutex::default(),
        }
    }

    /// Whether it is a new id; a known one is left as it is.
    pub(super) fn add(&self, id: ExecutionId, cancel: CancellationToken) -> bool {
        match self.lock().known.entry(id) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(Some(cancel));
                true
            }
        }
    }

    pub(super) fn end(&self, id: ExecutionId) {
        let mut inner = self.lock();
        inner.known.insert(id, None);
        inner.ended.push_back(id);
        if inner.ended.len() > self.remembered
            && let Some(oldest) = inner.ended.pop_front()
        {
            inner.known.remove(&oldest);
        }
    }

    pub(super) fn cancel(&self, id: ExecutionId) -> Cancel {
        match self.lock().known.get(&id) {
            Some(Some(cancel)) => {
                cancel.cancel();
                Cancel::Cancelled
            }
            Some(None) => Cancel::AlreadyEnded,
            None => Cancel::Unknown,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_executions_are_forgotten_in_order() {
        let executions = Executions::new(1);
        let (first, second) = (ExecutionId::generate(), ExecutionId::generate());
        let cancel = CancellationToken::new();
        assert!(executions.add(first, cancel.clone()));
        assert!(!executions.add(first, CancellationToken::new()));
        assert_eq!(executions.cancel(first), Cancel::Cancelled);
        assert!(cancel.is_cancelled());
        executions.end(first);
        assert_eq!(executions.cancel(first), Cancel::AlreadyEnded);
        assert!(!executions.add(first, CancellationToken::new()));
        assert!(executions.add(second, CancellationToken::new()));
        executions.end(second);
        assert_eq!(executions.cancel(first), Cancel::Unknown);
        assert_eq!(executions.cancel(second), Cancel::AlreadyEnded);
    }
}
