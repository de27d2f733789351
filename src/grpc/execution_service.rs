//! `pagebox.v1.ExecutionService`.

use std::pin::Pin;

use futures_util::Stream;
use tonic::{Extensions, Request, Response, Status};

use super::call::{Deadline, answer, caller};
use super::status::Error;
use super::v1::execute_stream_response::Event;
use super::v1::execution_service_server::ExecutionService;
use super::{Limits, field, prompt, v1, view};
use crate::agent::{Agent, Prompt};
use crate::execution::{self, ExecutionEvent};
use crate::limits::Bytes;
use crate::session::{Execution, Registry, Text};

/// The service over a registry.
#[derive(Clone, Debug)]
pub(super) struct Executions {
    registry: Registry,
    agent: Agent,
    limits: Limits,
}

impl Executions {
    pub(super) fn new(registry: Registry, agent: Agent, limits: Limits) -> Self {
        Self {
            registry,
            agent,
            limits,
        }
    }

    async fn start(
        &self,
        extensions: &Extensions,
        options: Option<v1::ExecutionOptions>,
    ) -> Result<Execution, Error> {
        let caller = caller(extensions)?;
        let (place, options) = field::execution(options, self.limits)?;
        Ok(self.registry.execute(&caller, place, options).await?)
    }

    async fn begin(
        &self,
        extensions: &Extensions,
        options: Option<v1::PromptOptions>,
    ) -> Result<Prompt, Error> {
        let caller = caller(extensions)?;
        let (place, options) = prompt::options(options, self.limits)?;
        Ok(self.agent.prompt(&caller, place, options).await?)
    }
}

type EventStream = Pin<Box<dyn Stream<Item = Result<v1::ExecuteStreamResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ExecutionService for Executions {
    async fn execute(
        &self,
        request: Request<v1::ExecuteRequest>,
    ) -> Result<Response<v1::ExecuteResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        answer("Execute", &metadata, async {
            let execution = self.start(&extensions, request.options).await?;
            let id = execution.id;
            let whole = execution.collect().await.ok_or(Error::NoReport(id))?;
            let reply = view::report(whole.report, whole.stdout, whole.stderr);
            check_size(&reply, self.limits.message)?;
            Ok(reply)
        })
        .await
    }

    type ExecuteStreamStream = EventStream;

    async fn execute_stream(
        &self,
        request: Request<v1::ExecuteStreamRequest>,
    ) -> Result<Response<EventStream>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        answer("ExecuteStream", &metadata, async {
            let deadline = Deadline::of(&metadata)?;
            let execution = self.start(&extensions, request.options).await?;
            Ok(stream(execution, deadline, self.limits.message))
        })
        .await
    }

    async fn prompt(
        &self,
        request: Request<v1::PromptRequest>,
    ) -> Result<Response<v1::PromptResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        answer("Prompt", &metadata, async {
            let prompt = self.begin(&extensions, request.options).await?;
            let id = prompt.id;
            let report = prompt.collect().await.ok_or(Error::NoReport(id))?;
            let reply = prompt::report(report);
            check_size(&reply, self.limits.message)?;
            Ok(reply)
        })
        .await
    }

    type PromptStreamStream = prompt::EventStream;

    async fn prompt_stream(
        &self,
        request: Request<v1::PromptStreamRequest>,
    ) -> Result<Response<prompt::EventStream>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        answer("PromptStream", &metadata, async {
            let deadline = Deadline::of(&metadata)?;
            let prompt = self.begin(&extensions, request.options).await?;
            Ok(prompt::stream(prompt, deadline, self.limits.message))
        })
        .await
    }

    async fn cancel_execution(
        &self,
        request: Request<v1::CancelExecutionRequest>,
    ) -> Result<Response<v1::CancelExecutionResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        answer("CancelExecution", &metadata, async {
            let id = field::execution_id("execution_id", &request.execution_id)?;
            Ok(v1::CancelExecutionResponse {
                cancelled: self
                    .registry
                    .cancel(&caller(&extensions)?.owner, id)
                    .await?,
            })
        })
        .await
    }
}

pub(super) fn check_size(reply: &impl prost::Message, limit: Bytes) -> Result<(), Error> {
    let size = Bytes(reply.encoded_len() as u64);
    if size > limit {
        return Err(Error::ReplyTooLarge(size, limit));
    }
    Ok(())
}

/// The execution's events; it is dropped, and so killed, with the stream or at the deadline.
fn stream(execution: Execution, deadline: Deadline, limit: Bytes) -> EventStream {
    let stream = futures_util::stream::unfold(Some(execution), move |execution| async move {
        let mut execution = execution?;
        let event = deadline.bound(execution.events.recv()).await;
        let event = event.and_then(|event| event.ok_or(Error::NoReport(execution.id)));
        let item = event.and_then(|event| wire_event(&execution, event, limit));
        match item {
            Ok(event @ Event::Finished(_)) => Some((Ok(event), None)),
            Ok(event) => Some((Ok(event), Some(execution))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Box::pin(futures_util::StreamExt::map(stream, |item| {
        let event = Some(item?);
        Ok(v1::ExecuteStreamResponse { event })
    }))
}

fn wire_event(execution: &Execution, event: ExecutionEvent, limit: Bytes) -> Result<Event, Error> {
    Ok(match event {
        ExecutionEvent::Started { time } => Event::Started(v1::ExecutionStarted {
            execution_id: execution.id.to_string(),
            session_id: execution.session_id.to_string(),
            start_time: Some(view::timestamp(time)),
        }),
        ExecutionEvent::Output(execution::Stream::Stdout, piece) => Event::Stdout(piece.into()),
        ExecutionEvent::Output(execution::Stream::Stderr, piece) => Event::Stderr(piece.into()),
        ExecutionEvent::Finished(report) => {
            let reply = view::report(*report, Text::default(), Text::default());
            check_size(&reply, limit)?;
            Event::Finished(reply)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use futures_util::StreamExt as _;
    use tokio::sync::mpsc;

    use super::*;

    fn execution() -> (mpsc::Sender<ExecutionEvent>, Execution) {
        let (sender, events) = mpsc::channel(4);
        (sender, Execution::of_events(events))
    }

    fn no_deadline() -> Deadline {
        Deadline::of(&tonic::metadata::MetadataMap::new()).unwrap()
    }

    #[tokio::test]
    async fn dropping_the_stream_drops_the_execution() {
        let (sender, execution) = execution();
        let mut stream = stream(execution, no_deadline(), Bytes::mib(1));
        let time = SystemTime::now();
        sender.send(ExecutionEvent::Started { time }).await.unwrap();
        assert!(matches!(
            stream.next().await,
            Some(Ok(v1::ExecuteStreamResponse {
                event: Some(Event::Started(_))
            }))
        ));
        drop(stream);
        assert!(sender.is_closed());
    }

    #[tokio::test]
    async fn output_keeps_its_bytes_and_a_lost_report_is_an_error() {
        let (sender, execution) = execution();
        let mut stream = stream(execution, no_deadline(), Bytes::mib(1));
        let piece = bytes::Bytes::from_static(b"\xff\0");
        let event = ExecutionEvent::Output(execution::Stream::Stderr, piece);
        sender.send(event).await.unwrap();
        drop(sender);
        let first = stream.next().await.unwrap().unwrap();
        assert_eq!(first.event, Some(Event::Stderr(b"\xff\0".to_vec())));
        let status = stream.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::Internal);
        assert!(stream.next().await.is_none());
    }

    #[test]
    fn a_reply_too_large_for_a_message_is_refused() {
        let reply = v1::ExecuteResponse {
            stdout: "x".repeat(100),
            ..v1::ExecuteResponse::default()
        };
        assert!(check_size(&reply, Bytes(1000)).is_ok());
        assert!(matches!(
            check_size(&reply, Bytes(100)),
            Err(Error::ReplyTooLarge(_, Bytes(100)))
        ));
    }
}
