//! The key profiles are sealed with: 32 bytes in a file, as hex digits.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use chacha20poly1305::{Key as CipherKey, KeyInit as _, XChaCha20Poly1305};
use sha2::{Digest as _, Sha256};

const LENGTH: usize = 32;
/// Of a key: tells two keys apart, and says nothing of either.
pub(super) const ID_LENGTH: usize = 8;

/// Seals and opens profiles. Its `Debug` shows its id only.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) id: [u8; ID_LENGTH],
    pub(super) cipher: XChaCha20Poly1305,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", hex(&self.id))
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not there, and profiles are.
    #[error(
        "{path} is not there, and {objects} holds profiles, which no other key opens: put it back, or \
         remove that directory"
    )]
    Lost {
        /// Which.
        path: PathBuf,
        /// Where the profiles are.
        objects: PathBuf,
    },
    /// Others may read it.
    #[error("{path} has the mode {mode:04o}: others can read the key in it (chmod 600 {path})")]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// What it holds.
    #[error("{path} does not hold 64 hex digits: it is not the key file that was written")]
    Unreadable {
        /// Which.
        path: PathBuf,
    },
}

impl Key {
    /// Reads the key of a file; one that does not exist is made, with a new key, readable by this
    /// user only.
    pub(super) fn of_file(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File {
            path: path.to_owned(),
            source,
        };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(path).map_err(failed)?;
                File::open(path).map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        };
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            let path = path.to_owned();
            return Err(KeyError::Open { path, mode });
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let bytes = unhex(text.trim()).ok_or_else(|| KeyError::Unreadable {
            path: path.to_owned(),
        })?;
        Ok(Self::new(bytes))
    }

    pub(super) fn new(bytes: [u8; LENGTH]) -> Self {
        let digest = Sha256::new()
            .chain_update(b"pagebox profile key")
            .chain_update(bytes);
        let digest = digest.finalize();
        let mut id = [0; ID_LENGTH];
        id.copy_from_slice(&digest[..ID_LENGTH]);
        Self {
            id,
            cipher: XChaCha20Poly1305::new(&CipherKey::from(bytes)),
        }
    }
}

/// Whole or not at all: a key that is half written would be another key.
fn make(path: &Path) -> io::Result<()> {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&new)?;
    file.write_all(format!("{}\n", hex(&bytes)).as_bytes())?;
    file.sync_all()?;
    // Never over one that another daemon has made meanwhile.
    match std::fs::hard_link(&new, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    std::fs::remove_file(&new)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    if text.len() != 2 * LENGTH || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_this_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("profile.key");
        let made = Key::of_file(&path).unwrap();
        assert_eq!(Key::of_file(&path).unwrap().id, made.id);
        let mode = fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let other = Key::of_file(&dir.path().join("other")).unwrap();
        assert_ne!(other.id, made.id);
    }

    #[test]
    fn a_key_others_can_read_or_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("profile.key");
        let made = Key::of_file(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = Key::of_file(&path).unwrap_err();
        assert!(matches!(refused, KeyError::Open { mode: 0o640, .. }));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for wrong in [
            String::new(),
            "0".repeat(63),
            "é".repeat(32),
            "zz".repeat(32),
        ] {
            fs::write(&path, wrong).unwrap();
            let refused = Key::of_file(&path).unwrap_err();
            assert!(matches!(refused, KeyError::Unreadable { .. }));
        }
        assert!(!format!("{made:?}").contains(&"0".repeat(64)));
    }
}
