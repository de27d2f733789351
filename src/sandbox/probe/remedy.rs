//! What to type so that a mechanism works. Looks at the settings that are known to forbid it.

use std::fs;

use nix::errno::Errno;

use super::super::error::StepError;

const CONTAINER: &str = "in a container: docker run --security-opt seccomp=unconfined \
                         --security-opt apparmor=unconfined; else a kernel with this namespace";
const NEWER: &str =
    "Linux 5.13 or newer; in a container: docker run --security-opt seccomp=unconfined";

/// A setting of the kernel, when it has it.
fn setting(name: &str) -> Option<String> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// For one kind of namespace, by its `user.max_*` setting.
fn namespaces(kind: &str) -> String {
    let limit = format!("user.max_{kind}_namespaces");
    if setting(&limit).as_deref() == Some("0") {
        return format!("sysctl -w {limit}=10000");
    }
    if kind == "user" {
        for (name, bad, good) in [
            ("kernel.unprivileged_userns_clone", "0", "1"),
            ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ] {
            if setting(name).as_deref() == Some(bad) {
                return format!("sysctl -w {name}={good}");
            }
        }
    }
    CONTAINER.to_owned()
}

/// For a mechanism that failed at this step.
pub(super) fn of(mechanism: &str, error: &StepError) -> String {
    let text = match mechanism {
        "id-maps" => {
            "start as another user than root, or with the uids from sandbox.uid_base on mapped into \
             this container"
        }
        "private-proc" if error.errno == Errno::EPERM as i32 => {
            "docker run --security-opt systempaths=unconfined; Kubernetes: procMount: Unmasked"
        }
        "namespace-limits" => {
            "/proc/sys/user must be writable: docker run --security-opt systempaths=unconfined"
        }
        "cgroup-memory" | "cgroup-processes" | "cgroup-cpu" => {
            "systemd-run --user --scope -p Delegate=yes pagebox serve; systemd unit: Delegate=yes; or allow_degraded = [\"no-cgroup\"]"
        }
        "landlock-files" => {
            "boot with lsm=landlock,... (see /sys/kernel/security/lsm), or allow_degraded = [\"no-landlock\"]"
        }
        "landlock-network" => "Linux 6.7 or newer",
        "landlock-signals" => "Linux 6.12 or newer",
        "seccomp" => "a kernel with CONFIG_SECCOMP_FILTER",
        "sandboxes" => "run sandbox-images/setup.sh",
        "session-uids" => {
            "start as root (sudo pagebox serve), or allow_degraded = [\"shared-uid\"]"
        }
        "core-dumps" => "sysctl -w kernel.core_pattern=core",
        "swap" => "swapoff -a, or boot with swapaccount=1",
        _ => match mechanism.strip_suffix("-namespaces") {
            Some("mount") => return namespaces("mnt"),
            Some("network") => return namespaces("net"),
            Some(kind) => return namespaces(kind),
            None if mechanism == "passed-listeners" => return namespaces("net"),
            None => NEWER,
        },
    };
    text.to_owned()
}
