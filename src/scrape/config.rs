//! How scrapes are configured.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::egress::BlockList;
use crate::limits::Bytes;

/// Config section `[scrape]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long a scrape may take that does not say it.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How long one may ask for; more is cut to this.
    #[serde(with = "humantime_serde")]
    pub max_timeout: Duration,
    /// Largest HTML of a page.
    pub max_html: Bytes,
    /// How long a scrape's browser is kept for the first interaction; 0: not at all.
    #[serde(with = "humantime_serde")]
    pub keep: Duration,
    /// Browsers kept at a time; the oldest ends first.
    pub keep_at_most: usize,
    /// File of the hosts that `blockAds` blocks; none when empty.
    pub block_list: PathBuf,
    /// What it holds.
    #[serde(skip)]
    pub blocked: Option<Arc<BlockList>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            max_timeout: Duration::from_secs(300),
            max_html: Bytes::mib(10),
            keep: Duration::from_secs(60),
            keep_at_most: 8,
            block_list: PathBuf::new(),
            blocked: None,
        }
    }
}

impl Config {
    /// Reads the block list. To be done once, before privileges are dropped.
    ///
    /// # Errors
    /// The file that cannot be read, or does not hold what it must.
    pub fn read_files(&mut self) -> Result<(), (&'static str, String)> {
        let file = &self.block_list;
        if file.as_os_str().is_empty() {
            return Ok(());
        }
        let wrong = |what: String| ("scrape.block_list", format!("{}: {what}", file.display()));
        let text = std::fs::read_to_string(file);
        let list =
            BlockList::parse(&text.map_err(|error| wrong(format!("cannot be read: {error}")))?);
        if list.is_empty() {
            return Err(wrong(
                "names no host, as a hosts file or ||host^ does".into(),
            ));
        }
        self.blocked = Some(Arc::new(list));
        Ok(())
    }

    /// Checks every key.
    ///
    /// # Errors
    /// The first that cannot be used, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        const LONGEST: Duration = Duration::from_secs(3000);
        if self.timeout < Duration::from_secs(1) || self.timeout > self.max_timeout {
            return Err(("scrape.timeout", "must be 1s to scrape.max_timeout".into()));
        }
        if self.max_timeout > LONGEST {
            return Err(("scrape.max_timeout", "is more than 50 minutes".into()));
        }
        if self.keep > Duration::from_secs(3600) {
            return Err(("scrape.keep", "is more than an hour".into()));
        }
        if !(1..=Bytes::mib(100).0).contains(&self.max_html.0) {
            return Err(("scrape.max_html", "must be 1 byte to 100 MiB".into()));
        }
        Ok(())
    }
}
