//! The director: the one task of a stage, and the one that speaks to the browser.
//!
//! It follows the active page, waits for no answer (but shortly as it lets go of a page), and ends when nobody looks any more. Here:
//! its state and its loop. Which page is shown is in `director/page.rs`, what the browser says in
//! `director/events.rs`, what people do in `director/acts.rs`, pictures in `director/cast.rs`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use self::acts::Copying;
use self::cast::Cast;
use super::held::Held;
use super::quality::Quality;
use super::scene::Scene;
use super::stage::{Command, Reply, Stage, Wanted};
use super::{ANSWER_LIMIT, LiveViews};
use crate::cdp::{self, Client, ClientKind, Handoff, Hub, HubEvent};
use crate::session::{Control, PersonId, Viewing};

mod acts;
mod cast;
mod events;
mod page;

/// Between two looks at what time brings: screenshots, quality.
const TICK: Duration = Duration::from_millis(50);
/// Before another attempt at a page that could not be attached to, or did not answer.
const RETRY: Duration = Duration::from_secs(1);
/// Answers of pages waited for; what is asked beyond that fails at once.
const MAX_ANSWERS: usize = 1024;
/// What is said when too much is under way.
const BUSY: &str = "the page does not answer; what you did was left out";
/// Worlds of frames that are remembered; of the oldest nothing more is asked.
const MAX_WORLDS: usize = 64;
/// The function by which our script tells us something.
const BINDING: &str = "pageboxTell";
/// Where downloads are put while somebody looks.
pub(super) const DOWNLOADS: &str = "/tmp/downloads";

/// What an answer is for.
#[derive(Debug)]
enum What {
    /// Nothing.
    Nothing,
    /// It frees a place for other input.
    Input,
    /// To be attached to this target.
    Attach(String),
    /// How many pixels the page has for one of CSS, and that it is not busy.
    Scale,
    /// A picture where the screencast has none.
    Screenshot,
    /// Where the page may go back and forward to.
    History,
    /// The same, to go there.
    Step(i32),
    /// The input that a chooser is for.
    Chooser { node: i64, multiple: bool },
    /// What is selected in a frame.
    Selection(Reply),
    /// A failure is told to who asked.
    Told(Reply),
}

/// An answer.
struct Done {
    session: Option<String>,
    what: What,
    /// It could open a page.
    opens: bool,
    answer: Result<Bytes, cdp::Error>,
}

/// The page that is shown.
#[derive(Debug)]
struct Shown {
    target: String,
    /// Once attached.
    session: Option<String>,
    cast: Option<Cast>,
    /// Our script is in it.
    watched: bool,
    /// Worlds of our script, the newest last.
    worlds: VecDeque<i64>,
    /// The list that is open: its id outside, its world, its id there.
    select: Option<(u64, i64, u64)>,
    /// The chooser that is open, and its input.
    chooser: Option<(u64, i64)>,
    /// Pixels for one of CSS.
    scale: f64,
    /// Where it is in its history is asked.
    history: Asking,
}

/// A question that is asked once at a time, whatever happens meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    No,
    Yes,
    /// And then once more: something has changed since.
    Again,
}

impl Shown {
    fn of(target: String) -> Self {
        Self {
            target,
            session: None,
            cast: None,
            watched: false,
            worlds: VecDeque::new(),
            select: None,
            chooser: None,
            scale: 1.0,
            history: Asking::No,
        }
    }
}

struct Director {
    stage: Arc<Stage>,
    viewing: Viewing,
    control: watch::Receiver<Control>,
    hub: Hub,
    client: Client,
    answers: FuturesUnordered<BoxFuture<'static, Done>>,
    shown: Option<Shown>,
    /// The active page.
    active: String,
    /// Popups shown in its stead, each opened by the one before; the last one is shown.
    popups: Vec<String>,
    /// When to try to attach again.
    retry: Option<Instant>,
    wanted: Wanted,
    quality: Quality,
    /// Of the last picture.
    number: u32,
    /// Of the last list or chooser.
    last_id: u64,
    /// Input that is not answered.
    inputs: usize,
    /// A screenshot is being taken.
    is_shooting: bool,
    /// What people hold down.
    held: Held,
    /// Who is in control.
    holder: Option<PersonId>,
    /// The dialog that was answered last.
    answered: Option<u64>,
    /// What a person has made the viewport.
    viewport: Option<(u32, u32)>,
    /// What a person did that may open a page, and is not answered.
    acting: usize,
    /// When the last of it was asked for or answered.
    acted: Option<Instant>,
    /// What is selected is being read.
    copying: Option<Copying>,
    /// Where the mouse is.
    pointer: (f64, f64),
    /// What is dragged over the page, and whether the page knows.
    drag: Option<(Value, bool)>,
}

/// Runs a stage until nobody looks at it, or its browser is gone.
pub(super) async fn run(
    views: LiveViews,
    stage: Arc<Stage>,
    inbox: mpsc::Receiver<Command>,
    viewing: Viewing,
) {
    let id = viewing.id();
    let directed = match viewing.hub() {
        None => Err(cdp::Error::Closed),
        Some(hub) => match hub.client(ClientKind::Live).await {
            Ok(client) => {
                let director = Director::new(Arc::clone(&stage), viewing, hub, client);
                director.direct(&views, inbox).await
            }
            Err(error) => Err(error),
        },
    };
    views.close(id, &stage);
    if let Err(error) = directed {
        tracing::debug!(%error, "the live view is over");
        stage.over.send_replace(Some(error.to_string()));
    }
}

impl Director {
    fn new(stage: Arc<Stage>, viewing: Viewing, hub: Hub, client: Client) -> Self {
        Self {
            stage,
            control: viewing.control(),
            viewing,
            hub,
            client,
            answers: FuturesUnordered::new(),
            shown: None,
            active: String::new(),
            popups: Vec::new(),
            retry: None,
            wanted: Wanted::default(),
            quality: Quality::default(),
            number: 0,
            last_id: 0,
            inputs: 0,
            is_shooting: false,
            held: Held::default(),
            holder: None,
            answered: None,
            viewport: None,
            acting: 0,
            acted: None,
            copying: None,
            pointer: (0.0, 0.0),
            drag: None,
        }
    }

    async fn direct(
        mut self,
        views: &LiveViews,
        mut inbox: mpsc::Receiver<Command>,
    ) -> Result<(), cdp::Error> {
        let (viewing, stage) = (self.viewing.clone(), Arc::clone(&self.stage));
        let ending = viewing.ends();
        tokio::pin!(ending);
        // Before the first look, so that nothing falls between.
        let mut changes = self.hub.changes();
        let mut events = self.hub.events();
        let mut handoffs = self.hub.handoffs();
        self.asked(&handoffs.borrow_and_update());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let downloads = json!({
            "behavior": "allow", "downloadPath": DOWNLOADS, "eventsEnabled": true,
        });
        self.ask(
            None,
            "Browser.setDownloadBehavior",
            downloads,
            What::Nothing,
        )
        .await?;
        self.looked().await?;
        self.follow().await?;
        loop {
            let has_answers = !self.answers.is_empty();
            // A cut would take away what is being read.
            let may_act = self.copying.is_none();
            tokio::select! {
                _ = &mut ending => return Ok(()),
                event = self.client.event() => {
                    let (method, session, params) = event.ok_or(cdp::Error::Closed)?;
                    self.event(&method, session.as_deref(), params.get()).await?;
                }
                Some(done) = self.answers.next(), if has_answers => self.done(done).await?,
                Some(command) = inbox.recv(), if may_act => self.act(command).await?,
                () = stage.looked.notified() => {
                    self.act_before(&mut inbox).await?;
                    if self.stage.wanted().viewers == 0
                        && views.close_if_empty(&viewing, &stage)
                    {
                        return self.leave().await;
                    }
                    self.looked().await?;
                }
                // The session holds the sender.
                Ok(()) = self.control.changed() => {
                    self.act_before(&mut inbox).await?;
                    self.looked().await?;
                }
                // The hub holds the sender.
                Ok(()) = changes.changed() => self.follow().await?,
                Ok(()) = handoffs.changed() => self.asked(&handoffs.borrow_and_update()),
                event = events.recv() => match event {
                    Ok(HubEvent::PageOpened(page)) => self.opened(&page).await?,
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Err(cdp::Error::Closed),
                },
                _ = ticks.tick() => self.tick().await?,
            }
        }
    }

    /// Does what people did before something else changed; not before a selection is read that it would
    /// take away, if somebody is there to have it.
    async fn act_before(&mut self, inbox: &mut mpsc::Receiver<Command>) -> Result<(), cdp::Error> {
        for _ in 0..inbox.len() {
            if self.stage.wanted().viewers == 0 {
                self.copying = None;
            }
            if self.copying.is_some() {
                break;
            }
            let Ok(command) = inbox.try_recv() else { break };
            self.act(command).await?;
        }
        Ok(())
    }

    /// Sends a command; what to do with its answer comes later, in the order of answers.
    async fn ask(
        &mut self,
        session: Option<String>,
        method: &'static str,
        params: Value,
        what: What,
    ) -> Result<(), cdp::Error> {
        // The browser itself always answers.
        if session.is_some() && self.answers.len() >= MAX_ANSWERS {
            let answer = Err(cdp::Error::Refused {
                method: method.to_owned(),
                code: 0,
                message: BUSY.to_owned(),
            });
            let done = Done {
                session,
                what,
                opens: false,
                answer,
            };
            self.answers.push(std::future::ready(done).boxed());
            return Ok(());
        }
        let sent = self
            .client
            .send(session.as_deref(), method, &params)
            .await?;
        let opens = acts::may_open(method, &params);
        if opens {
            self.acting += 1;
            self.acted = Some(Instant::now());
        }
        let limit = ANSWER_LIMIT;
        let answer = async move {
            let answer = match timeout(limit, sent.answer()).await {
                Ok(answer) => answer,
                Err(_) => Err(cdp::Error::Timeout {
                    what: method,
                    limit,
                }),
            };
            Done {
                session,
                what,
                opens,
                answer,
            }
        };
        self.answers.push(answer.boxed());
        Ok(())
    }

    /// The session of the page that is shown, once attached.
    fn session(&self) -> Option<String> {
        self.shown.as_ref()?.session.clone()
    }

    /// Sends a command to the page that is shown, if there is one.
    async fn tell_page(
        &mut self,
        method: &'static str,
        params: Value,
        what: What,
    ) -> Result<(), cdp::Error> {
        match self.session() {
            None => Ok(()),
            session => self.ask(session, method, params, what).await,
        }
    }

    /// Changes what viewers are told.
    fn show(&self, change: impl FnOnce(&mut Scene)) {
        self.stage.scene.send_if_modified(|scene| {
            let before = scene.clone();
            change(scene);
            before != *scene
        });
    }

    /// Nobody looks any more.
    async fn leave(mut self) -> Result<(), cdp::Error> {
        self.leave_page().await
    }

    /// Who looks is not the same.
    async fn looked(&mut self) -> Result<(), cdp::Error> {
        let holder = self.control.borrow().holder;
        let is_other = std::mem::replace(&mut self.holder, holder) != holder;
        let stage = Arc::clone(&self.stage);
        self.wanted = stage.wanted();
        self.wanted.acts &= holder.is_some();
        let is_watched = self.shown.as_ref().is_some_and(|shown| shown.watched);
        // A page that is left now is waited for as it lets go.
        if self.wanted.acts || !is_watched {
            self.let_go(|viewer| is_other || !stage.is_here(viewer))
                .await?;
        }
        let viewers = self.wanted.viewers;
        self.show(|scene| scene.viewers = viewers);
        self.acknowledge().await?;
        self.cast().await?;
        self.watch_page().await
    }

    /// Code asks for a person, or does not any more.
    fn asked(&self, handoffs: &[Handoff]) {
        let reason = handoffs.first().map(|handoff| handoff.reason.clone());
        self.show(|scene| scene.reason = reason);
    }

    /// Some time has passed.
    async fn tick(&mut self) -> Result<(), cdp::Error> {
        if self.retry.is_some_and(|at| at <= Instant::now()) {
            self.follow().await?;
        }
        self.copy_in_time().await?;
        self.look_at_time().await
    }
}
