//! The hub on a real Chromium.

mod browser;
mod clients;
mod dialogs;
mod downloads;
mod faults;
mod peers;
mod popups;
mod raw;
mod site;
mod takeover;

pub(crate) use browser::LocalFiles;
