//! What exists inside, computed: the files that an image names, those of its packages, and the
//! libraries all of them need. The host is read, nothing of it is executed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::limits::Bytes;

use super::loader::{Found, Loader};
use super::packages::{self, merged};
use super::recipe::{Bind, Recipe};

/// Files up to this size are copied into memory that all images and sessions share; larger ones
/// and directories are mounts, each of which costs at every build of a sandbox.
pub(super) const COPIED: Bytes = Bytes::kib(2304);
/// Where programs are looked for by name.
const PROGRAMS: [&str; 2] = ["/usr/bin", "/bin"];

/// One thing that exists inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Entry {
    /// Inside.
    pub(in super::super) at: PathBuf,
    pub(in super::super) source: Source,
    /// In words: named, of a package, needed by a file.
    pub(in super::super) why: String,
}

/// Where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in super::super) enum Source {
    /// A file, copied once when the spawner starts.
    Copy { from: PathBuf, exec: bool },
    /// A file or directory, mounted.
    Mount { from: PathBuf, exec: bool },
    /// A symbolic link.
    Link { to: PathBuf },
}

/// What an image comes to on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Contents {
    /// By path, so that a directory comes before what is in it.
    pub(in super::super) entries: Vec<Entry>,
    /// Libraries that the host itself does not have, and which file needs them.
    pub(in super::super) missing: Vec<String>,
}

/// Computes an image's contents.
///
/// # Errors
/// A file, package, program or library that is named and not there; one that not everyone may
/// read, or that gives other rights when executed; two files at one place.
pub(super) fn compute(recipe: &Recipe, loader: &mut Loader) -> Result<Contents, String> {
    let mut work = Work {
        loader,
        entries: BTreeMap::new(),
        links: Vec::new(),
        unread: VecDeque::new(),
        missing: BTreeSet::new(),
    };
    for link in &recipe.symlinks {
        let source = Source::Link {
            to: link.to.clone(),
        };
        work.insert(&link.at, source, "named")?;
    }
    for bind in &recipe.binds {
        work.bind(bind)?;
    }
    for name in &recipe.programs {
        let path = PROGRAMS
            .iter()
            .map(|directory| Path::new(directory).join(name))
            .find(|path| path.exists())
            .ok_or_else(|| format!("program {name} is not in {}", PROGRAMS.join(" or ")))?;
        work.host_path(&path, "named")?;
    }
    for package in &recipe.packages {
        let why = format!("package {package}");
        for path in packages::files(package)? {
            work.package_path(&path, &why)?;
        }
    }
    for name in &recipe.libraries {
        let path = work.loader.find(name, &[])?;
        let path = path.ok_or_else(|| format!("library {name} is not on this host"))?;
        work.library(&path, name, "named")?;
    }
    work.resolve_links()?;
    work.close()?;
    Ok(Contents {
        entries: work.entries.into_values().collect(),
        missing: work.missing.into_iter().collect(),
    })
}

struct Work<'a> {
    loader: &'a mut Loader,
    entries: BTreeMap<PathBuf, Entry>,
    /// Links of packages: inside, on the host, why.
    links: Vec<(PathBuf, PathBuf, String)>,
    /// Files whose needs are not yet known, with the run paths of who needs them.
    unread: VecDeque<(PathBuf, Vec<PathBuf>)>,
    missing: BTreeSet<String>,
}

impl Work<'_> {
    fn insert(&mut self, at: &Path, source: Source, why: &str) -> Result<(), String> {
        let entry = Entry {
            at: at.to_owned(),
            source,
            why: why.to_owned(),
        };
        if let Some(above) = self.mounted_above(at)? {
            return Err(format!(
                "{} is inside of {}, which is mounted whole",
                at.display(),
                above.display()
            ));
        }
        // What is named first is meant to be there.
        self.entries.entry(at.to_owned()).or_insert(entry);
        Ok(())
    }

    /// The directory mount that hides what would be made at a path.
    fn mounted_above(&self, at: &Path) -> Result<Option<&Path>, String> {
        for above in at.ancestors().skip(1) {
            match self.entries.get(above).map(|entry| &entry.source) {
                None => {}
                Some(Source::Mount { from, .. }) if from.is_dir() => {
                    return Ok(self.entries.get_key_value(above).map(|(at, _)| &**at));
                }
                Some(_) => return Err(format!("{} is no directory", above.display())),
            }
        }
        Ok(None)
    }

    /// Whether a mounted directory already shows this very file there.
    fn is_shown(&self, from: &Path, at: &Path) -> bool {
        at.ancestors().skip(1).any(|above| {
            let source = self.entries.get(above).map(|entry| &entry.source);
            match (source, at.strip_prefix(above)) {
                (Some(Source::Mount { from: whole, .. }), Ok(rest)) => {
                    let shown = whole.join(rest).canonicalize();
                    shown.is_ok_and(|shown| shown == from)
                }
                _ => false,
            }
        })
    }

    fn bind(&mut self, bind: &Bind) -> Result<(), String> {
        let from = match bind.from.canonicalize() {
            Err(error) if bind.optional && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(());
            }
            from => from.map_err(|error| format!("{}: {error}", bind.from.display()))?,
        };
        if !from.is_dir() {
            return self.file(&from, bind.target(), bind.exec, "named");
        }
        if bind.exec {
            self.find_elf_below(&from)?;
        }
        let exec = bind.exec;
        self.insert(bind.target(), Source::Mount { from, exec }, "named")
    }

    /// A regular file, by its real path.
    fn file(&mut self, from: &Path, at: &Path, exec: bool, why: &str) -> Result<(), String> {
        if self.is_shown(from, at) {
            return Ok(());
        }
        let metadata = metadata(from)?;
        let refused = |what: &str| Err(format!("{} {what}", from.display()));
        if !metadata.is_file() {
            return refused("is not a regular file");
        }
        if gives_rights(&metadata) {
            return refused("gives other rights when executed (set-uid or set-gid)");
        }
        let mode = metadata.permissions().mode();
        if mode & 0o004 == 0 {
            return refused("cannot be read by everyone");
        }
        let from = from.to_owned();
        if exec {
            self.unread.push_back((from.clone(), Vec::new()));
        }
        let program = exec && mode & 0o111 != 0;
        let source = if metadata.size() <= COPIED.0 {
            let exec = program;
            Source::Copy { from, exec }
        } else {
            // A library has no such bit, but cannot be loaded from a noexec mount.
            let exec = program || exec && self.loader.elf(&from)?.is_some();
            Source::Mount { from, exec }
        };
        self.insert(at, source, why)
    }

    /// A file at its own place; links are left for later.
    fn host_path(&mut self, path: &Path, why: &str) -> Result<(), String> {
        let failed = |error| format!("{}: {error}", path.display());
        let at = merged(path);
        if path.is_symlink() {
            self.links.push((at, path.to_owned(), why.to_owned()));
            return Ok(());
        }
        let real = path.canonicalize().map_err(failed)?;
        self.file(&real, &at, true, why)
    }

    /// The same for a package: its directories come with their files, and what gives other rights
    /// is left out.
    fn package_path(&mut self, path: &Path, why: &str) -> Result<(), String> {
        let failed = |error| format!("{why}: {}: {error}", path.display());
        let metadata = fs::symlink_metadata(path).map_err(failed)?;
        if metadata.is_dir() || gives_rights(&metadata) {
            return Ok(());
        }
        self.host_path(path, why)
    }

    /// A link to what is inside stays a link; otherwise the file it leads to takes its place. One
    /// that leads to a directory elsewhere, or nowhere, is left out.
    fn resolve_links(&mut self) -> Result<(), String> {
        for (at, path, why) in std::mem::take(&mut self.links) {
            let Ok(real) = path.canonicalize() else {
                continue;
            };
            let to = fs::read_link(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            if real.is_dir() {
                if self.entries.contains_key(&merged(&real)) && !self.is_shown(&real, &at) {
                    self.insert(&at, Source::Link { to: merged(&real) }, &why)?;
                }
                continue;
            }
            let beside = to.components().count() == 1 && {
                let target = at.with_file_name(&to);
                self.entries.contains_key(&target)
            };
            if self.is_shown(&real, &at) {
            } else if beside {
                self.insert(&at, Source::Link { to }, &why)?;
            } else {
                self.file(&real, &at, true, &why)?;
            }
        }
        Ok(())
    }

    /// The ELF files of a directory that is mounted whole: executable, or by name a library.
    fn find_elf_below(&mut self, directory: &Path) -> Result<(), String> {
        let failed = |error| format!("{}: {error}", directory.display());
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            let path = entry.path();
            if kind.is_dir() {
                self.find_elf_below(&path)?;
            } else if kind.is_file() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                let executable = || metadata(&path).map(|m| m.permissions().mode() & 0o111 != 0);
                if name.contains(".so") || name.ends_with(".node") || executable()? {
                    self.unread.push_back((path, Vec::new()));
                }
            }
        }
        Ok(())
    }

    /// Adds what the files need, and what that needs, until nothing is new.
    fn close(&mut self) -> Result<(), String> {
        let mut read = BTreeSet::new();
        while let Some((path, inherited)) = self.unread.pop_front() {
            if !read.insert(path.clone()) {
                continue;
            }
            let Some(elf) = self.loader.elf(&path)? else {
                continue;
            };
            let by = format!("needed by {}", path.display());
            if let Some(interpreter) = &elf.interpreter {
                if let Ok(real) = interpreter.canonicalize() {
                    self.file(&real, &merged(interpreter), true, &by)?;
                } else {
                    self.missing
                        .insert(format!("{} {by}", interpreter.display()));
                }
            }
            let inherited: Vec<PathBuf> = elf.rpath.iter().chain(&inherited).cloned().collect();
            let paths = match &elf.runpath[..] {
                [] => &inherited,
                own => own,
            };
            for name in &elf.needed {
                let Some(found) = self.loader.find(name, paths)? else {
                    self.missing.insert(format!("{name} {by}"));
                    continue;
                };
                let real = self.library(&found, name, &by)?;
                self.unread.push_back((real, inherited.clone()));
            }
        }
        Ok(())
    }

    /// A library, where the loader inside will find it: there is no cache there.
    fn library(&mut self, found: &Found, name: &str, why: &str) -> Result<PathBuf, String> {
        let (found, needs_cache) = (&*found.path, found.needs_cache);
        let failed = |error| format!("{}: {error}", found.display());
        let real = found.canonicalize().map_err(failed)?;
        let in_mount = self.entries.values().any(|entry| {
            matches!(&entry.source, Source::Mount { from, .. } if found.starts_with(from) || real.starts_with(from))
        });
        if in_mount {
            return Ok(real);
        }
        let at = if needs_cache {
            let libc = self.loader.find("libc.so.6", &[])?;
            let libc = libc.ok_or("this host has no libc.so.6")?;
            merged(&libc.path.with_file_name(name))
        } else {
            merged(found)
        };
        self.file(&real, &at, true, why)?;
        Ok(real)
    }
}

fn metadata(path: &Path) -> Result<Metadata, String> {
    fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn gives_rights(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.permissions().mode() & 0o6000 != 0
}
