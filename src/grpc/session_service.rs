//! `pagebox.v1.SessionService`.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::call::{Deadline, answer, caller};
use super::v1::session_service_server::SessionService;
use super::{Limits, field, network, v1, view};
use crate::session::{Registry, SessionEvent};

/// The service over a registry.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    registry: Registry,
    limits: Limits,
}

impl Sessions {
    pub(super) fn new(registry: Registry, limits: Limits) -> Self {
        Self { registry, limits }
    }
}

type EventStream = Pin<Box<dyn Stream<Item = Result<v1::WatchSessionResponse, Status>> + Send>>;

#[tonic::async_trait]
impl SessionService for Sessions {
    async fn create_session(
        &self,
        request: Request<v1::CreateSessionRequest>,
    ) -> Result<Response<v1::CreateSessionResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        answer("CreateSession", &metadata, async {
            let options = field::session_options("options.", request.options, self.limits)?;
            let key = field::idempotency_key(request.idempotency_key)?;
            let view = self
                .registry
                .create(&caller(&extensions)?, options, key)
                .await?;
            Ok(v1::CreateSessionResponse {
                session: Some(view::session(view)),
            })
        })
        .await
    }

    async fn get_session(
        &self,
        request: Request<v1::GetSessionRequest>,
    ) -> Result<Response<v1::GetSessionResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        answer("GetSession", &metadata, async {
            let id = field::session_id("session_id", &request.session_id)?;
            let (session, requests) = self.registry.get(&caller(&extensions)?.owner, id).await?;
            Ok(v1::GetSessionResponse {
                session: Some(view::session(session)),
                network_requests: requests.into_iter().map(network::request).collect(),
            })
        })
        .await
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        answer("ListSessions", &metadata, async {
            let states = field::states(&request.states)?;
            let limit = field::page_size(request.page_size)?;
            let after = field::page_token(&request.page_token)?;
            let (views, last) =
                self.registry
                    .list(&caller(&extensions)?.owner, &states, after, limit);
            Ok(v1::ListSessionsResponse {
                sessions: views.into_iter().map(view::session).collect(),
                next_page_token: field::next_page_token(last),
            })
        })
        .await
    }

    async fn stop_session(
        &self,
        request: Request<v1::StopSessionRequest>,
    ) -> Result<Response<v1::StopSessionResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        answer("StopSession", &metadata, async {
            let id = field::session_id("session_id", &request.session_id)?;
            let view = self.registry.stop(&caller(&extensions)?.owner, id).await?;
            Ok(v1::StopSessionResponse {
                duration: view::lifetime(&view),
                session: Some(view::session(view)),
            })
        })
        .await
    }

    async fn take_control(
        &self,
        request: Request<v1::TakeControlRequest>,
    ) -> Result<Response<v1::TakeControlResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        answer("TakeControl", &metadata, async {
            let id = field::session_id("session_id", &request.session_id)?;
            let owner = caller(&extensions)?.owner;
            let view = self.registry.take_control(&owner, id).await?;
            Ok(v1::TakeControlResponse {
                session: Some(view::session(view)),
            })
        })
        .await
    }

    async fn release_control(
        &self,
        request: Request<v1::ReleaseControlRequest>,
    ) -> Result<Response<v1::ReleaseControlResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        answer("ReleaseControl", &metadata, async {
            let id = field::session_id("session_id", &request.session_id)?;
            let owner = caller(&extensions)?.owner;
            let view = self.registry.give_control_back(&owner, id).await?;
            Ok(v1::ReleaseControlResponse {
                session: Some(view::session(view)),
            })
        })
        .await
    }

    type WatchSessionStream = EventStream;

    async fn watch_session(
        &self,
        request: Request<v1::WatchSessionRequest>,
    ) -> Result<Response<EventStream>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        answer("WatchSession", &metadata, async {
            let deadline = Deadline::of(&metadata)?;
            let id = field::session_id("session_id", &request.session_id)?;
            let events = self.registry.watch(&caller(&extensions)?.owner, id).await?;
            let events = ReceiverStream::new(events);
            Ok(watch(events, deadline))
        })
        .await
    }
}

fn watch(
    events: impl Stream<Item = SessionEvent> + Send + Unpin + 'static,
    deadline: Deadline,
) -> EventStream {
    // `None` once the deadline has passed.
    let stream = futures_util::stream::unfold(Some(events), move |events| async move {
        let mut events = events?;
        match deadline.bound(events.next()).await {
            Ok(event) => Some((Ok(view::session_event(event?)), Some(events))),
            Err(error) => Some((Err(error.into()), None)),
        }
    });
    Box::pin(stream)
}
