//! Integration tests, in one binary: the real daemon, the real Chromium, the real runners.

#[path = "../common/site.rs"]
mod site;
