//! What this host isolates, found out by doing it: each mechanism alone in a process of its own,
//! then one space and one sandbox per image up to the last step before the program would run.

use std::fs;

use crate::limits::Bytes;

use super::cgroup::{Cgroups, Controller, Group};
use super::error::StepError;
use super::landlock::Fence;
use super::spawner::Spawner;
use super::spec::{
    Control, GroupLimits, HostReport, Network, Probe, ProbeState, SandboxLimits, SandboxSpec,
    SpaceSpec, Weakening,
};

use self::attempt::Found;

mod attempt;
mod fences;
mod groups;
mod kernel;
mod remedy;

/// Where the spawner stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground {
    /// Started without root, so that it works in a user namespace of its own.
    pub(super) rootless: bool,
    /// The uid, as the spawner sees it, that 1000 of the first sandbox is.
    pub(super) first_uid: u32,
}

/// A mechanism nothing untrusted runs without.
struct Needed {
    name: &'static str,
    /// Cannot be tried without user namespaces, root or not.
    in_user_namespace: bool,
    probe: fn(Ground) -> Found,
}

const fn needed(name: &'static str, in_user_namespace: bool, probe: fn(Ground) -> Found) -> Needed {
    Needed {
        name,
        in_user_namespace,
        probe,
    }
}

const USER_NAMESPACES: &str = "user-namespaces";

/// In the order they are used; each works without those before it, unless it says so.
const NEEDED: [Needed; 19] = [
    needed(USER_NAMESPACES, false, kernel::user_namespaces),
    needed("id-maps", true, kernel::id_maps),
    needed("mount-namespaces", false, kernel::mount_namespaces),
    needed("pid-namespaces", false, kernel::pid_namespaces),
    needed("network-namespaces", false, kernel::network_namespaces),
    needed("ipc-namespaces", false, kernel::ipc_namespaces),
    needed("uts-namespaces", false, kernel::uts_namespaces),
    needed("cgroup-namespaces", false, kernel::cgroup_namespaces),
    needed("namespace-limits", true, kernel::namespace_limits),
    needed("passed-listeners", false, kernel::passed_listeners),
    needed("detached-mounts", false, kernel::detached_mounts),
    needed("private-proc", true, kernel::private_proc),
    needed("pivot-root", false, kernel::pivot_root),
    needed("pidfd", false, kernel::pidfd),
    needed("parent-death", false, kernel::parent_death),
    needed("close-range", false, kernel::close_range),
    needed("openat2", false, kernel::openat2_beneath),
    needed("no-new-privs", false, fences::no_new_privs),
    needed("seccomp", false, fences::seccomp),
];
/// Of those, the ones a user who is not root needs no user namespace for.
const UNPRIVILEGED: [&str; 6] = [
    "pidfd",
    "parent-death",
    "close-range",
    "openat2",
    "no-new-privs",
    "seccomp",
];

/// Tries every mechanism; what is missing and not allowed is `Refused`.
pub(super) fn mechanisms(ground: Ground, cgroups: &Cgroups, allowed: &[Weakening]) -> HostReport {
    let mut probes: Vec<Probe> = Vec::new();
    let capabilities = needed("capabilities", false, kernel::capabilities);
    for needed in NEEDED.iter().chain([&capabilities]) {
        let depends = needed.name != USER_NAMESPACES
            && (needed.in_user_namespace
                || ground.rootless && !UNPRIVILEGED.contains(&needed.name));
        let found = match depends && probes[0].state != ProbeState::Works {
            true => None,
            false => Some((needed.probe)(ground)),
        };
        probes.push(found.map_or_else(
            || Probe::unknown(needed.name, "not reached: needs user-namespaces"),
            |found| of(needed.name, found, None),
        ));
    }
    let weaker = |name, found, lost, weakening| weaker(name, found, lost, weakening, allowed);
    let no_landlock = Weakening::NoLandlock;
    let files = fences::landlock(Fence::Files);
    probes.push(weaker(
        "landlock-files",
        files,
        "no second fence behind the mounts",
        no_landlock,
    ));
    // Distribution kernels in use are somewhere in between; mounts and network namespaces already
    // do what is missing.
    for (name, fence) in [
        ("landlock-network", Fence::Network),
        ("landlock-signals", Fence::Signals),
    ] {
        let lost = "no second fence behind the namespaces";
        probes.push(of(name, fences::landlock(fence), Some(lost)));
    }
    for (name, wanted, lost, probe) in CONTROLLERS {
        let found = controller_found(cgroups, wanted, probe);
        probes.push(weaker(name, found, lost, Weakening::NoCgroup));
    }
    probes.push(swap(cgroups));
    let mapped = probes
        .iter()
        .any(|probe| probe.mechanism == "id-maps" && probe.state == ProbeState::Works);
    probes.push(match ground.rootless || mapped {
        true => session_uids(ground, allowed),
        false => Probe::unknown("session-uids", "not reached: needs id-maps"),
    });
    probes.push(core_dumps());
    HostReport { probes }
}

type GroupProbe = fn(&Group) -> Found;

/// Name, controllers, what is lost without them.
const CONTROLLERS: [(&str, &[Controller], &str, GroupProbe); 3] = [
    (
        "cgroup-memory",
        &[Controller::Memory],
        "each process is limited by RLIMIT_DATA, all together by looks at them; peaks are not \
         measured",
        groups::memory,
    ),
    (
        "cgroup-processes",
        &[Controller::Pids],
        "each sandbox is limited by RLIMIT_NPROC, a session only by the sum of its sandboxes",
        groups::processes,
    ),
    (
        "cgroup-cpu",
        // Version 1 counts cpu time in a hierarchy of its own.
        &[Controller::Cpu, Controller::Cpuacct],
        "cpu is not limited, sandboxes only run at a lower priority",
        groups::cpu,
    ),
];

fn controller_found(cgroups: &Cgroups, wanted: &[Controller], probe: GroupProbe) -> Found {
    let (group, version) = match cgroups {
        Cgroups::V2(group) => (group, "version 2"),
        Cgroups::V1(group) => (group, "version 1"),
        Cgroups::None(why) if wanted.contains(&Controller::Memory) => {
            return Err(attempt::useless("none", why));
        }
        Cgroups::None(_) => return Err(attempt::useless("none", "see cgroup-memory")),
    };
    if let Some(missing) = wanted.iter().find(|name| !group.has(**name)) {
        let detail = format!("{version} has no controller {} here", missing.name());
        return Err(attempt::useless("cgroup", detail));
    }
    probe(group).map(|_| version.to_owned())
}

/// A mechanism that is refused when it is missing, or degraded by design: `lost` says of what.
fn of(mechanism: &str, found: Found, lost: Option<&str>) -> Probe {
    let error = match found {
        Ok(detail) => return Probe::works(mechanism, detail),
        Err(error) => error,
    };
    let remedy = remedy::of(mechanism, &error);
    match lost {
        Some(lost) => Probe::degraded(mechanism, format!("{lost}: {error}"), remedy),
        None => Probe::refused(mechanism, error.to_string(), remedy),
    }
}

/// A mechanism that may be missing when a setting says so.
fn weaker(
    mechanism: &str,
    found: Found,
    lost: &str,
    weakening: Weakening,
    allowed: &[Weakening],
) -> Probe {
    let mut probe = of(mechanism, found, Some(lost));
    if probe.state == ProbeState::Degraded {
        probe.weakening = Some(weakening);
        if !allowed.contains(&weakening) {
            probe.state = ProbeState::Refused;
        }
    }
    probe
}

fn session_uids(ground: Ground, allowed: &[Weakening]) -> Probe {
    let found = match ground.rootless {
        false => Ok(format!("from {} on", ground.first_uid)),
        true => Err(attempt::useless("uid", "started without root")),
    };
    let lost = "all sessions run under one uid, kept apart by namespaces only";
    weaker("session-uids", found, lost, Weakening::SharedUid, allowed)
}

/// A core_pattern that starts a program runs it on the host for a crash inside; RLIMIT_CORE 0
/// does not stop that, but 1 in the pattern's pipe limit does. Reported only.
fn core_dumps() -> Probe {
    let file = "/proc/sys/kernel/core_pattern";
    let found = match fs::read_to_string(file) {
        Ok(pattern) => match pattern.trim().strip_prefix('|') {
            Some(program) => Err(attempt::useless("core_pattern", program)),
            None => Ok(String::new()),
        },
        Err(error) => Err(StepError::io("core_pattern", &error, file)),
    };
    let lost = "a crash inside may start a program on the host";
    of("core-dumps", found, Some(lost))
}

/// Swap without an account of it lets memory grow beyond its limit.
fn swap(cgroups: &Cgroups) -> Probe {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let limited = cgroups.top().is_some_and(Group::limits_swap);
    let found = match (swaps.lines().count() > 1, limited) {
        (false, _) => Ok("off".to_owned()),
        (true, true) => Ok("limited with memory".to_owned()),
        (true, false) => Err(attempt::useless("swap", "on, and not limited by cgroup")),
    };
    of("swap", found, Some("memory may grow beyond its limit"))
}

/// Everything together: one sandbox of every image.
pub(super) fn sandboxes(spawner: &mut Spawner) -> Probe {
    built(try_all(spawner))
}

const SANDBOXES: &str = "sandboxes";

pub(super) fn built(tried: Result<String, StepError>) -> Probe {
    of(SANDBOXES, tried, None)
}

pub(super) fn not_built() -> Probe {
    Probe::unknown(SANDBOXES, "not reached: needs what is refused above")
}

fn try_all(spawner: &mut Spawner) -> Found {
    let limits = GroupLimits {
        memory: Bytes::mib(256),
        processes: 64,
        cpu_percent: 100,
    };
    let (space, listeners) = spawner.create_space(SpaceSpec {
        scratch: Bytes::mib(1),
        scratch_inodes: 64,
        browser_data: Bytes::mib(1),
        browser_data_inodes: 64,
        limits,
        runner_ports: vec![1],
        browser_ports: vec![1],
    })?;
    drop(listeners);
    let names: Vec<String> = spawner.images.keys().cloned().collect();
    let images = names.join(", ");
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
    built.map(|()| images)
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn what_is_missing_is_refused_unless_a_setting_allows_it() {
        let missing = || Err(StepError::new("landlock", Errno::ENOSYS, "not here"));
        let no_landlock = Weakening::NoLandlock;
        let probe = weaker("landlock-files", missing(), "less", no_landlock, &[]);
        assert_eq!(probe.state, ProbeState::Refused);
        assert_eq!(probe.weakening, Some(no_landlock));
        assert!(probe.remedy.contains("no-landlock"), "{probe:?}");
        let probe = weaker(
            "landlock-files",
            missing(),
            "less",
            no_landlock,
            &[no_landlock],
        );
        assert_eq!(probe.state, ProbeState::Degraded);
        let probe = weaker("landlock-files", Ok("x".into()), "less", no_landlock, &[]);
        assert_eq!((probe.state, probe.weakening), (ProbeState::Works, None));
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let error = StepError::new("step", Errno::EPERM, "");
        let other = [
            "capabilities",
            "landlock-files",
            "cgroup-cpu",
            "session-uids",
            "swap",
        ];
        for name in NEEDED.iter().map(|needed| needed.name).chain(other) {
            let probe = of(name, Err(error.clone()), None);
            assert_eq!(probe.state, ProbeState::Refused);
            assert!(!probe.remedy.is_empty(), "{name}");
        }
    }
}
