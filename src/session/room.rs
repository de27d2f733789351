//! Room for live sessions: the daemon's, and each owner's in it.
//!
//! A seat is taken before a session is made, and given back when nothing of it is left. Where waiting
//! is configured, whoever finds none waits; seats that come free go to the waiting owners in turn, so
//! that one who asks for many keeps nobody else waiting for all of them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Error;
use crate::tenant::{Caller, Owner};

/// Callers waiting at once; more are refused at once.
const MAX_WAITING: usize = 256;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Room {
    limit: usize,
    wait: Duration,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    taken: usize,
    by_owner: HashMap<Owner, usize>,
    /// Owners in the order of their turns, each with its callers, oldest first; none is empty.
    waiting: VecDeque<(Owner, VecDeque<Waiting>)>,
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    max_sessions: usize,
    seat: oneshot::Sender<Seat>,
}

/// Room for one session; free again when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    room: Room,
    owner: Owner,
}

impl Room {
    pub(super) fn new(limit: usize, wait: Duration) -> Self {
        Self {
            limit,
            wait,
            inner: Arc::default(),
        }
    }

    /// Takes a seat, or waits for one as long as is configured.
    ///
    /// # Errors
    /// No room, or the daemon is draining.
    pub(super) async fn take(&self, caller: &Caller) -> Result<Seat, Error> {
        let (full, mut turn) = {
            let mut inner = self.lock();
            if inner.closed {
                return Err(Error::Draining);
            }
            let Err(full) = inner.check(self.limit, caller) else {
                return Ok(inner.seat(self, &caller.owner));
            };
            if self.wait.is_zero() || inner.waiting() >= MAX_WAITING {
                return Err(full);
            }
            let (seat, turn) = oneshot::channel();
            inner.queue(caller, seat);
            (full, turn)
        };
        match tokio::time::timeout(self.wait, &mut turn).await {
            Ok(Ok(seat)) => Ok(seat),
            Ok(Err(_)) => Err(Error::Draining),
            // It may have come at the last moment.
            Err(_) => turn.try_recv().map_err(|_| full),
        }
    }

    /// Refuses who comes, and who waits.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.waiting.clear();
    }

    pub(super) fn taken(&self) -> usize {
        self.lock().taken
    }

    /// How many of `owner`'s callers wait.
    pub(super) fn waiting(&self, owner: &Owner) -> usize {
        let mut inner = self.lock();
        inner.waiting();
        let mut queues = inner.waiting.iter();
        let queue = queues.find(|(waiting, _)| waiting == owner);
        queue.map_or(0, |(_, callers)| callers.len())
    }

    /// A seat is free; it, and any other, goes to those who wait.
    fn leave(&self, owner: &Owner) {
        let given: Vec<_> = {
            let mut inner = self.lock();
            inner.free(owner);
            std::iter::from_fn(|| inner.next(self)).collect()
        };
        // Without the lock: a seat that nobody takes any more comes back at once.
        for (seat, turn) in given {
            drop(turn.send(seat));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn check(&self, limit: usize, caller: &Caller) -> Result<(), Error> {
        if self.taken >= limit {
            return Err(Error::SessionLimit { limit });
        }
        let limit = caller.max_sessions;
        if self.of(&caller.owner) >= limit {
            return Err(Error::OwnerSessionLimit { limit });
        }
        Ok(())
    }

    fn of(&self, owner: &Owner) -> usize {
        self.by_owner.get(owner).copied().unwrap_or(0)
    }

    fn waiting(&mut self) -> usize {
        for (_, callers) in &mut self.waiting {
            callers.retain(|caller| !caller.seat.is_closed());
        }
        self.waiting.retain(|(_, callers)| !callers.is_empty());
        self.waiting.iter().map(|(_, callers)| callers.len()).sum()
    }

    fn queue(&mut self, caller: &Caller, seat: oneshot::Sender<Seat>) {
        let waiting = Waiting {
            max_sessions: caller.max_sessions,
            seat,
        };
        let same = |(owner, _): &&mut (Owner, _)| *owner == caller.owner;
        match self.waiting.iter_mut().find(same) {
            Some((_, callers)) => callers.push_back(waiting),
            None => self
                .waiting
                .push_back((caller.owner.clone(), [waiting].into())),
        }
    }

    fn seat(&mut self, room: &Room, owner: &Owner) -> Seat {
        self.taken += 1;
        *self.by_owner.entry(owner.clone()).or_default() += 1;
        Seat {
            room: room.clone(),
            owner: owner.clone(),
        }
    }

    fn free(&mut self, owner: &Owner) {
        self.taken -= 1;
        if let Some(count) = self.by_owner.get_mut(owner) {
            *count -= 1;
            if *count == 0 {
                self.by_owner.remove(owner);
            }
        }
    }

    /// The seat of whose turn it is; the owner's next turn is after all others'.
    fn next(&mut self, room: &Room) -> Option<(Seat, oneshot::Sender<Seat>)> {
        self.waiting();
        if self.taken >= room.limit {
            return None;
        }
        let may = |(owner, callers): &(Owner, VecDeque<Waiting>)| {
            callers
                .front()
                .is_some_and(|first| self.of(owner) < first.max_sessions)
        };
        let turn = self.waiting.iter().position(may)?;
        let (owner, mut callers) = self.waiting.remove(turn)?;
        let first = callers.pop_front()?;
        let seat = self.seat(room, &owner);
        if !callers.is_empty() {
            self.waiting.push_back((owner, callers));
        }
        Some((seat, first.seat))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.leave(&self.owner);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const WAIT: Duration = Duration::from_secs(10);

    fn caller(user: &str, max_sessions: usize) -> Caller {
        Caller {
            owner: Owner {
                tenant: "acme".into(),
                user: user.into(),
            },
            max_sessions,
            ..Caller::anonymous()
        }
    }

    fn is_full(taken: Result<Seat, Error>) -> bool {
        matches!(taken, Err(Error::SessionLimit { .. }))
    }

    #[tokio::test]
    async fn the_room_and_each_owners_part_of_it_are_bounded() {
        let room = Room::new(3, Duration::ZERO);
        let (ada, bob) = (caller("ada", 2), caller("bob", 2));
        let first = room.take(&ada).await.unwrap();
        let _second = room.take(&ada).await.unwrap();
        let refused = room.take(&ada).await;
        assert!(matches!(
            refused,
            Err(Error::OwnerSessionLimit { limit: 2 })
        ));
        let _third = room.take(&bob).await.unwrap();
        assert!(is_full(room.take(&bob).await));
        drop(first);
        let _again = room.take(&bob).await.unwrap();
        assert_eq!(room.taken(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn seats_go_to_waiting_owners_in_turn() {
        let room = Room::new(1, WAIT);
        let mut held = Some(room.take(&caller("eve", 9)).await.unwrap());
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        for user in ["ada", "ada", "ada", "bob", "cy", "bob"] {
            let (room, tell) = (room.clone(), tell.clone());
            tokio::spawn(async move {
                let seat = room.take(&caller(user, 9)).await.unwrap();
                tell.send((user, seat)).unwrap();
            });
            tokio::task::yield_now().await;
        }
        let mut order = Vec::new();
        for _ in 0..6 {
            drop(held.take());
            let (user, seat) = told.recv().await.unwrap();
            order.push(user);
            held = Some(seat);
        }
        assert_eq!(order, ["ada", "bob", "cy", "ada", "bob", "ada"]);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_at_its_deadline_and_who_went_away_is_passed_over() {
        let room = Room::new(1, WAIT);
        let held = room.take(&caller("eve", 9)).await.unwrap();
        let (ada, bob) = (caller("ada", 9), caller("bob", 9));
        assert!(is_full(room.take(&ada).await));
        let mut gone = Box::pin(room.take(&ada));
        assert!((&mut gone).now_or_never().is_none());
        let mut next = Box::pin(room.take(&bob));
        assert!((&mut next).now_or_never().is_none());
        drop(gone);
        drop(held);
        let seat = next.await.unwrap();
        assert_eq!(room.taken(), 1);
        drop(seat);
        assert_eq!(room.taken(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_seat_given_to_who_goes_away_before_it_looks_is_free_again() {
        let room = Room::new(1, WAIT);
        let held = room.take(&caller("eve", 9)).await.unwrap();
        let ada = caller("ada", 9);
        let mut waiting = Box::pin(room.take(&ada));
        assert!((&mut waiting).now_or_never().is_none());
        drop(held);
        assert_eq!(room.taken(), 1);
        drop(waiting);
        assert_eq!(room.taken(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_refused_when_the_room_closes() {
        let room = Room::new(1, WAIT);
        let _held = room.take(&caller("eve", 9)).await.unwrap();
        let ada = caller("ada", 9);
        let mut waiting = Box::pin(room.take(&ada));
        assert!((&mut waiting).now_or_never().is_none());
        room.close();
        assert!(matches!(waiting.await, Err(Error::Draining)));
        assert!(matches!(room.take(&ada).await, Err(Error::Draining)));
    }
}
