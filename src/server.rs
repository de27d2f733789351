//! The daemon as a process: one port for gRPC and HTTP, from the first connection to the last.
//!
//! Starting order matters and is kept here: the port is bound and the spawner started by the main
//! thread, with whatever privilege the process has; then privilege is dropped; only then does tokio
//! run and anything from outside is read. Knows nothing of what a request means.

mod authentication;
mod connection;
mod state;
mod tls;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent::{Agent, Models};
use crate::config::{Config, KeysAre, NodeFiles, own_uids};
use crate::doctor;
use crate::egress;
use crate::grpc::{self, Health};
use crate::http;
use crate::live::LiveViews;
use crate::profile::Profiles;
use crate::sandbox::{self, Image, Sandboxes, SpawnerConfig, SpawnerProcess};
use crate::scrape::Scrapes;
use crate::session::{Configs, Registry};
use crate::store::Store;
use crate::tenant::Keys;

pub use state::DataDir;

pub use tls::{TlsConfig, TlsError};

/// How long open connections may take to send what they owe, once everything has ended.
const CONNECTION_GRACE: Duration = Duration::from_secs(5);
/// How long the spawner may take to end; it kills, so this is a matter of milliseconds.
const SPAWNER_GRACE: Duration = Duration::from_secs(10);

/// Open files of the daemon itself: its runtime, the spawner's socket, its logs, what comes up.
const OWN_FILES: usize = 256;
/// Open files of a session beside its requests: pipes of its sandboxes, CDP clients, listeners.
const SESSION_FILES: usize = 96;

/// Reads the sandbox images, and this host for what is in them.
///
/// # Errors
/// A directory that is not found, or an image that cannot be put together here.
pub fn read_images(config: &Config) -> anyhow::Result<Vec<Image>> {
    let runners = config.runners_dir()?;
    let images_dir = config.images_dir()?;
    let node = NodeFiles::find();
    let vars = [
        ("runners", &*runners),
        ("node", &*node.program),
        ("npm", &*node.npm),
    ];
    Image::load_all(&images_dir, &vars)
        .with_context(|| format!("cannot read the sandbox images in {}", images_dir.display()))
}

/// Starts the spawner, does what else needs privilege, and drops it. The main thread must call it,
/// before tokio runs: the kernel ends the spawner with the thread that started it.
///
/// # Errors
/// When an image cannot be read, this host cannot isolate what the configuration asks for, or
/// `privileged` fails.
pub fn start_spawner<T>(
    config: &Config,
    privileged: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(SpawnerProcess, T)> {
    sandbox::return_large_buffers();
    let images = read_images(config)?;
    let spawner = sandbox::start_spawner(&SpawnerConfig {
        executable: None,
        images,
        allow_degraded: config.sandbox.allow_degraded.clone(),
        uid_base: config.sandbox.uid_base,
        uid_count: config.sandbox.uid_count,
        cgroups: config.sandbox.cgroups,
    })
    .context("cannot start the spawner")?;
    let done = privileged()?;
    drop_root(config)?;
    Ok((spawner, done))
}

/// Takes the daemon's uid, if this is root.
///
/// # Errors
/// When the kernel refuses.
pub fn drop_root(config: &Config) -> anyhow::Result<()> {
    let uids = own_uids().context("cannot tell whether this is root")?;
    if uids.contains(&0) {
        sandbox::drop_privileges(config.sandbox.daemon_uid).context("cannot drop privileges")?;
    }
    Ok(())
}

/// Makes room for the open files that sessions may need all together, so that none takes those of
/// another or of the daemon; where the hard limit is too low, they share what there is.
///
/// # Errors
/// When the kernel tells or takes no limit.
fn places(config: &Config) -> anyhow::Result<egress::Places> {
    let sessions = config.session.max_sessions;
    let OpenFiles {
        wanted,
        allowed,
        shared,
    } = OpenFiles::of(config)?;
    let fixed = wanted.saturating_sub(shared);
    if allowed < wanted {
        tracing::warn!(
            "this process may have {allowed} open files, and {sessions} sessions may need {wanted}: \
             when many connections are open, more wait than egress.connections says. Raise its hard \
             limit (LimitNOFILE=, ulimit -Hn), or lower session.max_sessions"
        );
    }
    let shared = shared.min(allowed.saturating_sub(fixed));
    Ok(egress::Places::new(&config.egress, shared))
}

/// Open files of a daemon with this configuration.
#[derive(Clone, Copy, Debug)]
pub struct OpenFiles {
    /// What all its sessions and callers may need at the same time.
    pub wanted: usize,
    /// What this process may have; raised as far as its hard limit lets it.
    pub allowed: usize,
    /// Of the wanted ones, those that connections share, whichever session they belong to.
    shared: usize,
}

impl OpenFiles {
    /// Counts, and raises the limit of this process.
    ///
    /// # Errors
    /// When the kernel tells or takes no limit.
    pub fn of(config: &Config) -> anyhow::Result<Self> {
        let sessions = config.session.max_sessions;
        let fixed = sessions
            .saturating_mul(SESSION_FILES + egress::Places::own_files())
            .saturating_add(config.limits.connections + OWN_FILES);
        let shared = egress::Places::shared_files(&config.egress, sessions);
        let wanted = fixed.saturating_add(shared);
        let allowed =
            sandbox::raise_open_files(wanted as u64).context("cannot raise RLIMIT_NOFILE")?;
        Ok(Self {
            wanted,
            allowed: usize::try_from(allowed).unwrap_or(usize::MAX),
            shared,
        })
    }
}

/// The parts of a running daemon below its port.
#[derive(Clone, Debug)]
pub struct Core {
    registry: Registry,
    agent: Agent,
    scrapes: Scrapes,
    views: LiveViews,
    sandboxes: Sandboxes,
    limits: grpc::Limits,
    host: grpc::Host,
    front: Arc<http::Front>,
}

impl Core {
    /// Connects to the spawner; inside the runtime. No session reaches `own_ports` of this host,
    /// whatever the egress rules say: who can talk to the daemon can do all that it can.
    ///
    /// # Errors
    /// When the spawner does not answer, a section of the configuration cannot be used, or the store
    /// fails.
    pub async fn connect(
        spawner: SpawnerProcess,
        config: &Config,
        own_ports: &[u16],
        store: Store,
        profiles: Profiles,
    ) -> anyhow::Result<Self> {
        let sandboxes = Sandboxes::connect(spawner).context("cannot connect to the spawner")?;
        if let Some(weakening) = config.egress.weakening() {
            tracing::warn!("egress is weaker than designed: {weakening}");
        }
        let configs = Configs {
            session: config.session.clone(),
            pool: config.pool.clone(),
            browser: config.browser.clone(),
            runner: config.runner.clone(),
            cdp: config.cdp.clone(),
            egress: config.egress.clone(),
            places: places(config)?,
            own_ports: own_ports.to_vec(),
            wait: config.tenant.wait,
            retention: config.store.retention,
        };
        let (examined, on) = (config.clone(), sandboxes.clone());
        let host = grpc::Host::new(move || {
            let (config, sandboxes) = (examined.clone(), on.clone());
            Box::pin(async move { doctor::examine(&config, Ok(&sandboxes)).await })
        });
        let registry = Registry::new(sandboxes.clone(), configs, store.clone(), profiles).await?;
        let models = Models::new(config.agent.clone())?;
        let scrape = config.scrape.clone();
        Ok(Self {
            host,
            front: Arc::new(http::Front::new(&config.http)),
            scrapes: Scrapes::new(registry.clone(), store, models.clone(), scrape),
            agent: Agent::new(registry.clone(), models),
            views: LiveViews::new(registry.clone()),
            registry,
            sandboxes,
            limits: grpc::Limits {
                output: config.limits.output(),
                message: config.limits.message,
                traffic: config.egress.max_bytes,
            },
        })
    }

    /// Serves one socket until it closes; for a client in this process, which is asked for no key.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn serve_socket(&self, socket: UnixStream) -> anyhow::Result<()> {
        let (routes, _health) = self.routes().await?;
        let router = self.router(routes, None);
        let speaks = connection::Speaks::Either;
        connection::serve(
            socket,
            speaks,
            http::Peer::LOCAL,
            router,
            CancellationToken::new(),
        )
        .await
        .map_err(anyhow::Error::from_boxed)
    }

    async fn routes(
        &self,
    ) -> Result<(tonic::service::Routes, Health), tonic_reflection::server::Error> {
        let (registry, agent, views) = (
            self.registry.clone(),
            self.agent.clone(),
            self.views.clone(),
        );
        grpc::routes(registry, agent, views, self.limits, self.host.clone()).await
    }

    /// Everything that is served; without `keys` to whoever comes.
    fn router(&self, routes: tonic::service::Routes, keys: Option<Keys>) -> axum::Router {
        let gateway = http::Gateway {
            registry: self.registry.clone(),
            agent: self.agent.clone(),
            scrapes: self.scrapes.clone(),
            views: self.views.clone(),
            front: Arc::clone(&self.front),
            output: self.limits.output,
        };
        let front = Arc::clone(&self.front);
        connection::router(routes, http::router(gateway), front, keys)
    }

    /// Ends every execution and session at once, then the spawner; nothing is left when it returns.
    pub async fn shut_down(&self) {
        self.registry.drain(Duration::ZERO).await;
        self.end_spawner().await;
    }

    /// Returns when the spawner has died, which nothing here survives.
    pub async fn died(&self) {
        self.sandboxes.died().await;
    }

    async fn end_spawner(&self) {
        let ended = tokio::time::timeout(SPAWNER_GRACE, self.sandboxes.shutdown()).await;
        if ended.is_err() {
            tracing::error!(
                "the spawner did not end in {SPAWNER_GRACE:?}; the kernel kills it with this process"
            );
        }
    }
}

/// Runs the daemon until a signal ends it.
///
/// # Errors
/// When it cannot start, is open to other hosts without being told so, or its spawner dies.
pub async fn serve(
    config: &Config,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    spawner: SpawnerProcess,
    data_dir: &DataDir,
) -> anyhow::Result<()> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    // Before anything can be waited for, so that no signal finds the default action.
    let mut signals = Signals::new()?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    let _lock = data_dir.lock()?;
    let store = data_dir.open()?;
    let keys = Keys::load(store.clone(), config.tenant.wait).await?;
    let asked_for = match keys.asked_for() {
        true => KeysAre::AskedFor,
        false => KeysAre::NotAskedFor,
    };
    config.check_listen(address, asked_for)?;
    let profiles = data_dir.profiles(&config.profile)?;
    let own_ports = [address.port()];
    let core = Core::connect(spawner, config, &own_ports, store, profiles).await?;
    let (routes, health) = core.routes().await?;

    let stop = CancellationToken::new();
    let connections = TaskTracker::new();
    let accepting = tokio::spawn(connection::accept(
        listener,
        tls,
        core.router(routes, Some(keys)),
        config.limits.connections,
        connections.clone(),
        stop.clone(),
    ));
    tracing::info!("listening on {address}");
    announce(scheme, address);

    tokio::select! {
        signal = signals.next() => tracing::info!(?signal, "draining"),
        () = core.died() => anyhow::bail!("the spawner has died; nothing can be isolated any more"),
    }
    tokio::select! {
        () = drain(&core, &health, config.drain_grace) => {}
        signal = signals.next() => tracing::warn!(?signal, "a second signal: ending at once"),
        () = core.died() => tracing::error!("the spawner died during the drain"),
    }
    stop.cancel();
    connections.close();
    tokio::select! {
        _ = tokio::time::timeout(CONNECTION_GRACE, connections.wait()) => {}
        _ = signals.next() => {}
    }
    // Nothing is accepted any more, whatever state the task is in.
    accepting.abort();
    core.end_spawner().await;
    tracing::info!("stopped");
    Ok(())
}

async fn drain(core: &Core, health: &Health, grace: Duration) {
    health.draining().await;
    core.registry.drain(grace).await;
}

/// The one line on stdout: a program that started the daemon reads its address there.
fn announce(scheme: &str, address: std::net::SocketAddr) {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    let said = writeln!(stdout, "pagebox listening on {scheme}://{address}");
    if let Err(error) = said.and_then(|()| stdout.flush()) {
        tracing::debug!(%error, "nobody reads stdout");
    }
}

/// SIGINT and SIGTERM, which no longer end the process once this exists.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes both over; inside the runtime.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next of them.
    pub async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        }
    }
}
