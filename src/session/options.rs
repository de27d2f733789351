//! What a new session is to be, checked before anything starts.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::egress::NetworkOptions;
use crate::execution::{BadRequest, ExecutionLimits, SessionLimits};
use crate::profile;
use crate::store::SessionKind;

const TTL: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3600));
const IDLE_TTL: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3600));
const MAX_VIEWPORT: (u32, u32) = (7680, 4320);
const MAX_USER_AGENT: usize = 512;
const MAX_URL: usize = 8192;
const MAX_LABELS: usize = 32;
const MAX_LABEL_KEY: usize = 63;
const MAX_LABEL_VALUE: usize = 255;

/// What a new session is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Total life, 30 s to 3600 s.
    pub ttl: Duration,
    /// Longest time without an execution, 10 s to 3600 s.
    pub idle_ttl: Duration,
    /// The page opened first: http, https or about:blank.
    pub start_url: Option<String>,
    /// Page size in CSS pixels, at most 7680 x 4320.
    pub viewport: (u32, u32),
    /// Replaces the User-Agent; printable ASCII, at most 512 bytes.
    pub user_agent: Option<String>,
    /// The caller's labels, at most 32.
    pub labels: BTreeMap<String, String>,
    /// What it may reach; at most 256 rules in each list.
    pub network: NetworkOptions,
    /// Limits on all of it together.
    pub limits: SessionLimits,
    /// Limits on each context.
    pub execution_limits: ExecutionLimits,
    /// The saved state its browser begins with, and whether it is saved at the end.
    pub profile: Option<profile::Use>,
    /// What it is made for, as its record says.
    pub kind: SessionKind,
    /// Whether people may watch it, with a token.
    pub live_view: bool,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(600),
            idle_ttl: Duration::from_secs(300),
            start_url: None,
            viewport: (1280, 720),
            user_agent: None,
            labels: BTreeMap::new(),
            network: NetworkOptions::default(),
            limits: SessionLimits::default(),
            execution_limits: ExecutionLimits::default(),
            profile: None,
            kind: SessionKind::default(),
            live_view: true,
        }
    }
}

impl SessionOptions {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field that is not as it must be, by the proto's name.
    pub fn validate(&self) -> Result<(), BadRequest> {
        check_range("ttl", self.ttl, TTL)?;
        check_range("idle_ttl", self.idle_ttl, IDLE_TTL)?;
        let (width, height) = self.viewport;
        if !(1..=MAX_VIEWPORT.0).contains(&width) || !(1..=MAX_VIEWPORT.1).contains(&height) {
            return Err(BadRequest::new(
                "viewport",
                format!(
                    "is {width} x {height}, must be from 1 x 1 to {} x {}",
                    MAX_VIEWPORT.0, MAX_VIEWPORT.1
                ),
            ));
        }
        if let Some(url) = &self.start_url {
            check_url(url)?;
        }
        if let Some(agent) = &self.user_agent
            && (agent.is_empty()
                || agent.len() > MAX_USER_AGENT
                || !agent.bytes().all(|b| (0x20..0x7f).contains(&b)))
        {
            return Err(BadRequest::new(
                "user_agent",
                format!("must be 1 to {MAX_USER_AGENT} printable ASCII characters"),
            ));
        }
        self.network.validate().map_err(|error| {
            BadRequest::new(format!("network.{}", error.field()), error.to_string())
        })?;
        self.check_labels()
    }

    fn check_labels(&self) -> Result<(), BadRequest> {
        if self.labels.len() > MAX_LABELS {
            return Err(BadRequest::new(
                "labels",
                format!("has more than {MAX_LABELS} entries"),
            ));
        }
        for (key, value) in &self.labels {
            if key.is_empty() || key.len() > MAX_LABEL_KEY || value.len() > MAX_LABEL_VALUE {
                return Err(BadRequest::new(
                    "labels",
                    format!(
                        "{key:?}: keys have 1 to {MAX_LABEL_KEY} bytes, values at most \
                         {MAX_LABEL_VALUE}"
                    ),
                ));
            }
        }
        Ok(())
    }
}

fn check_range(
    field: &'static str,
    value: Duration,
    (least, most): (Duration, Duration),
) -> Result<(), BadRequest> {
    if value < least || value > most {
        return Err(BadRequest::new(
            field,
            format!("is {value:?}, must be between {least:?} and {most:?}"),
        ));
    }
    Ok(())
}

fn check_url(text: &str) -> Result<(), BadRequest> {
    let error = |message: String| Err(BadRequest::new("start_url", message));
    if text.len() > MAX_URL {
        return error(format!("is longer than {MAX_URL} bytes"));
    }
    if text == "about:blank" {
        return Ok(());
    }
    match url::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(()),
        Ok(url) => error(format!(
            "has the scheme {:?}, must be http or https",
            url.scheme()
        )),
        Err(problem) => error(format!("is not a URL: {problem}")),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn field_of(change: impl FnOnce(&mut SessionOptions)) -> Cow<'static, str> {
        let mut options = SessionOptions::default();
        change(&mut options);
        options.validate().unwrap_err().field
    }

    #[test]
    fn good_options_pass() {
        assert_eq!(SessionOptions::default().validate(), Ok(()));
        for url in [
            "http://localhost:8080/a?b",
            "https://example.com",
            "about:blank",
        ] {
            let options = SessionOptions {
                start_url: Some(url.into()),
                ..SessionOptions::default()
            };
            assert_eq!(options.validate(), Ok(()), "{url}");
        }
    }

    #[test]
    fn each_bad_field_is_named() {
        assert_eq!(field_of(|o| o.ttl = Duration::from_secs(29)), "ttl");
        assert_eq!(field_of(|o| o.ttl = Duration::from_secs(3601)), "ttl");
        assert_eq!(
            field_of(|o| o.idle_ttl = Duration::from_secs(9)),
            "idle_ttl"
        );
        assert_eq!(field_of(|o| o.viewport = (0, 1)), "viewport");
        assert_eq!(field_of(|o| o.viewport = (1, 4321)), "viewport");
        assert_eq!(
            field_of(|o| o.user_agent = Some("a\nb".into())),
            "user_agent"
        );
        assert_eq!(
            field_of(|o| o.user_agent = Some(String::new())),
            "user_agent"
        );
        for url in [
            "",
            "file:///etc/passwd",
            "chrome://gpu",
            "javascript:1",
            "x",
        ] {
            assert_eq!(
                field_of(|o| o.start_url = Some(url.into())),
                "start_url",
                "{url}"
            );
        }
        assert_eq!(
            field_of(|o| o.network.allow = vec!["224.0.0.1".parse().unwrap()]),
            "network.allow[0]"
        );
        assert_eq!(
            field_of(|o| {
                o.labels.insert(String::new(), String::new());
            }),
            "labels"
        );
    }
}
