//! What a reply says of an execution's end: what the runner claims, cut to its limits, and where it
//! claims nothing, what was measured.

use crate::execution::{Ending, ExecutionError, ExecutionOptions, MemoryLimit, Outcome};
use crate::limits::Bytes;
use crate::sandbox::LimitOf;

use super::frame::Finished;

/// What the runner claims, cut to the limits, or why there is nothing to claim.
pub(super) fn claims(
    finished: Option<Finished>,
    outcome: Outcome,
    why: &Why<'_>,
) -> (Option<String>, bool, Option<ExecutionError>) {
    let Some(finished) = finished else {
        return (None, false, ending_error(outcome, why));
    };
    let mut truncated = finished.result_truncated;
    let result = finished.result.map(|mut text| {
        truncated |= cut(&mut text, why.options.output_limits.result);
        text
    });
    let error = finished
        .error
        .map(|claimed| {
            let (mut name, mut message) = (claimed.name, claimed.message);
            cut(&mut name, MAX_ERROR_NAME);
            cut(&mut message, MAX_ERROR_MESSAGE);
            ExecutionError { name, message }
        })
        .or_else(|| ending_error(outcome, why));
    (result, truncated, error)
}

const MAX_ERROR_NAME: Bytes = Bytes(256);
const MAX_ERROR_MESSAGE: Bytes = Bytes::kib(64);

/// Cuts text at a character boundary; says whether it did.
fn cut(text: &mut String, limit: Bytes) -> bool {
    let limit = limit.as_usize();
    if text.len() <= limit {
        return false;
    }
    text.truncate(text.floor_char_boundary(limit));
    true
}

pub(super) fn memory_limit(of: LimitOf) -> MemoryLimit {
    match of {
        LimitOf::Sandbox => MemoryLimit::Sandbox,
        LimitOf::Space => MemoryLimit::Session,
        LimitOf::Host => MemoryLimit::Host,
    }
}

/// What was measured of an execution's end, for its error message.
pub(super) struct Why<'a> {
    pub(super) options: &'a ExecutionOptions,
    pub(super) ending: Ending,
    /// The memory limit that was reached, if one was.
    pub(super) memory: Bytes,
    pub(super) signal: Option<i32>,
}

/// The error of an execution that did not end by itself.
fn ending_error(outcome: Outcome, why: &Why<'_>) -> Option<ExecutionError> {
    let options = why.options;
    let (name, message) = match outcome {
        Outcome::Completed | Outcome::Failed => return None,
        Outcome::TimedOut => (
            "TimedOut",
            format!(
                "killed at its timeout of {} s",
                options.timeout.as_secs_f64()
            ),
        ),
        Outcome::OutOfMemory => (
            "OutOfMemory",
            match why.ending.out_of_memory {
                Some(MemoryLimit::Session) => format!(
                    "killed: the session, its browser included, reached its memory limit of {}",
                    why.memory
                ),
                Some(MemoryLimit::Host) => {
                    "killed: the host's memory ended, or that of a cgroup above \
                     Pagebox's; neither the sandbox nor the session had reached its limit"
                        .to_owned()
                }
                _ => format!(
                    "killed: the sandbox reached its memory limit of {}",
                    why.memory
                ),
            },
        ),
        Outcome::OutputLimit => (
            "OutputLimit",
            format!(
                "killed for its output: more than {} on stdout or {} on stderr",
                options.output_limits.stdout, options.output_limits.stderr
            ),
        ),
        Outcome::Cancelled => ("Cancelled", "killed: it was cancelled".to_owned()),
        Outcome::BrowserCrashed => (
            "BrowserCrashed",
            "the session's browser died during the execution".to_owned(),
        ),
        Outcome::RunnerCrashed => (
            "RunnerCrashed",
            match why.signal {
                Some(signal) => format!(
                    "the process that ran the code was ended by signal {signal}, which Pagebox did \
                     not send"
                ),
                None => "the process that ran the code died without a reply".to_owned(),
            },
        ),
    };
    Some(ExecutionError {
        name: name.to_owned(),
        message,
    })
}
