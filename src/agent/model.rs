//! The language models: which one is asked, and a question asked until it is answered.
//!
//! genai puts questions into each provider's wire format; connections, waiting and what is told of
//! failures are decided here. Its own errors hold whole requests, and so pages: they are never shown.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use genai::adapter::AdapterKind;
use genai::chat::{ChatMessage, ChatOptions, ChatRequest, ToolCall};
use genai::resolver::{AuthData, Endpoint};
use genai::{Client, ModelIden, ServiceTarget, webc};
use rustls_platform_verifier::BuilderVerifierExt as _;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::ring;

use super::config::{self, Config, PerRequest, Provider};
use super::error::{Error, ModelFailure};
use crate::egress::Secret;
use crate::execution::BadRequest;

/// How long a connection to a provider may take to open.
const CONNECT: Duration = Duration::from_secs(10);
/// Before a question is asked again; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest of these pauses, whatever the provider asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How much of a provider's own words is told.
const MAX_WORDS: usize = 300;
/// What servers that want no key are sent; genai always sends one.
const NO_KEY: &str = "none";
const MAX_NAME: usize = 200;

/// What a request says of the model; the rest is as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelOptions {
    /// Another provider.
    pub provider: Option<Provider>,
    /// Another model.
    pub model: Option<String>,
    /// Another address.
    pub base_url: Option<String>,
    /// The caller's own key.
    pub key: Option<Secret>,
}

/// The models of a daemon; cheap to clone.
#[derive(Clone, Debug)]
pub struct Models(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    /// None where no model can be chosen.
    client: Option<Client>,
}

/// Why there are no models.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The certificates of this host.
    #[error("cannot set TLS up for language models: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
    /// The HTTP client.
    #[error("cannot make an HTTP client for language models: {0}")]
    Http(#[from] reqwest::Error),
    /// What is made of it.
    #[error("cannot make a client for language models: {0}")]
    Client(String),
}

/// One model, to be asked.
#[derive(Clone, Debug)]
pub(super) struct Model {
    models: Models,
    client: Client,
    target: ServiceTarget,
    key: Option<Secret>,
    pub(super) provider: Provider,
    pub(super) name: String,
    pub(super) takes_images: bool,
}

/// Tokens as the provider counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Read.
    pub input: u64,
    /// Written.
    pub output: u64,
}

impl Tokens {
    pub(super) fn add(&mut self, more: Self) {
        self.input = self.input.saturating_add(more.input);
        self.output = self.output.saturating_add(more.output);
    }
}

/// What a model said.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// To go on from.
    pub(super) message: ChatMessage,
    pub(super) text: String,
    pub(super) calls: Vec<ToolCall>,
    /// It was cut at the limit of tokens.
    pub(super) is_cut: bool,
    pub(super) tokens: Tokens,
}

impl Models {
    /// The models a configuration names.
    ///
    /// # Errors
    /// When no client can be made, such as for a host whose certificates cannot be read.
    pub fn new(config: Config) -> Result<Self, SetupError> {
        // A host without certificates is good enough for a daemon without a model.
        let is_used = config.provider.is_some() || !config.per_request.is_empty();
        let client = is_used.then(|| client(&config)).transpose()?;
        Ok(Self(Arc::new(Inner { config, client })))
    }

    pub(super) fn config(&self) -> &Config {
        &self.0.config
    }

    /// The model that a request asks for. The daemon's key goes to the configured address only.
    ///
    /// # Errors
    /// When there is none, or the request says what it may not.
    pub(super) fn choose(&self, asked: ModelOptions) -> Result<Model, Error> {
        let config = &self.0.config;
        let may = |what: PerRequest, field: &'static str| match config.per_request.contains(&what) {
            true => Ok(()),
            false => Err(BadRequest::new(
                field,
                format!(
                    "may not be chosen by a request; the daemon's agent.per_request has no {:?}",
                    what.as_str()
                ),
            )),
        };
        let is_elsewhere = asked.provider.is_some() || asked.base_url.is_some();
        if asked.model.is_some() {
            may(PerRequest::Model, "model.name")?;
        }
        if asked.provider.is_some() {
            may(PerRequest::Provider, "model.provider")?;
        }
        if asked.base_url.is_some() {
            may(PerRequest::BaseUrl, "model.base_url")?;
        }
        if asked.key.is_some() && !is_elsewhere && may(PerRequest::Provider, "model.key").is_err() {
            may(PerRequest::BaseUrl, "model.key")?;
        }
        let key = asked.key.as_ref().map(Secret::reveal);
        if key.is_some_and(|key| !config::is_key(key)) {
            let message = "must be printable ASCII without blanks";
            return Err(BadRequest::new("model.key", message).into());
        }
        let missing = |missing| Error::NoModel { missing };
        let provider = asked.provider.or(config.provider);
        let provider = provider.ok_or(missing("agent.provider"))?;
        let is_others = asked
            .provider
            .is_some_and(|asked| Some(asked) != config.provider);
        let name = match asked.model {
            Some(name) => name,
            // Another provider does not have it.
            None if is_others => {
                let message = "must be given with another provider";
                return Err(BadRequest::new("model.name", message).into());
            }
            None => config.model.clone(),
        };
        if name.is_empty() {
            return Err(missing("agent.model"));
        }
        if !is_name(&name) {
            let message = format!(
                "is no name of a model: letters, digits and ._:/@+- only, at most {MAX_NAME}"
            );
            return Err(BadRequest::new("model.name", message).into());
        }
        let bad = |why| BadRequest::new("model.base_url", why);
        let client = self.0.client.clone().ok_or(missing("agent.provider"))?;
        let base_url = match &asked.base_url {
            Some(url) => config::base_url(url).map_err(bad)?,
            None if is_elsewhere || config.base_url.is_empty() => provider.base_url().to_owned(),
            // Checked when it was read.
            None => config::base_url(&config.base_url).map_err(bad)?,
        };
        let own = config.key.clone().filter(|_| !is_elsewhere);
        let key = asked.key.or(own);
        let sent = key.as_ref().map_or(NO_KEY, Secret::reveal);
        let kind = match provider {
            Provider::OpenAi => AdapterKind::OpenAI,
            Provider::Anthropic => AdapterKind::Anthropic,
            Provider::Gemini => AdapterKind::Gemini,
        };
        let target = ServiceTarget {
            endpoint: Endpoint::from_owned(base_url),
            auth: AuthData::from_single(sent),
            model: ModelIden::new(kind, name.clone()),
        };
        Ok(Model {
            models: self.clone(),
            client,
            target,
            key,
            provider,
            name,
            takes_images: config.images,
        })
    }
}

/// What asks them all.
fn client(config: &Config) -> Result<Client, SetupError> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        // A key must go nowhere else, and the environment says nothing of where.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT)
        .timeout(config.model_timeout)
        .build()?;
    let client = Client::builder().with_reqwest(http).build();
    client.map_err(|error| SetupError::Client(error.to_string()))
}

impl Model {
    /// Asks, and asks again while that may help and there is time until `deadline`.
    pub(super) async fn ask(
        &self,
        request: &ChatRequest,
        deadline: Instant,
    ) -> Result<Reply, ModelFailure> {
        let retries = self.models.config().retries;
        let mut pause = FIRST_PAUSE;
        for attempt in 0.. {
            let (failure, wait) = match self.ask_once(request).await {
                Ok(reply) => return Ok(reply),
                Err(failed) => failed,
            };
            let wait = wait.unwrap_or(pause).min(LONGEST_PAUSE) + jitter(pause / 2);
            let is_too_late = Instant::now() + wait >= deadline;
            if attempt >= retries || !failure.may_pass() || is_too_late {
                return Err(failure);
            }
            tracing::debug!(?wait, "the model is asked again");
            sleep(wait).await;
            pause *= 2;
        }
        unreachable!("the loop has no end of its own")
    }

    /// With how long to wait before the next attempt, where the provider says it.
    async fn ask_once(
        &self,
        request: &ChatRequest,
    ) -> Result<Reply, (ModelFailure, Option<Duration>)> {
        let config = self.models.config();
        let options = ChatOptions::default().with_max_tokens(config.max_tokens);
        let limit = config.model_timeout;
        let asking = self
            .client
            .exec_chat(self.target.clone(), request.clone(), Some(&options));
        let answer = match timeout(limit, asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err((self.failure(&error), retry_after(&error))),
            Err(_) => return Err((ModelFailure::Slow(limit), None)),
        };
        let count = |tokens: Option<i32>| {
            tokens.map_or(0, |tokens| u64::try_from(tokens).unwrap_or_default())
        };
        let tokens = Tokens {
            input: count(answer.usage.prompt_tokens),
            output: count(answer.usage.completion_tokens),
        };
        let is_cut = answer.stop_reason.as_ref();
        let is_cut = is_cut.is_some_and(genai::chat::StopReason::is_max_tokens);
        let text = answer.content.joined_texts().unwrap_or_default();
        let calls = answer.content.tool_calls().into_iter().cloned().collect();
        let has_reasoning = answer.content.contains_reasoning_content();
        let mut message = ChatMessage::assistant(answer.content);
        if !has_reasoning {
            message = message.with_reasoning_content(answer.reasoning_content);
        }
        Ok(Reply {
            message,
            text: text.trim().to_owned(),
            calls,
            is_cut,
            tokens,
        })
    }

    /// What may be told of a failure: nothing of the request, and no key.
    fn failure(&self, error: &genai::Error) -> ModelFailure {
        use genai::Error as E;
        match error {
            E::WebModelCall { webc_error, .. } | E::WebAdapterCall { webc_error, .. } => {
                match webc_error {
                    webc::Error::ResponseFailedStatus { status, body, .. } => {
                        ModelFailure::Status {
                            status: status.as_u16(),
                            message: self.words_of(body),
                        }
                    }
                    webc::Error::Reqwest(error) if error.is_timeout() && !error.is_connect() => {
                        ModelFailure::Slow(self.models.config().model_timeout)
                    }
                    webc::Error::Reqwest(error) => ModelFailure::Unreachable(innermost(error)),
                    webc::Error::ResponseFailedNotJson { content_type, .. } => {
                        let kind: String = content_type.chars().take(40).collect();
                        ModelFailure::Garbage(format!("its type is {kind:?}, not JSON"))
                    }
                    webc::Error::ResponseFailedInvalidJson { .. }
                    | webc::Error::JsonValueExt(_) => {
                        ModelFailure::Garbage("it is not JSON".into())
                    }
                }
            }
            E::HttpError { status, body, .. } => ModelFailure::Status {
                status: status.as_u16(),
                message: self.words_of(body),
            },
            E::NoChatResponse { .. } => ModelFailure::Garbage("it is empty".into()),
            _ => ModelFailure::Garbage(
                "it is not what the provider's format has, or a tool was called without JSON"
                    .into(),
            ),
        }
    }

    /// The provider's own words in an answer's body.
    fn words_of(&self, body: &str) -> String {
        let parsed: Value = serde_json::from_str(body).unwrap_or_default();
        let words = [
            &parsed["error"]["message"],
            &parsed["message"],
            &parsed["error"],
        ];
        let words = words.into_iter().find_map(Value::as_str);
        let words = words.unwrap_or_default();
        let words = match self.key.as_ref().map(Secret::reveal) {
            Some(key) => words.replace(key, "***"),
            None => words.to_owned(),
        };
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        words.chars().take(MAX_WORDS).collect()
    }
}

/// Whether a text can be a model's name. Of some providers it is part of the URL, so it must not lead
/// elsewhere there; what stands before `::` genai takes for a provider of its own.
fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && (name.chars()).all(|c| c.is_ascii_alphanumeric() || "._:/@+-".contains(c))
        && !name.contains("..")
        && !name.contains("::")
        && !name.starts_with('/')
}

/// In whole seconds, as providers say it.
fn retry_after(error: &genai::Error) -> Option<Duration> {
    let value = error.headers()?.get("retry-after")?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// So that callers who were refused together do not come back together.
fn jitter(most: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    let share = u32::try_from(random % 1000).unwrap_or_default();
    most * share / 1000
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string().chars().take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(change: impl FnOnce(&mut Config)) -> Models {
        let mut config = Config {
            provider: Some(Provider::OpenAi),
            model: "small".into(),
            base_url: "http://127.0.0.1:1/v1".into(),
            key: Some("sk-daemon".into()),
            ..Config::default()
        };
        change(&mut config);
        Models::new(config).unwrap()
    }

    fn sent(model: &Model) -> (String, String) {
        let key = model.target.auth.single_key_value().unwrap();
        (model.target.endpoint.base_url().to_owned(), key)
    }

    const ALL: [PerRequest; 3] = [PerRequest::Model, PerRequest::Provider, PerRequest::BaseUrl];

    #[test]
    fn without_a_model_the_missing_setting_is_named() {
        let none = Models::new(Config::default()).unwrap();
        let error = none.choose(ModelOptions::default()).unwrap_err();
        assert!(error.to_string().contains("agent.provider"), "{error}");
    }

    #[test]
    fn the_daemons_key_goes_to_its_own_address_only() {
        let models = models(|config| config.per_request = ALL.to_vec());
        let own = models.choose(ModelOptions::default()).unwrap();
        let home = ("http://127.0.0.1:1/v1/".to_owned(), "sk-daemon".to_owned());
        assert_eq!(sent(&own), home);
        let other = ModelOptions {
            model: Some("large".into()),
            ..ModelOptions::default()
        };
        assert_eq!(sent(&models.choose(other).unwrap()), home);
        for provider in [None, Some(Provider::OpenAi), Some(Provider::Anthropic)] {
            let elsewhere = ModelOptions {
                provider,
                model: Some("m".into()),
                base_url: Some("http://evil.test/".into()),
                key: None,
            };
            let sent = sent(&models.choose(elsewhere).unwrap());
            assert_eq!(sent, ("http://evil.test/".to_owned(), NO_KEY.to_owned()));
        }
        let named = ModelOptions {
            provider: Some(Provider::OpenAi),
            ..ModelOptions::default()
        };
        let (url, key) = sent(&models.choose(named).unwrap());
        assert_eq!((&*url, &*key), (Provider::OpenAi.base_url(), NO_KEY));
        let with_key = ModelOptions {
            base_url: Some("http://mine.test".into()),
            key: Some("sk-mine".into()),
            ..ModelOptions::default()
        };
        let (url, key) = sent(&models.choose(with_key).unwrap());
        assert_eq!((&*url, &*key), ("http://mine.test/", "sk-mine"));
    }

    #[test]
    fn a_request_may_say_what_the_daemon_lets_it() {
        let models = models(|_| {});
        let asked = |change: fn(&mut ModelOptions)| {
            let mut options = ModelOptions::default();
            change(&mut options);
            match models.choose(options) {
                Err(Error::BadRequest(bad)) => bad.field.into_owned(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(asked(|o| o.model = Some("x".into())), "model.name");
        assert_eq!(
            asked(|o| o.provider = Some(Provider::Gemini)),
            "model.provider"
        );
        assert_eq!(
            asked(|o| o.base_url = Some("http://x".into())),
            "model.base_url"
        );
        assert_eq!(asked(|o| o.key = Some("sk".into())), "model.key");
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for name in [
            "gpt-5",
            "qwen3:8b",
            "meta-llama/Llama-3-8b",
            "a@2",
            "models/x.y",
        ] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "../files",
            "a/../b",
            "a?key=1",
            "a#b",
            "a%2fb",
            "openai::x",
            "/x",
            "a b",
            "ä",
        ] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn what_a_provider_says_is_told_without_the_key() {
        let model = models(|_| {}).choose(ModelOptions::default()).unwrap();
        let body = r#"{"error":{"message":"Incorrect key:\n sk-daemon, see x"}}"#;
        assert_eq!(model.words_of(body), "Incorrect key: ***, see x");
        assert_eq!(
            model.words_of(r#"{"error":"no such model"}"#),
            "no such model"
        );
        assert_eq!(model.words_of("<html>sk-daemon</html>"), "");
        assert!(!format!("{model:?}").contains("sk-daemon"));
    }

    #[test]
    fn what_may_pass_is_asked_again() {
        let status = |status| ModelFailure::Status {
            status,
            message: String::new(),
        };
        for code in [408, 429, 500, 503, 529] {
            assert!(status(code).may_pass(), "{code}");
        }
        for code in [301, 400, 401, 403, 404] {
            assert!(!status(code).may_pass(), "{code}");
        }
    }
}
