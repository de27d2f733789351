//! `pagebox serve`: the daemon.

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use super::{ConfigFile, Error, host_loopback, port, runtime};
use crate::config::Flag;
use crate::server::{self, DataDir};
use crate::telemetry;

/// Run the daemon: gRPC and HTTP on one port, until SIGINT or SIGTERM.
///
/// When it is ready it writes one line to stdout: `pagebox listening on http://ADDRESS:PORT`
/// (https with TLS). Logs go to stderr. The first signal lets running executions end (drain_grace); a second one does not.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pagebox serve
  pagebox serve --listen 127.0.0.1:0                    take a free port
  pagebox serve --config ./pagebox.toml
  pagebox serve --host-loopback 3000                    sessions may open http://localhost:3000 here
  PAGEBOX_SESSION__MAX_SESSIONS=50 pagebox serve")]
pub(super) struct Args {
    /// Address and port to listen on [default: 127.0.0.1:7370]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    config: ConfigFile,
    /// Let sessions reach this port of the host's loopback, '*' for all; may be repeated
    #[arg(long, value_name = "PORT", value_parser = port)]
    host_loopback: Vec<String>,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Error> {
    let listen = args.listen.map(|address| Flag {
        name: "--listen",
        key: "listen",
        value: toml::Value::String(address.to_string()),
    });
    let flags = listen.into_iter().chain(host_loopback(args.host_loopback));
    let mut config = args.config.load(flags.collect())?.config;
    telemetry::init(&config.log)?;
    config.read_files()?;
    let tls = config.tls.read()?;
    // Bound before privilege is dropped, so that ports below 1024 work too.
    let listener = TcpListener::bind(config.listen).map_err(|source| Error::Listen {
        address: config.listen,
        source,
    })?;
    let (spawner, data_dir) = server::start_spawner(&config, || DataDir::prepare(&config))?;
    runtime()?.block_on(server::serve(&config, listener, tls, spawner, &data_dir))?;
    Ok(ExitCode::SUCCESS)
}
