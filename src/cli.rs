//! The command line: what can be typed, and what each command does with it.
//!
//! Every command ends with an exit status of its own; what Pagebox itself cannot do is one line on
//! stderr and status 125. Knows the wire messages, not how they travel.

mod completions;
mod config;
mod daemon;
mod doctor;
mod exec;
mod image;
mod key;
mod limits;
mod network;
mod output;
mod profile;
mod prompt;
mod serve;
mod session;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::network::NetworkArgs;
use crate::config::{Flag, Loaded, Sources};
use crate::{grpc, store, telemetry};

/// Exit status for Pagebox's own failures, apart from those of the code it runs.
const OWN_FAILURE: u8 = 125;

/// Runs untrusted node, python and bash code against live, confined Chromium sessions.
#[derive(Debug, Parser)]
#[command(
    name = "pagebox",
    version,
    max_term_width = 100,
    after_help = "\
Exit status: that of the command; 2 for a mistake on the command line, 125 when Pagebox itself fails.
Settings: pagebox config shows them all; each can be set in a file, as PAGEBOX_KEY or
PAGEBOX_SECTION__KEY, and some as flags."
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Exec(Box<exec::Args>),
    Prompt(Box<prompt::Args>),
    Session(session::Args),
    Profile(profile::Args),
    Doctor(doctor::Args),
    Image(image::Args),
    Key(key::Args),
    Config(config::Args),
    Completions(completions::Args),
}

/// Runs the command this process was started with.
#[must_use]
pub fn run() -> ExitCode {
    let done = match Args::parse().command {
        Command::Serve(args) => serve::run(args),
        Command::Exec(args) => exec::run(*args),
        Command::Prompt(args) => prompt::run(*args),
        Command::Session(args) => session::run(args),
        Command::Profile(args) => profile::run(args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Image(args) => image::run(args),
        Command::Key(args) => key::run(args),
        Command::Config(args) => config::run(args),
        Command::Completions(args) => completions::run(&args, &mut Args::command()),
    };
    done.unwrap_or_else(|error| {
        output::complain(&error);
        ExitCode::from(OWN_FAILURE)
    })
}

/// The configuration file, as every command that needs one takes it.
#[derive(Clone, Debug, clap::Args)]
struct ConfigFile {
    /// Configuration file, instead of /etc/pagebox/pagebox.toml and ~/.config/pagebox/pagebox.toml
    #[arg(
        long,
        value_name = "FILE",
        env = "PAGEBOX_CONFIG",
        hide_env_values = true
    )]
    config: Option<PathBuf>,
}

impl ConfigFile {
    fn load(self, flags: Vec<Flag>) -> Result<Loaded, Error> {
        Ok(Sources::of_process(self.config, flags).load()?)
    }
}

/// The flag `--host-loopback` as configuration.
fn host_loopback(ports: Vec<String>) -> Option<Flag> {
    (!ports.is_empty()).then(|| Flag {
        name: "--host-loopback",
        key: "egress.host_loopback",
        value: toml::Value::from(ports),
    })
}

/// A port, or `*` for all of them.
fn port(text: &str) -> Result<String, String> {
    match text.parse::<u16>() {
        Ok(1..) => Ok(text.to_owned()),
        _ if text == "*" => Ok(text.to_owned()),
        _ => Err("write a port, 1 to 65535, or '*' for all".to_owned()),
    }
}

/// `KEY=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| "write KEY=VALUE".to_owned())
}

/// Seconds as a number, or a duration with a unit.
fn seconds(text: &str) -> Result<prost_types::Duration, String> {
    let duration = match text.parse::<f64>() {
        Ok(number) => std::time::Duration::try_from_secs_f64(number).ok(),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    duration
        .and_then(|duration| prost_types::Duration::try_from(duration).ok())
        .ok_or_else(|| "write seconds, or a duration such as 5m".to_owned())
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Config(#[from] crate::config::Error),
    #[error(transparent)]
    Tls(#[from] crate::server::TlsError),
    #[error(transparent)]
    Telemetry(#[from] telemetry::Error),
    #[error("{path}: {source}")]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot read {path}: {source}")]
    ReadCode {
        path: String,
        source: std::io::Error,
    },
    #[error("{path} is longer than {limit} bytes, the most one execution may run")]
    CodeTooLong { path: String, limit: usize },
    #[error("{0} is not UTF-8")]
    CodeNotText(String),
    #[error("cannot read the task from stdin: {0}")]
    ReadPrompt(std::io::Error),
    #[error("cannot read the secret {name} from {path}: {source}")]
    ReadSecret {
        name: String,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("--secret-domain {0}: there is no --secret-file of that name")]
    NoSuchSecret(String),
    #[error("cannot listen on {address}: {source}")]
    Listen {
        address: std::net::SocketAddr,
        source: std::io::Error,
    },
    #[error("cannot start the runtime: {0}")]
    Runtime(std::io::Error),
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
    #[error("{0:#}")]
    Daemon(#[from] anyhow::Error),
    #[error("the spawner has died; nothing is left of the session")]
    SpawnerDied,
    #[error(transparent)]
    Client(#[from] grpc::ClientError),
    #[error("there is nothing to watch: the session has ended, or was opened without a live view")]
    NoLiveView,
    #[error(transparent)]
    Json(#[from] grpc::JsonError),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("cannot make a key: the system has no randomness: {0}")]
    NoRandomness(getrandom::Error),
    #[error("no key {0:?}; pagebox key list shows them")]
    NoSuchKey(String),
    #[error("cannot write to stdout: {0}")]
    Write(std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_the_documentation_promises_parses() {
        for line in [
            "pagebox serve",
            "pagebox serve --listen 127.0.0.1:0 --config x.toml",
            "pagebox serve --host-loopback 8080 --host-loopback 9090",
            "pagebox serve --host-loopback *",
            "pagebox exec -e 1+1",
            "pagebox exec -l python -t 5 script.py",
            "pagebox exec -l bash -",
            "pagebox exec --url https://example.com --json --fresh --env A=b --env C=d x.js",
            "pagebox exec -s 0190aaaa-0000-7000-8000-000000000000 -e 1",
            "pagebox exec --server http://127.0.0.1:1 -e -1",
            "pagebox prompt summarize --url https://example.com",
            "pagebox prompt summarize -s 0190aaaa-0000-7000-8000-000000000000 -t 60 --json",
            "pagebox prompt - --url a.test --secret-file pin=/run/pin --secret-domain pin=a.test",
            "pagebox prompt go --url a.test --allow-navigation b.test --max-steps 5 --model m",
            "pagebox session create --url https://example.com --ttl 60 --label a=b --json",
            "pagebox session create --viewport 800x600 --idle-ttl 5m",
            "pagebox session list --state ready --json",
            "pagebox session show 0190aaaa-0000-7000-8000-000000000000",
            "pagebox session watch 0190aaaa-0000-7000-8000-000000000000 --json",
            "pagebox session stop 0190aaaa-0000-7000-8000-000000000000",
            "pagebox doctor --json",
            "pagebox image list --json",
            "pagebox image show bash --json",
            "pagebox key create --tenant acme --name laptop --max-sessions 5 --rate 120/min",
            "pagebox key create --tenant acme --gateway --session-minutes 600 --budget 0",
            "pagebox key list --json --config x.toml",
            "pagebox key revoke 3f1c9a0b7d2e4f68",
            "pagebox config",
            "pagebox completions bash",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn mistakes_are_refused_with_status_2() {
        for line in [
            "pagebox",
            "pagebox exec",
            "pagebox exec -e 1 file.js",
            "pagebox exec -l perl -e 1",
            "pagebox exec -t soon -e 1",
            "pagebox exec -t -5 -e 1",
            "pagebox exec -t 0 -e 1",
            "pagebox exec -t 0.999 -e 1",
            "pagebox exec -t 301 -e 1",
            "pagebox exec --allow http://x/ -e 1",
            "pagebox session create --deny a*b",
            "pagebox exec --env novalue -e 1",
            "pagebox exec -s x --url https://example.com -e 1",
            "pagebox prompt",
            "pagebox prompt go -t 301",
            "pagebox prompt go -s x --url https://example.com",
            "pagebox prompt go --secret-file pin",
            "pagebox serve --host-loopback 0",
            "pagebox serve --host-loopback 70000",
            "pagebox serve --listen nowhere",
            "pagebox serve --max-sessions 3",
            "pagebox session create --viewport big",
            "pagebox session list --state gone",
            "pagebox session stop",
            "pagebox image",
            "pagebox image show",
            "pagebox key",
            "pagebox key create",
            "pagebox key create --tenant a --rate 0",
            "pagebox key create --tenant a --rate 5/s",
            "pagebox key create --tenant a --max-sessions 0",
            "pagebox key revoke",
        ] {
            let error = parse(line).map(|_| line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn durations_are_seconds_or_have_a_unit() {
        for (text, seconds_, nanos) in [("5", 5, 0), ("1.5", 1, 500_000_000), ("2m", 120, 0)] {
            let expected = prost_types::Duration {
                seconds: seconds_,
                nanos,
            };
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "-1", "NaN", "inf", "x"] {
            seconds(text).unwrap_err();
        }
    }

    #[test]
    fn every_command_has_help_with_examples() {
        let mut command = Args::command();
        for name in [
            "serve",
            "exec",
            "prompt",
            "session",
            "profile",
            "doctor",
            "image",
            "key",
            "config",
            "completions",
        ] {
            let help = command
                .find_subcommand_mut(name)
                .unwrap()
                .render_long_help()
                .to_string();
            assert!(help.contains("Examples:"), "{name}: {help}");
        }
    }
}
