//! A context: one task that owns one runner and runs its executions in order.
//!
//! ```text
//! (absent) --job or warm-up--> starting --> idle <--> running
//!     ^                                      |          |
//!     +---- killed, crashed, exited ---------+----------+   then started again at once
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span};

use crate::cdp::Hub;
use crate::execution::{ExecutionEvent, ExecutionLimits, ExecutionOptions, Language};
use crate::id::{ExecutionId, SessionId};
use crate::limits::Bytes;
use crate::sandbox::Space;

use super::drive::{self, Lost};
use super::queue::Queue;
use super::start::{self, Launched, Live};
use super::{AgentService, Config, Error, Spares};

/// What all contexts of a session share.
#[derive(Debug)]
pub struct ContextEnv {
    /// Where sandboxes are built.
    pub space: Arc<Space>,
    /// The session's browser.
    pub hub: Hub,
    /// The daemon's settings.
    pub config: Config,
    /// The most memory of all of the session's sandboxes together, for messages.
    pub session_memory: Bytes,
    /// Limits of its contexts' sandboxes.
    pub limits: ExecutionLimits,
    /// Runners that stand by.
    pub spares: Spares,
    /// agent-browser's service, for bash.
    pub agent: AgentService,
    /// How long new code waits for a person in control.
    pub human_control: Duration,
}

/// One execution on its way to a context.
#[derive(Debug)]
pub struct Job {
    /// Its id.
    pub id: ExecutionId,
    /// Whose it is.
    pub session_id: SessionId,
    /// What is to run; already validated.
    pub options: ExecutionOptions,
    /// Where its events go. A full channel pauses the code's output; a closed one kills it.
    pub events: mpsc::Sender<ExecutionEvent>,
    /// Told once: started (or ended before it could start), or why it could not be.
    pub started: oneshot::Sender<Result<(), Error>>,
    /// Kills it.
    pub cancel: CancellationToken,
    /// Held while the job exists.
    pub guard: OnDrop,
}

/// Calls a function when dropped.
pub struct OnDrop(Option<Box<dyn FnOnce() + Send + Sync>>);

impl OnDrop {
    /// Will call `f` once.
    pub fn new(f: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(f)))
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

impl std::fmt::Debug for OnDrop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnDrop")
    }
}

/// Handle on a context's task.
#[derive(Debug)]
pub struct Context {
    queue: Arc<Queue>,
    /// Whether its runner is connected; unknown until the one it was given is, or is not going to be.
    connected: watch::Receiver<Option<bool>>,
    task: JoinHandle<()>,
}

impl Context {
    /// Starts the task; it starts its runner with the first job, or connects the one that is
    /// launched already. Its runners have `limits`. `queue` jobs may wait beyond the running one. `cancel` ends everything.
    #[must_use]
    pub fn spawn(
        language: Language,
        env: Arc<ContextEnv>,
        limits: ExecutionLimits,
        queue: usize,
        launched: Option<Launched>,
        cancel: CancellationToken,
    ) -> Self {
        let queue = Queue::new(queue + 1, env.hub.control(), env.human_control);
        let span = info_span!("context", %language);
        let worker = Worker {
            language,
            env,
            limits,
            cancel,
            live: None,
            used: false,
            lost: Lost::default(),
            connected: watch::Sender::new(None),
        };
        let connected = worker.connected.subscribe();
        let task = tokio::spawn(worker.run(Arc::clone(&queue), launched).instrument(span));
        Self {
            queue,
            connected,
            task,
        }
    }

    /// Waits until the runner it was given is connected, or is not going to be; which of the two.
    pub async fn connect(&self) -> bool {
        let mut connected = self.connected.clone();
        let known = connected.wait_for(Option::is_some).await;
        known.is_ok_and(|known| *known == Some(true))
    }

    /// Whether its runner is connected now, and alive as far as is known.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.connected.borrow() == Some(true)
    }

    /// Queues a job.
    ///
    /// # Errors
    /// Gives the job back when the queue is full or the context has ended.
    pub fn enqueue(&self, job: Job) -> Result<(), Box<Job>> {
        self.queue.push(job)
    }

    /// Lets queued jobs run, then ends the runner; returns when it is gone.
    pub async fn finish(mut self) {
        self.queue.close();
        // The task never panics by design; if it did, its sandbox was dropped and so killed.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.queue.close();
    }
}

struct Worker {
    language: Language,
    env: Arc<ContextEnv>,
    limits: ExecutionLimits,
    cancel: CancellationToken,
    live: Option<Live>,
    /// The runner has run an execution, so it has state to lose.
    used: bool,
    lost: Lost,
    connected: watch::Sender<Option<bool>>,
}

impl Worker {
    async fn run(mut self, queue: Arc<Queue>, launched: Option<Launched>) {
        if launched.is_some() {
            self.warm_up(launched).await;
        }
        self.connected.send_replace(Some(self.live.is_some()));
        loop {
            let job = tokio::select! {
                biased;
                () = self.cancel.cancelled() => break,
                job = queue.next() => match job {
                    Some(job) => job,
                    None => break,
                },
                () = drive::idle(&mut self.live) => {
                    self.forget().await;
                    continue;
                }
            };
            self.execute(&queue, job).await;
            let is_over = self.cancel.is_cancelled() || queue.is_closed();
            if self.live.is_none() && !is_over {
                self.free_page().await;
                self.warm_up(None).await;
                self.env.spares.want(self.language);
            }
        }
        queue.refuse_all();
        self.forget().await;
    }

    /// After a kill: code that was ended may have left its script running in the page, and a runner
    /// cannot connect to a page that spins.
    async fn free_page(&mut self) {
        match self.env.hub.ensure_active_page().await {
            Ok((_, replaced)) => self.lost.page |= replaced,
            Err(error) => debug!(%error, "no page after a kill"),
        }
    }

    /// Starts the runner ahead of the next job. A failure here is not lost: the next job starts it
    /// again and reports what happens then.
    async fn warm_up(&mut self, launched: Option<Launched>) {
        if let Err(error) = self.ensure_live(launched).await {
            debug!(%error, "runner not warmed up");
        }
    }

    async fn ensure_live(&mut self, launched: Option<Launched>) -> Result<(), Error> {
        if self.live.is_none() {
            let start = async {
                let page_replaced = &mut self.lost.page;
                match launched {
                    Some(launched) => launched.connect(&self.env, page_replaced).await,
                    None => {
                        start::start(self.language, &self.env, self.limits, page_replaced).await
                    }
                }
            };
            self.live = Some(tokio::select! {
                live = start => live?,
                () = self.cancel.cancelled() => return Err(Error::Cancelled),
            });
            self.connected.send_replace(Some(true));
        }
        Ok(())
    }

    async fn execute(&mut self, queue: &Arc<Queue>, job: Job) {
        if job.events.is_closed() || job.cancel.is_cancelled() {
            let _ = job.started.send(Err(Error::Cancelled));
            return;
        }
        if let Err(error) = self.ensure_live(None).await {
            let _ = job.started.send(Err(error));
            return;
        }
        let Some(live) = &mut self.live else { return };
        if self.language == Language::Bash {
            self.env.agent.keep(&self.env).await;
        }
        if !queue.may_run(&job) {
            // Somebody has taken control while its runner started.
            return queue.put_back(job);
        }
        let lost = std::mem::take(&mut self.lost);
        self.used = true;
        let span = info_span!("execution", execution_id = %job.id, language = %self.language);
        let alive = drive::run(live, &self.env, self.limits, job, lost, &self.cancel)
            .instrument(span)
            .await;
        if !alive {
            self.forget().await;
        }
    }

    /// Ends the runner, if there is one, and remembers that its state is gone.
    async fn forget(&mut self) {
        self.connected.send_replace(Some(false));
        if let Some(live) = self.live.take() {
            live.end(&self.env.hub).await;
            self.lost.context |= std::mem::take(&mut self.used);
        }
    }
}
