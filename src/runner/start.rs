//! Starts one runner, in two steps that need not follow at once:
//!
//! ```text
//! launch  sandbox built, program running and loading     needs the session's space
//! connect told where the browser is, said `ready`        needs the browser's hub
//! ```
//!
//! So the first runner of a session loads while its browser still starts.

use std::time::{Duration, Instant};

use tracing::{debug, info_span};
use uuid::Uuid;

use crate::cdp::Hub;
use crate::execution::{ExecutionLimits, Language};
use crate::sandbox::{Control, ControlEnd, Exit, Network, Sandbox, SandboxSpec, Space};

use super::context::ContextEnv;
use super::frame::{Channel, FromRunner, SHORT_LINE, ToRunner};
use super::output::{Pipe, tail};
use super::{Error, language};

/// How much of a failed runner's stderr goes into the error.
const STDERR_TAIL: usize = 2 << 10;

/// A runner that is connected and can take an execution.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) sandbox: Sandbox,
    pub(super) channel: Channel,
    pub(super) stdout: Pipe,
    pub(super) stderr: Pipe,
    pub(super) token: String,
    /// [`Hub::navigations`] before the last execution: what it knows of for certain.
    pub(super) navigations: u64,
}

impl Live {
    /// Kills it and returns when nothing of it is left.
    pub(super) async fn end(self, hub: &Hub) -> Exit {
        self.sandbox.kill();
        hub.forget_token(&self.token);
        self.sandbox.wait().await
    }
}

/// A runner that is not connected yet. Dropping it kills it.
#[derive(Debug)]
pub struct Launched {
    began: Instant,
    live: Live,
}

impl Launched {
    /// Builds the sandbox of a language's runner; returns when its program runs.
    ///
    /// # Errors
    /// When the sandbox cannot be built.
    pub async fn launch(
        language: Language,
        space: &Space,
        limits: ExecutionLimits,
    ) -> Result<Self, Error> {
        let began = Instant::now();
        let token = Uuid::new_v4().simple().to_string();
        let cdp_url = language::cdp_url(&token);
        let mut sandbox = space
            .spawn(SandboxSpec {
                image: language::image(language).to_owned(),
                argv: language::argv(language),
                env: language::env(language, &cdp_url),
                cwd: language::WORKSPACE.into(),
                network: Network::Runner,
                control: Control::Frames,
                limits: super::sandbox_limits(limits),
            })
            .await?;
        let socket = match std::mem::replace(&mut sandbox.control, ControlEnd::None) {
            ControlEnd::Frames(socket) => socket,
            ControlEnd::None | ControlEnd::CdpPipe { .. } => {
                return Err(Error::Channel(std::io::Error::other("no frame channel")));
            }
        };
        let live = Live {
            stdout: Pipe::new(sandbox.stdout.take())?,
            stderr: Pipe::new(sandbox.stderr.take())?,
            channel: Channel::new(socket)?,
            sandbox,
            token,
            navigations: 0,
        };
        Ok(Self { began, live })
    }

    /// Resolves when its program has ended.
    pub(super) async fn ended(&self) {
        self.live.sandbox.wait().await;
    }

    /// Waits until it is connected to the browser. Sets `page_replaced` when the active page had to
    /// be replaced for that.
    pub(super) async fn connect(
        self,
        env: &ContextEnv,
        page_replaced: &mut bool,
    ) -> Result<Live, Error> {
        let Self { began, mut live } = self;
        let hello = async {
            // A page that spins holds up every client that connects.
            tokio::select! {
                said = hello(&mut live) => said,
                () = keep_page_alive(&env.hub, page_replaced) => Err(Error::Cancelled),
            }
        };
        match tokio::time::timeout(env.config.start_timeout, hello).await {
            Ok(Ok(())) => {
                let _in = info_span!("sandbox", id = %live.sandbox.id()).entered();
                debug!(elapsed = ?began.elapsed(), "runner ready");
                Ok(live)
            }
            Ok(Err(error)) => {
                live.end(&env.hub).await;
                Err(error)
            }
            Err(_) => {
                live.end(&env.hub).await;
                Err(Error::Slow(env.config.start_timeout))
            }
        }
    }
}

/// Launches and connects the runner of a language, or connects the one that stands by, and what else
/// that language needs.
pub(super) async fn start(
    language: Language,
    env: &ContextEnv,
    limits: ExecutionLimits,
    page_replaced: &mut bool,
) -> Result<Live, Error> {
    if language == Language::Bash {
        env.agent.keep(env).await;
    }
    if let Some(spare) = env.spares.take(language, limits).await {
        match spare.connect(env, page_replaced).await {
            Ok(live) => return Ok(live),
            Err(error) => debug!(%error, "a runner that stood by was of no use"),
        }
    }
    Launched::launch(language, &env.space, limits)
        .await?
        .connect(env, page_replaced)
        .await
}

/// Never returns. Looks after the active page while a runner connects: one that spins, or that a
/// dialog blocks, holds up every client that connects.
async fn keep_page_alive(hub: &Hub, page_replaced: &mut bool) {
    // Much longer than a runner takes, so that a start on a busy host touches no page.
    const STEP: Duration = Duration::from_secs(8);
    // What it does to dialogs waits for nothing: it touches no page that has none.
    const LOOK: Duration = Duration::from_millis(500);
    loop {
        let step = tokio::time::Instant::now();
        while step.elapsed() < STEP {
            hub.dismiss_unattended_dialogs().await;
            tokio::time::sleep(LOOK).await;
        }
        match hub.ensure_active_page().await {
            Ok((_, replaced)) => *page_replaced |= replaced,
            // The browser is gone; the runner finds that out by itself.
            Err(error) => debug!(%error, "no page for the runner"),
        }
    }
}

async fn hello(live: &mut Live) -> Result<(), Error> {
    let cdp_url = &language::cdp_url(&live.token);
    // A runner that ends at once breaks the write; its exit status says more than EPIPE.
    let sent = live.channel.send(&ToRunner::Init { cdp_url }).await;
    if sent.is_ok() {
        match live.channel.receive(SHORT_LINE).await {
            Ok(Some(FromRunner::Ready)) => return Ok(()),
            Ok(Some(FromRunner::Failed { message })) => return Err(Error::Reported(message)),
            Ok(Some(FromRunner::Finished(_) | FromRunner::Settled { .. })) => {
                return Err(Error::Reported("finished before it was ready".to_owned()));
            }
            Ok(None) | Err(_) => {}
        }
    }
    live.sandbox.kill();
    let exit = live.sandbox.wait().await;
    let stderr = tail(&mut live.stderr, STDERR_TAIL);
    Err(Error::Ended {
        exit: format!("{:?}", exit.status),
        stderr: if stderr.is_empty() {
            stderr
        } else {
            format!(": {stderr}")
        },
    })
}
