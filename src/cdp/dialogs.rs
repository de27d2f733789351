//! Dialogs and file choosers that wait for somebody who may see them: pure.
//!
//! Chromium tells every client of a page that a dialog has opened, and a Playwright client without
//! a listener dismisses it at once. So what an idle runner would be told is held here, and told
//! when an execution of its begins. A dialog that nobody closes is dismissed by the hub in the end.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::message::{Message, payload};

/// Sessions something is held for; one more is not told what it missed.
const MAX_HELD: usize = 1024;
/// Longest text of a dialog that is held, in bytes; a page may give it any length, and every session
/// on it gets one. What is cut ends in `…`.
const MAX_HELD_TEXT: usize = 4 << 10;

/// What is held, and which pages a dialog blocks.
#[derive(Debug, Default)]
pub(crate) struct Dialogs {
    /// How many there have been.
    count: u64,
    /// Pages with an open dialog, the oldest first.
    open: VecDeque<(Instant, String)>,
    /// By session: at most one dialog and one file chooser each.
    held: HashMap<String, Held>,
}

#[derive(Debug, Default)]
struct Held {
    dialog: Option<Message>,
    chooser: Option<(Instant, Message)>,
}

impl Dialogs {
    /// A dialog blocks a page; the dialog's number.
    pub(crate) fn opened(&mut self, target: &str, now: Instant) -> u64 {
        self.closed(target);
        self.open.push_back((now, target.to_owned()));
        self.count += 1;
        self.count
    }

    /// No dialog blocks the page any more.
    pub(crate) fn closed(&mut self, target: &str) {
        self.open.retain(|(_, open)| open != target);
    }

    /// Keeps a dialog from a session for now.
    pub(crate) fn hold_dialog(&mut self, session: &str, event: Message) {
        if let Some(held) = self.room(session) {
            held.dialog = Some(shortened(event));
        }
    }

    /// Keeps a file chooser from a session for now.
    pub(crate) fn hold_chooser(&mut self, session: &str, event: Message, now: Instant) {
        if let Some(held) = self.room(session) {
            held.chooser = Some((now, event));
        }
    }

    fn room(&mut self, session: &str) -> Option<&mut Held> {
        let room = self.held.len() < MAX_HELD || self.held.contains_key(session);
        room.then(|| self.held.entry(session.to_owned()).or_default())
    }

    /// A session is told that its dialog has closed. Whether it had been told of the opening.
    pub(crate) fn closed_for(&mut self, session: &str) -> bool {
        let Some(known) = self.held.get_mut(session) else {
            return true;
        };
        let held = known.dialog.take();
        if known.chooser.is_none() {
            self.held.remove(session);
        }
        held.is_none()
    }

    /// A session is gone.
    pub(crate) fn forget(&mut self, session: &str) {
        self.held.remove(session);
    }

    /// Takes what is held for the sessions that may see it now.
    pub(crate) fn release(
        &mut self,
        now: Instant,
        hold: Duration,
        visible: impl Fn(&str) -> bool,
    ) -> Vec<(String, Message)> {
        let mut released = Vec::new();
        self.held.retain(|session, held| {
            if !visible(session) {
                return true;
            }
            let chooser = held.chooser.take().filter(|(since, _)| now < *since + hold);
            let messages = held
                .dialog
                .take()
                .into_iter()
                .chain(chooser.map(|(_, event)| event));
            released.extend(messages.map(|event| (session.clone(), event)));
            false
        });
        released
    }

    /// Takes the pages whose dialog has been open for `hold`.
    pub(crate) fn expired(&mut self, now: Instant, hold: Duration) -> Vec<String> {
        let old = self
            .open
            .iter()
            .take_while(|(since, _)| now >= *since + hold)
            .count();
        self.open.drain(..old).map(|(_, target)| target).collect()
    }

    /// When the next dialog expires.
    pub(crate) fn deadline(&self, hold: Duration) -> Option<Instant> {
        self.open.front().map(|(since, _)| *since + hold)
    }
}

/// A dialog's event, its texts cut.
fn shortened(event: Message) -> Message {
    let Some(params) = event.params.as_deref().filter(|p| p.len() > MAX_HELD_TEXT) else {
        return event;
    };
    let mut fields: serde_json::Value = serde_json::from_slice(params).unwrap_or_default();
    for value in fields.as_object_mut().into_iter().flatten().map(|(_, v)| v) {
        if let serde_json::Value::String(text) = value
            && text.len() > MAX_HELD_TEXT
        {
            let cut = &text[..text.floor_char_boundary(MAX_HELD_TEXT)];
            *value = format!("{cut}…").into();
        }
    }
    Message {
        params: Some(payload(&fields)),
        ..event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(10);

    fn event() -> Message {
        Message {
            method: Some("Page.javascriptDialogOpening".into()),
            ..Message::default()
        }
    }

    #[test]
    fn a_held_dialog_is_released_to_its_session_once() {
        let now = Instant::now();
        let mut dialogs = Dialogs::default();
        dialogs.hold_dialog("a", event());
        dialogs.hold_dialog("b", event());
        let released = dialogs.release(now, HOLD, |session| session == "a");
        assert_eq!(released, vec![("a".to_owned(), event())]);
        assert!(
            dialogs
                .release(now, HOLD, |session| session == "a")
                .is_empty()
        );
        assert!(dialogs.closed_for("a"), "it was told of the opening");
        assert!(!dialogs.closed_for("b"), "it was not");
        assert!(
            dialogs.release(now, HOLD, |_| true).is_empty(),
            "closed meanwhile"
        );
    }

    #[test]
    fn what_is_held_is_bounded_in_sessions_and_in_text() {
        let mut dialogs = Dialogs::default();
        let text = "\u{1f600}".repeat(MAX_HELD_TEXT);
        let long = serde_json::json!({ "message": text, "type": "alert" });
        let event = Message {
            params: Some(payload(&long)),
            ..event()
        };
        for session in 0..MAX_HELD + 10 {
            dialogs.hold_dialog(&session.to_string(), event.clone());
        }
        let released = dialogs.release(Instant::now(), HOLD, |_| true);
        assert_eq!(released.len(), MAX_HELD);
        for (_, event) in released {
            assert!(event.size() < MAX_HELD_TEXT + 200);
            let params: serde_json::Value = serde_json::from_slice(&event.params.unwrap()).unwrap();
            assert_eq!(params["type"], "alert");
            assert!(params["message"].as_str().unwrap().ends_with("\u{1f600}…"));
        }
    }

    #[test]
    fn an_old_file_chooser_is_dropped_instead_of_released() {
        let now = Instant::now();
        let mut dialogs = Dialogs::default();
        dialogs.hold_chooser("a", event(), now);
        assert!(dialogs.release(now + HOLD, HOLD, |_| true).is_empty());
    }

    #[test]
    fn dialogs_expire_in_order() {
        let now = Instant::now();
        let mut dialogs = Dialogs::default();
        assert_eq!(dialogs.opened("a", now), 1);
        assert_eq!(dialogs.opened("b", now + HOLD / 2), 2);
        assert_eq!(dialogs.deadline(HOLD), Some(now + HOLD));
        assert_eq!(dialogs.expired(now + HOLD, HOLD), vec!["a"]);
        dialogs.closed("b");
        assert_eq!(dialogs.deadline(HOLD), None);
    }
}
