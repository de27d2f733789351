//! Prompts on the wire: what a request says of one beside its task, and what its reply has more than
//! that of code.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ApiError;
use super::execution::{Code, Ran};
use crate::agent::{
    ModelOptions, PromptOptions, Provider, Report, SecretOptions, Step, StepOutcome,
};
use crate::egress::Secret;
use crate::execution::OnHumanControl;

/// A secret: its value alone, for the site that the prompt begins on; or with its own domains.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum SecretRequest {
    /// The value.
    Value(String),
    /// The value, and where it may be put in.
    Scoped {
        /// 3 to 512 characters.
        value: String,
        /// Domains, and what is below them.
        #[serde(default)]
        domains: Vec<String>,
    },
}

impl fmt::Debug for SecretRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretRequest").finish_non_exhaustive()
    }
}

/// Another model.
#[derive(Clone, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelRequest {
    /// `openai` (and what speaks like it), `anthropic` or `gemini`.
    #[schema(pattern = "^(openai|anthropic|gemini)$")]
    pub provider: Option<String>,
    /// The provider's name for it.
    pub name: Option<String>,
    /// Where it is asked.
    pub base_url: Option<String>,
    /// The caller's own key.
    pub key: Option<String>,
}

impl fmt::Debug for ModelRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelRequest").finish_non_exhaustive()
    }
}

/// One command of the model.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PromptStep {
    /// As the model wrote it; secrets are `{{name}}`.
    command: String,
    /// `done`, `failed`, `refused` or `timedOut`.
    outcome: &'static str,
    /// What it printed, or why it was refused.
    output: String,
    /// Of the command, without the look at the page that follows.
    duration_ms: u64,
}

/// Tokens.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Read by the model.
    input_tokens: u64,
    /// Written by it.
    output_tokens: u64,
}

/// What a request says of a prompt.
pub(super) fn options(
    code: Code,
    prompt: String,
    timeout: Option<Duration>,
    on_human_control: OnHumanControl,
) -> Result<PromptOptions, ApiError> {
    let secret = |(name, secret)| {
        let (value, domains) = match secret {
            SecretRequest::Value(value) => (value, Vec::new()),
            SecretRequest::Scoped { value, domains } => (value, domains),
        };
        let value = Secret::from(&*value);
        (name, SecretOptions { value, domains })
    };
    let secrets: BTreeMap<_, _> = code
        .secrets
        .unwrap_or_default()
        .into_iter()
        .map(secret)
        .collect();
    Ok(PromptOptions {
        prompt,
        timeout,
        max_steps: code.max_steps,
        allow_navigation: code.allow_navigation.unwrap_or_default(),
        secrets,
        model: model(code.model.unwrap_or_default())?,
        on_human_control,
        origin: String::new(),
        id: None,
    })
}

fn model(request: ModelRequest) -> Result<ModelOptions, ApiError> {
    let provider = request.provider.map(|name| {
        let known = name.parse::<Provider>();
        known.map_err(|()| {
            ApiError::bad_field("model.provider", "must be openai, anthropic or gemini")
        })
    });
    Ok(ModelOptions {
        provider: provider.transpose()?,
        model: request.name,
        base_url: request.base_url,
        key: request.key.map(|key| Secret::from(&*key)),
    })
}

/// What became of a prompt.
pub(super) fn ran(report: Report) -> Ran {
    let exit_code = report.exit_code();
    let killed = report.killed();
    Ran {
        output: Some(report.output),
        stdout: report.stdout,
        stderr: String::new(),
        result: report.result,
        exit_code,
        killed,
        truncated: report.truncated,
        error: report.error,
        steps: Some(report.steps.into_iter().map(step).collect()),
        provider: Some(report.provider.as_str()),
        model: Some(report.model),
        usage: Some(Usage {
            input_tokens: report.tokens.input,
            output_tokens: report.tokens.output,
        }),
    }
}

fn step(step: Step) -> PromptStep {
    PromptStep {
        command: step.command,
        outcome: match step.outcome {
            StepOutcome::Done => "done",
            StepOutcome::Failed => "failed",
            StepOutcome::Refused => "refused",
            StepOutcome::TimedOut => "timedOut",
        },
        output: step.output,
        duration_ms: u64::try_from(step.duration.as_millis()).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_a_value_or_has_domains() {
        let code: Code = serde_json::from_value(json!({
            "secrets": { "a": "hunter2", "b": { "value": "hunter3", "domains": ["b.test"] } },
            "model": { "key": "sk-mine", "baseUrl": "http://x" },
        }))
        .unwrap();
        assert!(!format!("{code:?}").contains("hunter") && !format!("{code:?}").contains("sk-"));
        let options = options(code, "go".into(), None, OnHumanControl::Wait).unwrap();
        assert_eq!(options.secrets["a"].value.reveal(), "hunter2");
        assert_eq!(options.secrets["b"].domains, ["b.test"]);
        assert_eq!(options.model.base_url.as_deref(), Some("http://x"));
        let shown = format!("{options:?}");
        assert!(
            !shown.contains("hunter") && !shown.contains("sk-"),
            "{shown}"
        );
    }

    #[test]
    fn an_unknown_provider_is_refused() {
        let code: Code =
            serde_json::from_value(json!({ "model": { "provider": "acme" } })).unwrap();
        options(code, "go".into(), None, OnHumanControl::Wait).unwrap_err();
    }
}
