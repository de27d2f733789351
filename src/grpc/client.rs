//! A client of the services, for the command line: over TCP, or over one connected socket to a
//! daemon in the same process. Gives wire messages, hides tonic.

use std::sync::Mutex;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;
use tower::service_fn;

use super::v1;
use super::v1::daemon_service_client::DaemonServiceClient;
use super::v1::execution_service_client::ExecutionServiceClient;
use super::v1::live_service_client::LiveServiceClient;
use super::v1::profile_service_client::ProfileServiceClient;
use super::v1::session_service_client::SessionServiceClient;

/// How long a connection may take to open.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// A connected client.
#[derive(Clone, Debug)]
pub struct Client {
    sessions: SessionServiceClient<Channel>,
    executions: ExecutionServiceClient<Channel>,
    daemon: DaemonServiceClient<Channel>,
    live: LiveServiceClient<Channel>,
    profiles: ProfileServiceClient<Channel>,
}

impl Client {
    /// Connects to a daemon at `http://HOST:PORT` or `HOST:PORT`.
    ///
    /// # Errors
    /// When the address is none, or nothing answers there.
    pub async fn connect(server: &str) -> Result<Self, ClientError> {
        let url = match server.split_once("://") {
            None => format!("http://{server}"),
            Some(("http", _)) => server.to_owned(),
            Some(_) => return Err(ClientError::Address(server.to_owned())),
        };
        let endpoint =
            Endpoint::from_shared(url).map_err(|_| ClientError::Address(server.to_owned()))?;
        let connected = endpoint.connect_timeout(CONNECT_TIMEOUT).connect().await;
        let channel = connected.map_err(|error| ClientError::Unreachable {
            server: server.to_owned(),
            why: innermost(&error),
        })?;
        Ok(Self::over(channel))
    }

    /// Speaks over a socket whose other end a daemon serves.
    ///
    /// # Errors
    /// When the other end is closed.
    pub async fn over_socket(socket: UnixStream) -> Result<Self, ClientError> {
        let socket = Mutex::new(Some(socket));
        // tonic asks for a second connection only when the first is lost; there is none then.
        let connector = service_fn(move |_| {
            let socket = socket.lock().ok().and_then(|mut socket| socket.take());
            async move {
                socket
                    .map(TokioIo::new)
                    .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::BrokenPipe))
            }
        });
        let connected = Endpoint::from_static("http://pagebox.embedded")
            .connect_with_connector(connector)
            .await;
        let channel = connected.map_err(|error| ClientError::Unreachable {
            server: "the embedded daemon".to_owned(),
            why: innermost(&error),
        })?;
        Ok(Self::over(channel))
    }

    fn over(channel: Channel) -> Self {
        // The daemon bounds what it sends; a second bound here could only lose a reply.
        Self {
            sessions: SessionServiceClient::new(channel.clone())
                .max_decoding_message_size(usize::MAX),
            executions: ExecutionServiceClient::new(channel.clone())
                .max_decoding_message_size(usize::MAX),
            profiles: ProfileServiceClient::new(channel.clone())
                .max_decoding_message_size(usize::MAX),
            live: LiveServiceClient::new(channel.clone()),
            daemon: DaemonServiceClient::new(channel),
        }
    }

    /// Opens a session.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub async fn create_session(
        &mut self,
        request: v1::CreateSessionRequest,
    ) -> Result<v1::Session, ClientError> {
        let reply = self.sessions.create_session(request).await?.into_inner();
        Ok(reply.session.unwrap_or_default())
    }

    /// Reads what the daemon is.
    ///
    /// # Errors
    /// When it does not answer, or is older than this call.
    pub async fn get_daemon(&mut self) -> Result<v1::Daemon, ClientError> {
        let reply = self.daemon.get_daemon(v1::GetDaemonRequest {}).await?;
        Ok(reply.into_inner().daemon.unwrap_or_default())
    }

    /// The caller's profiles.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub async fn list_profiles(&mut self) -> Result<v1::ListProfilesResponse, ClientError> {
        let request = v1::ListProfilesRequest {};
        Ok(self.profiles.list_profiles(request).await?.into_inner())
    }

    /// Reads what is told of a profile.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub async fn get_profile(&mut self, name: String) -> Result<v1::Profile, ClientError> {
        let request = v1::GetProfileRequest { name };
        let reply = self.profiles.get_profile(request).await?.into_inner();
        Ok(reply.profile.unwrap_or_default())
    }

    /// Deletes a profile; whether there was one.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub async fn delete_profile(&mut self, name: String) -> Result<bool, ClientError> {
        let request = v1::DeleteProfileRequest { name };
        let reply = self.profiles.delete_profile(request).await?.into_inner();
        Ok(reply.deleted)
    }

    /// A profile as Playwright's storage state.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub async fn export_profile(&mut self, name: String) -> Result<String, ClientError> {
        let request = v1::ExportProfileRequest { name };
        let reply = self.profiles.export_profile(request).await?.into_inner();
        Ok(reply.storage_state)
    }

    /// Makes a profile of a storage state, or replaces one.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub async fn import_profile(
        &mut self,
        name: String,
        storage_state: String,
    ) -> Result<v1::Profile, ClientError> {
        let request = v1::ImportProfileRequest {
            name,
            storage_state,
        };
        let reply = self.profiles.import_profile(request).await?.into_inner();
        Ok(reply.profile.unwrap_or_default())
    }

    /// Reads a session and its newest network requests.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub async fn get_session(
        &mut self,
        session_id: String,
    ) -> Result<v1::GetSessionResponse, ClientError> {
        let request = v1::GetSessionRequest { session_id };
        Ok(self.sessions.get_session(request).await?.into_inner())
    }

    /// Follows a session until it has ended.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub async fn watch_session(&mut self, session_id: String) -> Result<WatchStream, ClientError> {
        let request = v1::WatchSessionRequest { session_id };
        let reply = self.sessions.watch_session(request).await?;
        Ok(WatchStream(reply.into_inner()))
    }

    /// Reads one page of sessions.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub async fn list_sessions(
        &mut self,
        request: v1::ListSessionsRequest,
    ) -> Result<v1::ListSessionsResponse, ClientError> {
        Ok(self.sessions.list_sessions(request).await?.into_inner())
    }

    /// Where people watch a session; with `renew`, new links, and the old ones are withdrawn.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub async fn live_view(
        &mut self,
        session_id: String,
        renew: bool,
    ) -> Result<v1::LiveView, ClientError> {
        let live_view = if renew {
            let request = v1::RenewLiveViewRequest { session_id };
            let reply = self.live.renew_live_view(request).await?;
            reply.into_inner().live_view
        } else {
            let request = v1::GetLiveViewRequest { session_id };
            self.live
                .get_live_view(request)
                .await?
                .into_inner()
                .live_view
        };
        Ok(live_view.unwrap_or_default())
    }

    /// Ends a session.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub async fn stop_session(
        &mut self,
        session_id: String,
    ) -> Result<v1::StopSessionResponse, ClientError> {
        let request = v1::StopSessionRequest { session_id };
        Ok(self.sessions.stop_session(request).await?.into_inner())
    }

    /// Runs code; dropping the stream kills it.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub async fn execute(
        &mut self,
        options: v1::ExecutionOptions,
    ) -> Result<ExecutionStream, ClientError> {
        let request = v1::ExecuteStreamRequest {
            options: Some(options),
        };
        let reply = self.executions.execute_stream(request).await?;
        Ok(ExecutionStream(reply.into_inner()))
    }

    /// Has a model do a task; dropping the stream cancels it.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub async fn prompt(
        &mut self,
        options: v1::PromptOptions,
    ) -> Result<PromptStream, ClientError> {
        let request = v1::PromptStreamRequest {
            options: Some(options),
        };
        let reply = self.executions.prompt_stream(request).await?;
        Ok(PromptStream(reply.into_inner()))
    }

    /// Kills an execution; `false` when it had already ended.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub async fn cancel(&mut self, execution_id: String) -> Result<bool, ClientError> {
        let request = v1::CancelExecutionRequest { execution_id };
        let reply = self.executions.cancel_execution(request).await?;
        Ok(reply.into_inner().cancelled)
    }
}

/// The events of one execution.
#[derive(Debug)]
pub struct ExecutionStream(Streaming<v1::ExecuteStreamResponse>);

impl ExecutionStream {
    /// The next event; `None` after the last. Cancel safe.
    ///
    /// # Errors
    /// When the daemon ends the call, or is lost.
    pub async fn next(
        &mut self,
    ) -> Result<Option<v1::execute_stream_response::Event>, ClientError> {
        loop {
            match self.0.message().await? {
                None => return Ok(None),
                Some(v1::ExecuteStreamResponse { event: Some(event) }) => return Ok(Some(event)),
                // An event of a newer daemon.
                Some(v1::ExecuteStreamResponse { event: None }) => {}
            }
        }
    }
}

/// The events of one prompt.
#[derive(Debug)]
pub struct PromptStream(Streaming<v1::PromptStreamResponse>);

impl PromptStream {
    /// The next event; `None` after the last. Cancel safe.
    ///
    /// # Errors
    /// When the daemon ends the call, or is lost.
    pub async fn next(&mut self) -> Result<Option<v1::prompt_stream_response::Event>, ClientError> {
        loop {
            match self.0.message().await? {
                None => return Ok(None),
                Some(v1::PromptStreamResponse { event: Some(event) }) => return Ok(Some(event)),
                // An event of a newer daemon.
                Some(v1::PromptStreamResponse { event: None }) => {}
            }
        }
    }
}

/// The events of one session.
#[derive(Debug)]
pub struct WatchStream(Streaming<v1::WatchSessionResponse>);

impl WatchStream {
    /// The next event; `None` after the last.
    ///
    /// # Errors
    /// When the daemon ends the call, or is lost.
    pub async fn next(&mut self) -> Result<Option<v1::WatchSessionResponse>, ClientError> {
        Ok(self.0.message().await?)
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Why a call gave no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an address.
    #[error("{0:?} is not a server address; write http://HOST:PORT")]
    Address(String),
    /// Nothing answers there.
    #[error("cannot reach {server}: {why}; is `pagebox serve` running there?")]
    Unreachable {
        /// Where.
        server: String,
        /// Why.
        why: String,
    },
    /// The connection was lost during the call.
    #[error("lost the connection to the daemon: {0}")]
    Lost(String),
    /// The daemon refused the call.
    #[error("{message} ({reason})")]
    Refused {
        /// What the daemon says.
        message: String,
        /// The `ErrorInfo` reason.
        reason: String,
    },
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        match status.get_details_error_info() {
            Some(info) => Self::Refused {
                message: status.message().to_owned(),
                reason: info.reason,
            },
            // The daemon's statuses have an ErrorInfo; this one was made on this side.
            None if matches!(
                status.code(),
                Code::Unavailable | Code::Unknown | Code::Cancelled
            ) =>
            {
                Self::Lost(innermost(&status))
            }
            None => Self::Refused {
                message: status.message().to_owned(),
                reason: format!("{:?}", status.code()),
            },
        }
    }
}
