//! What this host can do for Pagebox: the spawner's own probes, then Chromium, fonts and programs.
//!
//! `pagebox doctor`, the daemon at its start and its `GetDaemon` say the same. Changes and installs
//! nothing.

use serde::Serialize;

use crate::config::{self, Config};
use crate::sandbox::{self, Probe, ProbeState, Sandboxes};
use crate::server;

mod browser;
mod programs;

/// The sum of all probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing is missing.
    Works,
    /// It runs, with something weaker or missing.
    Degraded,
    /// It does not run.
    CannotRun,
}

impl Verdict {
    /// The worst of them.
    #[must_use]
    pub fn of(probes: &[Probe]) -> Self {
        let any = |state| probes.iter().any(|probe| probe.state == state);
        if any(ProbeState::Refused) || any(ProbeState::Unknown) {
            Self::CannotRun
        } else if any(ProbeState::Degraded) {
            Self::Degraded
        } else {
            Self::Works
        }
    }
}

/// Examines the host, with the spawner or why there is none. Starts a browser and ends it again;
/// takes a second or two.
pub async fn examine(config: &Config, sandboxes: Result<&Sandboxes, &anyhow::Error>) -> Vec<Probe> {
    let mut probes = match sandboxes {
        Ok(sandboxes) => sandboxes.report().probes.clone(),
        Err(error) => match error.downcast_ref() {
            // The spawner has probed, and found too little.
            Some(sandbox::Error::HostRefused(report)) => report.probes.clone(),
            _ => vec![Probe::refused(
                "sandboxes",
                format!("{error:#}"),
                programs::SETUP,
            )],
        },
    };
    if sandboxes.is_ok() {
        probes.push(daemon_uid());
    }
    probes.push(open_files(config));
    let egress = config.egress.weakening();
    probes
        .extend(egress.map(|weakening| Probe::degraded("egress", weakening, "see docs/egress.md")));
    probes.push(programs::chromium(&config.browser.program).await);
    probes.extend(browser::probe(config, sandboxes.ok()).await);
    probes.extend(programs::all(config).await);
    probes
}

/// Whether the daemon, which reads what is hostile, has given up root.
fn daemon_uid() -> Probe {
    match config::own_uids() {
        Ok(uids) if !uids.contains(&0) => Probe::works("daemon-uid", uids[0].to_string()),
        Ok(uids) => Probe::refused("daemon-uid", format!("still root: {uids:?}"), "report this"),
        Err(error) => Probe::refused("daemon-uid", error.to_string(), "mount /proc"),
    }
}

fn open_files(config: &Config) -> Probe {
    let files = match server::OpenFiles::of(config) {
        Ok(files) => files,
        Err(error) => {
            return Probe::degraded("open-files", error.to_string(), "raise RLIMIT_NOFILE");
        }
    };
    let said = format!("{} needed, {} allowed", files.wanted, files.allowed);
    let sandbox = usize::try_from(config.browser.open_files).unwrap_or(usize::MAX);
    if files.allowed < sandbox {
        let why = format!(
            "no session opens: its browser may have {sandbox} (browser.open_files); {said}"
        );
        return Probe::refused("open-files", why, more(files.wanted));
    }
    if files.allowed >= files.wanted {
        return Probe::works("open-files", said);
    }
    let lost = format!("when many connections are open, more wait: {said}");
    Probe::degraded("open-files", lost, more(files.wanted))
}

/// How to allow this many open files.
fn more(files: usize) -> String {
    format!("ulimit -Hn {files}; systemd: LimitNOFILE={files}; or lower session.max_sessions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_probe_decides() {
        assert_eq!(Verdict::of(&[]), Verdict::Works);
        let (works, degraded, refused) = (
            Probe::works("a", ""),
            Probe::degraded("b", "", ""),
            Probe::refused("c", "", ""),
        );
        assert_eq!(Verdict::of(std::slice::from_ref(&works)), Verdict::Works);
        assert_eq!(Verdict::of(&[works, degraded.clone()]), Verdict::Degraded);
        assert_eq!(Verdict::of(&[degraded, refused]), Verdict::CannotRun);
        assert_eq!(Verdict::of(&[Probe::unknown("d", "")]), Verdict::CannotRun);
    }
}
