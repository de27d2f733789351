//! What tests, demo and benchmarks say to a daemon over gRPC. Every call has a deadline, so that a
//! daemon that hangs fails a test instead of stopping the run.

use std::collections::HashMap;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use pagebox::grpc::v1::execution_options::Place;
use pagebox::grpc::v1::execution_service_client::ExecutionServiceClient;
use pagebox::grpc::v1::session_service_client::SessionServiceClient;
use pagebox::grpc::v1::{
    CreateSessionRequest, ExecuteRequest, ExecuteResponse, ExecutionOptions, GetSessionRequest,
    Language, Outcome, Session, SessionOptions, StopSessionRequest, StopSessionResponse,
};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

/// Longest wait for any one reply: the longest timeout an execution of these tests asks for, and
/// much more than anything takes on a busy machine.
const REPLY_DEADLINE: Duration = Duration::from_secs(120);
/// Replies may be as large as the daemon's own message limit.
const MESSAGE_BYTES: usize = 64 << 20;

/// A connection to a daemon; belongs to the tokio runtime it was made in.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    channel: Channel,
}

impl Client {
    /// Connects at the first call.
    pub(crate) fn new(url: &str) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL");
        Self {
            channel: endpoint.timeout(REPLY_DEADLINE).connect_lazy(),
        }
    }

    /// The same, over connections that `connect` makes: to a daemon in another network namespace.
    pub(crate) fn through(
        url: &str,
        connect: impl Fn() -> std::io::Result<std::net::TcpStream> + Clone + Send + 'static,
    ) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL");
        let connector = tower::service_fn(move |_| {
            let connect = connect.clone();
            async move {
                let stream = connect()?;
                stream.set_nonblocking(true)?;
                std::io::Result::Ok(TokioIo::new(tokio::net::TcpStream::from_std(stream)?))
            }
        });
        let endpoint = endpoint.timeout(REPLY_DEADLINE);
        Self {
            channel: endpoint.connect_with_connector_lazy(connector),
        }
    }

    /// The connection itself, for other services.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The generated client of the session service.
    pub(crate) fn sessions(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_BYTES)
    }

    /// The generated client of the execution service.
    pub(crate) fn executions(&self) -> ExecutionServiceClient<Channel> {
        ExecutionServiceClient::new(self.channel())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }

    /// Opens a session.
    pub(crate) async fn create(&self, options: SessionOptions) -> Result<Session, Status> {
        let request = CreateSessionRequest {
            options: Some(options),
            idempotency_key: String::new(),
        };
        let reply = self.sessions().create_session(request).await?.into_inner();
        Ok(reply.session.expect("a reply carries the session"))
    }

    /// Opens a session on a page.
    pub(crate) async fn open(&self, url: &str) -> OpenSession {
        let options = SessionOptions {
            start_url: url.to_owned(),
            ..SessionOptions::default()
        };
        self.open_with(options).await
    }

    /// Opens a session with these options, whose page loads.
    pub(crate) async fn open_with(&self, options: SessionOptions) -> OpenSession {
        let url = options.start_url.clone();
        let session = self.create(options).await.expect("a session opens");
        assert_eq!(session.start_error, "", "{url} loads");
        OpenSession::new(self.clone(), session.id)
    }

    /// Reads a session.
    pub(crate) async fn get(&self, id: &str) -> Result<Session, Status> {
        let request = GetSessionRequest {
            session_id: id.to_owned(),
        };
        let reply = self.sessions().get_session(request).await?.into_inner();
        Ok(reply.session.expect("a reply carries the session"))
    }

    /// Ends a session.
    pub(crate) async fn stop(&self, id: &str) -> Result<StopSessionResponse, Status> {
        let request = StopSessionRequest {
            session_id: id.to_owned(),
        };
        Ok(self.sessions().stop_session(request).await?.into_inner())
    }

    /// Runs code and waits for its end.
    pub(crate) async fn execute(
        &self,
        options: ExecutionOptions,
    ) -> Result<ExecuteResponse, Status> {
        let request = ExecuteRequest {
            options: Some(options),
        };
        Ok(self.executions().execute(request).await?.into_inner())
    }
}

/// An open session. It is not stopped on drop: tests that care stop it, the rest expire.
#[derive(Clone, Debug)]
pub(crate) struct OpenSession {
    client: Client,
    /// Its id.
    pub(crate) id: String,
}

impl OpenSession {
    /// A session that is already open.
    pub(crate) fn new(client: Client, id: String) -> Self {
        Self { client, id }
    }

    /// Options for code in this session.
    pub(crate) fn options(&self, language: Language, code: &str) -> ExecutionOptions {
        ExecutionOptions {
            place: Some(Place::SessionId(self.id.clone())),
            language: language.into(),
            code: code.to_owned(),
            ..ExecutionOptions::default()
        }
    }

    /// Runs code with these options; any reply will do.
    pub(crate) async fn run(&self, options: ExecutionOptions) -> ExecuteResponse {
        let code = options.code.clone();
        match self.client.execute(options).await {
            Ok(reply) => reply,
            Err(status) => panic!("the daemon refused\n{code}\n{status}"),
        }
    }

    /// Runs code with the default timeout; any reply will do.
    pub(crate) async fn exec(&self, language: Language, code: &str) -> ExecuteResponse {
        self.run(self.options(language, code)).await
    }

    /// Runs code with a timeout; any reply will do.
    pub(crate) async fn exec_within(
        &self,
        timeout: Duration,
        language: Language,
        code: &str,
    ) -> ExecuteResponse {
        let mut options = self.options(language, code);
        options.timeout = Some(duration(timeout));
        self.run(options).await
    }

    /// Runs code that must succeed.
    pub(crate) async fn good(&self, language: Language, code: &str) -> ExecuteResponse {
        let reply = self.exec(language, code).await;
        assert!(
            reply.outcome() == Outcome::Completed && reply.success && reply.exit_code == 0,
            "this failed:\n{code}\n{}",
            describe(&reply)
        );
        reply
    }

    /// Runs node code that must succeed and have a result.
    pub(crate) async fn node(&self, code: &str) -> String {
        let reply = self.good(Language::Node, code).await;
        reply
            .result
            .unwrap_or_else(|| panic!("no result of\n{code}"))
    }

    /// Runs python code that must succeed and have a result.
    pub(crate) async fn python(&self, code: &str) -> String {
        let reply = self.good(Language::Python, code).await;
        reply
            .result
            .unwrap_or_else(|| panic!("no result of\n{code}"))
    }

    /// Runs bash code that must succeed; what it printed, without the last newline.
    pub(crate) async fn bash(&self, code: &str) -> String {
        let reply = self.good(Language::Bash, code).await;
        reply.stdout.trim_end_matches('\n').to_owned()
    }

    /// Ends it.
    pub(crate) async fn stop(&self) -> StopSessionResponse {
        self.client.stop(&self.id).await.expect("a session stops")
    }

    /// The connection it was opened on.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The session as it is now.
    pub(crate) async fn now(&self) -> Session {
        self.client.get(&self.id).await.expect("it is known")
    }
}

/// A reply in words, with long output cut.
pub(crate) fn describe(reply: &ExecuteResponse) -> String {
    let cut = |text: &str| text.chars().take(2000).collect::<String>();
    format!(
        "outcome {:?}, exit code {}, killed {}, error {:?}\nresult: {:?}\nstdout: {}\nstderr: {}",
        reply.outcome(),
        reply.exit_code,
        reply.killed,
        reply.error,
        reply.result.as_deref().map(cut),
        cut(&reply.stdout),
        cut(&reply.stderr)
    )
}

/// The `ErrorInfo.reason` of an error, which every error has.
pub(crate) fn reason(status: &Status) -> String {
    let info = status
        .get_details_error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "pagebox", "{status:?}");
    info.reason
}

/// The fields an error names.
pub(crate) fn fields(status: &Status) -> Vec<String> {
    let request = status
        .get_details_bad_request()
        .unwrap_or_else(|| panic!("no BadRequest in {status:?}"));
    let violations = request.field_violations;
    violations.into_iter().map(|v| v.field).collect()
}

/// As the protos want it.
pub(crate) fn duration(value: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(value).expect("a short time")
}

/// Seconds, as the protos want them.
pub(crate) fn seconds(value: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration {
        seconds: value,
        nanos: 0,
    })
}

/// Environment entries.
pub(crate) fn environment(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}
