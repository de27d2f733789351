//! Jobs that wait for their context, in order, and for people in control of the browser; jobs that ignore
//! those go before the ones that do not. One that is cancelled, or whose caller goes away, or that may not
//! wait for a person any longer, leaves at once: its place is free and its code is let go while others
//! still run.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::timeout;

use super::Error;
use super::context::{Job, OnDrop};
use crate::cdp::InControl;
use crate::execution::OnHumanControl;
use crate::id::ExecutionId;

/// A bounded line of jobs.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// One for each job, from here to its end; bounds `waiting`.
    places: Arc<Semaphore>,
    changed: Notify,
    control: watch::Receiver<InControl>,
    /// How long a job may wait for one who is in control.
    patience: Duration,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Entry>,
    closed: bool,
}

#[derive(Debug)]
struct Entry {
    job: Job,
    /// Dropped with the entry: ends the task that watches it.
    _here: oneshot::Sender<()>,
}

impl Queue {
    /// With room for `places` jobs, the running one included. A job waits for a person in control for
    /// `patience` at most.
    pub(super) fn new(
        places: usize,
        control: watch::Receiver<InControl>,
        patience: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            places: Arc::new(Semaphore::new(places)),
            changed: Notify::new(),
            control,
            patience,
        })
    }

    /// Puts a job at the end. Must be called in a runtime.
    ///
    /// # Errors
    /// Gives the job back when there is no room, or after [`close`](Self::close).
    pub(super) fn push(self: &Arc<Self>, mut job: Job) -> Result<(), Box<Job>> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(Box::new(job));
        };
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Box::new(job));
        }
        hold(&mut job, place);
        let entry = self.watched(job);
        waiting.jobs.push_back(entry);
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    /// Puts a job back that [`next`](Self::next) gave, but that may not run now.
    pub(super) fn put_back(self: &Arc<Self>, job: Job) {
        let mut waiting = self.lock();
        let entry = self.watched(job);
        waiting.jobs.push_front(entry);
        drop(waiting);
        self.changed.notify_one();
    }

    /// A job that leaves by itself when it is to wait no longer; with the queue locked, which it is put in.
    fn watched(self: &Arc<Self>, job: Job) -> Entry {
        let (id, cancel) = (job.id, job.cancel.clone());
        let (here, gone) = oneshot::channel();
        let patience = match job.options.on_human_control {
            OnHumanControl::Wait => Some(self.patience),
            OnHumanControl::Fail => Some(Duration::ZERO),
            OnHumanControl::Ignore => None,
        };
        let (queue, control) = (Arc::clone(self), self.control.clone());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = gone => {}
                () = cancel.cancelled() => queue.remove(id, Error::Cancelled),
                () = held_for(patience, control) => queue.remove(id, Error::HumanInControl),
            }
        });
        Entry { job, _here: here }
    }

    /// Whether a job may run as things are now.
    pub(super) fn may_run(&self, job: &Job) -> bool {
        let is_ignored = job.options.on_human_control == OnHumanControl::Ignore;
        is_ignored || !self.control.borrow().is_person()
    }

    /// The next job that may run; `None` when the queue is closed and empty. For one reader. Cancel safe.
    pub(super) async fn next(&self) -> Option<Job> {
        let mut control = self.control.clone();
        loop {
            control.mark_unchanged();
            {
                let mut waiting = self.lock();
                let may_run = |entry: &Entry| self.may_run(&entry.job);
                let first = waiting.jobs.iter().position(may_run);
                if let Some(entry) = first.and_then(|at| waiting.jobs.remove(at)) {
                    return Some(entry.job);
                }
                if waiting.closed && waiting.jobs.is_empty() {
                    return None;
                }
            }
            tokio::select! {
                () = self.changed.notified() => {}
                // Without a hub nobody takes control, or gives it back.
                Ok(()) = control.changed() => {}
            }
        }
    }

    /// Takes no more jobs; those that wait stay.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Takes no more jobs, and tells those that wait that they were cancelled.
    pub(super) fn refuse_all(&self) {
        self.close();
        let jobs = std::mem::take(&mut self.lock().jobs);
        for Entry { job, .. } in jobs {
            refuse(job, Error::Cancelled);
        }
    }

    fn remove(&self, id: ExecutionId, why: Error) {
        let found = {
            let jobs = &mut self.lock().jobs;
            let at = jobs.iter().position(|entry| entry.job.id == id);
            at.and_then(|at| jobs.remove(at))
        };
        if let Some(Entry { job, .. }) = found {
            refuse(job, why);
            // It may have been the last.
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the place back with the job.
fn hold(job: &mut Job, place: OwnedSemaphorePermit) {
    let guard = std::mem::replace(&mut job.guard, OnDrop::new(|| {}));
    job.guard = OnDrop::new(move || drop((place, guard)));
}

/// Returns when a person has been in control for as long as a job waits for one.
async fn held_for(patience: Option<Duration>, mut control: watch::Receiver<InControl>) {
    let Some(patience) = patience else {
        return std::future::pending().await;
    };
    loop {
        if control.wait_for(|who| who.is_person()).await.is_err() {
            // Without a hub nobody is waited for.
            return std::future::pending().await;
        }
        let is_free = control.wait_for(|who| !who.is_person());
        if timeout(patience, is_free).await.is_err() {
            return;
        }
    }
}

fn refuse(job: Job, why: Error) {
    let Job { started, guard, .. } = job;
    // The count of executions must be down when the caller learns of the end.
    drop(guard);
    let _ = started.send(Err(why));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::execution::{ExecutionOptions, Language};
    use crate::id::SessionId;

    struct Caller {
        id: ExecutionId,
        cancel: CancellationToken,
        started: oneshot::Receiver<Result<(), Error>>,
    }

    /// With room for two, and who is in control.
    fn queue() -> (watch::Sender<InControl>, Arc<Queue>) {
        let control = watch::Sender::new(InControl::Code);
        let queue = Queue::new(2, control.subscribe(), Duration::from_secs(300));
        (control, queue)
    }

    fn job_that(on_human_control: OnHumanControl) -> (Job, Caller) {
        let (mut job, caller) = job();
        job.options.on_human_control = on_human_control;
        (job, caller)
    }

    fn job() -> (Job, Caller) {
        let id = ExecutionId::generate();
        let cancel = CancellationToken::new();
        let (events, _) = mpsc::channel(1);
        let (sender, started) = oneshot::channel();
        let job = Job {
            id,
            session_id: SessionId::generate(),
            options: ExecutionOptions::new(Language::Node, "1"),
            events,
            started: sender,
            cancel: cancel.clone(),
            guard: OnDrop::new(|| {}),
        };
        (
            job,
            Caller {
                id,
                cancel,
                started,
            },
        )
    }

    async fn told(caller: Caller) -> Result<(), Error> {
        let told = tokio::time::timeout(Duration::from_secs(1000), caller.started).await;
        told.expect("told in time").expect("told")
    }

    async fn is_told(caller: Caller) {
        let told = told(caller).await;
        assert!(matches!(told, Err(Error::Cancelled)), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_wait_for_a_person_but_for_those_that_ignore_them() {
        let (control, queue) = queue();
        control.send_replace(InControl::Viewer);
        let (waits, waits_caller) = job();
        let (ignores, ignores_caller) = job_that(OnHumanControl::Ignore);
        queue.push(waits).unwrap();
        queue.push(ignores).unwrap();
        queue.push(job().0).unwrap_err();
        assert_eq!(queue.next().await.unwrap().id, ignores_caller.id);
        let next = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.next().await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!next.is_finished());
        control.send_replace(InControl::Code);
        let taken = next.await.unwrap().unwrap();
        assert_eq!(taken.id, waits_caller.id);
        // Its runner has started meanwhile.
        assert!(queue.may_run(&taken));
        control.send_replace(InControl::Caller);
        assert!(!queue.may_run(&taken));
        queue.put_back(taken);
        waits_caller.cancel.cancel();
        is_told(waits_caller).await;
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_wait_for_no_person_longer_than_they_may() {
        let (control, queue) = queue();
        let (waits, waits_caller) = job();
        let (fails, fails_caller) = job_that(OnHumanControl::Fail);
        queue.push(waits).unwrap();
        queue.push(fails).unwrap();
        queue.close();
        tokio::time::sleep(Duration::from_secs(1000)).await;
        let began = tokio::time::Instant::now();
        control.send_replace(InControl::Viewer);
        let next = tokio::spawn(async move { queue.next().await });
        let refused = told(fails_caller).await;
        assert!(matches!(refused, Err(Error::HumanInControl)), "{refused:?}");
        assert_eq!(began.elapsed().as_secs(), 0);
        let refused = told(waits_caller).await;
        assert!(matches!(refused, Err(Error::HumanInControl)), "{refused:?}");
        assert_eq!(began.elapsed().as_secs(), 300);
        assert!(next.await.unwrap().is_none(), "closed, and nobody waits");
    }

    #[tokio::test]
    async fn a_job_that_is_cancelled_gives_its_place_back() {
        let (_control, queue) = queue();
        let (first, first_caller) = job();
        let (second, second_caller) = job();
        queue.push(first).unwrap();
        queue.push(second).unwrap();
        queue.push(job().0).unwrap_err();
        first_caller.cancel.cancel();
        is_told(first_caller).await;
        let (third, third_caller) = job();
        queue.push(third).unwrap();
        // Taken: it is no longer the queue's to end, and holds its place until it is dropped.
        let taken = queue.next().await.unwrap();
        assert_eq!(taken.id, second_caller.id);
        second_caller.cancel.cancel();
        queue.push(job().0).unwrap_err();
        drop(taken);
        queue.push(job().0).unwrap();
        assert_eq!(queue.next().await.unwrap().id, third_caller.id);
    }

    #[tokio::test]
    async fn a_closed_queue_gives_what_it_has() {
        let (_control, queue) = queue();
        let (first, caller) = job();
        queue.push(first).unwrap();
        queue.close();
        queue.push(job().0).unwrap_err();
        assert_eq!(queue.next().await.unwrap().id, caller.id);
        assert!(queue.next().await.is_none());

        let (_control, queue) = self::queue();
        let (first, caller) = job();
        queue.push(first).unwrap();
        queue.refuse_all();
        is_told(caller).await;
        assert!(queue.next().await.is_none());
    }
}
