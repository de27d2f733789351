//! How strongly this host isolates, as `pagebox doctor` finds it.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::daemon::host::host;

const MEMORY: &str = "cgroup-memory";

/// What limits memory, processes and cpu of a session together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cgroup {
    /// Delegated version 2.
    V2,
    /// Version 1.
    V1,
    /// Nothing: rlimits of each process.
    None,
}

/// What differs between hosts for a case.
#[derive(Clone, Debug)]
pub(crate) struct Mode {
    /// The tests, and with them the daemon, were started by root.
    pub(crate) root: bool,
    /// What limits sessions.
    pub(crate) cgroup: Cgroup,
    /// Mechanisms that do not work as designed.
    weaker: Vec<String>,
}

impl Mode {
    /// Asks `pagebox doctor`, as every other test does.
    pub(crate) fn of_this_host() -> Self {
        let host = host(Path::new(env!("CARGO_BIN_EXE_pagebox")));
        Self {
            root: std::fs::metadata("/proc/self").expect("/proc").uid() == 0,
            cgroup: match (host.has(MEMORY), host.detail(MEMORY)) {
                (false, _) => Cgroup::None,
                (true, "version 1") => Cgroup::V1,
                (true, "version 2") => Cgroup::V2,
                (true, other) => panic!("doctor says of {MEMORY}: {other}"),
            },
            weaker: host.weaker().map(str::to_owned).collect(),
        }
    }

    /// Whether memory, processes and cpu of a sandbox are limited as a whole.
    pub(crate) fn limits_groups(&self) -> bool {
        self.cgroup != Cgroup::None
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.root { "root" } else { "rootless" })?;
        f.write_str(match self.cgroup {
            Cgroup::V2 => ", cgroup version 2",
            Cgroup::V1 => ", cgroup version 1",
            Cgroup::None => ", no cgroup",
        })?;
        if !self.weaker.is_empty() {
            write!(f, "; weaker or missing: {}", self.weaker.join(", "))?;
        }
        Ok(())
    }
}
