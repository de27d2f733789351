//! Files that people bring into a session, and downloads they take out of it.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::io::ReaderStream;

use super::LiveViews;
use super::director::DOWNLOADS;
use crate::id::SessionId;
use crate::limits;
use crate::sandbox::{self, Scratch};
use crate::session::{self, May, Viewing};

/// Where uploaded files are, each in a directory of its own.
pub(super) const UPLOADS: &str = "/tmp/uploads";
/// Largest file, either way.
pub const MAX_FILE: limits::Bytes = limits::Bytes::mib(100);
/// How long a file may take, either way.
const TRANSFER_TIME: Duration = Duration::from_secs(600);
/// Longest file name, in bytes: what Linux takes.
const MAX_NAME: usize = 255;

/// Why a file was not brought in or taken out.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The session refused, or is none.
    #[error(transparent)]
    Session(#[from] session::Error),
    /// The token is for looking only.
    #[error("this token lets you look only")]
    ViewOnly,
    /// No name of a file.
    #[error("{0:?} is no name of a file")]
    Name(String),
    /// Not a download.
    #[error("{0:?} is no file that was downloaded while somebody looked")]
    NoDownload(String),
    /// It is larger than [`MAX_FILE`].
    #[error("the file is larger than {}", MAX_FILE)]
    TooLarge,
    /// It took too long.
    #[error("the file did not come through within {TRANSFER_TIME:?}")]
    TooSlow,
    /// It broke off on its way in.
    #[error("the file could not be read: {0}")]
    Broken(String),
    /// The session's files failed.
    #[error("the session's files: {0}")]
    Scratch(#[source] sandbox::Error),
    /// Reading or writing failed; the session's files may be full.
    #[error("the session's files: {0}")]
    Io(#[source] io::Error),
}

impl LiveViews {
    /// Opens a session for the files of whoever shows a token of its live view that lets act.
    async fn for_files(&self, id: SessionId, token: &str) -> Result<Viewing, FileError> {
        let viewing = self.registry.viewing(id, token).await?;
        match viewing.may() {
            May::Control => Ok(viewing),
            May::View => Err(FileError::ViewOnly),
        }
    }

    /// Brings a file into a session; where it is there.
    ///
    /// # Errors
    /// When the token does not allow it, or is withdrawn, or the session ends; when the name is none, the
    /// session's files are full, or it takes too long. Nothing of it is left then.
    pub async fn upload<E: fmt::Display>(
        &self,
        id: SessionId,
        token: &str,
        name: &str,
        pieces: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<PathBuf, FileError> {
        let mut viewing = self.for_files(id, token).await?;
        if !is_name(name) {
            return Err(FileError::Name(name.to_owned()));
        }
        // Of the same name as another, and all the same another file.
        let path = Path::new(UPLOADS)
            .join(uuid::Uuid::new_v4().simple().to_string())
            .join(name);
        let files = viewing.files().ok_or_else(gone)?.clone();
        let file = files.create(&path).await.map_err(FileError::Scratch)?;
        viewing.touch();
        let mut unfinished = Unfinished(Some((files, path.clone())));
        tokio::select! {
            written = write(tokio::fs::File::from_std(file), pieces) => written?,
            error = viewing.over() => return Err(error.into()),
            () = sleep(TRANSFER_TIME) => return Err(FileError::TooSlow),
        }
        unfinished.0 = None;
        Ok(path)
    }

    /// A downloaded file: its size, and its content in pieces, which breaks off when the session ends or
    /// the token is withdrawn.
    ///
    /// # Errors
    /// When the token does not allow it, or there is no such download.
    pub async fn download(
        &self,
        id: SessionId,
        token: &str,
        path: &str,
    ) -> Result<(u64, mpsc::Receiver<io::Result<Bytes>>), FileError> {
        let mut viewing = self.for_files(id, token).await?;
        if !is_download(path) {
            return Err(FileError::NoDownload(path.to_owned()));
        }
        let files = viewing.files().ok_or_else(gone)?;
        let file = files.open(Path::new(path)).await;
        let file = tokio::fs::File::from_std(file.map_err(FileError::Scratch)?);
        let size = file.metadata().await.map_err(FileError::Io)?.len();
        if size > MAX_FILE.0 {
            return Err(FileError::TooLarge);
        }
        viewing.touch();
        let (sender, pieces) = mpsc::channel(1);
        // Whoever stops reading does not keep the file, and with it all files of its session.
        tokio::spawn(async move {
            let broken = tokio::select! {
                () = read(file, size, &sender) => return,
                error = viewing.over() => error.to_string(),
                () = sleep(TRANSFER_TIME) => FileError::TooSlow.to_string(),
            };
            let _ = sender.try_send(Err(io::Error::other(broken)));
        });
        Ok((size, pieces))
    }
}

async fn write<E: fmt::Display>(
    mut file: tokio::fs::File,
    pieces: impl Stream<Item = Result<Bytes, E>>,
) -> Result<(), FileError> {
    tokio::pin!(pieces);
    let mut written = 0;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| FileError::Broken(error.to_string()))?;
        written += piece.len() as u64;
        if written > MAX_FILE.0 {
            return Err(FileError::TooLarge);
        }
        file.write_all(&piece).await.map_err(FileError::Io)?;
    }
    file.flush().await.map_err(FileError::Io)
}

/// Reads so much of a file, which may grow meanwhile, as long as somebody takes it.
async fn read(file: tokio::fs::File, size: u64, sender: &mpsc::Sender<io::Result<Bytes>>) {
    let mut pieces = ReaderStream::new(file.take(size));
    while let Some(piece) = pieces.next().await {
        if sender.send(piece).await.is_err() {
            return;
        }
    }
}

/// A file on its way in, which is removed unless it is whole.
struct Unfinished(Option<(Scratch, PathBuf)>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some((files, path)) = self.0.take() else {
            return;
        };
        tokio::spawn(async move {
            if let Err(error) = files.remove(&path).await {
                tracing::debug!(%error, "a part of a file was left in a session");
            }
        });
    }
}

fn gone() -> FileError {
    FileError::Io(io::ErrorKind::NotFound.into())
}

fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= MAX_NAME
        && !name.chars().any(|c| c == '/' || c.is_control())
}

/// Whether a path is below the directory of downloads, however it is spelled.
fn is_download(path: &str) -> bool {
    let path = Path::new(path);
    let is_plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    path.components().all(is_plain) && path.starts_with(DOWNLOADS) && path != Path::new(DOWNLOADS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_files_and_paths_of_downloads() {
        for (name, good) in [
            ("a.txt", true),
            ("Ünïcode 1.pdf", true),
            (".hidden", true),
            ("", false),
            ("..", false),
            ("a/b", false),
            ("a\0b", false),
            ("a\nb", false),
        ] {
            assert_eq!(is_name(name), good, "{name:?}");
        }
        assert!(!is_name(&"a".repeat(256)));
        for (path, good) in [
            ("/tmp/downloads/a.pdf", true),
            ("/tmp/downloads", false),
            ("/tmp/downloads/../a", false),
            ("/tmp/downloadsa", false),
            ("tmp/downloads/a", false),
            ("/etc/passwd", false),
        ] {
            assert_eq!(is_download(path), good, "{path}");
        }
    }
}
