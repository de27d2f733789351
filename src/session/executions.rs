//! The executions one can cancel, and the ones that have ended, remembered for a while.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

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

/// An execution that has not ended. Dropped, it has; unless it was to be remembered it then was
/// never there, and its id may be used again.
#[derive(Debug)]
pub(super) struct Known {
    executions: Arc<Executions>,
    id: ExecutionId,
    remembered: bool,
}

impl Known {
    /// It is remembered once it has ended.
    pub(super) fn remembered(mut self) -> Self {
        self.remembered = true;
        self
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        if self.remembered {
            self.executions.end(self.id);
        } else {
            self.executions.lock().known.remove(&self.id);
        }
    }
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

    /// Makes an execution known, so that it can be cancelled; `None` when its id is not new.
    pub(super) fn add(
        self: &Arc<Self>,
        id: ExecutionId,
        owner: &Owner,
        cancel: CancellationToken,
    ) -> Option<Known> {
        match self.lock().known.entry(id) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                place.insert((owner.clone(), Some(cancel)));
                Some(Known {
                    executions: Arc::clone(self),
                    id,
                    remembered: false,
                })
            }
        }
    }

    fn end(&self, id: ExecutionId) {
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
        let ada = Owner::anonymous();
        let executions = Arc::new(Executions::new(1));
        let (first, second) = (ExecutionId::generate(), ExecutionId::generate());
        let cancel = CancellationToken::new();
        let known = executions
            .add(first, &ada, cancel.clone())
            .unwrap()
            .remembered();
        assert!(
            executions
                .add(first, &ada, CancellationToken::new())
                .is_none()
        );
        assert_eq!(executions.cancel(&ada, first), Cancel::Cancelled);
        assert!(cancel.is_cancelled());
        drop(known);
        assert_eq!(executions.cancel(&ada, first), Cancel::AlreadyEnded);
        assert!(
            executions
                .add(first, &ada, CancellationToken::new())
                .is_none()
        );
        drop(
            executions
                .add(second, &ada, CancellationToken::new())
                .unwrap()
                .remembered(),
        );
        assert_eq!(executions.cancel(&ada, first), Cancel::Unknown);
        assert_eq!(executions.cancel(&ada, second), Cancel::AlreadyEnded);
    }

    #[test]
    fn the_id_of_one_that_never_was_may_be_used_again() {
        let ada = Owner::anonymous();
        let executions = Arc::new(Executions::new(1));
        let id = ExecutionId::generate();
        let known = executions.add(id, &ada, CancellationToken::new()).unwrap();
        assert_eq!(executions.cancel(&ada, id), Cancel::Cancelled);
        drop(known);
        assert_eq!(executions.cancel(&ada, id), Cancel::Unknown);
        assert!(executions.add(id, &ada, CancellationToken::new()).is_some());
    }
}
