//! What a watcher of a session is told: its state at each change, what happens to its pages, and
//! its requests to the network.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use super::SessionEvent;
use super::shared::Shared;

/// Sends a session's events until its last state, or until nobody reads them.
pub(super) async fn watch(shared: Arc<Shared>, sender: mpsc::Sender<SessionEvent>) {
    // Subscribe before the first snapshot, so that nothing falls between.
    let mut status = shared.subscribe();
    let mut requests = shared.network.subscribe();
    let mut pages: Option<broadcast::Receiver<_>> = None;
    let mut dropped = 0;
    loop {
        let state = status.borrow_and_update().state;
        if pages.is_none() {
            pages = shared.hub().map(|hub| hub.events());
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
