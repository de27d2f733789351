//! Which pages a prompt may be on: the site it began on, and what the request allows beside it.
//! Pure.

use std::net::IpAddr;

use url::{Host, Url};

use crate::execution::BadRequest;

/// Domains that may be allowed at most.
const MAX_DOMAINS: usize = 32;

/// A domain, with everything below it; or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Domain(String);

impl Domain {
    /// Reads one as a request says it: `example.com`, `127.0.0.1`, `localhost`.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "is not a domain such as example.com, or an address";
        let address = text.trim_start_matches('[').trim_end_matches(']');
        let host = match address.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => Host::Ipv6(address),
            Ok(IpAddr::V4(address)) => Host::Ipv4(address),
            Err(_) => Host::parse(text.trim_end_matches('.')).map_err(|_| WRONG)?,
        };
        let Host::Domain(name) = &host else {
            return Ok(Self(host.to_string()));
        };
        let labels = name.split('.').all(|label| {
            !label.is_empty()
                && (label.bytes()).all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        });
        if !labels {
            return Err(WRONG);
        }
        // One word, such as localhost, is no suffix but a host.
        if name.contains('.') && psl::domain_str(name).is_none() {
            return Err("is a public suffix: everybody's sites are below it");
        }
        Ok(Self(name.clone()))
    }

    /// Whether this page is on it.
    pub(super) fn holds(&self, url: &Url) -> bool {
        let Some(host) = host(url) else { return false };
        match host.strip_suffix(&*self.0) {
            Some("") => true,
            Some(below) => below.ends_with('.') && matches!(url.host(), Some(Host::Domain(_))),
            None => false,
        }
    }
}

impl std::fmt::Display for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads a list of them; `field` is what it is called.
pub(super) fn domains(field: &str, texts: &[String]) -> Result<Vec<Domain>, BadRequest> {
    if texts.len() > MAX_DOMAINS {
        let message = format!("has more than {MAX_DOMAINS} entries");
        return Err(BadRequest::new(field.to_owned(), message));
    }
    let parse = |(at, text): (usize, &String)| {
        Domain::parse(text).map_err(|why| BadRequest::new(format!("{field}[{at}]"), why))
    };
    texts.iter().enumerate().map(parse).collect()
}

/// The host of a page of the web, without a last dot.
fn host(url: &Url) -> Option<&str> {
    let is_web = matches!(url.scheme(), "http" | "https");
    let host = url.host_str().filter(|_| is_web)?;
    Some(host.strip_suffix('.').unwrap_or(host))
}

/// The registrable domain of a page of the web; of an address, or a name without one, the host.
pub(super) fn site(url: &Url) -> Option<Domain> {
    let host = host(url)?;
    let site = match url.host() {
        Some(Host::Domain(_)) => psl::domain_str(host).unwrap_or(host),
        _ => host,
    };
    Some(Domain(site.to_owned()))
}

/// Where a prompt may go.
#[derive(Clone, Debug, Default)]
pub(super) struct Sites {
    /// Where it began; none on a blank page, until it has opened one.
    home: Option<Domain>,
    allowed: Vec<Domain>,
}

impl Sites {
    /// What is allowed beside where it begins, which is said by [`Self::beginning_at`].
    pub(super) fn new(allowed: Vec<Domain>) -> Self {
        let home = None;
        Self { home, allowed }
    }

    /// At home on the site of this page.
    pub(super) fn beginning_at(self, url: &str) -> Self {
        let home = Url::parse(url).ok().and_then(|url| site(&url));
        Self { home, ..self }
    }

    /// Whether this page may be shown. A blank one holds nothing to be led astray by.
    pub(super) fn allows(&self, url: &Url) -> bool {
        if url.scheme() == "about" {
            return true;
        }
        let mut all = self.home.iter().chain(&self.allowed);
        all.any(|domain| domain.holds(url))
    }

    /// The same of a URL's text.
    pub(super) fn allows_text(&self, url: &str) -> bool {
        Url::parse(url).is_ok_and(|url| self.allows(&url))
    }

    /// Whether the model may open this page. On a blank page, which no web site has said anything
    /// on, it may open what its task asks for; that is where the prompt is at home from then on.
    pub(super) fn open(&mut self, url: &Url) -> bool {
        if self.home.is_none() && self.allowed.is_empty() {
            self.home = site(url);
        }
        self.allows(url) && url.scheme() != "about"
    }

    /// The site it is at home on.
    pub(super) fn home(&self) -> Option<&Domain> {
        self.home.as_ref()
    }
}

impl std::fmt::Display for Sites {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all: Vec<String> = self
            .home
            .iter()
            .chain(&self.allowed)
            .map(Domain::to_string)
            .collect();
        f.write_str(&all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_site_is_a_registrable_domain() {
        for (page, want) in [
            ("https://a.b.example.com/x", "example.com"),
            ("https://www.example.co.uk", "example.co.uk"),
            ("https://one.github.io/", "one.github.io"),
            ("http://localhost:8080/", "localhost"),
            ("http://10.1.2.3/", "10.1.2.3"),
            ("http://[::1]:1/", "[::1]"),
            ("https://EXAMPLE.com./", "example.com"),
        ] {
            assert_eq!(site(&url(page)).unwrap().to_string(), want, "{page}");
        }
        for page in ["about:blank", "data:text/html,x", "file:///etc/passwd"] {
            assert_eq!(site(&url(page)), None);
        }
    }

    #[test]
    fn only_the_site_and_what_is_allowed() {
        let allowed = domains("allow_navigation", &["pay.test".to_owned()]).unwrap();
        let sites = Sites::new(allowed).beginning_at("https://shop.example.com/cart");
        for page in [
            "https://example.com/",
            "http://other.example.com:81/x",
            "https://pay.test",
            "https://www.pay.test",
            "about:blank",
        ] {
            assert!(sites.allows_text(page), "{page}");
        }
        for page in [
            "https://example.com.evil.test/",
            "https://evilexample.com",
            "https://notpay.test",
            "https://example.com@evil.test/",
            "data:text/html,example.com",
            "blob:https://example.com/1",
            "javascript:alert(1)",
            "",
        ] {
            assert!(!sites.allows_text(page), "{page}");
        }
    }

    #[test]
    fn an_address_is_only_itself() {
        let sites = Sites::default().beginning_at("http://127.0.0.1:1/");
        assert!(sites.allows_text("http://127.0.0.1:2/x"));
        assert!(
            sites.allows_text("http://0x7f.1/"),
            "another spelling of it"
        );
        assert!(!sites.allows_text("http://1.127.0.0.1.evil.test/"));
        assert!(!sites.allows_text("http://127.0.0.2/"));
        assert!(!sites.allows_text("http://localhost/"));
    }

    #[test]
    fn a_blank_page_takes_the_first_that_is_opened_for_its_home() {
        let mut sites = Sites::default().beginning_at("about:blank");
        assert!(!sites.allows_text("https://example.com"));
        assert!(sites.open(&url("https://www.example.com")));
        assert!(sites.open(&url("https://example.com/a")));
        assert!(!sites.open(&url("https://evil.test")));
        let mut listed = Sites::new(vec![Domain::parse("a.test").unwrap()]);
        assert!(!listed.open(&url("https://evil.test")));
        assert!(listed.open(&url("https://a.test")));
    }

    #[test]
    fn no_suffix_is_allowed() {
        for text in ["example.com", "localhost", "EXAMPLE.com", "::1", "10.0.0.1"] {
            Domain::parse(text).unwrap();
        }
        for text in [
            "",
            "co.uk",
            "github.io",
            "*.x.test",
            "a b",
            "https://x.test",
            "x.test/y",
            "a..b",
        ] {
            Domain::parse(text).unwrap_err();
        }
        let many = vec!["x.test".to_owned(); MAX_DOMAINS + 1];
        assert_eq!(domains("d", &many).unwrap_err().field, "d");
        let bad = ["x.test".to_owned(), "co.uk".to_owned()];
        assert_eq!(domains("d", &bad).unwrap_err().field, "d[1]");
    }
}
