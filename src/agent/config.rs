//! How prompts are configured: which model is asked, and what it may cost.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::egress::Secret;

/// Longest key of a model's provider.
const MAX_KEY: u64 = 4096;

/// Config section `[agent]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whose format the model is spoken to in; none: prompts are refused.
    pub provider: Option<Provider>,
    /// The model's name, as the provider has it.
    pub model: String,
    /// Where it is asked; the provider's own address when empty.
    pub base_url: String,
    /// File of the key; none is sent when empty.
    pub key_file: PathBuf,
    /// What it holds.
    #[serde(skip)]
    pub key: Option<Secret>,
    /// What a request may say itself.
    pub per_request: Vec<PerRequest>,
    /// Whether the model takes pictures, and so has a screenshot tool.
    pub images: bool,
    /// Steps of one prompt at most; a request may ask for fewer.
    pub max_steps: u32,
    /// How long a prompt may take that does not say it.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How long one step on the page may take.
    #[serde(with = "humantime_serde")]
    pub step_timeout: Duration,
    /// How long one answer of the model may take.
    #[serde(with = "humantime_serde")]
    pub model_timeout: Duration,
    /// Most tokens of one answer of the model.
    pub max_tokens: u32,
    /// How often a question is asked again that the provider had no time for (429, 5xx, no
    /// connection).
    pub retries: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            provider: None,
            model: String::new(),
            base_url: String::new(),
            key_file: PathBuf::new(),
            key: None,
            per_request: Vec::new(),
            images: false,
            max_steps: 25,
            timeout: Duration::from_secs(300),
            step_timeout: Duration::from_secs(30),
            model_timeout: Duration::from_secs(120),
            max_tokens: 4096,
            retries: 3,
        }
    }
}

/// A wire format, and the service it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Chat completions: `OpenAI`, and whatever speaks like it (Ollama, vLLM, llama.cpp …).
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// Google's Gemini.
    Gemini,
}

impl Provider {
    /// Every provider.
    pub const ALL: [Self; 3] = [Self::OpenAi, Self::Anthropic, Self::Gemini];

    /// Its name in files, requests and replies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
        }
    }

    /// Where the service itself is asked.
    pub(super) fn base_url(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com/v1/",
            Self::Anthropic => "https://api.anthropic.com/v1/",
            Self::Gemini => "https://generativelanguage.googleapis.com/v1beta/",
        }
    }
}

impl std::str::FromStr for Provider {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let mut all = Self::ALL.into_iter();
        all.find(|provider| provider.as_str() == name).ok_or(())
    }
}

/// A setting that a request may have of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PerRequest {
    /// Another model of the same provider, at the daemon's cost.
    Model,
    /// Another provider at its own address, with a key of the caller's.
    Provider,
    /// Any address, with a key of the caller's: the daemon itself connects there, past the egress
    /// rules.
    BaseUrl,
}

impl PerRequest {
    /// As the configuration names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Provider => "provider",
            Self::BaseUrl => "base_url",
        }
    }
}

impl Config {
    /// Reads the key. To be done once, before privileges are dropped.
    ///
    /// # Errors
    /// The file that cannot be read, or does not hold what it must.
    pub fn read_files(&mut self) -> Result<(), (&'static str, String)> {
        use std::io::Read as _;
        let file = &self.key_file;
        if file.as_os_str().is_empty() {
            return Ok(());
        }
        let wrong = |what: &str| ("agent.key_file", format!("{}: {what}", file.display()));
        let mut text = String::new();
        std::fs::File::open(file)
            .and_then(|file| file.take(MAX_KEY + 1).read_to_string(&mut text))
            .map_err(|error| wrong(&format!("cannot be read: {error}")))?;
        let key = text.trim();
        if key.is_empty() {
            return Err(wrong("is empty; it must hold the key alone"));
        }
        if !is_key(key) {
            return Err(wrong(
                "must hold the key alone: one line of printable ASCII, at most 4096 bytes",
            ));
        }
        self.key = Some(Secret::from(key));
        Ok(())
    }

    /// Checks every key.
    ///
    /// # Errors
    /// The first that cannot be used, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        const MINUTES: Duration = Duration::from_secs(300);
        let second = Duration::from_secs(1);
        if self.provider.is_some() && self.model.is_empty() {
            return Err(("agent.model", "must be set, as agent.provider is".into()));
        }
        if self.provider.is_none()
            && !(self.model.is_empty()
                && self.base_url.is_empty()
                && self.key_file.as_os_str().is_empty())
        {
            let message = "must be set to openai, anthropic or gemini, as other keys are";
            return Err(("agent.provider", message.into()));
        }
        if !self.base_url.is_empty() {
            base_url(&self.base_url).map_err(|why| ("agent.base_url", why.to_owned()))?;
        }
        if !(1..=100).contains(&self.max_steps) {
            return Err(("agent.max_steps", "must be 1 to 100".into()));
        }
        if !(second..=MINUTES).contains(&self.timeout) {
            return Err(("agent.timeout", "must be 1s to 5m".into()));
        }
        if !(second..=MINUTES).contains(&self.step_timeout) {
            return Err(("agent.step_timeout", "must be 1s to 5m".into()));
        }
        if !(second..=MINUTES).contains(&self.model_timeout) {
            return Err(("agent.model_timeout", "must be 1s to 5m".into()));
        }
        if !(64..=200_000).contains(&self.max_tokens) {
            return Err(("agent.max_tokens", "must be 64 to 200000".into()));
        }
        if self.retries > 10 {
            return Err(("agent.retries", "is more than 10".into()));
        }
        Ok(())
    }
}

/// Whether a text can be a key: it travels in a header.
pub(super) fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text.len() as u64 <= MAX_KEY
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// An address of a model in its one spelling, which ends in a slash: paths are put behind it.
pub(super) fn base_url(text: &str) -> Result<String, &'static str> {
    let wrong = "is not a URL such as http://127.0.0.1:11434/v1/";
    let url = Url::parse(text).map_err(|_| wrong)?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(wrong);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or a password; a key has its own setting");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a query or a fragment");
    }
    let mut url = String::from(url);
    if !url.ends_with('/') {
        url.push('/');
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> Config {
        Config {
            provider: Some(Provider::Anthropic),
            model: "m".into(),
            ..Config::default()
        }
    }

    #[test]
    fn the_first_key_that_cannot_be_used_is_named() {
        type Change = fn(&mut Config);
        let cases: [(&str, Change); 9] = [
            ("agent.model", |c| c.model.clear()),
            ("agent.provider", |c| c.provider = None),
            ("agent.base_url", |c| c.base_url = "ftp://x".into()),
            ("agent.base_url", |c| c.base_url = "http://u:p@x".into()),
            ("agent.max_steps", |c| c.max_steps = 0),
            ("agent.timeout", |c| c.timeout = Duration::from_secs(301)),
            ("agent.step_timeout", |c| c.step_timeout = Duration::ZERO),
            ("agent.max_tokens", |c| c.max_tokens = 1),
            ("agent.retries", |c| c.retries = 11),
        ];
        for (key, change) in cases {
            let mut config = named();
            change(&mut config);
            assert_eq!(config.check().unwrap_err().0, key);
        }
        assert_eq!(named().check(), Ok(()));
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn an_address_ends_in_a_slash() {
        for (text, url) in [
            ("http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1/"),
            ("https://API.test/v1/", "https://api.test/v1/"),
            ("http://api.test", "http://api.test/"),
        ] {
            assert_eq!(base_url(text).as_deref(), Ok(url));
        }
        for text in [
            "",
            "api.test",
            "http://x/?key=1",
            "http://x/#a",
            "file:///x",
        ] {
            base_url(text).unwrap_err();
        }
    }

    #[test]
    fn a_key_is_one_line_and_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut config = named();
        config.key_file = file.path().to_owned();
        for (text, is_good) in [
            ("sk-x\n", true),
            ("  sk-x  ", true),
            ("", false),
            ("a b", false),
            ("a\nb", false),
        ] {
            std::fs::write(file.path(), text).unwrap();
            assert_eq!(config.read_files().is_ok(), is_good, "{text:?}");
        }
        std::fs::write(file.path(), "x".repeat(5000)).unwrap();
        config.read_files().unwrap_err();
        std::fs::write(file.path(), "sk-secret").unwrap();
        config.read_files().unwrap();
        assert!(!format!("{config:?}").contains("sk-secret"));
        assert!(!toml::to_string(&config).unwrap().contains("sk-secret"));
    }
}
