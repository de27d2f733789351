//! File operations in a scratch, for the daemon, which runs under another uid.
//!
//! They are done as the session's own user (fsuid), so nothing privileged happens in directories
//! that untrusted code can change, and resolved by the kernel without leaving the scratch or
//! following a link. Only regular files are handed out.

use std::fs::File;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, linkat, setfsgid, setfsuid, unlinkat};

use super::super::error::StepError;
use super::super::image::ScratchDir;
use super::super::wire::FileOperation;

/// Deepest path taken.
const MAX_DEPTH: usize = 64;

/// Runs `work` with the file system rights of `uid` and no capability over files.
pub(super) fn as_user<T>(uid: u32, work: impl FnOnce() -> T) -> T {
    let gid = setfsgid(Gid::from_raw(uid));
    let own = setfsuid(Uid::from_raw(uid));
    let result = work();
    setfsuid(own);
    setfsgid(gid);
    result
}

pub(super) fn run(scratch: &OwnedFd, operation: &FileOperation) -> Result<Option<File>, StepError> {
    match operation {
        FileOperation::Open(path) => open_file(scratch, path, OFlag::O_RDONLY).map(Some),
        FileOperation::Create(path) => {
            create_parents(scratch, path)?;
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
            open_file(scratch, path, flags).map(Some)
        }
        FileOperation::Rename { from, to } => {
            let (from, to) = pair(scratch, from, to)?;
            renameat(&from.dir, &*from.name, &to.dir, &*to.name).map_err(failed(to.path))?;
            Ok(None)
        }
        FileOperation::Link { from, to } => {
            let (from, to) = pair(scratch, from, to)?;
            let follow = AtFlags::empty();
            linkat(&from.dir, &*from.name, &to.dir, &*to.name, follow).map_err(failed(to.path))?;
            Ok(None)
        }
        FileOperation::Remove(path) => {
            let at = place(scratch, path)?;
            unlinkat(&at.dir, &*at.name, UnlinkatFlags::NoRemoveDir).map_err(failed(path))?;
            Ok(None)
        }
        FileOperation::CreateDirs(path) => create_dirs(scratch, &relative(path)?).map(|()| None),
    }
}

fn failed(path: &Path) -> impl FnOnce(Errno) -> StepError + '_ {
    move |errno| StepError::new("scratch-file", errno, path.display().to_string())
}

/// `/tmp/x` as `tmp/x`: plain, and below a part of the scratch that runners see.
fn relative(path: &Path) -> Result<PathBuf, StepError> {
    let mut parts = path.components();
    let plain = parts.next() == Some(Component::RootDir)
        && parts.clone().count() <= MAX_DEPTH
        && parts
            .clone()
            .all(|part| matches!(part, Component::Normal(_)));
    let top = parts.clone().next().map(|part| part.as_os_str());
    let known = [ScratchDir::Tmp, ScratchDir::Workspace]
        .iter()
        .any(|dir| top == Some(dir.name().as_ref()));
    if !plain || !known {
        return Err(failed(path)(Errno::EINVAL));
    }
    Ok(parts.collect())
}

fn beneath(scratch: &OwnedFd, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let mode = if flags.contains(OFlag::O_CREAT) {
        0o600
    } else {
        0
    };
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY)
        .mode(Mode::from_bits_truncate(mode))
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
    openat2(scratch, path, how)
}

fn open_file(scratch: &OwnedFd, path: &Path, flags: OFlag) -> Result<File, StepError> {
    let fd = beneath(scratch, &relative(path)?, flags | OFlag::O_NONBLOCK).map_err(failed(path))?;
    let kind = fstat(&fd).map_err(failed(path))?.st_mode & SFlag::S_IFMT.bits();
    if kind != SFlag::S_IFREG.bits() {
        return Err(StepError::new(
            "scratch-file",
            Errno::EINVAL,
            format!("not a regular file: {}", path.display()),
        ));
    }
    Ok(File::from(fd))
}

fn open_dir(scratch: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    beneath(scratch, path, OFlag::O_DIRECTORY | OFlag::O_RDONLY)
}

fn create_dirs(scratch: &OwnedFd, path: &Path) -> Result<(), StepError> {
    let mut dir = open_dir(scratch, Path::new(".")).map_err(failed(path))?;
    for part in path.components() {
        let name = Path::new(part.as_os_str());
        match mkdirat(&dir, name, Mode::from_bits_truncate(0o700)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed(path)(errno)),
        }
        dir = open_dir(&dir, name).map_err(failed(path))?;
    }
    Ok(())
}

fn create_parents(scratch: &OwnedFd, path: &Path) -> Result<(), StepError> {
    match relative(path)?.parent() {
        Some(parent) if parent != Path::new("") => create_dirs(scratch, parent),
        _ => Err(failed(path)(Errno::EINVAL)),
    }
}

/// A name in an open directory.
struct Place<'a> {
    path: &'a Path,
    dir: OwnedFd,
    name: OsString,
}

fn place<'a>(scratch: &OwnedFd, path: &'a Path) -> Result<Place<'a>, StepError> {
    let inside = relative(path)?;
    let dir = open_dir(scratch, inside.parent().unwrap_or(Path::new("."))).map_err(failed(path))?;
    let name = inside.file_name().unwrap_or_default().to_owned();
    Ok(Place { path, dir, name })
}

/// A regular file, and where it is to appear.
fn pair<'a>(
    scratch: &OwnedFd,
    from: &'a Path,
    to: &'a Path,
) -> Result<(Place<'a>, Place<'a>), StepError> {
    create_parents(scratch, to)?;
    drop(open_file(scratch, from, OFlag::O_RDONLY)?);
    Ok((place(scratch, from)?, place(scratch, to)?))
}
