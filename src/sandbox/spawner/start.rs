//! How the spawner process comes up: own namespaces, stage, probe; then it serves.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::stat::{Mode, umask};
use nix::sys::time::TimeVal;
use nix::unistd::{getegid, geteuid, getppid};

use super::super::cgroup::Cgroups;
use super::super::error::StepError;
use super::super::network::Netns;
use super::super::open_files::raise_open_files;
use super::super::probe::{self, Ground};
use super::super::spec::{HostReport, Probe};
use super::super::sys;
use super::super::wire::{self, Message, Refusal, Start, StartConfig};
use super::{Finder, SEND_TIMEOUT, Spawner, UidPool};

/// The name the spawner is executed under.
pub(in super::super) const ARGV0: &str = "pagebox-spawner";

/// Whether this process was executed to be the spawner. `main` asks before it does anything else.
pub fn is_spawner() -> bool {
    std::env::args_os().next().is_some_and(|name| name == ARGV0)
}

/// Entry of the re-executed helper process; never returns. Its command socket is fd 0.
pub fn spawner_main() -> ! {
    let code = match serve() {
        Ok(()) => 0,
        Err(error) => {
            // The daemon reports that the spawner died; this line says why.
            eprintln!("pagebox spawner: {error}");
            1
        }
    };
    sys::exit_now(code)
}

fn serve() -> io::Result<()> {
    let socket = sys::owned(0);
    // Whatever the daemon held that was not close-on-exec.
    sys::close_range(3, u32::MAX)?;
    umask(Mode::from_bits_truncate(0o022));
    let Some((Start { daemon_pid }, fds)) = wire::receive(&socket)? else {
        return Ok(());
    };
    let config = read_config(fds)?;
    let timeout = TimeVal::new(SEND_TIMEOUT.as_secs().cast_signed(), 0);
    setsockopt(&socket, sockopt::SendTimeout, &timeout)?;
    let mut spawner = match start(socket.try_clone()?, daemon_pid, config) {
        Ok((spawner, report)) => {
            wire::send(socket.as_fd(), &Message::Hello(Ok(report)), &[])?;
            spawner
        }
        Err(refusal) => {
            return wire::send(socket.as_fd(), &Message::Hello(Err(refusal)), &[]);
        }
    };
    drop(socket);
    let served = spawner.serve();
    spawner.end_all();
    served
}

fn read_config(fds: Vec<OwnedFd>) -> io::Result<StartConfig> {
    let fd = fds.into_iter().next().ok_or(io::ErrorKind::InvalidData)?;
    let mut file = File::from(fd);
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// Steps of the start, in order; everything later happens in the namespaces made here.
fn start(
    socket: OwnedFd,
    daemon_pid: i32,
    config: StartConfig,
) -> Result<(Spawner, HostReport), Refusal> {
    let failed = |detail: &'static str| {
        move |errno| Refusal::Step(StepError::new("spawner-start", errno, detail))
    };
    let daemon = sys::pidfd_open(daemon_pid).map_err(failed("pidfd of the daemon"))?;
    if getppid().as_raw() != daemon_pid {
        return Err(failed("the daemon is gone")(Errno::ESRCH));
    }
    // Every session holds some of ours; and of what is under way in sockets (SCM_RIGHTS) the kernel
    // lets one user have as many as the sender may have open.
    raise_open_files(u64::MAX)
        .map_err(|error| Refusal::Step(StepError::io("spawner-start", &error, "open files")))?;
    ignore_requests_to_end().map_err(failed("block signals"))?;
    // Started by /proc/self/exe, it would be `exe` in every list of processes.
    prctl::set_name(c"pagebox-spawner").map_err(failed("name"))?;
    let rootless = !geteuid().is_root();
    if !rootless && (config.uid_base == 0 || config.uid_count == 0) {
        return Err(failed("uid_base and uid_count must not be 0")(
            Errno::EINVAL,
        ));
    }
    let (base, count) = if rootless {
        (0, 1)
    } else {
        (config.uid_base, config.uid_count)
    };
    let cgroups = Cgroups::detect(config.cgroups, daemon_pid).map_err(Refusal::Step)?;
    let ground = Ground {
        rootless,
        first_uid: base,
    };
    let mut report = probe::mechanisms(ground, &cgroups, &config.allow_degraded);
    let give_up = |mut report: HostReport, probe: Probe| {
        if let Some(group) = cgroups.top() {
            group.remove();
        }
        report.probes.push(probe);
        Refusal::Host(report)
    };
    if report.refused().any(|probe| probe.weakening.is_none()) {
        return Err(give_up(report, probe::not_built()));
    }
    if rootless {
        own_user_namespace().map_err(Refusal::Step)?;
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(failed("unshare mount namespace"))?;
    let home = Netns::enter_new().map_err(Refusal::Step)?;
    // After the last change of credentials, which clears it. The pidfd in the poll loop and the
    // end of file on the socket are what counts when the daemon has dropped to another uid, which
    // may not signal root.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("PDEATHSIG"))?;
    let (images, init_profile) = match super::compile(config.images) {
        Ok(compiled) => compiled,
        Err(error) => return Err(give_up(report, probe::built(Err(error)))),
    };
    let mut spawner = Spawner {
        socket,
        daemon,
        images,
        init_profile,
        cgroups,
        rootless,
        home,
        uids: UidPool {
            base,
            count,
            next: 0,
        },
        spaces: std::collections::BTreeMap::new(),
        sandboxes: std::collections::BTreeMap::new(),
        next_id: 0,
        finder: Finder::new(),
        look_at: std::time::Instant::now(),
    };
    report.probes.push(probe::sandboxes(&mut spawner));
    if report.refused().next().is_some() {
        spawner.end_all();
        return Err(Refusal::Host(report));
    }
    Ok((spawner, report))
}

/// Rootless: a user namespace in which our uid is 0. The kernel demands that setgroups is given up
/// before the gid is mapped.
pub(in super::super) fn own_user_namespace() -> Result<(), StepError> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER)
        .map_err(|errno| StepError::new("user-namespace", errno, "unshare"))?;
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), text)
            .map_err(|error| StepError::io("user-namespace", &error, file))?;
    }
    Ok(())
}

/// A service manager stops every process of a service at once; the daemon must then have a spawner
/// for as long as it drains. This process ends with the daemon and by nothing else. Blocked, not
/// ignored: sandboxes start with an empty mask.
fn ignore_requests_to_end() -> nix::Result<()> {
    let mut requests = SigSet::empty();
    for request in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        requests.add(request);
    }
    requests.thread_block()
}
