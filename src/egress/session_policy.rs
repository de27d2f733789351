//! The daemon's policy as one session has it: narrowed by its options.

use std::net::IpAddr;
use std::sync::Arc;

use super::NetworkOptions;
use super::policy::{Policy, Refusal, Route};
use super::target::Target;

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
        self.daemon.check_target(target)
    }

    /// The second step: by every address of the host. Passes only if all do.
    pub(super) fn check_addresses(
        &self,
        target: &Target,
        addresses: &[IpAddr],
    ) -> Result<(), Refusal> {
        self.daemon.check_addresses(target, addresses)
    }

    /// Instead of the second step, for a name that is looked up elsewhere: what its name and port
    /// alone say.
    pub(super) fn check_unresolved(&self, target: &Target) -> Result<(), Refusal> {
        self.daemon.check_unresolved(target)?;
        self.check_addresses(target, &[])
    }
}
