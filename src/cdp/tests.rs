//! The hub on a real Chromium.

mod browser;

pub(crate) use browser::LocalFiles;
