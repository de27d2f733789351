//! Whose a sandbox's user namespace is.
//!
//! Inotify instances and watches, pending signals, POSIX timers and namespaces are counted twice:
//! for the user inside, and for the user outside who made the user namespace, against the host's
//! limits for one user. Were that root for every sandbox, one session could take them all from the
//! other sessions and from the host.

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{ROOT, Uid, seteuid};

use super::super::child;
use super::super::sys::{self, Forked};

/// SECBIT_NO_SETUID_FIXUP: a change of uid leaves the capabilities as they are.
const KEEP_CAPABILITIES: u64 = 1 << 2;
const NO_SECUREBITS: u64 = 0;

/// Clones into new namespaces, of which `uid` is the owner. For a spawner that is root.
pub(super) fn clone_for(uid: u32) -> Result<Forked, Errno> {
    sys::prctl(libc::PR_SET_SECUREBITS, KEEP_CAPABILITIES, 0)?;
    let forked = seteuid(Uid::from_raw(uid)).and_then(|()| sys::clone3(child::NAMESPACES));
    if let Ok(Forked::Child) = forked {
        // Lost with the change of uid; its files in /proc would be the host's root's.
        if prctl::set_dumpable(true).is_err() {
            sys::exit_now(1);
        }
        return forked;
    }
    seteuid(ROOT)?;
    sys::prctl(libc::PR_SET_SECUREBITS, NO_SECUREBITS, 0)?;
    // Lost as well.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    forked
}
