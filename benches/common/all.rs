//! What benchmarks share, with each other and with the tests.

#![allow(dead_code, reason = "no benchmark uses all of it")]

#[path = "../../tests/common/client.rs"]
pub(crate) mod client;
#[path = "../../tests/common/daemon.rs"]
pub(crate) mod daemon;
pub(crate) mod ground;
#[path = "../../tests/common/http.rs"]
pub(crate) mod http;
#[path = "../../tests/common/leaks.rs"]
pub(crate) mod leaks;
#[path = "../../tests/common/model.rs"]
pub(crate) mod model;
pub(crate) mod plot;
pub(crate) mod report;
pub(crate) mod rival;
pub(crate) mod samples;
#[path = "../../tests/common/site.rs"]
pub(crate) mod site;
#[path = "../../tests/common/spawner.rs"]
pub(crate) mod spawner;
pub(crate) mod weight;
