//! Config section `[profile]`.

use std::path::PathBuf;
use std::time::Duration;

use crate::limits::Bytes;

/// Config section `[profile]`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// File of the key that profiles are sealed with; made when it does not exist. Empty:
    /// `profiles.key` in `data_dir`.
    pub key_file: PathBuf,
    /// Most that is kept of one profile, packed.
    pub max_size: Bytes,
    /// How long restoring one, or saving one, may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            key_file: PathBuf::new(),
            max_size: Bytes::mib(256),
            timeout: Duration::from_secs(30),
        }
    }
}
