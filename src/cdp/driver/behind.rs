//! Requests that a page cannot answer because a dialog is open on it: clients that would rather know
//! than wait are told at once.

use super::Driver;
use crate::cdp::ClientKind;
use crate::id::ClientId;

/// Longest text of a dialog in an error, in bytes.
const MAX_TEXT: usize = 500;

impl Driver {
    /// Why a request is not passed on, if it is not.
    pub(super) fn behind_dialog(
        &self,
        client: ClientId,
        session: &str,
        method: &str,
    ) -> Option<String> {
        let ClientKind::Runner { token } = &self.clients.get(&client)?.kind else {
            return None;
        };
        if !needs_the_page(method) {
            return None;
        }
        let board = self.shared.board();
        if !board.impatient.contains(token) {
            return None;
        }
        let target = &self.sessions.get(session)?.target;
        let dialog = board.pages.get(target)?.asks.as_ref()?;
        let text = &dialog.message[..dialog.message.floor_char_boundary(MAX_TEXT)];
        Some(format!(
            "a JavaScript {} dialog is open on the page, which answers nothing until it is accepted or \
             dismissed: \"{text}\"",
            dialog.kind
        ))
    }
}

/// Whether the page's own thread answers this. What settles the dialog, or only listens, passes.
fn needs_the_page(method: &str) -> bool {
    let (domain, name) = method.split_once('.').unwrap_or((method, ""));
    match domain {
        "Accessibility" | "CSS" | "DOM" | "DOMSnapshot" | "Input" | "Runtime" => {
            !matches!(name, "enable" | "disable" | "runIfWaitingForDebugger")
        }
        "Page" => matches!(
            name,
            "captureScreenshot"
                | "captureSnapshot"
                | "createIsolatedWorld"
                | "getLayoutMetrics"
                | "navigate"
                | "navigateToHistoryEntry"
                | "printToPDF"
                | "reload"
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_settles_a_dialog_passes() {
        for method in [
            "Page.handleJavaScriptDialog",
            "Page.enable",
            "Runtime.enable",
            "Target.attachToTarget",
            "Network.getCookies",
        ] {
            assert!(!needs_the_page(method), "{method}");
        }
        for method in ["Runtime.evaluate", "Page.navigate", "Input.insertText"] {
            assert!(needs_the_page(method), "{method}");
        }
    }
}
