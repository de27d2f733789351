//! Pictures: a screencast while somebody sees it, in the quality that viewers take, and a screenshot
//! where the screencast has none, since nothing on the page moves or it was lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{Director, RETRY, What};
use crate::cdp;
use crate::live::frame::Picture;
use crate::live::quality::Step;

/// How long the screencast may take for its first picture, before a screenshot is taken.
const FIRST: Duration = Duration::from_millis(80);
/// Between two looks at how fast viewers take pictures.
const WINDOW: Duration = Duration::from_secs(2);
/// A screencast goes on for so long before it is begun again for another size, or ended since nobody
/// sees it.
const STEADY: Duration = Duration::from_millis(500);
/// Sizes are multiples of it, so that not every pixel of a window's edge begins another screencast.
const GRAIN: u32 = 160;
/// Pictures Chromium sends without being told that it may. What the page looks like next is then lost, and
/// with a page that moves no more it is never sent.
const IN_FLIGHT: usize = 2;
/// With one to spare.
const MAX_PENDING: usize = IN_FLIGHT + 1;
/// How long after such pictures the next may take, before a screenshot is taken.
const LAST: Duration = Duration::from_millis(150);

/// What a screencast is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settings {
    quality: u8,
    width: u32,
    height: u32,
}

impl Settings {
    fn of(step: Step, size: (u32, u32)) -> Self {
        let edge = |wanted: u32| wanted.next_multiple_of(GRAIN).clamp(GRAIN, step.edge);
        Self {
            quality: step.quality,
            width: edge(size.0),
            height: edge(size.1),
        }
    }
}

/// A screencast that goes on.
#[derive(Debug)]
pub(super) struct Cast {
    settings: Settings,
    since: Instant,
    /// A picture of the right size has come since the screenshot was asked for.
    is_seen: bool,
    /// One may have been lost.
    is_behind: bool,
    /// When to take a screenshot, unless a picture has come.
    shot: Option<Instant>,
    /// Since when nobody sees it.
    unseen: Option<Instant>,
    /// When to look at how fast viewers are.
    window: Instant,
    /// Pictures that nobody has taken: number, and what Chromium is to be told then.
    pending: VecDeque<(u32, i64)>,
}

impl Cast {
    /// Whether the screencast has sent any.
    pub(super) fn has_pictures(&self) -> bool {
        self.is_seen
    }
}

impl Director {
    /// Begins, changes or ends the screencast, as is wanted now.
    pub(super) async fn cast(&mut self) -> Result<(), cdp::Error> {
        let wanted = self.wanted;
        let settings = Settings::of(self.quality.step(), wanted.size);
        let Some(shown) = self.shown.as_mut().filter(|shown| shown.session.is_some()) else {
            return Ok(());
        };
        let now = Instant::now();
        let was_going = match &mut shown.cast {
            None if !wanted.visible => return Ok(()),
            None => false,
            Some(cast) if !wanted.visible => {
                if *cast.unseen.get_or_insert(now) + STEADY > now {
                    return Ok(());
                }
                shown.cast = None;
                // Whoever looks next is not shown what was long ago.
                self.stage.frames.send_replace(None);
                return self
                    .tell_page("Page.stopScreencast", json!({}), What::Nothing)
                    .await;
            }
            Some(cast) => {
                cast.unseen = None;
                if cast.settings == settings || cast.since + STEADY > now {
                    return Ok(());
                }
                true
            }
        };
        shown.cast = Some(Cast {
            settings,
            since: now,
            is_seen: false,
            is_behind: false,
            shot: Some(now + FIRST),
            unseen: None,
            window: now + WINDOW,
            pending: VecDeque::new(),
        });
        if was_going {
            self.tell_page("Page.stopScreencast", json!({}), What::Nothing)
                .await?;
        }
        let params = json!({
            "format": "jpeg", "quality": settings.quality, "everyNthFrame": 1,
            "maxWidth": settings.width, "maxHeight": settings.height,
        });
        self.tell_page("Page.startScreencast", params, What::Nothing)
            .await
    }

    /// The page has come back from a crash: its screencast has not.
    pub(super) async fn cast_again(&mut self) -> Result<(), cdp::Error> {
        if let Some(shown) = &mut self.shown {
            shown.cast = None;
        }
        self.tell_page("Page.stopScreencast", json!({}), What::Nothing)
            .await?;
        self.cast().await
    }

    /// A picture of the screencast.
    pub(super) async fn screencast(&mut self, params: &str) -> Result<(), cdp::Error> {
        let Some(cast) = self.shown.as_mut().and_then(|shown| shown.cast.as_mut()) else {
            return Ok(());
        };
        let Some((picture, acknowledge)) = Picture::of_screencast(params) else {
            tracing::debug!("a picture was not understood");
            return Ok(());
        };
        let size = (u32::from(picture.width), u32::from(picture.height));
        // One of the size the page had before is not the one that is waited for.
        if self.viewport.is_none_or(|viewport| viewport == size) {
            cast.shot = None;
            cast.is_seen = true;
        }
        cast.pending.push_back((self.number + 1, acknowledge));
        cast.is_behind |= cast.pending.len() >= IN_FLIGHT;
        self.publish(picture);
        self.acknowledge().await
    }

    /// A picture for all.
    pub(super) fn publish(&mut self, picture: Picture) {
        self.number += 1;
        let viewport = (picture.width, picture.height);
        self.show(|scene| scene.viewport = viewport);
        let frame = Arc::new(picture.numbered(self.number));
        self.stage.frames.send_replace(Some(frame));
    }

    /// Tells Chromium that it may send more, once the fastest viewer has taken what there is.
    pub(super) async fn acknowledge(&mut self) -> Result<(), cdp::Error> {
        let taken = self.wanted.acked.max(self.stage.wanted().acked);
        loop {
            let Some(cast) = self.shown.as_mut().and_then(|shown| shown.cast.as_mut()) else {
                return Ok(());
            };
            let too_many = cast.pending.len() > MAX_PENDING;
            let next = cast.pending.front().copied();
            let Some((_, id)) = next.filter(|(number, _)| *number <= taken || too_many) else {
                return Ok(());
            };
            cast.pending.pop_front();
            if cast.pending.is_empty() && std::mem::take(&mut cast.is_behind) {
                cast.shot = Some(Instant::now() + LAST);
            }
            let params = json!({ "sessionId": id });
            self.tell_page("Page.screencastFrameAck", params, What::Nothing)
                .await?;
        }
    }

    /// The page has answered: takes the screenshot, unless a picture has come meanwhile.
    pub(super) async fn shoot(&mut self) -> Result<(), cdp::Error> {
        let cast = self.shown.as_mut().and_then(|shown| shown.cast.as_mut());
        let Some(cast) = cast.filter(|cast| cast.shot.is_some()) else {
            return Ok(());
        };
        cast.shot = None;
        cast.is_seen = false;
        self.is_shooting = true;
        let quality = cast.settings.quality;
        let params = json!({ "format": "jpeg", "quality": quality, "optimizeForSpeed": true });
        self.tell_page("Page.captureScreenshot", params, What::Screenshot)
            .await
    }

    /// The page is about to look different, which a screencast may miss: a screenshot is taken unless it does not.
    pub(super) fn shoot_soon(&mut self) {
        let cast = self.shown.as_mut().and_then(|shown| shown.cast.as_mut());
        if let Some(cast) = cast {
            cast.shot = Some(Instant::now() + LAST);
        }
    }

    /// It did not answer: it is asked again later.
    pub(super) fn shoot_later(&mut self) {
        let cast = self.shown.as_mut().and_then(|shown| shown.cast.as_mut());
        if let Some(shot) = cast.and_then(|cast| cast.shot.as_mut()) {
            *shot = Instant::now() + RETRY;
        }
    }

    /// Asks for a screenshot where no picture has come, and looks at how good pictures may be.
    pub(super) async fn look_at_time(&mut self) -> Result<(), cdp::Error> {
        let Some(cast) = self.shown.as_mut().and_then(|shown| shown.cast.as_mut()) else {
            return Ok(());
        };
        let now = Instant::now();
        let is_due =
            !self.is_shooting && cast.unseen.is_none() && cast.shot.is_some_and(|shot| shot <= now);
        let is_over = cast.window <= now;
        if is_over {
            cast.window = now + WINDOW;
        }
        if is_due {
            // A busy page would hold a screenshot up: first it must answer something else.
            self.is_shooting = true;
            self.tell_page("Page.getLayoutMetrics", json!({}), What::Scale)
                .await?;
        }
        if is_over {
            let needed = self.stage.take_needed();
            self.quality.seen(&needed);
        }
        self.cast().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screencast_is_as_large_as_viewers_and_their_pace_allow() {
        let step = |edge| Step { quality: 60, edge };
        for (edge, size, asked) in [
            (1920, (1170, 700), (1280, 800)),
            (1280, (3840, 2160), (1280, 1280)),
            (960, (0, 1), (160, 160)),
            (1920, (1280, 720), (1280, 800)),
        ] {
            let settings = Settings::of(step(edge), size);
            assert_eq!((settings.width, settings.height), asked);
        }
    }
}
