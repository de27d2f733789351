//! What a person who looks at the browser, or takes it over, needs of the hub.

use serde_json::json;
use tokio::sync::watch;

use super::{Dialog, Error, Hub};

/// Who controls the browser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InControl {
    /// Code in the session.
    #[default]
    Code,
    /// A person, by the API: what they act with may be a CDP client.
    Caller,
    /// A person, by the live view.
    Viewer,
}

impl InControl {
    /// Whether it is a person.
    #[must_use]
    pub fn is_person(self) -> bool {
        self != Self::Code
    }
}

impl Hub {
    /// Changes whenever something has happened to a page, its dialogs included.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// The dialog that a page waits for.
    #[must_use]
    pub fn dialog(&self, target_id: &str) -> Option<Dialog> {
        let board = self.0.board();
        board.pages.get(target_id)?.asks.clone()
    }

    /// The page that has opened a page, if one has.
    #[must_use]
    pub fn opener(&self, target_id: &str) -> Option<String> {
        let board = self.0.board();
        board.pages.get(target_id)?.opener.clone()
    }

    /// Closes the dialog of a page, with what is to stand in a prompt.
    ///
    /// # Errors
    /// When there is no such page, or no dialog on it any more.
    pub async fn answer_dialog(
        &self,
        target_id: &str,
        accept: bool,
        text: Option<&str>,
    ) -> Result<(), Error> {
        let session = {
            let board = self.0.board();
            let entry = board.pages.get(target_id);
            entry.and_then(|entry| entry.session.clone())
        };
        let Some(session) = session else {
            let target_id = target_id.to_owned();
            return Err(Error::NoPage { target_id });
        };
        let mut params = json!({ "accept": accept });
        if let Some(text) = text {
            params["promptText"] = text.into();
        }
        let method = "Page.handleJavaScriptDialog";
        self.call(Some(&session), method, Some(params))
            .await
            .map(drop)
    }

    /// While a person is in control, code waits with its input and sees no dialogs.
    pub fn set_control(&self, who: InControl) {
        self.0.board().control.send_replace(who);
        self.0.touched.notify_one();
    }

    /// Who is in control, as it changes.
    #[must_use]
    pub fn control(&self) -> watch::Receiver<InControl> {
        self.0.board().control.subscribe()
    }
}
