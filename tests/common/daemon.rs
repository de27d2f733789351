//! A real daemon as a child process, on a free port, for tests, the demo and the benchmarks.
//!
//! It ends with its owner: `Drop` kills it and waits, and a guard process does the same when the
//! owner dies without dropping it (a static, Ctrl-C, an abort). What it leaves is counted by
//! `leaks.rs`; the gRPC side is `client.rs`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

#[path = "host.rs"]
pub(crate) mod host;

/// How long a daemon may take to say where it listens. Generous: the machine may be busy.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How much of its log is kept for failure messages.
const LOG_BYTES: usize = 256 << 10;
/// What the daemon prints when it is ready.
const READY: &str = "pagebox listening on ";

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    guard: Child,
    _guard_input: ChildStdin,
    address: SocketAddr,
    log: Arc<Mutex<Vec<u8>>>,
    /// Its config file and everything it puts in TMPDIR.
    directory: tempfile::TempDir,
}

impl Daemon {
    /// Starts `binary serve` with `config` (TOML) and every host port open to pages.
    ///
    /// # Panics
    /// When it does not come up; the message carries its log.
    pub(crate) fn start(binary: &Path, config: &str) -> Self {
        Self::start_with(binary, config, &["--host-loopback", "*"])
    }

    /// Starts `binary serve` with `config` and more arguments.
    pub(crate) fn start_with(binary: &Path, config: &str, arguments: &[&str]) -> Self {
        Self::start_in(binary, config, arguments, &[])
    }

    /// The same with more variables in its environment. What this host lacks is allowed.
    pub(crate) fn start_in(
        binary: &Path,
        config: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // The daemon may give up root for a uid of its own, which must still get in.
        open_to_all(directory.path());
        let temporary = directory.path().join("tmp");
        std::fs::create_dir(&temporary).expect("TMPDIR of the daemon");
        open_to_all(&temporary);
        let config_file = directory.path().join("pagebox.toml");
        std::fs::write(&config_file, config).expect("the daemon's config file");

        // What stands ready would be counted, and cost what no test waits for.
        let no_pool = (!config.contains("[pool]")).then_some(("PAGEBOX_POOL__SIZE", "0"));
        let mut child = host::command(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(&config_file)
            .args(arguments)
            .env("TMPDIR", &temporary)
            .env("PAGEBOX_DATA_DIR", directory.path().join("data"))
            .envs(no_pool)
            .envs(environment.iter().copied())
            .env_remove("PAGEBOX_SERVER")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", binary.display()));
        let (guard, guard_input) = guard(child.id());
        let log = Arc::new(Mutex::new(Vec::new()));
        collect(child.stderr.take().expect("piped"), Arc::clone(&log));
        let lines = first_lines(child.stdout.take().expect("piped"));

        let deadline = Instant::now() + START_DEADLINE;
        let mut started = Self {
            child,
            guard,
            _guard_input: guard_input,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            log,
            directory,
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(address) = line.trim().strip_prefix(READY) {
                        let (_, address) = address.split_once("://").expect("a URL");
                        started.address = address.parse().expect("an address after the words");
                        return started;
                    }
                }
                Err(error) => {
                    // What it wrote last may still be on its way here.
                    std::thread::sleep(Duration::from_millis(200));
                    panic!(
                        "the daemon did not say '{READY}…' ({error}); its log:\n{}",
                        started.log()
                    )
                }
            }
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The directory it has for temporary files.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.directory.path().join("tmp")
    }

    /// The directory of what outlives it, unless a test has named another.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The end of its log so far.
    pub(crate) fn log(&self) -> String {
        let log = self.log.lock().expect("no thread panics with it");
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Whether it is still running.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal by its name, such as TERM.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for it to exit by itself.
    ///
    /// # Panics
    /// When it has not at the deadline.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the daemon is still running after {limit:?}; its log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The guard first: once the daemon is reaped its pid may be somebody else's.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        if self.is_running() {
            self.signal("TERM");
            let deadline = Instant::now() + Duration::from_secs(5);
            while self.is_running() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- daemon log ---\n{}", self.log());
        }
    }
}

/// Sends a signal by its name to one process.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .stderr(Stdio::null())
        .status();
    assert!(status.is_ok(), "cannot run kill: {status:?}");
}

/// A shell that ends `pid` when the pipe to it closes, which the kernel does when we die.
fn guard(pid: u32) -> (Child, ChildStdin) {
    let mut guard = Command::new("sh")
        .args([
            "-c",
            "read -r _; kill -TERM \"$1\" && sleep 5 && kill -KILL \"$1\"",
            "sh",
            &pid.to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh is everywhere");
    let input = guard.stdin.take().expect("piped");
    (guard, input)
}

fn open_to_all(directory: &Path) {
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777))
        .expect("our own directory");
}

/// Keeps the last [`LOG_BYTES`] of a stream.
fn collect(mut stream: impl Read + Send + 'static, log: Arc<Mutex<Vec<u8>>>) {
    std::thread::spawn(move || {
        let mut piece = [0; 8192];
        while let Ok(count @ 1..) = stream.read(&mut piece) {
            let mut log = log.lock().expect("no thread panics with it");
            log.extend_from_slice(&piece[..count]);
            let excess = log.len().saturating_sub(LOG_BYTES);
            log.drain(..excess);
        }
    });
}

/// The lines of a stream, drained for as long as it is open.
fn first_lines(stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // The reader goes away once the daemon is up; the pipe must not fill all the same.
            let _ = sender.send(line);
        }
    });
    receiver
}
