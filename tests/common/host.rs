//! What this host can isolate, as `pagebox doctor --json` says: asked once by a test process, and
//! what every test that cannot run everywhere goes by.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// The setting that allows what this host has not.
const ALLOW: &str = "PAGEBOX_SANDBOX__ALLOW_DEGRADED";

/// What doctor found.
#[derive(Debug)]
pub(crate) struct Host {
    probes: Vec<Value>,
    allowed: String,
}

/// Asks `binary`, allowing all that may be missing, as the daemons of tests do.
pub(crate) fn host(binary: &Path) -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let strict = probes(binary, "");
        let mut missing: Vec<&str> = strict
            .iter()
            .filter_map(|probe| probe["weakening"].as_str())
            .collect();
        missing.sort_unstable();
        missing.dedup();
        let allowed = missing.join(",");
        Host {
            probes: match allowed.is_empty() {
                true => strict,
                false => probes(binary, &allowed),
            },
            allowed,
        }
    })
}

fn probes(binary: &Path, allowed: &str) -> Vec<Value> {
    let output = Command::new(binary)
        .args(["doctor", "--json"])
        .env(ALLOW, allowed)
        .output()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", binary.display()));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "doctor: {error}: {}",
            String::from_utf8_lossy(&output.stderr)
        )
    });
    said["probes"].as_array().cloned().unwrap_or_default()
}

impl Host {
    fn probe(&self, mechanism: &str) -> &Value {
        let named = |probe: &&Value| probe["mechanism"] == mechanism;
        self.probes
            .iter()
            .find(named)
            .unwrap_or_else(|| panic!("doctor knows no {mechanism}"))
    }

    /// Whether a mechanism works as designed.
    pub(crate) fn has(&self, mechanism: &str) -> bool {
        self.probe(mechanism)["state"] == "works"
    }

    /// Whether it works; if not, says that `test` is skipped and why.
    pub(crate) fn can(&self, test: &str, mechanism: &str) -> bool {
        let has = self.has(mechanism);
        if !has {
            skip(test, &self.probe(mechanism).to_string());
        }
        has
    }

    /// What doctor found out about a mechanism.
    pub(crate) fn detail(&self, mechanism: &str) -> &str {
        self.probe(mechanism)["detail"].as_str().unwrap_or_default()
    }

    /// The mechanisms that do not work as designed, with what this host lacks allowed.
    pub(crate) fn weaker(&self) -> impl Iterator<Item = &str> {
        let weaker = |probe: &&Value| probe["state"] != "works";
        let names = self.probes.iter().filter(weaker);
        names.filter_map(|probe| probe["mechanism"].as_str())
    }

    /// What is missing and may be, for `sandbox.allow_degraded`.
    pub(crate) fn allowed(&self) -> &str {
        &self.allowed
    }
}

/// `binary`, to be run with what this host lacks allowed, and without our capabilities: a test run
/// that is root of a user namespace only starts ordinary daemons.
pub(crate) fn command(binary: &Path) -> Command {
    let mut command = match owns_capabilities() {
        false => Command::new(binary),
        true => {
            let mut setpriv = Command::new("setpriv");
            let none = ["--inh-caps=-all", "--ambient-caps=-all", "--"];
            setpriv.args(none).arg(binary);
            setpriv
        }
    };
    // Not set where nothing is missing: it would win over a test's own configuration.
    let allowed = host(binary).allowed();
    if !allowed.is_empty() {
        command.env(ALLOW, allowed);
    }
    command
}

/// Whether programs we start get capabilities although we are not root.
fn owns_capabilities() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let ambient = status.lines().find_map(|line| line.strip_prefix("CapAmb:"));
    ambient.is_some_and(|set| !set.trim().trim_start_matches('0').is_empty())
}

/// Says, past the capture of a test's output, that it does not run here; fails instead where
/// `CI_REQUIRE_ALL` is set.
pub(crate) fn skip(test: &str, why: &str) {
    assert!(
        std::env::var_os("CI_REQUIRE_ALL").is_none(),
        "{test}: {why}"
    );
    let _ = writeln!(std::io::stderr(), "SKIP {test}: {why}");
}
