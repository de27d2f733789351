//! New pages that wait at their start, and what lets them go.
//!
//! A page that another one opens waits for a client's `Runtime.runIfWaitingForDebugger` as soon as
//! anybody attaches to new pages by itself, and the hub does. Its opener waits inside `window.open`
//! until then, so it must come: when every client that asked to hold new pages has let it go, when those
//! that have not are gone or take too long, when nobody asked, and before the page is closed.
//!
//! Chromium itself takes the first word for all: the other clients would set up a page that already runs. And a
//! word more than there are clients may crash the renderer when a script opens several popups (156: a
//! null pointer, in half of the attempts), so the hub says it only when no client does.

use std::time::Instant;

use serde_json::json;

use super::{Driver, Then};
use crate::cdp::message::payload;

const RESUME: &str = "Runtime.runIfWaitingForDebugger";

/// Whether a session's target waits for its word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Hold {
    /// Not for this one's.
    #[default]
    No,
    /// It does.
    Held,
    /// It has come, and is passed on with those of the others.
    LetGo,
}

impl Driver {
    /// Looks who holds a new page: Chromium tells of every client's session on it before it answers.
    pub(super) fn look_who_holds(&mut self, target: &str) {
        let params = payload(&json!({ "targetId": target }));
        let then = Then::Settle(target.to_owned());
        self.ask(None, "Target.getTargetInfo", Some(params), then);
    }

    /// A client lets a session's target go. Whether that is for the hub to pass on, when it is time.
    pub(super) fn let_go(&mut self, session: &str) -> bool {
        let Some(known) = self.sessions.get_mut(session) else {
            return false;
        };
        let target = known.target.clone();
        if self.shared.board().pages.get(&target).is_none() {
            // A worker or frame, which each client has sessions of its own on.
            known.hold = Hold::No;
            return false;
        }
        known.hold = Hold::LetGo;
        self.look_who_holds(&target);
        true
    }

    /// Lets a page go on that no client holds any more.
    pub(super) fn settle(&mut self, target: &str) {
        let mut sessions = self.sessions.values();
        if !sessions.any(|session| session.hold == Hold::Held && session.target == target) {
            self.resume(target);
        }
    }

    /// Lets a page go on, whoever holds it.
    pub(super) fn release(&mut self, target: &str) {
        let held = self.sessions.iter();
        let held = held.filter(|(_, known)| known.hold == Hold::Held && known.target == target);
        let held: Vec<String> = held.map(|(id, _)| id.clone()).collect();
        for session in held {
            self.let_go_for_it(session);
        }
    }

    /// Lets targets go on that were held too long.
    pub(super) fn release_expired(&mut self, now: Instant) {
        let limit = self.shared.config.pause_limit;
        while let Some((since, _)) = self.paused.front()
            && now >= *since + limit
            && let Some((_, id)) = self.paused.pop_front()
        {
            let known = self.sessions.get(&id);
            if known.is_some_and(|known| known.hold == Hold::Held) {
                tracing::debug!("a client held a new target too long: released");
                self.let_go_for_it(id);
            }
        }
    }

    fn let_go_for_it(&mut self, session: String) {
        if !self.let_go(&session) {
            self.own(Some(session), RESUME, None);
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

    /// Passes on the words of those that have let a page go; says it for them when there are none.
    fn resume(&mut self, target: &str) {
        let mut words = Vec::new();
        for (id, known) in &mut self.sessions {
            if known.hold == Hold::LetGo && known.target == target {
                known.hold = Hold::No;
                words.push(id.clone());
            }
        }
        if let Some(entry) = self.shared.board().pages.get_mut(target) {
            if words.is_empty() && !entry.going {
                words.extend(entry.session.clone());
            }
            entry.going |= !words.is_empty();
        }
        for session in words {
            self.own(Some(session), RESUME, None);
        }
    }
}
