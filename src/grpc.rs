//! The gRPC interface: wire messages to domain values and back, and nothing else.
//!
//! Everything that is decided here is what a request says, how a reply is written, and which status
//! an error becomes (`status`). Knows nothing of ports, processes or shutting down; the server does.

mod call;
mod client;
mod daemon_service;
mod execution_service;
mod field;
mod json;
mod live_service;
mod network;
mod profile_service;
mod prompt;
mod session_service;
mod status;
mod view;

use tonic::server::NamedService;
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::agent::Agent;
use crate::execution::OutputLimits;
use crate::limits::Bytes;
use crate::live::LiveViews;
use crate::session::Registry;

pub use client::{Client, ClientError, ExecutionStream, PromptStream};
pub use daemon_service::Host;
pub use json::{JsonError, to_json};
pub use status::{complete, not_let_in, unknown_method};

use daemon_service::Daemons;
use execution_service::Executions;
use live_service::Views;
use profile_service::ProfilesOfOwner;
use session_service::Sessions;
use v1::daemon_service_server::DaemonServiceServer;
use v1::execution_service_server::ExecutionServiceServer;
use v1::live_service_server::LiveServiceServer;
use v1::profile_service_server::ProfileServiceServer;
use v1::session_service_server::SessionServiceServer;

/// Generated from `proto/pagebox/v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("pagebox.v1");
}

impl std::fmt::Debug for v1::Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The server too may hold one, by a mistake that is only found later.
        f.debug_struct("Proxy").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for v1::Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for v1::Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for v1::LiveView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveView").finish_non_exhaustive()
    }
}

/// The compiled protos, for reflection and the JSON mapping.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Bounds of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What an execution may give back; a request may ask for less.
    pub output: OutputLimits,
    /// Largest reply.
    pub message: Bytes,
    /// Network traffic of one session, both ways together; a session may ask for less.
    pub traffic: Bytes,
}

/// Largest request: three times what every field of it together may be (code, environment, start
/// url, user agent, labels, 512 rules of 255 bytes), so that a field that is too long is refused by
/// its name. A larger one is refused when its length is read, before any of it is kept.
const MAX_REQUEST: Bytes = Bytes::mib(1);

/// Tells health clients whether new work is taken.
#[derive(Clone, Debug)]
pub struct Health(HealthReporter);

impl Health {
    /// Reports every service as not serving; those who watch are told at once.
    pub async fn draining(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    async fn set(&self, status: ServingStatus) {
        for name in [
            "",
            SessionServiceServer::<Sessions>::NAME,
            ExecutionServiceServer::<Executions>::NAME,
            DaemonServiceServer::<Daemons>::NAME,
            ProfileServiceServer::<ProfilesOfOwner>::NAME,
            LiveServiceServer::<Views>::NAME,
        ] {
            self.0.set_service_status(name, status).await;
        }
    }
}

/// All services: sessions, executions, profiles, live views, the daemon, health, reflection (v1 and v1alpha).
///
/// # Errors
/// When the descriptor set built into the program cannot be read.
pub async fn routes(
    registry: Registry,
    agent: Agent,
    views: LiveViews,
    limits: Limits,
    host: Host,
) -> Result<(Routes, Health), tonic_reflection::server::Error> {
    let reporter = HealthReporter::new();
    let health = Health(reporter.clone());
    health.set(ServingStatus::Serving).await;
    let message = limits.message.as_usize();
    let sessions = SessionServiceServer::new(Sessions::new(registry.clone(), limits))
        .max_decoding_message_size(MAX_REQUEST.as_usize())
        .max_encoding_message_size(message);
    let daemons = DaemonServiceServer::new(Daemons::new(registry.clone(), host));
    let profiles = ProfileServiceServer::new(ProfilesOfOwner::new(registry.clone()))
        .max_decoding_message_size(message)
        .max_encoding_message_size(message);
    let views = LiveServiceServer::new(Views::new(registry.clone(), views))
        .max_decoding_message_size(MAX_REQUEST.as_usize())
        .max_encoding_message_size(message);
    let executions = ExecutionServiceServer::new(Executions::new(registry, agent, limits))
        .max_decoding_message_size(MAX_REQUEST.as_usize())
        .max_encoding_message_size(message);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = RoutesBuilder::default();
    routes
        .add_service(sessions)
        .add_service(executions)
        .add_service(daemons)
        .add_service(profiles)
        .add_service(views)
        .add_service(tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(reporter),
        ))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    Ok((routes.routes(), health))
}
