//! The executions one can cancel, and the ones that have ended, remembered for a while.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use tokio_util::sync::CancellationToken;

use crate::id::ExecutionId;
use crate::tenant::Owner;

/// Bounded memory of executions.
#[derive(Debug)]
pub(super) struct Executions {
    remembered: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Without a token once it has ended.
    known: HashMap<ExecutionId, (Owner, Option<CancellationToken>)>,
    ended: VecDeque<ExecutionId>,
}

/// What a cancel met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    Cancelled,
    AlreadyEnded,
    Unknown,
    Foreign,
}

impl Executions {
    pub(super) fn new(remembered: usize) -> Self {
        Self {
            remembered,
            inner: Mutex::default(),
        }
    }

    /// Whether it is a new id; a known one is left as it is.
    pub(super) fn add(&self, id: ExecutionId, owner: &Owner, cancel: CancellationToken) -> bool {
        match self.lock().known.entry(id) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert((owner.clone(), Some(cancel)));
                true
            }
        }
    }

    pub(super) fn end(&self, id: ExecutionId) {
        let mut inner = self.lock();
        if let Some((_, cancel)) = inner.known.get_mut(&id) {
            *cancel = None;
        }
        inner.ended.push_back(id);
        if inner.ended.len() > self.remembered
            && let Some(oldest) = inner.ended.pop_front()
        {
            inner.known.remove(&oldest);
        }
    }

    pub(super) fn cancel(&self, owner: &Owner, id: ExecutionId) -> Cancel {
        match self.lock().known.get(&id) {
            Some((of, _)) if of != owner => Cancel::Foreign,
            Some((_, Some(cancel))) => {
                cancel.cancel();
                Cancel::Cancelled
            }
            Some((_, None)) => Cancel::AlreadyEnded,
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
        assert!(executions.add(first, &Owner::anonymous(), cancel.clone()));
        assert!(!executions.add(first, &Owner::anonymous(), CancellationToken::new()));
        assert_eq!(
            executions.cancel(&Owner::anonymous(), first),
            Cancel::Cancelled
        );
        assert!(cancel.is_cancelled());
        executions.end(first);
        assert_eq!(
            executions.cancel(&Owner::anonymous(), first),
            Cancel::AlreadyEnded
        );
        assert!(!executions.add(first, &Owner::anonymous(), CancellationToken::new()));
        assert!(executions.add(second, &Owner::anonymous(), CancellationToken::new()));
        executions.end(second);
        assert_eq!(
            executions.cancel(&Owner::anonymous(), first),
            Cancel::Unknown
        );
        assert_eq!(
            executions.cancel(&Owner::anonymous(), second),
            Cancel::AlreadyEnded
        );
    }
}
