//! agent-browser's service: one sandbox for the whole session, so that element refs survive.
//!
//! Its socket lies in a directory that only this sandbox and bash see. After its start it can run
//! no other program (`sandbox-images/agent.toml`).

use tokio::sync::Mutex;
use tracing::debug;
use uuid::Uuid;

use crate::sandbox::{Control, Network, Sandbox, SandboxSpec};

use super::context::ContextEnv;
use super::output::Pipe;
use super::{Error, language};

/// Where the service's socket is, in the sandboxes that see it.
pub(super) const SOCKET_DIR: &str = "/run/agent-browser";

/// The native program; it needs no Node.
const PROGRAM: &str =
    "/opt/pagebox/runners/node/node_modules/agent-browser/bin/agent-browser-linux-x64";

/// The session's service, started with the first bash.
#[derive(Debug, Default)]
pub struct AgentService {
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    sandbox: Sandbox,
    token: String,
    /// Empties its output until dropped.
    output: tokio::task::JoinHandle<()>,
}

impl AgentService {
    /// Starts the service, unless it runs.
    pub(super) async fn ensure(&self, env: &ContextEnv) -> Result<(), Error> {
        let mut running = self.running.lock().await;
        if let Some(service) = running.as_ref() {
            if !service.sandbox.has_ended() {
                return Ok(());
            }
            debug!("agent-browser's service ended; starting it again");
            env.hub.forget_token(&service.token);
            service.output.abort();
        }
        *running = Some(start(env).await?);
        Ok(())
    }

    /// Ends it.
    pub async fn stop(&self) {
        if let Some(service) = self.running.lock().await.take() {
            service.sandbox.kill();
            service.sandbox.wait().await;
            service.output.abort();
        }
    }
}

async fn start(env: &ContextEnv) -> Result<Running, Error> {
    let token = Uuid::new_v4().simple().to_string();
    let cdp_url = language::cdp_url(&token);
    let variables = [
        ("HOME", "/home/agent"),
        ("PATH", "/usr/bin"),
        ("LANG", "C.UTF-8"),
        ("TMPDIR", "/tmp"),
        ("AGENT_BROWSER_DAEMON", "1"),
        ("AGENT_BROWSER_SESSION", "default"),
        ("AGENT_BROWSER_SOCKET_DIR", SOCKET_DIR),
        ("AGENT_BROWSER_CDP", &cdp_url),
        ("AGENT_BROWSER_PLUGINS", "[]"),
        ("AGENT_BROWSER_SCREENSHOT_DIR", language::WORKSPACE),
        // Zero: it lives as long as the session.
        ("AGENT_BROWSER_IDLE_TIMEOUT_MS", "0"),
    ];
    let mut sandbox = env
        .space
        .spawn(SandboxSpec {
            image: "agent".to_owned(),
            argv: vec![PROGRAM.to_owned()],
            env: variables
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            cwd: language::WORKSPACE.into(),
            network: Network::Runner,
            control: Control::None,
            limits: env.config.sandbox_limits(),
        })
        .await?;
    let mut stdout = Pipe::new(sandbox.stdout.take())?;
    let mut stderr = Pipe::new(sandbox.stderr.take())?;
    let output = tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = stdout.read() => {}
                _ = stderr.read() => {}
            }
        }
    });
    Ok(Running {
        sandbox,
        token,
        output,
    })
}
