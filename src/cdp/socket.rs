//! One WebSocket client: messages between its socket and the driver.
//!
//! Bounds: a client is not read while it has too many requests unanswered or the browser does not
//! take them; one message of more than a few MiB comes in at a time, for all clients together.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message as Frame, Utf8Bytes};
use tokio_util::sync::PollSemaphore;

use super::driver::{Command, Reply, Request, Root};
use super::hub::{Connected, Hub, MAX_IN_FLIGHT};
use super::message::{Message, code, error_payload, unreadable};
use super::queue::Outbox;
use super::{ClientKind, Error};
use crate::id::ClientId;

/// A message may grow to this many bytes before it counts as large.
const LARGE: usize = 4 << 20;
/// How long a large message may take to come in, since it keeps others out.
const LARGE_LIMIT: Duration = Duration::from_secs(60);

impl Hub {
    /// Serves one client on a connection whose WebSocket handshake is done (a gateway's), until
    /// either side ends. `commanded` is called at each of its commands.
    pub async fn serve_socket<S>(
        &self,
        stream: S,
        kind: ClientKind,
        commanded: &(dyn Fn() + Sync),
    ) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let none_read = Bytes::new();
        self.serve_stream(stream, none_read, kind, Root::Browser, commanded)
            .await
    }

    pub(super) async fn serve_stream<S>(
        &self,
        stream: S,
        read: Bytes,
        kind: ClientKind,
        root: Root,
        commanded: &(dyn Fn() + Sync),
    ) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let max = self.0.config.max_message.as_usize();
        let config = WebSocketConfig::default()
            .read_buffer_size(64 << 10)
            .max_message_size(Some(max))
            .max_frame_size(Some(max));
        let state = Arc::<GateState>::default();
        let large = PollSemaphore::new(self.0.large.clone());
        let gate = Gate {
            stream,
            state: state.clone(),
            large,
            limit: None,
        };
        let mut socket =
            WebSocketStream::from_partially_read(gate, read.into(), Role::Server, Some(config))
                .await;
        let connected = match self.connect(kind, root).await {
            Ok(connected) => connected,
            Err(error) => {
                let reason = error.to_string().into();
                let frame = CloseFrame {
                    code: CloseCode::Again,
                    reason,
                };
                // The peer may be gone already.
                let _ = socket.close(Some(frame)).await;
                return Err(error);
            }
        };
        tracing::Span::current().record("client_id", tracing::field::display(connected.id));
        tracing::debug!("CDP client connected");
        talk(socket, &state, connected, commanded).await;
        Ok(())
    }
}

/// Passes messages both ways until either side ends.
async fn talk<S>(
    socket: WebSocketStream<Gate<S>>,
    state: &GateState,
    mut connected: Connected,
    commanded: &(dyn Fn() + Sync),
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, mut stream) = socket.split();
    let (id, hub, ended) = (connected.id, connected.hub.clone(), connected.ended.clone());
    let slots = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let outbox = &mut connected.outbox;
    let (errors, bad) = tokio::sync::mpsc::channel(1);
    let reading = async {
        while let Some(Ok(frame)) = stream.next().await {
            let raw = match frame {
                Frame::Text(text) => Bytes::from(text),
                Frame::Binary(raw) => raw,
                Frame::Close(_) => return,
                Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_) => continue,
            };
            commanded();
            let taken = match accept(&hub, id, &slots, &raw).await {
                Ok(taken) => taken,
                Err(answer) => errors.send(answer).await.map_err(|_| Error::Closed),
            };
            state.reset();
            if taken.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = ended.cancelled() => {}
        () = reading => {}
        () = write(sink, outbox, bad) => {}
    }
}

/// Hands one message to the driver; `Err` is an answer to one that is no request.
async fn accept(
    hub: &Hub,
    client: ClientId,
    slots: &Arc<Semaphore>,
    raw: &Bytes,
) -> Result<Result<(), Error>, Message> {
    let failed = |id: Option<i64>, code: i64, text: &str| Message {
        id,
        error: Some(error_payload(code, text)),
        ..Message::default()
    };
    let message = Message::parse(raw)
        .map_err(|error| failed(None, code::PARSE, &format!("not a CDP message: {error}")))?;
    let Some(id) = message.id else {
        return Err(failed(
            None,
            code::INVALID_REQUEST,
            "Message must have integer 'id' property",
        ));
    };
    let Some(method) = message.method else {
        let text = "Message must have string 'method' property";
        return Err(failed(Some(id), code::INVALID_REQUEST, text));
    };
    if let Some(text) = message.params.as_deref().and_then(unreadable) {
        return Err(Message {
            session: message.session,
            ..failed(Some(id), code::INVALID_PARAMS, &text)
        });
    }
    let kib = u32::try_from(raw.len() >> 10).unwrap_or(u32::MAX).max(1);
    let Ok(slot) = slots.clone().acquire_owned().await else {
        return Ok(Err(Error::Closed));
    };
    let Ok(room) = hub.0.upstream.clone().acquire_many_owned(kib).await else {
        return Ok(Err(Error::Closed));
    };
    let request = Request {
        client,
        reply: Reply::Queue {
            id,
            session: message.session.clone(),
        },
        session: message.session,
        method,
        params: message.params,
        slot: Some(slot),
        room: Some(room),
    };
    Ok(hub.send(Command::Request(request)).await)
}

type Sink<S> = futures_util::stream::SplitSink<WebSocketStream<Gate<S>>, Frame>;

async fn write<S>(
    mut sink: Sink<S>,
    outbox: &mut Outbox,
    mut bad: tokio::sync::mpsc::Receiver<Message>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let (frame, entry) = tokio::select! {
            entry = outbox.next() => match entry {
                Some(entry) => (text(&entry.message), Some(entry)),
                None => break,
            },
            Some(answer) = bad.recv() => (text(&answer), None),
        };
        if sink.send(frame).await.is_err() {
            return;
        }
        // Until here it counted against the queue's bound.
        drop(entry);
    }
    // The client may be gone already.
    let _ = sink.close().await;
}

fn text(message: &Message) -> Frame {
    match Utf8Bytes::try_from(message.encode()) {
        Ok(text) => Frame::Text(text),
        // Cannot be: payloads were checked when they were read.
        Err(_) => Frame::text("{}"),
    }
}

/// Lets large messages in one at a time: counts what was read for the message under way, and past
/// [`LARGE`] reads on only while it holds the hub's one permit.
struct Gate<S> {
    stream: S,
    state: Arc<GateState>,
    large: PollSemaphore,
    limit: Option<Pin<Box<Sleep>>>,
}

#[derive(Default)]
struct GateState(Mutex<(usize, Option<OwnedSemaphorePermit>)>);

impl GateState {
    /// The message under way is complete and taken.
    fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (0, None);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let state = this.state.clone();
        let mut state = state.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 > LARGE && state.1.is_none() {
            state.1 = ready!(this.large.poll_acquire(context));
            this.limit = Some(Box::pin(sleep(LARGE_LIMIT)));
        }
        if state.1.is_some()
            && let Some(limit) = &mut this.limit
            && limit.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        let outcome = ready!(Pin::new(&mut this.stream).poll_read(context, buffer));
        state.0 += buffer.filled().len() - before;
        Poll::Ready(outcome)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
