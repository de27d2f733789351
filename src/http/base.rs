//! By which URL a caller reached the daemon, and whether that is one of its own.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use ipnet::IpNet;
use url::Url;

use super::{ApiError, Config, Gateway};
use crate::cdp;

/// The connection a request came by; the server puts it into the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who connected.
    pub address: IpAddr,
    /// To which address of this host.
    pub reached: IpAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

impl Peer {
    /// A caller in this process.
    pub const LOCAL: Self = Self {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        reached: IpAddr::V4(Ipv4Addr::LOCALHOST),
        tls: false,
    };
}

/// How the daemon is reached: the section `[http]`, read.
#[derive(Clone, Debug, Default)]
pub struct Front {
    public: Option<Base>,
    trusted: Vec<IpNet>,
    /// Origins whose pages may call.
    pub(super) cors: Vec<String>,
    /// Which pages may show the live view in a frame.
    pub(super) frame_ancestors: String,
}

impl Front {
    /// Of a section that was found valid.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let public = Url::parse(&config.public_url).ok();
        let sources: Vec<&str> = config.frame_ancestors.split_ascii_whitespace().collect();
        Self {
            public: public.map(|url| Base {
                secure: url.scheme() == "https",
                authority: url.authority().to_owned(),
            }),
            trusted: config.trusted_proxies.clone(),
            cors: config.cors_origins.clone(),
            frame_ancestors: sources.join(" "),
        }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|net| net.contains(&address))
    }

    /// By which URL the caller reached the daemon; `None` when the request does not say, or says
    /// two things.
    pub(super) fn base(&self, peer: Peer, uri: &Uri, headers: &HeaderMap) -> Option<Base> {
        let named = named_host(uri, headers)?;
        if let Some(public) = &self.public {
            return Some(public.clone());
        }
        Some(self.asked(peer, named, headers))
    }

    /// The same, whatever the public URL is.
    fn asked(&self, peer: Peer, named: Authority, headers: &HeaderMap) -> Base {
        let told = if self.trusts(peer.address) {
            Told::read(headers, |address| self.trusts(address))
        } else {
            Told::default()
        };
        Base {
            secure: told.secure.unwrap_or(peer.tls),
            authority: told.host.unwrap_or(named).to_string(),
        }
    }

    /// Whether the request names this daemon: a page of an attacker's domain, whose DNS leads here,
    /// names the domain.
    pub(super) fn is_named(&self, peer: Peer, uri: &Uri, headers: &HeaderMap) -> bool {
        let Some(named) = named_host(uri, headers) else {
            return false;
        };
        let asked = self.asked(peer, named.clone(), headers);
        self.owns(peer, named.as_str()) && self.owns(peer, &asked.authority)
    }

    fn owns(&self, peer: Peer, authority: &str) -> bool {
        let public = self.public.as_ref();
        if public.is_some_and(|public| public.authority.eq_ignore_ascii_case(authority)) {
            return true;
        }
        let Ok(parsed) = authority.parse::<Authority>() else {
            return false;
        };
        let host = parsed.host();
        let is_address = || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        // An address in a URL is no name that DNS could turn.
        cdp::is_loopback_name(host) || (!peer.reached.to_canonical().is_loopback() && is_address())
    }

    /// The origin of pages that the daemon itself serves to this caller, when the request names it.
    pub(super) fn own_origin(&self, peer: Peer, uri: &Uri, headers: &HeaderMap) -> Option<String> {
        self.is_named(peer, uri, headers)
            .then(|| self.base(peer, uri, headers))?
            .map(|base| base.origin())
    }
}

/// Scheme, host and port of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    secure: bool,
    authority: String,
}

impl Base {
    /// `http(s)://host:port`.
    pub(super) fn origin(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.authority)
    }

    /// `ws(s)://host:port` and a path.
    pub(super) fn socket(&self, path: &str) -> String {
        let scheme = if self.secure { "wss" } else { "ws" };
        format!("{scheme}://{}{path}", self.authority)
    }
}

impl<S> FromRequestParts<S> for Base
where
    S: Send + Sync,
    Gateway: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let front: Arc<Front> = Gateway::from_ref(state).front;
        let base = front.base(peer_of(&parts.extensions), &parts.uri, &parts.headers);
        base.ok_or_else(|| {
            let message = "the request does not say by which host it reached the daemon";
            ApiError::new(StatusCode::BAD_REQUEST, message)
        })
    }
}

/// The connection a request came by.
pub(super) fn peer_of(extensions: &axum::http::Extensions) -> Peer {
    extensions.get().copied().unwrap_or(Peer::LOCAL)
}

/// The host a request names: once, or twice the same.
fn named_host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let mut named: Vec<Authority> = uri.authority().cloned().into_iter().collect();
    for host in headers.get_all(header::HOST) {
        named.push(host.to_str().ok()?.parse().ok()?);
    }
    let first = named.pop()?;
    let plain = !first.as_str().contains('@');
    let agreed = named
        .iter()
        .all(|other| other.as_str().eq_ignore_ascii_case(first.as_str()));
    (plain && agreed).then_some(first)
}

/// What a proxy in front says of the request it got.
#[derive(Default)]
struct Told {
    secure: Option<bool>,
    host: Option<Authority>,
}

impl Told {
    /// Of `Forwarded`, from the nearest proxy on as far as proxies are trusted; else of the last
    /// value of each `X-Forwarded-*`, which the nearest one has set.
    fn read(headers: &HeaderMap, trusts: impl Fn(IpAddr) -> bool) -> Self {
        let forwarded = list(headers, "forwarded");
        let mut told = Self::default();
        for element in forwarded.iter().rev() {
            told = Self::default();
            let mut sender = None;
            for pair in element.split(';') {
                let Some((key, value)) = pair.split_once('=') else {
                    continue;
                };
                let value = value.trim().trim_matches('"');
                match key.trim().to_ascii_lowercase().as_str() {
                    "proto" => told.secure = secure(value),
                    "host" => told.host = value.parse().ok(),
                    "for" => sender = address(value),
                    _ => {}
                }
            }
            if !sender.is_some_and(&trusts) {
                break;
            }
        }
        if !forwarded.is_empty() {
            return told;
        }
        let last = |name| list(headers, name).pop();
        Self {
            secure: last("x-forwarded-proto").and_then(|value| secure(&value)),
            host: last("x-forwarded-host").and_then(|value| value.parse().ok()),
        }
    }
}

/// The elements of a header's list, in order.
fn list(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|element| element.trim().to_owned())
        .filter(|element| !element.is_empty())
        .collect()
}

fn secure(scheme: &str) -> Option<bool> {
    match scheme.to_ascii_lowercase().as_str() {
        "https" => Some(true),
        "http" => Some(false),
        _ => None,
    }
}

/// Of `for=`: an address, in brackets if it is IPv6, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let host = match text.parse::<Authority>() {
        Ok(authority) => authority.host().to_owned(),
        Err(_) => text.to_owned(),
    };
    host.trim_matches(['[', ']']).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let entries = list.iter();
        entries
            .map(|(name, value)| {
                let name = axum::http::HeaderName::from_static(name);
                (name, value.parse().unwrap())
            })
            .collect()
    }

    fn front(public_url: &str, trusted: &[&str]) -> Front {
        Front::new(&Config {
            public_url: public_url.to_owned(),
            trusted_proxies: trusted.iter().map(|net| net.parse().unwrap()).collect(),
            ..Config::default()
        })
    }

    fn origin(front: &Front, list: &[(&'static str, &str)]) -> String {
        let base = front.base(Peer::LOCAL, &Uri::from_static("/"), &headers(list));
        base.map(|base| base.origin()).unwrap_or_default()
    }

    const HOST: (&str, &str) = ("host", "localhost:7370");

    #[test]
    fn the_base_is_the_public_url_or_what_the_request_says() {
        let plain = front("", &[]);
        assert_eq!(origin(&plain, &[HOST]), "http://localhost:7370");
        assert_eq!(origin(&plain, &[]), "");
        let said = [
            HOST,
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("forwarded", "proto=https;host=evil.example"),
        ];
        assert_eq!(origin(&plain, &said), "http://localhost:7370");
        let fixed = front("https://p.example/", &["127.0.0.0/8"]);
        assert_eq!(origin(&fixed, &said), "https://p.example");
    }

    #[test]
    fn proxies_are_believed_as_far_as_they_are_trusted() {
        let front = front("", &["127.0.0.0/8", "10.0.0.0/8"]);
        for (said, expected) in [
            ("proto=https;host=a.example", "https://a.example"),
            (
                "Proto=HTTPS; Host=\"a.example:8443\"",
                "https://a.example:8443",
            ),
            // The nearest proxy's word is the last; what stands before it is its caller's.
            (
                "host=evil.example, for=1.2.3.4;host=a.example",
                "http://a.example",
            ),
            (
                "host=evil.example, for=1.2.3.4;proto=https;host=a.example, for=\"10.1.1.1:80\";host=b",
                "https://a.example",
            ),
        ] {
            assert_eq!(origin(&front, &[HOST, ("forwarded", said)]), expected);
        }
        let said = [
            HOST,
            ("x-forwarded-proto", "http, https"),
            ("x-forwarded-host", "evil.example, a.example"),
        ];
        assert_eq!(origin(&front, &said), "https://a.example");
    }

    #[test]
    fn only_its_own_names_name_the_daemon() {
        let front = front("https://p.example", &["10.0.0.0/8"]);
        let outside = Peer {
            reached: "192.168.1.5".parse().unwrap(),
            ..Peer::LOCAL
        };
        let named = |peer, list: &[(&'static str, &str)]| {
            front.is_named(peer, &Uri::from_static("/"), &headers(list))
        };
        for host in [
            "localhost",
            "LocalHost:1",
            "127.0.0.1:7370",
            "[::1]:80",
            "p.example",
        ] {
            assert!(named(Peer::LOCAL, &[("host", host)]), "{host}");
        }
        for host in [
            "evil.example",
            "p.example.evil",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "x@localhost",
            "192.168.1.5:7370",
            "",
        ] {
            assert!(!named(Peer::LOCAL, &[("host", host)]), "{host}");
        }
        assert!(!named(Peer::LOCAL, &[]));
        let two = [("host", "localhost"), ("host", "evil.example")];
        let mut both = HeaderMap::new();
        for (name, value) in two {
            both.append(name, value.parse().unwrap());
        }
        assert!(!front.is_named(Peer::LOCAL, &Uri::from_static("/"), &both));
        // An address is what it is, on a listener that is not loopback's.
        assert!(named(outside, &[("host", "192.168.1.5:7370")]));
        assert!(!named(outside, &[("host", "evil.example")]));
        let by_proxy = Peer {
            address: "10.0.0.1".parse().unwrap(),
            ..Peer::LOCAL
        };
        let said = [("host", "localhost"), ("x-forwarded-host", "evil.example")];
        assert!(!named(by_proxy, &said));
    }
}
