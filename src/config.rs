//! Configuration: what an operator may set, where it comes from, and whether it makes sense.
//!
//! Each part of the program owns its section's type; this module puts them together, merges files,
//! environment and flags, and is the only one that reads environment variables. It starts nothing.

mod load;
mod paths;
#[cfg(test)]
mod property;
mod render;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::execution::OutputLimits;
use crate::limits::Bytes;
use crate::{
    agent, browser, cdp, egress, http, profile, runner, sandbox, scrape, server, session, store,
    telemetry, tenant,
};

pub use load::{Flag, Loaded, Sources};
pub use paths::{NodeFiles, PROGRAM_DIRS, find_program, own_uids};

/// Address the daemon listens on, and clients connect to, when nothing else is said.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:7370";

/// Longest time a drain may be told to wait: an execution runs for 300 s at most, so more is a typo.
const MAX_DRAIN_GRACE: Duration = Duration::from_secs(3600);
/// Largest gRPC reply that may be configured: each one is held in memory whole.
const MAX_MESSAGE: Bytes = Bytes::gib(1);
/// Room a reply needs beside its result, in a message of the largest size.
const REPLY_OVERHEAD: Bytes = Bytes::mib(1);
/// Host uids below this belong to the system and its people.
const FIRST_FREE_UID: u32 = 1000;

/// Everything an operator may set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port of the daemon; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Allows a `listen` address other hosts can reach, although there is no key, so that nobody is
    /// asked who they are.
    pub allow_unauthenticated: bool,
    /// How long executions may go on after SIGTERM.
    #[serde(with = "humantime_serde")]
    pub drain_grace: Duration,
    /// Directory of what outlives the daemon: keys, records of sessions.
    pub data_dir: Option<PathBuf>,
    /// Directory of the runners; found beside the binary when not set.
    pub runners: Option<PathBuf>,
    /// Directory of the sandbox images; found beside the binary when not set.
    pub images: Option<PathBuf>,
    /// What is logged, and how.
    pub log: Log,
    /// Bounds of the API.
    pub limits: Limits,
    /// How the HTTP API is reached.
    pub http: http::Config,
    /// TLS.
    pub tls: server::TlsConfig,
    /// Sessions.
    pub session: session::Config,
    /// What stands ready for them.
    pub pool: session::PoolConfig,
    /// Chromium.
    pub browser: browser::Config,
    /// Runners.
    pub runner: runner::Config,
    /// The CDP hub.
    pub cdp: cdp::Config,
    /// The way out.
    pub egress: egress::Config,
    /// Tenants.
    pub tenant: tenant::Config,
    /// What outlives the daemon.
    pub store: store::Config,
    /// Sandboxes.
    pub sandbox: Sandbox,
    /// Scrapes.
    pub scrape: scrape::Config,
    /// Profiles.
    pub profile: profile::Config,
    /// Prompts, and the model they are given to.
    pub agent: agent::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: DEFAULT_LISTEN.parse().expect("a constant that parses"),
            allow_unauthenticated: false,
            drain_grace: Duration::from_secs(30),
            data_dir: None,
            runners: None,
            images: None,
            log: Log::default(),
            limits: Limits::default(),
            http: http::Config::default(),
            tls: server::TlsConfig::default(),
            session: session::Config::default(),
            pool: session::PoolConfig::default(),
            browser: browser::Config::default(),
            runner: runner::Config::default(),
            cdp: cdp::Config::default(),
            egress: egress::Config::default(),
            tenant: tenant::Config::default(),
            store: store::Config::default(),
            sandbox: Sandbox::default(),
            scrape: scrape::Config::default(),
            profile: profile::Config::default(),
            agent: agent::Config::default(),
        }
    }
}

/// Config section `[log]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Text for people, JSON for machines.
    pub format: LogFormat,
    /// Which events, as tracing-subscriber's `EnvFilter` reads it: `info`, `pagebox=debug`, …
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            filter: "info".to_owned(),
        }
    }
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line per event.
    Text,
    /// One JSON object per line.
    Json,
}

/// Config section `[limits]`: bounds of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most stdout of one execution; a request may ask for less.
    pub stdout: Bytes,
    /// Most stderr of one execution; a request may ask for less.
    pub stderr: Bytes,
    /// Largest result of one execution; a request may ask for less.
    pub result: Bytes,
    /// Largest gRPC reply.
    pub message: Bytes,
    /// Connections open at once; more wait to be accepted.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let output = OutputLimits::default();
        Self {
            stdout: output.stdout,
            stderr: output.stderr,
            result: output.result,
            message: Bytes::mib(64),
            connections: 1024,
        }
    }
}

impl Limits {
    /// The output limits of an execution that asks for none.
    #[must_use]
    pub fn output(&self) -> OutputLimits {
        OutputLimits {
            stdout: self.stdout,
            stderr: self.stderr,
            result: self.result,
        }
    }
}

/// Config section `[sandbox]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    /// Weaker isolation that is allowed; anything not named here is refused.
    pub allow_degraded: Vec<sandbox::Weakening>,
    /// First host uid given to sessions when started as root.
    pub uid_base: u32,
    /// How many host uids may be given to sessions.
    pub uid_count: u32,
    /// Host uid the daemon itself takes when started as root.
    pub daemon_uid: u32,
    /// Which cgroups limit memory, processes and cpu.
    pub cgroups: sandbox::CgroupMode,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            allow_degraded: Vec::new(),
            // Above every range shadow-utils hands out by default (they end at 600,100,000).
            uid_base: 1_000_000_000,
            uid_count: 100_000_000,
            daemon_uid: 999_999_999,
            cgroups: sandbox::CgroupMode::Auto,
        }
    }
}

impl Config {
    /// Checks what no single value shows.
    ///
    /// # Errors
    /// The first key whose value cannot be used.
    pub fn validate(&self) -> Result<(), Error> {
        let invalid = |key, message: String| Err(Error::Invalid { key, message });
        if self.drain_grace > MAX_DRAIN_GRACE {
            return invalid("drain_grace", "is more than an hour".to_owned());
        }
        if let Err(error) = telemetry::parse_filter(&self.log.filter) {
            return invalid("log.filter", error.to_string());
        }
        if self.tenant.wait > tenant::MAX_WAIT {
            return invalid("tenant.wait", "is more than 5 minutes".to_owned());
        }
        self.validate_limits()?;
        if self.session.max_sessions == 0 {
            return invalid("session.max_sessions", "must be at least 1".to_owned());
        }
        let pool = self.pool.check(self.session.max_sessions);
        for checked in [pool, self.http.validate(), self.tls.validate()] {
            checked.map_err(|(key, message)| Error::Invalid { key, message })?;
        }
        egress::Policy::new(&self.egress)?.reserve(&runner::OWN_PORTS)?;
        for checked in [self.scrape.check(), self.agent.check()] {
            checked.map_err(|(key, message)| Error::Invalid { key, message })?;
        }
        let numbers = self.egress.check_numbers();
        numbers.map_err(|(key, message)| Error::Invalid { key, message })?;
        self.validate_uids()
    }

    /// Reads what it names files for. To be done once, before privileges are dropped.
    ///
    /// # Errors
    /// The key whose file cannot be read, or does not hold what it must.
    pub fn read_files(&mut self) -> Result<(), Error> {
        self.egress.read_files()?;
        for read in [self.scrape.read_files(), self.agent.read_files()] {
            read.map_err(|(key, message)| Error::Invalid { key, message })?;
        }
        Ok(())
    }

    /// Whether this address may be served. Not known before the store is open, so not part of
    /// [`Self::validate`].
    ///
    /// # Errors
    /// When other hosts can reach it, nobody is asked for a key, and that is not allowed by name.
    pub fn check_listen(&self, listen: SocketAddr, keys: KeysAre) -> Result<(), Error> {
        let is_closed = listen.ip().is_loopback() || keys == KeysAre::AskedFor;
        if is_closed || self.allow_unauthenticated {
            return Ok(());
        }
        Err(Error::Invalid {
            key: "listen",
            message: format!(
                "{listen} can be reached from other hosts, and there is no key: anyone could run code \
                 here. Make one (pagebox key create --tenant NAME), listen on a loopback address, or \
                 set allow_unauthenticated = true if something in front of it asks who they are"
            ),
        })
    }

    fn validate_limits(&self) -> Result<(), Error> {
        let limits = &self.limits;
        let invalid = |key, message: String| Err(Error::Invalid { key, message });
        if limits.message < Bytes::mib(4) || limits.message > MAX_MESSAGE {
            return invalid(
                "limits.message",
                format!("is {}, must be 4 MiB to {MAX_MESSAGE}", limits.message),
            );
        }
        let most = Bytes(limits.message.0 - REPLY_OVERHEAD.0);
        for (key, value) in [
            ("limits.stdout", limits.stdout),
            ("limits.stderr", limits.stderr),
            ("limits.result", limits.result),
        ] {
            if value == Bytes(0) || value > most {
                return invalid(
                    key,
                    format!("is {value}, must be at least 1 and fit a gRPC message ({most})"),
                );
            }
        }
        if limits.connections == 0 {
            return invalid("limits.connections", "must be at least 1".to_owned());
        }
        Ok(())
    }

    fn validate_uids(&self) -> Result<(), Error> {
        let sandbox = &self.sandbox;
        let invalid = |key, message: &str| {
            Err(Error::Invalid {
                key,
                message: message.to_owned(),
            })
        };
        if sandbox.uid_base < FIRST_FREE_UID {
            return invalid("sandbox.uid_base", "is below 1000: those are system users");
        }
        let Some(end) = sandbox.uid_base.checked_add(sandbox.uid_count) else {
            return invalid("sandbox.uid_count", "reaches beyond the last uid");
        };
        if (sandbox.uid_count as usize) < self.session.max_sessions {
            return invalid(
                "sandbox.uid_count",
                "is less than session.max_sessions; every session needs uids of its own",
            );
        }
        if sandbox.daemon_uid == 0 {
            return invalid("sandbox.daemon_uid", "must not be root");
        }
        if (sandbox.uid_base..end).contains(&sandbox.daemon_uid) {
            return invalid(
                "sandbox.daemon_uid",
                "lies among the uids of sessions, which could then signal the daemon",
            );
        }
        Ok(())
    }
}

/// Whether callers must have a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysAre {
    /// There is one, or ever was.
    AskedFor,
    /// There never was one.
    NotAskedFor,
}

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it must be; the message names the key and the line.
    #[error("{path}: {message}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// An environment variable is not what it must be.
    #[error("environment variable {name}: {message}")]
    Environment {
        /// The variable.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A flag's value is not what it must be.
    #[error("{flag}: {message}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A value cannot be used.
    #[error("{key}: {message}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A rule of the network cannot be used.
    #[error(transparent)]
    Egress(#[from] egress::Error),
    /// The whole cannot be written or read as TOML.
    #[error("cannot put the configuration together: {0}")]
    Combine(String),
    /// A directory the daemon needs is nowhere to be found.
    #[error("no {what} directory; looked in {looked}; set `{what}` in the configuration")]
    NotFound {
        /// `runners` or `images`.
        what: &'static str,
        /// The places.
        looked: String,
    },
}
