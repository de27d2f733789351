//! pid 1 of a sandbox: reaps, reports how the program ended, and ends with it, upon which the
//! kernel kills whatever is left. It executes nothing and reads nothing from inside.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::write;

use super::error::StepError;
use super::seccomp::Profile;
use super::sys;

/// Stays until `program` has ended; writes its wait status to `report`.
///
/// Returns only an error of its own set-up. Of the descriptors it has, all but `report` are closed
/// first: above all the status pipe, whose end of file tells the spawner that execve succeeded.
pub(super) fn run(program: i32, report: &OwnedFd, profile: &Profile) -> Result<(), StepError> {
    let failed = |detail: &'static str| move |errno| StepError::new("init", errno, detail);
    let keep = u32::try_from(report.as_raw_fd()).map_err(|_| failed("report")(Errno::EBADF))?;
    if keep > 0 {
        sys::close_range(0, keep - 1).map_err(failed("close_range"))?;
    }
    sys::close_range(keep + 1, u32::MAX).map_err(failed("close_range"))?;
    if profile.install(true).is_err() {
        sys::exit_now(1);
    }
    loop {
        match sys::wait(-1, libc::__WALL) {
            Ok(Some(ended)) if ended.pid == program => {
                // The spawner reads this after it has reaped us; it cannot block on 4 bytes.
                let _ = write(report.as_fd(), &ended.status.to_ne_bytes());
                sys::exit_now(0)
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => sys::exit_now(1),
        }
    }
}
