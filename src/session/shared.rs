//! What a session's task shares with everyone who holds the session.

mod life;

pub(super) use life::Watched;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Instant, SystemTime};

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::cdp::{Hub, Page};
use crate::egress::{self, Egress};
use crate::id::SessionId;
use crate::runner::Job;
use crate::sandbox::Scratch;
use crate::store::{SessionStart, credits};
use crate::tenant::Owner;

use self::life::Life;
use super::activity::Activity;
use super::profiles::ProfileState;
use super::room::Seat;
use super::takeover::Takeover;
use super::{Bill, EndReason, Error, LiveTokens, SessionOptions, SessionView, State, Token};

/// The page a session begins with.
const BLANK: &str = "about:blank";

/// One session, live or ended.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: SessionId,
    pub(super) owner: Owner,
    pub(super) options: SessionOptions,
    /// Ends what runs in the session.
    pub(super) cancel: CancellationToken,
    /// To the session's task; closed once it no longer takes jobs.
    pub(super) jobs: mpsc::Sender<Job>,
    /// What it did on the network; kept when it has ended.
    pub(super) network: Arc<egress::Log>,
    pub(super) cdp_token: Token,
    /// Others once they are revoked.
    pub(super) live_tokens: watch::Sender<LiveTokens>,
    pub(super) takeover: Takeover,
    life: Mutex<Life>,
    /// Its life is another now.
    life_changed: Notify,
    degraded: Arc<[String]>,
    status: watch::Sender<Status>,
    end_request: watch::Sender<Option<(EndReason, String)>>,
    running: AtomicU32,
    total: AtomicU64,
    /// Who looks at it, and keeps it from being idle.
    watchers: AtomicU32,
    /// By the clock that measures, and by the one that people read.
    last_activity: Mutex<(Instant, SystemTime)>,
    hub: Mutex<Option<Hub>>,
    /// Its way out, while there is one.
    pub(super) way_out: OnceLock<Weak<Egress>>,
    /// Its files, while there are any.
    pub(super) files: OnceLock<Scratch>,
    prompt_used: AtomicBool,
    /// Until it has ended; one that is kept has none.
    seat: Mutex<Option<Seat>>,
    pub(super) profile: ProfileState,
    /// Its browser stood ready before it was asked for.
    warm: AtomicBool,
    activity: Activity,
}

/// What changes with the state.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) state: State,
    /// Its browser and its files may be used.
    is_open: bool,
    end_reason: Option<EndReason>,
    end_detail: String,
    end_time: Option<SystemTime>,
    start_error: Option<String>,
    failure: Option<Error>,
    /// The active page when it ended.
    last_page: Page,
}

/// A session as the store keeps it, before there is one.
pub(super) fn start_of(
    (id, created): (SessionId, SystemTime),
    owner: &Owner,
    options: &SessionOptions,
) -> SessionStart {
    SessionStart {
        id,
        tenant: owner.tenant.to_string(),
        user: owner.user.to_string(),
        kind: options.kind,
        created,
        ttl: options.ttl,
    }
}

impl Shared {
    pub(super) fn new(
        (id, since): (SessionId, SystemTime),
        seat: Seat,
        owner: Owner,
        options: SessionOptions,
        degraded: Arc<[String]>,
        jobs: mpsc::Sender<Job>,
        egress: &egress::Config,
    ) -> Self {
        let network = Arc::new(egress::Log::new(egress, &options.network));
        let status = Status {
            state: State::Starting,
            is_open: false,
            end_reason: None,
            end_detail: String::new(),
            end_time: None,
            start_error: None,
            failure: None,
            last_page: Page::default(),
        };
        let life = Life {
            since,
            ttl: options.ttl,
            idle_ttl: options.idle_ttl,
        };
        Self {
            id,
            owner,
            options,
            cancel: CancellationToken::new(),
            jobs,
            network,
            cdp_token: Token::generate(),
            live_tokens: watch::Sender::new(LiveTokens::generate()),
            takeover: Takeover::new(),
            life: Mutex::new(life),
            life_changed: Notify::new(),
            degraded,
            status: watch::Sender::new(status),
            end_request: watch::Sender::new(None),
            running: AtomicU32::new(0),
            total: AtomicU64::new(0),
            watchers: AtomicU32::new(0),
            last_activity: Mutex::new((Instant::now(), SystemTime::now())),
            hub: Mutex::new(None),
            way_out: OnceLock::new(),
            files: OnceLock::new(),
            prompt_used: AtomicBool::new(false),
            seat: Mutex::new(Some(seat)),
            profile: ProfileState::default(),
            warm: AtomicBool::new(false),
            activity: Activity::default(),
        }
    }

    /// What runs in it counts there, too.
    pub(super) fn counted_in(self, activity: Activity) -> Self {
        Self { activity, ..self }
    }

    /// As the store keeps it.
    pub(super) fn start(&self) -> SessionStart {
        start_of((self.id, self.life().since), &self.owner, &self.options)
    }

    /// Why and when it ended.
    pub(super) fn finished(&self) -> Option<(EndReason, SystemTime)> {
        let status = self.status.borrow();
        status.end_reason.zip(status.end_time)
    }

    /// What it has used until its end, or until now.
    pub(super) fn bill(&self) -> Bill {
        let finished = self.finished();
        let until = finished.map_or_else(SystemTime::now, |(_, end)| end);
        // A clock set back in between gives zero.
        let lived = until.duration_since(self.life().since).unwrap_or_default();
        let is_billed = finished.is_none_or(|(reason, _)| reason.is_billed());
        Bill {
            lived,
            credits: match is_billed {
                true => credits(lived, self.prompt_used()),
                false => 0,
            },
        }
    }

    pub(super) fn prompt_used(&self) -> bool {
        self.prompt_used.load(Ordering::Relaxed)
    }

    /// From now on it costs what a prompt does.
    pub(super) fn use_prompt(&self) {
        self.prompt_used.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_warm(&self) -> bool {
        self.warm.load(Ordering::Relaxed)
    }

    /// It was given a kit.
    pub(super) fn set_warm(&self) {
        self.warm.store(true, Ordering::Relaxed);
    }

    /// It is somebody's, who has taken this seat for it.
    pub(super) fn sit(&self, seat: Seat) {
        *self.seat.lock().unwrap_or_else(PoisonError::into_inner) = Some(seat);
    }

    /// Its seat is free for another.
    pub(super) fn stand_up(&self) {
        let seat = self.seat.lock();
        drop(seat.unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(super) fn view(&self) -> SessionView {
        let page = self.hub().map(|hub| hub.active_page());
        let status = self.status.borrow();
        let life = *self.life();
        let page = page.unwrap_or_else(|| status.last_page.clone());
        SessionView {
            id: self.id,
            state: status.state,
            end_reason: status.end_reason,
            end_detail: status.end_detail.clone(),
            create_time: life.since,
            expire_time: life.since + life.ttl,
            end_time: status.end_time,
            ttl: life.ttl,
            idle_ttl: life.idle_ttl,
            last_activity: self.last_activity(),
            cdp_token: self.cdp_token.clone(),
            live_tokens: (self.options.live_view).then(|| self.live_tokens.borrow().clone()),
            human_control: self.takeover.is_held(),
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
            profile: (self.options.profile.clone()).map(|using| self.profile.view(using)),
            warm: self.is_warm(),
        }
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

    /// What is asked of it from now on is done as soon as it is [open](Self::open).
    pub(super) fn ready(&self) {
        self.touch();
        self.status.send_modify(|status| {
            status.state = State::Ready;
            status.last_page.url = BLANK.to_owned();
        });
    }

    /// Everything of it may be used.
    pub(super) fn open(&self, start_error: Option<String>) {
        self.touch();
        self.status.send_modify(|status| {
            status.state = State::Ready;
            status.is_open = true;
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
        // Before anyone is told: who waited for the end finds room, and a profile nobody writes.
        self.stand_up();
        drop(self.profile.take_writer());
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
        self.wait_for(|status| status.state != State::Starting)
            .await
    }

    /// Waits until it may be used.
    ///
    /// # Errors
    /// Why it never will be.
    pub(super) async fn wait_open(&self) -> Result<(), Error> {
        self.wait_for(|status| {
            status.is_open || !matches!(status.state, State::Starting | State::Ready)
        })
        .await
    }

    async fn wait_for(&self, is_known: impl FnMut(&Status) -> bool) -> Result<(), Error> {
        let mut status = self.subscribe();
        let Ok(status) = status.wait_for(is_known).await else {
            return Err(self.ended_error());
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
        self.activity.add();
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn execution_ended(&self) {
        self.touch();
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.activity.remove();
    }

    pub(super) fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }
}
