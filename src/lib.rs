//! Pagebox: a browser sandbox execution runtime.
//!
//! Layers, each using lower ones only (`tests/it/layers.rs` checks it):
//!
//! ```text
//! main
//! server  cli  doctor
//! grpc  http                wire <-> domain; tonic and axum stay here and in server
//! scrape  live              pages as documents, on sessions; people who watch and act
//! agent                     prompts: a language model at work in a session
//! session                   registry, driver (one task per session), state
//! profile                   what a browser keeps, from one session to the next
//! runner  browser           what runs inside sandboxes
//! sandbox  cdp  execution  egress  store  tenant
//! id  limits  config  telemetry
//! ```

pub mod agent;
pub mod browser;
pub mod cdp;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod egress;
pub mod execution;
pub mod grpc;
pub mod http;
pub mod id;
pub mod limits;
pub mod live;
pub mod profile;
pub mod runner;
pub mod sandbox;
pub mod scrape;
pub mod server;
pub mod session;
pub mod store;
pub mod telemetry;
pub mod tenant;

/// What `fuzz/` calls: the properties of the parsers that read what is hostile, on one input each.
#[cfg(fuzzing)]
#[doc(hidden)]
#[allow(missing_docs, reason = "each says with its property what it is")]
pub mod fuzz {
    pub fn cdp_message(data: &[u8]) {
        crate::cdp::property::message(data);
        if let Ok(text) = std::str::from_utf8(data) {
            crate::cdp::property::navigation(text);
        }
    }

    /// Two bytes say how it is cut, one the bound.
    pub fn cdp_pipe(data: &[u8]) {
        if let [first, second, bound, sent @ ..] = data {
            let pieces = [*first, *second].map(usize::from);
            crate::cdp::property::pipe(sent, &pieces, 256 + usize::from(*bound));
        }
    }

    /// The same.
    pub fn runner_frame(data: &[u8]) {
        if let [first, second, bound, sent @ ..] = data {
            let pieces = [*first, *second].map(usize::from);
            crate::runner::property::frames(sent, &pieces, 16 + usize::from(*bound));
        }
    }

    /// One byte says which rules.
    pub fn proxy_request(data: &[u8]) {
        if let [rules, sent @ ..] = data {
            crate::egress::property::request(*rules, sent);
        }
    }

    pub fn egress_rule(data: &[u8]) {
        if let Ok(text) = std::str::from_utf8(data) {
            crate::egress::property::rule(text);
        }
    }

    pub fn egress_target(data: &[u8]) {
        if let Ok(text) = std::str::from_utf8(data) {
            crate::egress::property::target(text);
        }
    }

    pub fn spawner_command(data: &[u8]) {
        crate::sandbox::property::command(data);
    }
}
