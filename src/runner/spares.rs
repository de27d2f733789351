//! Runners that stand by in a session: launched and loaded, but not connected, so that they see nothing
//! of the browser and cost it nothing. `fresh` code takes one, and a context whose runner was killed.
//!
//! ```text
//! (none) --wanted, then a still moment--> standing by --taken--> (none)
//!    ^                                        |
//!    +------- not wanted for a while, died ---+
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug, info_span};

use crate::execution::{ExecutionLimits, Language};
use crate::sandbox::Space;

use super::start::Launched;

/// A session must be still for this long before one is launched: code that runs goes first.
const STILL: Duration = Duration::from_millis(200);
/// How long one stands by after it was last wanted; it holds some 50 MiB.
const KEEP: Duration = Duration::from_secs(60);
/// What may be asked of one task and not be heard yet.
const REQUESTS: usize = 64;

enum Request {
    /// To have one from now on.
    Want,
    /// The one that stands by; dropped when there is none.
    Take(oneshot::Sender<Launched>),
}

/// Those of one session: a task for each language that wants them.
#[derive(Debug)]
pub struct Spares {
    space: Mutex<Option<Arc<Space>>>,
    limits: ExecutionLimits,
    cancel: CancellationToken,
    languages: Mutex<HashMap<Language, mpsc::Sender<Request>>>,
    tasks: TaskTracker,
}

impl Spares {
    /// None yet. They have `limits`, and end with `cancel`.
    #[must_use]
    pub fn new(space: Arc<Space>, limits: ExecutionLimits, cancel: CancellationToken) -> Self {
        Self {
            space: Mutex::new(Some(space)),
            limits,
            cancel,
            languages: Mutex::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// A runner of this language has run `fresh` code, or was lost: the next one is to stand by.
    pub fn want(&self, language: Language) {
        let mut languages = self
            .languages
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let requests = languages.entry(language).or_insert_with(|| {
            let (requests, inbox) = mpsc::channel(REQUESTS);
            let space = self.space.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(space) = &*space {
                let keeping = keep(language, Arc::clone(space), self.limits, inbox);
                let keeping = self.cancel.clone().run_until_cancelled_owned(keeping);
                let span = info_span!("spare", %language);
                self.tasks.spawn(keeping.instrument(span));
            }
            requests
        });
        // When it is full there are enough of them.
        let _ = requests.try_send(Request::Want);
    }

    /// The one that stands by, if there is one and it has these limits.
    pub(super) async fn take(
        &self,
        language: Language,
        limits: ExecutionLimits,
    ) -> Option<Launched> {
        if limits != self.limits {
            return None;
        }
        let (reply, answer) = oneshot::channel();
        {
            let languages = self
                .languages
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let requests = languages.get(&language)?;
            requests.try_send(Request::Take(reply)).ok()?;
        }
        answer.await.ok()
    }

    /// Returns when none is left, and none will be again; after `cancel`.
    pub async fn end(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        let space = self.space.lock();
        drop(space.unwrap_or_else(PoisonError::into_inner).take());
    }
}

async fn keep(
    language: Language,
    space: Arc<Space>,
    limits: ExecutionLimits,
    mut requests: mpsc::Receiver<Request>,
) {
    loop {
        match requests.recv().await {
            Some(Request::Want) => {}
            Some(Request::Take(_)) => continue,
            None => return,
        }
        while let Ok(request) = timeout(STILL, requests.recv()).await {
            if request.is_none() {
                return;
            }
        }
        let launched = match Launched::launch(language, &space, limits).await {
            Ok(launched) => launched,
            // Who needs a runner starts one, and tells what happens then.
            Err(error) => {
                debug!(%error, "no runner to stand by");
                continue;
            }
        };
        debug!("a runner stands by");
        let mut until = Instant::now() + KEEP;
        loop {
            tokio::select! {
                request = requests.recv() => match request {
                    Some(Request::Want) => until = Instant::now() + KEEP,
                    Some(Request::Take(reply)) => {
                        drop(reply.send(launched));
                        break;
                    }
                    None => return,
                },
                () = launched.ended() => break,
                () = sleep_until(until) => break,
            }
        }
    }
}
