//! How strongly this host isolates, as `pagebox doctor` finds it.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

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
    /// Asks `pagebox doctor`.
    pub(crate) fn of_this_host() -> Self {
        let output = Command::new(env!("CARGO_BIN_EXE_pagebox"))
            .args(["doctor", "--json"])
            .output()
            .expect("the program under test");
        let report: serde_json::Value =
            serde_json::from_slice(&output.stdout).expect("doctor prints one JSON object");
        let probes = report["probes"].as_array().expect("probes");
        let text = |probe: &serde_json::Value, key: &str| {
            probe[key].as_str().unwrap_or_default().to_owned()
        };
        // "memory limit (cgroup v2)", "cgroup-memory: version 2".
        let works = |version: &str| {
            probes.iter().any(|probe| {
                let line = format!("{} {}", text(probe, "mechanism"), text(probe, "detail"));
                probe["state"] == "works"
                    && line.contains("cgroup")
                    && [format!("v{version}"), format!("version {version}")]
                        .iter()
                        .any(|name| line.contains(name))
            })
        };
        let root = std::fs::metadata("/proc/self").expect("/proc").uid() == 0;
        Self {
            root,
            cgroup: if works("2") {
                Cgroup::V2
            } else if works("1") {
                Cgroup::V1
            } else {
                Cgroup::None
            },
            weaker: probes
                .iter()
                .filter(|probe| probe["state"] != "works")
                .map(|probe| text(probe, "mechanism"))
                .collect(),
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
