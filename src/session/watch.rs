//! What a watcher of a session is told: its state at each change, and what happens to its pages.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{broadcast, mpsc};

use super::SessionEvent;
use super::shared::Shared;

/// Sends a session's events until its last state, or until nobody reads them.
pub(super) async fn watch(shared: Arc<Shared>, sender: mpsc::Sender<SessionEvent>) {
    // Subscribe before the first snapshot, so that nothing falls between.
    let mut status = shared.subscribe();
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
                // anything newer, and its state comes after the page events before it.
                biased;
                () = sender.closed() => return,
                room = sender.reserve(), if dropped > 0 => {
                    if let Ok(room) = room {
                        room.send(SessionEvent::Dropped(dropped));
                        dropped = 0;
                    }
                    continue;
                }
                event = next_page_event(&mut pages) => event,
                changed = status.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
            };
            match event {
                Ok(event) => {
                    let event = SessionEvent::Page(SystemTime::now(), event);
                    if dropped > 0 || sender.try_send(event).is_err() {
                        dropped += 1;
                    }
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => dropped += missed,
                Err(broadcast::error::RecvError::Closed) => pages = None,
            }
        }
    }
}

async fn next_page_event(
    pages: &mut Option<broadcast::Receiver<crate::cdp::HubEvent>>,
) -> Result<crate::cdp::HubEvent, broadcast::error::RecvError> {
    match pages {
        Some(pages) => pages.recv().await,
        None => std::future::pending().await,
    }
}
