//! The rules as `docs/egress.md` has them, decided slowly and from their texts: what the policy is
//! held against. Shares with it only the table of special ranges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::egress::address::{self, Openable};
use crate::egress::{Config, NetworkOptions, Policy, Rule};

/// The rules of a daemon and of a session, as written.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) allow: Vec<String>,
    pub(super) deny: Vec<String>,
    /// Single ports.
    pub(super) host_loopback: Vec<u16>,
    /// Of `localhost`, the daemon's own inside a session.
    pub(super) reserved: Vec<u16>,
    /// Of this host, the daemon's own.
    pub(super) protected: Vec<u16>,
    pub(super) own_addresses: Vec<IpAddr>,
    pub(super) session_allow: Vec<String>,
    pub(super) session_deny: Vec<String>,
    pub(super) offline: bool,
}

/// Where a request ends up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    OwnLoopback,
    HostLoopback,
    Outside,
    Nowhere,
}

/// What a request asks for: a name in lower case without a last dot, or an address as it is printed.
struct Asked<'a> {
    host: &'a str,
    port: u16,
}

impl Model {
    /// The same rules as the daemon and the session are given them.
    pub(super) fn real(&self) -> (Config, Policy, NetworkOptions) {
        let config = Config {
            allow: rules(&self.allow),
            deny: rules(&self.deny),
            host_loopback: self.host_loopback.iter().map(u16::to_string).collect(),
            ..Config::default()
        };
        let policy = Policy::new(&config)
            .and_then(|policy| policy.reserve(&self.reserved))
            .expect("a config of ours")
            .with_host_addresses(&self.own_addresses);
        let protected = self.protected.iter();
        let policy = protected.fold(policy, |policy, port| policy.protect(*port));
        let options = NetworkOptions {
            allow: rules(&self.session_allow),
            deny: rules(&self.session_deny),
            offline: self.offline,
            ..NetworkOptions::default()
        };
        (config, policy, options)
    }

    /// Of a request for `host`, whose name has these addresses, or which is the only one of them.
    pub(super) fn place(&self, host: &str, port: u16, addresses: &[IpAddr]) -> Place {
        let asked = Asked { host, port };
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        let is_localhost = host == "localhost"
            || host.ends_with(".localhost")
            || loopback.iter().any(|address| address.to_string() == host);
        if is_localhost {
            if self.reserved.contains(&port) {
                return Place::Nowhere;
            }
            if !self.host_loopback.contains(&port) {
                return Place::OwnLoopback;
            }
            let refused = self.offline
                || self.protected.contains(&port)
                || self.is_denied(&asked, &loopback)
                || !(self.session_allow.is_empty()
                    || self.session_allow.iter().any(|rule| {
                        names(rule, &asked) || loopback.iter().any(|&a| covers(rule, a, port))
                    }));
            return if refused {
                Place::Nowhere
            } else {
                Place::HostLoopback
            };
        }
        // An address that carries another one is both.
        let every: Vec<IpAddr> = addresses.iter().flat_map(|a| carried(*a)).collect();
        let is_open = |address: &IpAddr| self.is_open(&asked, *address);
        let in_allow_list = self.session_allow.is_empty()
            || self.session_allow.iter().any(|rule| names(rule, &asked))
            || addresses
                .iter()
                .all(|&a| self.session_allow.iter().any(|rule| covers(rule, a, port)));
        let passes = !self.offline
            && !addresses.is_empty()
            && !self.is_denied(&asked, &every)
            && every.iter().all(is_open)
            && in_allow_list;
        if passes {
            Place::Outside
        } else {
            Place::Nowhere
        }
    }

    fn is_denied(&self, asked: &Asked<'_>, addresses: &[IpAddr]) -> bool {
        self.deny.iter().chain(&self.session_deny).any(|rule| {
            names(rule, asked) || addresses.iter().any(|&a| covers(rule, a, asked.port))
        })
    }

    fn is_open(&self, asked: &Asked<'_>, address: IpAddr) -> bool {
        let is_own = self.own_addresses.contains(&address);
        if is_own && self.protected.contains(&asked.port) {
            return false;
        }
        // An `allow` entry without ports is about 80 and 443.
        let opening = |rule: &&String| ports(rule).is_some() || [80, 443].contains(&asked.port);
        let opening: Vec<&String> = self.allow.iter().filter(opening).collect();
        let by_address = opening.iter().any(|rule| covers(rule, address, asked.port));
        let by_name = opening
            .iter()
            .any(|rule| names(rule, asked) && pattern(rule) != "*");
        let by_star = opening
            .iter()
            .any(|rule| names(rule, asked) && pattern(rule) == "*");
        match address::special(address).map(|range| range.openable) {
            Some(Openable::Never) => false,
            _ if is_own => by_address,
            Some(Openable::ByAddress) => by_address,
            Some(Openable::ByName) => by_address || by_name,
            None => [80, 443].contains(&asked.port) || by_address || by_name || by_star,
        }
    }
}

fn rules(texts: &[String]) -> Vec<Rule> {
    let rules = texts.iter().map(|text| text.parse());
    rules.collect::<Result<_, _>>().expect("rules of ours")
}

/// What stands before the ports.
fn pattern(rule: &str) -> &str {
    match rule.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => rule.split(':').next().unwrap_or(""),
    }
}

fn ports(rule: &str) -> Option<(u16, u16)> {
    let after = match rule.rfind(']') {
        Some(bracket) => &rule[bracket + 1..],
        None => &rule[rule.find(':')?..],
    };
    let text = after.strip_prefix(':')?;
    if text == "*" {
        return Some((1, u16::MAX));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}

fn is_about_port(rule: &str, port: u16) -> bool {
    ports(rule).is_none_or(|(first, last)| first <= port && port <= last)
}

fn names(rule: &str, asked: &Asked<'_>) -> bool {
    let is_name = asked.host.parse::<IpAddr>().is_err();
    let pattern = pattern(rule);
    let named = match pattern.strip_prefix('*') {
        Some("") => true,
        // With its dot.
        Some(end) => is_name && asked.host.ends_with(end),
        None => is_name && asked.host == pattern,
    };
    named && is_about_port(rule, asked.port)
}

/// Whether it is a rule about addresses, and about this one: bit for bit.
fn covers(rule: &str, address: IpAddr, port: u16) -> bool {
    let pattern = pattern(rule);
    let (net, length) = match pattern.split_once('/') {
        Some((net, length)) => (net, length.parse().unwrap_or(0)),
        None => (pattern, 128),
    };
    let (Ok(net), true) = (net.parse::<IpAddr>(), is_about_port(rule, port)) else {
        return false;
    };
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => format!("{:032b}", u32::from(v4)),
        IpAddr::V6(v6) => format!("{:0128b}", u128::from(v6)),
    };
    let (net, address) = (bits(net), bits(address));
    net.len() == address.len()
        && net
            .chars()
            .zip(address.chars())
            .take(length)
            .all(|(a, b)| a == b)
}

/// The address, and the IPv4 address in it that a translator would make of it.
fn carried(address: IpAddr) -> Vec<IpAddr> {
    let text = match address {
        IpAddr::V4(_) => String::new(),
        IpAddr::V6(v6) if u128::from(v6) < 2 => String::new(),
        IpAddr::V6(v6) => format!("{:032x}", u128::from(v6)),
    };
    let at = match &text {
        text if text.starts_with("0064ff9b0000000000000000") => Some(24),
        text if text.starts_with("00000000000000000000ffff") => Some(24),
        text if text.starts_with("000000000000000000000000") => Some(24),
        text if text.starts_with("2002") => Some(4),
        _ => None,
    };
    let inner = at.and_then(|at| u32::from_str_radix(&text[at..at + 8], 16).ok());
    let inner = inner.map(|bits| IpAddr::V4(Ipv4Addr::from(bits)));
    std::iter::once(address).chain(inner).collect()
}
