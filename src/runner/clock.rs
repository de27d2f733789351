//! The time an execution, or a prompt, may take: it stands still while a person is in control of the
//! browser, and while its code waits for one.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::cdp::{Handoff, InControl};

/// Waits until what runs has had its time. The time a person is in control does not count, nor that it
/// waits for one, up to `longest` in all. `tokens` are those of its clients.
pub async fn time_is_over(
    time: Duration,
    longest: Duration,
    mut handoffs: watch::Receiver<Vec<Handoff>>,
    mut control: watch::Receiver<InControl>,
    tokens: &[String],
) {
    let (mut left, mut may_stand) = (time, longest);
    loop {
        let waits = {
            let all = handoffs.borrow_and_update();
            all.iter().any(|handoff| tokens.contains(&handoff.token))
        };
        let stands = control.borrow_and_update().is_person() || waits;
        let counts = match stands && !may_stand.is_zero() {
            true => &mut may_stand,
            false => &mut left,
        };
        let began = Instant::now();
        let has_hub = tokio::select! {
            biased;
            changed = handoffs.changed() => changed.is_ok(),
            changed = control.changed() => changed.is_ok(),
            () = sleep(*counts) => true,
        };
        *counts = counts.saturating_sub(began.elapsed());
        if left.is_zero() {
            return;
        }
        if !has_hub {
            // Nobody is waited for any more.
            return sleep(left).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    fn handoff(token: &str) -> Vec<Handoff> {
        vec![Handoff::of(token)]
    }

    fn own() -> [String; 1] {
        ["own".to_owned()]
    }

    #[tokio::test(start_paused = true)]
    async fn time_counts_but_for_waits_of_its_own() {
        let (told, handoffs) = watch::channel(Vec::new());
        let control = watch::Sender::new(InControl::Code);
        let own = own();
        let began = Instant::now();
        let script = async {
            sleep(SECOND).await;
            told.send_replace(handoff("own"));
            sleep(100 * SECOND).await;
            told.send_replace(Vec::new());
            sleep(SECOND).await;
            told.send_replace(handoff("other"));
            std::future::pending::<()>().await
        };
        tokio::select! {
            () = time_is_over(3 * SECOND, HOUR, handoffs, control.subscribe(), &own) => {}
            () = script => {}
        }
        assert_eq!(began.elapsed().as_secs(), 103);
    }

    #[tokio::test(start_paused = true)]
    async fn it_stands_still_while_a_person_is_in_control() {
        let (told, handoffs) = watch::channel(Vec::new());
        let control = watch::Sender::new(InControl::Code);
        let own = own();
        let began = Instant::now();
        let script = async {
            sleep(SECOND).await;
            told.send_replace(handoff("own"));
            sleep(10 * SECOND).await;
            control.send_replace(InControl::Viewer);
            told.send_replace(Vec::new());
            sleep(100 * SECOND).await;
            control.send_replace(InControl::Caller);
            sleep(100 * SECOND).await;
            control.send_replace(InControl::Code);
            std::future::pending::<()>().await
        };
        tokio::select! {
            () = time_is_over(3 * SECOND, HOUR, handoffs, control.subscribe(), &own) => {}
            () = script => {}
        }
        assert_eq!(began.elapsed().as_secs(), 213);
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_stand_still_for_ever() {
        let (told, handoffs) = watch::channel(handoff("own"));
        let control = watch::Sender::new(InControl::Code);
        let own = own();
        let began = Instant::now();
        let script = async {
            sleep(HOUR / 2).await;
            control.send_replace(InControl::Viewer);
            told.send_replace(Vec::new());
            std::future::pending::<()>().await
        };
        tokio::select! {
            () = time_is_over(3 * SECOND, HOUR, handoffs, control.subscribe(), &own) => {}
            () = script => {}
        }
        assert_eq!(began.elapsed().as_secs(), 3603);
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_without_a_hub() {
        let (told, handoffs) = watch::channel(handoff("own"));
        let (held, control) = watch::channel(InControl::Viewer);
        drop((told, held));
        let began = Instant::now();
        time_is_over(3 * SECOND, HOUR, handoffs, control, &own()).await;
        assert_eq!(began.elapsed().as_secs(), 3);
    }
}
