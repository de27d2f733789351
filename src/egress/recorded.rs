//! An answer's body that ends its request in the log.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::log::Recording;

/// A host's body. The request ends with its last byte, or when the client stops reading.
#[derive(Debug)]
pub(super) struct Recorded {
    body: Incoming,
    /// Empty once it has ended.
    recording: Option<Recording>,
}

impl Recorded {
    /// `recording` is absent where something else ends the request.
    pub(super) fn new(body: Incoming, recording: Option<Recording>) -> Self {
        Self { body, recording }
    }
}

impl Body for Recorded {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Err(error)) = &frame
            && let Some(recording) = &mut self.recording
        {
            recording.broke_within_answer(error);
        }
        let is_last = !matches!(frame, Some(Ok(_))) || self.body.is_end_stream();
        if is_last {
            self.recording = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
