//! What the daemon does for its callers at this moment: kits are built when that is nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Counts executions, and sessions that are starting; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Activity(Arc<watch::Sender<usize>>);

/// Something that is done, until it is dropped.
#[derive(Debug)]
pub(super) struct Busy(Activity);

impl Activity {
    pub(super) fn begin(&self) -> Busy {
        self.add();
        Busy(self.clone())
    }

    pub(super) fn add(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    pub(super) fn remove(&self) {
        self.0.send_modify(|count| *count -= 1);
    }

    /// Waits until nothing has been done for `time`.
    pub(super) async fn quiet(&self, time: Duration) {
        let mut count = self.0.subscribe();
        loop {
            if count.wait_for(|count| *count == 0).await.is_err() {
                // Not possible: the sender is in `self`.
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(time) => return,
                _ = count.changed() => {}
            }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.remove();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn it_is_quiet_when_nothing_was_done_for_a_while() {
        let activity = Activity::default();
        let began = Instant::now();
        activity.quiet(100 * MS).await;
        assert_eq!(began.elapsed(), 100 * MS);
        let first = activity.begin();
        let script = async {
            sleep(50 * MS).await;
            let second = activity.begin();
            drop(first);
            sleep(50 * MS).await;
            drop(second);
            sleep(99 * MS).await;
            // Over before anybody looks.
            drop(activity.begin());
        };
        let began = Instant::now();
        tokio::join!(activity.quiet(100 * MS), script);
        assert_eq!(began.elapsed(), 299 * MS);
    }
}
