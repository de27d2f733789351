//! Integration tests, in one binary: the real daemon, the real Chromium, the real runners.
#![allow(
    dead_code,
    reason = "the shared modules also serve the demo and the benchmarks"
)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "../common/client.rs"]
mod client;
#[path = "../common/daemon.rs"]
mod daemon;
#[path = "../common/http.rs"]
mod http_client;
#[path = "../common/internet.rs"]
mod internet;
#[path = "../common/leaks.rs"]
mod leaks;
#[path = "../common/model.rs"]
mod model;
mod shared;
#[path = "../common/site.rs"]
mod site;

mod bash;
mod browser;
mod callers;
mod cli;
mod clients;
mod concurrency;
mod conformance;
mod docs;
mod egress;
mod ends;
mod errors;
mod handoff;
mod hosts;
mod http;
mod images;
mod invariants;
mod keys;
mod layers;
mod lifecycle;
mod limits;
mod live;
mod logs;
mod loopback;
mod network;
mod node;
mod official;
mod outcomes;
mod pool;
mod profiles;
mod prompt;
mod python;
mod sandbox;
mod scrape;
mod seeds;
mod sessions;
mod takeover;
mod traffic;
