//! Who may be reached: the decision, and nothing else.
//!
//! Two steps, because a name must be judged before it is looked up (a refused name never reaches a
//! DNS server) and its addresses after it. Knows no sockets; the one thing it reads from the host is
//! the list of the host's own addresses.
//!
//! A request passes only if *every* address of the answer passes. Using the good ones of a mixed
//! answer would be safe too, but such an answer is what DNS rebinding looks like, and a refusal
//! says so where a connection that works now and then does not.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::address::{self, Openable, Range};
use super::host_addresses::HostAddresses;
use super::rules::{Pattern, Ports, Rule, RuleError};
use super::target::{Host, Target};
use super::{Config, Error, Proxy};

/// Open on public hosts without any rule: http and https.
const DEFAULT_PORTS: [u16; 2] = [80, 443];
/// Ports of the host's loopback that each session gets a listener for.
const MAX_RELAYED_PORTS: usize = 64;

/// The rules of one daemon.
#[derive(Debug)]
pub struct Policy {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
    host_loopback: Vec<Ports>,
    protected: BTreeSet<u16>,
    reserved: BTreeSet<u16>,
    host_addresses: HostAddresses,
}

/// Where an allowed request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// To the addresses its host has, once they are checked.
    Outside,
    /// To the same port of the host's own loopback.
    HostLoopback,
    /// To the same port of the session's own loopback. No rule of the session applies to it.
    OwnLoopback,
}

/// Why a request is refused. `Display` gives the rule's name, as in the header of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// A `deny` rule matches.
    Denied(Rule),
    /// No rule opens this port.
    Port(u16),
    /// An address lies in a special-purpose range, named here.
    Range(String),
    /// An address is one of the host's own.
    HostAddress,
    /// One of the daemon's own ports, on this host or inside the session.
    ProtectedPort,
    /// The host's own addresses could not be read, so nothing can be told from them.
    HostAddressesUnknown,
    /// A `deny` rule of the session matches.
    SessionDenied(Rule),
    /// The session has `allow` rules, and none matches.
    SessionAllow,
    /// The session is offline.
    Offline,
    /// The session has used up its bytes.
    ByteLimit,
    /// This entry of the block list.
    Blocked(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(rule) => write!(f, "deny {rule}"),
            Self::Port(port) => write!(f, "port {port}"),
            Self::Range(range) => f.write_str(range),
            Self::HostAddress => f.write_str("host-address"),
            Self::ProtectedPort => f.write_str("protected-port"),
            Self::HostAddressesUnknown => f.write_str("host-addresses-unknown"),
            Self::SessionDenied(rule) => write!(f, "session deny {rule}"),
            Self::SessionAllow => f.write_str("session allow"),
            Self::Offline => f.write_str("offline"),
            Self::ByteLimit => f.write_str("byte-limit"),
            Self::Blocked(entry) => write!(f, "block-list {entry}"),
        }
    }
}

impl Policy {
    /// Checks and keeps the rules of `config`.
    ///
    /// # Errors
    /// The first entry that is not as it must be.
    pub fn new(config: &Config) -> Result<Self, Error> {
        config.upstream.validate()?;
        for rule in &config.allow {
            check_allow(rule).map_err(|source| Error::Entry {
                list: "allow",
                entry: rule.to_string(),
                source,
            })?;
        }
        let host_loopback = config.host_loopback.iter().map(|entry| {
            Ports::parse(entry).map_err(|source| Error::Entry {
                list: "host_loopback",
                entry: entry.clone(),
                source,
            })
        });
        Ok(Self {
            allow: config.allow.clone(),
            deny: config.deny.clone(),
            host_loopback: host_loopback.collect::<Result<_, _>>()?,
            protected: BTreeSet::new(),
            reserved: BTreeSet::new(),
            host_addresses: HostAddresses::default(),
        })
    }

    /// With these as the host's own addresses, for good.
    #[cfg(any(test, fuzzing))]
    pub(super) fn with_host_addresses(mut self, addresses: &[IpAddr]) -> Self {
        self.host_addresses = HostAddresses::fixed(addresses);
        self
    }

    /// Keeps a port of this host closed whatever the rules say: one the daemon itself serves.
    #[must_use]
    pub fn protect(mut self, port: u16) -> Self {
        self.protected.insert(port);
        self
    }

    /// Keeps ports of `localhost` closed whatever the rules say: those that inside a session the
    /// daemon itself serves.
    ///
    /// # Errors
    /// An entry of `host_loopback` that names only such ports.
    pub fn reserve(mut self, ports: &[u16]) -> Result<Self, Error> {
        self.reserved.extend(ports);
        let is_reserved = |port| self.reserved.contains(&port);
        let all_reserved = |entry: &&Ports| match **entry {
            Ports::Between(first, last) => (first..=last).all(is_reserved),
            Ports::All | Ports::Unsaid => false,
        };
        match self.host_loopback.iter().find(all_reserved) {
            None => Ok(self),
            Some(entry) => Err(Error::Entry {
                list: "host_loopback",
                entry: entry.to_string(),
                source: RuleError::Reserved,
            }),
        }
    }

    /// Whether a session's proxy could be reached, as far as that shows without looking it up.
    ///
    /// # Errors
    /// `Refused` with the rule.
    pub fn check_proxy(&self, proxy: &Proxy) -> Result<(), Error> {
        let target = &proxy.target();
        let refused = |refusal| Error::Refused {
            target: target.to_string(),
            refusal,
        };
        let route = self.check_target(target).map_err(refused)?;
        match (&target.host, route) {
            (_, Route::OwnLoopback) => Err(refused(Refusal::Range("loopback".to_owned()))),
            (Host::Address(address), Route::Outside) => {
                self.check_addresses(target, &[*address]).map_err(refused)
            }
            _ => Ok(()),
        }
    }

    /// The ports of the host's loopback that sessions reach, where there are few enough for a
    /// listener each: at most 64. None where `host_loopback` names more.
    #[must_use]
    pub fn relayed_ports(&self) -> Vec<u16> {
        let mut ports = BTreeSet::new();
        for entry in &self.host_loopback {
            match *entry {
                Ports::Between(first, last) if usize::from(last - first) < MAX_RELAYED_PORTS => {
                    ports.extend(first..=last);
                }
                _ => return Vec::new(),
            }
        }
        if ports.len() > MAX_RELAYED_PORTS {
            return Vec::new();
        }
        let leads_to_host =
            |port: &u16| self.check_target(&Target::localhost(*port)) == Ok(Route::HostLoopback);
        ports.into_iter().filter(leads_to_host).collect()
    }

    /// The first step: by host and port as they were asked for.
    pub(super) fn check_target(&self, target: &Target) -> Result<Route, Refusal> {
        let Target { host, port } = target;
        if host.is_localhost() && !self.is_on_host(*port)? {
            return Ok(Route::OwnLoopback);
        }
        if let Some(rule) = self.deny.iter().find(|rule| rule.names(target)) {
            return Err(Refusal::Denied(rule.clone()));
        }
        if host.is_localhost() {
            return self.check_host_loopback(*port);
        }
        let opened_by_some_rule = self.allow.iter().any(|rule| {
            opens_port(rule, *port)
                && (rule.pattern.names(host) || matches!(rule.pattern, Pattern::Net(_)))
        });
        match host {
            // A literal address is named by its range in the second step, port or no port.
            Host::Address(_) => Ok(Route::Outside),
            Host::Name(_) if DEFAULT_PORTS.contains(port) || opened_by_some_rule => {
                Ok(Route::Outside)
            }
            Host::Name(_) => Err(Refusal::Port(*port)),
        }
    }

    /// Whether `localhost` means the host on this port, or else the session.
    fn is_on_host(&self, port: u16) -> Result<bool, Refusal> {
        if self.reserved.contains(&port) {
            return Err(Refusal::ProtectedPort);
        }
        let has_port = |ports: &Ports| ports.contains(port) == Some(true);
        Ok(self.host_loopback.iter().any(has_port))
    }

    fn check_host_loopback(&self, port: u16) -> Result<Route, Refusal> {
        for address in [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ] {
            if let Some(rule) = self.denies(address, port) {
                return Err(Refusal::Denied(rule.clone()));
            }
        }
        if self.protected.contains(&port) {
            return Err(Refusal::ProtectedPort);
        }
        Ok(Route::HostLoopback)
    }

    /// The second step: by every address of the host. Passes only if all do.
    pub(super) fn check_addresses(
        &self,
        target: &Target,
        addresses: &[IpAddr],
    ) -> Result<(), Refusal> {
        let own = self
            .host_addresses
            .current()
            .map_err(|_| Refusal::HostAddressesUnknown)?;
        addresses
            .iter()
            .flat_map(|&address| address::facets(address))
            .try_for_each(|address| self.check_address(target, address, &own))
    }

    /// After the second step, of a connection from `local` to a checked address: one that ends where
    /// it began is to this host, on an address that came a moment ago.
    pub(super) fn check_connected(
        &self,
        target: &Target,
        address: IpAddr,
        local: IpAddr,
    ) -> Result<(), Refusal> {
        if local == address {
            self.check_address(target, address, &[address.into()])
        } else {
            Ok(())
        }
    }

    /// Instead of the second step, for a name that is looked up elsewhere: passes only if the port
    /// is open without regard to any address.
    pub(super) fn check_unresolved(&self, target: &Target) -> Result<(), Refusal> {
        let port = target.port;
        let opens = |rule: &Rule| rule.pattern.names(&target.host) && opens_port(rule, port);
        if DEFAULT_PORTS.contains(&port) || self.allow.iter().any(opens) {
            Ok(())
        } else {
            Err(Refusal::Port(port))
        }
    }

    fn check_address(
        &self,
        target: &Target,
        address: IpAddr,
        own: &[IpNet],
    ) -> Result<(), Refusal> {
        let port = target.port;
        let is_own = own.iter().any(|net| net.contains(&address));
        if let Some(rule) = self.denies(address, port) {
            return Err(Refusal::Denied(rule.clone()));
        }
        if is_own && self.protected.contains(&port) {
            return Err(Refusal::ProtectedPort);
        }
        let by_address = || {
            let covers = |rule: &Rule| rule.pattern.covers(address) && opens_port(rule, port);
            self.allow.iter().any(covers)
        };
        let by_name = || {
            // `*` is no name: it opens ports of public hosts, not every network there is.
            let names = |rule: &Rule| {
                rule.pattern.names(&target.host)
                    && rule.pattern != Pattern::Any
                    && opens_port(rule, port)
            };
            self.allow.iter().any(names)
        };
        let range = address::special(address);
        let is_open = match range.map(|range| range.openable) {
            Some(Openable::Never) => false,
            _ if is_own => by_address(),
            Some(Openable::ByAddress) => by_address(),
            Some(Openable::ByName) => by_address() || by_name(),
            None => {
                let any = |rule: &Rule| rule.pattern == Pattern::Any && opens_port(rule, port);
                DEFAULT_PORTS.contains(&port)
                    || by_address()
                    || by_name()
                    || self.allow.iter().any(any)
            }
        };
        match range {
            _ if is_open => Ok(()),
            Some(range) if range.openable == Openable::Never => Err(refused_range(range)),
            _ if is_own => Err(Refusal::HostAddress),
            Some(range) => Err(refused_range(range)),
            None => Err(Refusal::Port(port)),
        }
    }

    fn denies(&self, address: IpAddr, port: u16) -> Option<&Rule> {
        self.deny.iter().find(|rule| rule.is_about(address, port))
    }
}

fn refused_range(range: &Range) -> Refusal {
    Refusal::Range(range.to_string())
}

/// An allow rule without ports opens the default ones: what is meant nearly always, and the
/// narrower reading.
fn opens_port(rule: &Rule, port: u16) -> bool {
    rule.ports
        .contains(port)
        .unwrap_or_else(|| DEFAULT_PORTS.contains(&port))
}

/// Refuses rules that could never have an effect: whoever wrote them believes they have.
fn check_allow(rule: &Rule) -> Result<(), RuleError> {
    let is_loopback = match &rule.pattern {
        Pattern::Any => false,
        Pattern::Name(name) | Pattern::Below(name) => Host::Name(name.clone()).is_localhost(),
        Pattern::Net(net) => match address::never_opened(net) {
            Some(range) if range.name == "loopback" => true,
            Some(range) => return Err(RuleError::Closed(range.to_string())),
            None => false,
        },
    };
    if is_loopback {
        Err(RuleError::Loopback)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
