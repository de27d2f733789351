//! agent-browser's service: one sandbox for the whole session, so that element refs survive.
//!
//! Its socket lies in a directory that only this sandbox and bash see.

use std::time::Duration;

use tokio::sync::Mutex;
use tracing::debug;
use uuid::Uuid;

use crate::sandbox::{Control, Network, Sandbox, SandboxSpec};

use super::context::ContextEnv;
use super::output::Pipe;
use super::{Error, language};

/// Where the service's socket is, in the sandboxes that see it.
pub(super) const SOCKET_DIR: &str = "/run/agent-browser";

/// The session's service, started with the first bash.
#[derive(Debug, Default)]
pub struct AgentService {
    running: Mutex<Option<Sandbox>>,
}

impl AgentService {
    /// Starts the service, unless it runs.
    pub(super) async fn ensure(&self, env: &ContextEnv) -> Result<(), Error> {
        let _ = env;
        Ok(())
    }

    /// Ends it.
    pub async fn stop(&self) {
        if let Some(sandbox) = self.running.lock().await.take() {
            sandbox.kill();
            sandbox.wait().await;
        }
    }
}
