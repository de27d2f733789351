//! What handles and the driver of a hub both read and write: the pages, and which executions run.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use tokio::sync::watch;
use url::Url;

use super::handoff::Handoffs;
use super::human::InControl;
use super::pages::Pages;
use super::{ClientKind, MAX_ORIGINS};

#[derive(Debug, Default)]
pub(crate) struct Board {
    pub(crate) pages: Pages,
    /// Of web pages that were shown.
    pub(crate) origins: BTreeSet<String>,
    /// Executions running, by token.
    running: HashMap<String, usize>,
    /// Tokens whose clients are to be disconnected.
    pub(crate) forgotten: Vec<String>,
    /// Tokens whose executions have ended, and when.
    pub(crate) ended: Vec<(String, Instant)>,
    /// Who is in control.
    pub(crate) control: watch::Sender<InControl>,
    /// Code that waits for one.
    pub(crate) handoffs: Handoffs,
}

impl Board {
    /// A page or a frame in it shows this URL.
    pub(crate) fn shown(&mut self, url: &str) {
        if let Some(origin) = web_origin(url)
            && self.origins.len() < MAX_ORIGINS
        {
            self.origins.insert(origin);
        }
    }

    /// An execution of this token has begun.
    pub(crate) fn execution_started(&mut self, token: &str) {
        *self.running.entry(token.to_owned()).or_default() += 1;
    }

    /// One of them has ended.
    pub(crate) fn execution_ended(&mut self, token: &str) {
        if let Some(count) = self.running.get_mut(token) {
            *count -= 1;
            if *count == 0 {
                self.running.remove(token);
                self.ended.push((token.to_owned(), Instant::now()));
            }
        }
    }

    /// The clients of this token are to go.
    pub(crate) fn forget(&mut self, token: &str) {
        self.running.remove(token);
        self.forgotten.push(token.to_owned());
    }

    /// Whether an execution of this token runs.
    pub(crate) fn runs(&self, token: &str) -> bool {
        self.running.contains_key(token)
    }

    /// Whether any execution runs.
    pub(crate) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Whether a person is in control.
    pub(crate) fn is_held(&self) -> bool {
        self.control.borrow().is_person()
    }

    /// Whether dialogs may be shown to such a client now.
    pub(crate) fn sees_dialogs(&self, kind: &ClientKind) -> bool {
        match kind {
            // Playwright would close the person's dialogs.
            ClientKind::Runner { token } => !self.is_held() && self.runs(token),
            // What a person takes control for by the API may be this client.
            ClientKind::External => *self.control.borrow() != InControl::Viewer,
            ClientKind::Internal | ClientKind::Live => true,
        }
    }
}

/// The origin of a page of the web.
pub(crate) fn web_origin(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    matches!(url.scheme(), "http" | "https").then(|| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_sees_dialogs_while_it_runs_and_no_person_is_in_control() {
        let mut board = Board::default();
        let runner = ClientKind::Runner { token: "a".into() };
        assert!(!board.sees_dialogs(&runner));
        board.execution_started("a");
        assert!(board.sees_dialogs(&runner));
        for (who, is_theirs) in [(InControl::Caller, true), (InControl::Viewer, false)] {
            board.control.send_replace(who);
            assert!(!board.sees_dialogs(&runner));
            assert_eq!(board.sees_dialogs(&ClientKind::External), is_theirs);
        }
        assert!(board.sees_dialogs(&ClientKind::Internal));
    }

    #[test]
    fn origins_are_of_the_web_and_bounded() {
        let mut board = Board::default();
        for url in [
            "about:blank",
            "data:text/html,x",
            "file:///etc",
            "",
            "https://a.test/b?c",
            "https://a.test:443/",
            "http://a.test:8080/",
        ] {
            board.shown(url);
        }
        let known: Vec<&str> = board.origins.iter().map(String::as_str).collect();
        assert_eq!(known, ["http://a.test:8080", "https://a.test"]);
        for number in 0..2 * MAX_ORIGINS {
            board.shown(&format!("https://{number}.test"));
        }
        assert_eq!(board.origins.len(), MAX_ORIGINS);
    }
}
