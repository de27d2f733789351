//! The live view: people watch a session's page, and act on it.
//!
//! ```text
//! WebSocket ─ viewer ─┐            ┌─ pictures (latest wins)      ┌─ hub client: screencast,
//! WebSocket ─ viewer ─┼─── stage ──┼─ scene: tabs, dialogs, lists ┤  input, dialogs, downloads
//! gRPC stream ────────┘            └─ what they do ─── director ──┘
//! ```
//!
//! A stage is there while somebody looks at its session, with one task, the director, which alone
//! speaks to the browser. Pictures are captured only while somebody sees them, at the pace of the
//! fastest viewer; a slow one gets fewer of them and slows nobody. Knows nothing of URLs or pages.

mod director;
mod files;
mod frame;
mod held;
mod input;
mod keys;
mod message;
mod quality;
mod scene;
mod stage;
mod viewer;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{Instrument as _, info_span};

use crate::id::SessionId;
use crate::session::{self, Registry, Viewing};
use crate::tenant::Owner;

pub use files::{FileError, MAX_FILE};
pub use frame::Frame;

use scene::DownloadShown;
use stage::{Joined, Look, Stage};

/// Viewers of one session at the same time.
pub const MAX_VIEWERS: usize = 32;

/// Why somebody does not get to see a session.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The session refused, or is none.
    #[error(transparent)]
    Session(#[from] session::Error),
    /// It has as many viewers as it may have.
    #[error(
        "{} viewers look at this session, the most there may be; try again later",
        MAX_VIEWERS
    )]
    TooManyViewers,
}

/// All live views; cheap to clone.
#[derive(Clone, Debug)]
pub struct LiveViews {
    registry: Registry,
    stages: Arc<Mutex<HashMap<SessionId, Arc<Stage>>>>,
    /// Of sessions nobody looks at: what those who come back find.
    downloads: Arc<Mutex<HashMap<SessionId, Vec<DownloadShown>>>>,
}

impl LiveViews {
    /// Of the sessions of a registry.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self {
            registry,
            stages: Arc::default(),
            downloads: Arc::default(),
        }
    }

    /// Lets somebody look, and makes a stage if there is none.
    fn join(&self, viewing: &Viewing, look: Look) -> Result<Joined, Error> {
        let mut stages = self.stages();
        let stage = match stages.get(&viewing.id()) {
            Some(stage) => Arc::clone(stage),
            None => {
                let (stage, inbox) = Stage::new();
                let kept = self.downloads().get(&viewing.id()).cloned();
                let downloads = kept.unwrap_or_default();
                stage.scene.send_modify(|scene| scene.downloads = downloads);
                let stage = Arc::new(stage);
                stages.insert(viewing.id(), Arc::clone(&stage));
                let span = info_span!(parent: None, "live", session_id = %viewing.id());
                let directing =
                    director::run(self.clone(), Arc::clone(&stage), inbox, viewing.clone());
                tokio::spawn(directing.instrument(span));
                stage
            }
        };
        // Under the lock: a stage that nobody looks at is taken away under it.
        let id = stage.add(look).ok_or(Error::TooManyViewers)?;
        Ok(Joined::new(stage, id))
    }

    /// Takes a stage away that nobody looks at; whether it is away.
    fn close_if_empty(&self, viewing: &Viewing, stage: &Arc<Stage>) -> bool {
        let mut stages = self.stages();
        let is_empty = stage.wanted().viewers == 0;
        if is_empty {
            self.keep_downloads(viewing, stage);
            remove(&mut stages, viewing.id(), stage);
        }
        is_empty
    }

    /// Keeps the list of finished downloads until the session ends.
    fn keep_downloads(&self, viewing: &Viewing, stage: &Stage) {
        let mut done = stage.scene.borrow().downloads.clone();
        // Of the others nothing more would be told.
        done.retain(|download| download.state != "running");
        if done.is_empty() || self.downloads().insert(viewing.id(), done).is_some() {
            return;
        }
        let (views, viewing) = (self.clone(), viewing.clone());
        tokio::spawn(async move {
            viewing.ends().await;
            views.downloads().remove(&viewing.id());
        });
    }

    fn downloads(&self) -> MutexGuard<'_, HashMap<SessionId, Vec<DownloadShown>>> {
        let downloads = self.downloads.lock();
        downloads.unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a stage away, whoever looks at it.
    fn close(&self, id: SessionId, stage: &Arc<Stage>) {
        remove(&mut self.stages(), id, stage);
    }

    fn stages(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Stage>>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pictures of a session for its owner, at most `edge` pixels along an edge.
    ///
    /// # Errors
    /// When it is not known, or has ended, or has too many viewers.
    pub async fn pictures(
        &self,
        owner: &Owner,
        id: SessionId,
        edge: u32,
    ) -> Result<Pictures, Error> {
        let viewing = self.registry.watching(owner, id).await?;
        let joined = self.join(&viewing, Look::new(false, (edge, edge)))?;
        let mut frames = joined.stage().frames.subscribe();
        frames.mark_changed();
        Ok(Pictures {
            over: joined.stage().over.subscribe(),
            joined,
            frames,
            viewing,
            taken: None,
        })
    }
}

fn remove(stages: &mut HashMap<SessionId, Arc<Stage>>, id: SessionId, stage: &Arc<Stage>) {
    // Another one may be there by now.
    if stages
        .get(&id)
        .is_some_and(|known| Arc::ptr_eq(known, stage))
    {
        stages.remove(&id);
    }
}

/// Pictures one after the other: the next one is the newest when it is asked for.
#[derive(Debug)]
pub struct Pictures {
    joined: Joined,
    frames: watch::Receiver<Option<Arc<Frame>>>,
    over: watch::Receiver<Option<String>>,
    viewing: Viewing,
    /// The one that was given last, and when.
    taken: Option<(u32, tokio::time::Instant)>,
}

impl Pictures {
    /// The next one; `None` when the session has ended, or its pictures have. Cancel safe.
    pub async fn next(&mut self) -> Option<Arc<Frame>> {
        // Who asks for another has taken the last one.
        if let Some((number, at)) = self.taken.take() {
            self.joined.acked(number, at.elapsed());
        }
        loop {
            tokio::select! {
                biased;
                _ = self.viewing.ends() => return None,
                () = is_over(&mut self.over) => return None,
                changed = self.frames.changed() => changed.ok()?,
            }
            let frame = self.frames.borrow_and_update().clone();
            if let Some(frame) = frame {
                self.taken = Some((frame.number, tokio::time::Instant::now()));
                return Some(frame);
            }
        }
    }
}

async fn is_over(over: &mut watch::Receiver<Option<String>>) {
    // Without a sender it is over too.
    let _ = over.wait_for(Option::is_some).await;
}

/// How long an answer of the browser is waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
