//! Many connections at once through one listener. The benchmark starts itself again as the client,
//! because a client has to be in the session's network namespace; the two talk in lines of JSON.
//!
//! ```text
//!  client                                    benchmark
//!  connects all at once ── opened times ──▶  weighs the daemon: tunnels at rest
//!  fetches on all at once ◀── go ──────────
//!                       ── fetched times ─▶  weighs it again: after the rush
//! ```

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::way::Way;

/// Connections at once.
pub(crate) const CONNECTIONS: usize = 200;
/// What each fetches.
pub(crate) const BYTES: usize = 1 << 20;
/// What the rows of the direct way are called.
pub(crate) const DIRECT: &str = "200 at once: direct";
/// The argument that makes this program the client.
pub(crate) const CLIENT: &str = "--crowd-client";
/// An answer's header is shorter than this.
const HEADER_LIMIT: usize = 4096;
const READ_BUFFER: usize = 64 << 10;

/// How each connection asks for its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// No proxy.
    Direct,
    /// Through a tunnel of its own.
    Connect,
    /// By the absolute form of the URL.
    Absolute,
}

#[derive(Debug, Serialize, Deserialize)]
struct Job {
    kind: Kind,
    origin: SocketAddr,
    proxy: Option<SocketAddr>,
}

/// Seconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Times {
    /// Of each connection.
    pub(crate) each: Vec<f64>,
    /// From the start of the first to the end of the last.
    pub(crate) all: f64,
}

/// A client process that has its connections open.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// Until connected, the answer to CONNECT included.
    pub(crate) opened: Times,
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Crowd {
    /// Opens the connections.
    pub(crate) async fn open(way: Way<'_>, kind: Kind, origin: SocketAddr) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let proxy = match way {
            Way::Direct => None,
            Way::Through(proxied) => Some(proxied.proxy().trim_start_matches("http://").parse()?),
        };
        let job = serde_json::to_string(&Job {
            kind,
            origin,
            proxy,
        })?;
        let mut child = way
            .command(own.to_str().context("a path in UTF-8")?)
            .args([CLIENT, &job])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the client")?;
        let input = child.stdin.take().context("piped")?;
        let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
        Ok(Self {
            opened: told(&mut lines).await?,
            child,
            input,
            lines,
        })
    }

    /// Fetches on every connection; they stay open.
    pub(crate) async fn fetch(&mut self) -> anyhow::Result<Times> {
        self.input.write_all(b"go\n").await?;
        told(&mut self.lines).await
    }

    /// Closes the connections.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        drop(self.input);
        ensure!(self.child.wait().await?.success(), "the client failed");
        Ok(())
    }
}

async fn told(lines: &mut Lines<BufReader<ChildStdout>>) -> anyhow::Result<Times> {
    let line = lines.next_line().await?;
    let line = line.context("the client ended early; its error is above")?;
    Ok(serde_json::from_str(&line)?)
}

/// The client itself.
pub(crate) async fn client(job: &str) -> anyhow::Result<()> {
    let job: Arc<Job> = Arc::new(serde_json::from_str(job)?);
    let mut commands = BufReader::new(tokio::io::stdin()).lines();

    let connecting = (0..CONNECTIONS).map(|_| connect(Arc::clone(&job)));
    let (opened, streams) = at_once(connecting).await?;
    println!("{}", serde_json::to_string(&opened)?);

    commands
        .next_line()
        .await?
        .context("the benchmark is gone")?;
    let fetching = streams
        .into_iter()
        .map(|stream| fetch(stream, Arc::clone(&job)));
    let (fetched, _streams) = at_once(fetching).await?;
    println!("{}", serde_json::to_string(&fetched)?);

    // The connections live until the benchmark has looked.
    commands.next_line().await?;
    Ok(())
}

/// Runs all, started together; every one must succeed.
async fn at_once<T, F>(futures: impl Iterator<Item = F>) -> anyhow::Result<(Times, Vec<T>)>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>> + Send + 'static,
{
    let start = Arc::new(Barrier::new(CONNECTIONS));
    let mut running = JoinSet::new();
    for future in futures {
        let start = Arc::clone(&start);
        running.spawn(async move {
            start.wait().await;
            let began = Instant::now();
            let value = future.await?;
            anyhow::Ok((began, Instant::now(), value))
        });
    }
    let mut values = Vec::new();
    let mut times = Vec::new();
    while let Some(ended) = running.join_next().await {
        let (began, ended, value) = ended??;
        times.push((began, ended));
        values.push(value);
    }
    let first = times.iter().map(|(began, _)| *began).min();
    let last = times.iter().map(|(_, ended)| *ended).max();
    let (first, last) = first.zip(last).context("no connections")?;
    let each = times
        .iter()
        .map(|(began, ended)| (*ended - *began).as_secs_f64());
    let times = Times {
        each: each.collect(),
        all: (last - first).as_secs_f64(),
    };
    Ok((times, values))
}

async fn connect(job: Arc<Job>) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(job.proxy.unwrap_or(job.origin)).await?;
    if job.kind == Kind::Connect {
        let origin = job.origin;
        let ask = format!("CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\n\r\n");
        stream.write_all(ask.as_bytes()).await?;
        let (header, rest) = read_header(&mut stream).await?;
        ensure!(header.starts_with("HTTP/1.1 200 ") && rest == 0, "{header}");
    }
    Ok(stream)
}

async fn fetch(mut stream: TcpStream, job: Arc<Job>) -> anyhow::Result<TcpStream> {
    let origin = job.origin;
    let scheme = match job.kind {
        Kind::Absolute => format!("http://{origin}"),
        Kind::Direct | Kind::Connect => String::new(),
    };
    let ask = format!("GET {scheme}/bytes?count={BYTES} HTTP/1.1\r\nHost: {origin}\r\n\r\n");
    stream.write_all(ask.as_bytes()).await?;
    let (header, mut got) = read_header(&mut stream).await?;
    ensure!(header.starts_with("HTTP/1.1 200 "), "{header}");
    let mut buffer = vec![0; READ_BUFFER];
    while got < BYTES {
        let size = stream.read(&mut buffer).await?;
        ensure!(size > 0, "the answer ended after {got} bytes");
        got += size;
    }
    ensure!(got == BYTES, "{got} bytes came");
    Ok(stream)
}

/// An answer's header, and how many bytes of its body came with it.
async fn read_header(stream: &mut TcpStream) -> anyhow::Result<(String, usize)> {
    let mut bytes = vec![0; HEADER_LIMIT];
    let mut filled = 0;
    loop {
        let size = stream.read(&mut bytes[filled..]).await?;
        ensure!(size > 0, "the connection ended in the header");
        filled += size;
        if let Some(end) = memchr::memmem::find(&bytes[..filled], b"\r\n\r\n") {
            let header = String::from_utf8_lossy(&bytes[..end]).into_owned();
            return Ok((header, filled - end - 4));
        }
    }
}
