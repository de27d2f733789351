//! The directory of what outlives the daemon: made and handed over before privilege is dropped, used
//! only after it. Nothing in it is touched as root: whoever took the daemon over could have put
//! anything there.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::config::{Config, own_uids};
use crate::profile::{self, Profiles};
use crate::store::Store;

const FILE: &str = "pagebox.db";
const LOCK: &str = "daemon.lock";
/// Their key is beside them, in `profiles.key`.
const PROFILES: &str = "profiles";

/// The directory, ready to be used.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// Makes it, if it is missing, and gives it to the uid the daemon takes; before privilege is
    /// dropped.
    ///
    /// # Errors
    /// When it cannot be made, or belongs to somebody else.
    pub fn prepare(config: &Config) -> anyhow::Result<Self> {
        let path = config.data_dir()?;
        let uids = own_uids().context("cannot tell whether this is root")?;
        let root = uids.contains(&0).then_some(config.sandbox.daemon_uid);
        let uid = root.unwrap_or(uids[1]);
        prepare(&path, uid)
            .with_context(|| format!("data_dir: {} cannot be used", path.display()))?;
        Ok(Self(path))
    }

    /// Opens the store in it; after privilege was dropped.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self) -> anyhow::Result<Store> {
        Store::open(&self.0.join(FILE)).context("data_dir: the store in it cannot be used")
    }

    /// Opens the profiles in it; after privilege was dropped, and no other daemon has it.
    ///
    /// # Errors
    /// When they, or their key, cannot be used.
    pub fn profiles(&self, config: &profile::Config) -> anyhow::Result<Profiles> {
        let opened = Profiles::open(&self.0.join(PROFILES), config.clone());
        opened.context("data_dir: the profiles in it cannot be used")
    }

    /// Keeps other daemons out for as long as the file lives.
    ///
    /// # Errors
    /// When another daemon has it, or it cannot be written to.
    pub fn lock(&self) -> anyhow::Result<File> {
        let path = self.0.join(LOCK);
        let opened = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = opened.with_context(|| format!("data_dir: cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => bail!(
                "data_dir: {} belongs to another running daemon; give each one its own",
                self.0.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("data_dir: cannot lock {}", path.display()))
            }
        }
    }
}

fn prepare(path: &Path, uid: u32) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    match made {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    let found = path.metadata()?;
    if !found.is_dir() {
        bail!("it is not a directory");
    }
    if found.uid() == uid {
        return Ok(());
    }
    // One that holds something may be anything, such as /var/lib by a slip of the pen.
    if path.read_dir()?.next().is_some() {
        bail!(
            "it belongs to uid {}, and the daemon has uid {uid}: name an empty or a missing \
             directory, or give this one over (chown -R {uid})",
            found.uid()
        );
    }
    let given: io::Result<()> = chown(path, Some(uid), Some(uid));
    given.with_context(|| format!("it cannot be given to uid {uid}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn config(path: &Path) -> Config {
        Config {
            data_dir: Some(path.to_owned()),
            ..Config::default()
        }
    }

    #[test]
    fn a_directory_is_made_for_the_daemon_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let config = config(&path);
        DataDir::prepare(&config).unwrap();
        let found = path.metadata().unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o700);
        let own = own_uids().unwrap()[1];
        let expected = if own == 0 {
            config.sandbox.daemon_uid
        } else {
            own
        };
        assert_eq!(found.uid(), expected);
        DataDir::prepare(&config).unwrap();
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_key() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        File::create(&file).unwrap();
        for path in [file.clone(), file.join("below"), "/proc/1/x".into()] {
            let error = DataDir::prepare(&config(&path)).unwrap_err().to_string();
            let expected = format!("data_dir: {} cannot be used", path.display());
            assert_eq!(error, expected);
        }
        // Not empty, and not the daemon's: nothing of it is given away.
        let before = root.path().metadata().unwrap().uid();
        let error = prepare(root.path(), before + 1).unwrap_err().to_string();
        assert!(error.contains("chown -R"), "{error}");
        assert_eq!(root.path().metadata().unwrap().uid(), before);
    }

    #[test]
    fn two_daemons_do_not_share_one() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir(root.path().to_owned());
        let held = dir.lock().unwrap();
        let error = dir.lock().unwrap_err().to_string();
        assert!(error.contains("another running daemon"), "{error}");
        drop(held);
        dir.lock().unwrap();
    }
}
