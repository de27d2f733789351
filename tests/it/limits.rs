//! Limits, exact and total, and what a reply says of them: the same tests against a daemon in each
//! mode of `[sandbox] cgroups` that this host can run.

use std::sync::OnceLock;

use pagebox::grpc::v1::{ExecutionLimits, Language, SessionLimits, SessionOptions};

use crate::client::{Client, OpenSession};
use crate::daemon::Daemon;
use crate::shared::binary;

mod api;
mod files;
mod memory;
mod processes;
mod time;

const LANGUAGES: [Language; 3] = [Language::Node, Language::Python, Language::Bash];

/// A daemon in one mode, and what its cgroups limit.
pub(crate) struct World {
    mode: &'static str,
    client: Client,
    memory: bool,
    processes: bool,
    cpu: bool,
}

impl World {
    /// In the mode this host has; it may be that without cgroups.
    async fn own() -> Self {
        static DAEMON: OnceLock<Daemon> = OnceLock::new();
        Self::at("auto", &DAEMON).await
    }

    async fn without_cgroups() -> Self {
        static DAEMON: OnceLock<Daemon> = OnceLock::new();
        Self::at("none", &DAEMON).await
    }

    /// Both.
    async fn all() -> [Self; 2] {
        [Self::own().await, Self::without_cgroups().await]
    }

    async fn at(mode: &'static str, daemon: &'static OnceLock<Daemon>) -> Self {
        let config = format!("[session]\nmax_sessions = 60\n[sandbox]\ncgroups = '{mode}'\n");
        // More than what this host lacks by itself.
        let all = [(
            "PAGEBOX_SANDBOX__ALLOW_DEGRADED",
            "no-cgroup,no-landlock,shared-uid",
        )];
        let daemon = daemon.get_or_init(|| Daemon::start_in(binary(), &config, &[], &all));
        let client = Client::new(&daemon.url());
        let session = client.open("about:blank").await;
        let degraded = session.now().await.isolation.unwrap_or_default().degraded;
        session.stop().await;
        let has = |what: &str| !degraded.iter().any(|line| line.starts_with(what));
        Self {
            mode,
            memory: has("cgroup-memory"),
            processes: has("cgroup-processes"),
            cpu: has("cgroup-cpu"),
            client,
        }
    }

    /// A session with these limits.
    async fn open(&self, limits: SessionLimits, execution_limits: ExecutionLimits) -> OpenSession {
        let options = SessionOptions {
            start_url: "about:blank".to_owned(),
            limits: Some(limits),
            execution_limits: Some(execution_limits),
            ..SessionOptions::default()
        };
        self.client.open_with(options).await
    }

    /// A session whose contexts have these limits.
    async fn open_contexts(&self, limits: ExecutionLimits) -> OpenSession {
        self.open(SessionLimits::default(), limits).await
    }
}

/// After whatever happened: every language works.
async fn goes_on(session: &OpenSession) {
    assert_eq!(session.node("6 * 7").await, "42");
    assert_eq!(session.python("6 * 7").await, "42");
    assert_eq!(session.bash("echo 42").await, "42");
}

#[tokio::test]
async fn without_cgroups_is_weaker_by_name_and_refused_unless_allowed() {
    let world = World::without_cgroups().await;
    assert_eq!(
        (world.memory, world.processes, world.cpu),
        (false, false, false)
    );
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        config.path(),
        "[sandbox]\ncgroups = 'none'\nallow_degraded = ['no-landlock', 'shared-uid']\n",
    )
    .unwrap();
    let ended = std::process::Command::new(binary())
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(config.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success(), "{stderr}");
    assert!(
        stderr.contains("cgroup-memory") && stderr.contains("no-cgroup"),
        "{stderr}"
    );
}
