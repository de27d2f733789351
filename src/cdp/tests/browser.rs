//! A Chromium of its own for a test, with a hub on its pipe.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use crate::cdp::{Config, Files, Hub, download_dir};

/// Directories of this machine as the scratch, under their real names.
pub(crate) struct LocalFiles {
    roots: Vec<PathBuf>,
}

impl LocalFiles {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            roots: vec![root.to_owned(), download_dir()],
        }
    }
}

impl Files for LocalFiles {
    fn allowed(&self, path: &Path) -> bool {
        self.roots.iter().any(|root| path.starts_with(root))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}

/// A browser with a hub, ended on drop.
pub(crate) struct Browser {
    pub(crate) hub: Hub,
    /// What `Files::allowed` allows; anybody may write here.
    pub(crate) scratch: tempfile::TempDir,
    pub(crate) child: Child,
    /// Where the hub serves.
    pub(crate) port: u16,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let anybody = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(scratch.path(), anybody).unwrap();
        let files = Arc::new(LocalFiles::new(scratch.path()));
        let (child, to, from) = chromium(scratch.path());
        let hub = Hub::start(to, from, files, config).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = hub.clone();
        tokio::spawn(async move { serving.serve(listener).await });
        Self {
            hub,
            scratch,
            child,
            port,
        }
    }

    /// Where a client with a token connects.
    pub(crate) fn url(&self, token: &str) -> String {
        format!("ws://127.0.0.1:{}/devtools/browser/{token}", self.port)
    }
}

/// Starts Chromium with its own sandbox on: never as root, which it would refuse.
fn chromium(scratch: &Path) -> (Child, OwnedFd, OwnedFd) {
    let (to, reads) = pipe::pipe().unwrap();
    let (writes, from) = pipe::pipe().unwrap();
    let (reads, writes) = (
        reads.into_blocking_fd().unwrap(),
        writes.into_blocking_fd().unwrap(),
    );
    let me = std::process::id();
    let profile = scratch.join("profile");
    std::fs::create_dir(&profile).unwrap();
    std::fs::set_permissions(&profile, std::fs::Permissions::from_mode(0o777)).unwrap();
    let as_nobody = match nix::unistd::geteuid().is_root() {
        true => "setpriv --reuid=65534 --regid=65534 --clear-groups",
        false => "",
    };
    // The fds of the pipe are opened anew by their names: none has to be inherited.
    let script = format!(
        "exec {as_nobody} /usr/lib/chromium/chromium-headless-shell --headless \
         --remote-debugging-pipe --user-data-dir={} --disable-dev-shm-usage --no-first-run \
         --disable-gpu --site-per-process about:blank \
         3</proc/{me}/fd/{} 4>/proc/{me}/fd/{}",
        profile.display(),
        reads.as_raw_fd(),
        writes.as_raw_fd(),
    );
    let child = Command::new("bash")
        .args(["-c", &script])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", &profile)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    // Held until bash has opened them: its first answer proves that it has.
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        drop((reads, writes));
    });
    (
        child,
        to.into_nonblocking_fd().unwrap(),
        from.into_nonblocking_fd().unwrap(),
    )
}
