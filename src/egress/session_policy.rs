//! The daemon's policy as one session has it: narrowed by its options, never widened.
//!
//! Both decide, the daemon's first, in the same two steps; a request passes if both let it. What the
//! session refuses by name is never looked up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::policy::{Policy, Refusal, Route};
use super::target::Target;
use super::{NetworkOptions, Rule, address};

/// The host's own loopback is one place, whatever it is called: rules about either address are
/// about it.
const HOST_LOOPBACK: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// The rules of one session.
#[derive(Debug)]
pub(super) struct SessionPolicy {
    daemon: Arc<Policy>,
    options: NetworkOptions,
}

impl SessionPolicy {
    pub(super) fn new(daemon: Arc<Policy>, options: NetworkOptions) -> Self {
        Self { daemon, options }
    }

    /// The first step: by host and port as they were asked for.
    pub(super) fn check_target(&self, target: &Target) -> Result<Route, Refusal> {
        let route = self.daemon.check_target(target)?;
        if route == Route::OwnLoopback {
            return Ok(route);
        }
        if self.options.offline {
            return Err(Refusal::Offline);
        }
        if let Some(rule) = find(&self.options.deny, |rule| rule.names(target)) {
            return Err(Refusal::SessionDenied(rule.clone()));
        }
        let allow = &self.options.allow;
        let may_pass = if route == Route::HostLoopback {
            if let Some(rule) = self.denies(&HOST_LOOPBACK, target.port) {
                return Err(Refusal::SessionDenied(rule.clone()));
            }
            HOST_LOOPBACK
                .iter()
                .any(|&address| covers(allow, address, target.port))
        } else {
            // Its addresses decide. Without a rule about addresses there is no need to know them.
            find(allow, |rule| {
                rule.pattern.is_net() && rule.is_about_port(target.port)
            })
            .is_some()
        };
        if may_pass || self.allows_by_name(target) {
            Ok(route)
        } else {
            Err(Refusal::SessionAllow)
        }
    }

    /// The second step: by every address of the host. Passes only if all do.
    pub(super) fn check_addresses(
        &self,
        target: &Target,
        addresses: &[IpAddr],
    ) -> Result<(), Refusal> {
        self.daemon.check_addresses(target, addresses)?;
        if let Some(rule) = self.denies(addresses, target.port) {
            return Err(Refusal::SessionDenied(rule.clone()));
        }
        let covered = |&address: &IpAddr| covers(&self.options.allow, address, target.port);
        // Of no address nothing can be said.
        let all_covered = !addresses.is_empty() && addresses.iter().all(covered);
        if all_covered || self.allows_by_name(target) {
            Ok(())
        } else {
            Err(Refusal::SessionAllow)
        }
    }

    /// After the second step, of a connection from `local` to a checked address.
    pub(super) fn check_connected(
        &self,
        target: &Target,
        address: IpAddr,
        local: IpAddr,
    ) -> Result<(), Refusal> {
        self.daemon.check_connected(target, address, local)
    }

    /// Whether the `allow` list needs no addresses to let `target` pass.
    fn allows_by_name(&self, target: &Target) -> bool {
        let allow = &self.options.allow;
        allow.is_empty() || find(allow, |rule| rule.names(target)).is_some()
    }

    fn denies(&self, addresses: &[IpAddr], port: u16) -> Option<&Rule> {
        let mut facets = addresses.iter().flat_map(|&a| address::facets(a));
        facets.find_map(|address| find(&self.options.deny, |rule| rule.is_about(address, port)))
    }

    /// Instead of the second step, for a name that is looked up elsewhere: what its name and port
    /// alone say.
    pub(super) fn check_unresolved(&self, target: &Target) -> Result<(), Refusal> {
        self.daemon.check_unresolved(target)?;
        self.check_addresses(target, &[])
    }
}

fn find(rules: &[Rule], matches: impl Fn(&Rule) -> bool) -> Option<&Rule> {
    rules.iter().find(|rule| matches(rule))
}

fn covers(rules: &[Rule], address: IpAddr, port: u16) -> bool {
    find(rules, |rule| rule.is_about(address, port)).is_some()
}

#[cfg(test)]
mod tests;
