//! Looks after a page that is trusted while code runs: it was asked before, and one that is silent all the
//! same is mended while the code waits for it, so that code which ends soon waits for no answer at all.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug};

use crate::cdp::{Asked, Hub};

/// Code that takes no longer has no need of it.
const AFTER: Duration = Duration::from_millis(20);

/// Of one execution.
pub(super) struct PageCheck {
    ended: CancellationToken,
    task: JoinHandle<bool>,
}

impl PageCheck {
    /// Begins with the execution.
    pub(super) fn start(hub: Hub, asked: Asked) -> Self {
        let ended = CancellationToken::new();
        let check = {
            let ended = ended.clone();
            async move {
                tokio::select! {
                    () = ended.cancelled() => return false,
                    () = tokio::time::sleep(AFTER) => {}
                }
                match hub.mend_if_silent(asked).await {
                    Ok(replaced) => replaced,
                    Err(error) => {
                        debug!(%error, "no page for the execution");
                        false
                    }
                }
            }
        };
        let task = tokio::spawn(check.in_current_span());
        Self { ended, task }
    }

    /// The code has ended: waits for a repair that has begun, unless the session ends. Whether the page was
    /// replaced.
    pub(super) async fn finish(self, session_end: &CancellationToken) -> bool {
        self.ended.cancel();
        let replaced = session_end.run_until_cancelled(self.task).await;
        replaced.is_some_and(|replaced| replaced.unwrap_or(false))
    }
}
