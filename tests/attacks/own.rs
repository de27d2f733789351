//! A daemon that belongs to one case.

use std::path::Path;
use std::time::Duration;

use pagebox::grpc::v1::Language;

use crate::client::{Client, OpenSession};
use crate::daemon::Daemon;
use crate::leaks::{cgroups, descendants, eventually, holdings};

/// How long it may take to end once told to.
const END_LIMIT: Duration = Duration::from_secs(60);

/// A daemon beside the one all cases share.
pub(crate) struct Own {
    daemon: Daemon,
    client: Client,
}

impl Own {
    pub(crate) fn start(config: &str) -> Self {
        let daemon = Daemon::start(Path::new(env!("CARGO_BIN_EXE_pagebox")), config);
        let client = Client::new(&daemon.url());
        Self { daemon, client }
    }

    /// The daemon.
    pub(crate) fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// A connection to it.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// A new session on a blank page.
    pub(crate) async fn blank(&self) -> OpenSession {
        self.client.open("about:blank").await
    }

    /// Sees that it still serves and lets go of what its sessions had, then ends it and sees that
    /// nothing of it is left.
    pub(crate) async fn end(mut self) {
        let session = self.blank().await;
        session.good(Language::Bash, "true").await;
        session.stop().await;
        let all = descendants(self.daemon.pid());
        let groups = cgroups(&all);
        self.daemon.signal("TERM");
        let status = self.daemon.wait(END_LIMIT);
        assert!(status.success(), "{status}");
        eventually(END_LIMIT, async || {
            if let Some(process) = all.iter().find(|process| process.is_alive()) {
                return Err(format!("{process:?} is alive"));
            }
            match groups.iter().find(|group| group.exists()) {
                Some(group) => Err(format!("{} exists", group.display())),
                None => Ok(()),
            }
        })
        .await;
        let left = holdings(self.daemon.pid(), &self.daemon.temporary());
        assert_eq!((left.cgroups, left.temporary_files), (0, 0), "{left:?}");
    }
}
