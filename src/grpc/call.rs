//! What every call has in common: a span, and the caller's own deadline.
//!
//! A caller that goes away needs nothing here: tonic drops the handler's future, or the stream it
//! returned, and that drops the execution.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Response, Status};
use tracing::Instrument as _;

use super::field::FieldError;
use super::status::Error;
use crate::tenant::Caller;

/// When a caller stops waiting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Option<(Instant, Duration)>);

impl Deadline {
    /// From the `grpc-timeout` header, counted from now.
    pub(super) fn of(metadata: &MetadataMap) -> Result<Self, FieldError> {
        let Some(value) = metadata.get("grpc-timeout") else {
            return Ok(Self(None));
        };
        let timeout = value
            .to_str()
            .ok()
            .and_then(timeout)
            .ok_or_else(|| FieldError::new("grpc-timeout", "is not a gRPC timeout"))?;
        // One too far away to count is none.
        Ok(Self(
            Instant::now().checked_add(timeout).map(|at| (at, timeout)),
        ))
    }

    /// Runs `work` until the deadline, then drops it.
    pub(super) async fn bound<T>(self, work: impl Future<Output = T>) -> Result<T, Error> {
        match self.0 {
            None => Ok(work.await),
            Some((at, timeout)) => tokio::time::timeout_at(at, work)
                .await
                .map_err(|_| Error::DeadlineExceeded(timeout)),
        }
    }
}

/// At most 8 digits and a unit, see "Timeout" in gRPC over HTTP2.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Who called, as the server found out before it let the request in.
pub(super) fn caller(extensions: &Extensions) -> Result<Caller, Error> {
    extensions.get().cloned().ok_or(Error::NoCaller)
}

/// Answers one call: within its span, until its deadline.
pub(super) async fn answer<T>(
    method: &'static str,
    metadata: &MetadataMap,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<Response<T>, Status> {
    let span = tracing::info_span!("rpc", method);
    let deadline = Deadline::of(metadata);
    async {
        let answer = match deadline {
            Ok(deadline) => deadline.bound(work).await.and_then(|answer| answer),
            Err(error) => Err(error.into()),
        };
        answer.map(Response::new).map_err(Status::from)
    }
    .instrument(span)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_a_unit() {
        assert_eq!(timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(timeout("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(timeout("2M"), Some(Duration::from_secs(120)));
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("7u"), Some(Duration::from_micros(7)));
        assert_eq!(timeout("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for text in ["", "S", "5", "5s", "-1S", "123456789S", "+5S", "5€"] {
            assert_eq!(timeout(text), None, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_drops_the_work() {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", "100m".parse().unwrap());
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let status = answer("Test", &metadata, async move {
            let _held = sender;
            std::future::pending::<Result<(), Error>>().await
        })
        .await
        .unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert!(receiver.await.is_err(), "the work was not dropped");
    }

    #[tokio::test]
    async fn a_timeout_that_is_none_is_refused() {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", "soon".parse().unwrap());
        let status = answer("Test", &metadata, async { Ok(()) })
            .await
            .unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }
}
