//! What one session asks of its network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::Url;

use super::address;
use super::rules::{Pattern, Ports, Rule};
use super::target::{Host, Target};
use crate::limits::Bytes;

/// Most rules in each list of a session.
pub const MAX_RULES: usize = 256;

/// Longest user name or password of a proxy (RFC 1929 has one byte for the length).
const MAX_CREDENTIAL: usize = 255;
/// Characters repeated of a text that is no server.
const MAX_SHOWN: usize = 100;

/// What one session may reach. Narrows the daemon's rules, never widens them; the session's own
/// loopback is not subject to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkOptions {
    /// When not empty, only what one of these matches. Without ports: every port open anyway.
    pub allow: Vec<Rule>,
    /// Refused, whatever else is said. Without ports: every port.
    pub deny: Vec<Rule>,
    /// Nothing at all.
    pub offline: bool,
    /// Everything through this proxy, which is reached under the daemon's rules.
    pub proxy: Option<Proxy>,
    /// Bytes both ways together; the daemon's own limit when absent.
    pub max_bytes: Option<Bytes>,
}

/// Options that cannot be meant: they contradict each other, or can have no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A list is too long.
    #[error("has more than {MAX_RULES} rules")]
    TooManyRules {
        /// The list.
        list: &'static str,
    },
    /// An `allow` rule for what no rule can open.
    #[error("can never match: nothing opens {range}")]
    Closed {
        /// Its place in `allow`.
        index: usize,
        /// The range it lies in.
        range: String,
    },
    /// An `allow` rule that a `deny` rule makes useless.
    #[error("can never match: deny[{deny}] ({rule}) refuses all of it")]
    Denied {
        /// Its place in `allow`.
        index: usize,
        /// The other's place in `deny`.
        deny: usize,
        /// The other.
        rule: Rule,
    },
    /// Something to decide, where everything is refused.
    #[error("refuses everything already: leave out {beside}, or offline")]
    Offline {
        /// The other option.
        beside: &'static str,
    },
}

impl OptionsError {
    /// The option that is not as it must be, such as `allow[1]`.
    #[must_use]
    pub fn field(&self) -> String {
        match self {
            Self::TooManyRules { list } => (*list).to_owned(),
            Self::Closed { index, .. } | Self::Denied { index, .. } => format!("allow[{index}]"),
            Self::Offline { .. } => "offline".to_owned(),
        }
    }
}

impl NetworkOptions {
    /// Refuses what cannot be meant.
    ///
    /// # Errors
    /// The first option that is not as it must be.
    pub fn validate(&self) -> Result<(), OptionsError> {
        for (list, rules) in [("allow", &self.allow), ("deny", &self.deny)] {
            if rules.len() > MAX_RULES {
                return Err(OptionsError::TooManyRules { list });
            }
        }
        let beside_offline = [
            ("allow", !self.allow.is_empty()),
            ("deny", !self.deny.is_empty()),
            ("proxy", self.proxy.is_some()),
            ("max_bytes", self.max_bytes.is_some()),
        ];
        if self.offline
            && let Some((beside, _)) = beside_offline.into_iter().find(|(_, is_set)| *is_set)
        {
            return Err(OptionsError::Offline { beside });
        }
        for (index, rule) in self.allow.iter().enumerate() {
            if let Pattern::Net(net) = &rule.pattern
                && let Some(range) = closed(net)
            {
                return Err(OptionsError::Closed { index, range });
            }
            let mut denies = self.deny.iter().enumerate();
            if let Some((deny, other)) = denies.find(|(_, deny)| includes(deny, rule)) {
                return Err(OptionsError::Denied {
                    index,
                    deny,
                    rule: other.clone(),
                });
            }
        }
        Ok(())
    }
}

/// The range all of `net` lies in, if nothing opens it. Loopback itself is opened by the daemon's
/// `host_loopback`.
fn closed(net: &IpNet) -> Option<String> {
    let has_loopback = net.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST))
        || net.contains(&IpAddr::V6(Ipv6Addr::LOCALHOST));
    address::never_opened(net)
        .filter(|_| !has_loopback)
        .map(ToString::to_string)
}

/// Whether everything `inner` is about is also what `outer` is about. Ports unsaid are all ports.
fn includes(outer: &Rule, inner: &Rule) -> bool {
    let pattern = match (&outer.pattern, &inner.pattern) {
        (Pattern::Any, _) => true,
        (Pattern::Name(outer), Pattern::Name(inner)) => outer == inner,
        (Pattern::Below(outer), Pattern::Below(inner)) if outer == inner => true,
        // Below a name below it, too.
        (Pattern::Below(_), Pattern::Name(inner) | Pattern::Below(inner)) => {
            outer.pattern.names(&Host::Name(inner.clone()))
        }
        (Pattern::Net(outer), Pattern::Net(inner)) => outer.contains(inner),
        (_, _) => false,
    };
    let ports = match (outer.ports, inner.ports) {
        (Ports::Unsaid | Ports::All, _) => true,
        (Ports::Between(first, last), Ports::Between(inner_first, inner_last)) => {
            first <= inner_first && inner_last <= last
        }
        (Ports::Between(first, last), Ports::Unsaid | Ports::All) => (first, last) == (1, u16::MAX),
    };
    pattern && ports
}

/// A proxy on the way to the network. `Debug` and `Display` leave out the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub(super) scheme: ProxyScheme,
    pub(super) host: Host,
    pub(super) port: u16,
    /// User name and password.
    pub(super) credentials: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyScheme {
    /// CONNECT over plain TCP.
    Http,
    /// RFC 1928.
    Socks5,
}

/// Why a text is not a proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Not a URL with a host and a port.
    #[error("is {0:?}, must be http://host:port or socks5://host:port")]
    Server(String),
    /// User name or password in the URL.
    #[error("must not hold a user name or password; they have fields of their own")]
    UserInfo,
    /// Not a user name.
    #[error("must be at most {MAX_CREDENTIAL} bytes, without control characters and ':'")]
    Username,
    /// Not a password, or one without a user name, or none where there must be one.
    #[error(
        "must be at most {MAX_CREDENTIAL} bytes, without control characters, and go with a user \
         name; with socks5 a user name needs one"
    )]
    Password,
}

impl Proxy {
    /// A proxy at `server`, with credentials unless both texts are empty.
    ///
    /// # Errors
    /// What is wrong with it; never repeats the password.
    pub fn new(server: &str, username: &str, password: &str) -> Result<Self, ProxyError> {
        let bad = || ProxyError::Server(shown(server));
        let url = Url::parse(server).map_err(|_| bad())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ProxyError::UserInfo);
        }
        let scheme = match url.scheme() {
            "http" => ProxyScheme::Http,
            "socks5" => ProxyScheme::Socks5,
            _ => return Err(bad()),
        };
        let has_more =
            !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some();
        let port = url
            .port_or_known_default()
            .filter(|&port| port != 0 && !has_more);
        let port = port.ok_or_else(bad)?;
        let host = Host::parse(url.host_str().unwrap_or_default()).map_err(|_| bad())?;
        let is_fine =
            |text: &str| text.len() <= MAX_CREDENTIAL && !text.chars().any(char::is_control);
        if !is_fine(username) || username.contains(':') {
            return Err(ProxyError::Username);
        }
        let goes_with_name = match (username.is_empty(), password.is_empty()) {
            (true, true) | (false, false) => true,
            (true, false) => false,
            // RFC 1929 has no empty password.
            (false, true) => scheme == ProxyScheme::Http,
        };
        if !is_fine(password) || !goes_with_name {
            return Err(ProxyError::Password);
        }
        let credentials =
            (!username.is_empty()).then(|| (username.to_owned(), password.to_owned()));
        Ok(Self {
            scheme,
            host,
            port,
            credentials,
        })
    }

    /// Where it is.
    pub(super) fn target(&self) -> Target {
        Target {
            host: self.host.clone(),
            port: self.port,
        }
    }
}

/// A text that should have been a server, for a message: cut, and without what may be credentials.
fn shown(server: &str) -> String {
    let (hidden, rest) = match server.rsplit_once('@') {
        Some((_, rest)) => ("***@", rest),
        None => ("", server),
    };
    let rest = rest.chars().take(MAX_SHOWN).collect::<String>();
    format!("{hidden}{rest}")
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            ProxyScheme::Http => "http",
            ProxyScheme::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Vec<Rule> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn lists(allow: &[&str], deny: &[&str]) -> NetworkOptions {
        NetworkOptions {
            allow: rules(allow),
            deny: rules(deny),
            ..NetworkOptions::default()
        }
    }

    fn refused(options: &NetworkOptions) -> (String, String) {
        let error = options.validate().unwrap_err();
        (error.field(), error.to_string())
    }

    #[test]
    fn sensible_options_pass() {
        for (allow, deny) in [
            (&[][..], &[][..]),
            (&["*.a.test", "10.0.0.0/8", "*:8080"], &["b.a.test"]),
            (&["a.test"], &["a.test:8080", "*.a.test", "ba.test"]),
            (&["a.test:1-9"], &["a.test:2-9", "10.0.0.0/8"]),
            (&["10.0.0.0/8"], &["10.0.0.0/9", "*.test"]),
            (&["*.test"], &["test", "*.a.test"]),
            (&["127.0.0.1:3000", "[::1]", "localhost", "0.0.0.0/0"], &[]),
            (&["127.0.0.0/8", "[::/0]"], &["224.0.0.1"]),
        ] {
            assert_eq!(lists(allow, deny).validate(), Ok(()), "{allow:?} {deny:?}");
        }
        let offline = NetworkOptions {
            offline: true,
            ..NetworkOptions::default()
        };
        assert_eq!(offline.validate(), Ok(()));
    }

    #[test]
    fn rules_that_can_never_match_are_named() {
        let closed = |range: &str| format!("can never match: nothing opens {range}");
        let denied = |by: &str| format!("can never match: {by} refuses all of it");
        for (allow, deny, message) in [
            ("224.0.0.1", &[][..], closed("multicast 224.0.0.0/4")),
            ("127.0.0.2:80", &[], closed("loopback 127.0.0.0/8")),
            ("[::ffff:8.8.8.8]", &[], closed("ipv4-mapped ::ffff:0:0/96")),
            ("a.test", &["b.test", "a.test"], denied("deny[1] (a.test)")),
            ("a.test", &["*"], denied("deny[0] (*)")),
            ("10.0.0.1:80", &["*:1-80"], denied("deny[0] (*:1-80)")),
            (
                "x.a.test:5",
                &["*.a.test:*"],
                denied("deny[0] (*.a.test:*)"),
            ),
            ("*.x.test", &["*.test"], denied("deny[0] (*.test)")),
            ("*.x.test", &["*.x.test"], denied("deny[0] (*.x.test)")),
            ("[fd00::1]", &["[fd00::/8]"], denied("deny[0] ([fd00::/8])")),
            (
                "a.test:*",
                &["a.test:1-65535"],
                denied("deny[0] (a.test:1-65535)"),
            ),
        ] {
            let expected = ("allow[0]".to_owned(), message);
            assert_eq!(
                refused(&lists(&[allow], deny)),
                expected,
                "{allow} {deny:?}"
            );
        }
        let second = lists(&["good.test", "224.0.0.1"], &[]);
        assert_eq!(refused(&second).0, "allow[1]");
    }

    #[test]
    fn offline_leaves_nothing_to_say() {
        let offline = |mut options: NetworkOptions| {
            options.offline = true;
            refused(&options)
        };
        let proxy = Proxy::new("http://proxy.test:3128", "", "").unwrap();
        for (beside, options) in [
            ("allow", lists(&["a.test"], &[])),
            ("deny", lists(&[], &["a.test"])),
            (
                "proxy",
                NetworkOptions {
                    proxy: Some(proxy),
                    ..NetworkOptions::default()
                },
            ),
            (
                "max_bytes",
                NetworkOptions {
                    max_bytes: Some(Bytes(1)),
                    ..NetworkOptions::default()
                },
            ),
        ] {
            let message = format!("refuses everything already: leave out {beside}, or offline");
            assert_eq!(offline(options), ("offline".to_owned(), message));
        }
    }

    #[test]
    fn lists_are_bounded() {
        let full = vec!["a.test"; MAX_RULES];
        assert_eq!(lists(&full, &[]).validate(), Ok(()));
        let over = vec!["a.test"; MAX_RULES + 1];
        for (field, options) in [("allow", lists(&over, &[])), ("deny", lists(&[], &over))] {
            let message = format!("has more than {MAX_RULES} rules");
            assert_eq!(refused(&options), (field.to_owned(), message));
        }
    }
}
