//! The proxy: accepts clients, bounds them, and runs one task for each.
//!
//! A client's task owns everything done for it (its request, the connection to the host, a tunnel):
//! dropping the task ends all of it, which is how cancellation, silence and a vanished client work.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tracing::Instrument as _;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::answer::{Body, Failure, connected};
use super::copy::{Buffers, copy};
use super::dial::dial;
use super::forward::Upstream;
use super::log::Recording;
use super::places::Place;
use super::target::Target;
use super::watched::Watched;
use super::{Egress, Places, Source};

/// Pause after a failed accept: it fails for want of file descriptors, which only time gives back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Header lines of a request or an answer.
pub(super) const MAX_HEADERS: usize = 256;

/// Serves `listener` until `cancel`.
pub(super) async fn run(
    listener: TcpListener,
    source: Source,
    egress: Arc<Egress>,
    cancel: CancellationToken,
) {
    let serve = |stream, crowd| serve_client(stream, source, Arc::clone(&egress), crowd);
    serve_each(&[listener], &egress.places, serve, cancel).await;
}

/// Whether a client of the same listener waits for a place: connections that are not in use then end.
pub(super) type Crowd = watch::Receiver<bool>;

/// Serves every connection of `listeners` in a task of its own, as many at once as there are places,
/// until `cancel`. One more is accepted and waits for a place, the rest in the kernel's backlog.
pub(super) async fn serve_each<F>(
    listeners: &[TcpListener],
    places: &Places,
    serve: impl Fn(TcpStream, Crowd) -> F,
    cancel: CancellationToken,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let crowd = watch::Sender::new(false);
    let start = |clients: &mut JoinSet<()>, place: Place, stream| {
        let serving = serve(stream, crowd.subscribe());
        let serving = async move {
            let _place = place;
            serving.await;
        };
        clients.spawn(serving.in_current_span());
    };
    let mut clients = JoinSet::new();
    let mut waiting = None;
    loop {
        if let Some(stream) = waiting.take() {
            match places.free(clients.len()) {
                Some(place) => start(&mut clients, place, stream),
                None => waiting = Some(stream),
            }
        }
        crowd.send_if_modified(|crowded| {
            std::mem::replace(crowded, waiting.is_some()) != waiting.is_some()
        });
        let place = places.next(clients.len());
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            Some(ended) = clients.join_next(), if !clients.is_empty() => report_panic(ended),
            place = place, if waiting.is_some() => {
                if let Some(stream) = waiting.take() {
                    start(&mut clients, place, stream);
                }
            }
            accepted = accept(listeners), if waiting.is_none() => match accepted {
                Ok(stream) => waiting = Some(stream),
                Err(error) => {
                    tracing::warn!(%error, "egress proxy could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    clients.shutdown().await;
}

/// The next connection of any of them; waits for ever when there are none.
async fn accept(listeners: &[TcpListener]) -> io::Result<TcpStream> {
    poll_fn(|context| {
        let accepted = listeners
            .iter()
            .map(|listener| listener.poll_accept(context))
            .find(Poll::is_ready);
        accepted.map_or(Poll::Pending, |accepted| {
            accepted.map_ok(|(stream, _)| stream)
        })
    })
    .await
}

fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "egress proxy: serving a client panicked");
    }
}

/// One client's connection.
pub(super) struct Client {
    pub(super) egress: Arc<Egress>,
    pub(super) source: Source,
    /// The connection its last request used, for the next one to the same host.
    pub(super) upstream: Mutex<Option<Upstream>>,
    /// What its connection becomes when the answer is out.
    tunnel: Mutex<Option<Tunnel>>,
    /// Whether its last request has its answer, so that the connection is kept for the next one
    /// only. Not before the first, and not of a tunnel.
    answered: AtomicBool,
    crowd: Crowd,
}

/// The two ends of a tunnel, each once its HTTP part is over.
pub(super) struct Tunnel {
    pub(super) client: OnUpgrade,
    pub(super) host: HostEnd,
    /// Ends with the tunnel.
    pub(super) recording: Recording,
}

pub(super) enum HostEnd {
    /// CONNECT: bytes from the start.
    Stream(Watched),
    /// WebSocket: bytes after the host's 101; its connection must live until then.
    Upgrade(OnUpgrade, Upstream),
}

pub(super) async fn serve_client(
    stream: TcpStream,
    source: Source,
    egress: Arc<Egress>,
    mut crowd: Crowd,
) {
    let limits = egress.limits;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "egress client went away at once");
        return;
    }
    let (stream, traffic) = Watched::client(stream);
    let client = Arc::new(Client {
        egress,
        source,
        upstream: Mutex::new(None),
        tunnel: Mutex::new(None),
        answered: AtomicBool::new(false),
        crowd: crowd.clone(),
    });
    let serving = async {
        let answering = Arc::clone(&client);
        let service = service_fn(move |request| {
            let client = Arc::clone(&answering);
            async move { Ok::<_, Infallible>(client.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_wait)
            .max_header_size(limits.header.as_usize())
            .max_buf_size(limits.header.as_usize())
            .max_headers(MAX_HEADERS)
            .preserve_header_case(true)
            // A proxy adds no Date of its own to a host's answer.
            .auto_date_header(false)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let ended = loop {
            tokio::select! {
                ended = &mut connection => break ended,
                () = gets_crowded(&mut crowd) => if client.answered.load(Ordering::Relaxed) {
                    // At once if it is idle, else after its answer's body.
                    connection.as_mut().graceful_shutdown();
                },
            }
        };
        ended.map_err(io::Error::other)?;
        // What is left in the slots would live as long as this future otherwise.
        drop(take(&client.upstream));
        match take(&client.tunnel) {
            Some(tunnel) => tunnel.run(&client.egress.buffers).await,
            None => Ok(()),
        }
    };
    tokio::select! {
        ended = serving => if let Err(error) = ended {
            tracing::debug!(%error, "egress connection ended early");
        },
        () = traffic.silent_for(limits.silence) => {
            tracing::debug!("egress connection ended: no byte passed for too long");
        }
    }
}

/// Resolves when a client begins to wait.
async fn gets_crowded(crowd: &mut Crowd) {
    while crowd.changed().await.is_ok() {
        if *crowd.borrow_and_update() {
            return;
        }
    }
    // The listener has ended, and so will this task.
    std::future::pending().await
}

impl Client {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        self.answered.store(false, Ordering::Relaxed);
        let uri = request.uri().clone();
        let answer = if request.method() == Method::CONNECT {
            self.connect(request).await
        } else {
            self.forward(request).await
        };
        let mut answer = answer.unwrap_or_else(|failure| {
            tracing::trace!(%failure, "egress request failed");
            self.egress.note_failure(self.source, uri, &failure);
            failure.into_response()
        });
        let becomes_tunnel = self
            .tunnel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        if !becomes_tunnel {
            self.answered.store(true, Ordering::Relaxed);
            if *self.crowd.borrow() {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
            }
        }
        answer
    }

    async fn connect(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Failure> {
        let authority = request
            .uri()
            .authority()
            .filter(|_| request.uri().scheme().is_none());
        let authority = authority.ok_or(Failure::BadRequest("CONNECT needs a host and a port"))?;
        let target = Target::parse(authority.as_str(), None)?;
        let dialled = dial(&self.egress, self.source, &target, None).await?;
        self.become_tunnel(Tunnel {
            client: hyper::upgrade::on(&mut request),
            host: HostEnd::Stream(dialled.stream),
            recording: dialled.recording,
        });
        Ok(connected())
    }

    /// Turns the connection into `tunnel` once the answer is written.
    pub(super) fn become_tunnel(&self, tunnel: Tunnel) {
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    }
}

/// Empties a slot.
pub(super) fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Tunnel {
    /// Copies both ways until both ends have closed, passing each end's close on by itself.
    async fn run(mut self, buffers: &Buffers) -> io::Result<()> {
        let client = TokioIo::new(self.client.await.map_err(io::Error::other)?);
        let copied = match self.host {
            HostEnd::Stream(stream) => copy(client, stream, buffers).await,
            HostEnd::Upgrade(upgrade, upstream) => {
                let host = TokioIo::new(upgrade.await.map_err(io::Error::other)?);
                drop(upstream);
                copy(client, host, buffers).await
            }
        };
        if copied.is_err() {
            self.recording.broke();
        }
        copied
    }
}
