//! Captures that take too long and recordings that nobody ends.

use std::time::Instant;

use super::{Driver, Failure};
use crate::cdp::ClientKind;
use crate::cdp::heavy;
use crate::cdp::message::{code, error_payload};
use crate::id::ClientId;

impl Driver {
    /// Why one capture more is refused, if it is.
    pub(super) fn capture_refused(&mut self, method: &str) -> Option<String> {
        let config = &self.shared.config;
        let pending = &self.pending;
        let count = self.captures.count(|id| pending.contains_key(&id));
        (count >= config.captures).then(|| heavy::too_many(method, config))
    }

    /// Answers captures that have taken too long, and looks at their pages.
    pub(super) fn give_up_captures(&mut self, now: Instant) {
        let limit = self.shared.config.capture_limit;
        for capture in self.captures.expired(now, limit) {
            // Answered, or its client has gone.
            let Some(pending) = self.pending.remove(&capture.id) else {
                continue;
            };
            tracing::debug!(method = capture.method, "a capture took too long: given up");
            if let Some(session) = &pending.session {
                self.look_after(session);
            }
            let text = heavy::too_long(&capture.method, &self.shared.config);
            self.finish(pending, Err(Failure(error_payload(code::SERVER, &text))));
        }
    }

    /// Looks after the pages of captures whose client goes.
    pub(super) fn captures_abandoned(&mut self, client: ClientId) {
        let sessions: Vec<String> = self
            .captures
            .ids()
            .filter_map(|id| self.pending.get(&id))
            .filter(|pending| pending.client == Some(client))
            .filter_map(|pending| pending.session.clone())
            .collect();
        for session in sessions {
            self.look_after(&session);
        }
    }

    /// Has the page of a session closed if it does not answer. Pages that were only looked at are left
    /// to their own.
    fn look_after(&self, session: &str) {
        let owner = self.sessions.get(session).and_then(|session| session.owner);
        let kind = owner.and_then(|client| Some(&self.clients.get(&client)?.kind));
        if kind == Some(&ClientKind::Live) {
            return;
        }
        let board = self.shared.board();
        let mut above = Some(session);
        // A frame or a worker is its page's affair.
        let page = std::iter::from_fn(|| {
            let session = self.sessions.get(above?)?;
            above = session.parent.as_deref();
            Some(&session.target)
        })
        .find(|target| board.pages.get(target).is_some())
        .cloned();
        drop(board);
        let Some(page) = page else {
            return;
        };
        let hub = self.hub.clone();
        self.shared
            .tasks
            .spawn(async move { hub.close_if_stuck(&page).await });
    }

    /// Ends recordings that `goes` names, by their client and when they began.
    pub(super) fn end_recordings(&mut self, goes: impl Fn(ClientId, Instant) -> bool) {
        for (session, kind) in self.recordings.take(goes) {
            tracing::debug!(?kind, "a recording went on too long: ended");
            self.own(Some(session), kind.end(), None);
        }
    }
}
