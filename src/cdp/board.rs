//! What handles and the driver of a hub both read and write: the pages, and which executions run.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use url::Url;

use super::handoff::Handoffs;
use super::human::InControl;
use super::pages::Pages;
use super::{ClientKind, MAX_ORIGINS};

/// How long a page that has answered is taken to answer still.
const TRUST: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Board {
    pub(crate) pages: Pages,
    /// Of web pages that were shown.
    pub(crate) origins: BTreeSet<String>,
    /// Executions running, by token.
    running: HashMap<String, usize>,
    /// How often an execution has begun or ended.
    turns: u64,
    /// The page that answered last.
    answered: Option<Answered>,
    /// Tokens whose clients do not wait for a page behind a dialog.
    pub(crate) impatient: HashSet<String>,
    /// Tokens whose clients are to be disconnected.
    pub(crate) forgotten: Vec<String>,
    /// Tokens whose executions have ended, and when.
    pub(crate) ended: Vec<(String, Instant)>,
    /// How often pages have gone to another URL or loaded anew.
    pub(crate) navigations: u64,
    /// Who is in control.
    pub(crate) control: watch::Sender<InControl>,
    /// Code that waits for one.
    pub(crate) handoffs: Handoffs,
}

/// A page has answered.
#[derive(Debug)]
struct Answered {
    target: String,
    /// [`Board::turns`] when it was asked.
    turns: u64,
    at: Instant,
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
        self.turns += 1;
        *self.running.entry(token.to_owned()).or_default() += 1;
    }

    /// One of them has ended.
    pub(crate) fn execution_ended(&mut self, token: &str) {
        self.turns += 1;
        if let Some(count) = self.running.get_mut(token) {
            *count -= 1;
            if *count == 0 {
                self.running.remove(token);
                self.ended.push((token.to_owned(), Instant::now()));
            }
        }
    }

    /// How often an execution has begun or ended.
    pub(crate) fn turns(&self) -> u64 {
        self.turns
    }

    /// A page that was asked when there had been `turns` has answered.
    pub(crate) fn answered(&mut self, target: &str, turns: u64) {
        self.answered = Some(Answered {
            target: target.to_owned(),
            turns,
            at: Instant::now(),
        });
    }

    /// Whether the active page has answered a moment ago, and no code has run since.
    pub(crate) fn is_trusted(&self) -> bool {
        let (Some(answered), Some(active)) = (&self.answered, self.pages.active()) else {
            return false;
        };
        answered.target == active.page.target_id
            && answered.turns == self.turns
            && answered.at.elapsed() < TRUST
            && !self.is_running()
            && !(active.crashed || active.closing || active.dialog)
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
    use crate::cdp::Page;

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
    fn a_page_is_trusted_until_code_runs_again() {
        let mut board = Board::default();
        board
            .pages
            .seen(Page::new("1".into(), String::new(), String::new()), None);
        assert!(!board.is_trusted());
        board.answered("1", board.turns());
        assert!(board.is_trusted());
        board.execution_started("a");
        assert!(!board.is_trusted());
        let during = board.turns();
        board.execution_ended("a");
        board.answered("1", during);
        assert!(!board.is_trusted(), "asked before the code had ended");
        board.answered("1", board.turns());
        assert!(board.is_trusted());
        board.pages.get_mut("1").unwrap().dialog = true;
        assert!(!board.is_trusted());
        board.pages.get_mut("1").unwrap().dialog = false;
        board
            .pages
            .seen(Page::new("2".into(), String::new(), String::new()), None);
        board.pages.activate("2");
        assert!(!board.is_trusted());
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
