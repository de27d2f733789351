//! Jobs that wait for their context, in order. One that is cancelled, or whose caller goes away,
//! leaves at once: its place is free and its code is let go while others still run.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use super::Error;
use super::context::{Job, OnDrop};
use crate::id::ExecutionId;

/// A bounded line of jobs.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// One for each job, from here to its end; bounds `waiting`.
    places: Arc<Semaphore>,
    changed: Notify,
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
    /// With room for `places` jobs, the running one included.
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            places: Arc::new(Semaphore::new(places)),
            changed: Notify::new(),
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
        let (id, cancel) = (job.id, job.cancel.clone());
        let (here, gone) = oneshot::channel();
        {
            let mut waiting = self.lock();
            if waiting.closed {
                return Err(Box::new(job));
            }
            hold(&mut job, place);
            waiting.jobs.push_back(Entry { job, _here: here });
        }
        self.changed.notify_one();
        let queue = Arc::clone(self);
        tokio::spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => queue.remove(id),
                _ = gone => {}
            }
        });
        Ok(())
    }

    /// The next job; `None` when the queue is closed and empty. For one reader. Cancel safe.
    pub(super) async fn next(&self) -> Option<Job> {
        loop {
            {
                let mut waiting = self.lock();
                if let Some(entry) = waiting.jobs.pop_front() {
                    return Some(entry.job);
                }
                if waiting.closed {
                    return None;
                }
            }
            self.changed.notified().await;
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
            refuse(job);
        }
    }

    fn remove(&self, id: ExecutionId) {
        let found = {
            let jobs = &mut self.lock().jobs;
            let at = jobs.iter().position(|entry| entry.job.id == id);
            at.and_then(|at| jobs.remove(at))
        };
        if let Some(Entry { job, .. }) = found {
            refuse(job);
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

fn refuse(job: Job) {
    let Job { started, guard, .. } = job;
    // The count of executions must be down when the caller learns of the end.
    drop(guard);
    let _ = started.send(Err(Error::Cancelled));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::execution::{ExecutionOptions, Language};

    struct Caller {
        id: ExecutionId,
        cancel: CancellationToken,
        started: oneshot::Receiver<Result<(), Error>>,
    }

    fn job() -> (Job, Caller) {
        let id = ExecutionId::generate();
        let cancel = CancellationToken::new();
        let (events, _) = mpsc::channel(1);
        let (sender, started) = oneshot::channel();
        let job = Job {
            id,
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

    async fn is_told(caller: Caller) {
        let told = tokio::time::timeout(Duration::from_secs(10), caller.started).await;
        assert!(matches!(told, Ok(Ok(Err(Error::Cancelled)))), "{told:?}");
    }

    #[tokio::test]
    async fn a_job_that_is_cancelled_gives_its_place_back() {
        let queue = Queue::new(2);
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
        let queue = Queue::new(2);
        let (first, caller) = job();
        queue.push(first).unwrap();
        queue.close();
        queue.push(job().0).unwrap_err();
        assert_eq!(queue.next().await.unwrap().id, caller.id);
        assert!(queue.next().await.is_none());

        let queue = Queue::new(2);
        let (first, caller) = job();
        queue.push(first).unwrap();
        queue.refuse_all();
        is_told(caller).await;
        assert!(queue.next().await.is_none());
    }
}
