//! The roots of images, built once on the stage.
//!
//! `images` is one tmpfs with a directory for each image. It holds every copied file once: an image
//! that has a file of another has a hard link to it. So all sessions share these pages, and an
//! image's root needs a mount only for what is large or a directory.

use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;

use crate::limits::Bytes;

use super::super::error::StepError;
use super::super::image::{DEV_LINKS, FILES, Image, Source};
use super::super::sys;
use super::{NODEV, NOEXEC, NOSUID, RDONLY, below, c_path, make_dirs, open_dir, tmpfs};

/// Most memory for the copies of all images: a guard against an image file that names too much.
const COPIES_SIZE: Bytes = Bytes::mib(192);
/// Files, links and directories of all images.
const COPIES_INODES: u64 = 16 * 1024;

/// Builds every image's root at `images/NAME` of the stage.
pub(super) fn build<'a>(
    stage: &Path,
    images: impl Iterator<Item = &'a Image> + Clone,
) -> Result<(), StepError> {
    let copies = tmpfs(COPIES_SIZE, COPIES_INODES, "0755", NOSUID | NODEV)?;
    make_dirs(stage, Path::new("images"))?;
    let on_stage = open_dir(stage)?;
    sys::move_mount(copies.as_fd(), on_stage.as_fd(), c"images")
        .map_err(|errno| StepError::new("image-root", errno, "images"))?;
    // First all files, as no hard link crosses a mount.
    let all = PathBuf::from(format!("/proc/self/fd/{}", copies.as_raw_fd()));
    let mut copied = Copied::new();
    for image in images.clone() {
        make_dirs(&all, Path::new(&image.name))?;
        fill(&all.join(&image.name), image, &mut copied).map_err(of(image))?;
    }
    for image in images {
        mount_image(&copies, image).map_err(of(image))?;
    }
    // The mounts on it are read-only already.
    sys::mount_setattr_one(copies.as_fd(), RDONLY)
        .map_err(|errno| StepError::new("image-read-only", errno, "images"))
}

/// Where a file of the host has been copied to, by its path and whether it may be executed.
type Copied = HashMap<(PathBuf, bool), PathBuf>;

fn of(image: &Image) -> impl Fn(StepError) -> StepError {
    move |mut error| {
        error.detail = format!("image {}: {}", image.name, error.detail);
        error
    }
}

fn mount_image(copies: &OwnedFd, image: &Image) -> Result<(), StepError> {
    let failed = |step: &'static str| move |errno| StepError::new(step, errno, "its root");
    let name = c_path(&image.name)?;
    let root = sys::open_tree(copies.as_fd(), &name).map_err(failed("image-root"))?;
    sys::move_mount(root.as_fd(), copies.as_fd(), &name).map_err(failed("image-root"))?;
    for entry in &image.contents.entries {
        if let Source::Mount { from, exec } = &entry.source {
            let hide = if *exec { 0 } else { NOEXEC };
            attach_bind(&root, from, &entry.at, NODEV | hide)?;
        }
    }
    for device in &image.recipe.devices {
        let path = Path::new("/dev").join(device);
        attach_bind(&root, &path, &path, NOEXEC)?;
    }
    sys::mount_setattr(root.as_fd(), RDONLY | NOSUID).map_err(failed("image-read-only"))
}

/// Copies, links, our own files, and what mounts will cover.
fn fill(base: &Path, image: &Image, copied: &mut Copied) -> Result<(), StepError> {
    let recipe = &image.recipe;
    let covered = recipe
        .tmpfs
        .iter()
        .map(|tmpfs| &*tmpfs.at)
        .chain(recipe.scratch.iter().map(|mount| &*mount.at));
    let own = ["/dev", "/etc"].map(Path::new).into_iter();
    let proc = recipe.proc.then_some(Path::new("/proc"));
    for dir in own.chain(proc).chain(covered) {
        make_dirs(base, dir)?;
    }
    for (path, text) in FILES {
        fs::write(below(base, Path::new(path)), text)
            .map_err(|error| StepError::io("image-file", &error, path))?;
    }
    for (at, to) in DEV_LINKS {
        make_link(base, Path::new(at), Path::new(to))?;
    }
    for device in &recipe.devices {
        make_file(base, &Path::new("/dev").join(device))?;
    }
    for entry in &image.contents.entries {
        match &entry.source {
            Source::Link { to } => make_link(base, &entry.at, to)?,
            Source::Copy { from, exec } => copy(base, &entry.at, from, *exec, copied)?,
            Source::Mount { from, .. } if from.is_dir() => make_dirs(base, &entry.at)?,
            Source::Mount { .. } => make_file(base, &entry.at)?,
        }
    }
    Ok(())
}

fn make_parent(base: &Path, at: &Path) -> Result<PathBuf, StepError> {
    if let Some(parent) = at.parent() {
        make_dirs(base, parent)?;
    }
    Ok(below(base, at))
}

fn make_link(base: &Path, at: &Path, to: &Path) -> Result<(), StepError> {
    symlink(to, make_parent(base, at)?)
        .map_err(|error| StepError::io("image-link", &error, at.display().to_string()))
}

/// An empty file for a mount.
fn make_file(base: &Path, at: &Path) -> Result<(), StepError> {
    fs::write(make_parent(base, at)?, "")
        .map_err(|error| StepError::io("image-file", &error, at.display().to_string()))
}

fn copy(
    base: &Path,
    at: &Path,
    from: &Path,
    exec: bool,
    copied: &mut Copied,
) -> Result<(), StepError> {
    let failed = |error: std::io::Error| {
        let detail = format!("{} at {}", from.display(), at.display());
        StepError::io("image-copy", &error, detail)
    };
    let target = make_parent(base, at)?;
    let key = (from.to_owned(), exec);
    if let Some(known) = copied.get(&key) {
        return fs::hard_link(known, &target).map_err(failed);
    }
    // Never the bits of the original: it may be set-uid by now.
    let mut content = fs::File::open(from).map_err(failed)?;
    let mut file = fs::File::create_new(&target).map_err(failed)?;
    std::io::copy(&mut content, &mut file).map_err(failed)?;
    let mode = if exec { 0o555 } else { 0o444 };
    file.set_permissions(fs::Permissions::from_mode(mode))
        .map_err(failed)?;
    copied.insert(key, target);
    Ok(())
}

/// Binds a host file or directory, with all below it, over its place in an image's root.
fn attach_bind(root: &OwnedFd, from: &Path, to: &Path, attributes: u64) -> Result<(), StepError> {
    let failed = |errno: Errno| {
        let detail = format!("{} at {}", from.display(), to.display());
        StepError::new("image-bind", errno, detail)
    };
    let tree = sys::open_tree(AT_FDCWD, &c_path(from)?).map_err(failed)?;
    sys::mount_setattr(tree.as_fd(), RDONLY | NOSUID | attributes).map_err(failed)?;
    let relative = c_path(to.strip_prefix("/").unwrap_or(to))?;
    sys::move_mount(tree.as_fd(), root.as_fd(), &relative).map_err(failed)
}
