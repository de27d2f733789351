//! seccomp: compiles the profiles of `sandbox-images/seccomp/` and installs them.
//!
//! A profile is a map of filters that are stacked; for each system call the strictest answer
//! wins. `allow` is the list of what may be called at all and must be there; the others turn
//! single calls into the errno that libc's or a program's own fallback expects. A call through
//! another architecture's entry kills the process.

use seccompiler::{BpfProgram, TargetArch, apply_filter, compile_from_json};

/// The filters, in the order they are installed.
const ORDER: [&str; 6] = [
    "fallback",
    "unsupported",
    "families",
    "no-cgroup-mmap",
    "no-cgroup-memfd",
    "allow",
];

/// Filters only needed where no cgroup limits memory: they close the ways round RLIMIT_DATA.
const WITHOUT_CGROUP: &str = "no-cgroup";

/// The profile of a sandbox's init, which is our own code and needs next to nothing.
pub(super) const INIT: &str = include_str!("../../sandbox-images/seccomp/init.json");

/// A compiled profile.
pub(super) struct Profile {
    filters: Vec<(&'static str, BpfProgram)>,
}

/// Compiles a profile; the error says what is wrong in it.
pub(super) fn compile(json: &str) -> Result<Profile, String> {
    let arch: TargetArch = std::env::consts::ARCH
        .try_into()
        .map_err(|error| format!("no seccomp for this architecture: {error}"))?;
    let mut compiled =
        compile_from_json(json.as_bytes(), arch).map_err(|error| error.to_string())?;
    let filters: Vec<_> = ORDER
        .into_iter()
        .filter_map(|name| Some((name, compiled.remove(name)?)))
        .collect();
    if let Some(name) = compiled.keys().next() {
        return Err(format!("unknown filter {name:?}"));
    }
    if filters.last().is_none_or(|(name, _)| *name != "allow") {
        return Err("no filter \"allow\"".to_owned());
    }
    Ok(Profile { filters })
}

impl Profile {
    /// Confines this thread for good. `no_new_privs` must be set.
    pub(super) fn install(&self, memory_is_limited: bool) -> Result<(), seccompiler::Error> {
        self.filters
            .iter()
            .filter(|(name, _)| !(memory_is_limited && name.starts_with(WITHOUT_CGROUP)))
            .try_for_each(|(_, program)| apply_filter(program))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> String {
        compile(json).err().unwrap_or_default()
    }

    #[test]
    fn a_profile_needs_its_allow_list_and_nothing_unknown() {
        let filter = r#"{"mismatch_action":{"errno":1},"match_action":"allow","filter":[{"syscall":"read"}]}"#;
        assert!(compile(&format!(r#"{{"allow":{filter}}}"#)).is_ok());
        assert_eq!(message("{}"), r#"no filter "allow""#);
        assert_eq!(
            message(&format!(r#"{{"allow":{filter},"alow":{filter}}}"#)),
            r#"unknown filter "alow""#
        );
        assert!(
            message(&format!(
                r#"{{"allow":{}}}"#,
                filter.replace("read", "raed")
            ))
            .contains("raed")
        );
    }

    /// What no profile may ever allow, whatever an edit does to the lists.
    #[test]
    fn dangerous_calls_are_in_no_allow_list() {
        let never = [
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "kcmp",
            "pidfd_getfd",
            "bpf",
            "perf_event_open",
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "userfaultfd",
            "keyctl",
            "add_key",
            "request_key",
            "mount",
            "umount2",
            "pivot_root",
            "fsopen",
            "fsmount",
            "open_tree",
            "move_mount",
            "mount_setattr",
            "setns",
            "name_to_handle_at",
            "open_by_handle_at",
            "kexec_load",
            "init_module",
            "finit_module",
            "reboot",
            "swapon",
            "acct",
            "quotactl",
            "syslog",
            "iopl",
            "ioperm",
            "modify_ldt",
            "fanotify_init",
            "clock_settime",
            "mq_open",
            "shmget",
            "semget",
            "msgget",
            "memfd_secret",
            "splice",
            "vmsplice",
            "tee",
            "execveat",
        ];
        for (name, text) in [
            (
                "runner",
                include_str!("../../sandbox-images/seccomp/runner.json"),
            ),
            (
                "browser",
                include_str!("../../sandbox-images/seccomp/browser.json"),
            ),
            (
                "agent",
                include_str!("../../sandbox-images/seccomp/agent.json"),
            ),
            ("init", INIT),
        ] {
            for call in never {
                assert!(
                    !text.contains(&format!("\"{call}\"")),
                    "{name} names {call}"
                );
            }
        }
    }
}
