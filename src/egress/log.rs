//! What a session did on the network: its newest requests, its totals, and who wants to be told.
//!
//! ```text
//! dial ── decided: refused, failed ─────────────> ring, watchers
//!   └──── decided: allowed ── Recording ── ended ─> ring, watchers   (the same id again)
//! ```
//!
//! Knows hosts, ports and rules, never a path, a query or a header: they do not come this far.
//! Holds nothing of the session itself, so that an ended session can keep it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::broadcast;

use super::answer::Failure;
use super::target::Target;
use super::usage::Meter;
use super::watched::Traffic;
use super::{Config, NetworkOptions, Refusal, Source};
use crate::limits::Bytes;

/// Requests on their way to a watcher that is busy; it is told how many it missed beyond them.
const WATCH_QUEUE: usize = 256;
/// Longest rule or error kept. Rules end well before; an error is cut, and says so with `…`.
const MAX_TEXT: usize = 384;
/// Memory the requests of an ended session may take. With the 4096 ended sessions that are
/// remembered by default that is 128 MiB at the very worst; it holds about 150 requests.
const ENDED_BYTES: usize = 32 << 10;

/// A request to the network: an http request, or a tunnel with all that went through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRequest {
    /// Counts from 1 within the session.
    pub id: u64,
    /// Who asked.
    pub source: Source,
    /// When it was decided.
    pub start_time: SystemTime,
    /// When it ended; absent while it goes on.
    pub end_time: Option<SystemTime>,
    /// The host asked for, in its one spelling.
    pub host: Arc<str>,
    /// The port asked for.
    pub port: u16,
    /// The address connected to.
    pub address: Option<IpAddr>,
    /// What became of it.
    pub verdict: Verdict,
    /// To the host so far.
    pub sent: Bytes,
    /// From it so far.
    pub received: Bytes,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was let through.
    Allowed,
    /// This rule refused it, or ended it.
    Refused(Arc<str>),
    /// It was allowed, but this went wrong.
    Failed(Arc<str>),
}

/// A session's traffic so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkUsage {
    /// Requests decided.
    pub requests: u64,
    /// Of them refused or ended by a rule.
    pub refused: u64,
    /// To hosts.
    pub sent: Bytes,
    /// From hosts.
    pub received: Bytes,
}

/// The log of one session.
#[derive(Debug)]
pub struct Log {
    meter: Arc<Meter>,
    keep: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    requests: u64,
    refused: u64,
    /// Oldest first, ids without gaps.
    ring: VecDeque<Slot>,
    /// Made for the first watcher.
    watchers: Option<broadcast::Sender<LoggedRequest>>,
    /// The totals when the session ended; nothing changes after that.
    closed: Option<NetworkUsage>,
}

#[derive(Debug)]
struct Slot {
    request: LoggedRequest,
    /// While it goes on.
    span: Option<Span>,
}

/// The part of a connection's traffic that belongs to one request.
#[derive(Clone, Debug)]
struct Span {
    traffic: Arc<Traffic>,
    /// What to take off the connection's counts, or to add to them when the request began on
    /// another connection.
    sent_before: i128,
    received_before: i128,
}

impl Span {
    fn new(traffic: &Arc<Traffic>) -> Self {
        Self {
            traffic: Arc::clone(traffic),
            sent_before: i128::from(traffic.written()),
            received_before: i128::from(traffic.read()),
        }
    }

    /// Bytes sent and received.
    fn bytes(&self) -> (Bytes, Bytes) {
        let part = |now: u64, before: i128| {
            Bytes(u64::try_from(i128::from(now) - before).unwrap_or_default())
        };
        (
            part(self.traffic.written(), self.sent_before),
            part(self.traffic.read(), self.received_before),
        )
    }

    /// Goes on over another connection.
    fn moved(&self, traffic: &Arc<Traffic>) -> Self {
        let (sent, received) = self.bytes();
        let mut span = Self::new(traffic);
        span.sent_before -= i128::from(sent.0);
        span.received_before -= i128::from(received.0);
        span
    }
}

impl Log {
    /// An empty one, with the daemon's bounds narrowed by the session's.
    #[must_use]
    pub fn new(config: &Config, options: &NetworkOptions) -> Self {
        let most = options
            .max_bytes
            .map_or(config.max_bytes, |most| most.min(config.max_bytes));
        Self {
            meter: Arc::new(Meter::new(most)),
            keep: config.log,
            inner: Mutex::default(),
        }
    }

    /// One that nobody reads, without a bound on bytes.
    pub(super) fn unread() -> Self {
        Self {
            meter: Arc::new(Meter::new(Bytes(u64::MAX))),
            keep: 0,
            inner: Mutex::default(),
        }
    }

    /// The totals so far.
    #[must_use]
    pub fn usage(&self) -> NetworkUsage {
        self.totals(&self.inner())
    }

    /// The newest requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<LoggedRequest> {
        let inner = self.inner();
        let now = |slot: &Slot| {
            let mut request = slot.request.clone();
            if let Some(span) = &slot.span {
                (request.sent, request.received) = span.bytes();
            }
            request
        };
        inner.ring.iter().map(now).collect()
    }

    /// Every request from now on, when it is decided and again when it has ended; none of a session
    /// that has ended.
    #[must_use]
    pub fn subscribe(&self) -> Option<broadcast::Receiver<LoggedRequest>> {
        let mut inner = self.inner();
        if inner.closed.is_some() {
            return None;
        }
        let watchers = inner
            .watchers
            .get_or_insert_with(|| broadcast::Sender::new(WATCH_QUEUE));
        Some(watchers.subscribe())
    }

    /// The session has ended: nothing changes any more, and only the newest requests that fit 32 KiB
    /// are kept.
    pub fn close(&self) {
        let mut inner = self.inner();
        if inner.closed.is_some() {
            return;
        }
        inner.closed = Some(self.totals(&inner));
        inner.watchers = None;
        let mut room = ENDED_BYTES;
        let fits = |slot: &&Slot| {
            let left = room.checked_sub(slot.request.size());
            room = left.unwrap_or(0);
            left.is_some()
        };
        let kept = inner.ring.iter().rev().take_while(fits).count();
        let gone = inner.ring.len() - kept;
        inner.ring.drain(..gone);
        inner.ring.shrink_to_fit();
        let now = SystemTime::now();
        for slot in &mut inner.ring {
            if let Some(span) = slot.span.take() {
                (slot.request.sent, slot.request.received) = span.bytes();
                slot.request.end_time = Some(now);
            }
        }
    }

    /// Where the bytes of connections to hosts are counted.
    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Refuses what comes after the byte limit.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.meter.left() == Bytes(0) {
            return Err(Refusal::ByteLimit);
        }
        Ok(())
    }

    /// A request was allowed, and goes over this connection from now on.
    pub(super) fn allowed(
        self: &Arc<Self>,
        source: Source,
        target: &Target,
        address: Option<IpAddr>,
        traffic: &Arc<Traffic>,
    ) -> Recording {
        let span = Span::new(traffic);
        let mut request = LoggedRequest::new(source, target, Verdict::Allowed);
        request.address = address;
        self.decided(&mut request, Some(span.clone()));
        Recording {
            log: Arc::clone(self),
            request,
            span,
        }
    }

    /// A request came to no connection.
    pub(super) fn denied(&self, source: Source, target: &Target, failure: &Failure) {
        let mut request = LoggedRequest::new(source, target, Verdict::of(failure));
        request.end_time = Some(request.start_time);
        self.decided(&mut request, None);
    }

    fn decided(&self, request: &mut LoggedRequest, span: Option<Span>) {
        let mut inner = self.inner();
        if inner.closed.is_some() {
            return;
        }
        inner.requests += 1;
        request.id = inner.requests;
        inner.count_refused(request);
        inner.ring.push_back(Slot {
            request: request.clone(),
            span,
        });
        if inner.ring.len() > self.keep {
            inner.ring.pop_front();
        }
        inner.tell(request);
    }

    fn ended(&self, request: &LoggedRequest) {
        let mut inner = self.inner();
        if inner.closed.is_some() {
            return;
        }
        inner.count_refused(request);
        if let Some(slot) = inner.slot(request.id) {
            *slot = Slot {
                request: request.clone(),
                span: None,
            };
        }
        inner.tell(request);
    }

    fn totals(&self, inner: &Inner) -> NetworkUsage {
        inner.closed.unwrap_or_else(|| NetworkUsage {
            requests: inner.requests,
            refused: inner.refused,
            sent: self.meter.sent(),
            received: self.meter.received(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn slot(&mut self, id: u64) -> Option<&mut Slot> {
        let first = self.ring.front()?.request.id;
        let index = usize::try_from(id.checked_sub(first)?).ok()?;
        self.ring.get_mut(index)
    }

    fn count_refused(&mut self, request: &LoggedRequest) {
        if matches!(request.verdict, Verdict::Refused(_)) {
            self.refused += 1;
        }
    }

    fn tell(&mut self, request: &LoggedRequest) {
        // Without a receiver left there is nobody to tell, and no reason to hold the queue.
        if let Some(watchers) = &self.watchers
            && watchers.send(request.clone()).is_err()
        {
            self.watchers = None;
        }
    }
}

impl LoggedRequest {
    fn new(source: Source, target: &Target, verdict: Verdict) -> Self {
        Self {
            id: 0,
            source,
            start_time: SystemTime::now(),
            end_time: None,
            host: target.host.to_string().into(),
            port: target.port,
            address: None,
            verdict,
            sent: Bytes(0),
            received: Bytes(0),
        }
    }

    /// Memory it takes in the ring.
    fn size(&self) -> usize {
        // Two counters stand before the text of an Arc.
        let text = |text: &str| text.len() + 2 * size_of::<usize>();
        let verdict = match &self.verdict {
            Verdict::Allowed => 0,
            Verdict::Refused(rule) => text(rule),
            Verdict::Failed(error) => text(error),
        };
        size_of::<Slot>() + text(&self.host) + verdict
    }
}

impl Verdict {
    fn of(failure: &Failure) -> Self {
        match failure {
            Failure::Refused { refusal, .. } => Self::Refused(bounded(&refusal.to_string())),
            failure => Self::Failed(bounded(&failure.for_log())),
        }
    }
}

fn bounded(text: &str) -> Arc<str> {
    if text.len() <= MAX_TEXT {
        return text.into();
    }
    let end = text.floor_char_boundary(MAX_TEXT - '…'.len_utf8());
    format!("{}…", &text[..end]).into()
}

/// A request that was allowed and goes on. Dropping it ends the request.
#[derive(Debug)]
pub(super) struct Recording {
    log: Arc<Log>,
    request: LoggedRequest,
    span: Span,
}

impl Recording {
    /// It is sent again, over another connection.
    pub(super) fn moved(&mut self, address: Option<IpAddr>, traffic: &Arc<Traffic>) {
        self.span = self.span.moved(traffic);
        self.request.address = address;
        let mut inner = self.log.inner();
        if let Some(slot) = inner.slot(self.request.id)
            && slot.span.is_some()
        {
            slot.request.address = address;
            slot.span = Some(self.span.clone());
        }
    }

    /// Refuses what comes after the byte limit.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        self.log.check()
    }

    /// It came to nothing after all.
    pub(super) fn failed(&mut self, failure: &Failure) {
        self.request.verdict = Verdict::of(failure);
    }

    /// Its connection broke while bytes went over it. Only what the byte limit did to it is worth
    /// telling of a tunnel.
    pub(super) fn broke(&mut self) {
        if let Err(refusal) = self.check() {
            self.request.verdict = Verdict::Refused(bounded(&refusal.to_string()));
        }
    }

    /// The same of an answer, which then lacks its end.
    pub(super) fn broke_within_answer(&mut self, error: &hyper::Error) {
        self.request.verdict = Verdict::Failed(bounded(&format!("the answer broke off: {error}")));
        self.broke();
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        (self.request.sent, self.request.received) = self.span.bytes();
        self.request.end_time = Some(SystemTime::now());
        self.log.ended(&self.request);
    }
}
