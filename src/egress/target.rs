//! Who a request wants to reach: one host and one port, in one spelling.
//!
//! Hosts are read as browsers read them (WHATWG), so `0x7f.1`, `2130706433`, `127.0.0.1.` and
//! `%3127.0.0.1` all become the address they mean before any rule sees them. What comes out is used
//! for the rules, the connection and the `Host` header alike: there is no second reading.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::BadTarget;

/// A host in its one spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Host {
    /// A name: lower case, ASCII, without the trailing dot.
    Name(String),
    /// A literal address.
    Address(IpAddr),
}

impl Host {
    /// Reads a host as it stands in a URL; IPv6 in brackets.
    pub(super) fn parse(text: &str) -> Result<Self, BadTarget> {
        let name = match url::Host::parse(text).map_err(|_| BadTarget::Host)? {
            url::Host::Ipv4(address) => return Ok(Self::Address(address.into())),
            url::Host::Ipv6(address) => return Ok(Self::Address(address.into())),
            url::Host::Domain(name) => name,
        };
        let name = name.strip_suffix('.').unwrap_or(&name);
        let labels_are_good = name.len() <= 253 && name.split('.').all(is_label);
        // Read again: what was a name must not have become an address by losing its dot.
        let reads_the_same =
            url::Host::parse(name).is_ok_and(|again| again == url::Host::Domain(name.to_owned()));
        if labels_are_good && reads_the_same {
            Ok(Self::Name(name.to_owned()))
        } else {
            Err(BadTarget::Host)
        }
    }

    /// `localhost`, `*.localhost`, 127.0.0.1 and ::1: what a page means by "this machine".
    pub(super) fn is_localhost(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost" || name.ends_with(".localhost"),
            Self::Address(address) => {
                *address == IpAddr::V4(Ipv4Addr::LOCALHOST)
                    || *address == IpAddr::V6(Ipv6Addr::LOCALHOST)
            }
        }
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    /// The host.
    pub(super) host: Host,
    /// The port, never 0.
    pub(super) port: u16,
}

impl Target {
    /// The host's or the session's own loopback, as policy decides.
    pub(super) fn localhost(port: u16) -> Self {
        Self {
            host: Host::Name("localhost".to_owned()),
            port,
        }
    }

    /// Reads the authority of a request line. Without `default_port` the port must be there.
    pub(super) fn parse(authority: &str, default_port: Option<u16>) -> Result<Self, BadTarget> {
        if authority.contains('@') {
            return Err(BadTarget::UserInfo);
        }
        let host_end = match authority.find(']') {
            Some(bracket) => bracket + 1,
            None => authority.find(':').unwrap_or(authority.len()),
        };
        let (host, rest) = authority.split_at(host_end);
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => default_port,
            None => return Err(BadTarget::Host),
            Some("") => default_port,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
            Some(_) => None,
        };
        let port = port.filter(|&port| port != 0).ok_or(BadTarget::Port)?;
        let host = Host::parse(host)?;
        Ok(Self { host, port })
    }

    /// The `Host` header of a plain http request.
    pub(super) fn host_header(&self) -> String {
        if self.port == 80 {
            self.host.to_string()
        } else {
            self.to_string()
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(text: &str) -> Result<String, BadTarget> {
        Host::parse(text).map(|host| host.to_string())
    }

    #[test]
    fn odd_spellings_become_the_address_they_mean() {
        for text in [
            "127.0.0.1",
            "127.0.0.1.",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0X7F.0.0.0x1",
            "0177.0.0.1",
            "017700000001",
            "%31%32%37.0.0.1",
            "127.0.0.%31",
            "%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1",
            "127%E3%80%820.0.1",
            "0x7f.1.",
        ] {
            assert_eq!(host(text), Ok("127.0.0.1".to_owned()), "{text}");
        }
        assert_eq!(host("[::1]"), Ok("[::1]".to_owned()));
        assert_eq!(host("[0:0:0:0:0:0:0:1]"), Ok("[::1]".to_owned()));
        assert_eq!(host("[::127.0.0.1]"), Ok("[::7f00:1]".to_owned()));
        assert_eq!(
            host("[::ffff:127.0.0.1]"),
            Ok("[::ffff:127.0.0.1]".to_owned())
        );
    }

    #[test]
    fn names_have_one_spelling() {
        for text in [
            "Example.COM",
            "example.com.",
            "%65xample.com",
            "ex\u{ff41}mple.com",
        ] {
            assert_eq!(host(text), Ok("example.com".to_owned()), "{text}");
        }
        assert_eq!(
            host("b\u{fc}cher.example"),
            Ok("xn--bcher-kva.example".to_owned())
        );
        assert_eq!(host("LOCALHOST."), Ok("localhost".to_owned()));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = format!("{}.com", "a".repeat(64));
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a..",
            "127.0.0.1..",
            "a b",
            "a/b",
            "a%2fb",
            "a%00b",
            "a%2531",
            "[::1",
            "::1",
            "[::1%25lo]",
            "[fe80::1%lo]",
            "[v1.a]",
            "1.2.3.4.5",
            "256.1.1.1",
            "0x100000000",
            "1.2.3.08",
            "*.example.com",
            "a*b",
            "a@b",
            &long,
        ] {
            assert!(host(text).is_err(), "{text}: {:?}", host(text));
        }
    }

    #[test]
    fn authorities_give_host_and_port() {
        let parse = |text: &str, port| Target::parse(text, port).map(|t| t.to_string());
        assert_eq!(parse("a.com", Some(80)), Ok("a.com:80".to_owned()));
        assert_eq!(parse("a.com:", Some(80)), Ok("a.com:80".to_owned()));
        assert_eq!(parse("a.com:8080", Some(80)), Ok("a.com:8080".to_owned()));
        assert_eq!(parse("[2606::1]:443", None), Ok("[2606::1]:443".to_owned()));
        for (text, error) in [
            ("a.com", BadTarget::Port),
            ("a.com:0", BadTarget::Port),
            ("a.com:65536", BadTarget::Port),
            ("a.com:+80", BadTarget::Port),
            ("a.com:80:90", BadTarget::Port),
            ("u@a.com:80", BadTarget::UserInfo),
            ("u:p@a.com:80", BadTarget::UserInfo),
            ("[::1]x:80", BadTarget::Host),
            (":80", BadTarget::Host),
        ] {
            assert_eq!(parse(text, None), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_host_that_was_read_reads_the_same_again(text in "\\PC{0,30}") {
            if let Ok(host) = Host::parse(&text) {
                prop_assert_eq!(Host::parse(&host.to_string()), Ok(host));
            }
        }

        #[test]
        fn authorities_never_panic(text in "\\PC{0,40}") {
            let _ = Target::parse(&text, Some(80));
        }

        #[test]
        fn every_number_form_of_an_address_is_that_address(number: u32) {
            let address = Host::Address(Ipv4Addr::from(number).into());
            let [a, b, c, d] = number.to_be_bytes();
            for text in [
                format!("{number}"),
                format!("{number:#x}"),
                format!("0{number:o}"),
                format!("{a:#x}.0{b:o}.{}", u16::from_be_bytes([c, d])),
                format!("{a}.{b}.{c}.{d}."),
            ] {
                prop_assert_eq!(Host::parse(&text), Ok(address.clone()), "{}", text);
            }
        }
    }
}
