//! What the kernel must do to keep a sandbox apart: namespaces, mounts, handles on processes.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, OpenHow, ResolveFlag, fcntl, open, openat2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, getuid, pipe2, sethostname, setresgid, setresuid};

use crate::limits::Bytes;

use super::super::error::StepError;
use super::super::network::{self, Netns};
use super::super::plan::INNER_UID;
use super::super::spawner::{map_ids, own_user_namespace};
use super::super::sys::{self, Forked};
use super::super::{child, mounts};
use super::Ground;
use super::attempt::{Found, attempt, attempt_in, fail, useless};

/// A port of an empty network namespace.
const PORT: u16 = 1;
/// How long what must happen at once may take, in milliseconds.
const SOON_MS: u16 = 5000;

/// Where the spawner works: as root, or as root of its own user namespace.
fn enter(ground: Ground) -> Result<(), StepError> {
    if ground.rootless {
        own_user_namespace()?;
    }
    Ok(())
}

/// Leaves a namespace and makes sure of it.
fn leave(flag: CloneFlags, kind: &str) -> Result<(), StepError> {
    let link = || {
        fs::read_link(format!("/proc/self/ns/{kind}"))
            .map_err(|error| StepError::io("unshare", &error, format!("/proc/self/ns/{kind}")))
    };
    let before = link()?;
    unshare(flag).map_err(fail("unshare", kind))?;
    if link()? == before {
        return Err(useless("unshare", format!("still in the same {kind}")));
    }
    Ok(())
}

fn done() -> Found {
    Ok(String::new())
}

pub(super) fn user_namespaces(ground: Ground) -> Found {
    attempt(|| {
        enter(ground)?;
        leave(CloneFlags::CLONE_NEWUSER, "user")?;
        done()
    })
}

/// 1000 inside is the session's uid outside.
pub(super) fn id_maps(ground: Ground) -> Found {
    let mapped = move |pid| {
        map_ids(pid, ground.first_uid)?;
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let map = read("uid_map").map_err(|error| StepError::io("map-ids", &error, "uid_map"))?;
        let wanted = [INNER_UID, ground.first_uid, 1].map(|number| number.to_string());
        if map.split_whitespace().ne(wanted.iter()) {
            return Err(useless("map-ids", format!("uid_map is {map:?}")));
        }
        Ok(())
    };
    attempt(|| {
        enter(ground)?;
        attempt_in(libc::CLONE_NEWUSER, mapped, || {
            let (uid, gid) = (Uid::from_raw(INNER_UID), Gid::from_raw(INNER_UID));
            setresgid(gid, gid, gid).map_err(fail("become-user", "setresgid"))?;
            setresuid(uid, uid, uid).map_err(fail("become-user", "setresuid"))?;
            if getuid() != uid {
                return Err(useless("become-user", format!("uid {}", getuid())));
            }
            done()
        })
    })
}

pub(super) fn mount_namespaces(ground: Ground) -> Found {
    attempt(|| {
        enter(ground)?;
        leave(CloneFlags::CLONE_NEWNS, "mnt")?;
        mounts::make_private()?;
        done()
    })
}

pub(super) fn pid_namespaces(ground: Ground) -> Found {
    attempt(|| {
        enter(ground)?;
        attempt_in(
            libc::CLONE_NEWPID,
            |_| Ok(()),
            || match std::process::id() {
                1 => done(),
                pid => Err(useless("clone3", format!("pid {pid} instead of 1"))),
            },
        )
    })
}

pub(super) fn network_namespaces(ground: Ground) -> Found {
    attempt(|| {
        enter(ground)?;
        Netns::enter_new()?;
        done()
    })
}

/// A socket made in another network namespace accepts from outside, and answers only inside.
pub(super) fn passed_listeners(ground: Ground) -> Found {
    attempt(|| {
        enter(ground)?;
        let home = Netns::enter_new()?;
        let inside = Netns::enter_new()?;
        let listener = network::listener(PORT)?;
        home.enter()?;
        if TcpStream::connect(("127.0.0.1", PORT)).is_ok() {
            return Err(useless("network-namespace", "its port answers outside"));
        }
        inside.enter()?;
        let io = |what: &'static str| {
            move |error: std::io::Error| StepError::io("network-namespace", &error, what)
        };
        let _stream = TcpStream::connect(("127.0.0.1", PORT)).map_err(io("connect inside"))?;
        home.enter()?;
        listener.accept().map_err(io("accept outside"))?;
        done()
    })
}

pub(super) fn ipc_namespaces(ground: Ground) -> Found {
    attempt(|| {
        enter(ground)?;
        leave(CloneFlags::CLONE_NEWIPC, "ipc")?;
        done()
    })
}

pub(super) fn uts_namespaces(ground: Ground) -> Found {
    attempt(|| {
        enter(ground)?;
        leave(CloneFlags::CLONE_NEWUTS, "uts")?;
        sethostname("pagebox").map_err(fail("sethostname", "pagebox"))?;
        done()
    })
}

pub(super) fn cgroup_namespaces(ground: Ground) -> Found {
    attempt(|| {
        enter(ground)?;
        leave(CloneFlags::CLONE_NEWCGROUP, "cgroup")?;
        done()
    })
}

/// A tmpfs that is mounted nowhere, made read-only, and a copy of a tree of mounts.
pub(super) fn detached_mounts(ground: Ground) -> Found {
    attempt(|| {
        enter(ground)?;
        unshare(CloneFlags::CLONE_NEWNS).map_err(fail("unshare", "mnt"))?;
        mounts::make_private()?;
        let mount = mounts::tmpfs(Bytes::mib(1), 16, "0755", 0)?;
        let base = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
        let write = || fs::write(base.join("file"), "x");
        write().map_err(|error| StepError::io("fsmount", &error, "write"))?;
        sys::mount_setattr(mount.as_fd(), libc::MOUNT_ATTR_RDONLY)
            .map_err(fail("mount_setattr", "read-only"))?;
        match write() {
            Err(error) if error.raw_os_error() == Some(libc::EROFS) => {}
            other => {
                return Err(useless("mount_setattr", format!("write: {other:?}")));
            }
        }
        sys::open_tree(AT_FDCWD, c"/usr").map_err(fail("open_tree", "/usr"))?;
        done()
    })
}

/// A /proc of a new pid namespace, with processes and nothing else in it.
pub(super) fn private_proc(ground: Ground) -> Found {
    attempt(|| {
        enter(ground)?;
        let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS;
        attempt_in(
            flags,
            |_| Ok(()),
            || {
                mounts::make_private()?;
                let proc = mounts::new_proc(true)?;
                let base = PathBuf::from(format!("/proc/self/fd/{}", proc.as_raw_fd()));
                fs::read(base.join("1/stat"))
                    .map_err(|error| StepError::io("mount-proc", &error, "1/stat in it"))?;
                match base.join("cpuinfo").exists() {
                    false => done(),
                    true => Err(useless("mount-proc", "subset=pid left more than processes")),
                }
            },
        )
    })
}

pub(super) fn pivot_root(ground: Ground) -> Found {
    attempt(|| {
        enter(ground)?;
        unshare(CloneFlags::CLONE_NEWNS).map_err(fail("unshare", "mnt"))?;
        mounts::make_private()?;
        let root = mounts::tmpfs(Bytes::mib(1), 16, "0755", 0)?;
        sys::move_mount(root.as_fd(), AT_FDCWD, c"/").map_err(fail("move_mount", "/"))?;
        mounts::pivot(root.as_fd())?;
        done()
    })
}

/// A limit of 0 set in a user namespace lets none be made below it.
pub(super) fn namespace_limits(ground: Ground) -> Found {
    attempt(|| {
        enter(ground)?;
        unshare(CloneFlags::CLONE_NEWUSER).map_err(fail("unshare", "user"))?;
        let file = "/proc/sys/user/max_user_namespaces";
        fs::write(file, "0").map_err(|error| StepError::io("namespace-limits", &error, file))?;
        match unshare(CloneFlags::CLONE_NEWUSER) {
            Err(Errno::ENOSPC) => done(),
            other => Err(useless("namespace-limits", format!("unshare: {other:?}"))),
        }
    })
}

/// Set-up of the program's rights: nothing is left, and nothing can be had back.
pub(super) fn capabilities(ground: Ground) -> Found {
    attempt(|| {
        enter(ground)?;
        unshare(CloneFlags::CLONE_NEWUTS).map_err(fail("unshare", "uts"))?;
        child::lock_securebits()?;
        child::empty_capabilities()?;
        let status = fs::read_to_string("/proc/self/status")
            .map_err(|error| StepError::io("capabilities", &error, "/proc/self/status"))?;
        let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
        let left = status.lines().find(|line| {
            line.split_once(':').is_some_and(|(name, value)| {
                sets.contains(&name) && !value.trim().trim_start_matches('0').is_empty()
            })
        });
        match (left, sethostname("pagebox")) {
            (None, Err(Errno::EPERM)) => done(),
            (left, named) => Err(useless(
                "capabilities",
                format!("left: {left:?}, sethostname: {named:?}"),
            )),
        }
    })
}

/// A process that only waits, at most as long as the test takes, and ends with its parent.
fn sleeper() -> Result<(i32, OwnedFd), StepError> {
    match sys::clone3(0).map_err(fail("clone3", "a process"))? {
        Forked::Parent { pid, pidfd } => Ok((pid, pidfd)),
        Forked::Child => {
            if prctl::set_pdeathsig(Signal::SIGKILL).is_ok() {
                std::thread::sleep(2 * Duration::from_millis(SOON_MS.into()));
            }
            sys::exit_now(0)
        }
    }
}

/// Whether something is there to read, or gone, soon.
fn soon(fd: &OwnedFd) -> Result<bool, StepError> {
    let mut watched = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut watched, PollTimeout::from(SOON_MS))
        .map(|ready| ready > 0)
        .map_err(fail("poll", "a descriptor"))
}

pub(super) fn pidfd(_: Ground) -> Found {
    attempt(|| {
        let (pid, _) = sleeper()?;
        let pidfd = sys::pidfd_open(pid).map_err(fail("pidfd_open", "a process"))?;
        sys::pidfd_kill(pidfd.as_fd()).map_err(fail("pidfd_send_signal", "SIGKILL"))?;
        if !soon(&pidfd)? {
            return Err(useless("pidfd", "does not tell of the process's end"));
        }
        sys::wait(pid, 0).map_err(fail("wait4", "a process"))?;
        done()
    })
}

pub(super) fn parent_death(_: Ground) -> Found {
    attempt(|| {
        let (left, held) = pipe2(OFlag::O_CLOEXEC).map_err(fail("pipe", ""))?;
        match sys::clone3(0).map_err(fail("clone3", "a process"))? {
            // It ends with a child alive, which holds the pipe until it dies too.
            Forked::Child => {
                drop(left);
                let code = i32::from(orphan(held).is_err());
                sys::exit_now(code)
            }
            Forked::Parent { pid, .. } => {
                drop(held);
                sys::wait(pid, 0).map_err(fail("wait4", "a process"))?;
                match soon(&left)? {
                    true => done(),
                    false => Err(useless("PDEATHSIG", "a process outlived its parent")),
                }
            }
        }
    })
}

/// Starts a process that waits, and returns once it has asked for its own death with ours.
fn orphan(held: OwnedFd) -> Result<(), StepError> {
    let (asked, asking) = pipe2(OFlag::O_CLOEXEC).map_err(fail("pipe", ""))?;
    if let Forked::Child = sys::clone3(0).map_err(fail("clone3", "a process"))? {
        let ready = prctl::set_pdeathsig(Signal::SIGKILL).is_ok();
        if ready && File::from(asking).write_all(&[1]).is_ok() {
            std::thread::sleep(2 * Duration::from_millis(SOON_MS.into()));
        }
        drop(held);
        sys::exit_now(0)
    }
    drop(asking);
    soon(&asked).map(drop)
}

pub(super) fn close_range(_: Ground) -> Found {
    attempt(|| {
        let null =
            open("/dev/null", OFlag::O_RDONLY, Mode::empty()).map_err(fail("open", "/dev/null"))?;
        let copy = fcntl(&null, FcntlArg::F_DUPFD(100)).map_err(fail("fcntl", "/dev/null"))?;
        let number = copy.cast_unsigned();
        sys::cloexec_from(number).map_err(fail("close_range", "CLOEXEC"))?;
        sys::close_range(number, u32::MAX).map_err(fail("close_range", "close"))?;
        match fs::read_link(format!("/proc/self/fd/{copy}")) {
            Err(_) => done(),
            Ok(_) => Err(useless("close_range", "the descriptor is still open")),
        }
    })
}

/// A path that leads out of its directory is refused by the kernel.
pub(super) fn openat2_beneath(_: Ground) -> Found {
    attempt(|| {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let usr = open("/usr", flags, Mode::empty()).map_err(fail("open", "/usr"))?;
        let how = |resolve| OpenHow::new().flags(flags).resolve(resolve);
        let beneath = ResolveFlag::RESOLVE_BENEATH;
        openat2(&usr, ".", how(beneath)).map_err(fail("openat2", "."))?;
        match openat2(&usr, "..", how(beneath)) {
            Err(Errno::EXDEV) => done(),
            other => Err(useless("openat2", format!("..: {other:?}"))),
        }
    })
}
