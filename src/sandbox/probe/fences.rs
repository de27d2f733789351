//! What stops a program that is already inside: seccomp, no_new_privs, Landlock.

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;

use super::super::landlock::{self, Fence};
use super::super::{seccomp, sys};
use super::Ground;
use super::attempt::{Found, attempt, fail, useless};

/// Answers one harmless call with an errno it never gives by itself.
const FILTER: &str = r#"{"allow": {"mismatch_action": "allow", "match_action": {"errno": 105},
    "filter": [{"syscall": "unshare"}]}}"#;

pub(super) fn no_new_privs(_: Ground) -> Found {
    attempt(|| {
        prctl::set_no_new_privs().map_err(fail("prctl", "PR_SET_NO_NEW_PRIVS"))?;
        match prctl::get_no_new_privs() {
            Ok(true) => Ok(String::new()),
            other => Err(useless("prctl", format!("no_new_privs: {other:?}"))),
        }
    })
}

pub(super) fn seccomp(_: Ground) -> Found {
    attempt(|| {
        let filter = seccomp::compile(FILTER).map_err(|error| useless("seccomp", error))?;
        let call = || unshare(CloneFlags::empty());
        call().map_err(fail("unshare", "of nothing"))?;
        prctl::set_no_new_privs().map_err(fail("prctl", "PR_SET_NO_NEW_PRIVS"))?;
        filter
            .install(true)
            .map_err(|error| useless("seccomp", error.to_string()))?;
        match call() {
            Err(Errno::ENOBUFS) => Ok(String::new()),
            other => Err(useless("seccomp", format!("a refused call: {other:?}"))),
        }
    })
}

/// `Err` with ENOSYS when the kernel's Landlock is too old for this fence.
pub(super) fn landlock(fence: Fence) -> Found {
    let abi = sys::landlock_abi();
    if abi < fence.since() {
        let what = match abi {
            0 => "not in this kernel, or not enabled".to_owned(),
            _ => format!("ABI {abi}, needs {}", fence.since()),
        };
        return Err(fail("landlock", &what)(Errno::ENOSYS));
    }
    attempt(move || {
        landlock::refuses(fence).map_err(|error| useless("landlock", error))?;
        Ok(format!("ABI {abi}"))
    })
}
