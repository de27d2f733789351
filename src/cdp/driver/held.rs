//! New pages that wait at their start, and what lets them go.
//!
//! A page that another one opens waits for a client's `Runtime.runIfWaitingForDebugger` as soon as
//! anybody attaches to new pages by itself, and the hub does. Its opener waits inside `window.open`
//! until then, so it must come: from the client that asked to hold it, or from the hub when nobody
//! asked, when that client has gone or takes too long, and before the page is closed.

use std::time::Instant;

use serde_json::json;

use super::{Driver, Then};
use crate::cdp::message::payload;

const RESUME: &str = "Runtime.runIfWaitingForDebugger";

impl Driver {
    /// Looks who holds a new page: Chromium tells of every client's session on it before it answers.
    pub(super) fn look_who_holds(&mut self, target: &str) {
        let params = payload(&json!({ "targetId": target }));
        let then = Then::Settle(target.to_owned());
        self.ask("Target.getTargetInfo", params, then);
    }

    /// Lets a page go on that no client holds any more.
    pub(super) fn settle(&mut self, target: &str) {
        let mut sessions = self.sessions.values();
        if !sessions.any(|session| session.paused && session.target == target) {
            self.resume(target);
        }
    }

    /// Lets a target go on that any client holds.
    pub(super) fn release(&mut self, target: &str) {
        let paused = self.sessions.iter_mut();
        let paused: Vec<String> = paused
            .filter(|(_, session)| session.paused && session.target == target)
            .map(|(id, session)| {
                session.paused = false;
                id.clone()
            })
            .collect();
        for session in paused {
            self.own(Some(session), RESUME, None);
        }
    }

    /// Lets targets go on that were held too long.
    pub(super) fn release_expired(&mut self, now: Instant) {
        let limit = self.shared.config.pause_limit;
        while let Some((since, _)) = self.paused.front()
            && now >= *since + limit
            && let Some((_, id)) = self.paused.pop_front()
        {
            if let Some(session) = self.sessions.get_mut(&id)
                && std::mem::take(&mut session.paused)
            {
                tracing::debug!("a client held a new target too long: released");
                self.own(Some(id), RESUME, None);
            }
        }
    }

    /// A page is about to be closed. One that is closed while it waits leaves its opener waiting.
    pub(super) fn closing(&mut self, target: &str) {
        if let Some(entry) = self.shared.board().pages.get_mut(target) {
            entry.closing = true;
        }
        self.resume(target);
    }

    /// Closes a page as soon as the hub is attached to it.
    pub(super) fn close_page(&mut self, target: &str) {
        self.closing(target);
        let params = payload(&json!({ "targetId": target }));
        self.own(None, "Target.closeTarget", Some(params));
    }

    /// Any session's word lets the page go on for all.
    fn resume(&mut self, target: &str) {
        let board = self.shared.board();
        let entry = board.pages.get(target);
        let session = entry.and_then(|entry| entry.session.clone());
        drop(board);
        if let Some(session) = session {
            self.own(Some(session), RESUME, None);
        }
    }
}
