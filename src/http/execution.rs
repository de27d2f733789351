//! One piece of code, or one prompt, in a session: what a request says of it, and the fields that the
//! replies of `execute` and `interact` share.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::prompt::{self, ModelRequest, PromptStep, SecretRequest, Usage};
use super::{ApiError, Gateway};
use crate::agent::PromptOptions;
use crate::execution::{ExecutionOptions, Language, OnHumanControl, OutputLimits};
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
    /// A task for a language model, 1 to 10,000 characters; with code too, the code is run.
    #[schema(value_type = String, min_length = 1, max_length = 10_000)]
    pub prompt: Option<String>,
    /// `node`, `python` or `bash`; `node` when left out.
    #[schema(pattern = "^(node|python|bash)$")]
    pub language: Option<String>,
    /// Killed after this many seconds, 1 to 300; when left out 30, of a prompt 300.
    #[schema(minimum = 1, maximum = 300)]
    pub timeout: Option<f64>,
    /// When a person is in control of the browser: `wait` until they are done, `fail` with 409, or
    /// `ignore` it; `wait` when left out.
    #[schema(pattern = "^(wait|fail|ignore)$")]
    #[serde(alias = "on_human_control")]
    pub on_human_control: Option<String>,
    /// Of a prompt: what the model may write without seeing it, by names that it writes as `{{name}}`.
    pub secrets: Option<BTreeMap<String, SecretRequest>>,
    /// Of a prompt: domains it may go to beside the site of the page it begins on.
    #[schema(max_items = 32)]
    pub allow_navigation: Option<Vec<String>>,
    /// Of a prompt: steps at most; as many as the daemon allows when left out.
    #[schema(minimum = 1, maximum = 100)]
    pub max_steps: Option<u32>,
    /// Of a prompt: another model than the configured one, as far as the daemon lets requests choose.
    pub model: Option<ModelRequest>,
}

/// What a request asks for.
#[derive(Clone, Debug)]
pub enum Asked {
    /// To run code.
    Code(Box<ExecutionOptions>),
    /// To do a task.
    Prompt(Box<PromptOptions>),
}

impl Code {
    /// What is to be done, checked. Code wins over a prompt.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn asked(mut self, output: OutputLimits) -> Result<Asked, ApiError> {
        let timeout = self.timeout.map(seconds).transpose()?;
        let on_human_control = match self.on_human_control.as_deref() {
            None | Some("wait") => OnHumanControl::Wait,
            Some("fail") => OnHumanControl::Fail,
            Some("ignore") => OnHumanControl::Ignore,
            Some(_) => {
                let message = "must be wait, fail or ignore";
                return Err(ApiError::bad_field("onHumanControl", message));
            }
        };
        let prompt = self.prompt.take().filter(|prompt| !prompt.is_empty());
        match (self.code.take(), prompt) {
            (Some(code), _) => {
                let options = self.execution(code, timeout, on_human_control, output)?;
                Ok(Asked::Code(Box::new(options)))
            }
            (None, Some(prompt)) => {
                let options = prompt::options(self, prompt, timeout, on_human_control)?;
                Ok(Asked::Prompt(Box::new(options)))
            }
            (None, None) => {
                let message = "Either 'code' or 'prompt' must be provided.";
                Err(ApiError::bad_field("code", "is missing").message(message))
            }
        }
    }

    fn execution(
        self,
        code: String,
        timeout: Option<Duration>,
        on_human_control: OnHumanControl,
        output: OutputLimits,
    ) -> Result<ExecutionOptions, ApiError> {
        let language = match self.language.as_deref() {
            None => Language::Node,
            Some(name) => Language::ALL
                .into_iter()
                .find(|language| language.as_str() == name)
                .ok_or_else(|| ApiError::bad_field("language", "must be node, python or bash"))?,
        };
        let mut options = ExecutionOptions::new(language, code);
        options.timeout = timeout.unwrap_or(options.timeout);
        options.on_human_control = on_human_control;
        options.output_limits = output;
        options.validate().map_err(crate::session::Error::from)?;
        Ok(options)
    }
}

fn seconds(seconds: f64) -> Result<Duration, ApiError> {
    let (least, most) = TIMEOUT_SECONDS;
    if !(least..=most).contains(&seconds) {
        let message = format!("is {seconds}, must be {least} to {most} seconds");
        return Err(ApiError::bad_field("timeout", &message));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// What became of the code, or of the task.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ran {
    /// Of a prompt: the answer; without one, how far it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What it wrote to stdout; of a prompt, what its steps printed.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// The value of the last expression as text; stdout without its last newline where there is none.
    /// Of a prompt: the last snapshot of the page.
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
    /// Of a prompt: what was done, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<PromptStep>>,
    /// Of a prompt: whose format the model was spoken to in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<&'static str>,
    /// Of a prompt: which model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Of a prompt: what its provider counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
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
            output: None,
            steps: None,
            provider: None,
            model: None,
            usage: None,
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

/// Does in a session of the caller's what is asked for, and waits for its end. A dropped call kills
/// it; the session goes on.
///
/// # Errors
/// When it could not be started. However it ended after that is in the reply.
pub async fn run(
    gateway: &Gateway,
    caller: &Caller,
    session: SessionId,
    asked: Asked,
) -> Result<Ran, ApiError> {
    let place = Place::Session(session);
    let (id, ran) = match asked {
        Asked::Code(options) => {
            let execution = gateway.registry.execute(caller, place, *options).await?;
            (execution.id, execution.collect().await.map(Ran::of))
        }
        Asked::Prompt(options) => {
            let prompt = gateway.agent.prompt(caller, place, *options).await?;
            (prompt.id, prompt.collect().await.map(prompt::ran))
        }
    };
    ran.ok_or_else(|| {
        tracing::error!(execution_id = %id, "an execution ended without a report");
        let message = "its end was not reported; it may have run";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    })
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
