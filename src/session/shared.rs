//! What a session's task shares with everyone who holds the session.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::cdp::{Hub, Page};
use crate::egress;
use crate::id::SessionId;
use crate::runner::Job;

use super::{EndReason, Error, SessionOptions, SessionView, State};

/// One session, live or ended.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: SessionId,
    pub(super) options: SessionOptions,
    /// Ends what runs in the session.
    pub(super) cancel: CancellationToken,
    /// To the session's task; closed once it no longer takes jobs.
    pub(super) jobs: mpsc::Sender<Job>,
    /// What it did on the network; kept when it has ended.
    pub(super) network: Arc<egress::Log>,
    create_time: SystemTime,
    degraded: Arc<[String]>,
    status: watch::Sender<Status>,
    end_request: watch::Sender<Option<(EndReason, String)>>,
    running: AtomicU32,
    total: AtomicU64,
    last_activity: Mutex<Instant>,
    hub: Mutex<Option<Hub>>,
}

/// What changes with the state.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) state: State,
    end_reason: Option<EndReason>,
    end_detail: String,
    end_time: Option<SystemTime>,
    start_error: Option<String>,
    failure: Option<Error>,
    /// The active page when it ended.
    last_page: Page,
}

impl Shared {
    pub(super) fn new(
        options: SessionOptions,
        degraded: Arc<[String]>,
        cancel: CancellationToken,
        jobs: mpsc::Sender<Job>,
        egress: &egress::Config,
    ) -> Self {
        let network = Arc::new(egress::Log::new(egress, &options.network));
        let status = Status {
            state: State::Starting,
            end_reason: None,
            end_detail: String::new(),
            end_time: None,
            start_error: None,
            failure: None,
            last_page: Page::default(),
        };
        Self {
            id: SessionId::generate(),
            options,
            cancel,
            jobs,
            network,
            create_time: SystemTime::now(),
            degraded,
            status: watch::Sender::new(status),
            end_request: watch::Sender::new(None),
            running: AtomicU32::new(0),
            total: AtomicU64::new(0),
            last_activity: Mutex::new(Instant::now()),
            hub: Mutex::new(None),
        }
    }

    pub(super) fn view(&self) -> SessionView {
        let page = self.hub().map(|hub| hub.active_page());
        let status = self.status.borrow();
        let page = page.unwrap_or_else(|| status.last_page.clone());
        SessionView {
            id: self.id,
            state: status.state,
            end_reason: status.end_reason,
            end_detail: status.end_detail.clone(),
            create_time: self.create_time,
            expire_time: self.expire_time(),
            end_time: status.end_time,
            ttl: self.options.ttl,
            idle_ttl: self.options.idle_ttl,
            running_executions: self.running.load(Ordering::Relaxed),
            total_executions: self.total.load(Ordering::Relaxed),
            url: page.url,
            title: page.title,
            labels: self.options.labels.clone(),
            start_error: status.start_error.clone(),
            degraded: Arc::clone(&self.degraded),
            network: self.network.usage(),
            limits: self.options.limits,
            execution_limits: self.options.execution_limits,
        }
    }

    fn expire_time(&self) -> SystemTime {
        self.create_time + self.options.ttl
    }

    /// Of its total life.
    pub(super) fn left_to_live(&self) -> Duration {
        self.expire_time()
            .duration_since(SystemTime::now())
            .unwrap_or_default()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    pub(super) fn state(&self) -> State {
        self.status.borrow().state
    }

    pub(super) fn hub(&self) -> Option<Hub> {
        self.hub
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The browser has started, or is gone.
    pub(super) fn set_hub(&self, hub: Option<Hub>) {
        *self.hub.lock().unwrap_or_else(PoisonError::into_inner) = hub;
    }

    pub(super) fn ready(&self, start_error: Option<String>) {
        self.touch();
        self.status.send_modify(|status| {
            status.state = State::Ready;
            status.start_error = start_error;
        });
    }

    /// With what failed, if that is why: who waits for it to be ready is told now.
    pub(super) fn stopping(&self, failure: Option<Error>) {
        self.status.send_modify(|status| {
            status.state = State::Stopping;
            status.failure = failure;
        });
    }

    pub(super) fn ended(&self, reason: EndReason, detail: String) {
        let last_page = self.hub().map(|hub| hub.active_page()).unwrap_or_default();
        self.set_hub(None);
        self.network.close();
        self.status.send_modify(|status| {
            status.state = reason.state();
            status.end_reason = Some(reason);
            status.end_detail = detail;
            status.end_time = Some(SystemTime::now());
            status.last_page = last_page;
        });
    }

    /// Asks the session to end; the first reason stays.
    pub(super) fn request_end(&self, reason: EndReason) {
        self.request_end_because(reason, reason.describe().to_owned());
    }

    pub(super) fn request_end_because(&self, reason: EndReason, detail: String) {
        self.end_request.send_if_modified(|request| {
            let first = request.is_none();
            if first {
                *request = Some((reason, detail));
            }
            first
        });
    }

    /// Waits until someone asks the session to end.
    pub(super) async fn end_requested(&self) -> (EndReason, String) {
        let mut request = self.end_request.subscribe();
        let asked = request.wait_for(Option::is_some).await;
        let asked = asked.ok().and_then(|request| request.clone());
        match asked {
            Some(asked) => asked,
            // Not possible: the sender is in `self`.
            None => std::future::pending().await,
        }
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// Why it never will be.
    pub(super) async fn wait_ready(&self) -> Result<(), Error> {
        let mut status = self.subscribe();
        let status = match status
            .wait_for(|status| status.state != State::Starting)
            .await
        {
            Ok(status) => status,
            Err(_) => return Err(self.ended_error()),
        };
        match (status.state, &status.failure) {
            (State::Ready, _) => Ok(()),
            (_, Some(failure)) => Err(failure.clone()),
            (_, None) => {
                drop(status);
                Err(self.ended_error())
            }
        }
    }

    pub(super) fn start_failed(&self) -> bool {
        self.status.borrow().end_reason == Some(EndReason::StartFailed)
    }

    /// Waits until nothing of it is left.
    pub(super) async fn wait_ended(&self) {
        let mut status = self.subscribe();
        let _ = status.wait_for(|status| status.state.ended()).await;
    }

    /// The error for work that came too late.
    pub(super) fn ended_error(&self) -> Error {
        let requested = self.end_request.borrow().clone();
        if matches!(requested, Some((EndReason::Drained, _))) {
            return Error::Draining;
        }
        let detail = requested.map_or_else(
            || self.status.borrow().end_detail.clone(),
            |(_, detail)| detail,
        );
        Error::SessionEnded {
            id: self.id,
            detail,
        }
    }

    pub(super) fn execution_added(&self) {
        self.touch();
        self.running.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn execution_ended(&self) {
        self.touch();
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    fn touch(&self) {
        *self
            .last_activity
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long nothing has run; zero while something does.
    pub(super) fn idle_for(&self) -> Duration {
        if self.running() > 0 {
            return Duration::ZERO;
        }
        self.last_activity
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
    }
}
