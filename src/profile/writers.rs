//! Who writes which profile: one session at a time, for as long as it holds its [`Writer`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Name;
use crate::id::SessionId;
use crate::tenant::Owner;

type Held = HashMap<(Owner, Name), SessionId>;

/// All writers; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Writers(Arc<Mutex<Held>>);

/// A session's right to save a profile. Dropping it gives it back.
#[derive(Debug)]
pub struct Writer {
    writers: Writers,
    of: (Owner, Name),
}

impl Writers {
    /// Gives the right, or says who has it.
    pub(super) fn take(
        &self,
        owner: &Owner,
        name: &Name,
        session: SessionId,
    ) -> Result<Writer, SessionId> {
        let of = (owner.clone(), name.clone());
        let mut held = self.lock();
        if let Some(writer) = held.get(&of) {
            return Err(*writer);
        }
        held.insert(of.clone(), session);
        Ok(Writer {
            writers: self.clone(),
            of,
        })
    }

    /// Who has it.
    pub(super) fn of(&self, owner: &Owner, name: &Name) -> Option<SessionId> {
        self.lock().get(&(owner.clone(), name.clone())).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    pub(super) fn owner(&self) -> &Owner {
        &self.of.0
    }

    pub(super) fn name(&self) -> &Name {
        &self.of.1
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.writers.lock().remove(&self.of);
    }
}
