//! Chromium in a sandbox of its own: how it is started, and the hub on its pipe.
//!
//! Knows nothing of sessions or runners.

mod files;
mod flags;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info_span};

use crate::cdp::{self, Hub};
use crate::limits::Bytes;
use crate::sandbox::{self, Control, ControlEnd, ExitStatus, Network, Sandbox, SandboxSpec, Space};

pub use files::ScratchFiles;

/// How long Chromium may take to write its files and end.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Config section `[browser]`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Path of `chromium-headless-shell` inside the browser image.
    pub program: PathBuf,
    /// Most memory of one browser, all its processes together.
    pub memory: Bytes,
    /// Most processes and threads; under 96 Chromium hangs.
    pub processes: u32,
    /// Hundredths of a core; 200 is two cores.
    pub cpu_percent: u32,
    /// Most open files of one process.
    pub open_files: u64,
    /// Largest file it may write.
    pub file_size: Bytes,
    /// Most it may keep in files of its own: cookies, storage, caches. It is memory.
    pub data: Bytes,
    /// How many files and directories that may be.
    pub data_inodes: u64,
    /// How long it may take until it answers.
    #[serde(with = "humantime_serde")]
    pub start_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            program: "/usr/lib/chromium/chromium-headless-shell".into(),
            memory: Bytes::mib(1536),
            processes: 512,
            cpu_percent: 200,
            open_files: 4096,
            file_size: Bytes::mib(512),
            data: Bytes::mib(512),
            data_inodes: 16_384,
            start_timeout: Duration::from_secs(20),
        }
    }
}

/// What differs from one browser to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchOptions {
    /// Page size in CSS pixels.
    pub viewport: (u32, u32),
    /// Replaces the User-Agent.
    pub user_agent: Option<String>,
    /// Port of the egress proxy inside the browser's network namespace.
    pub proxy_port: u16,
}

/// A running browser.
#[derive(Debug)]
pub struct Browser {
    sandbox: Sandbox,
    /// Its hub.
    pub hub: Hub,
}

impl Browser {
    /// Starts Chromium and its hub; returns when one page is open.
    ///
    /// # Errors
    /// When the sandbox cannot be built, or Chromium does not answer in time. Nothing of it is left
    /// then once the space is closed.
    pub async fn launch(
        space: &Space,
        config: &Config,
        cdp: &cdp::Config,
        options: &LaunchOptions,
    ) -> Result<Self, Error> {
        let mut argv = vec![config.program.display().to_string()];
        argv.extend(flags::flags(options));
        let mut sandbox = space
            .spawn(SandboxSpec {
                image: "browser".to_owned(),
                argv,
                env: flags::env(),
                cwd: "/tmp".into(),
                network: Network::Browser,
                control: Control::CdpPipe,
                limits: sandbox::SandboxLimits {
                    group: sandbox::GroupLimits {
                        memory: config.memory,
                        processes: config.processes,
                        cpu_percent: config.cpu_percent,
                    },
                    open_files: config.open_files,
                    file_size: config.file_size,
                },
            })
            .await?;
        let control = std::mem::replace(&mut sandbox.control, ControlEnd::None);
        let ControlEnd::CdpPipe { to, from } = control else {
            return Err(Error::NoPipe);
        };
        flags::discard_output(&mut sandbox);
        let files = Arc::new(ScratchFiles::new(space.scratch().clone()));
        let start = Hub::start(to, from, files, cdp.clone());
        let hub = tokio::select! {
            started = tokio::time::timeout(config.start_timeout, start) => match started {
                Ok(hub) => hub?,
                Err(_) => return Err(Error::Slow(config.start_timeout)),
            },
            exit = sandbox.wait() => return Err(Error::Ended(format!("{:?}", exit.status))),
        };
        let span = info_span!("sandbox", id = %sandbox.id(), image = "browser");
        span.in_scope(|| debug!("browser ready"));
        Ok(Self { sandbox, hub })
    }

    /// Returns, with how it ended, when Chromium is gone.
    pub async fn died(&self) -> sandbox::Exit {
        tokio::select! {
            exit = self.sandbox.wait() => exit,
            () = self.hub.closed() => {
                // The pipe is gone, so the process is useless even if it still runs.
                self.sandbox.kill();
                self.sandbox.wait().await
            }
        }
    }

    /// Whether it runs and its hub is connected to it, as far as is known now.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.sandbox.has_ended() && !self.hub.is_closed()
    }

    /// Closes Chromium as a person would, so that all it keeps is in its files; returns when nothing
    /// of it is left.
    ///
    /// # Errors
    /// When it did not end by itself, and was killed: its files may not be whole.
    pub async fn close(&self) -> Result<(), Error> {
        // The answer may be lost in the end of the pipe: how it ended is what counts.
        let asked = self.hub.close_browser().await;
        let ended = tokio::time::timeout(CLOSE_LIMIT, self.sandbox.wait()).await;
        self.end().await;
        if let Err(error) = asked {
            debug!(%error, "no answer to Browser.close");
        }
        match ended {
            Ok(exit) if exit.status == ExitStatus::Code(0) => Ok(()),
            Ok(exit) => Err(Error::Unclean(format!("{:?}", exit.status))),
            Err(_) => Err(Error::Unclean(format!("still there after {CLOSE_LIMIT:?}"))),
        }
    }

    /// Ends hub and Chromium; returns when nothing of it is left.
    pub async fn end(&self) {
        self.hub.shutdown().await;
        self.sandbox.kill();
        self.sandbox.wait().await;
    }
}

/// Why a browser could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its sandbox could not be built.
    #[error("could not build its sandbox: {0}")]
    Sandbox(#[from] sandbox::Error),
    /// The sandbox came without the pipe.
    #[error("its sandbox has no debugging pipe")]
    NoPipe,
    /// It ended at once.
    #[error("chromium ended while it was starting ({0})")]
    Ended(String),
    /// It did not answer.
    #[error("chromium did not answer within {0:?}")]
    Slow(Duration),
    /// It was to close, and did not.
    #[error("chromium did not close by itself ({0})")]
    Unclean(String),
    /// The hub could not start on its pipe.
    #[error("the hub failed: {0}")]
    Hub(#[from] cdp::Error),
}
