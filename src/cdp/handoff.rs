//! Code asks for a person, and waits until one says that it is done: `POST /handoff/TOKEN` at the
//! endpoint inside the session, the token being that of an execution that runs.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Body;
use hyper::{Request, Response, StatusCode};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::Hub;

/// Calls that may wait at the same time.
const MAX_WAITING: usize = 16;
/// Longest reason, in bytes; what is beyond is cut.
const MAX_REASON: usize = 1024;
/// Longest request, in bytes.
const MAX_REQUEST: usize = 64 << 10;
/// How long a request may take to come.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// How long a person is waited for when nothing is said.
const DEFAULT_LIMIT: Duration = Duration::from_secs(300);
/// And at most; the configuration may say less.
const MAX_HANDOFF: Duration = Duration::from_secs(3600);

/// Code that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handoff {
    id: u64,
    /// Of the execution that asks.
    pub token: String,
    /// What for, in its words.
    pub reason: String,
}

/// Calls on the hub's board.
#[derive(Debug, Default)]
pub(crate) struct Handoffs {
    /// Of the last one there was.
    last: u64,
    all: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    handoff: Handoff,
    done: oneshot::Sender<()>,
}

/// Why code is not told that a person was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum HandoffError {
    #[error("only code that runs can ask for a person")]
    NotRunning,
    #[error("{} calls wait for a person already", MAX_WAITING)]
    TooMany,
    #[error("no person was done within {0:?}")]
    Timeout(Duration),
    #[error("the execution that asked has ended")]
    Ended,
}

impl HandoffError {
    fn status(self) -> StatusCode {
        match self {
            Self::NotRunning | Self::Ended => StatusCode::CONFLICT,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Timeout(_) => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

/// Takes a call off the board when whoever made it is gone.
struct Asking<'a> {
    hub: &'a Hub,
    id: u64,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.hub
            .change_handoffs(|waiting| waiting.all.retain(|one| one.handoff.id != self.id));
    }
}

impl Hub {
    /// Code that waits for a person, the one that waits longest first.
    #[must_use]
    pub fn handoffs(&self) -> watch::Receiver<Vec<Handoff>> {
        self.0.handoffs.subscribe()
    }

    /// How long code may wait for a person.
    #[must_use]
    pub fn handoff_limit(&self) -> Duration {
        self.0.config.handoff_limit
    }

    /// A person is done: code that waited for one goes on.
    pub fn hand_back(&self) {
        self.change_handoffs(|waiting| {
            for one in waiting.all.drain(..) {
                // It may have just gone.
                let _ = one.done.send(());
            }
        });
    }

    /// Those of an execution that has ended.
    pub(crate) fn forget_handoffs(&self, token: &str) {
        self.change_handoffs(|waiting| waiting.all.retain(|one| one.handoff.token != token));
    }

    fn change_handoffs(&self, change: impl FnOnce(&mut Handoffs)) {
        let mut board = self.0.board();
        change(&mut board.handoffs);
        let all = board.handoffs.all.iter();
        let now: Vec<Handoff> = all.map(|one| one.handoff.clone()).collect();
        // Under the board's lock, so that the last change is told last.
        self.0.handoffs.send_if_modified(|told| {
            let is_other = *told != now;
            *told = now;
            is_other
        });
    }

    async fn hand_off(
        &self,
        token: &str,
        mut reason: String,
        limit: Duration,
    ) -> Result<(), HandoffError> {
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        let (done, is_done) = oneshot::channel();
        let mut id = 0;
        let mut refused = None;
        let may_run = self.0.board().runs(token);
        self.change_handoffs(|waiting| {
            if !may_run {
                refused = Some(HandoffError::NotRunning);
            } else if waiting.all.len() >= MAX_WAITING {
                refused = Some(HandoffError::TooMany);
            } else {
                waiting.last += 1;
                id = waiting.last;
                let token = token.to_owned();
                let handoff = Handoff { id, token, reason };
                waiting.all.push(Waiting { handoff, done });
            }
        });
        if let Some(refused) = refused {
            return Err(refused);
        }
        let _asking = Asking { hub: self, id };
        match timeout(limit, is_done).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(HandoffError::Ended),
            Err(_) => Err(HandoffError::Timeout(limit)),
        }
    }

    /// Answers a request for a person, when it has come.
    pub(crate) async fn answer_handoff<B>(
        &self,
        token: &str,
        request: Request<B>,
    ) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static>,
    {
        let limit = match limit(request.uri().query().unwrap_or_default()) {
            Ok(limit) => limit.min(self.handoff_limit()),
            Err(text) => return text_answer(StatusCode::BAD_REQUEST, text),
        };
        let body = Limited::new(request.into_body(), MAX_REQUEST).collect();
        let reason = match timeout(REQUEST_LIMIT, body).await {
            Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            Ok(Err(_)) | Err(_) => {
                let text = format!("a reason of at most {MAX_REQUEST} bytes did not come");
                return text_answer(StatusCode::BAD_REQUEST, text);
            }
        };
        match self.hand_off(token, reason, limit).await {
            Ok(()) => text_answer(StatusCode::OK, String::new()),
            Err(error) => text_answer(error.status(), error.to_string()),
        }
    }
}

/// The execution a path asks for.
pub(crate) fn handoff_path(path: &str) -> Option<&str> {
    path.strip_prefix("/handoff/")
}

/// How long to wait, as `timeout=SECONDS` says.
fn limit(query: &str) -> Result<Duration, String> {
    let Some(text) = query.strip_prefix("timeout=") else {
        return Ok(DEFAULT_LIMIT);
    };
    let seconds: Option<f64> = text.parse().ok();
    let limit = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    limit
        .filter(|limit| !limit.is_zero() && *limit <= MAX_HANDOFF)
        .ok_or_else(|| {
            let most = MAX_HANDOFF.as_secs();
            format!("timeout must be seconds, more than 0 and at most {most}")
        })
}

fn text_answer(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
impl Handoff {
    /// One of this execution.
    pub(crate) fn of(token: &str) -> Self {
        Self {
            id: 1,
            token: token.to_owned(),
            reason: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_in_seconds_and_bounded() {
        assert_eq!(limit(""), Ok(DEFAULT_LIMIT));
        assert_eq!(limit("timeout=0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(limit("timeout=3600"), Ok(MAX_HANDOFF));
        for bad in [
            "timeout=",
            "timeout=0",
            "timeout=-1",
            "timeout=3601",
            "timeout=NaN",
        ] {
            assert!(limit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_path_with_a_token_is_one() {
        assert_eq!(handoff_path("/handoff/abc"), Some("abc"));
        assert_eq!(handoff_path("/json/version"), None);
    }
}
