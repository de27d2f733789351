//! What one would do without Pagebox, with the same pinned programs: a Chromium with a debugging port,
//! scripts that begin anew, scripts that stay connected, agent-browser by hand, a raw CDP client.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

pub(crate) const CHROMIUM: &str = "/usr/lib/chromium/chromium-headless-shell";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where playwright-core is.
fn modules() -> PathBuf {
    root().join("runners/node")
}

/// The interpreter that has Playwright.
pub(crate) fn python() -> PathBuf {
    root().join("runners/python/.venv/bin/python")
}

/// A program with the environment a sandbox has, so that no setting of this shell's slows it down.
pub(crate) fn program(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    let kept = ["PATH", "HOME"].map(|name| (name, std::env::var_os(name).unwrap_or_default()));
    command.env_clear().envs(kept).env("LANG", "C.UTF-8");
    command
}

/// A script of `benches/scripts`, to be run with these arguments. Those in node are told where Playwright
/// is first.
pub(crate) fn script(name: &str, arguments: &[&str]) -> Command {
    let file = root().join("benches/scripts").join(name);
    let mut command = if name.ends_with(".py") {
        let mut command = program(python());
        command.arg(file);
        command
    } else {
        let mut command = program("node");
        command.arg(file).arg(modules());
        command
    };
    command.args(arguments);
    command
}

/// Runs a program to its end; what it printed, and how long that took.
pub(crate) fn run(mut command: Command) -> anyhow::Result<(String, Duration)> {
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).output();
    let took = begun.elapsed();
    let output = output.with_context(|| format!("cannot start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok((String::from_utf8(output.stdout)?.trim().to_owned(), took))
}

/// A child that is killed when dropped.
#[derive(Debug)]
pub(crate) struct Ends(pub(crate) Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A script that stays and answers line by line (`benches/scripts/answer.mjs`).
#[derive(Debug)]
pub(crate) struct Peer {
    output: Lines<BufReader<ChildStdout>>,
    /// Closed last: the script then ends by itself, and its browser with it.
    input: Option<ChildStdin>,
    child: Child,
}

/// What a script answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) said: Value,
    /// From the request until its reply was here.
    pub(crate) took: Duration,
    /// The part of it that the script saw.
    pub(crate) inside: Duration,
}

impl Peer {
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("cannot start {command:?}"))?;
        let output = BufReader::new(child.stdout.take().context("piped")?).lines();
        let mut peer = Self {
            output,
            input: child.stdin.take(),
            child,
        };
        let ready = peer.receive()?;
        ensure!(ready["said"] == "ready", "{ready}");
        Ok(peer)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn ask(&mut self, what: &str) -> anyhow::Result<Answer> {
        let line = format!("{what}\n");
        let begun = Instant::now();
        let input = self.input.as_mut().context("open until it is dropped")?;
        input.write_all(line.as_bytes())?;
        let mut reply = self.receive()?;
        let took = begun.elapsed();
        let inside = reply["ms"].as_f64().context("a time")?;
        Ok(Answer {
            said: reply["said"].take(),
            took,
            inside: Duration::from_secs_f64(inside / 1000.0),
        })
    }

    fn receive(&mut self) -> anyhow::Result<Value> {
        let line = self.output.next().context("the script has ended")??;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.input.take());
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Chromium with a debugging port: Pagebox itself never opens one.
#[derive(Debug)]
pub(crate) struct PlainChromium {
    pub(crate) endpoint: String,
    _child: Ends,
    _profile: tempfile::TempDir,
}

impl PlainChromium {
    pub(crate) fn start(url: &str) -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;

        let profile = tempfile::tempdir()?;
        std::fs::set_permissions(profile.path(), std::fs::Permissions::from_mode(0o777))?;
        let own_uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?);
        // Chromium refuses to run as root with its sandbox on; off would be another program.
        let mut command = if own_uid == 0 {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", CHROMIUM]);
            command
        } else {
            Command::new(CHROMIUM)
        };
        let mut child = command
            .args(["--remote-debugging-port=0", "--disable-gpu"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start Chromium")?;
        let stderr = child.stderr.take().context("piped")?;
        let child = Ends(child);
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let endpoint = lines.find_map(|line| {
            let endpoint = line.strip_prefix("DevTools listening on ");
            endpoint.map(str::to_owned)
        });
        let Some(endpoint) = endpoint else {
            bail!("Chromium ended without a debugging port");
        };
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self {
            endpoint,
            _child: child,
            _profile: profile,
        })
    }
}

/// Playwright's own server, which launches a Chromium for each connection.
#[derive(Debug)]
pub(crate) struct RunServer {
    pub(crate) endpoint: String,
    _child: Ends,
}

impl RunServer {
    pub(crate) fn start() -> anyhow::Result<Self> {
        // Unsafe is its word for a client that names the program.
        let mut child = program("node")
            .arg(modules().join("node_modules/playwright-core/cli.js"))
            .args([
                "run-server",
                "--host",
                "127.0.0.1",
                "--port",
                "0",
                "--unsafe",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start run-server")?;
        let stdout = child.stdout.take().context("piped")?;
        let child = Ends(child);
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let endpoint = lines.find_map(|line| Some(line[line.find("ws://")?..].trim().to_owned()));
        let endpoint = endpoint.context("run-server ended without an address")?;
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self {
            endpoint,
            _child: child,
        })
    }
}

/// agent-browser as a person uses it: its native command, with a service that it starts itself and
/// that stays connected to a browser.
#[derive(Debug)]
pub(crate) struct ByHand(tempfile::TempDir);

impl ByHand {
    pub(crate) fn connect(endpoint: &str) -> anyhow::Result<Self> {
        let hand = Self(tempfile::tempdir()?);
        run(hand.command(&["connect", endpoint]))?;
        Ok(hand)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let native = "node_modules/agent-browser/bin/agent-browser-linux-x64";
        let mut command = program(modules().join(native));
        let home = self.0.path();
        command.args(arguments);
        command.env("HOME", home);
        command.env("AGENT_BROWSER_SOCKET_DIR", home);
        command.env("AGENT_BROWSER_NO_VERSION_CHECK", "1");
        command
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = run(self.command(&["close"]));
    }
}

/// A client that speaks CDP to the one page of a browser, and nothing else.
#[derive(Debug)]
pub(crate) struct Cdp {
    socket: WebSocketStream<TcpStream>,
    session: String,
    last_id: u64,
}

impl Cdp {
    pub(crate) async fn connect(endpoint: &str) -> anyhow::Result<Self> {
        let address = url::Url::parse(endpoint)?;
        let address = address.socket_addrs(|| None)?;
        let stream = TcpStream::connect(address[0]).await?;
        stream.set_nodelay(true)?;
        let (socket, _) = tokio_tungstenite::client_async(endpoint, stream).await?;
        let mut client = Self {
            socket,
            session: String::new(),
            last_id: 0,
        };
        let targets = client.call("Target.getTargets", json!({})).await?;
        let targets = targets["targetInfos"].as_array().context("targets")?;
        let page = targets.iter().find(|target| target["type"] == "page");
        let id = &page.context("a page")?["targetId"];
        let attach = json!({ "targetId": id, "flatten": true });
        let attached = client.call("Target.attachToTarget", attach).await?;
        let session = attached["sessionId"].as_str();
        client.session = session.context("a CDP session")?.to_owned();
        Ok(client)
    }

    /// The page's title, in one round trip.
    pub(crate) async fn title(&mut self) -> anyhow::Result<String> {
        let ask = json!({ "expression": "document.title", "returnByValue": true });
        let reply = self.call("Runtime.evaluate", ask).await?;
        let title = reply["result"]["value"].as_str();
        Ok(title.with_context(|| format!("no title: {reply}"))?.into())
    }

    async fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(message.to_string())).await?;
        loop {
            let next = self.socket.next().await.context("the browser has gone")??;
            let Message::Text(text) = next else { continue };
            let mut reply: Value = serde_json::from_str(&text)?;
            if reply["id"] == self.last_id {
                ensure!(reply.get("error").is_none(), "{method}: {reply}");
                return Ok(reply["result"].take());
            }
        }
    }
}
