//! Config section `[http]`.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use url::Url;

/// Config section `[http]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The URL callers know the daemon by, such as `https://pagebox.example.com`; empty: what each
    /// request says.
    pub public_url: String,
    /// Networks of proxies in front whose `Forwarded` and `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins whose web pages may call the API, such as `https://app.example.com`.
    pub cors_origins: Vec<String>,
    /// Which pages may show the live view in a frame, as in the header `Content-Security-Policy`: `*`,
    /// `'none'`, `'self'`, or origins with blanks between.
    pub frame_ancestors: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            public_url: String::new(),
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            frame_ancestors: "*".to_owned(),
        }
    }
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// The first key whose value cannot be used, and what is wrong with it.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        if !self.public_url.is_empty() {
            let url = web_url(&self.public_url).map_err(|message| ("http.public_url", message))?;
            if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
                let message = format!(
                    "{:?} has more than scheme, host and port; clients call paths at the root only",
                    self.public_url
                );
                return Err(("http.public_url", message));
            }
        }
        for origin in &self.cors_origins {
            let key = "http.cors_origins";
            let url = web_url(origin).map_err(|message| (key, message))?;
            let meant = url.origin().ascii_serialization();
            if meant != *origin {
                return Err((key, format!("{origin:?} must be written {meant:?}")));
            }
        }
        let key = "http.frame_ancestors";
        let mut sources = self.frame_ancestors.split_ascii_whitespace().peekable();
        if sources.peek().is_none() {
            return Err((key, "must not be empty; 'none' is for no page".to_owned()));
        }
        match sources.find(|source| !is_source(source)) {
            None => Ok(()),
            Some(source) => Err((key, format!("{source:?} is no origin, *, 'self' or 'none'"))),
        }
    }
}

/// Whether this may stand in `frame-ancestors`: nothing that would begin another directive.
fn is_source(source: &str) -> bool {
    let is_host = |c: char| c.is_ascii_alphanumeric() || ":/.*-_[]".contains(c);
    matches!(source, "*" | "'self'" | "'none'") || source.chars().all(is_host)
}

fn web_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{text:?} is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{text:?} must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or a password".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(public_url: &str, cors_origins: &[&str]) -> Option<&'static str> {
        let config = Config {
            public_url: public_url.to_owned(),
            cors_origins: cors_origins.iter().map(|text| (*text).to_owned()).collect(),
            ..Config::default()
        };
        config.validate().err().map(|(key, _)| key)
    }

    #[test]
    fn frame_ancestors_hold_no_other_directive() {
        let refused = |text: &str| {
            let config = Config {
                frame_ancestors: text.to_owned(),
                ..Config::default()
            };
            config.validate().is_err()
        };
        for good in ["*", "'none'", "'self' https://*.example.com:8443", "https:"] {
            assert!(!refused(good), "{good}");
        }
        for bad in [
            "",
            " ",
            "*; script-src *",
            "a,b",
            "'unsafe-inline'",
            "a\nb\"c",
        ] {
            assert!(refused(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for good in ["", "https://a.example", "http://a:8080/", "https://[::1]"] {
            assert_eq!(refused(good, &[]), None, "{good}");
        }
        for bad in [
            "a.example",
            "ftp://a",
            "https://a/b",
            "https://a/?b",
            "https://u:p@a",
        ] {
            assert_eq!(refused(bad, &[]), Some("http.public_url"), "{bad}");
        }
        assert_eq!(refused("", &["https://a.example", "http://b:81"]), None);
        for bad in [
            "*",
            "null",
            "https://a.example/",
            "https://A.example",
            "https://a:443",
        ] {
            assert_eq!(refused("", &[bad]), Some("http.cors_origins"), "{bad}");
        }
    }
}
