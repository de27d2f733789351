//! Secrets of a request: the model sees and writes `{{name}}`; the value is put in when a command
//! runs, on its own sites only, and taken out of everything that comes back. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use regex::{Captures, Regex, RegexBuilder};
use url::Url;

use super::command::is_option;
use super::site::{Domain, domains};
use crate::egress::Secret;
use crate::execution::BadRequest;

const MAX_SECRETS: usize = 32;
const MAX_NAME: usize = 64;
/// A shorter value could not be told from a page's own text.
const MIN_VALUE: usize = 3;
const MAX_VALUE: usize = 512;

/// Most bytes that one byte of a value becomes in any of its spellings.
const LONGEST_SPELLING: usize = 12;
/// Most memory of the pattern of all secrets together.
const MAX_PATTERN: usize = 64 << 20;

/// A secret as a request says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretOptions {
    /// 3 to 512 characters without control characters, not beginning with a dash.
    pub value: Secret,
    /// Where it may be put in: these domains and what is below them. Empty: the site of the page
    /// that the prompt begins on.
    pub domains: Vec<String>,
}

/// All secrets of a prompt.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    all: Vec<One>,
    /// Every way a value could be written; the group `sN` is of the secret N.
    pattern: Option<Regex>,
    /// Bytes that a value may have in a text, at most.
    longest: usize,
}

#[derive(Debug)]
struct One {
    name: String,
    value: Secret,
    /// Empty: where the prompt is at home.
    domains: Vec<Domain>,
}

impl Secrets {
    pub(super) fn new(options: &BTreeMap<String, SecretOptions>) -> Result<Self, BadRequest> {
        if options.len() > MAX_SECRETS {
            let message = format!("has more than {MAX_SECRETS} entries");
            return Err(BadRequest::new("secrets", message));
        }
        let mut secrets = Self::default();
        for (name, secret) in options {
            if !is_name(name) {
                let message = format!("a name must be letters, digits and _, at most {MAX_NAME}");
                return Err(BadRequest::new("secrets", message));
            }
            let value = secret.value.reveal();
            let field = format!("secrets.{name}.value");
            check(value).map_err(|why| BadRequest::new(field, why))?;
            let domains = domains(&format!("secrets.{name}.domains"), &secret.domains)?;
            secrets.longest = secrets.longest.max(value.len() * LONGEST_SPELLING);
            secrets.all.push(One {
                name: name.clone(),
                value: secret.value.clone(),
                domains,
            });
        }
        // One that another begins with must not win over it.
        (secrets.all).sort_by_key(|one| std::cmp::Reverse(one.value.reveal().len()));
        if !secrets.all.is_empty() {
            let groups = (secrets.all.iter().enumerate())
                .map(|(at, one)| format!("(?P<s{at}>{})", spellings(one.value.reveal())));
            let built = RegexBuilder::new(&groups.collect::<Vec<_>>().join("|"))
                .case_insensitive(true)
                .size_limit(MAX_PATTERN)
                .build();
            let failed = |_| BadRequest::new("secrets", "are too long all together");
            secrets.pattern = Some(built.map_err(failed)?);
        }
        Ok(secrets)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Their names, and where each may be used.
    pub(super) fn listed(&self, home: Option<&Domain>) -> Vec<(&str, String)> {
        let places = |secret: &One| {
            let own = (secret.domains.iter()).chain(home.filter(|_| secret.domains.is_empty()));
            own.map(Domain::to_string).collect::<Vec<_>>().join(", ")
        };
        (self.all.iter())
            .map(|secret| (&*secret.name, places(secret)))
            .collect()
    }

    /// Whether a text names one of them.
    pub(super) fn are_named_in(&self, text: &str) -> bool {
        self.named(text).next().is_some()
    }

    /// The text with their values, if each may be used on this page.
    ///
    /// # Errors
    /// Which may not, for the model.
    pub(super) fn put_in(
        &self,
        text: &str,
        page: &Url,
        home: Option<&Domain>,
    ) -> Result<String, String> {
        let mut whole = String::with_capacity(text.len());
        let mut end = 0;
        for (from, to, secret) in self.named(text) {
            let own = secret.domains.iter();
            let mut places = own.chain(home.filter(|_| secret.domains.is_empty()));
            if !places.any(|domain| domain.holds(page)) {
                let name = &secret.name;
                let host = page.host_str().unwrap_or("this page");
                return Err(format!("{{{{{name}}}}} may not be used on {host}"));
            }
            whole.push_str(&text[end..from]);
            whole.push_str(secret.value.reveal());
            end = to;
        }
        whole.push_str(&text[end..]);
        Ok(whole)
    }

    /// Where `{{name}}` stands in a text.
    fn named<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (usize, usize, &'a One)> {
        text.match_indices("{{").filter_map(move |(from, _)| {
            let inner = &text[from + 2..];
            let length = inner.find("}}")?;
            let name = inner[..length].trim();
            let secret = self.all.iter().find(|secret| secret.name == name)?;
            Some((from, from + 2 + length + 2, secret))
        })
    }

    /// The text without their values, however they are written in it.
    pub(super) fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(pattern) = &self.pattern else {
            return Cow::Borrowed(text);
        };
        pattern.replace_all(text, |found: &Captures<'_>| {
            let mut all = self.all.iter().enumerate();
            let of = all.find(|(at, _)| found.name(&format!("s{at}")).is_some());
            of.map_or_else(String::new, |(_, one)| format!("{{{{{}}}}}", one.name))
        })
    }

    /// The same of a text that was cut at its end, where a part of a value may be left.
    pub(super) fn hide_cut<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let end = text.len().saturating_sub(self.longest);
        self.hide(match self.is_empty() {
            true => text,
            false => &text[..text.floor_char_boundary(end)],
        })
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn check(value: &str) -> Result<(), String> {
    let length = value.chars().count();
    if !(MIN_VALUE..=MAX_VALUE).contains(&length) {
        return Err(format!("must be {MIN_VALUE} to {MAX_VALUE} characters"));
    }
    if value.chars().any(char::is_control) {
        return Err("must not hold control characters".into());
    }
    if value.trim() != value {
        return Err("must not begin or end with a blank".into());
    }
    if is_option(value) {
        return Err("must not begin with a dash: agent-browser would take it for an option".into());
    }
    Ok(())
}

/// A pattern of every way a value may come back: each character as it is or escaped, in a URL, in
/// HTML, in JSON or in Markdown, in any mixture; and all of it in base64.
fn spellings(value: &str) -> String {
    let plain: String = value.chars().map(character).collect();
    let base64 = [
        STANDARD.encode(value),
        STANDARD_NO_PAD.encode(value),
        URL_SAFE.encode(value),
        URL_SAFE_NO_PAD.encode(value),
    ];
    let base64: Vec<String> = base64.iter().map(|text| regex::escape(text)).collect();
    format!("{plain}|{}", base64.join("|"))
}

/// Every way one character may be written.
fn character(c: char) -> String {
    let itself = regex::escape(c.encode_utf8(&mut [0; 4]));
    let bytes = |bytes: &str| -> String {
        // Encoded twice, too.
        bytes
            .bytes()
            .map(|byte| format!("%(?:25)?{byte:02x}"))
            .collect()
    };
    let mut utf16 = [0; 2];
    let units = c.encode_utf16(&mut utf16).iter();
    let escaped: String = units.map(|unit| format!(r"\\u{unit:04x}")).collect();
    let code = u32::from(c);
    let entities = format!("&#0*{code};|&#x0*{code:x};");
    let more = match c {
        ' ' => r"|\s+|\+|&nbsp;",
        '&' => "|&amp;",
        '<' => "|&lt;",
        '>' => "|&gt;",
        '"' => "|&quot;",
        // As a shell has it.
        '\'' => r"|&apos;|'\\''",
        _ => "",
    };
    let encoded = bytes(c.encode_utf8(&mut [0; 4]));
    format!(r"(?:\\?{itself}|{encoded}|{entities}|{escaped}{more})")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secrets(all: &[(&str, &str, &[&str])]) -> Result<Secrets, BadRequest> {
        let option = |&(name, value, domains): &(&str, &str, &[&str])| {
            let options = SecretOptions {
                value: Secret::from(value),
                domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
            };
            (name.to_owned(), options)
        };
        Secrets::new(&all.iter().map(option).collect())
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_value_is_put_in_on_its_domains_only() {
        let secrets = secrets(&[
            ("password", "hunter2", &["bank.test"]),
            ("pin", "0000", &[]),
        ])
        .unwrap();
        let home = Domain::parse("shop.test").unwrap();
        let put = |text: &str, page: &str| secrets.put_in(text, &url(page), Some(&home));
        assert_eq!(
            put("{{password}}", "https://www.bank.test/").unwrap(),
            "hunter2"
        );
        assert_eq!(
            put("a {{ pin }}{{pin}}b", "https://shop.test/").unwrap(),
            "a 00000000b"
        );
        assert_eq!(
            put("{{other}} {{", "https://x.test/").unwrap(),
            "{{other}} {{"
        );
        for (text, page) in [
            ("{{password}}", "https://shop.test/"),
            ("{{password}}", "https://bank.test.evil.test/"),
            ("{{password}}", "https://notbank.test/"),
            ("{{pin}}", "https://bank.test/"),
            ("{{pin}}", "about:blank"),
            ("{{pin}}{{password}}", "https://bank.test/"),
        ] {
            let why = put(text, page).unwrap_err();
            assert!(!why.contains("hunter2") && !why.contains("0000"), "{why}");
        }
        assert!(
            secrets
                .put_in("{{pin}}", &url("https://shop.test"), None)
                .is_err()
        );
    }

    #[test]
    fn a_value_does_not_come_back() {
        let value = r#"p&ss "w<rd'+ä"#;
        let secrets = secrets(&[("password", value, &[])]).unwrap();
        for spelling in [
            value.to_owned(),
            value.to_uppercase().replace('Ä', "ä"),
            url("http://x.test/")
                .join(&format!("?q={value}"))
                .unwrap()
                .to_string(),
            url::form_urlencoded::Serializer::new(String::new())
                .append_pair("q", value)
                .finish(),
            serde_json::to_string(value).unwrap(),
            "p&amp;ss &quot;w&lt;rd&#39;+ä".to_owned(),
            "p\\&ss \\\"w\\<rd\\'\\+ä".to_owned(),
            "p%2526ss%2520%2522w%253Crd%2527%252B%25C3%25A4".to_owned(),
            "p\\u0026ss\u{a0}\\u0022w\\u003crd\\u0027+\\u00e4".to_owned(),
            STANDARD.encode(value),
        ] {
            let hidden = secrets.hide(&spelling);
            assert!(hidden.contains("{{password}}"), "{spelling}: {hidden}");
            let rest = hidden.replace("{{password}}", "");
            assert!(!rest.contains("ss"), "{hidden}");
        }
        assert_eq!(secrets.hide("nothing"), "nothing");
    }

    #[test]
    fn a_cut_text_keeps_no_part_of_a_value() {
        let secrets = secrets(&[("password", "hunter2hunter2", &[])]).unwrap();
        let cut = format!("{}hunter2hun", "x".repeat(200));
        assert!(!secrets.hide_cut(&cut).contains("hun"));
        assert!(!secrets.hide_cut("hunter2").contains("hun"));
        assert_eq!(Secrets::default().hide_cut("whole"), "whole");
    }

    #[test]
    fn what_cannot_be_kept_secret_is_refused() {
        for (name, value) in [
            ("", "value"),
            ("a-b", "value"),
            ("a", "ab"),
            ("a", "two\nlines"),
            ("a", " padded"),
            ("a", "--cdp"),
            ("a", "-x1"),
        ] {
            let error = secrets(&[(name, value, &[])]).unwrap_err();
            assert!(error.field.starts_with("secrets"), "{error}");
            assert!(!error.to_string().contains("two"), "{error}");
        }
        assert!(secrets(&[("a", "-12", &[])]).is_ok());
        let error = secrets(&[("a", "value", &["co.uk"])]).unwrap_err();
        assert_eq!(error.field, "secrets.a.domains[0]");
        let debug = format!("{:?}", secrets(&[("a", "hunter2", &[])]).unwrap().all);
        assert!(!debug.contains("hunter2"), "{debug}");
    }

    proptest! {
        #[test]
        fn whatever_stands_around_it(before in ".{0,8}", value in "[ -~]{3,20}", after in ".{0,8}") {
            let value = value.trim();
            prop_assume!(check(value).is_ok());
            let secrets = secrets(&[("s", value, &[])]).unwrap();
            let text = format!("{before}{value}{after}");
            let hidden = secrets.hide(&text).replace("{{s}}", "\0");
            prop_assert!(!hidden.contains(value), "{}", hidden);
        }
    }
}
