//! Who controls the browser of a session: its code, or a person.
//!
//! ```text
//! code ── request ──► a person ── release, or gone ──► the next one that waits, or else code
//! ```
//!
//! A person takes control from code at once, and waits for another person. Meanwhile input of running
//! code waits in the hub, and new code waits, or is refused, as it asked to. Code that has asked for a
//! person goes on when one has said to be done.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::shared::Shared;
use crate::cdp::InControl;

/// People who may wait for control at the same time.
const MAX_WAITING: usize = 64;

/// One who may be in control: a connection of a live view, or the callers of the API together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PersonId(u64);

impl PersonId {
    /// Whoever asks by the API.
    pub(super) const CALLER: Self = Self(0);
}

/// Who is in control, and who wants to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// The person; none: code is.
    pub holder: Option<PersonId>,
    /// Who waits, first come first.
    pub waiting: VecDeque<PersonId>,
    /// Somebody has said to be done, which code is told when nobody is in control any more.
    is_done: bool,
}

/// What came of a request for control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The person is in control.
    Granted,
    /// Another one is; it is this one's turn later.
    Waits,
    /// Too many wait.
    Full,
}

impl Control {
    fn request(&mut self, person: PersonId) -> Asked {
        match self.holder {
            None => {
                self.holder = Some(person);
                Asked::Granted
            }
            Some(holder) if holder == person => Asked::Granted,
            Some(_) if self.waiting.contains(&person) => Asked::Waits,
            Some(_) if self.waiting.len() >= MAX_WAITING => Asked::Full,
            Some(_) => {
                self.waiting.push_back(person);
                Asked::Waits
            }
        }
    }

    /// Asks for it, but does not wait. Whether the person has it.
    fn take(&mut self, person: PersonId) -> bool {
        *self.holder.get_or_insert(person) == person
    }

    fn who(&self) -> InControl {
        match self.holder {
            None => InControl::Code,
            Some(PersonId::CALLER) => InControl::Caller,
            Some(_) => InControl::Viewer,
        }
    }

    /// Whether that changed anything.
    fn release(&mut self, person: PersonId) -> bool {
        if self.holder == Some(person) {
            self.holder = self.waiting.pop_front();
            return true;
        }
        let before = self.waiting.len();
        self.waiting.retain(|waiting| *waiting != person);
        self.waiting.len() != before
    }

    /// The same of one who is done. Who only waits, or has nothing to do with another's control, says
    /// nothing by that.
    fn done(&mut self, person: PersonId) -> bool {
        self.is_done |= self.holder.is_none_or(|holder| holder == person);
        self.release(person)
    }

    /// Whether code is to be told, once, that a person was done.
    fn hands_back(&mut self) -> bool {
        self.holder.is_none() && std::mem::take(&mut self.is_done)
    }
}

/// The control of one session.
#[derive(Debug)]
pub(super) struct Takeover {
    state: watch::Sender<Control>,
    last: AtomicU64,
    /// Ends what the callers of the API hold.
    caller_end: Mutex<Option<AbortHandle>>,
}

impl Takeover {
    pub(super) fn new() -> Self {
        Self {
            state: watch::Sender::new(Control::default()),
            last: AtomicU64::new(PersonId::CALLER.0),
            caller_end: Mutex::new(None),
        }
    }

    /// Somebody new.
    pub(super) fn person(&self) -> PersonId {
        PersonId(self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Control> {
        self.state.subscribe()
    }

    pub(super) fn is_held(&self) -> bool {
        self.state.borrow().holder.is_some()
    }

    /// Changes who is in control. `tell` is told who is then, and whether code that waits for a person is to
    /// go on, before anyone else is.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Control) -> T,
        tell: impl FnOnce(InControl, bool),
    ) -> T {
        let mut result = None;
        self.state.send_if_modified(|control| {
            let before = control.clone();
            result = Some(change(control));
            let hands_back = control.hands_back();
            tell(control.who(), hands_back);
            before != *control
        });
        result.expect("it was called")
    }
}

impl Shared {
    /// A person asks for control.
    pub(super) fn take_control(&self, person: PersonId) -> Asked {
        self.touch();
        self.change_control(|control| control.request(person))
    }

    /// The callers of the API ask for control, and do not wait for it. Whether they have it.
    pub(super) fn take_control_for_caller(&self) -> bool {
        self.touch();
        self.change_control(|control| control.take(PersonId::CALLER))
    }

    /// A person gives control back, or waits for it no longer.
    pub(super) fn give_control_back(&self, person: PersonId) {
        self.change_control(|control| control.release(person));
    }

    /// The same of one who says that they are done: code that waits for a person goes on, once none
    /// is in control.
    pub(super) fn done(&self, person: PersonId) {
        self.change_control(|control| control.done(person));
    }

    fn change_control<T>(&self, change: impl FnOnce(&mut Control) -> T) -> T {
        self.takeover.change(change, |who, hands_back| {
            let Some(hub) = self.hub() else { return };
            hub.set_control(who);
            if hands_back {
                hub.hand_back();
            }
        })
    }

    /// What callers of the API hold, they give back after this time at the latest, counted from now.
    pub(super) fn caller_holds_for(self: &Arc<Self>, limit: Duration) {
        let shared = Arc::downgrade(self);
        let end = tokio::spawn(async move {
            tokio::time::sleep(limit).await;
            if let Some(shared) = shared.upgrade() {
                shared.give_control_back(PersonId::CALLER);
            }
        });
        let before = self.takeover.caller_end.lock();
        let mut before = before.unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = before.replace(end.abort_handle()) {
            before.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of a change.
    type News = Vec<(InControl, bool)>;

    struct People {
        takeover: Takeover,
        told: News,
    }

    impl People {
        fn change<T>(&mut self, change: impl FnOnce(&mut Control) -> T) -> T {
            let told = &mut self.told;
            self.takeover
                .change(change, |who, hands_back| told.push((who, hands_back)))
        }

        fn told(&mut self) -> News {
            std::mem::take(&mut self.told)
        }
    }

    fn people() -> (People, [PersonId; 3]) {
        let takeover = Takeover::new();
        let three = std::array::from_fn(|_| takeover.person());
        let told = News::new();
        (People { takeover, told }, three)
    }

    use InControl::{Caller, Code, Viewer};

    #[test]
    fn control_goes_from_code_to_people_in_turn_and_back() {
        let (mut people, [ada, bob, eve]) = people();
        assert_ne!(ada, PersonId::CALLER);
        assert_eq!(people.change(|c| c.request(ada)), Asked::Granted);
        assert_eq!(people.change(|c| c.request(ada)), Asked::Granted);
        assert_eq!(people.change(|c| c.request(bob)), Asked::Waits);
        assert_eq!(people.change(|c| c.request(eve)), Asked::Waits);
        assert_eq!(people.change(|c| c.request(bob)), Asked::Waits);
        people.change(|c| c.release(bob));
        people.change(|c| c.release(ada));
        assert_eq!(people.takeover.subscribe().borrow().holder, Some(eve));
        people.told();
        people.change(|c| c.release(eve));
        assert_eq!(people.told(), [(Code, false)]);
        assert!(!people.takeover.is_held());
    }

    #[test]
    fn callers_take_what_is_free_and_do_not_wait() {
        let (mut people, [ada, ..]) = people();
        let caller = PersonId::CALLER;
        people.change(|c| c.request(ada));
        assert!(!people.change(|c| c.take(caller)));
        people.change(|c| c.release(ada));
        assert_eq!(
            people.told(),
            [(Viewer, false), (Viewer, false), (Code, false)]
        );
        assert!(people.change(|c| c.take(caller)));
        assert!(people.change(|c| c.take(caller)));
        assert_eq!(people.told(), [(Caller, false), (Caller, false)]);
    }

    #[test]
    fn who_is_done_is_heard_when_the_next_ones_have_gone_too() {
        let (mut people, [ada, bob, eve]) = people();
        people.change(|c| c.request(ada));
        people.change(|c| c.request(bob));
        people.change(|c| c.request(eve));
        people.change(|c| c.done(ada));
        // Bob's connection breaks.
        people.change(|c| c.release(bob));
        assert!(people.told().iter().all(|told| *told == (Viewer, false)));
        people.change(|c| c.release(eve));
        assert_eq!(people.told(), [(Code, true)]);
        people.change(|c| c.request(bob));
        people.change(|c| c.release(bob));
        assert_eq!(people.told(), [(Viewer, false), (Code, false)], "told once");
    }

    #[test]
    fn only_the_one_in_control_is_done_or_anyone_when_none_is() {
        let (mut people, [ada, bob, eve]) = people();
        people.change(|c| c.request(ada));
        people.change(|c| c.request(bob));
        people.change(|c| c.done(bob));
        people.change(|c| c.done(eve));
        people.change(|c| c.release(ada));
        assert!(people.told().iter().all(|(_, hands_back)| !hands_back));
        people.change(|c| c.done(eve));
        assert_eq!(people.told(), [(Code, true)]);
    }

    #[test]
    fn who_waits_is_bounded() {
        let (mut people, _) = people();
        let asked: Vec<Asked> = (0..=MAX_WAITING + 1)
            .map(|_| {
                let person = people.takeover.person();
                people.change(|c| c.request(person))
            })
            .collect();
        assert_eq!(asked[0], Asked::Granted);
        assert_eq!(asked[MAX_WAITING], Asked::Waits);
        assert_eq!(asked[MAX_WAITING + 1], Asked::Full);
    }

    #[test]
    fn nobody_is_told_of_what_changes_nothing() {
        let (mut people, [ada, ..]) = people();
        let mut seen = people.takeover.subscribe();
        people.change(|c| c.release(ada));
        people.change(|c| c.done(ada));
        assert!(!seen.has_changed().unwrap());
        people.change(|c| c.take(PersonId::CALLER));
        assert!(seen.has_changed().unwrap());
        seen.borrow_and_update();
        people.change(|c| c.take(PersonId::CALLER));
        assert!(!seen.has_changed().unwrap());
    }
}
