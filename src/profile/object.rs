//! The object of a profile: where it is, what is in it, how it is replaced.
//!
//! ```text
//! piece     the summary, as JSON: what a list shows
//! pieces    the state, as JSON; an empty one ends it
//! pieces    the packed user data directory; the last one ends it
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::pin::Pin;
use std::time::SystemTime;

use futures_util::TryStreamExt as _;
use object_store::buffered::BufWriter;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio_util::io::StreamReader;

use super::archive::Archive;
use super::key::{Key, hex};
use super::seal::{MAX_PIECE, Opener, SealError, Sealer};
use super::{Error as ProfileError, Name, Profiles, State, Writer};
use crate::tenant::Owner;

/// Pieces of the state and of the archive.
const PIECE: usize = 64 << 10;
/// Of an object on its way to the store; more than that goes there in parts.
const BUFFER: usize = 4 << 20;
/// Parts on their way at once.
const UPLOADS: usize = 2;
/// Of what is read before anything is unpacked.
const MAX_STATE: usize = 64 << 20;
/// Domains a summary counts cookies of: it must fit a piece.
const MAX_DOMAINS: usize = 4096;
/// What `LocalFileSystem` puts between a file's name and a number while it is being written.
const STAGED: char = '#';

/// What is told of a profile without unpacking it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its name.
    pub name: Name,
    /// When it was saved.
    #[serde(with = "humantime_serde")]
    pub saved_at: SystemTime,
    /// The browser that saved it.
    pub browser: String,
    /// Cookies of each domain; the first 4096 of them.
    pub cookies: BTreeMap<String, u32>,
    /// Origins that may have stored something.
    pub origins: BTreeSet<String>,
}

/// A profile as it was last saved, its archive still to be read.
pub struct Saved {
    /// What it is.
    pub summary: Summary,
    /// Bytes of its object.
    pub size: u64,
    /// What stands for it as it is.
    pub version: String,
    pieces: Opener<Reader>,
}

type Reader = Pin<Box<dyn AsyncRead + Send>>;

/// Why an object cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Store(#[from] object_store::Error),
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl Error {
    pub(super) fn of(self, name: &Name) -> ProfileError {
        match self {
            Self::Store(error) => error.into(),
            Self::Seal(source) => ProfileError::Unreadable {
                name: name.clone(),
                source,
            },
        }
    }
}

impl std::fmt::Debug for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saved")
            .field("summary", &self.summary)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// Names are of any characters: the place is made of their hashes.
pub(super) fn place(owner: &Owner, name: &Name) -> ObjectPath {
    directory(owner).join(hex(&Sha256::digest(name.to_string())))
}

fn directory(owner: &Owner) -> ObjectPath {
    let of = Sha256::new()
        .chain_update(owner.tenant.as_bytes())
        .chain_update([0])
        .chain_update(owner.user.as_bytes());
    ObjectPath::from(hex(&of.finalize()))
}

/// Where the owner's profiles are.
pub(super) async fn places(
    store: &dyn ObjectStore,
    owner: &Owner,
) -> Result<Vec<ObjectPath>, object_store::Error> {
    let directory = directory(owner);
    let listed = store.list(Some(&directory));
    listed.map_ok(|meta| meta.location).try_collect().await
}

pub(super) fn version(meta: &ObjectMeta) -> String {
    let tag = meta.e_tag.clone();
    tag.unwrap_or_else(|| meta.last_modified.to_rfc3339())
}

/// Opens an object; none when there is none.
pub(super) async fn open(
    store: &dyn ObjectStore,
    key: &Key,
    place: &ObjectPath,
) -> Result<Option<Saved>, Error> {
    let found = match store.get(place).await {
        Ok(found) => found,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let (size, version) = (found.meta.size, version(&found.meta));
    let stream = found.into_stream().map_err(io::Error::other);
    let reader: Reader = Box::pin(StreamReader::new(stream));
    let mut pieces = Opener::begin(reader, key, place.as_ref()).await?;
    let first = pieces.piece().await?.unwrap_or_default();
    let summary = serde_json::from_slice(&first);
    let summary = summary.map_err(|_| SealError::Damaged("its summary is none"))?;
    Ok(Some(Saved {
        summary,
        size,
        version,
        pieces,
    }))
}

impl Saved {
    /// What Chromium does not write down itself; to be read first.
    ///
    /// # Errors
    /// When the object is damaged.
    pub async fn state(&mut self) -> Result<State, ProfileError> {
        let state = self.read_state().await;
        state.map_err(|source| Error::Seal(source).of(&self.summary.name))
    }

    async fn read_state(&mut self) -> Result<State, SealError> {
        let mut json = Vec::new();
        loop {
            match self.pieces.piece().await? {
                Some(piece) if piece.is_empty() => break,
                Some(piece) if json.len() + piece.len() <= MAX_STATE => json.extend(piece),
                Some(_) => return Err(SealError::TooLarge),
                None => return Err(SealError::Damaged("it has no state")),
            }
        }
        serde_json::from_slice(&json).map_err(|_| SealError::Damaged("its state is none"))
    }

    /// The packed user data directory, piece by piece.
    pub(super) async fn archive(&mut self) -> Result<Option<Vec<u8>>, SealError> {
        self.pieces.piece().await
    }
}

/// A profile as it was written, which nobody sees yet.
pub struct Unsaved {
    upload: BufWriter,
    writer: Writer,
}

impl std::fmt::Debug for Unsaved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unsaved")
            .field("writer", &self.writer)
            .finish_non_exhaustive()
    }
}

impl Unsaved {
    /// Puts it in the place of what was saved before: when this returns, it is on the disk. Goes on when
    /// the call is dropped; nobody else writes the profile meanwhile.
    ///
    /// # Errors
    /// When the store fails; what was saved before is still there.
    pub async fn commit(self) -> Result<(), ProfileError> {
        let Self { mut upload, writer } = self;
        let name = writer.name().clone();
        let committing = tokio::spawn(async move {
            let done = upload.shutdown().await;
            drop(writer);
            done
        });
        match committing.await {
            Ok(done) => done.map_err(|error| stored(error, &name)),
            Err(error) => Err(stored(io::Error::other(error), &name)),
        }
    }
}

impl Profiles {
    /// Writes a profile anew, of what a sandbox has packed and of this state. Nothing of it is seen
    /// before [`Unsaved::commit`]; until then a dropped call, or what it gave, leaves what was saved.
    ///
    /// # Errors
    /// When it is too large, could not be packed, or the store fails.
    pub async fn save(
        &self,
        writer: Writer,
        summary: &Summary,
        state: &State,
        archive: impl Archive,
    ) -> Result<Unsaved, ProfileError> {
        let place = place(writer.owner(), writer.name());
        let store = self.0.store.clone();
        let upload = BufWriter::with_capacity(store, place.clone(), BUFFER);
        let mut upload = upload.with_max_concurrency(UPLOADS);
        let written = self.write_object(&mut upload, &place, summary, state, archive);
        match written.await {
            Ok(()) => Ok(Unsaved { upload, writer }),
            Err(error) => {
                // What is left of it is no object, and swept at the next start.
                if let Err(error) = upload.abort().await {
                    tracing::debug!(%error, "an upload was not given up");
                }
                Err(error)
            }
        }
    }

    async fn write_object(
        &self,
        upload: &mut BufWriter,
        place: &ObjectPath,
        summary: &Summary,
        state: &State,
        mut archive: impl Archive,
    ) -> Result<(), ProfileError> {
        let name = &summary.name;
        let bad = |error: SealError| match error {
            SealError::Io(error) => stored(error, name),
            _ => self.too_large(name),
        };
        let json = |error: serde_json::Error| ProfileError::State {
            name: name.clone(),
            what: "written",
            why: error.to_string(),
        };
        let mut shortened = summary.clone();
        while shortened.cookies.len() > MAX_DOMAINS {
            shortened.cookies.pop_last();
        }
        let summary = serde_json::to_vec(&shortened).map_err(json)?;
        let state = serde_json::to_vec(state).map_err(json)?;
        if summary.len() > MAX_PIECE || state.len() > MAX_STATE {
            return Err(self.too_large(name));
        }
        let mut object = Sealer::begin(upload, &self.0.key, place.as_ref())
            .await
            .map_err(bad)?;
        object.piece(&summary).await.map_err(bad)?;
        for piece in state.chunks(PIECE).chain([&[][..]]) {
            object.piece(piece).await.map_err(bad)?;
        }
        let most = self.0.config.max_size.0;
        let mut size = (summary.len() + state.len()) as u64;
        while let Some(piece) = archive
            .next(PIECE)
            .await
            .map_err(|why| packing(name, why))?
        {
            size += piece.len() as u64;
            if size > most {
                return Err(self.too_large(name));
            }
            object.piece(&piece).await.map_err(bad)?;
        }
        archive.finish().await.map_err(|why| packing(name, why))?;
        object.last(&[]).await.map_err(bad)?;
        Ok(())
    }

    fn too_large(&self, name: &Name) -> ProfileError {
        ProfileError::TooLarge {
            name: name.clone(),
            most: self.0.config.max_size,
        }
    }
}

fn packing(name: &Name, why: String) -> ProfileError {
    ProfileError::Archive {
        name: name.clone(),
        what: "packed",
        why,
    }
}

/// `BufWriter` puts the store's errors into those of a writer.
fn stored(error: io::Error, name: &Name) -> ProfileError {
    match error.downcast::<object_store::Error>() {
        Ok(error) => error.into(),
        Err(error) => ProfileError::Archive {
            name: name.clone(),
            what: "written",
            why: error.to_string(),
        },
    }
}

/// For this user only.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path)
}

/// Whether there is any object.
pub(super) fn any(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || any(&entry.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes what interrupted saves left: no object has such a name.
pub(super) fn sweep(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sweep(&entry.path())?;
        } else if entry.file_name().to_string_lossy().contains(STAGED) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
