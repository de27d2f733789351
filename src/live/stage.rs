//! What the viewers of one session and its director share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, watch};

use super::MAX_VIEWERS;
use super::frame::Frame;
use super::message::FromViewer;
use super::scene::Scene;
use crate::session::PersonId;

/// What people do, on its way to the director; when it is full, movements of the mouse are left out
/// and who does anything else waits.
const COMMANDS: usize = 256;

/// Where what one viewer alone is told goes: a bounded queue, of which the newest is left out.
#[derive(Clone, Debug)]
pub(super) struct Reply(pub(super) mpsc::Sender<Value>);

impl Reply {
    pub(super) fn send(&self, message: Value) {
        // It is far behind, or gone.
        let _ = self.0.try_send(message);
    }

    /// Tells a person why something was not done.
    pub(super) fn note(&self, text: &str) {
        self.send(json!({ "type": "note", "text": text }));
    }
}

/// Something a person does.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) act: FromViewer,
    pub(super) reply: Reply,
    /// Who, as [`Joined::id`] has it.
    pub(super) viewer: u64,
    /// Who was in control.
    pub(super) holder: Option<PersonId>,
}

/// One who looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    visible: bool,
    acts: bool,
    /// Of what pictures are shown in, in device pixels.
    size: (u32, u32),
    /// The number of the last picture it has taken.
    acked: u32,
    /// How long pictures took since this was looked at, and how many they were.
    needed: (Duration, u32),
    /// The least time that something to it and back took, which no smaller picture would save.
    trip: Option<Duration>,
}

impl Look {
    pub(super) fn new(acts: bool, size: (u32, u32)) -> Self {
        Self {
            visible: true,
            acts,
            size,
            acked: 0,
            needed: (Duration::ZERO, 0),
            trip: None,
        }
    }
}

/// What all who look want together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) viewers: usize,
    /// Somebody sees the pictures.
    pub(super) visible: bool,
    /// Somebody may act, who may be back in a moment when not seeing them.
    pub(super) acts: bool,
    /// The largest frame they are shown in.
    pub(super) size: (u32, u32),
    /// The newest picture that anybody has taken.
    pub(super) acked: u32,
}

#[derive(Debug, Default)]
struct Looks {
    last: u64,
    all: HashMap<u64, Look>,
}

/// See above.
#[derive(Debug)]
pub(super) struct Stage {
    /// The newest picture, while somebody sees it.
    pub(super) frames: watch::Sender<Option<Arc<Frame>>>,
    pub(super) scene: watch::Sender<Scene>,
    pub(super) commands: mpsc::Sender<Command>,
    /// Why it is over, when it is.
    pub(super) over: watch::Sender<Option<String>>,
    looks: Mutex<Looks>,
    /// They have changed.
    pub(super) looked: Notify,
}

impl Stage {
    pub(super) fn new() -> (Self, mpsc::Receiver<Command>) {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let stage = Self {
            frames: watch::Sender::new(None),
            scene: watch::Sender::new(Scene::default()),
            commands,
            over: watch::Sender::new(None),
            looks: Mutex::default(),
            looked: Notify::new(),
        };
        (stage, inbox)
    }

    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody looks; `None` when too many do.
    pub(super) fn add(&self, look: Look) -> Option<u64> {
        let mut looks = self.looks();
        if looks.all.len() >= MAX_VIEWERS {
            return None;
        }
        looks.last += 1;
        let id = looks.last;
        looks.all.insert(id, look);
        drop(looks);
        self.looked.notify_one();
        Some(id)
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Look)) {
        if let Some(look) = self.looks().all.get_mut(&id) {
            change(look);
        }
        self.looked.notify_one();
    }

    /// Whether this one still looks.
    pub(super) fn is_here(&self, id: u64) -> bool {
        self.looks().all.contains_key(&id)
    }

    pub(super) fn wanted(&self) -> Wanted {
        let looks = self.looks();
        let mut wanted = Wanted {
            viewers: looks.all.len(),
            ..Wanted::default()
        };
        wanted.acts = looks.all.values().any(|look| look.acts);
        for look in looks.all.values().filter(|look| look.visible) {
            wanted.visible = true;
            wanted.size.0 = wanted.size.0.max(look.size.0);
            wanted.size.1 = wanted.size.1.max(look.size.1);
            wanted.acked = wanted.acked.max(look.acked);
        }
        wanted
    }

    /// What each viewer has needed for a picture since the last look at it, besides the way there and
    /// back.
    pub(super) fn take_needed(&self) -> Vec<Duration> {
        let mut looks = self.looks();
        let taken = looks.all.values_mut().filter_map(|look| {
            let (time, count) = std::mem::take(&mut look.needed);
            let trip = look.trip.unwrap_or_default();
            (count > 0).then(|| (time / count).saturating_sub(trip))
        });
        taken.collect()
    }
}

/// One who looks; dropping it ends that.
#[derive(Debug)]
pub(super) struct Joined {
    stage: Arc<Stage>,
    id: u64,
}

impl Joined {
    pub(super) fn new(stage: Arc<Stage>, id: u64) -> Self {
        Self { stage, id }
    }

    /// Of this one who looks, among those of its stage.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn stage(&self) -> &Stage {
        &self.stage
    }

    pub(super) fn set_visible(&self, visible: bool) {
        self.stage.change(self.id, |look| look.visible = visible);
    }

    pub(super) fn set_size(&self, size: (u32, u32)) {
        self.stage.change(self.id, |look| look.size = size);
    }

    /// Something without a picture took so long to it and back.
    pub(super) fn heard_back(&self, after: Duration) {
        self.stage.change(self.id, |look| {
            look.trip = Some(look.trip.map_or(after, |least| least.min(after)));
        });
    }

    /// It has taken a picture, which was sent so long ago.
    pub(super) fn acked(&self, number: u32, needed: Duration) {
        self.stage.change(self.id, |look| {
            look.acked = number;
            look.needed.0 += needed;
            look.needed.1 += 1;
        });
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.stage.looks().all.remove(&self.id);
        self.stage.looked.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_viewer_sets_the_pace_and_hidden_ones_want_no_pictures() {
        let (stage, _inbox) = Stage::new();
        let stage = Arc::new(stage);
        assert_eq!(stage.wanted(), Wanted::default());
        let join = |acts, size| {
            let id = stage.add(Look::new(acts, size)).unwrap();
            Joined::new(Arc::clone(&stage), id)
        };
        let fast = join(false, (800, 100));
        let slow = join(true, (400, 300));
        fast.acked(9, Duration::from_millis(10));
        fast.acked(10, Duration::from_millis(30));
        slow.acked(3, Duration::from_millis(500));
        let expected = Wanted {
            viewers: 2,
            visible: true,
            acts: true,
            size: (800, 300),
            acked: 10,
        };
        assert_eq!(stage.wanted(), expected);
        let mut needed = stage.take_needed();
        needed.sort();
        assert_eq!(needed, [20, 500].map(Duration::from_millis));
        assert!(stage.take_needed().is_empty());
        // Far away, on a wide line.
        for trip in [180, 160, 170] {
            slow.heard_back(Duration::from_millis(trip));
        }
        slow.acked(10, Duration::from_millis(185));
        assert_eq!(stage.take_needed(), [Duration::from_millis(25)]);
        slow.set_visible(false);
        let expected = Wanted {
            size: (800, 100),
            ..expected
        };
        assert_eq!(stage.wanted(), expected);
        fast.set_visible(false);
        let wanted = stage.wanted();
        assert!(!wanted.visible && wanted.acts && wanted.viewers == 2);
        drop((fast, slow));
        assert_eq!(stage.wanted(), Wanted::default());
    }

    #[test]
    fn viewers_are_bounded() {
        let (stage, _inbox) = Stage::new();
        let added = (0..=MAX_VIEWERS).filter_map(|_| stage.add(Look::new(false, (1, 1))));
        assert_eq!(added.count(), MAX_VIEWERS);
    }
}
