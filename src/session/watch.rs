//! What a watcher of a session is told: its state at each change, what happens to its pages, and
//! its requests to the network.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, watch};

use super::SessionEvent;
use super::shared::Shared;
use crate::cdp::{Handoff, Hub};

/// Sends a session's events until its last state, or until nobody reads them.
pub(super) async fn watch(shared: Arc<Shared>, sender: mpsc::Sender<SessionEvent>) {
    // Subscribe before the first snapshot, so that nothing falls between.
    let mut status = shared.subscribe();
    let mut requests = shared.network.subscribe();
    let mut control = shared.takeover.subscribe();
    let mut held = control.borrow_and_update().holder.is_some();
    let mut handoffs: Option<watch::Receiver<Vec<Handoff>>> = None;
    let mut reason = None;
    let mut pages: Option<broadcast::Receiver<_>> = None;
    let mut dropped = 0;
    loop {
        let state = status.borrow_and_update().state;
        if pages.is_none() {
            let hub = shared.hub();
            handoffs = hub.as_ref().map(Hub::handoffs);
            // One that waits already is news too.
            handoffs.as_mut().map(watch::Receiver::mark_changed);
            pages = hub.map(|hub| hub.events());
        }
        let view = Box::new(shared.view());
        if dropped > 0 {
            // A watcher that went away is found out by the next send.
            let _ = sender.send(SessionEvent::Dropped(dropped)).await;
            dropped = 0;
        }
        if sender.send(SessionEvent::State(view)).await.is_err() || state.ended() {
            return;
        }
        loop {
            let event = tokio::select! {
                // In this order, so that a watcher that reads again is told what it missed before
                // anything newer, and its state comes after the events before it.
                biased;
                () = sender.closed() => return,
                room = sender.reserve(), if dropped > 0 => {
                    if let Ok(room) = room {
                        room.send(SessionEvent::Dropped(dropped));
                        dropped = 0;
                    }
                    continue;
                }
                event = next(&mut pages) => {
                    event.map(|event| SessionEvent::Page(SystemTime::now(), event))
                }
                request = next(&mut requests) => request.map(SessionEvent::Request),
                // Its sender is in `shared`.
                Ok(()) = control.changed() => {
                    let human = control.borrow_and_update().holder.is_some();
                    if human == held {
                        continue;
                    }
                    held = human;
                    Ok(SessionEvent::Control { time: SystemTime::now(), human })
                }
                now = asked(&mut handoffs) => {
                    if now == reason {
                        continue;
                    }
                    reason.clone_from(&now);
                    Ok(SessionEvent::Asked { time: SystemTime::now(), reason: now })
                }
                changed = status.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
            };
            match event {
                Ok(event) => {
                    if dropped > 0 || sender.try_send(event).is_err() {
                        dropped += 1;
                    }
                }
                Err(missed) => dropped += missed,
            }
        }
    }
}

/// What code asks a person for now, when that has changed; waits for ever without a browser.
async fn asked(handoffs: &mut Option<watch::Receiver<Vec<Handoff>>>) -> Option<String> {
    if let Some(receiver) = handoffs
        && receiver.changed().await.is_ok()
    {
        let first = receiver.borrow_and_update().first().cloned();
        return first.map(|handoff| handoff.reason);
    }
    *handoffs = None;
    std::future::pending().await
}

/// The next event of a source, or how many it lost; waits for ever once the source is gone.
async fn next<T: Clone>(source: &mut Option<broadcast::Receiver<T>>) -> Result<T, u64> {
    if let Some(receiver) = source {
        match receiver.recv().await {
            Ok(event) => return Ok(event),
            Err(RecvError::Lagged(missed)) => return Err(missed),
            Err(RecvError::Closed) => *source = None,
        }
    }
    std::future::pending().await
}
