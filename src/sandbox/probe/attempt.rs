//! Trying something in a process of its own, so that what it changes or breaks ends with it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::pipe2;

use super::super::error::StepError;
use super::super::sys::{self, Forked};

/// What an attempt finds: a few words beside "works", or the step that failed.
pub(super) type Found = Result<String, StepError>;

/// How long one attempt may take, in milliseconds: each needs a few, on a busy machine more.
const DEADLINE_MS: u16 = 10_000;
/// Longest finding; fits a pipe's atomic write.
const MAX_FOUND: usize = 4096;

pub(super) fn fail(step: &str, detail: &str) -> impl FnOnce(Errno) -> StepError {
    let (step, detail) = (step.to_owned(), detail.to_owned());
    move |errno| StepError::new(&step, errno, detail)
}

/// A step that did not fail, but did not do what it is for.
pub(super) fn useless(step: &str, detail: impl Into<String>) -> StepError {
    StepError {
        step: step.to_owned(),
        errno: 0,
        detail: detail.into(),
    }
}

/// Does `work` in a forked process.
pub(super) fn attempt(work: impl FnOnce() -> Found) -> Found {
    attempt_in(0, |_| Ok(()), work)
}

/// Does `work` in a process with the namespaces of `flags`, once `prepare` has been done with its
/// pid from outside.
pub(super) fn attempt_in(
    flags: i32,
    prepare: impl FnOnce(i32) -> Result<(), StepError>,
    work: impl FnOnce() -> Found,
) -> Found {
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(fail("attempt", "pipe"));
    let (found, finding) = pipe()?;
    let (go, going) = pipe()?;
    match sys::clone3(flags).map_err(fail("clone3", "new process"))? {
        Forked::Child => {
            drop((found, going));
            child(go, finding, work)
        }
        Forked::Parent { pid, pidfd } => {
            drop((go, finding));
            let prepared = prepare(pid).and_then(|()| {
                File::from(going)
                    .write_all(&[1])
                    .map_err(|error| StepError::io("attempt", &error, "release"))
            });
            let outcome = prepared.and_then(|()| outcome(found, &pidfd));
            // Over in any case; killing what has ended does nothing.
            let _ = sys::pidfd_kill(pidfd.as_fd());
            sys::wait(pid, 0).map_err(fail("attempt", "wait"))?;
            outcome
        }
    }
}

fn child(go: OwnedFd, finding: OwnedFd, work: impl FnOnce() -> Found) -> ! {
    let mut byte = [0];
    let released = File::from(go).read(&mut byte).is_ok_and(|count| count == 1);
    if released && prctl::set_pdeathsig(Signal::SIGKILL).is_ok() {
        let found = serde_json::to_vec(&work()).unwrap_or_default();
        // Nobody to tell when the reader is gone.
        let _ = File::from(finding).write_all(&found[..found.len().min(MAX_FOUND)]);
    }
    sys::exit_now(0)
}

/// What the process wrote, before its end and in time.
fn outcome(found: OwnedFd, pidfd: &OwnedFd) -> Found {
    let mut watched = [
        PollFd::new(found.as_fd(), PollFlags::POLLIN),
        PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
    ];
    loop {
        match poll(&mut watched, PollTimeout::from(DEADLINE_MS)) {
            Ok(0) => return Err(fail("attempt", "no answer in 10 s")(Errno::ETIMEDOUT)),
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(fail("attempt", "poll")(errno)),
        }
    }
    // What it wrote stays readable after its end.
    if watched[0].any() != Some(true) {
        return Err(useless("attempt", "the process was killed"));
    }
    let mut bytes = vec![0; MAX_FOUND];
    let count = File::from(found)
        .read(&mut bytes)
        .map_err(|error| StepError::io("attempt", &error, "read"))?;
    if count == 0 {
        return Err(useless("attempt", "the process was killed"));
    }
    serde_json::from_slice(&bytes[..count])
        .unwrap_or_else(|error| Err(useless("attempt", error.to_string())))
}
