//! Requests that keep the browser busy for long, or make it gather data until it is told to stop:
//! pure.
//!
//! A capture is one answer that may take any time; it is given up after `capture_limit`. A
//! recording goes on after its answer; it ends with the execution that began it, with its client,
//! or after `recording_limit`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Config;
use crate::id::ClientId;

/// Methods of one long answer. They are native work of a renderer: no script to end.
const CAPTURES: &[&str] = &[
    "Accessibility.getFullAXTree",
    "DOMSnapshot.captureSnapshot",
    "HeapProfiler.stopTrackingHeapObjects",
    "HeapProfiler.takeHeapSnapshot",
    "Page.captureScreenshot",
    "Page.captureSnapshot",
    "Page.printToPDF",
];

/// Whether a method is a capture.
pub(crate) fn is_capture(method: &str) -> bool {
    CAPTURES.contains(&method)
}

/// What goes on until it is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recording {
    Trace,
    Screencast,
    HeapAllocations,
    HeapSamples,
    Profile,
}

impl Recording {
    const ALL: [Self; 5] = [
        Self::Trace,
        Self::Screencast,
        Self::HeapAllocations,
        Self::HeapSamples,
        Self::Profile,
    ];

    fn started_by(self) -> &'static str {
        match self {
            Self::Trace => "Tracing.start",
            Self::Screencast => "Page.startScreencast",
            Self::HeapAllocations => "HeapProfiler.startTrackingHeapObjects",
            Self::HeapSamples => "HeapProfiler.startSampling",
            Self::Profile => "Profiler.start",
        }
    }

    /// What ends it. Heap tracking's own end would take a snapshot first.
    pub(crate) fn end(self) -> &'static str {
        match self {
            Self::Trace => "Tracing.end",
            Self::Screencast => "Page.stopScreencast",
            Self::HeapAllocations | Self::HeapSamples => "HeapProfiler.disable",
            Self::Profile => "Profiler.stop",
        }
    }

    /// The recording a method begins.
    pub(crate) fn started(method: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.started_by() == method)
    }
}

/// Captures under way, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Captures(VecDeque<Capture>);

/// One capture.
#[derive(Debug)]
pub(crate) struct Capture {
    since: Instant,
    /// Of its request to the browser.
    pub(crate) id: i64,
    pub(crate) method: String,
}

impl Captures {
    /// How many there are, without those that are no longer `waiting`.
    pub(crate) fn count(&mut self, waiting: impl Fn(i64) -> bool) -> usize {
        self.0.retain(|capture| waiting(capture.id));
        self.0.len()
    }

    /// The ids of all.
    pub(crate) fn ids(&self) -> impl Iterator<Item = i64> {
        self.0.iter().map(|capture| capture.id)
    }

    /// One has begun.
    pub(crate) fn began(&mut self, now: Instant, id: i64, method: String) {
        let since = now;
        self.0.push_back(Capture { since, id, method });
    }

    /// When the next one is to be given up.
    pub(crate) fn deadline(&self, limit: Duration) -> Option<Instant> {
        self.0.front().map(|capture| capture.since + limit)
    }

    /// Takes those that have lasted for `limit`.
    pub(crate) fn expired(&mut self, now: Instant, limit: Duration) -> Vec<Capture> {
        let old = self.0.iter();
        let old = old.take_while(|capture| now >= capture.since + limit);
        let old = old.count();
        self.0.drain(..old).collect()
    }
}

/// What is said of a capture that took too long.
pub(crate) fn too_long(method: &str, config: &Config) -> String {
    format!(
        "{method} took longer than {} (cdp.capture_limit) and was given up; a page it keeps busy is \
         closed. Ask for less at once: fewer pages (pageRanges), a smaller part (clip)",
        humantime::format_duration(config.capture_limit)
    )
}

/// What is said of one capture too many.
pub(crate) fn too_many(method: &str, config: &Config) -> String {
    format!(
        "{method}: {} captures are under way in this browser (cdp.captures): wait until one of them \
         is answered",
        config.captures
    )
}

/// What is said of a picture that is too large.
pub(crate) fn too_large(method: &str, width: f64, height: f64, config: &Config) -> String {
    format!(
        "{method}: {width:.0} x {height:.0} pixels are more than the {} of cdp.capture_pixels: use a \
         smaller size or scale, or capture parts of the page (clip)",
        config.capture_pixels
    )
}

/// Recordings under way, the oldest first; at most one of a kind in each session.
#[derive(Debug, Default)]
pub(crate) struct Recordings(Vec<Running>);

#[derive(Debug)]
struct Running {
    since: Instant,
    client: ClientId,
    session: String,
    kind: Recording,
}

impl Recordings {
    /// One has begun, or begun again.
    pub(crate) fn began(
        &mut self,
        since: Instant,
        client: ClientId,
        session: &str,
        kind: Recording,
    ) {
        self.0
            .retain(|known| known.session != session || known.kind != kind);
        let session = session.to_owned();
        self.0.push(Running {
            since,
            client,
            session,
            kind,
        });
    }

    /// A session has asked for something that may end one of its own.
    pub(crate) fn ended_by(&mut self, session: &str, method: &str) {
        self.0
            .retain(|known| known.session != session || known.kind.end() != method);
    }

    /// A session is gone, and what it recorded.
    pub(crate) fn forget(&mut self, session: &str) {
        self.0.retain(|known| known.session != session);
    }

    /// When the next one is to be ended.
    pub(crate) fn deadline(&self, limit: Duration) -> Option<Instant> {
        self.0.first().map(|oldest| oldest.since + limit)
    }

    /// Takes those that `goes` says are to be ended: session and kind.
    pub(crate) fn take(
        &mut self,
        goes: impl Fn(ClientId, Instant) -> bool,
    ) -> Vec<(String, Recording)> {
        self.0
            .extract_if(.., |known| goes(known.client, known.since))
            .map(|known| (known.session, known.kind))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn captures_are_given_up_in_order_and_answered_ones_do_not_count() {
        let now = Instant::now();
        let mut captures = Captures::default();
        for (at, id) in [(now, 1), (now + LIMIT / 2, 2), (now + LIMIT, 3)] {
            captures.began(at, id, "Page.printToPDF".to_owned());
        }
        assert_eq!(captures.count(|id| id != 2), 2);
        assert_eq!(captures.deadline(LIMIT), Some(now + LIMIT));
        let expired: Vec<i64> = captures
            .expired(now + LIMIT, LIMIT)
            .iter()
            .map(|capture| capture.id)
            .collect();
        assert_eq!(expired, [1]);
        assert_eq!(captures.deadline(LIMIT), Some(now + LIMIT * 2));
    }

    #[test]
    fn a_recording_ends_by_its_own_session_or_is_taken_once() {
        let now = Instant::now();
        let (one, two) = (ClientId(1), ClientId(2));
        let mut recordings = Recordings::default();
        recordings.began(now, one, "a", Recording::Trace);
        recordings.began(now, one, "a", Recording::Screencast);
        recordings.began(now, two, "b", Recording::Trace);
        recordings.began(now + LIMIT, two, "b", Recording::Trace);
        recordings.ended_by("b", "Page.stopScreencast");
        recordings.ended_by("a", "Tracing.end");
        assert_eq!(
            recordings.take(|client, _| client == one),
            [("a".to_owned(), Recording::Screencast)]
        );
        assert_eq!(recordings.deadline(LIMIT), Some(now + LIMIT * 2));
        recordings.forget("b");
        assert_eq!(recordings.deadline(LIMIT), None);
    }

    #[test]
    fn every_recording_is_known_by_its_method() {
        for kind in Recording::ALL {
            assert_eq!(Recording::started(kind.started_by()), Some(kind));
        }
        assert_eq!(Recording::started("Page.navigate"), None);
    }
}
