//! cgroups, one controller at a time: a group is made, limited, and a process in it is counted.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::limits::Bytes;

use super::super::cgroup::Group;
use super::super::error::StepError;
use super::super::spec::{GroupLimits, Usage};
use super::super::sys::{self, Forked};
use super::super::usage::Counters;
use super::attempt::{Found, attempt, fail, useless};

const LIMITS: GroupLimits = GroupLimits {
    memory: Bytes::mib(64),
    processes: 4,
    cpu_percent: 100,
};
/// Memory that must be counted, and time.
const USED: Bytes = Bytes::mib(8);
const BUSY: Duration = Duration::from_millis(20);

/// Does `work` in a group of its own, and reads what it used.
fn inside(
    top: &Group,
    name: &str,
    work: impl FnOnce() -> Found,
) -> Result<(String, Usage), StepError> {
    let group = top.child(name, &LIMITS, false)?;
    let found = group.entrances().and_then(|entrances| {
        attempt(|| {
            entrances.join()?;
            work()
        })
    });
    let usage = Counters::new(group.counters()).read();
    group.remove();
    Ok((found?, usage))
}

pub(super) fn memory(top: &Group) -> Found {
    let (found, usage) = inside(top, "probe-memory", || {
        let bytes = vec![1u8; USED.as_usize()];
        std::hint::black_box(&bytes);
        Ok(String::new())
    })?;
    match usage.peak_memory {
        Some(peak) if peak >= USED => Ok(found),
        peak => Err(useless("cgroup", format!("{USED} used, {peak:?} counted"))),
    }
}

pub(super) fn processes(top: &Group) -> Found {
    inside(top, "probe-processes", || {
        let mut started = Vec::new();
        let refused = (0..2 * LIMITS.processes).find_map(|_| match sys::clone3(0) {
            Ok(Forked::Child) => {
                // Ends by itself soon, should its parent not get to it.
                std::thread::sleep(Duration::from_secs(5));
                sys::exit_now(0)
            }
            Ok(Forked::Parent { pid, pidfd }) => {
                started.push((pid, pidfd));
                None
            }
            Err(errno) => Some(errno),
        });
        for (pid, pidfd) in &started {
            sys::pidfd_kill(pidfd.as_fd()).map_err(fail("kill", "a process"))?;
            sys::wait(*pid, 0).map_err(fail("wait4", "a process"))?;
        }
        match refused {
            Some(Errno::EAGAIN) => Ok(String::new()),
            other => Err(useless(
                "cgroup",
                format!(
                    "{} processes of {}, then {other:?}",
                    started.len() + 1,
                    LIMITS.processes
                ),
            )),
        }
    })
    .map(|(found, _)| found)
}

pub(super) fn cpu(top: &Group) -> Found {
    let (found, usage) = inside(top, "probe-cpu", || {
        let started = Instant::now();
        let mut sum = 0u64;
        while started.elapsed() < BUSY {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        Ok(String::new())
    })?;
    match usage.cpu_time {
        Duration::ZERO => Err(useless("cgroup", "no cpu time counted")),
        _ => Ok(found),
    }
}
