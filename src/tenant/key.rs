//! One API key: made here, kept elsewhere as its hash only.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// How every key begins, so that scanners of leaked secrets know one.
const PREFIX: &str = "pb_";
const SECRET_BYTES: usize = 32;
/// Bytes of the hash that name a key: enough that no two of a store are the same.
const ID_BYTES: usize = 8;

/// A key as its holder has it; printed by nobody but [`Self::reveal`].
pub struct Secret(String);

impl Secret {
    /// A new one, of 256 random bits.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The text, for the one time it is shown.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        hash(self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

pub(super) fn hash(presented: &[u8]) -> [u8; 32] {
    Sha256::digest(presented).into()
}

/// What a key is called where it must not be shown.
#[must_use]
pub fn id_of(hash: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    let mut id = String::with_capacity(2 * ID_BYTES);
    for byte in prefix(hash) {
        write!(id, "{byte:02x}").expect("writing to a String cannot fail");
    }
    id
}

pub(super) fn prefix(hash: &[u8; 32]) -> [u8; ID_BYTES] {
    let mut prefix = [0; ID_BYTES];
    prefix.copy_from_slice(&hash[..ID_BYTES]);
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_alike_in_form_and_never_the_same() {
        let (one, other) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_ne!(one.reveal(), other.reveal());
        for key in [one, other] {
            assert_eq!(key.reveal().len(), "pb_".len() + 43);
            let secret = key.reveal().strip_prefix("pb_").unwrap();
            assert_eq!(URL_SAFE_NO_PAD.decode(secret).unwrap().len(), 32);
            assert_eq!(format!("{key:?}"), "Secret(***)");
            assert_eq!(key.hash(), hash(key.reveal().as_bytes()));
        }
    }

    #[test]
    fn the_id_is_the_head_of_the_hash() {
        let hash = hash(b"abc");
        assert_eq!(id_of(&hash), "ba7816bf8f01cfea");
    }
}
