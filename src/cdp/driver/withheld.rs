//! Input of code, which waits while a person is in control of the browser, and then goes on.

use bytes::Bytes;

use super::{Driver, Failure, Request};
use crate::cdp::ClientKind;
use crate::cdp::message::{code, error_payload};

/// Requests that wait at most; more are refused.
const MAX_WITHHELD: usize = 1024;
/// And the bytes of their parameters together.
const MAX_WITHHELD_BYTES: usize = 4 << 20;

impl Driver {
    /// Keeps a request that has to wait for a person; gives back any other.
    pub(super) fn withhold(&mut self, mut request: Request) -> Option<Request> {
        let member = self.clients.get(&request.client);
        let is_code = member.is_some_and(|member| matches!(member.kind, ClientKind::Runner { .. }));
        if !is_code || !request.method.starts_with("Input.") {
            return Some(request);
        }
        let waits = |withheld: &Request| withheld.client == request.client;
        // Control may be back, and what has waited not gone yet: nothing is to overtake it.
        if !self.shared.board().is_held() && !self.withheld.iter().any(waits) {
            return Some(request);
        }
        let size = |request: &Request| request.params.as_ref().map_or(0, Bytes::len);
        let bytes: usize = self.withheld.iter().map(size).sum();
        if self.withheld.len() < MAX_WITHHELD && bytes + size(&request) <= MAX_WITHHELD_BYTES {
            // What others send meanwhile needs it.
            request.room = None;
            self.withheld.push_back(request);
            return None;
        }
        let text = format!(
            "{}: a person is in control of the browser, and too much input waits already",
            request.method
        );
        let error = error_payload(code::SERVER, &text);
        self.answer(Some(request.client), request.reply, Err(Failure(error)));
        None
    }

    /// Passes on what has waited, unless a person is in control.
    pub(super) fn let_input_go(&mut self) {
        if self.shared.board().is_held() {
            return;
        }
        for request in std::mem::take(&mut self.withheld) {
            self.request(request);
        }
    }
}
