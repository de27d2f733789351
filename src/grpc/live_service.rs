//! `pagebox.v1.LiveService`.

use std::pin::Pin;

use futures_util::Stream;
use tonic::{Request, Response, Status};

use super::call::{Deadline, answer, caller};
use super::field::FieldError;
use super::v1::live_service_server::LiveService;
use super::{field, v1};
use crate::live::{Frame, LiveViews, Pictures};
use crate::session::{Registry, SessionView, Token};

/// Longest edge when nothing is said, and what may be.
const DEFAULT_EDGE: u32 = 1280;
const EDGE: std::ops::RangeInclusive<u32> = 160..=7680;

/// The service over a registry and its live views.
#[derive(Clone, Debug)]
pub(super) struct Views {
    registry: Registry,
    views: LiveViews,
}

impl Views {
    pub(super) fn new(registry: Registry, views: LiveViews) -> Self {
        Self { registry, views }
    }
}

type FrameStream = Pin<Box<dyn Stream<Item = Result<v1::FramesResponse, Status>> + Send>>;

#[tonic::async_trait]
impl LiveService for Views {
    type FramesStream = FrameStream;

    async fn frames(
        &self,
        request: Request<v1::FramesRequest>,
    ) -> Result<Response<FrameStream>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        answer("Frames", &metadata, async {
            let deadline = Deadline::of(&metadata)?;
            let id = field::session_id("session_id", &request.session_id)?;
            let edge = match request.edge {
                0 => DEFAULT_EDGE,
                edge if EDGE.contains(&edge) => edge,
                edge => {
                    let (least, most) = (EDGE.start(), EDGE.end());
                    let message = format!("is {edge}, must be {least} to {most}");
                    return Err(FieldError::new("edge", message).into());
                }
            };
            let owner = caller(&extensions)?.owner;
            let pictures = self.views.pictures(&owner, id, edge).await?;
            Ok(stream(pictures, deadline))
        })
        .await
    }

    async fn get_live_view(
        &self,
        request: Request<v1::GetLiveViewRequest>,
    ) -> Result<Response<v1::GetLiveViewResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        answer("GetLiveView", &metadata, async {
            let id = field::session_id("session_id", &request.session_id)?;
            let (view, _) = self.registry.get(&caller(&extensions)?.owner, id).await?;
            Ok(v1::GetLiveViewResponse {
                live_view: Some(paths(&view)),
            })
        })
        .await
    }

    async fn renew_live_view(
        &self,
        request: Request<v1::RenewLiveViewRequest>,
    ) -> Result<Response<v1::RenewLiveViewResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        answer("RenewLiveView", &metadata, async {
            let id = field::session_id("session_id", &request.session_id)?;
            let owner = caller(&extensions)?.owner;
            let view = self.registry.revoke_live_view(&owner, id).await?;
            Ok(v1::RenewLiveViewResponse {
                live_view: Some(paths(&view)),
            })
        })
        .await
    }
}

fn paths(view: &SessionView) -> v1::LiveView {
    let path = |token: &Token| format!("/live/{}#{}", view.id, token.as_str());
    match &view.live_tokens {
        Some(tokens) if !view.state.ended() => v1::LiveView {
            view_path: path(&tokens.view),
            control_path: path(&tokens.control),
        },
        _ => v1::LiveView::default(),
    }
}

fn stream(pictures: Pictures, deadline: Deadline) -> FrameStream {
    // `None` once the deadline has passed.
    let stream = futures_util::stream::unfold(Some(pictures), move |pictures| async move {
        let mut pictures = pictures?;
        match deadline.bound(pictures.next()).await {
            Ok(frame) => Some((Ok(picture(&*frame?)), Some(pictures))),
            Err(error) => Some((Err(error.into()), None)),
        }
    });
    Box::pin(stream)
}

fn picture(frame: &Frame) -> v1::FramesResponse {
    v1::FramesResponse {
        number: frame.number,
        viewport: Some(v1::Viewport {
            width: frame.width.into(),
            height: frame.height.into(),
        }),
        image: frame.image.to_vec(),
    }
}
