//! What a scrape is to do: read from JSON, checked before anything starts, kept with its job.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::Error;
use super::actions::Action;
use super::format::{self, Format};
use crate::execution::BadRequest;
use crate::profile::Use;

const MIN_TIMEOUT: u64 = 1000;
const MAX_WAIT: u64 = 60_000;
const MAX_ACTIONS: usize = 50;
const MAX_FORMATS: usize = 30;
const MAX_TAGS: usize = 100;
const MAX_TAG: usize = 500;
const MAX_HEADERS: usize = 64;
const MAX_HEADER: usize = 8192;
const MAX_LANGUAGES: usize = 16;
const MAX_URL: usize = 8192;

/// What a scrape is to do. Keys it does not know are ignored, as clients send their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ScrapeOptions {
    /// The page; `http://` when it names no scheme.
    pub url: String,
    /// What is asked of it, at most one of each kind; markdown when nothing is said.
    pub formats: Vec<Format>,
    /// Only the part that is not navigation and the like.
    pub only_main_content: bool,
    /// CSS selectors of what alone is kept; all when empty.
    pub include_tags: Vec<String>,
    /// CSS selectors of what is left out.
    pub exclude_tags: Vec<String>,
    /// Sent with every request of the page.
    pub headers: BTreeMap<String, String>,
    /// Milliseconds to wait once the page has loaded, at most 60,000 and half of `timeout`.
    pub wait_for: u64,
    /// Milliseconds for all of it, at least 1000; the configured time when not set.
    pub timeout: Option<u64>,
    /// As a phone would load it.
    pub mobile: bool,
    /// Done in this order on the loaded page; at most 50.
    pub actions: Vec<Action>,
    /// Where to look from.
    pub location: Option<Location>,
    /// Whether a page with a bad certificate is loaded all the same. Not set: yes, unless there are
    /// headers or actions.
    pub skip_tls_verification: Option<bool>,
    /// Images inside the page's own text are left out of markdown and html.
    pub remove_base64_images: bool,
    /// Does not wait for a loaded page to settle.
    pub fast_mode: bool,
    /// Hosts of the configured block list are not asked. Not set: they are not, where there is a list.
    pub block_ads: Option<bool>,
    /// The saved state the browser begins with; the session that goes on from the scrape saves it, if
    /// it is to be saved.
    pub profile: Option<Use>,
}

/// Where a page is looked at from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Location {
    /// ISO 3166 code.
    pub country: Option<String>,
    /// BCP 47 tags, best first; at most 16.
    pub languages: Vec<String>,
}

impl Default for ScrapeOptions {
    fn default() -> Self {
        Self {
            url: String::new(),
            formats: vec![Format::Markdown],
            only_main_content: true,
            include_tags: Vec::new(),
            exclude_tags: Vec::new(),
            headers: BTreeMap::new(),
            wait_for: 0,
            timeout: None,
            mobile: false,
            actions: Vec::new(),
            location: None,
            skip_tls_verification: None,
            remove_base64_images: true,
            fast_mode: false,
            block_ads: None,
            profile: None,
        }
    }
}

impl ScrapeOptions {
    /// Reads and checks them. A key that is null counts as absent.
    ///
    /// # Errors
    /// The first field that is not as it must be, or that asks for what is not there yet.
    pub fn from_json(mut value: Value) -> Result<Self, Error> {
        if let Value::Object(fields) = &mut value {
            fields.retain(|_, value| !value.is_null());
        }
        let mut options: Self = serde_path(value)?;
        options.check()?;
        Ok(options)
    }

    /// Whether a page with a bad certificate is loaded.
    #[must_use]
    pub fn ignores_certificates(&self) -> bool {
        let plain = self.headers.is_empty() && self.actions.is_empty();
        self.skip_tls_verification.unwrap_or(plain)
    }

    /// How long all of it may take, where `default` is for those who say nothing.
    #[must_use]
    pub fn time_limit(&self, default: Duration, most: Duration) -> Duration {
        let asked = self.timeout.map_or(default, Duration::from_millis);
        asked.min(most)
    }

    fn check(&mut self) -> Result<(), Error> {
        self.url = check_url(&self.url)?;
        format::check(&self.formats)?;
        if self.formats.is_empty() {
            self.formats = vec![Format::Markdown];
        }
        if self.formats.len() > MAX_FORMATS {
            return bad("formats", format!("has more than {MAX_FORMATS} entries"));
        }
        for (field, tags) in [
            ("includeTags", &self.include_tags),
            ("excludeTags", &self.exclude_tags),
        ] {
            check_tags(field, tags)?;
        }
        if let Some(timeout) = self.timeout
            && timeout < MIN_TIMEOUT
        {
            return bad("timeout", format!("must be at least {MIN_TIMEOUT} ms"));
        }
        if self.wait_for > MAX_WAIT {
            return bad("waitFor", format!("must be at most {MAX_WAIT} ms"));
        }
        if self.timeout.is_some_and(|most| self.wait_for > most / 2) {
            return bad("waitFor", "must not exceed half of timeout");
        }
        self.check_headers()?;
        if let Some(location) = &self.location {
            check_location(location)?;
        }
        if self.actions.len() > MAX_ACTIONS {
            return bad("actions", format!("has more than {MAX_ACTIONS} entries"));
        }
        for (index, action) in self.actions.iter().enumerate() {
            let checked = action.check();
            checked.map_err(|why| BadRequest::new(format!("actions[{index}]"), why))?;
        }
        let waits = self.actions.iter().map(Action::waits);
        if waits.fold(self.wait_for, u64::saturating_add) > MAX_WAIT {
            let message = format!("wait, with waitFor, for more than {MAX_WAIT} ms in all");
            return bad("actions", message);
        }
        Ok(())
    }

    fn check_headers(&self) -> Result<(), Error> {
        if self.headers.len() > MAX_HEADERS {
            return bad("headers", format!("has more than {MAX_HEADERS} entries"));
        }
        for (name, value) in &self.headers {
            let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            let name_is_good = !name.is_empty() && name.bytes().all(is_token);
            let value_is_good = value.chars().all(|c| c == '\t' || !c.is_control());
            if !name_is_good || !value_is_good || name.len() + value.len() > MAX_HEADER {
                let message = format!("{name:?} is not a header of at most {MAX_HEADER} bytes");
                return bad("headers", message);
            }
        }
        Ok(())
    }
}

fn bad<T>(field: &'static str, message: impl Into<String>) -> Result<T, Error> {
    Err(BadRequest::new(field, message.into()).into())
}

/// Reads JSON, and names the field that does not fit as far as serde tells.
fn serde_path(value: Value) -> Result<ScrapeOptions, Error> {
    let Value::Object(fields) = value else {
        return bad("body", "must be a JSON object");
    };
    // One field at a time says which one it is.
    let mut whole = serde_json::Map::new();
    for (name, value) in fields {
        let alone = Value::Object([(name.clone(), value.clone())].into_iter().collect());
        if let Err(error) = serde_json::from_value::<ScrapeOptions>(alone) {
            return Err(match super::format::not_supported(&error) {
                Some(what) => Error::NotSupported(what),
                None => BadRequest::new(Cow::Owned(name), error.to_string()).into(),
            });
        }
        whole.insert(name, value);
    }
    serde_json::from_value(Value::Object(whole))
        .map_err(|error| BadRequest::new("body", error.to_string()).into())
}

fn check_url(text: &str) -> Result<String, Error> {
    let text = text.trim();
    if text.is_empty() {
        return bad("url", "is required");
    }
    if text.len() > MAX_URL {
        return bad("url", format!("is longer than {MAX_URL} bytes"));
    }
    let has_scheme = text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'+')
    });
    let whole: Cow<'_, str> = if has_scheme {
        text.into()
    } else {
        format!("http://{text}").into()
    };
    match Url::parse(&whole) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => bad(
            "url",
            format!("has the scheme {:?}, must be http or https", url.scheme()),
        ),
        Ok(_) => Ok(whole.into_owned()),
        Err(error) => bad("url", format!("is not a URL: {error}")),
    }
}

fn check_tags(field: &'static str, tags: &[String]) -> Result<(), Error> {
    if tags.len() > MAX_TAGS {
        return bad(field, format!("has more than {MAX_TAGS} entries"));
    }
    for tag in tags {
        if tag.len() > MAX_TAG || dom_query::Matcher::new(tag).is_err() {
            let message = format!("{tag:?} is not a CSS selector of at most {MAX_TAG} bytes");
            return bad(field, message);
        }
    }
    Ok(())
}

fn check_location(location: &Location) -> Result<(), Error> {
    if let Some(country) = &location.country
        && !(country.len() == 2 && country.bytes().all(|b| b.is_ascii_alphabetic()))
    {
        return bad(
            "location.country",
            "must be a code of two letters, such as DE",
        );
    }
    let is_tag = |tag: &String| {
        (1..=35).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if location.languages.len() > MAX_LANGUAGES || !location.languages.iter().all(is_tag) {
        let message = format!("must be at most {MAX_LANGUAGES} tags such as de-AT");
        return bad("location.languages", message);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<ScrapeOptions, Error> {
        ScrapeOptions::from_json(value)
    }

    fn field_of(value: Value) -> String {
        match read(value).unwrap_err() {
            Error::BadRequest(bad) => bad.field.into_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_clients_send_is_read() {
        let options = read(json!({
            "url": " example.com/a ", "origin": "js-sdk", "maxAge": 14_400_000, "headers": null,
            "formats": ["markdown", "rawHtml", { "type": "screenshot", "fullPage": true }],
            "actions": [{ "type": "wait", "milliseconds": 10 }, { "type": "scroll" }],
            "location": { "country": "DE", "languages": ["de-AT"] },
        }))
        .unwrap();
        assert_eq!(options.url, "http://example.com/a");
        assert_eq!(options.formats.len(), 3);
        assert!(options.only_main_content && !options.ignores_certificates());
        let stored = serde_json::to_value(&options).unwrap();
        assert_eq!(read(stored).unwrap(), options);
    }

    #[test]
    fn each_bad_field_is_named() {
        let url = "http://a.test";
        for (value, field) in [
            (json!({}), "url"),
            (json!({ "url": 1 }), "url"),
            (json!({ "url": "file:///etc/passwd" }), "url"),
            (json!({ "url": "http://" }), "url"),
            (json!([]), "body"),
            (json!({ "url": url, "formats": "markdown" }), "formats"),
            (json!({ "url": url, "formats": ["nothing"] }), "formats"),
            (
                json!({ "url": url, "formats": ["screenshot", "screenshot"] }),
                "formats",
            ),
            (
                json!({ "url": url, "formats": [{ "type": "screenshot", "quality": 0 }] }),
                "formats",
            ),
            (
                json!({ "url": url, "formats": [{ "type": "screenshot", "full": 0 }] }),
                "formats",
            ),
            (json!({ "url": url, "timeout": 999 }), "timeout"),
            (json!({ "url": url, "timeout": -1 }), "timeout"),
            (json!({ "url": url, "waitFor": 60_001 }), "waitFor"),
            (
                json!({ "url": url, "waitFor": 501, "timeout": 1000 }),
                "waitFor",
            ),
            (json!({ "url": url, "includeTags": ["]["] }), "includeTags"),
            (json!({ "url": url, "headers": { "a\nb": "c" } }), "headers"),
            (
                json!({ "url": url, "headers": { "a": "c\r\nd: e" } }),
                "headers",
            ),
            (
                json!({ "url": url, "location": { "country": "Germany" } }),
                "location.country",
            ),
            (
                json!({ "url": url, "actions": [{ "type": "dance" }] }),
                "actions",
            ),
            (
                json!({ "url": url, "actions": [{ "type": "wait" }] }),
                "actions[0]",
            ),
            (
                json!({ "url": url, "actions": [{ "type": "scroll" },
                    { "type": "wait", "milliseconds": 1, "selector": "a" }] }),
                "actions[1]",
            ),
            (
                json!({ "url": url, "waitFor": 1, "actions": [{ "type": "wait", "milliseconds": 60_000 }] }),
                "actions",
            ),
            (
                json!({ "url": url, "actions": vec![json!({ "type": "scroll" }); 51] }),
                "actions",
            ),
        ] {
            assert_eq!(field_of(value.clone()), field, "{value}");
        }
    }

    #[test]
    fn a_profile_is_saved_unless_it_is_not_to_be() {
        for (more, saved) in [
            (json!({}), true),
            (json!({ "saveChanges": false }), false),
            (json!({ "save_changes": false }), false),
        ] {
            let mut profile = json!({ "name": "x" });
            let fields = profile.as_object_mut().unwrap();
            fields.extend(more.as_object().unwrap().clone());
            let options = read(json!({ "url": "a.test", "profile": profile })).unwrap();
            assert_eq!(options.profile.unwrap().save_changes, saved);
        }
        let nameless = json!({ "url": "a.test", "profile": { "name": "" } });
        assert_eq!(field_of(nameless), "profile");
    }

    #[test]
    fn what_is_not_there_yet_is_named() {
        for (value, what) in [
            (
                json!({ "url": "a.test", "formats": ["branding"] }),
                "format branding",
            ),
            (
                json!({ "url": "a.test", "formats": [{ "type": "product", "q": 1 }] }),
                "format product",
            ),
        ] {
            match read(value).unwrap_err() {
                Error::NotSupported(named) => assert_eq!(named, what),
                other => panic!("{other:?}"),
            }
        }
    }
}
