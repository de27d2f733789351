//! A client's queue: bounded in bytes, because one message may be 16 bytes or 200 MiB.
//!
//! The channel beneath is unbounded in messages; each counts [`OVERHEAD`] besides its bytes, so
//! the byte bound bounds them too. What does not fit is refused, and the client is disconnected.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::message::Message;

/// What a queued message takes besides its text.
const OVERHEAD: usize = 256;

/// The hub's end.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    sender: mpsc::UnboundedSender<Entry>,
    bytes: Arc<AtomicUsize>,
    limit: usize,
}

/// The client's end.
#[derive(Debug)]
pub(crate) struct Outbox(mpsc::UnboundedReceiver<Entry>);

/// A message under way to the client; counts against the bound until dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) message: Message,
    cost: usize,
    bytes: Arc<AtomicUsize>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.cost, Ordering::Relaxed);
    }
}

/// The client is too far behind, or gone.
#[derive(Debug)]
pub(crate) struct Refused;

/// A queue of at most `limit` bytes.
pub(crate) fn queue(limit: usize) -> (Queue, Outbox) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (
        Queue {
            sender,
            bytes: Arc::default(),
            limit,
        },
        Outbox(receiver),
    )
}

impl Queue {
    /// Queues a message. One that alone is larger than the bound passes when nothing waits.
    pub(crate) fn push(&self, message: Message) -> Result<(), Refused> {
        let cost = message.size() + OVERHEAD;
        let before = self.bytes.fetch_add(cost, Ordering::Relaxed);
        let entry = Entry {
            message,
            cost,
            bytes: self.bytes.clone(),
        };
        if before > 0 && before + cost > self.limit {
            return Err(Refused);
        }
        self.sender.send(entry).map_err(|_| Refused)
    }

    /// Bytes queued now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Outbox {
    /// The next entry; `None` after the last one, when the hub has let go of the client. Cancel
    /// safe.
    pub(crate) async fn next(&mut self) -> Option<Entry> {
        self.0.recv().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn message(size: usize) -> Message {
        Message::event("A.b", None, Bytes::from(vec![b'1'; size]))
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_until_there_is_room() {
        let (queue, mut outbox) = queue(10_000);
        queue.push(message(6_000)).unwrap();
        assert!(queue.push(message(6_000)).is_err());
        let entry = outbox.next().await.unwrap();
        assert!(queue.push(message(6_000)).is_err(), "still being written");
        drop(entry);
        queue.push(message(6_000)).unwrap();
    }

    #[tokio::test]
    async fn one_message_larger_than_the_bound_passes_alone() {
        let (queue, mut outbox) = queue(10_000);
        queue.push(message(1_000_000)).unwrap();
        assert!(queue.push(message(1)).is_err());
        drop(outbox.next().await);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn many_empty_messages_are_bounded_too() {
        let (queue, _outbox) = queue(10_000);
        let fitted = (0..1000)
            .take_while(|_| queue.push(message(0)).is_ok())
            .count();
        assert!(fitted < 40, "{fitted}");
    }
}
