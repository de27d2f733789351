//! Mounts: the stage (the spawner's own tiny root), the images built on it, scratches, and the
//! private root of each sandbox.
//!
//! ```text
//! stage (tmpfs)        the spawner's root once it has left the host's
//!   proc               the host's /proc, for uid maps and limits
//!   images             tmpfs with the files that are copied, once for all images
//!   images/NAME        one read-only root per image: a directory of that, and binds on it
//!   spaces/N           one scratch tmpfs per session
//!   spaces/N/browser   the browser's own tmpfs on it
//! ```
//!
//! A sandbox starts in a copy of the stage, takes its own copy of one image, mounts what is
//! writable on it, and pivots there; the kernel has locked the flags of what it copied, so that
//! read-only stays read-only even for root of the sandbox's user namespace.

mod images;

use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{chdir, fchdir, pivot_root};

use crate::limits::Bytes;

use super::error::StepError;
use super::image::{Image, Recipe, ScratchDir};
use super::spec::SpaceSpec;
use super::sys;

const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

/// Memory for the directories of the stage.
const ROOT_SIZE: Bytes = Bytes::mib(1);
const ROOT_INODES: u64 = 4096;

fn c_path(path: impl AsRef<Path>) -> Result<CString, StepError> {
    let path = path.as_ref();
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| StepError::new("path", Errno::EINVAL, path.display().to_string()))
}

/// A tmpfs that is mounted nowhere; `attributes` are `MOUNT_ATTR_*`.
pub(super) fn tmpfs(
    size: Bytes,
    inodes: u64,
    mode: &str,
    attributes: u64,
) -> Result<OwnedFd, StepError> {
    let options = [
        ("size", size.0.to_string()),
        ("nr_inodes", inodes.to_string()),
        ("mode", mode.to_owned()),
    ];
    sys::new_mount(c"tmpfs", &options, attributes)
        .map_err(|errno| StepError::new("mount-tmpfs", errno, format!("{size}, {inodes} inodes")))
}

/// Leaves the host's mounts for the stage, with every image built on it. The spawner has a mount
/// namespace of its own.
pub(super) fn enter_stage<'a>(
    images: impl Iterator<Item = &'a Image> + Clone,
) -> Result<(), StepError> {
    let at = |step: &'static str| move |errno| StepError::new(step, errno, "");
    make_private()?;
    let proc = sys::open_tree(AT_FDCWD, c"/proc").map_err(at("stage-proc"))?;
    let stage = tmpfs(ROOT_SIZE, ROOT_INODES, "0755", NOSUID | NODEV | NOEXEC)?;
    // Mounted over "/", but seen only by who enters through this fd: host paths still work.
    sys::move_mount(stage.as_fd(), AT_FDCWD, c"/").map_err(at("stage-mount"))?;
    let root = PathBuf::from(format!("/proc/self/fd/{}", stage.as_raw_fd()));
    for dir in ["proc", "spaces"] {
        make_dirs(&root, Path::new(dir))?;
    }
    sys::move_mount(proc.as_fd(), stage.as_fd(), c"proc").map_err(at("stage-proc"))?;
    images::build(&root, images)?;
    pivot(stage.as_fd())
}

/// `path`, which may be absolute, below `base`.
fn below(base: &Path, path: &Path) -> PathBuf {
    base.join(path.strip_prefix("/").unwrap_or(path))
}

fn make_dirs(base: &Path, dir: &Path) -> Result<(), StepError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(below(base, dir))
        .map_err(|error| StepError::io("make-directory", &error, dir.display().to_string()))
}

fn open_dir(path: &Path) -> Result<OwnedFd, StepError> {
    open(
        path,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| StepError::new("open-directory", errno, path.display().to_string()))
}

/// The memory of a session's files.
pub(super) struct ScratchMounts {
    /// What code and browser share.
    pub(super) shared: OwnedFd,
    /// What is the browser's alone.
    pub(super) browser: OwnedFd,
}

/// Makes a session's scratch at `spaces/NAME` of the stage, its parts owned by `uid`.
pub(super) fn make_scratch(
    name: &str,
    uid: u32,
    spec: &SpaceSpec,
) -> Result<ScratchMounts, StepError> {
    let shared = tmpfs(spec.scratch, spec.scratch_inodes, "0755", NOSUID | NODEV)?;
    let (size, inodes) = (spec.browser_data, spec.browser_data_inodes);
    let browser = tmpfs(size, inodes, "0700", NOSUID | NODEV | NOEXEC)?;
    let place = Path::new("/spaces").join(name);
    make_dirs(Path::new("/"), &place)?;
    let attach = |mount: &OwnedFd, at: &Path| {
        sys::move_mount(mount.as_fd(), AT_FDCWD, &c_path(at)?)
            .map_err(|errno| StepError::new("scratch", errno, at.display().to_string()))
    };
    attach(&shared, &place)?;
    let parts = ScratchDir::ALL.iter().try_for_each(|part| {
        let dir = place.join(part.name());
        let failed =
            |error: std::io::Error| StepError::io("scratch", &error, dir.display().to_string());
        fs::create_dir(&dir).map_err(failed)?;
        if *part == ScratchDir::Browser {
            attach(&browser, &dir)?;
        }
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))
            .and_then(|()| chown(&dir, Some(uid), Some(uid)))
            .map_err(failed)
    });
    if let Err(error) = parts {
        remove_scratch(name)?;
        return Err(error);
    }
    Ok(ScratchMounts { shared, browser })
}

/// Takes a scratch away; the memory is freed when the last sandbox that has it is gone.
pub(super) fn remove_scratch(name: &str) -> Result<(), StepError> {
    let place = Path::new("/spaces").join(name);
    umount2(&place, MntFlags::MNT_DETACH)
        .map_err(|errno| StepError::new("scratch-unmount", errno, name))?;
    fs::remove_dir(&place).map_err(|error| StepError::io("scratch-unmount", &error, name))
}

/// No mount made here is seen elsewhere, and the other way round.
pub(super) fn make_private() -> Result<(), StepError> {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .map_err(|errno| StepError::new("mount-private", errno, "/"))
}

/// A /proc of this pid namespace: only processes, and of those only what the reader may trace.
/// Writable only for who maps uids of namespaces: `/proc/self/mem` writes to read-only mappings,
/// and `oom_score_adj` goes down again.
pub(super) fn new_proc(read_only: bool) -> Result<OwnedFd, StepError> {
    let options = [
        ("subset", "pid".to_owned()),
        ("hidepid", "invisible".to_owned()),
    ];
    let read_only = if read_only { RDONLY } else { 0 };
    let attributes = NOSUID | NODEV | NOEXEC | read_only;
    sys::new_mount(c"proc", &options, attributes).map_err(|errno| {
        StepError::new(
            "mount-proc",
            errno,
            "a host /proc with parts mounted over forbids this",
        )
    })
}

/// In a sandbox: its own copy of the image's root, with everything writable mounted on it.
pub(super) fn private_root(
    image: &str,
    recipe: &Recipe,
    scratch: &str,
    proc: Option<&OwnedFd>,
) -> Result<OwnedFd, StepError> {
    let source = c_path(Path::new("/images").join(image))?;
    let root = sys::open_tree(AT_FDCWD, &source)
        .map_err(|errno| StepError::new("mount-root", errno, image))?;
    // Over "/", so that the pivot finds it attached; entered only through this fd.
    sys::move_mount(root.as_fd(), AT_FDCWD, c"/")
        .map_err(|errno| StepError::new("mount-root", errno, image))?;
    let attach = |mount: &OwnedFd, at: &Path| {
        let path = c_path(at.strip_prefix("/").unwrap_or(at))?;
        sys::move_mount(mount.as_fd(), root.as_fd(), &path)
            .map_err(|errno| StepError::new("mount-root", errno, at.display().to_string()))
    };
    if let Some(proc) = proc {
        attach(proc, Path::new("/proc"))?;
    }
    let noexec = |exec: bool| if exec { 0 } else { NOEXEC };
    for mount in &recipe.tmpfs {
        let attributes = NOSUID | NODEV | noexec(mount.exec);
        attach(
            &tmpfs(mount.size, mount.inodes, "0700", attributes)?,
            &mount.at,
        )?;
    }
    for mount in &recipe.scratch {
        let part = c_path(Path::new("/spaces").join(scratch).join(mount.dir.name()))?;
        let failed = |errno| StepError::new("mount-scratch", errno, mount.dir.name());
        let tree = sys::open_tree(AT_FDCWD, &part).map_err(failed)?;
        let read_only = if mount.read_only { RDONLY } else { 0 };
        let attributes = NOSUID | NODEV | noexec(mount.exec) | read_only;
        sys::mount_setattr(tree.as_fd(), attributes).map_err(failed)?;
        attach(&tree, &mount.at)?;
    }
    Ok(root)
}

/// Makes `root` the root directory and drops what was there; then makes sure of it.
pub(super) fn pivot(root: BorrowedFd<'_>) -> Result<(), StepError> {
    let step = |detail: &'static str| move |errno| StepError::new("pivot-root", errno, detail);
    const HERE: &CStr = c".";
    fchdir(root).map_err(step("fchdir"))?;
    pivot_root(HERE, HERE).map_err(step("pivot_root"))?;
    umount2(HERE, MntFlags::MNT_DETACH).map_err(step("umount2 of the old root"))?;
    chdir("/").map_err(step("chdir"))?;
    let kind = statfs("/").map_err(step("statfs"))?.filesystem_type();
    let here = std::env::current_dir().ok();
    if kind != TMPFS_MAGIC || here.as_deref() != Some(Path::new("/")) {
        return Err(StepError::new(
            "pivot-root",
            Errno::EINVAL,
            "/ is not the new root",
        ));
    }
    Ok(())
}
