//! Profiles: what a browser keeps of an owner, under a name, from one session to the next.
//!
//! ```text
//! session ── open ──► Saved ──► archive (a sandbox unpacks it) ──► state (over CDP)
//!    │                  ▲                                             │
//!    └── writer ──┐     │ object: sealed, one per profile             ▼
//!                 └──► save ◄── archive (a sandbox packs it) ◄── state (over CDP)
//! ```
//!
//! A profile is one object: a summary, what Chromium does not write down itself (session cookies,
//! `sessionStorage`), and its user data directory, packed. It is replaced whole or not at all. Knows
//! nothing of sessions but their ids.

mod archive;
mod config;
mod key;
mod object;
mod seal;
mod state;
mod writers;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt as _};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::id::SessionId;
use crate::limits::Bytes;
use crate::tenant::Owner;

pub use archive::{Archive, Limits, Packed};
pub use config::Config;
pub use key::KeyError;
pub use object::{Saved, Summary, Unsaved};
pub use seal::SealError;
pub use state::{SessionStorage, State};
pub use writers::Writer;

use key::Key;
use writers::Writers;

/// Characters of a name.
const MAX_NAME: usize = 128;

/// All profiles of the daemon; cheap to clone.
#[derive(Clone, Debug)]
pub struct Profiles(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn ObjectStore>,
    key: Key,
    writers: Writers,
    config: Config,
    /// Saved at once, as each needs a core.
    turns: Arc<Semaphore>,
}

/// What a profile is called: 1 to 128 characters of any kind.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// No name of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Profile name must be between 1 and 128 characters.")]
pub struct NotAName;

impl TryFrom<String> for Name {
    type Error = NotAName;

    fn try_from(name: String) -> Result<Self, NotAName> {
        match name.chars().count() {
            1..=MAX_NAME => Ok(Self(name.into())),
            _ => Err(NotAName),
        }
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which profile a session has, and whether it writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Use {
    /// The profile's name.
    pub name: Name,
    /// Whether it is saved when the session ends; one session at a time may.
    #[serde(default = "yes", alias = "save_changes")]
    pub save_changes: bool,
}

fn yes() -> bool {
    true
}

/// A profile as seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileView {
    /// Its name.
    pub name: Name,
    /// Bytes of its object.
    pub size: Bytes,
    /// When it was last saved.
    pub saved_at: SystemTime,
    /// Cookies of each domain.
    pub cookies: BTreeMap<String, u32>,
    /// The browser that saved it.
    pub browser: String,
    /// The session that writes it now.
    pub writer: Option<SessionId>,
}

/// Why a profile cannot be used. The status of each on the wire is decided in the wire's layer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another session writes it. Clients know this by its words.
    #[error(
        "Another session is currently writing to this profile. Only one writer is allowed at a \
         time. You can still access it with saveChanges: false, or try again later."
    )]
    Busy {
        /// Which session.
        writer: SessionId,
    },
    /// It cannot be deleted while a session writes it.
    #[error(
        "A session is currently saving to this profile. Stop that session, then delete the profile."
    )]
    BeingSaved {
        /// Which session.
        writer: SessionId,
    },
    /// It was saved by another session since this one began with it.
    #[error("profile {name:?} was saved by another session meanwhile; try again")]
    Outdated {
        /// Which.
        name: Name,
    },
    /// There is none of this name.
    #[error("there is no profile {0:?}")]
    Unknown(Name),
    /// Its object.
    #[error("profile {name:?} cannot be read: {source}")]
    Unreadable {
        /// Which.
        name: Name,
        /// Why.
        source: SealError,
    },
    /// It was saved by a later browser, which this one's files may not fit.
    #[error(
        "profile {name:?} was saved by {saved}, and this daemon has {ours}: an older browser would \
         damage it; update the browser"
    )]
    TooNew {
        /// Which.
        name: Name,
        /// What saved it.
        saved: String,
        /// What is here.
        ours: String,
    },
    /// It is larger than may be kept.
    #[error("profile {name:?} would be larger than {most}, the most that is kept of one")]
    TooLarge {
        /// Which.
        name: Name,
        /// The limit.
        most: Bytes,
    },
    /// It could not be packed or unpacked.
    #[error("profile {name:?} could not be {what}: {why}")]
    Archive {
        /// Which.
        name: Name,
        /// `opened`, `packed` or `unpacked`.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// What the browser does not write down itself.
    #[error("the state of profile {name:?} could not be {what}: {why}")]
    State {
        /// Which.
        name: Name,
        /// `read` or `restored`.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The store of the objects.
    #[error("the profiles cannot be reached: {0}")]
    Store(#[from] object_store::Error),
    /// The directory of the objects.
    #[error("{path}: {source}")]
    Directory {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The key.
    #[error("the key of the profiles: {0}")]
    Key(#[from] KeyError),
}

/// Whether a browser, as it calls itself, is a later one than another. What names no version is not.
#[must_use]
pub fn is_newer(browser: &str, than: &str) -> bool {
    let version = |name: &str| -> Option<u32> {
        let (_, version) = name.split_once('/')?;
        version.split('.').next()?.parse().ok()
    };
    match (version(browser), version(than)) {
        (Some(browser), Some(than)) => browser > than,
        _ => false,
    }
}

impl Profiles {
    /// Profiles that are gone with the process.
    #[must_use]
    pub fn in_memory(config: Config) -> Self {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the kernel has random bytes once it has booted");
        Self::over(Arc::new(InMemory::new()), Key::new(key), config)
    }

    /// The profiles below a directory, which is made; what an interrupted save left there is
    /// removed.
    ///
    /// # Errors
    /// When the directory or the key file cannot be used.
    pub fn open(directory: &std::path::Path, config: Config) -> Result<Self, Error> {
        let failed = |source| Error::Directory {
            path: directory.display().to_string(),
            source,
        };
        object::make_directory(directory).map_err(failed)?;
        object::sweep(directory).map_err(failed)?;
        let beside = directory.with_extension("key");
        let named = Some(&*config.key_file).filter(|path| !path.as_os_str().is_empty());
        let path = named.unwrap_or(&beside);
        if !path.exists() && object::any(directory).map_err(failed)? {
            return Err(KeyError::Lost {
                path: path.to_owned(),
                objects: directory.to_owned(),
            }
            .into());
        }
        let key = Key::of_file(path)?;
        let store = LocalFileSystem::new_with_prefix(directory)?.with_fsync(true);
        Ok(Self::over(Arc::new(store), key, config))
    }

    fn over(store: Arc<dyn ObjectStore>, key: Key, config: Config) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self(Arc::new(Inner {
            store,
            key,
            writers: Writers::default(),
            config,
            turns: Arc::new(Semaphore::new(cores)),
        }))
    }

    /// What is configured.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Waits until one more may be saved; it may while what this gives is held.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // Never closed.
        Arc::clone(&self.0.turns).acquire_owned().await.ok()
    }

    /// Makes a session the writer of a profile, until what this gives is dropped.
    ///
    /// # Errors
    /// When another one is.
    pub fn write(&self, owner: &Owner, name: &Name, session: SessionId) -> Result<Writer, Error> {
        let taken = self.0.writers.take(owner, name, session);
        taken.map_err(|writer| Error::Busy { writer })
    }

    /// What stands for a profile as it is now: another one after each save; none when there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn version(&self, owner: &Owner, name: &Name) -> Result<Option<String>, Error> {
        match self.0.store.head(&object::place(owner, name)).await {
            Ok(meta) => Ok(Some(object::version(&meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The owner's profiles, by name.
    ///
    /// # Errors
    /// When the store fails. One that cannot be read is left out, and logged.
    pub async fn list(&self, owner: &Owner) -> Result<Vec<ProfileView>, Error> {
        let mut views = Vec::new();
        for place in object::places(&*self.0.store, owner).await? {
            match self.view(owner, &place).await {
                Ok(Some(view)) => views.push(view),
                Ok(None) => {}
                Err(error) => tracing::error!(%error, %place, "a profile cannot be read"),
            }
        }
        views.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(views)
    }

    /// One profile.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub async fn get(&self, owner: &Owner, name: &Name) -> Result<ProfileView, Error> {
        let view = self.view(owner, &object::place(owner, name)).await;
        let view = view.map_err(|error| error.of(name))?;
        view.ok_or_else(|| Error::Unknown(name.clone()))
    }

    async fn view(
        &self,
        owner: &Owner,
        place: &ObjectPath,
    ) -> Result<Option<ProfileView>, object::Error> {
        let Some(saved) = object::open(&*self.0.store, &self.0.key, place).await? else {
            return Ok(None);
        };
        let writer = self.0.writers.of(owner, &saved.summary.name);
        Ok(Some(ProfileView {
            size: Bytes(saved.size),
            saved_at: saved.summary.saved_at,
            cookies: saved.summary.cookies,
            browser: saved.summary.browser,
            name: saved.summary.name,
            writer,
        }))
    }

    /// Opens a profile as it was last saved; none when it never was.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn load(&self, owner: &Owner, name: &Name) -> Result<Option<Saved>, Error> {
        let place = object::place(owner, name);
        let opened = object::open(&*self.0.store, &self.0.key, &place).await;
        opened.map_err(|error| error.of(name))
    }

    /// Removes a profile; whether there was one.
    ///
    /// # Errors
    /// When a session writes it, or the store fails.
    pub async fn delete(&self, owner: &Owner, name: &Name) -> Result<bool, Error> {
        // So that no session begins to write it meanwhile.
        let taken = self.0.writers.take(owner, name, SessionId::generate());
        let _deleting = taken.map_err(|writer| Error::BeingSaved { writer })?;
        match self.0.store.delete(&object::place(owner, name)).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
