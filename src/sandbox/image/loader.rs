//! Where the host's dynamic loader finds libraries: run paths, /etc/ld.so.cache, its default
//! directories, in that order (ld.so(8)). No environment variable counts.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::elf::Elf;

/// The loader's own directories, Debian's first.
const DIRECTORIES: [&str; 6] = [
    #[cfg(target_arch = "x86_64")]
    "/lib/x86_64-linux-gnu",
    #[cfg(target_arch = "aarch64")]
    "/lib/aarch64-linux-gnu",
    #[cfg(target_arch = "x86_64")]
    "/usr/lib/x86_64-linux-gnu",
    #[cfg(target_arch = "aarch64")]
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];
/// What the file of today's glibc begins with; older ones have a part before it.
const CACHE_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const CACHE_HEADER: usize = 48;
const CACHE_ENTRY: usize = 24;

/// The libraries of the host, each file read once for all images.
#[derive(Debug, Default)]
pub(super) struct Loader {
    /// Of /etc/ld.so.cache: paths by name, best first.
    cache: HashMap<String, Vec<PathBuf>>,
    files: HashMap<PathBuf, Option<Rc<Elf>>>,
}

impl Loader {
    /// Reads the host's cache; a host without one has the directories only.
    pub(super) fn new() -> Self {
        let bytes = fs::read("/etc/ld.so.cache").unwrap_or_default();
        Self {
            cache: parse_cache(&bytes),
            files: HashMap::new(),
        }
    }

    /// A file's own needs; `None` when it is not ELF of this machine.
    pub(super) fn elf(&mut self, path: &Path) -> Result<Option<Rc<Elf>>, String> {
        if let Some(known) = self.files.get(path) {
            return Ok(known.clone());
        }
        let elf = Elf::read(path)?.map(Rc::new);
        self.files.insert(path.to_owned(), elf.clone());
        Ok(elf)
    }

    /// The library `name` as a file that has `paths` would get it.
    pub(super) fn find(&mut self, name: &str, paths: &[PathBuf]) -> Result<Option<Found>, String> {
        let plain = |path: PathBuf| Found {
            path,
            needs_cache: false,
        };
        let candidates: Vec<Found> = if name.contains('/') {
            vec![plain(PathBuf::from(name))]
        } else {
            let own = paths.iter().map(|directory| plain(directory.join(name)));
            let cached = self.cache.get(name).cloned().unwrap_or_default();
            let cached = cached.into_iter().map(|path| Found {
                needs_cache: !path.parent().is_some_and(is_default),
                path,
            });
            let default = DIRECTORIES.map(|directory| plain(Path::new(directory).join(name)));
            own.chain(cached).chain(default).collect()
        };
        for found in candidates {
            if found.path.is_file() && self.elf(&found.path)?.is_some() {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// A library of the host.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Whether a loader without a cache would not find it where it is.
    pub(super) needs_cache: bool,
}

fn is_default(directory: &Path) -> bool {
    DIRECTORIES
        .iter()
        .any(|known| Path::new(known) == directory)
}

/// Entries without hardware capabilities: what is best on this processor need not be on all. What
/// makes no sense is no entry, as for the loader.
fn parse_cache(bytes: &[u8]) -> HashMap<String, Vec<PathBuf>> {
    let mut found: HashMap<String, Vec<PathBuf>> = HashMap::new();
    let start = bytes
        .windows(CACHE_MAGIC.len())
        .position(|part| part == CACHE_MAGIC);
    let Some(table) = start.and_then(|start| bytes.get(start..)) else {
        return found;
    };
    let number = |at: usize| {
        let bytes = table.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_ne_bytes(bytes)).ok()
    };
    let string = |at: usize| {
        let rest = table.get(at..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    };
    let count = number(CACHE_MAGIC.len()).unwrap_or_default();
    for index in 0..count {
        let at = CACHE_HEADER + index * CACHE_ENTRY;
        let entry = || {
            let plain = (number(at + 16)?, number(at + 20)?) == (0, 0);
            let (name, path) = (string(number(at + 4)?)?, string(number(at + 8)?)?);
            plain.then_some((name, path))
        };
        if at + CACHE_ENTRY > table.len() {
            break;
        }
        if let Some((name, path)) = entry() {
            found.entry(name.to_owned()).or_default().push(path.into());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libc_is_found_wherever_it_is() {
        let mut loader = Loader::new();
        let path = loader.find("libc.so.6", &[]).unwrap().unwrap().path;
        assert!(loader.elf(&path).unwrap().is_some());
        assert_eq!(loader.find("libnothing-of-the-kind.so", &[]), Ok(None));
        // The directories alone are enough for it.
        let mut bare = Loader::default();
        let same = bare.find("libc.so.6", &[]).unwrap().unwrap().path;
        assert_eq!(same.canonicalize().unwrap(), path.canonicalize().unwrap());
    }

    #[test]
    fn a_run_path_comes_first_and_must_hold_elf() {
        let root = tempfile::tempdir().unwrap();
        let mut loader = Loader::new();
        let paths = [root.path().to_owned()];
        fs::write(root.path().join("libc.so.6"), "GROUP ( /lib/libc.so )").unwrap();
        let path = loader.find("libc.so.6", &paths).unwrap().unwrap().path;
        assert!(!path.starts_with(root.path()));
        fs::copy(path, root.path().join("libm.so.6")).unwrap();
        let found = loader.find("libm.so.6", &paths).unwrap().unwrap();
        assert!(found.path.starts_with(root.path()) && !found.needs_cache);
    }

    #[test]
    fn what_only_the_cache_knows_is_marked() {
        let root = tempfile::tempdir().unwrap();
        let libc = Loader::new().find("libc.so.6", &[]).unwrap().unwrap();
        let path = root.path().join("libown.so");
        fs::copy(libc.path, &path).unwrap();
        let mut loader = Loader::default();
        loader
            .cache
            .insert("libown.so".to_owned(), vec![path.clone()]);
        let expected = Found {
            path,
            needs_cache: true,
        };
        assert_eq!(loader.find("libown.so", &[]), Ok(Some(expected)));
    }

    #[test]
    fn a_cache_is_read_and_half_of_one_is_no_harm() {
        let mut bytes = b"ld.so-1.7.0 and what it had".to_vec();
        let start = bytes.len();
        bytes.extend(CACHE_MAGIC);
        bytes.extend(3u32.to_ne_bytes());
        bytes.resize(start + CACHE_HEADER, 0);
        let strings = CACHE_HEADER + 3 * CACHE_ENTRY;
        for (name, path, capabilities) in [(0, 5, 0u64), (0, 5, 7), (0, 9999, 0)] {
            bytes.extend(1u32.to_ne_bytes());
            for offset in [name, path] {
                bytes.extend((u32::try_from(strings).unwrap() + offset).to_ne_bytes());
            }
            bytes.extend(0u32.to_ne_bytes());
            bytes.extend(capabilities.to_ne_bytes());
        }
        bytes.extend(b"liba\0/opt/liba\0");
        let expected = HashMap::from([("liba".to_owned(), vec![PathBuf::from("/opt/liba")])]);
        assert_eq!(parse_cache(&bytes), expected);
        for length in 0..bytes.len() {
            let cut = parse_cache(&bytes[..length]);
            assert!(cut.is_empty() || cut == expected, "{length}");
        }
    }
}
