//! What a prompt asks for, checked before anything starts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::model::ModelOptions;
use super::secrets::SecretOptions;
use crate::execution::{BadRequest, MAX_TIMEOUT, MIN_TIMEOUT, OnHumanControl};
use crate::id::ExecutionId;

/// Longest task, in characters.
pub const MAX_PROMPT: usize = 10_000;
const MAX_ORIGIN: usize = 128;

/// A task, and how it may be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromptOptions {
    /// The task, 1 to 10,000 characters.
    pub prompt: String,
    /// For all of it, 1 s to 300 s; none: as configured.
    pub timeout: Option<Duration>,
    /// Steps at most; none: as configured, which is also the most.
    pub max_steps: Option<u32>,
    /// Domains it may go to beside the site it begins on.
    pub allow_navigation: Vec<String>,
    /// By name.
    pub secrets: BTreeMap<String, SecretOptions>,
    /// Which model is asked.
    pub model: ModelOptions,
    /// What to do when a person is in control of the browser as it begins.
    pub on_human_control: OnHumanControl,
    /// The caller's label.
    pub origin: String,
    /// The caller's own id for it; none: a new one.
    pub id: Option<ExecutionId>,
}

impl PromptOptions {
    /// Checks what can be checked without the daemon's configuration.
    ///
    /// # Errors
    /// The first field that is not as it must be, by the proto's name.
    pub(super) fn validate(&self) -> Result<(), BadRequest> {
        if self.prompt.trim().is_empty() {
            return Err(BadRequest::new("prompt", "must not be empty"));
        }
        let length = self.prompt.chars().count();
        if length > MAX_PROMPT {
            let message = format!("is {length} characters long, more than {MAX_PROMPT}");
            return Err(BadRequest::new("prompt", message));
        }
        if let Some(timeout) = self.timeout
            && !(MIN_TIMEOUT..=MAX_TIMEOUT).contains(&timeout)
        {
            let message =
                format!("is {timeout:?}, must be between {MIN_TIMEOUT:?} and {MAX_TIMEOUT:?}");
            return Err(BadRequest::new("timeout", message));
        }
        if self.origin.len() > MAX_ORIGIN {
            let message = format!("is longer than {MAX_ORIGIN} bytes");
            return Err(BadRequest::new("origin", message));
        }
        Ok(())
    }

    /// Steps at most, given the configured limit.
    pub(super) fn steps(&self, most: u32) -> Result<u32, BadRequest> {
        match self.max_steps {
            None => Ok(most),
            Some(steps) if (1..=most).contains(&steps) => Ok(steps),
            Some(steps) => {
                let message = format!("is {steps}, must be 1 to {most}");
                Err(BadRequest::new("max_steps", message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_has_1_to_10000_characters() {
        let options = |prompt: &str| PromptOptions {
            prompt: prompt.to_owned(),
            ..PromptOptions::default()
        };
        assert_eq!(options(&"ä".repeat(MAX_PROMPT)).validate(), Ok(()));
        for prompt in ["", " \n", &"ä".repeat(MAX_PROMPT + 1)] {
            assert_eq!(options(prompt).validate().unwrap_err().field, "prompt");
        }
        let timeout = |seconds| PromptOptions {
            timeout: Some(Duration::from_secs(seconds)),
            ..options("x")
        };
        assert_eq!(timeout(300).validate(), Ok(()));
        assert_eq!(timeout(301).validate().unwrap_err().field, "timeout");
        assert_eq!(timeout(0).validate().unwrap_err().field, "timeout");
        let mut few = options("x");
        few.max_steps = Some(26);
        assert_eq!(few.steps(25).unwrap_err().field, "max_steps");
        few.max_steps = Some(2);
        assert_eq!(few.steps(25), Ok(2));
    }
}
