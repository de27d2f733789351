//! Egress: the one policed way out of a session. SKELETON
#![allow(missing_docs, clippy::todo, unused_variables, clippy::unused_async)]

use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Config section `[egress]`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Host ports that `http://localhost:PORT` in a page or code reaches: "8080" or "*".
    pub host_loopback: Vec<String>,
}

/// The rules of one daemon (later: narrowed per session).
#[derive(Debug)]
pub struct Policy(());

impl Policy {
    pub fn new(config: &Config) -> Result<Self, Error> {
        todo!()
    }
}

/// Serves HTTP proxy connections accepted on `listener` until cancelled; bounded connections.
pub async fn serve(listener: TcpListener, policy: Arc<Policy>, cancel: CancellationToken) {
    todo!()
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("SKELETON")]
    Skeleton,
}
