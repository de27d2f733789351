//! Images: what a sandbox sees. Reads `sandbox-images/NAME.toml` and the seccomp profile it names,
//! and computes from the host's files what exists inside; building is the spawner's work.
//!
//! ```text
//! recipe    the fields of the file
//! packages  manifests of Debian packages     loader  where libraries are     elf  what a file needs
//! contents  all three into a list of entries
//! listing   that list for people and programs
//! ```

mod contents;
mod elf;
mod listing;
mod loader;
mod packages;
mod recipe;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::seccomp;

pub(super) use self::contents::{Contents, Source};
pub use self::listing::{Listing, Seen, SeenKind};
use self::loader::Loader;
pub(super) use self::recipe::{Recipe, ScratchDir};

/// What a sandbox sees: parsed from `sandbox-images/NAME.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Image {
    /// The file's name without `.toml`.
    pub name: String,
    /// Everything else the file says, variables replaced.
    pub(super) recipe: Recipe,
    /// What of the host is inside, computed.
    pub(super) contents: Contents,
    /// The text of the seccomp profile it names.
    pub(super) seccomp: String,
}

/// Files of our own in every image.
pub(super) const FILES: [(&str, &str); 4] = [
    (
        "/etc/passwd",
        "root:x:0:0::/nonexistent:/usr/sbin/nologin\n\
         pagebox:x:1000:1000::/workspace:/bin/bash\n\
         nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n",
    ),
    (
        "/etc/group",
        "root:x:0:\npagebox:x:1000:\nnogroup:x:65534:\n",
    ),
    ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    (
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\n",
    ),
];

/// Links every program expects below /dev; they lead nowhere without /proc.
pub(super) const DEV_LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

impl Image {
    /// Reads every `*.toml` of a directory, and the host for what they name; `${name}` is replaced
    /// from `vars`.
    ///
    /// # Errors
    /// A file that cannot be read, has an unknown field, a path that is not absolute and plain, an
    /// unknown variable, something this host does not have, or a seccomp profile that does not
    /// compile.
    pub fn load_all(dir: &Path, vars: &[(&str, &Path)]) -> Result<Vec<Self>, Error> {
        let read_error = |path: &Path, source| Error::ReadImage {
            path: path.to_owned(),
            source,
        };
        let mut files: Vec<PathBuf> = fs::read_dir(dir)
            .map_err(|error| read_error(dir, error))?
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| read_error(dir, error))?
            .into_iter()
            .map(|entry| entry.path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "toml")
            })
            .collect();
        files.sort();
        let mut loader = Loader::new();
        files
            .iter()
            .map(|path| {
                let text = fs::read_to_string(path).map_err(|error| read_error(path, error))?;
                let bad = |reason: String| Error::BadImage {
                    path: path.clone(),
                    reason,
                };
                let recipe = Recipe::parse(&text, vars).map_err(bad)?;
                let contents = contents::compute(&recipe, &mut loader).map_err(bad)?;
                let profile = dir.join("seccomp").join(format!("{}.json", recipe.seccomp));
                let seccomp =
                    fs::read_to_string(&profile).map_err(|error| read_error(&profile, error))?;
                seccomp::compile(&seccomp).map_err(|reason| Error::BadImage {
                    path: profile.clone(),
                    reason,
                })?;
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                Ok(Self {
                    name: name.into_owned(),
                    recipe,
                    contents,
                    seccomp,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
