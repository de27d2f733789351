//! What an execution asks for, checked before anything starts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::id::ExecutionId;
use crate::limits::Bytes;

use super::ExecutionLimits;

/// Most code one execution may carry.
pub const MAX_CODE_BYTES: usize = 100_000;
/// Shortest timeout.
pub const MIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest timeout.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(300);
/// Timeout when none is asked for.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

const MAX_ENVIRONMENT_ENTRIES: usize = 64;
const MAX_ENVIRONMENT_BYTES: usize = 32 << 10;
const MAX_ORIGIN_BYTES: usize = 128;
/// Names the sandbox sets itself; letting a request change them would break runners, not hosts.
const RESERVED_NAMES: [&str; 11] = [
    "PATH",
    "HOME",
    "CDP_URL",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "BASH_ENV",
    "NODE_OPTIONS",
];
const RESERVED_PREFIXES: [&str; 3] = ["LD_", "PAGEBOX_", "AGENT_BROWSER_"];

/// The language of a piece of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Language {
    /// Node.js.
    Node,
    /// Python 3.
    Python,
    /// Bash.
    Bash,
}

impl Language {
    /// Every language.
    pub const ALL: [Self; 3] = [Self::Node, Self::Python, Self::Bash];

    /// Its name in logs, flags and file names.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Python => "python",
            Self::Bash => "bash",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What new code does when a person is in control of its session's browser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnHumanControl {
    /// It waits, for as long as the daemon allows.
    #[default]
    Wait,
    /// It is refused.
    Fail,
    /// It runs; its input waits all the same.
    Ignore,
}

/// Limits on what one execution may give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimits {
    /// Most stdout.
    pub stdout: Bytes,
    /// Most stderr.
    pub stderr: Bytes,
    /// Largest result.
    pub result: Bytes,
}

impl Default for OutputLimits {
    fn default() -> Self {
        Self {
            stdout: Bytes::mib(10),
            stderr: Bytes::mib(10),
            result: Bytes::mib(32),
        }
    }
}

/// What is to run, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionOptions {
    /// The code's language.
    pub language: Language,
    /// The code.
    pub code: String,
    /// Killed after this long.
    pub timeout: Duration,
    /// In a new sandbox instead of the session's context.
    pub fresh: bool,
    /// Added to the environment while it runs.
    pub environment: BTreeMap<String, String>,
    /// Limits on its output.
    pub output_limits: OutputLimits,
    /// Lower limits on its sandbox, which must be its own: `fresh`, or of a session of its own.
    pub limits: ExecutionLimits,
    /// What to do when a person is in control of the browser.
    pub on_human_control: OnHumanControl,
    /// The caller's label.
    pub origin: String,
    /// The caller's own id for it; none: a new one.
    pub id: Option<ExecutionId>,
}

impl ExecutionOptions {
    /// Default options for a piece of code.
    #[must_use]
    pub fn new(language: Language, code: impl Into<String>) -> Self {
        Self {
            language,
            code: code.into(),
            timeout: DEFAULT_TIMEOUT,
            fresh: false,
            environment: BTreeMap::new(),
            output_limits: OutputLimits::default(),
            limits: ExecutionLimits::default(),
            on_human_control: OnHumanControl::default(),
            origin: String::new(),
            id: None,
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field that is not as it must be, by the proto's name.
    pub fn validate(&self) -> Result<(), BadRequest> {
        if self.code.is_empty() {
            return Err(BadRequest::new("code", "must not be empty"));
        }
        if self.code.len() > MAX_CODE_BYTES {
            return Err(BadRequest::new(
                "code",
                format!(
                    "is {} bytes long, more than {MAX_CODE_BYTES}",
                    self.code.len()
                ),
            ));
        }
        if self.language == Language::Bash && self.code.contains('\0') {
            return Err(BadRequest::new("code", "bash code cannot hold a NUL byte"));
        }
        if self.timeout < MIN_TIMEOUT || self.timeout > MAX_TIMEOUT {
            return Err(BadRequest::new(
                "timeout",
                format!(
                    "is {:?}, must be between {MIN_TIMEOUT:?} and {MAX_TIMEOUT:?}",
                    self.timeout
                ),
            ));
        }
        if self.origin.len() > MAX_ORIGIN_BYTES {
            return Err(BadRequest::new(
                "origin",
                format!("is longer than {MAX_ORIGIN_BYTES} bytes"),
            ));
        }
        self.validate_environment()
    }

    fn validate_environment(&self) -> Result<(), BadRequest> {
        let error = |message: String| Err(BadRequest::new("environment", message));
        if self.environment.len() > MAX_ENVIRONMENT_ENTRIES {
            return error(format!("has more than {MAX_ENVIRONMENT_ENTRIES} entries"));
        }
        let mut total = 0;
        for (name, value) in &self.environment {
            total += name.len() + value.len() + 2;
            if !is_variable_name(name) {
                return error(format!("{name:?} is not a variable name"));
            }
            if RESERVED_NAMES.contains(&name.as_str())
                || RESERVED_PREFIXES.iter().any(|p| name.starts_with(p))
            {
                return error(format!("{name} is set by the sandbox itself"));
            }
            if value.contains('\0') {
                return error(format!("the value of {name} holds a NUL byte"));
            }
        }
        if total > MAX_ENVIRONMENT_BYTES {
            return error(format!("is longer than {MAX_ENVIRONMENT_BYTES} bytes"));
        }
        Ok(())
    }
}

fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A field that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct BadRequest {
    /// The field's name in the proto.
    pub field: Cow<'static, str>,
    /// What is wrong with it.
    pub message: String,
}

impl BadRequest {
    /// A complaint about one field.
    pub fn new(field: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_of(change: impl FnOnce(&mut ExecutionOptions)) -> Cow<'static, str> {
        let mut options = ExecutionOptions::new(Language::Node, "1");
        change(&mut options);
        options.validate().unwrap_err().field
    }

    #[test]
    fn good_options_pass() {
        let mut options = ExecutionOptions::new(Language::Bash, "x".repeat(MAX_CODE_BYTES));
        options.environment.insert("A_1".into(), "b c".into());
        assert_eq!(options.validate(), Ok(()));
    }

    #[test]
    fn each_bad_field_is_named() {
        assert_eq!(field_of(|o| o.code.clear()), "code");
        assert_eq!(field_of(|o| o.code = "x".repeat(100_001)), "code");
        assert_eq!(
            field_of(|o| {
                o.language = Language::Bash;
                o.code = "a\0b".into();
            }),
            "code"
        );
        assert_eq!(field_of(|o| o.timeout = Duration::ZERO), "timeout");
        assert_eq!(
            field_of(|o| o.timeout = Duration::from_secs(301)),
            "timeout"
        );
        assert_eq!(field_of(|o| o.origin = "x".repeat(129)), "origin");
        for name in ["", "1A", "A-B", "PATH", "LD_PRELOAD", "PAGEBOX_X"] {
            let field = field_of(|o| {
                o.environment.insert(name.into(), String::new());
            });
            assert_eq!(field, "environment", "{name}");
        }
    }
}
