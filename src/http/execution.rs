//! One piece of code in a session: what a request says of it, and the fields that the replies of
//! `execute` and `interact` share.

use std::time::Duration;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ApiError, Gateway};
use crate::execution::{ExecutionOptions, Language, OutputLimits};
use crate::id::SessionId;
use crate::session::{Collected, Place};
use crate::tenant::Caller;

const TIMEOUT_SECONDS: (f64, f64) = (1.0, 300.0);

/// What a request says of the code to run.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Code {
    /// The code, 1 to 100,000 bytes of UTF-8.
    #[schema(value_type = String, min_length = 1, max_length = 100_000)]
    pub code: Option<String>,
    /// Not there yet: answered with 501 unless there is code too.
    pub prompt: Option<String>,
    /// `node`, `python` or `bash`; `node` when left out.
    #[schema(pattern = "^(node|python|bash)$")]
    pub language: Option<String>,
    /// Killed after this many seconds, 1 to 300; 30 when left out.
    #[schema(minimum = 1, maximum = 300)]
    pub timeout: Option<f64>,
}

impl Code {
    /// What is to be run, checked.
    ///
    /// # Errors
    /// The first field that is not as it must be; 501 for a prompt.
    pub fn options(self, output: OutputLimits) -> Result<ExecutionOptions, ApiError> {
        let language = match self.language.as_deref() {
            None => Language::Node,
            Some(name) => Language::ALL
                .into_iter()
                .find(|language| language.as_str() == name)
                .ok_or_else(|| ApiError::bad_field("language", "must be node, python or bash"))?,
        };
        let mut options = ExecutionOptions::new(language, "");
        if let Some(seconds) = self.timeout {
            let (least, most) = TIMEOUT_SECONDS;
            if !(least..=most).contains(&seconds) {
                let message = format!("is {seconds}, must be {least} to {most} seconds");
                return Err(ApiError::bad_field("timeout", &message));
            }
            options.timeout = Duration::from_secs_f64(seconds);
        }
        options.code = match (self.code, self.prompt) {
            (Some(code), _) => code,
            (None, Some(prompt)) if !prompt.is_empty() => {
                return Err(ApiError::not_there(
                    "prompt",
                    "nothing here acts on prompts yet",
                ));
            }
            (None, _) => {
                let message = "Either 'code' or 'prompt' must be provided.";
                return Err(ApiError::bad_field("code", "is missing").message(message));
            }
        };
        options.output_limits = output;
        options.validate().map_err(crate::session::Error::from)?;
        Ok(options)
    }
}

/// What became of the code.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ran {
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// The value of the last expression as text; stdout without its last newline where there is none.
    pub result: String,
    /// 0; 1 on an uncaught error; n of `exit(n)`; 137 when killed.
    pub exit_code: i32,
    /// The timeout, or another limit, ended it.
    pub killed: bool,
    /// Something of the three texts is missing, for its size.
    pub truncated: bool,
    /// Why it failed, for a person; only then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Ran {
    /// Whether the code ended well.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.exit_code == 0 && !self.killed
    }

    fn of(whole: Collected) -> Self {
        let (report, stdout, stderr) = (whole.report, whole.stdout.text, whole.stderr.text);
        let result = report
            .result
            .unwrap_or_else(|| stdout.strip_suffix('\n').unwrap_or(&stdout).to_owned());
        let mut ran = Self {
            stdout,
            result,
            exit_code: report.exit_code,
            killed: report.killed,
            truncated: report.stdout_truncated
                || report.stderr_truncated
                || report.result_truncated,
            error: None,
            stderr,
        };
        if !ran.succeeded() {
            let thrown = report.error.map(|error| (error.name, error.message));
            ran.error = Some(complaint(&ran.stderr, thrown));
        }
        ran
    }
}

/// All that some clients show of a failure: stderr, and what ended the code if that does not say it.
fn complaint(stderr: &str, thrown: Option<(String, String)>) -> String {
    let stderr = stderr.trim_end();
    let thrown = thrown
        .filter(|(_, message)| !stderr.contains(message.as_str()) || message.is_empty())
        .map(|(name, message)| format!("{name}: {message}"));
    match (stderr, thrown) {
        ("", None) => "Execution failed".to_owned(),
        ("", Some(thrown)) => thrown,
        (stderr, None) => stderr.to_owned(),
        (stderr, Some(thrown)) => format!("{stderr}\n{thrown}"),
    }
}

/// Runs code in a session of the caller's and waits for its end. A dropped call kills the code; the
/// session goes on.
///
/// # Errors
/// When it could not be started. However it ended after that is in the reply.
pub async fn run(
    gateway: &Gateway,
    caller: &Caller,
    session: SessionId,
    options: ExecutionOptions,
) -> Result<Ran, ApiError> {
    let place = Place::Session(session);
    let execution = gateway.registry.execute(caller, place, options).await?;
    let id = execution.id;
    match execution.collect().await {
        Some(whole) => Ok(Ran::of(whole)),
        None => {
            tracing::error!(execution_id = %id, "an execution ended without a report");
            let message = "the code's end was not reported; it may have run";
            Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_says_it_once() {
        let thrown = |message: &str| Some(("Error".to_owned(), message.to_owned()));
        assert_eq!(complaint("", None), "Execution failed");
        assert_eq!(complaint("", thrown("x")), "Error: x");
        assert_eq!(complaint("at y\n", None), "at y");
        assert_eq!(
            complaint("Error: x\n  at y\n", thrown("x")),
            "Error: x\n  at y"
        );
        assert_eq!(complaint("warned\n", thrown("x")), "warned\nError: x");
    }
}
