//! The daemon a command talks to: a running one, or one of its own for one call.

use tokio::net::UnixStream;

use super::{ConfigFile, Error, host_loopback, runtime};
use crate::config::{DEFAULT_LISTEN, Loaded};
use crate::grpc::Client;
use crate::profile::Profiles;
use crate::server::{self, Core, Signals};
use crate::store::Store;
use crate::telemetry;

/// Where a command goes; none: to a daemon of its own.
pub(super) fn server_of(server: Option<&str>, session: Option<&str>) -> Option<String> {
    server
        // An empty variable is an unset one.
        .filter(|server| !server.is_empty())
        .or_else(|| session.map(|_| DEFAULT_LISTEN))
        .map(str::to_owned)
}

/// The configuration of an own daemon.
pub(super) fn load(config: ConfigFile, ports: Vec<String>) -> Result<Loaded, Error> {
    config.load(host_loopback(ports).into_iter().collect())
}

/// Does something with a running daemon.
pub(super) fn remote<T>(
    server: &str,
    work: impl AsyncFnOnce(&mut Client, &mut Signals) -> Result<T, Error>,
) -> Result<T, Error> {
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let mut signals = Signals::new().map_err(Error::Signals)?;
        let mut client = Client::connect(server).await?;
        work(&mut client, &mut signals).await
    });
    // Does not wait for a write to a pipe nobody reads.
    runtime.shutdown_background();
    done
}

/// Does something with a daemon of its own, on no port; nothing of it is left afterwards.
pub(super) fn embedded<T>(
    loaded: Loaded,
    work: impl AsyncFnOnce(&mut Client, &mut Signals) -> Result<T, Error>,
) -> Result<T, Error> {
    // stderr is the command's; what goes wrong here is said once, by the status.
    let log_asked_for = loaded.is_set("log.filter");
    let mut config = loaded.config;
    if log_asked_for {
        telemetry::init(&config.log)?;
    }
    config.read_files()?;
    // Nobody comes a second time.
    config.pool.size = 0;
    let (spawner, ()) = server::start_spawner(&config, || Ok(()))?;
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let mut signals = Signals::new().map_err(Error::Signals)?;
        let store = Store::in_memory()?;
        let profiles = Profiles::in_memory(config.profile.clone());
        let core = Core::connect(spawner, &config, &[], store, profiles).await?;
        let done = tokio::select! {
            done = with_core(&core, &mut signals, work) => done,
            () = core.died() => Err(Error::SpawnerDied),
        };
        tokio::select! {
            () = core.shut_down() => {}
            // The kernel ends the spawner, and with it everything, when this process ends.
            _ = signals.next() => {}
        }
        done
    });
    runtime.shutdown_background();
    done
}

async fn with_core<T>(
    core: &Core,
    signals: &mut Signals,
    work: impl AsyncFnOnce(&mut Client, &mut Signals) -> Result<T, Error>,
) -> Result<T, Error> {
    let (ours, theirs) = UnixStream::pair().map_err(Error::Runtime)?;
    let serving = core.serve_socket(theirs);
    let working = async {
        let mut client = Client::over_socket(ours).await?;
        work(&mut client, signals).await
    };
    tokio::select! {
        done = working => done,
        served = serving => {
            served?;
            Err(Error::SpawnerDied)
        }
    }
}
