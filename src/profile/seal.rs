//! Objects at rest: sealed in pieces, so that none is ever in memory whole.
//!
//! ```text
//! PBPROF1\n   8 bytes   which format
//! key id      8 bytes   so that a foreign key is told from a broken object
//! nonce      19 bytes   random
//! pieces                4 bytes length, big-endian; then so many bytes
//! ```
//!
//! Each piece is XChaCha20-Poly1305 in the STREAM construction (Hoang, Reyhanitabar, Rogaway and
//! Vizár 2015), so that none can be changed, left out, moved or come from elsewhere: the header and
//! the object's place are authenticated with each.

use aead_stream::{NewStream as _, Nonce, StreamBE32, StreamPrimitive as _};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::Payload;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::key::{ID_LENGTH, Key, hex};

const MAGIC: &[u8; 8] = b"PBPROF1\n";
const NONCE: usize = 19;
const HEADER: usize = MAGIC.len() + ID_LENGTH + NONCE;
/// Longest piece of what is sealed.
pub(super) const MAX_PIECE: usize = 1 << 20;
const TAG: usize = 16;

type Stream = StreamBE32<XChaCha20Poly1305>;

/// Why an object cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It could not be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It was sealed with another key.
    #[error("it was saved with another key ({found}; this daemon's is {ours})")]
    ForeignKey {
        /// Id of the key it names.
        found: String,
        /// Id of ours.
        ours: String,
    },
    /// It is not what was written.
    #[error("it is damaged, or not a profile: {0}")]
    Damaged(&'static str),
    /// A piece is longer than any may be.
    #[error("a part of it is too large")]
    TooLarge,
}

/// Writes an object, piece by piece; the last one says so.
pub(super) struct Sealer<W> {
    writer: W,
    stream: Stream,
    position: u32,
    bound_to: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> Sealer<W> {
    /// Begins the object of this place.
    pub(super) async fn begin(mut writer: W, key: &Key, place: &str) -> Result<Self, SealError> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(std::io::Error::other)?;
        let mut header = Vec::with_capacity(HEADER);
        header.extend(MAGIC);
        header.extend(key.id);
        header.extend(nonce);
        writer.write_all(&header).await?;
        Ok(Self {
            writer,
            stream: stream(key, nonce),
            position: 0,
            bound_to: [&header, place.as_bytes()].concat(),
        })
    }

    /// Writes one that is not the last.
    pub(super) async fn piece(&mut self, piece: &[u8]) -> Result<(), SealError> {
        self.write(piece, false).await?;
        self.position = self.position.checked_add(1).ok_or(SealError::TooLarge)?;
        Ok(())
    }

    /// Writes the last one; the object is whole once the writer this gives is shut down.
    pub(super) async fn last(mut self, piece: &[u8]) -> Result<W, SealError> {
        self.write(piece, true).await?;
        Ok(self.writer)
    }

    async fn write(&mut self, piece: &[u8], last: bool) -> Result<(), SealError> {
        if piece.len() > MAX_PIECE {
            return Err(SealError::TooLarge);
        }
        let payload = Payload {
            msg: piece,
            aad: &self.bound_to,
        };
        let sealed = self.stream.encrypt(self.position, last, payload);
        let sealed = sealed.map_err(|_| SealError::TooLarge)?;
        let length = u32::try_from(sealed.len()).map_err(|_| SealError::TooLarge)?;
        self.writer.write_u32(length).await?;
        self.writer.write_all(&sealed).await?;
        Ok(())
    }
}

/// Reads an object, piece by piece.
pub(super) struct Opener<R> {
    reader: R,
    stream: Stream,
    position: u32,
    bound_to: Vec<u8>,
    /// Length of the next piece; none after the last one.
    next: Option<u32>,
}

impl<R: AsyncRead + Unpin> Opener<R> {
    /// Begins to read the object of this place.
    pub(super) async fn begin(mut reader: R, key: &Key, place: &str) -> Result<Self, SealError> {
        let mut header = [0; HEADER];
        let read = reader.read_exact(&mut header).await;
        read.map_err(cut)?;
        let (magic, rest) = header.split_at(MAGIC.len());
        let (id, nonce) = rest.split_at(ID_LENGTH);
        if magic != MAGIC {
            return Err(SealError::Damaged("it does not begin like one"));
        }
        if id != key.id {
            return Err(SealError::ForeignKey {
                found: hex(id),
                ours: hex(&key.id),
            });
        }
        let mut own = [0; NONCE];
        own.copy_from_slice(nonce);
        let next = length(&mut reader).await?;
        if next.is_none() {
            return Err(SealError::Damaged("it is cut short"));
        }
        Ok(Self {
            reader,
            stream: stream(key, own),
            position: 0,
            bound_to: [&header, place.as_bytes()].concat(),
            next,
        })
    }

    /// The next piece; none after the last one.
    pub(super) async fn piece(&mut self) -> Result<Option<Vec<u8>>, SealError> {
        let Some(length_of_this) = self.next else {
            return Ok(None);
        };
        let mut sealed = vec![0; length_of_this as usize];
        self.reader.read_exact(&mut sealed).await.map_err(cut)?;
        self.next = length(&mut self.reader).await?;
        let payload = Payload {
            msg: &sealed,
            aad: &self.bound_to,
        };
        let opened = self
            .stream
            .decrypt(self.position, self.next.is_none(), payload);
        let opened = opened.map_err(|_| SealError::Damaged("a part of it is not authentic"))?;
        self.position = self.position.checked_add(1).ok_or(SealError::TooLarge)?;
        Ok(Some(opened))
    }
}

fn stream(key: &Key, nonce: [u8; NONCE]) -> Stream {
    let nonce: Nonce<XChaCha20Poly1305, Stream> = nonce.into();
    Stream::from_aead(key.cipher.clone(), &nonce)
}

/// Length of the piece that follows; none at the end.
async fn length(reader: &mut (impl AsyncRead + Unpin)) -> Result<Option<u32>, SealError> {
    let mut bytes = [0; 4];
    let mut filled = 0;
    while filled < bytes.len() {
        match reader.read(&mut bytes[filled..]).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(SealError::Damaged("it is cut short")),
            read => filled += read,
        }
    }
    let length = u32::from_be_bytes(bytes);
    if length as usize > MAX_PIECE + TAG {
        return Err(SealError::Damaged("a part of it has no possible length"));
    }
    Ok(Some(length))
}

fn cut(error: std::io::Error) -> SealError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => SealError::Damaged("it is cut short"),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Key {
        Key::new([byte; 32])
    }

    async fn sealed(pieces: &[&[u8]]) -> Vec<u8> {
        let mut sealer = Sealer::begin(Vec::new(), &key(1), "a/b").await.unwrap();
        let (last, others) = pieces.split_last().unwrap();
        for piece in others {
            sealer.piece(piece).await.unwrap();
        }
        sealer.last(last).await.unwrap()
    }

    async fn opened(object: &[u8], key: &Key, place: &str) -> Result<Vec<Vec<u8>>, SealError> {
        let mut opener = Opener::begin(object, key, place).await?;
        let mut pieces = Vec::new();
        while let Some(piece) = opener.piece().await? {
            pieces.push(piece);
        }
        Ok(pieces)
    }

    #[tokio::test]
    async fn what_is_sealed_opens_with_the_same_key_in_the_same_place() {
        let object = sealed(&[b"one", b"", b"three"]).await;
        assert!(!object.windows(3).any(|bytes| bytes == b"one"));
        let pieces = opened(&object, &key(1), "a/b").await.unwrap();
        assert_eq!(pieces, [&b"one"[..], b"", b"three"]);
        let foreign = opened(&object, &key(2), "a/b").await;
        assert!(matches!(foreign, Err(SealError::ForeignKey { .. })));
        let moved = opened(&object, &key(1), "a/c").await;
        assert!(matches!(moved, Err(SealError::Damaged(_))));
        assert_ne!(object, sealed(&[b"one", b"", b"three"]).await);
    }

    #[tokio::test]
    async fn every_changed_byte_and_every_cut_is_found() {
        let object = sealed(&[b"one", b"two"]).await;
        for at in 0..object.len() {
            let mut changed = object.clone();
            changed[at] ^= 1;
            assert!(opened(&changed, &key(1), "a/b").await.is_err(), "byte {at}");
            let cut = opened(&object[..at], &key(1), "a/b").await;
            assert!(matches!(cut, Err(SealError::Damaged(_))), "cut at {at}");
        }
        let longer = [&object[..], b"\0\0\0\x10", &[0; 16]].concat();
        assert!(opened(&longer, &key(1), "a/b").await.is_err());
    }

    #[tokio::test]
    async fn a_piece_too_large_is_refused_both_ways() {
        let sealer = Sealer::begin(Vec::new(), &key(1), "a").await.unwrap();
        let refused = sealer.last(&vec![0; MAX_PIECE + 1]).await;
        assert!(matches!(refused, Err(SealError::TooLarge)));
        let mut object = sealed(&[b"x"]).await;
        object[HEADER..HEADER + 4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(opened(&object, &key(1), "a/b").await.is_err());
    }
}
