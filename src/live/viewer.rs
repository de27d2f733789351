//! One viewer: a WebSocket, from its hello to its end.
//!
//! What comes in and what goes out do not wait for each other: a viewer whose line is slow gets few
//! pictures, and what it does arrives all the same.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::frame::Frame;
use super::message::{ControlWish, FromViewer, MAX_MESSAGE, MouseKind, Shown, Size};
use super::scene::Scene;
use super::stage::{Command, Joined, Look, Reply};
use super::{Error, LiveViews};
use crate::id::SessionId;
use crate::session::{self, Asked, Control, May, Person, Viewing};

/// How long a viewer may take to say hello.
const HELLO: Duration = Duration::from_secs(10);
/// How long one message may take on its way out.
const WRITE_LIMIT: Duration = Duration::from_secs(60);
/// How long a close frame may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// Between two pings, and two looks at who has done nothing.
const PING: Duration = Duration::from_secs(15);
/// One that has not said anything for so long, pongs included, is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// Messages for one viewer alone that wait; the newest are left out.
const REPLIES: usize = 32;
/// Between two notes that another one is in control.
const NOTE_PAUSE: Duration = Duration::from_secs(3);
/// Longest reason in a close frame.
const MAX_REASON: usize = 120;

/// How a connection ends.
struct End {
    code: CloseCode,
    reason: String,
}

impl End {
    fn new(code: CloseCode, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { code, reason }
    }

    fn policy(reason: impl Into<String>) -> Self {
        Self::new(CloseCode::Policy, reason)
    }

    /// The session has ended: why, as its own viewers know which.
    fn session(error: &session::Error) -> Self {
        match error {
            session::Error::SessionEnded { detail, .. } => Self::new(CloseCode::Normal, detail),
            other => Self::new(CloseCode::Normal, other.to_string()),
        }
    }

    /// The other side has ended it, or does not answer: the session goes on.
    fn gone() -> Self {
        Self::new(CloseCode::Away, "")
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        let reason = error.to_string();
        match error {
            Error::TooManyViewers => Self::new(CloseCode::Again, reason),
            Error::Session(session::Error::SessionEnded { .. } | session::Error::Draining) => {
                Self::new(CloseCode::Normal, reason)
            }
            Error::Session(_) => Self::policy(reason),
        }
    }
}

/// What a viewer's two halves both know.
struct Seat {
    viewing: Viewing,
    joined: Joined,
    /// Of one who may act.
    person: Option<Person>,
    since: Instant,
    sent: Mutex<Sent>,
    /// It may be sent another picture.
    free: Notify,
    /// When it last did something on the page, and said anything.
    acted: Mutex<Instant>,
    /// When it was pinged.
    pinged: Mutex<Instant>,
    heard: Mutex<Instant>,
    /// How long it may be in control without doing anything.
    idle_limit: Duration,
}

/// The picture on its way.
struct Sent {
    number: u32,
    at: Instant,
    /// It has arrived.
    is_drawn: bool,
    /// Somebody sees the pictures.
    visible: bool,
    /// The newest one is to be sent once more.
    again: bool,
}

impl Seat {
    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_show(&self) -> bool {
        let sent = self.sent();
        sent.is_drawn && sent.visible
    }

    fn is_in_control(&self, control: &Control) -> bool {
        let person = self.person.as_ref();
        person.is_some_and(|person| control.holder == Some(person.id()))
    }
}

fn now_at(place: &Mutex<Instant>) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
}

fn since(place: &Mutex<Instant>) -> Duration {
    place
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .elapsed()
}

impl LiveViews {
    /// Serves one viewer on a connection whose WebSocket handshake is done, until either side or the
    /// session ends.
    pub async fn serve<S>(&self, id: SessionId, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let config = WebSocketConfig::default()
            .read_buffer_size(16 << 10)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
        let (mut sink, mut stream) = socket.split();
        let End { code, mut reason } = match self.hello(id, &mut stream).await {
            Ok((seat, control)) => {
                tracing::debug!(may = ?seat.viewing.may(), "a viewer has come");
                attend(&seat, control, &mut sink, &mut stream).await
            }
            Err(end) => end,
        };
        let ended = (code == CloseCode::Normal && !reason.is_empty())
            .then(|| text(&json!({ "type": "end", "reason": reason })));
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        tracing::debug!(?code, reason, "a viewer has gone");
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        let closing = async {
            if let Some(ended) = ended {
                sink.send(ended).await?;
            }
            sink.send(Message::Close(Some(frame))).await?;
            // Until the other side has closed too, or it loses what it has not read.
            while let Some(Ok(_)) = stream.next().await {}
            Ok::<_, tungstenite::Error>(())
        };
        // It may be gone already.
        let _ = timeout(CLOSE_LIMIT, closing).await;
    }

    /// Waits for the hello, and lets the viewer in.
    async fn hello<S>(
        &self,
        id: SessionId,
        stream: &mut SplitStream<WebSocketStream<S>>,
    ) -> Result<(Seat, watch::Receiver<Control>), End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let first = async {
            loop {
                match next(stream).await? {
                    Heard::Said(FromViewer::Hello { token, size }) => return Ok((token, size)),
                    Heard::Said(_) => return Err(End::policy("the first message must be a hello")),
                    Heard::Pong | Heard::Nothing => {}
                }
            }
        };
        let said: Result<(Shown, Size), End> = match timeout(HELLO, first).await {
            Ok(said) => said,
            Err(_) => Err(End::policy("no hello came")),
        };
        let (token, size) = said?;
        let viewing = self.registry.viewing(id, &token.0).await;
        let viewing = viewing.map_err(Error::Session)?;
        let acts = viewing.may() == May::Control;
        let joined = self.join(&viewing, Look::new(acts, size.pixels()))?;
        let control = viewing.control();
        let now = Instant::now();
        let seat = Seat {
            person: acts.then(|| viewing.person()),
            viewing,
            joined,
            since: now,
            sent: Mutex::new(Sent {
                number: 0,
                at: now,
                is_drawn: true,
                visible: true,
                again: false,
            }),
            free: Notify::new(),
            acted: Mutex::new(now),
            pinged: Mutex::new(now),
            heard: Mutex::new(now),
            idle_limit: self.registry.human_control(),
        };
        Ok((seat, control))
    }
}

/// What has come.
enum Heard {
    Said(FromViewer),
    /// The answer to a ping.
    Pong,
    /// Nothing of meaning here.
    Nothing,
}

/// The next message.
async fn next<S>(stream: &mut SplitStream<WebSocketStream<S>>) -> Result<Heard, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match stream.next().await {
        None | Some(Ok(Message::Close(_))) => Err(End::gone()),
        Some(Ok(Message::Text(text))) => {
            let read = FromViewer::read(&text);
            read.map(Heard::Said).map_err(End::policy)
        }
        Some(Ok(Message::Binary(_))) => Err(End::policy("messages are text here")),
        Some(Ok(Message::Pong(_))) => Ok(Heard::Pong),
        Some(Ok(Message::Ping(_) | Message::Frame(_))) => Ok(Heard::Nothing),
        Some(Err(tungstenite::Error::Capacity(_))) => {
            let reason = format!("a message is larger than {MAX_MESSAGE} bytes");
            Err(End::new(CloseCode::Size, reason))
        }
        Some(Err(_)) => Err(End::gone()),
    }
}

/// Serves a viewer that was let in; how it ends.
async fn attend<S>(
    seat: &Seat,
    control: watch::Receiver<Control>,
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    stream: &mut SplitStream<WebSocketStream<S>>,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (replies, inbox) = mpsc::channel(REPLIES);
    let mut tokens = seat.viewing.clone();
    let mut over = seat.joined.stage().over.subscribe();
    tokio::select! {
        end = listen(seat, control.clone(), Reply(replies), stream) => end,
        end = speak(seat, control, inbox, sink) => end,
        error = seat.viewing.ends() => End::session(&error),
        () = tokens.revoked() => End::policy("this link was withdrawn"),
        why = fault(&mut over) => match timeout(CLOSE_LIMIT, seat.viewing.ends()).await {
            // The browser went before its session.
            Ok(error) => End::session(&error),
            Err(_) => End::new(CloseCode::Error, why),
        },
    }
}

/// Waits until the stage is over, and says why.
async fn fault(over: &mut watch::Receiver<Option<String>>) -> String {
    match over.wait_for(Option::is_some).await {
        Ok(why) => why.clone().unwrap_or_default(),
        Err(_) => "the live view is over".to_owned(),
    }
}

fn text(message: &Value) -> Message {
    Message::text(message.to_string())
}

/// Reads what a viewer says, until it is gone or says what it may not.
async fn listen<S>(
    seat: &Seat,
    control: watch::Receiver<Control>,
    reply: Reply,
    stream: &mut SplitStream<WebSocketStream<S>>,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut noted: Option<Instant> = None;
    loop {
        let message = match next(stream).await {
            Ok(message) => message,
            Err(end) => return end,
        };
        now_at(&seat.heard);
        let message = match message {
            Heard::Said(message) => message,
            Heard::Pong => {
                seat.joined.heard_back(since(&seat.pinged));
                continue;
            }
            Heard::Nothing => continue,
        };
        if message.acts() && seat.person.is_none() {
            return End::policy("this link lets you look only");
        }
        match message {
            FromViewer::Hello { .. } => return End::policy("a second hello"),
            FromViewer::Ack { frame } => drawn(seat, frame),
            FromViewer::Size(size) => seat.joined.set_size(size.pixels()),
            FromViewer::Visible { is } => set_visible(seat, is),
            FromViewer::Control { what } => ask_for_control(seat, what, &reply),
            act => {
                let holder = control.borrow().holder;
                let is_free = holder.is_none() || seat.is_in_control(&control.borrow());
                if !is_free && act != FromViewer::Copy {
                    if noted.is_none_or(|noted| noted.elapsed() > NOTE_PAUSE) {
                        noted = Some(Instant::now());
                        reply.note("somebody else is in control of this page now");
                    }
                    continue;
                }
                now_at(&seat.acted);
                seat.viewing.touch();
                let is_move = matches!(&act, FromViewer::Mouse(m) if m.kind == MouseKind::Move);
                let reply = reply.clone();
                let viewer = seat.joined.id();
                let command = Command {
                    act,
                    reply,
                    viewer,
                    holder,
                };
                let commands = &seat.joined.stage().commands;
                if is_move {
                    // When there is no room, the next one says where the mouse is.
                    let _ = commands.try_send(command);
                } else if commands.send(command).await.is_err() {
                    return End::new(CloseCode::Error, "the live view is over");
                }
            }
        }
    }
}

/// Whether anybody sees the pictures.
fn set_visible(seat: &Seat, is: bool) {
    let mut sent = seat.sent();
    sent.visible = is;
    // What came while it was hidden is not drawn.
    sent.is_drawn = true;
    sent.again |= is;
    drop(sent);
    seat.joined.set_visible(is);
    seat.free.notify_one();
}

/// A picture has arrived.
fn drawn(seat: &Seat, number: u32) {
    let mut sent = seat.sent();
    if sent.number != number || sent.is_drawn {
        return;
    }
    sent.is_drawn = true;
    let needed = sent.at.elapsed();
    drop(sent);
    seat.joined.acked(number, needed);
    seat.free.notify_one();
}

fn ask_for_control(seat: &Seat, what: ControlWish, reply: &Reply) {
    let Some(person) = &seat.person else { return };
    now_at(&seat.acted);
    match what {
        ControlWish::Release => person.release(),
        ControlWish::Request => match person.request() {
            Asked::Granted => {}
            Asked::Waits => {
                reply.note("somebody else is in control; you are next when they are done")
            }
            Asked::Full => reply.note("too many people wait for control; try again later"),
        },
    }
}

/// Writes to a viewer what is new to it, until that fails.
async fn speak<S>(
    seat: &Seat,
    mut control: watch::Receiver<Control>,
    mut replies: mpsc::Receiver<Value>,
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stage = seat.joined.stage();
    let mut scenes = stage.scene.subscribe();
    let mut frames = stage.frames.subscribe();
    scenes.mark_changed();
    frames.mark_changed();
    let mut told = Told::default();
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let welcome = json!({
        "type": "welcome",
        "may": match seat.viewing.may() { May::View => "view", May::Control => "control" },
        "session": seat.viewing.id().to_string(),
        "version": 1,
    });
    if write(sink, text(&welcome)).await.is_err() {
        return End::gone();
    }
    loop {
        let may_show = seat.may_show();
        let mut messages = Vec::new();
        // What people wait for goes before pictures.
        tokio::select! {
            biased;
            Some(reply) = replies.recv() => messages.push(text(&reply)),
            Ok(()) = scenes.changed() => {
                let scene = scenes.borrow_and_update().clone();
                messages.extend(told.news(seat, Some(scene), &control));
            }
            Ok(()) = control.changed() => {
                // Whoever has just come into control has all the time there is.
                if seat.is_in_control(&control.borrow()) {
                    now_at(&seat.acted);
                }
                messages.extend(told.news(seat, None, &control));
            }
            Ok(()) = frames.changed(), if may_show => {
                let frame = frames.borrow_and_update().clone();
                // Of a page that it has not been told of yet.
                if scenes.has_changed().unwrap_or_default() {
                    frames.mark_changed();
                    continue;
                }
                messages.extend(frame.map(|frame| picture(seat, &frame)));
            }
            () = seat.free.notified() => {
                if std::mem::take(&mut seat.sent().again) {
                    frames.mark_changed();
                }
            }
            _ = pings.tick() => {
                if since(&seat.heard) > SILENCE {
                    return End::gone();
                }
                let control = control.borrow().clone();
                if seat.is_in_control(&control) && since(&seat.acted) > seat.idle_limit {
                    if let Some(person) = &seat.person {
                        person.let_go();
                    }
                    let note = "control went back, as you did nothing for a while";
                    messages.push(text(&json!({ "type": "note", "text": note })));
                }
                now_at(&seat.pinged);
                messages.push(Message::Ping(bytes::Bytes::new()));
                // The same for the page, which pings of the protocol do not reach.
                messages.push(text(&json!({ "type": "ping" })));
            }
        }
        for message in messages {
            if write(sink, message).await.is_err() {
                return End::gone();
            }
        }
    }
}

async fn write<S>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    message: Message,
) -> Result<(), ()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match timeout(WRITE_LIMIT, sink.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(()),
    }
}

/// A picture on its way.
fn picture(seat: &Seat, frame: &Arc<Frame>) -> Message {
    let mut sent = seat.sent();
    sent.number = frame.number;
    sent.at = Instant::now();
    sent.is_drawn = false;
    drop(sent);
    Message::Binary(frame.message(seat.since.elapsed()))
}

/// What a viewer knows.
#[derive(Default)]
struct Told {
    scene: Option<Scene>,
    state: Value,
}

impl Told {
    /// What it does not know yet.
    fn news(
        &mut self,
        seat: &Seat,
        scene: Option<Scene>,
        control: &watch::Receiver<Control>,
    ) -> Vec<Message> {
        let mut news = Vec::new();
        let Some(scene) = scene.or_else(|| self.scene.clone()) else {
            return news;
        };
        let control = control.borrow().clone();
        let holder = match control.holder {
            None => "code",
            Some(_) if seat.is_in_control(&control) => "you",
            Some(_) => "someone",
        };
        let control = json!({
            "holder": holder, "waiting": control.waiting.len(), "reason": scene.reason,
        });
        // Before its address.
        let before = self.scene.as_ref();
        if before.is_some_and(|before| scene.turns_from(before)) {
            news.push(text(&json!({ "type": "blank" })));
        }
        let state = scene.state(&control);
        if state != self.state {
            // Not when it ends: clocks differ.
            let left = (seat.viewing.session().expire_time)
                .duration_since(SystemTime::now())
                .unwrap_or_default();
            let mut message = state.clone();
            message["left"] = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).into();
            news.push(text(&message));
            self.state = state;
        }
        news.extend(scene.news(self.scene.as_ref()).iter().map(text));
        self.scene = Some(scene);
        news
    }
}
