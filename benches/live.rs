//! Times the live view: `make bench`.
//!
//! Pictures a second that 1 and 5 viewers get of a page that changes 60 times a second, what the
//! daemon and the browser compute meanwhile, and how long after a click a viewer has the picture of
//! what it changed. Viewers speak the protocol of the daemon's own page, and take pictures at once; for
//! the click the picture is decoded. Prints a table and writes `target/bench/live.md` and `.json`.
//! `ROUNDS=N` (4).

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use pagebox::grpc::v1::live_service_client::LiveServiceClient;
use pagebox::grpc::v1::{GetLiveViewRequest, SessionOptions, Viewport};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

#[path = "common/all.rs"]
mod common;

use common::client::{Client, OpenSession};
use common::report::{Limit, Report, shown};
use common::samples::Samples;
use common::{daemon, leaks, samples};

const WIDTH: u32 = 1280;
const HEIGHT: u32 = 720;
/// How long pictures are counted for.
const WINDOW: Duration = Duration::from_secs(5);
/// Before that: qualities and caches settle.
const SETTLE: Duration = Duration::from_secs(2);
const CROWD: usize = 5;
const CLICKS: usize = 60;
/// Longest wait for a picture.
const LIMIT: Duration = Duration::from_secs(20);
/// A median viewer gets at least so many pictures a second.
const WANTED_RATE: f64 = 25.0;
/// The median click is seen within so many milliseconds.
const WANTED_CLICK: f64 = 100.0;
const CLICK: &str = "from a click to its picture";
/// Luma below which a page is black, on its way through a JPEG.
const DARK: u8 = 128;

/// Bars that move across all of the page, a new picture every time.
const ANIMATION: &str = "await page.setContent(`<canvas width=1280 height=720></canvas>
<style>body { margin: 0; overflow: hidden } canvas { display: block }</style>`);
await page.evaluate(() => {
  const pen = document.querySelector('canvas').getContext('2d');
  pen.font = '48px sans-serif';
  let count = 0;
  const draw = () => {
    count += 1;
    for (let bar = 0; bar < 16; bar += 1) {
      pen.fillStyle = `hsl(${bar * 22 + count} 60% 60%)`;
      pen.fillRect(((bar * 80 + count * 4) % 1360) - 80, 0, 80, 720);
    }
    pen.fillStyle = 'black';
    pen.fillText(`picture ${count}`, 40, 80);
    requestAnimationFrame(draw);
  };
  draw();
}); 'moving'";
/// A page that is the other one of black and white after each press.
const BUTTON: &str = "await page.setContent('<body style=\"background: black\">');
await page.evaluate(() => {
  document.onmousedown = () => {
    const { style } = document.body;
    style.background = style.background === 'black' ? 'white' : 'black';
  };
}); 'still'";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` starts this too, without the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("live: measured by `cargo bench` only");
        return Ok(());
    }
    // Of each number of viewers, in turn.
    let rounds = samples::number("ROUNDS", 4);
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_pagebox"));
    let daemon = daemon::Daemon::start_with(binary, "", &[]);
    let client = Client::new(&daemon.url());
    let options = SessionOptions {
        viewport: Some(Viewport {
            width: WIDTH,
            height: HEIGHT,
        }),
        ..SessionOptions::default()
    };
    let id = client.create(options).await?.id;
    let session = OpenSession::new(client.clone(), id);
    let mut rows = Vec::new();
    ensure!(session.node(ANIMATION).await == "moving");
    let mut runs: Vec<Run> = Vec::new();
    for round in 0..rounds {
        for viewers in [0, 1, CROWD] {
            eprint!("\rround {} of {rounds}, {viewers} viewers", round + 1);
            runs.push(watch(&daemon, &session, viewers).await?);
        }
    }
    let clicks = click(&daemon, &session).await?;
    eprintln!();
    session.stop().await;

    let mut report = Report::new("live");
    for viewers in [1, CROWD] {
        let of = runs.iter().filter(|run| run.viewers == viewers);
        let rate = median(of.flat_map(|run| run.rates.clone()).collect());
        let name = format!("pictures a second, {viewers} viewers");
        report.aim(&name, rate, "", Limit::AtLeast(WANTED_RATE));
        rows.push(vec![name, shown(rate), String::new()]);
    }
    for viewers in [0, 1, CROWD] {
        let of = || runs.iter().filter(|run| run.viewers == viewers);
        let daemon = median(of().map(|run| run.daemon).collect());
        let browser = median(of().map(|run| run.browser).collect());
        for (who, share) in [("daemon", daemon), ("browser", browser)] {
            let name = format!("% of a core, {viewers} viewers: {who}");
            rows.push(vec![name, shown(share), String::new()]);
        }
    }
    let (middle, p95) = (clicks.percentile(CLICK, 50), clicks.percentile(CLICK, 95));
    report.aim(CLICK, middle, "ms", Limit::Under(WANTED_CLICK));
    rows.push(vec![format!("{CLICK}, ms"), shown(middle), shown(p95)]);
    report.table("rows", &["what", "p50", "p95"], &rows);
    report.set("rounds", json!(rounds));
    report.publish()
}

/// What so many viewers got, and what it cost.
struct Run {
    viewers: usize,
    /// Pictures a second of each.
    rates: Vec<f64>,
    /// In percent of a core.
    daemon: f64,
    browser: f64,
}

async fn watch(
    daemon: &daemon::Daemon,
    session: &OpenSession,
    viewers: usize,
) -> anyhow::Result<Run> {
    let mut watching = tokio::task::JoinSet::new();
    for _ in 0..viewers {
        let mut viewer = Viewer::come(daemon, session).await?;
        watching.spawn(async move {
            viewer.count_for(SETTLE).await?;
            viewer.count_for(WINDOW).await
        });
    }
    tokio::time::sleep(SETTLE).await;
    let before = Cpu::of(daemon.pid());
    let begun = Instant::now();
    tokio::time::sleep(WINDOW).await;
    let (used, took) = (Cpu::of(daemon.pid()), begun.elapsed());
    let mut rates = Vec::new();
    while let Some(counted) = watching.join_next().await {
        rates.push(counted?? as f64 / WINDOW.as_secs_f64());
    }
    let share = |before: f64, used: f64| (used - before) / took.as_secs_f64() * 100.0;
    Ok(Run {
        viewers,
        rates,
        daemon: share(before.daemon, used.daemon),
        browser: share(before.browser, used.browser),
    })
}

/// Presses a button and waits for the picture of what it did.
async fn click(daemon: &daemon::Daemon, session: &OpenSession) -> anyhow::Result<Samples> {
    ensure!(session.node(BUTTON).await == "still");
    let mut samples = Samples::default();
    let mut viewer = Viewer::come(daemon, session).await?;
    viewer
        .say(&json!({ "type": "control", "do": "request" }))
        .await?;
    while viewer.is_dark().await? != Some(true) {}
    for number in 0..CLICKS {
        // What the last one began is over, and none falls on the same place of a frame.
        let pause = Duration::from_millis(150 + (number as u64 * 7) % 17);
        viewer.count_for(pause).await?;
        let is_dark = number % 2 == 0;
        let begun = Instant::now();
        viewer.press("down", 1).await?;
        while viewer.is_dark().await? != Some(!is_dark) {
            ensure!(begun.elapsed() < LIMIT, "a click changed nothing");
        }
        samples.add(CLICK, begun.elapsed());
        viewer.press("up", 0).await?;
    }
    Ok(samples)
}

/// One who looks, and may act.
struct Viewer(WebSocketStream<TcpStream>);

impl Viewer {
    async fn come(daemon: &daemon::Daemon, session: &OpenSession) -> anyhow::Result<Self> {
        let mut live = LiveServiceClient::new(session.client().channel());
        let request = GetLiveViewRequest {
            session_id: session.id.clone(),
        };
        let links = live.get_live_view(request).await?.into_inner().live_view;
        let links = links.context("no links")?;
        let (path, token) = links.control_path.split_once('#').context("no token")?;
        let address = daemon.address();
        let mut request = format!("ws://{address}{path}/socket").into_client_request()?;
        let origin = format!("http://{address}").parse()?;
        request.headers_mut().insert("origin", origin);
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        let mut viewer = Self(socket);
        let hello = json!({
            "type": "hello", "token": token, "width": WIDTH, "height": HEIGHT, "dpr": 1,
        });
        viewer.say(&hello).await?;
        Ok(viewer)
    }

    async fn say(&mut self, message: &Value) -> anyhow::Result<()> {
        let message = Message::text(message.to_string());
        Ok(self.0.send(message).await?)
    }

    async fn press(&mut self, kind: &str, buttons: u32) -> anyhow::Result<()> {
        let message = json!({
            "type": "mouse", "kind": kind, "x": WIDTH / 2, "y": HEIGHT / 2, "button": "left",
            "buttons": buttons, "clicks": 1, "dx": 0, "dy": 0, "modifiers": 0,
        });
        self.say(&message).await
    }

    /// The next picture, taken.
    async fn picture(&mut self) -> anyhow::Result<bytes::Bytes> {
        loop {
            let next = tokio::time::timeout(LIMIT, self.0.next());
            match next.await?.context("the connection has ended")?? {
                Message::Binary(picture) => {
                    let number = picture.first_chunk().context("no header")?;
                    let number = u32::from_be_bytes(*number);
                    self.say(&json!({ "type": "ack", "frame": number })).await?;
                    return Ok(picture.slice(16..));
                }
                Message::Close(why) => bail!("closed: {why:?}"),
                _ => {}
            }
        }
    }

    /// How many pictures come in this time.
    async fn count_for(&mut self, time: Duration) -> anyhow::Result<usize> {
        let until = tokio::time::Instant::now() + time;
        let mut count = 0;
        while let Ok(picture) = tokio::time::timeout_at(until, self.picture()).await {
            picture?;
            count += 1;
        }
        Ok(count)
    }

    /// Whether the middle of the next picture is black.
    async fn is_dark(&mut self) -> anyhow::Result<Option<bool>> {
        let picture = self.picture().await?;
        let options = zune_jpeg::zune_core::options::DecoderOptions::default()
            .jpeg_set_out_colorspace(zune_jpeg::zune_core::colorspace::ColorSpace::Luma);
        let reader = zune_jpeg::zune_core::bytestream::ZCursor::new(&*picture);
        let mut decoder = zune_jpeg::JpegDecoder::new_with_options(reader, options);
        let luma = decoder.decode()?;
        let (width, height) = decoder.dimensions().context("no picture")?;
        let middle = luma.get(height / 2 * width + width / 2);
        Ok(middle.map(|luma| *luma < DARK))
    }
}

/// Seconds of computing so far.
struct Cpu {
    daemon: f64,
    browser: f64,
}

impl Cpu {
    fn of(daemon: u32) -> Self {
        let browser = leaks::descendants(daemon).into_iter();
        let browser = browser.filter(|process| process.name.starts_with("chromium"));
        Self {
            daemon: seconds(daemon),
            browser: browser.map(|process| seconds(process.pid)).sum(),
        }
    }
}

/// Seconds that a process has computed for; zero when it is gone. See proc_pid_stat(5).
fn seconds(pid: u32) -> f64 {
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = after_name.split_whitespace().skip(11).take(2);
    fields
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
