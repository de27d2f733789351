//! What this host isolates, found out by doing it: one space and one sandbox per image are built
//! up to the last step before the program would run.

use std::fs;

use crate::limits::Bytes;

use super::cgroup::Cgroups;
use super::error::StepError;
use super::landlock;
use super::spawner::Spawner;
use super::spec::{
    Control, GroupLimits, HostReport, Network, Probe, ProbeState, SandboxLimits, SandboxSpec,
    SpaceSpec, Weakening,
};
use super::sys;

/// Mechanisms in the order the steps use them, each with the step that fails without it.
const MECHANISMS: [(&str, &[&str], &str); 9] = [
    (
        "detached mounts",
        &[
            "stage-proc",
            "stage-mount",
            "image-root",
            "scratch",
            "mount-tmpfs",
        ],
        "needs Linux 5.12 or newer",
    ),
    (
        "network namespaces",
        &["network-namespace"],
        "check /proc/sys/user/max_net_namespaces and the container's seccomp profile",
    ),
    (
        "user, pid, mount, ipc and uts namespaces",
        &["clone3", "map-ids", "wait-mapping", "become-user"],
        "check kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns \
         and /proc/sys/user/max_user_namespaces",
    ),
    (
        "cgroup namespaces",
        &["cgroup-namespace"],
        "needs CONFIG_CGROUPS and CAP_SYS_ADMIN",
    ),
    (
        "private /proc",
        &["mount-proc"],
        "a container that masks parts of /proc forbids it (docker: --security-opt systempaths=unconfined)",
    ),
    (
        "private root",
        &["mount-private", "mount-root", "mount-scratch", "pivot-root"],
        "",
    ),
    (
        "namespace limits",
        &["namespace-limits"],
        "/proc/sys/user must be writable in a user namespace",
    ),
    (
        "capabilities and no_new_privs",
        &["no-new-privs", "securebits", "capabilities"],
        "",
    ),
    ("seccomp", &["seccomp"], "needs CONFIG_SECCOMP_FILTER"),
];

/// Builds everything once and reports; what is missing and not allowed is `Refused`.
pub(super) fn run(spawner: &mut Spawner, allowed: &[Weakening]) -> HostReport {
    let tried = try_all(spawner);
    let mut probes = builds(tried.err());
    probes.extend(cgroup_probes(&spawner.cgroups, allowed));
    probes.push(landlock_probe(allowed));
    probes.push(uid_probe(spawner.rootless, allowed));
    probes.extend(core_pattern());
    probes.extend(swap(&spawner.cgroups));
    HostReport { probes }
}

fn try_all(spawner: &mut Spawner) -> Result<(), StepError> {
    let limits = GroupLimits {
        memory: Bytes::mib(256),
        processes: 64,
        cpu_percent: 100,
    };
    let (space, listeners) = spawner.create_space(SpaceSpec {
        scratch: Bytes::mib(1),
        scratch_inodes: 64,
        limits,
        runner_ports: vec![1],
        browser_ports: vec![1],
    })?;
    drop(listeners);
    let names: Vec<String> = spawner.images.keys().cloned().collect();
    let built = names.into_iter().try_for_each(|image| {
        let spec = SandboxSpec {
            image,
            argv: vec!["/probe".to_owned()],
            env: Vec::new(),
            cwd: "/".into(),
            network: Network::Runner,
            control: Control::CdpPipe,
            limits: SandboxLimits {
                group: limits,
                open_files: 64,
                file_size: Bytes::mib(1),
            },
        };
        spawner.try_build(space, &spec)
    });
    spawner.remove_space(space);
    built
}

/// One line per mechanism: those before the step that failed work, those after were not reached.
fn builds(failed: Option<StepError>) -> Vec<Probe> {
    let failed_at = failed.as_ref().map(|error| {
        MECHANISMS
            .iter()
            .position(|(_, steps, _)| steps.contains(&&*error.step))
            .unwrap_or(MECHANISMS.len())
    });
    let mut probes: Vec<Probe> = MECHANISMS
        .iter()
        .enumerate()
        .map(|(at, (mechanism, _, hint))| {
            let (state, detail) = match (&failed, failed_at) {
                (Some(error), Some(bad)) if at == bad => {
                    (ProbeState::Refused, format!("{error}. {hint}"))
                }
                (Some(_), Some(bad)) if at > bad => (
                    ProbeState::Refused,
                    "not reached: an earlier mechanism failed".to_owned(),
                ),
                _ => (ProbeState::Works, String::new()),
            };
            probe(mechanism, state, detail)
        })
        .collect();
    if let (Some(error), Some(at)) = (&failed, failed_at)
        && at == MECHANISMS.len()
    {
        probes.push(probe(
            "building a sandbox",
            ProbeState::Refused,
            error.to_string(),
        ));
    }
    probes
}

fn probe(mechanism: &str, state: ProbeState, detail: String) -> Probe {
    Probe {
        mechanism: mechanism.to_owned(),
        state,
        detail,
    }
}

fn weaker(allowed: &[Weakening], name: Weakening) -> ProbeState {
    if allowed.contains(&name) {
        ProbeState::Degraded
    } else {
        ProbeState::Refused
    }
}

fn cgroup_probes(cgroups: &Cgroups, allowed: &[Weakening]) -> Vec<Probe> {
    let mechanisms = cgroups.mechanisms().into_iter();
    mechanisms
        .map(|(name, missing)| match missing {
            None => probe(&name, ProbeState::Works, String::new()),
            Some(detail) => probe(&name, weaker(allowed, Weakening::NoCgroup), detail),
        })
        .collect()
}

fn landlock_probe(allowed: &[Weakening]) -> Probe {
    let abi = sys::landlock_abi();
    let (state, detail) = match abi {
        landlock::FULL_ABI.. => (ProbeState::Works, String::new()),
        0 => (
            weaker(allowed, Weakening::NoLandlock),
            "not in this kernel or not enabled (lsm=landlock,...): allow `no-landlock`, the \
             other layers stay"
                .to_owned(),
        ),
        // Every distribution kernel in use is somewhere here; the mounts and network namespaces
        // already do what is missing.
        _ => (
            ProbeState::Degraded,
            format!(
                "ABI {abi}: no TCP rules below 4, no scopes below {}",
                landlock::FULL_ABI
            ),
        ),
    };
    probe("landlock", state, detail)
}

fn uid_probe(rootless: bool, allowed: &[Weakening]) -> Probe {
    if !rootless {
        return probe("a uid per session", ProbeState::Works, String::new());
    }
    let detail = "started without root: all sessions run under one uid, kept apart by \
                  namespaces only. Start as root or allow `shared-uid`";
    probe(
        "a uid per session",
        weaker(allowed, Weakening::SharedUid),
        detail.to_owned(),
    )
}

/// A core_pattern that starts a program runs it on the host for a crash inside; RLIMIT_CORE 0
/// does not stop that, but 1 in the pattern's pipe limit does. Reported only.
fn core_pattern() -> Option<Probe> {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").ok()?;
    pattern.starts_with('|').then(|| {
        let detail = format!(
            "crashes inside start {} on the host: sysctl kernel.core_pattern=core",
            pattern.trim_start_matches('|').trim()
        );
        probe("core dumps", ProbeState::Degraded, detail)
    })
}

/// Swap without an account of it lets memory grow beyond its limit.
fn swap(cgroups: &Cgroups) -> Option<Probe> {
    let swaps = fs::read_to_string("/proc/swaps").ok()?;
    let limited = cgroups.top().is_some_and(super::cgroup::Group::limits_swap);
    (swaps.lines().count() > 1 && !limited).then(|| {
        let detail = "swap is on and not limited by cgroup: swapoff, or boot with swapaccount=1";
        probe("swap", ProbeState::Degraded, detail.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn a_failed_step_refuses_its_mechanism_and_all_behind_it() {
        let probes = builds(Some(StepError::new("mount-proc", Errno::EPERM, "")));
        let works = probes
            .iter()
            .filter(|p| p.state == ProbeState::Works)
            .count();
        assert_eq!(works, 4);
        assert!(
            probes[4].detail.contains("mount-proc"),
            "{}",
            probes[4].detail
        );
        assert!(probes[5..].iter().all(|p| p.state == ProbeState::Refused));
    }

    #[test]
    fn an_unknown_step_is_refused_too() {
        let probes = builds(Some(StepError::new("image-bind", Errno::ENOENT, "/x")));
        assert_eq!(probes.last().unwrap().state, ProbeState::Refused);
    }
}
