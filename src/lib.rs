//! Pagebox: a browser sandbox execution runtime.
//!
//! Layers, each using lower ones only (`tests/it/layers.rs` checks it):
//!
//! ```text
//! main
//! server  cli  doctor
//! grpc                      wire <-> domain; tonic stays here and in server
//! session                   registry, driver (one task per session), state
//! runner  browser           what runs inside sandboxes
//! sandbox  cdp  execution  egress
//! id  limits  config  telemetry
//! ```

pub mod browser;
pub mod cdp;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod egress;
pub mod execution;
pub mod grpc;
pub mod id;
pub mod limits;
pub mod runner;
pub mod sandbox;
pub mod server;
pub mod session;
pub mod telemetry;
