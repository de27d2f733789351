//! One rule of the config: a pattern of hosts or addresses, and ports, in one short text.
//!
//! ```text
//! rule    = pattern [":" ports]
//! pattern = "*" | name | "*." name | address | cidr     IPv6 in brackets when ports follow
//! ports   = "*" | number | number "-" number
//! ```
//!
//! It does not know whether it allows or denies.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::target::{Host, Target};

/// A pattern with ports, as `example.com`, `*.example.com:8000-8999` or `10.0.0.5:8443`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(super) pattern: Pattern,
    pub(super) ports: Ports,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// Every host.
    Any,
    /// This name.
    Name(String),
    /// Every name below this one, itself not included.
    Below(String),
    /// Every address of this network, however it was named.
    Net(IpNet),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ports {
    /// None written: 80 and 443 when it allows, every port when it denies.
    Unsaid,
    /// Every port.
    All,
    /// These, both ends included.
    Between(u16, u16),
}

/// Why a text is not a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// No host.
    #[error("names no host")]
    Empty,
    /// A whole URL.
    #[error("{written:?} is a URL, and a rule is a host without scheme or path; write {meant}")]
    Url {
        /// As written.
        written: String,
        /// The rule for its host, and its port if it names one.
        meant: String,
    },
    /// Not a host name, and not an address either.
    #[error("{0:?} is neither a host name nor an address")]
    Host(String),
    /// A `*` elsewhere than alone or as the first label.
    #[error("{0:?}: a * stands alone or as the first label, as in *.example.com")]
    Wildcard(String),
    /// An address that is spelt in a way that surprises.
    #[error("{written:?} is the address {meant}; write it so")]
    OddAddress {
        /// As written.
        written: String,
        /// What it means.
        meant: String,
    },
    /// Not a network.
    #[error("{0:?} is not a network; write it as 10.0.0.0/8")]
    Network(String),
    /// Bits beyond the prefix.
    #[error("{written:?} has bits set beyond its prefix; write {meant}")]
    HostBits {
        /// As written.
        written: String,
        /// Without them.
        meant: String,
    },
    /// Not a port.
    #[error("{0:?} is not a port: write 1 to 65535, 8000-8999 or *")]
    Port(String),
    /// Allows what stays closed.
    #[error("nothing opens {0}")]
    Closed(String),
    /// Allows loopback.
    #[error("loopback is opened by host_loopback = [\"PORT\"], not by allow")]
    Loopback,
    /// Sends to the host what stays closed.
    #[error("names only ports that the daemon itself uses inside every session")]
    Reserved,
}

impl Ports {
    pub(super) fn parse(text: &str) -> Result<Self, RuleError> {
        let error = || RuleError::Port(text.to_owned());
        let number = |digits: &str| {
            let is_plain = digits.bytes().all(|b| b.is_ascii_digit());
            let port = digits.parse().ok().filter(|&port: &u16| port != 0);
            port.filter(|_| is_plain).ok_or_else(error)
        };
        if text == "*" {
            return Ok(Self::All);
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(error());
        }
        Ok(Self::Between(first, last))
    }

    /// `None` when the rule says nothing of ports.
    pub(super) fn contains(self, port: u16) -> Option<bool> {
        match self {
            Self::Unsaid => None,
            Self::All => Some(true),
            Self::Between(first, last) => Some((first..=last).contains(&port)),
        }
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, RuleError> {
        if text.is_empty() {
            return Err(RuleError::Empty);
        }
        if text == "*" {
            return Ok(Self::Any);
        }
        if text.contains('/') {
            return parse_net(text).map(Self::Net);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Net(address.into()));
        }
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        if name.contains('*') {
            return Err(RuleError::Wildcard(text.to_owned()));
        }
        match Host::parse(name).map_err(|_| RuleError::Host(text.to_owned()))? {
            Host::Name(name) if below => Ok(Self::Below(name)),
            Host::Name(name) => Ok(Self::Name(name)),
            Host::Address(_) if below => Err(RuleError::Wildcard(text.to_owned())),
            Host::Address(address) => Err(RuleError::OddAddress {
                written: text.to_owned(),
                meant: address.to_string(),
            }),
        }
    }

    /// Whether it is about `host` by its name.
    pub(super) fn names(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Name(name), Host::Name(host)) => name == host,
            (Self::Below(name), Host::Name(host)) => host
                .strip_suffix(name.as_str())
                .is_some_and(|rest| rest.ends_with('.')),
            (Self::Name(_) | Self::Below(_), Host::Address(_)) | (Self::Net(_), _) => false,
        }
    }

    /// Whether it is about addresses, and so needs to know them.
    pub(super) fn is_net(&self) -> bool {
        matches!(self, Self::Net(_))
    }

    /// Whether it is about `address`.
    pub(super) fn covers(&self, address: IpAddr) -> bool {
        matches!(self, Self::Net(net) if net.contains(&address))
    }
}

/// What is wrong with `text`, a URL with `rest` after its scheme.
fn url(text: &str, rest: &str) -> RuleError {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    match host.parse::<Rule>() {
        Ok(rule) => RuleError::Url {
            written: text.to_owned(),
            meant: rule.to_string(),
        },
        Err(_) => RuleError::Host(text.to_owned()),
    }
}

fn parse_net(text: &str) -> Result<IpNet, RuleError> {
    let net: IpNet = text
        .parse()
        .map_err(|_| RuleError::Network(text.to_owned()))?;
    if net.trunc() != net {
        return Err(RuleError::HostBits {
            written: text.to_owned(),
            meant: net.trunc().to_string(),
        });
    }
    Ok(net)
}

impl Rule {
    /// Whether it is about `target` as it was asked for. Ports unsaid are all ports.
    pub(super) fn names(&self, target: &Target) -> bool {
        self.pattern.names(&target.host) && self.is_about_port(target.port)
    }

    /// Whether it is about this port of `address`. Ports unsaid are all ports.
    pub(super) fn is_about(&self, address: IpAddr, port: u16) -> bool {
        self.pattern.covers(address) && self.is_about_port(port)
    }

    /// Whether it is about this port of anything. Ports unsaid are all ports.
    pub(super) fn is_about_port(&self, port: u16) -> bool {
        self.ports.contains(port) != Some(false)
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        if let Some((_, rest)) = text.split_once("://") {
            return Err(url(text, rest));
        }
        let (pattern, ports) = if let Some(rest) = text.strip_prefix('[') {
            let (inside, after) = rest
                .split_once(']')
                .ok_or_else(|| RuleError::Host(text.to_owned()))?;
            if !inside.contains(':') {
                return Err(RuleError::Host(text.to_owned()));
            }
            match after.strip_prefix(':') {
                Some(ports) => (inside, Some(ports)),
                None if after.is_empty() => (inside, None),
                None => return Err(RuleError::Host(text.to_owned())),
            }
        } else if text.matches(':').count() > 1 {
            // Only IPv6 has more than one colon; a port would need brackets.
            (text, None)
        } else {
            match text.split_once(':') {
                Some((pattern, ports)) => (pattern, Some(ports)),
                None => (text, None),
            }
        };
        Ok(Self {
            pattern: Pattern::parse(pattern)?,
            ports: ports.map_or(Ok(Ports::Unsaid), Ports::parse)?,
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            Pattern::Any => f.write_str("*")?,
            Pattern::Name(name) => f.write_str(name)?,
            Pattern::Below(name) => write!(f, "*.{name}")?,
            Pattern::Net(net) => {
                let text = if net.prefix_len() == net.max_prefix_len() {
                    net.addr().to_string()
                } else {
                    net.to_string()
                };
                match net {
                    IpNet::V4(_) => f.write_str(&text)?,
                    IpNet::V6(_) => write!(f, "[{text}]")?,
                }
            }
        }
        match self.ports {
            Ports::Unsaid => Ok(()),
            ports => write!(f, ":{ports}"),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsaid => Ok(()),
            Self::All => f.write_str("*"),
            Self::Between(first, last) if first == last => write!(f, "{first}"),
            Self::Between(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|error| de::Error::custom(format!("egress rule {text:?}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rules_read_back_as_written() {
        for text in [
            "*",
            "*:8443",
            "example.com",
            "*.example.com",
            "example.com:*",
            "a.b:8000-8999",
            "10.0.0.5:8443",
            "10.0.0.0/8",
            "0.0.0.0/0:*",
            "[fd00::1]:443",
            "[fd00::/8]",
        ] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        for (text, canonical) in [
            ("Example.COM.", "example.com"),
            ("b\u{fc}cher.example", "xn--bcher-kva.example"),
            ("fd00::1", "[fd00::1]"),
            ("fd00::/8", "[fd00::/8]"),
            ("10.0.0.5/32:1-1", "10.0.0.5:1"),
        ] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, message) in [
            ("", "names no host"),
            (":80", "names no host"),
            ("a b", r#""a b" is neither a host name nor an address"#),
            (
                "http://a.com/",
                r#""http://a.com/" is a URL, and a rule is a host without scheme or path; write a.com"#,
            ),
            (
                "https://me@*.a.com:8443/b://c?d",
                r#""https://me@*.a.com:8443/b://c?d" is a URL, and a rule is a host without scheme or path; write *.a.com:8443"#,
            ),
            (
                "http://[::1]/",
                r#""http://[::1]/" is a URL, and a rule is a host without scheme or path; write [::1]"#,
            ),
            (
                "http://",
                r#""http://" is neither a host name nor an address"#,
            ),
            (
                "a.*.com",
                r#""a.*.com": a * stands alone or as the first label, as in *.example.com"#,
            ),
            (
                "*.*",
                r#""*.*": a * stands alone or as the first label, as in *.example.com"#,
            ),
            (
                "*.10.0.0.1",
                r#""*.10.0.0.1": a * stands alone or as the first label, as in *.example.com"#,
            ),
            (
                "0x7f.1",
                r#""0x7f.1" is the address 127.0.0.1; write it so"#,
            ),
            (
                "10.0.0.0/33",
                r#""10.0.0.0/33" is not a network; write it as 10.0.0.0/8"#,
            ),
            (
                "10.0.0.5/8",
                r#""10.0.0.5/8" has bits set beyond its prefix; write 10.0.0.0/8"#,
            ),
            (
                "a.com:0",
                r#""0" is not a port: write 1 to 65535, 8000-8999 or *"#,
            ),
            (
                "a.com:",
                r#""" is not a port: write 1 to 65535, 8000-8999 or *"#,
            ),
            (
                "a.com:9-8",
                r#""9-8" is not a port: write 1 to 65535, 8000-8999 or *"#,
            ),
            (
                "a.com:+80",
                r#""+80" is not a port: write 1 to 65535, 8000-8999 or *"#,
            ),
            (
                "[fd00::1",
                r#""[fd00::1" is neither a host name nor an address"#,
            ),
            (
                "[fd00::1]80",
                r#""[fd00::1]80" is neither a host name nor an address"#,
            ),
            (
                "[a.com]:80",
                r#""[a.com]:80" is neither a host name nor an address"#,
            ),
        ] {
            let error = text.parse::<Rule>().map_err(|e| e.to_string());
            assert_eq!(error, Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_pattern_below_a_name_needs_the_dot() {
        let names = |rule: &str, host: &str| {
            let rule: Rule = rule.parse().unwrap();
            rule.pattern.names(&Host::parse(host).unwrap())
        };
        assert!(names("*.example.com", "a.b.example.com"));
        assert!(!names("*.example.com", "example.com"));
        assert!(!names("*.example.com", "badexample.com"));
        assert!(names("example.com", "EXAMPLE.com."));
        assert!(!names("example.com", "a.example.com"));
        assert!(!names("10.0.0.1", "10.0.0.1"));
        assert!(names("*", "10.0.0.1"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_rule_that_reads_back_or_an_error(text in "\\PC{0,30}") {
            if let Ok(rule) = text.parse::<Rule>() {
                prop_assert_eq!(rule.to_string().parse::<Rule>(), Ok(rule));
            }
        }

        #[test]
        fn likely_texts_are_rules_that_read_back(
            text in "(\\*\\.)?[a-z0-9.\\-]{1,12}(/[0-9]{1,2})?(:[0-9*]{1,5}(-[0-9]{1,5})?)?"
        ) {
            if let Ok(rule) = text.parse::<Rule>() {
                prop_assert_eq!(rule.to_string().parse::<Rule>(), Ok(rule));
            }
        }

        #[test]
        fn networks_read_back(bits: u128, prefix in 0u8..=128, v4: bool, port: Option<u16>) {
            let net = if v4 {
                IpNet::new(IpAddr::V4((bits as u32).into()), prefix % 33).unwrap()
            } else {
                IpNet::new(IpAddr::V6(bits.into()), prefix).unwrap()
            };
            let port = port.filter(|&p| p != 0);
            let rule = Rule {
                pattern: Pattern::Net(net.trunc()),
                ports: port.map_or(Ports::Unsaid, |p| Ports::Between(p, p)),
            };
            prop_assert_eq!(rule.to_string().parse::<Rule>(), Ok(rule));
        }
    }
}
