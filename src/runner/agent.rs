//! agent-browser's service: one sandbox for the whole session, so that element refs survive.
//!
//! Its socket lies in a directory that only this sandbox and bash see. After its start it can run
//! no other program (`sandbox-images/agent.toml`).

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::sandbox::{self, Control, Network, Sandbox, SandboxSpec};

use super::context::ContextEnv;
use super::output::Pipe;
use super::{Error, STREAM_PORT, language};

/// Where the service's socket is, in the sandboxes that see it.
pub(super) const SOCKET_DIR: &str = "/run/agent-browser";

/// What the service leaves in its directory.
const SERVICE_FILES: [&str; 7] = [
    "default.sock",
    "default.pid",
    "default.version",
    "default.stream",
    "default.engine",
    "default.target",
    "default.config",
];
/// More than a port number has.
const MAX_PORT_DIGITS: u64 = 16;
const SETTINGS: &str = r#"{"action_policy":null,"confirm_actions":null,"debug":false,"default_timeout":null,"idle_timeout":null,"no_auto_dialog":false}"#;

/// The native program; it needs no Node.
const PROGRAM: &str =
    "/opt/pagebox/runners/node/node_modules/agent-browser/bin/agent-browser-linux-x64";

/// The session's service, started with the first bash.
#[derive(Debug)]
pub struct AgentService {
    /// What it connects to the hub with.
    token: String,
    running: Mutex<Option<Running>>,
    /// Held while the service is pinned to its page after an execution.
    settling: Arc<Mutex<()>>,
}

impl Default for AgentService {
    fn default() -> Self {
        Self {
            token: Uuid::new_v4().simple().to_string(),
            running: Mutex::default(),
            settling: Arc::default(),
        }
    }
}

#[derive(Debug)]
struct Running {
    sandbox: Sandbox,
    /// Empties its output until dropped.
    _output: AbortOnDropHandle<()>,
}

impl AgentService {
    /// Starts the service, unless it runs: code can end it, by a message or by its memory limit.
    /// Without it bash still runs, if only to free what keeps it from starting, such as a full
    /// scratch; the agent-browser command then says what it misses.
    pub async fn keep(&self, env: &ContextEnv) {
        if let Err(error) = self.ensure(env).await {
            warn!(%error, "agent-browser's service is not running");
        }
    }

    async fn ensure(&self, env: &ContextEnv) -> Result<(), Error> {
        let mut running = self.running.lock().await;
        if let Some(service) = running.as_ref() {
            if !service.sandbox.has_ended() {
                return Ok(());
            }
            debug!("agent-browser's service ended; starting it again");
            env.hub.forget_token(&self.token);
        }
        *running = None;
        *running = Some(start(env, &self.token).await?);
        Ok(())
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Nothing is to open a page until this is dropped.
    pub(super) async fn settling(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.settling).lock_owned().await
    }

    /// Returns when the service is on its page, after an execution that used it.
    pub(super) async fn settled(&self) {
        drop(self.settling.lock().await);
    }

    /// Ends it.
    pub async fn stop(&self) {
        if let Some(service) = self.running.lock().await.take() {
            service.sandbox.kill();
            service.sandbox.wait().await;
        }
    }
}

async fn start(env: &ContextEnv, token: &str) -> Result<Running, Error> {
    let cdp_url = language::cdp_url(token);
    let stream_port = STREAM_PORT.to_string();
    let variables = [
        ("HOME", "/home/agent"),
        ("LANG", "C.UTF-8"),
        ("TMPDIR", "/tmp"),
        ("AGENT_BROWSER_DAEMON", "1"),
        ("AGENT_BROWSER_SESSION", "default"),
        ("AGENT_BROWSER_SOCKET_DIR", SOCKET_DIR),
        ("AGENT_BROWSER_CDP", &cdp_url),
        // Between executions it stays on its page; bash moves it to the active one.
        ("AGENT_BROWSER_PIN_TAB", "1"),
        ("AGENT_BROWSER_STREAM_PORT", &stream_port),
        ("AGENT_BROWSER_NO_VERSION_CHECK", "1"),
        ("AGENT_BROWSER_SCREENSHOT_DIR", "/tmp"),
        // Zero: it lives as long as the session.
        ("AGENT_BROWSER_IDLE_TIMEOUT_MS", "0"),
    ];
    prepare_socket_dir(env).await?;
    // It takes one command at a time: one that waited would hold up the answer to the dialog.
    env.hub.refuse_behind_dialogs(token);
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
            // The daemon's: it serves the session, whatever its executions may use.
            limits: super::sandbox_limits(env.config.limits()),
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
    let running = Running {
        sandbox,
        _output: AbortOnDropHandle::new(output),
    };
    match tokio::time::timeout(env.config.start_timeout, listening(env, &running)).await {
        Ok(Ok(())) => check_stream_port(env).await.map(|()| running),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::Slow(env.config.start_timeout)),
    }
}

/// Leaves nothing of an earlier service there, and the settings the command line compares with its
/// own: a command that finds others would stop the service to start its own.
async fn prepare_socket_dir(env: &ContextEnv) -> Result<(), Error> {
    let scratch = env.space.scratch();
    for name in SERVICE_FILES {
        match scratch.remove(&file(name)).await {
            Ok(()) => {}
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut config = scratch.create(&file("default.config")).await?;
    std::io::Write::write_all(&mut config, SETTINGS.as_bytes())?;
    Ok(())
}

/// Returns when the service's socket is there, and its word on its stream.
async fn listening(env: &ContextEnv, running: &Running) -> Result<(), Error> {
    const STEP: Duration = Duration::from_millis(2);
    loop {
        if is_there(env, "default.sock").await && is_there(env, "default.stream").await {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(STEP) => {}
            exit = running.sandbox.wait() => {
                return Err(Error::Ended {
                    exit: format!("agent-browser's service: {:?}", exit.status),
                    stderr: String::new(),
                });
            }
        }
    }
}

async fn is_there(env: &ContextEnv, name: &str) -> bool {
    // What is there but no regular file is refused with another error than what is not there.
    match env.space.scratch().open(&file(name)).await {
        Err(error) => !is_missing(&error),
        Ok(_) => true,
    }
}

/// A service that finds its port taken takes any other, which pages could reach: its stream obeys
/// whoever connects.
async fn check_stream_port(env: &ContextEnv) -> Result<(), Error> {
    let mut port = String::new();
    let file = env.space.scratch().open(&file("default.stream")).await?;
    file.take(MAX_PORT_DIGITS).read_to_string(&mut port)?;
    if port == STREAM_PORT.to_string() {
        return Ok(());
    }
    Err(Error::Reported(format!(
        "its port {STREAM_PORT} is taken by code of the session: end that code, and run bash again"
    )))
}

fn file(name: &str) -> PathBuf {
    Path::new(SOCKET_DIR).join(name)
}

fn is_missing(error: &sandbox::Error) -> bool {
    let kind = error.errno().map(std::io::Error::from_raw_os_error);
    kind.is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}
