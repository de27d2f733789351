//! Starting the spawner process from the daemon, and giving up root afterwards.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::error::Error;
use super::spawner::ARGV0;
use super::spec::{HostReport, SpawnerConfig};
use super::wire::{self, Message, Refusal, Start};

/// A started spawner, before tokio runs. Dropping it ends the spawner.
#[derive(Debug)]
pub struct SpawnerProcess {
    pub(super) socket: OwnedFd,
    pub(super) child: Child,
    pub(super) report: HostReport,
}

impl SpawnerProcess {
    /// What this host isolates, probed by using it.
    pub fn report(&self) -> &HostReport {
        &self.report
    }
}

fn start_error(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::StartSpawner { what, source }
}

/// Starts the spawner and waits until it has probed the host. Must be called from the main thread
/// before tokio runs: the spawner dies with the thread that starts it. As root, call
/// [`drop_privileges`] next.
///
/// # Errors
/// [`Error::HostRefused`] with the whole report when the host lacks something that is not allowed
/// to be missing; [`Error::Step`] for an image that cannot be built.
pub fn start_spawner(config: &SpawnerConfig) -> Result<SpawnerProcess, Error> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (socket, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
        .map_err(|errno| start_error("socketpair")(errno.into()))?;
    let memfd = memfd_create("pagebox-config", MFdFlags::MFD_CLOEXEC)
        .map_err(|errno| start_error("memfd_create")(errno.into()))?;
    let text = serde_json::to_vec(config).map_err(|e| start_error("config")(e.into()))?;
    let mut memfd = File::from(memfd);
    memfd.write_all(&text).map_err(start_error("config"))?;
    let this = Path::new("/proc/self/exe");
    let child = Command::new(config.executable.as_deref().unwrap_or(this))
        .arg0(ARGV0)
        // Ctrl-C in a terminal goes to the whole group; the daemon decides what it means.
        .process_group(0)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(start_error("execute"))?;
    let mut process = SpawnerProcess {
        socket,
        child,
        report: HostReport::default(),
    };
    let start = Start {
        daemon_pid: std::process::id().cast_signed(),
    };
    wire::send(process.socket.as_fd(), &start, &[memfd.as_fd()]).map_err(start_error("send"))?;
    let hello = wire::receive::<Message>(&process.socket).map_err(start_error("receive"))?;
    match hello {
        Some((Message::Hello(Ok(report)), _)) => {
            process.report = report;
            Ok(process)
        }
        Some((Message::Hello(Err(Refusal::Host(report))), _)) => Err(Error::HostRefused(report)),
        Some((Message::Hello(Err(Refusal::Step(error))), _)) => Err(Error::Step(error)),
        Some(_) => Err(Error::Protocol("not a hello".to_owned())),
        None => Err(Error::SpawnerDied),
    }
}

/// Gives up root for good in all threads: no groups, `uid` as uid and gid, no capability, and no
/// way back by a set-uid program.
///
/// # Errors
/// Any call that fails, or a `uid` of 0: the caller must not go on.
pub fn drop_privileges(uid: u32) -> Result<(), Error> {
    let failed = |step: &'static str| {
        move |errno: nix::errno::Errno| Error::DropPrivileges {
            uid,
            step,
            source: errno.into(),
        }
    };
    if uid == 0 {
        return Err(failed("0 is root")(nix::errno::Errno::EINVAL));
    }
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setgroups(&[]).map_err(failed("setgroups"))?;
    setresgid(group, group, group).map_err(failed("setresgid"))?;
    setresuid(user, user, user).map_err(failed("setresuid"))?;
    prctl::set_no_new_privs().map_err(failed("no_new_privs"))
}
