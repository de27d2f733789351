//! A way to the origin: straight from this machine, or through the proxy of a session of a real daemon.
//!
//! Client programs are the same either way, started by the benchmark and confined by nothing. For the
//! proxy they are started in the network namespace of the session's browser, where its listener is.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use super::client::{Client, OpenSession};
use super::daemon::Daemon;
use super::leaks;

/// A daemon with one session.
#[derive(Debug)]
pub(crate) struct Proxied {
    pub(crate) daemon: Daemon,
    pub(crate) session: OpenSession,
    /// Of the session's Chromium.
    pub(crate) arguments: Vec<String>,
    namespace: PathBuf,
    proxy: String,
}

impl Proxied {
    /// Starts `binary` and opens a session that may reach `origins`.
    pub(crate) async fn start(binary: &Path, origins: &[SocketAddr]) -> anyhow::Result<Self> {
        let ports = origins.iter().flat_map(|origin| {
            let port = origin.port().to_string();
            ["--host-loopback".to_owned(), port]
        });
        let ports: Vec<_> = ports.collect();
        let ports: Vec<_> = ports.iter().map(String::as_str).collect();
        let daemon = Daemon::start_with(binary, "", &ports);
        let session = Client::new(&daemon.url()).open("about:blank").await;
        let (pid, arguments) = leaks::descendants(daemon.pid())
            .into_iter()
            .filter_map(|process| Some((process.pid, arguments_of(process.pid)?)))
            .find(|(_, arguments)| is_browser(arguments))
            .context("the session has no Chromium process")?;
        let proxy = arguments
            .iter()
            .find_map(|argument| argument.strip_prefix("--proxy-server="))
            .context("its Chromium has no proxy")?
            .to_owned();
        Ok(Self {
            daemon,
            session,
            arguments,
            namespace: PathBuf::from(format!("/proc/{pid}/ns")),
            proxy,
        })
    }

    /// The proxy as an URL, inside the namespace.
    pub(crate) fn proxy(&self) -> &str {
        &self.proxy
    }

    /// Processor time of the daemon so far, in milliseconds.
    pub(crate) fn cpu_ms(&self) -> anyhow::Result<u64> {
        /// `USER_HZ`: 100 on every Linux there is a Chromium for.
        const TICK_MS: u64 = 10;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.daemon.pid()))?;
        let (_, fields) = stat.rsplit_once(')').context("no command in stat")?;
        let mut fields = fields.split_whitespace().skip(11);
        let mut next = || -> anyhow::Result<u64> { Ok(fields.next().context("short")?.parse()?) };
        Ok((next()? + next()?) * TICK_MS)
    }

    /// Resident memory of the daemon, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        leaks::resident_kib(self.daemon.pid())
    }
}

fn arguments_of(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    Some(text.split_terminator('\0').map(str::to_owned).collect())
}

fn is_browser(arguments: &[String]) -> bool {
    let has = |text: &str| arguments.iter().any(|argument| argument.starts_with(text));
    has("--remote-debugging-pipe") && !has("--type=")
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// How a client program gets to the origin.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way<'a> {
    Direct,
    Through(&'a Proxied),
}

impl Way<'_> {
    /// `program`, to be run where this way begins. No proxy of the caller's own applies.
    pub(crate) fn command(self, program: &str) -> Command {
        let mut command = match self {
            Self::Direct => Command::new(program),
            Self::Through(proxied) => {
                let mut command = Command::new("nsenter");
                let namespace = proxied.namespace.display();
                command.arg(format!("--net={namespace}/net"));
                if !is_root() {
                    command.arg(format!("--user={namespace}/user"));
                    command.arg("--preserve-credentials");
                }
                command.arg("--").arg(program);
                command
            }
        };
        for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        command.kill_on_drop(true);
        command
    }
}

/// Seconds curl took for `url`, as curl says.
pub(crate) async fn curl(
    way: Way<'_>,
    tunnel: bool,
    url: &str,
    size: usize,
) -> anyhow::Result<f64> {
    let mut command = way.command("curl");
    command.args(curl_arguments());
    if let Way::Through(proxied) = way {
        command.args(["--proxy", proxied.proxy()]);
    }
    if tunnel {
        command.arg("--proxytunnel");
    }
    let output = command
        .arg(url)
        .output()
        .await
        .context("cannot start curl")?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    curl_time(&told, size)
        .with_context(|| format!("curl: {}", String::from_utf8_lossy(&output.stderr)))
}

/// What makes curl fetch and discard, and print what [`curl_time`] reads.
pub(crate) fn curl_arguments() -> [&'static str; 6] {
    const TOLD: &str = "%{http_code} %{size_download} %{time_total}";
    ["-q", "-sS", "-o", "/dev/null", "-w", TOLD]
}

/// Reads what curl printed: the whole answer must have come.
pub(crate) fn curl_time(told: &str, size: usize) -> anyhow::Result<f64> {
    let wanted = format!("200 {size} ");
    let time = told.trim().strip_prefix(&wanted);
    ensure!(time.is_some(), "wanted {wanted:?} and a time, not {told:?}");
    Ok(time.unwrap_or_default().parse()?)
}
