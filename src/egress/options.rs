//! What one session asks of its network.

use std::fmt;

use url::Url;

use super::Rule;
use super::target::{Host, Target};
use crate::limits::Bytes;

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
