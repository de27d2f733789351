//! Mounts: the stage (the spawner's own tiny root), the images built on it, scratches, and the
//! private root of each sandbox.
//!
//! ```text
//! stage (tmpfs)        the spawner's root once it has left the host's
//!   proc               the host's /proc, for uid maps and limits
//!   images/NAME        one read-only root per image: tmpfs + binds
//!   spaces/N           one scratch tmpfs per session
//! ```
//!
//! A sandbox starts in a copy of the stage, takes its own copy of one image, mounts what is
//! writable on it, and pivots there; the kernel has locked the flags of what it copied, so that
//! read-only stays read-only even for root of the sandbox's user namespace.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink};
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
use super::sys;

const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

/// Memory for the directories, links and small files of the stage and of an image's root.
const ROOT_SIZE: Bytes = Bytes::mib(1);
const ROOT_INODES: u64 = 4096;

/// Files of our own in every image.
const FILES: [(&str, &str); 4] = [
    (
        "etc/passwd",
        "root:x:0:0::/nonexistent:/usr/sbin/nologin\n\
         pagebox:x:1000:1000::/workspace:/bin/bash\n\
         nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n",
    ),
    (
        "etc/group",
        "root:x:0:\npagebox:x:1000:\nnogroup:x:65534:\n",
    ),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\n",
    ),
];

/// Links every program expects below /dev; they lead nowhere without /proc.
const DEV_LINKS: [(&str, &str); 4] = [
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
];

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
pub(super) fn enter_stage<'a>(images: impl Iterator<Item = &'a Image>) -> Result<(), StepError> {
    let at = |step: &'static str| move |errno| StepError::new(step, errno, "");
    make_private()?;
    let proc = sys::open_tree(AT_FDCWD, c"/proc").map_err(at("stage-proc"))?;
    let stage = tmpfs(ROOT_SIZE, ROOT_INODES, "0755", NOSUID | NODEV | NOEXEC)?;
    // Mounted over "/", but seen only by who enters through this fd: host paths still work.
    sys::move_mount(stage.as_fd(), AT_FDCWD, c"/").map_err(at("stage-mount"))?;
    let root = PathBuf::from(format!("/proc/self/fd/{}", stage.as_raw_fd()));
    for dir in ["proc", "images", "spaces"] {
        make_dirs(&root, Path::new(dir))?;
    }
    sys::move_mount(proc.as_fd(), stage.as_fd(), c"proc").map_err(at("stage-proc"))?;
    for image in images {
        build_image(&root, image)?;
    }
    pivot(stage.as_fd())
}

/// Builds one image's root at `images/NAME` of the stage.
fn build_image(stage: &Path, image: &Image) -> Result<(), StepError> {
    let root = tmpfs(ROOT_SIZE, ROOT_INODES, "0755", NOSUID | NODEV | NOEXEC)?;
    let place = Path::new("images").join(&image.name);
    make_dirs(stage, &place)?;
    let on_stage = open_dir(stage)?;
    let place = c_path(place)?;
    sys::move_mount(root.as_fd(), on_stage.as_fd(), &place)
        .map_err(|errno| StepError::new("image-root", errno, image.name.clone()))?;
    let base = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
    let recipe = &image.recipe;
    fill(&base, recipe)?;
    for bind in &recipe.binds {
        let hide = if bind.exec { 0 } else { NOEXEC };
        match attach_bind(&root, &base, &bind.from, bind.target(), NODEV | hide) {
            Err(error) if bind.optional && error.errno == Errno::ENOENT as i32 => {}
            Err(mut error) => {
                error.detail = format!("image {}: {}", image.name, error.detail);
                return Err(error);
            }
            Ok(()) => {}
        }
    }
    for device in &recipe.devices {
        let path = Path::new("/dev").join(device);
        attach_bind(&root, &base, &path, &path, NOEXEC)?;
    }
    sys::mount_setattr(root.as_fd(), RDONLY | NOSUID)
        .map_err(|errno| StepError::new("image-read-only", errno, image.name.clone()))
}

/// Our own files and links, and the directories that mounts will cover.
fn fill(base: &Path, recipe: &Recipe) -> Result<(), StepError> {
    let covered = recipe
        .tmpfs
        .iter()
        .map(|tmpfs| &*tmpfs.at)
        .chain(recipe.scratch.iter().map(|mount| &*mount.at));
    for dir in ["/dev", "/etc", "/proc"]
        .map(Path::new)
        .into_iter()
        .chain(covered)
    {
        make_dirs(base, dir)?;
    }
    for (path, text) in FILES {
        fs::write(base.join(path), text)
            .map_err(|error| StepError::io("image-file", &error, path))?;
    }
    let own = recipe.symlinks.iter().map(|link| (&*link.at, &*link.to));
    let dev = DEV_LINKS
        .iter()
        .map(|(at, to)| (Path::new(*at), Path::new(*to)));
    for (at, to) in dev.chain(own) {
        if let Some(parent) = at.parent() {
            make_dirs(base, parent)?;
        }
        symlink(to, below(base, at))
            .map_err(|error| StepError::io("image-link", &error, at.display().to_string()))?;
    }
    Ok(())
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

/// Binds a host file or directory, with all below it, into an image under construction.
fn attach_bind(
    root: &OwnedFd,
    base: &Path,
    from: &Path,
    to: &Path,
    attributes: u64,
) -> Result<(), StepError> {
    let detail = || format!("{} at {}", from.display(), to.display());
    let failed = |errno| StepError::new("image-bind", errno, detail());
    let source =
        fs::metadata(from).map_err(|error| StepError::io("image-bind", &error, detail()))?;
    let target = below(base, to);
    if source.is_dir() {
        make_dirs(base, to)?;
    } else if fs::symlink_metadata(&target).is_err() {
        if let Some(parent) = to.parent() {
            make_dirs(base, parent)?;
        }
        fs::write(&target, "").map_err(|error| StepError::io("image-bind", &error, detail()))?;
    }
    let tree = sys::open_tree(AT_FDCWD, &c_path(from)?).map_err(failed)?;
    sys::mount_setattr(tree.as_fd(), RDONLY | NOSUID | attributes).map_err(failed)?;
    let relative = c_path(to.strip_prefix("/").unwrap_or(to))?;
    sys::move_mount(tree.as_fd(), root.as_fd(), &relative).map_err(failed)
}

/// Makes a session's scratch at `spaces/NAME` of the stage, its parts owned by `uid`.
pub(super) fn make_scratch(
    name: &str,
    uid: u32,
    size: Bytes,
    inodes: u64,
) -> Result<OwnedFd, StepError> {
    let mount = tmpfs(size, inodes, "0755", NOSUID | NODEV)?;
    let place = Path::new("/spaces").join(name);
    make_dirs(Path::new("/"), &place)?;
    sys::move_mount(mount.as_fd(), AT_FDCWD, &c_path(&place)?)
        .map_err(|errno| StepError::new("scratch", errno, name))?;
    for part in ScratchDir::ALL {
        let dir = place.join(part.name());
        fs::create_dir(&dir)
            .and_then(|()| fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)))
            .and_then(|()| chown(&dir, Some(uid), Some(uid)))
            .map_err(|error| StepError::io("scratch", &error, dir.display().to_string()))?;
    }
    Ok(mount)
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
pub(super) fn new_proc() -> Result<OwnedFd, StepError> {
    let options = [
        ("subset", "pid".to_owned()),
        ("hidepid", "invisible".to_owned()),
    ];
    sys::new_mount(c"proc", &options, NOSUID | NODEV | NOEXEC).map_err(|errno| {
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
