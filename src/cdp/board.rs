//! What handles and the driver of a hub both read and write: the pages, and which executions run.

use std::collections::HashMap;
use std::time::Instant;

use super::ClientKind;
use super::pages::Pages;

#[derive(Debug, Default)]
pub(crate) struct Board {
    pub(crate) pages: Pages,
    /// Executions running, by token.
    running: HashMap<String, usize>,
    /// Tokens whose clients are to be disconnected.
    pub(crate) forgotten: Vec<String>,
    /// Tokens whose executions have ended, and when.
    pub(crate) ended: Vec<(String, Instant)>,
}

impl Board {
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

    /// Whether any execution runs.
    pub(crate) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Whether dialogs may be shown to such a client now.
    pub(crate) fn sees_dialogs(&self, kind: &ClientKind) -> bool {
        match kind {
            ClientKind::Runner { token } => self.running.contains_key(token),
            ClientKind::External | ClientKind::Internal => true,
        }
    }
}
