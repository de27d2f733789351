//! An image's contents for people and programs: `pagebox image show`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::limits::Bytes;

use super::{DEV_LINKS, FILES, Image, Source};

/// Everything a sandbox of an image sees, and what it may do.
#[derive(Clone, Debug, Serialize)]
pub struct Listing {
    /// The image.
    pub name: String,
    /// Its seccomp profile: `sandbox-images/seccomp/NAME.json`.
    pub seccomp: String,
    /// How many user, pid and network namespaces may be created inside; none of any other kind.
    pub namespaces: [u32; 3],
    /// Paths below which files may be executed; `None` for everything that is not noexec.
    pub execute: Option<Vec<PathBuf>>,
    /// Whether programs may listen on no TCP port, and connect to the daemon's own only.
    pub tcp_listeners_only: bool,
    /// By path.
    pub paths: Vec<Seen>,
    /// Libraries that files inside ask for and the host does not have.
    pub missing: Vec<String>,
}

/// One path inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Inside.
    pub path: PathBuf,
    /// What it is.
    pub kind: SeenKind,
    /// On the host, or where a link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<PathBuf>,
    /// Whether a sandbox may write there.
    pub writable: bool,
    /// Whether what is there can be executed.
    pub executable: bool,
    /// Files in it; 1 for a file, 0 for what is made for each sandbox.
    pub files: u64,
    /// Bytes of these files, or the most it may hold.
    pub bytes: u64,
    /// Why it is there.
    pub why: String,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeenKind {
    /// A file of the host, mounted.
    File,
    /// A copy of a file of the host.
    Copy,
    /// A directory of the host, mounted whole.
    Directory,
    /// A symbolic link.
    Link,
    /// A file made by Pagebox.
    Own,
    /// A device node of the host.
    Device,
    /// Memory of this sandbox.
    Memory,
    /// A part of the session's scratch.
    Scratch,
    /// The processes of this sandbox.
    Proc,
}

impl SeenKind {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Copy => "copy",
            Self::Directory => "directory",
            Self::Link => "link",
            Self::Own => "own",
            Self::Device => "device",
            Self::Memory => "memory",
            Self::Scratch => "scratch",
            Self::Proc => "proc",
        }
    }
}

impl Seen {
    fn new(path: impl Into<PathBuf>, kind: SeenKind, why: &str) -> Self {
        Self {
            path: path.into(),
            kind,
            source: None,
            writable: false,
            executable: false,
            files: 0,
            bytes: 0,
            why: why.to_owned(),
        }
    }
}

impl Image {
    /// Lists what a sandbox of this image sees.
    ///
    /// # Errors
    /// A file that has gone since the image was read.
    pub fn listing(&self) -> std::io::Result<Listing> {
        let mut paths = self.made_for_each();
        for (path, text) in FILES {
            paths.push(Seen {
                files: 1,
                bytes: text.len() as u64,
                ..Seen::new(path, SeenKind::Own, "made by Pagebox")
            });
        }
        for (path, to) in DEV_LINKS {
            paths.push(Seen {
                source: Some(to.into()),
                ..Seen::new(path, SeenKind::Link, "made by Pagebox")
            });
        }
        for entry in &self.contents.entries {
            let (kind, source, executable) = match &entry.source {
                Source::Copy { from, exec } => (SeenKind::Copy, from, *exec),
                Source::Mount { from, exec } if from.is_dir() => (SeenKind::Directory, from, *exec),
                Source::Mount { from, exec } => (SeenKind::File, from, *exec),
                Source::Link { to } => (SeenKind::Link, to, false),
            };
            let (files, bytes) = match kind {
                SeenKind::Link => (0, 0),
                _ => measure(source)?,
            };
            paths.push(Seen {
                source: Some(source.clone()),
                executable,
                files,
                bytes,
                ..Seen::new(&entry.at, kind, &entry.why)
            });
        }
        paths.sort_by(|a, b| a.path.cmp(&b.path));
        let recipe = &self.recipe;
        Ok(Listing {
            name: self.name.clone(),
            seccomp: recipe.seccomp.clone(),
            namespaces: [
                recipe.namespaces.user,
                recipe.namespaces.pid,
                recipe.namespaces.net,
            ],
            execute: recipe.landlock.execute.clone(),
            tcp_listeners_only: recipe.landlock.tcp_listeners_only,
            paths,
            missing: self.contents.missing.clone(),
        })
    }

    fn made_for_each(&self) -> Vec<Seen> {
        let recipe = &self.recipe;
        let mut paths = Vec::new();
        if recipe.proc {
            paths.push(Seen::new("/proc", SeenKind::Proc, "named"));
        }
        for name in &recipe.devices {
            let path = Path::new("/dev").join(name);
            paths.push(Seen {
                source: Some(path.clone()),
                writable: true,
                ..Seen::new(path, SeenKind::Device, "named")
            });
        }
        for tmpfs in &recipe.tmpfs {
            paths.push(Seen {
                writable: true,
                executable: tmpfs.exec,
                bytes: tmpfs.size.0,
                ..Seen::new(&tmpfs.at, SeenKind::Memory, "named")
            });
        }
        for scratch in &recipe.scratch {
            paths.push(Seen {
                writable: !scratch.read_only,
                executable: scratch.exec,
                ..Seen::new(&scratch.at, SeenKind::Scratch, "named")
            });
        }
        paths
    }
}

impl Listing {
    /// Files of the host, and their bytes.
    #[must_use]
    pub fn total(&self) -> (u64, Bytes) {
        self.sum(|kind| {
            matches!(
                kind,
                SeenKind::File | SeenKind::Copy | SeenKind::Directory | SeenKind::Own
            )
        })
    }

    /// Of these, the copies: memory of the daemon, once for all sessions.
    #[must_use]
    pub fn copied(&self) -> (u64, Bytes) {
        self.sum(|kind| kind == SeenKind::Copy)
    }

    fn sum(&self, which: impl Fn(SeenKind) -> bool) -> (u64, Bytes) {
        let of = self.paths.iter().filter(|seen| which(seen.kind));
        let (files, bytes) = of.fold((0, 0), |(files, bytes), seen| {
            (files + seen.files, bytes + seen.bytes)
        });
        (files, Bytes(bytes))
    }
}

/// Files at a path or below it, and their bytes.
fn measure(path: &Path) -> std::io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok((1, metadata.len()));
    }
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(path)? {
        let (more, size) = measure(&entry?.path())?;
        files += more;
        bytes += size;
    }
    Ok((files, bytes))
}
