//! Dialogs and file choosers that wait for somebody who may see them: pure.
//!
//! Chromium tells every client of a page that a dialog has opened, and a Playwright client without
//! a listener dismisses it at once. So what an idle runner would be told is held here, and told
//! when an execution of its begins. A dialog that nobody closes is dismissed by the hub in the end.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::message::Message;

/// What is held, and which pages a dialog blocks.
#[derive(Debug, Default)]
pub(crate) struct Dialogs {
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
    /// A dialog blocks a page.
    pub(crate) fn opened(&mut self, target: &str, now: Instant) {
        self.closed(target);
        self.open.push_back((now, target.to_owned()));
    }

    /// No dialog blocks the page any more.
    pub(crate) fn closed(&mut self, target: &str) {
        self.open.retain(|(_, open)| open != target);
    }

    /// Keeps a dialog from a session for now.
    pub(crate) fn hold_dialog(&mut self, session: &str, event: Message) {
        self.held.entry(session.to_owned()).or_default().dialog = Some(event);
    }

    /// Keeps a file chooser from a session for now.
    pub(crate) fn hold_chooser(&mut self, session: &str, event: Message, now: Instant) {
        self.held.entry(session.to_owned()).or_default().chooser = Some((now, event));
    }

    /// A session is told that its dialog has closed. Whether it had been told of the opening.
    pub(crate) fn closed_for(&mut self, session: &str) -> bool {
        let held = self
            .held
            .get_mut(session)
            .and_then(|held| held.dialog.take());
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
        dialogs.opened("a", now);
        dialogs.opened("b", now + HOLD / 2);
        assert_eq!(dialogs.deadline(HOLD), Some(now + HOLD));
        assert_eq!(dialogs.expired(now + HOLD, HOLD), vec!["a"]);
        dialogs.closed("b");
        assert_eq!(dialogs.deadline(HOLD), None);
    }
}
