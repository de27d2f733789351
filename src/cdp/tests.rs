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

pub(crate) use browser::LocalFiles;
