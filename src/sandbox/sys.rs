//! Thin wrappers for the system calls neither std nor nix offers safely. All unsafe code of the
//! crate is here: one operation per block. It knows nothing of sandboxes.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use nix::errno::Errno;
use tokio::io::unix::AsyncFd;

type Result<T> = std::result::Result<T, Errno>;

/// Where a forked process continues.
pub(super) enum Forked {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

/// clone3 without shared memory: a fork into the namespaces of `flags`. The caller must be single
/// threaded (it is: the spawner and its children), so that the child may go on as normal code.
pub(super) fn clone3(flags: i32) -> Result<Forked> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain data for which zero means "not used".
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = (flags | libc::CLONE_PIDFD) as u64;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: args is valid for its size; without CLONE_VM the child has its own copy of memory.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            ptr::from_mut(&mut args),
            size_of::<libc::clone_args>(),
        )
    };
    match Errno::result(pid)? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent {
            pid: i32::try_from(pid).expect("process ids fit in 32 bits"),
            pidfd: owned(pidfd),
        }),
    }
}

/// fork for the single-threaded init of a sandbox; `None` in the child.
pub(super) fn fork() -> Result<Option<i32>> {
    // SAFETY: the process has one thread, so the child may run any code.
    let pid = Errno::result(unsafe { libc::fork() })?;
    Ok((pid != 0).then_some(pid))
}

/// Ends the process at once, without destructors or exit handlers of a copied parent.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory.
    unsafe { libc::_exit(code) }
}

/// A pidfd for a process that is not our child.
pub(super) fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: takes integers only.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    Ok(owned(fd as RawFd))
}

/// SIGKILL by pidfd.
pub(super) fn pidfd_kill(pidfd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the siginfo pointer may be null.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            libc::SIGKILL,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    Errno::result(result).map(drop)
}

/// Fixes the size from which malloc maps, `mallopt(3)`.
pub(super) fn set_mmap_threshold(bytes: i32) {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes integers only; it fails only for sizes beyond half a heap.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, bytes);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = bytes;
}

/// Sets the niceness of a process and of what it forks from then on.
pub(super) fn set_nice(pid: i32, nice: i32) -> Result<()> {
    // SAFETY: takes integers only.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, pid.unsigned_abs(), nice) })
        .map(drop)
}

/// What wait4 tells of an ended process.
pub(super) struct Waited {
    pub(super) pid: i32,
    pub(super) status: i32,
    /// User and system time, of it and of the descendants it waited for.
    pub(super) cpu_time: Duration,
}

/// wait4; `None` when nothing has ended yet (only without `block`: `WNOHANG`).
pub(super) fn wait(pid: i32, options: i32) -> Result<Option<Waited>> {
    let mut status = 0;
    // SAFETY: rusage is plain data.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: both pointers are valid for the call.
    let pid = Errno::result(unsafe { libc::wait4(pid, &mut status, options, &mut usage) })?;
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec.unsigned_abs())
            + Duration::from_micros(t.tv_usec.unsigned_abs())
    };
    Ok((pid != 0).then(|| Waited {
        pid,
        status,
        cpu_time: time(usage.ru_utime) + time(usage.ru_stime),
    }))
}

/// A copy of the mount (and those below it) at `path`, attached nowhere.
pub(super) fn open_tree(dir: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | libc::AT_RECURSIVE as u32
        | libc::AT_EMPTY_PATH as u32;
    // SAFETY: path is a valid C string.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) };
    Ok(owned(Errno::result(fd)? as RawFd))
}

/// Attaches a detached mount at `path` below `dir`; the last component is not followed.
pub(super) fn move_mount(mount: BorrowedFd<'_>, dir: BorrowedFd<'_>, path: &CStr) -> Result<()> {
    // SAFETY: both strings are valid C strings.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            dir.as_raw_fd(),
            path.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH
                | if path.is_empty() {
                    libc::MOVE_MOUNT_T_EMPTY_PATH
                } else {
                    0
                },
        )
    };
    Errno::result(result).map(drop)
}

/// Sets `MOUNT_ATTR_*` on a mount and all below it.
pub(super) fn mount_setattr(mount: BorrowedFd<'_>, set: u64) -> Result<()> {
    set_attributes(mount, set, libc::AT_RECURSIVE)
}

/// The same for this mount only.
pub(super) fn mount_setattr_one(mount: BorrowedFd<'_>, set: u64) -> Result<()> {
    set_attributes(mount, set, 0)
}

fn set_attributes(mount: BorrowedFd<'_>, set: u64, flags: i32) -> Result<()> {
    let attr = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: attr is valid for its size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            ptr::from_ref(&attr),
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result).map(drop)
}

/// A new file system of `kind` with `options`, mounted nowhere; `attributes` are `MOUNT_ATTR_*`.
pub(super) fn new_mount(
    kind: &CStr,
    options: &[(&str, String)],
    attributes: u64,
) -> Result<OwnedFd> {
    const SET_STRING: u32 = 1;
    const CREATE: u32 = 6;
    // SAFETY: kind is a valid C string.
    let context = unsafe {
        libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 1 /* CLOEXEC */)
    };
    let context = owned(Errno::result(context)? as RawFd);
    let config = |command: u32, key: *const libc::c_char, value: *const libc::c_char| {
        // SAFETY: key and value are null or valid C strings that live through the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                context.as_raw_fd(),
                command,
                key,
                value,
                0,
            )
        };
        Errno::result(result).map(drop)
    };
    for (key, value) in options {
        let key = CString::new(*key).map_err(|_| Errno::EINVAL)?;
        let value = CString::new(value.as_str()).map_err(|_| Errno::EINVAL)?;
        config(SET_STRING, key.as_ptr(), value.as_ptr())?;
    }
    config(CREATE, ptr::null(), ptr::null())?;
    // SAFETY: takes integers only.
    let mount = unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            1, /* CLOEXEC */
            attributes,
        )
    };
    Ok(owned(Errno::result(mount)? as RawFd))
}

/// Closes fds `first..=last`.
pub(super) fn close_range(first: u32, last: u32) -> Result<()> {
    close_range_flags(first, last, 0)
}

/// Marks fds `first..` to be closed by execve.
pub(super) fn cloexec_from(first: u32) -> Result<()> {
    close_range_flags(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range_flags(first: u32, last: u32, flags: u32) -> Result<()> {
    // SAFETY: callers name only ranges in which no OwnedFd is used again.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    Errno::result(result).map(drop)
}

/// Makes `fd` also the fixed number `at`, which execve keeps.
pub(super) fn place_fd(fd: BorrowedFd<'_>, at: RawFd) -> Result<()> {
    // SAFETY: `at` is 0 to 4, which no OwnedFd of the caller holds (they were moved above).
    Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), at) }).map(drop)
}

/// Takes ownership of a number this process was started with or has just received.
pub(super) fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass a number the kernel just handed out, or one given at exec, once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// prctl with integer arguments.
pub(super) fn prctl(operation: i32, a: u64, b: u64) -> Result<i32> {
    // SAFETY: only operations with integer arguments are called.
    Errno::result(unsafe { libc::prctl(operation, a, b, 0u64, 0u64) })
}

/// Empties the effective, permitted and inheritable capability sets.
pub(super) fn drop_capabilities() -> Result<()> {
    let header = [0x2008_0522u32, 0]; // _LINUX_CAPABILITY_VERSION_3, this thread
    let sets = [0u32; 6];
    // SAFETY: version 3 takes two sets of three words.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    Errno::result(result).map(drop)
}

/// Default action for every signal, and none blocked.
pub(super) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is always valid; SIGKILL, SIGSTOP and libc's own give EINVAL, as wanted.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero set is the empty set.
    let none: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: the pointer is valid; the old set is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut()) };
}

/// Brings up `lo` in the current network namespace.
pub(super) fn loopback_up(socket: impl AsFd) -> Result<()> {
    // SAFETY: ifreq is plain data.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: request is a valid ifreq.
    Errno::result(unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS, &request) }).map(drop)
}

/// The Landlock ABI of the kernel; 0 when it has none.
pub(super) fn landlock_abi() -> i32 {
    // SAFETY: null and 0 with the version flag ask only for the version.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<u8>(),
            0usize,
            1u32,
        )
    };
    i32::try_from(abi).unwrap_or(0).max(0)
}

/// Registers a descriptor with the tokio runtime.
pub(super) fn async_fd(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd stays the same open descriptor until it is dropped.
    Ok(unsafe { AsyncFd::register(fd) }?)
}
