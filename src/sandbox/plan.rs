//! From a request to a plan: checks what was asked and turns it into what the kernel takes. Pure:
//! no system call.

use std::ffi::CString;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::resource::Resource;

use super::error::StepError;
use super::image::Recipe;
use super::spec::{GroupLimits, SandboxSpec, SpaceSpec};

/// The uid and gid of everything inside, as seen there.
pub(super) const INNER_UID: u32 = 1000;
/// execve takes 128 KiB per string and 2 MiB together; one message takes less than either.
const MAX_STRINGS: usize = 1024;
/// Descriptors are moved to 50 and above while they are put in place.
const MIN_OPEN_FILES: u64 = 64;
/// Enough for init, the program and one child.
const MIN_PROCESSES: u32 = 4;
/// The listeners of both namespaces fit one message.
const MAX_PORTS: usize = 96;
/// RLIMIT_SIGPENDING: signals that wait, and POSIX timers, of which each holds one ready.
const PENDING_SIGNALS: u64 = 4096;
/// The host's limit for one user is 128 by default. A program has one.
const INOTIFY_INSTANCES: u32 = 32;
/// A development server watches every directory of its project.
const INOTIFY_WATCHES: u32 = 16_384;

/// What a cgroup limits for all processes of a sandbox together.
#[derive(Clone, Copy)]
pub(super) struct Held {
    pub(super) memory: bool,
    pub(super) processes: bool,
}

/// Everything about one sandbox that does not depend on the process that becomes it.
pub(super) struct Plan {
    pub(super) argv: Vec<CString>,
    pub(super) env: Vec<CString>,
    pub(super) cwd: CString,
    pub(super) rlimits: Vec<(Resource, u64)>,
    /// Files of /proc/sys/user and what is written there.
    pub(super) namespace_limits: Vec<(&'static str, u32)>,
}

fn invalid(detail: impl Into<String>) -> StepError {
    StepError::new("validate", Errno::EINVAL, detail)
}

fn c_string(text: &str, what: &str) -> Result<CString, StepError> {
    CString::new(text).map_err(|_| invalid(format!("{what} holds a NUL byte")))
}

fn check_group(limits: &GroupLimits) -> Result<(), StepError> {
    if limits.memory.0 == 0 || limits.cpu_percent == 0 || limits.processes < MIN_PROCESSES {
        return Err(invalid(format!(
            "limits too small: memory {}, cpu {} %, {} processes",
            limits.memory, limits.cpu_percent, limits.processes
        )));
    }
    Ok(())
}

/// Checks a space request.
pub(super) fn check_space(spec: &SpaceSpec) -> Result<(), StepError> {
    check_group(&spec.limits)?;
    let sizes = [
        spec.scratch.0,
        spec.scratch_inodes,
        spec.browser_data.0,
        spec.browser_data_inodes,
    ];
    if sizes.contains(&0) {
        return Err(invalid("a scratch of no size"));
    }
    if spec.runner_ports.len() > MAX_PORTS || spec.browser_ports.len() > MAX_PORTS {
        return Err(invalid(format!(
            "more than {MAX_PORTS} ports in a namespace"
        )));
    }
    Ok(())
}

impl Plan {
    /// Checks a sandbox request and makes the plan for it.
    pub(super) fn new(spec: &SandboxSpec, recipe: &Recipe, held: Held) -> Result<Self, StepError> {
        check_group(&spec.limits.group)?;
        if spec.argv.len() + spec.env.len() > MAX_STRINGS {
            return Err(invalid(format!(
                "more than {MAX_STRINGS} arguments and variables"
            )));
        }
        let program = spec.argv.first().ok_or_else(|| invalid("no program"))?;
        if !Path::new(program).is_absolute() || !spec.cwd.is_absolute() {
            return Err(invalid("program and directory must be absolute"));
        }
        if spec.limits.open_files < MIN_OPEN_FILES {
            return Err(invalid(format!("fewer than {MIN_OPEN_FILES} open files")));
        }
        let argv = spec.argv.iter().map(|text| c_string(text, "an argument"));
        let env = spec.env.iter().map(|(name, value)| {
            if name.is_empty() || name.contains('=') {
                return Err(invalid(
                    "the name of an environment variable is empty or holds =",
                ));
            }
            c_string(&format!("{name}={value}"), "an environment variable")
        });
        let cwd = spec
            .cwd
            .to_str()
            .ok_or_else(|| invalid("the directory is not UTF-8"))?;
        let mut rlimits = vec![
            (Resource::RLIMIT_NOFILE, spec.limits.open_files),
            (Resource::RLIMIT_FSIZE, spec.limits.file_size.0),
            (
                Resource::RLIMIT_NPROC,
                // One more where a cgroup refuses first: that one counts what it refuses.
                u64::from(spec.limits.group.processes) + u64::from(held.processes),
            ),
            (Resource::RLIMIT_CORE, 0),
            (Resource::RLIMIT_MEMLOCK, 0),
            (Resource::RLIMIT_SIGPENDING, PENDING_SIGNALS),
        ];
        if !held.memory {
            rlimits.push((Resource::RLIMIT_DATA, spec.limits.group.memory.0));
        }
        let namespaces = &recipe.namespaces;
        Ok(Self {
            argv: argv.collect::<Result<_, _>>()?,
            env: env.collect::<Result<_, _>>()?,
            cwd: c_string(cwd, "the directory")?,
            rlimits,
            namespace_limits: vec![
                ("max_mnt_namespaces", 0),
                ("max_ipc_namespaces", 0),
                ("max_uts_namespaces", 0),
                ("max_cgroup_namespaces", 0),
                ("max_time_namespaces", 0),
                ("max_net_namespaces", namespaces.net),
                ("max_pid_namespaces", namespaces.pid),
                ("max_user_namespaces", namespaces.user),
                ("max_inotify_instances", INOTIFY_INSTANCES),
                ("max_inotify_watches", INOTIFY_WATCHES),
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::{Control, Network, SandboxLimits};
    use super::*;
    use crate::limits::Bytes;

    fn spec() -> SandboxSpec {
        SandboxSpec {
            image: "bash".into(),
            argv: vec!["/bin/bash".into()],
            env: vec![("HOME".into(), "/tmp".into())],
            cwd: "/workspace".into(),
            network: Network::Runner,
            control: Control::None,
            limits: SandboxLimits {
                group: GroupLimits {
                    memory: Bytes::mib(64),
                    processes: 16,
                    cpu_percent: 100,
                },
                open_files: 64,
                file_size: Bytes::mib(1),
            },
        }
    }

    fn plan(spec: &SandboxSpec, held: bool) -> Result<Plan, StepError> {
        let recipe: Recipe = toml::from_str("seccomp = 'runner'").unwrap();
        let held = Held {
            memory: held,
            processes: held,
        };
        Plan::new(spec, &recipe, held)
    }

    #[test]
    fn without_a_cgroup_rlimits_hold_memory_per_process_and_the_exact_number_of_them() {
        let limit = |wanted, held| {
            let plan = plan(&spec(), held).unwrap();
            let mut limits = plan.rlimits.into_iter();
            limits.find(|(r, _)| *r == wanted).map(|(_, value)| value)
        };
        assert_eq!(limit(Resource::RLIMIT_DATA, true), None);
        assert_eq!(limit(Resource::RLIMIT_DATA, false), Some(64 << 20));
        assert_eq!(limit(Resource::RLIMIT_NPROC, true), Some(17));
        assert_eq!(limit(Resource::RLIMIT_NPROC, false), Some(16));
    }

    #[test]
    fn requests_that_make_no_sense_are_refused_before_anything_starts() {
        type Change = fn(&mut SandboxSpec);
        let cases: [(&str, Change); 9] = [
            ("no program", |s| s.argv.clear()),
            ("relative", |s| s.argv[0] = "bash".into()),
            ("relative cwd", |s| s.cwd = "workspace".into()),
            ("nul", |s| s.argv.push("a\0b".into())),
            ("bad name", |s| s.env[0].0 = "A=B".into()),
            ("no name", |s| s.env[0].0.clear()),
            ("no memory", |s| s.limits.group.memory = Bytes(0)),
            ("few files", |s| s.limits.open_files = 10),
            ("many", |s| s.argv = vec!["/x".into(); 2000]),
        ];
        for (name, break_it) in cases {
            let mut spec = spec();
            break_it(&mut spec);
            let error = plan(&spec, true).err().map(|error| error.step);
            assert_eq!(error.as_deref(), Some("validate"), "{name}");
        }
    }

    #[test]
    fn what_the_image_does_not_name_cannot_be_created_inside() {
        let plan = plan(&spec(), true).unwrap();
        let namespaces = plan.namespace_limits.iter();
        let mut namespaces = namespaces.filter(|(name, _)| name.ends_with("_namespaces"));
        assert_eq!(namespaces.clone().count(), 8);
        assert!(namespaces.all(|(_, value)| *value == 0));
    }
}
