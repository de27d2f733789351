//! One daemon and one fixture site for all tests that leave no mark on them.

use std::path::Path;
use std::sync::OnceLock;

use crate::client::{Client, OpenSession};
use crate::daemon::Daemon;
use crate::site::Site;

/// Enough for tests that do not stop their session at once.
const CONFIG: &str = "[session]\nmax_sessions = 60\n";

/// The program under test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_pagebox"))
}

/// The daemon most tests share. It ends when the test process does.
pub(crate) fn daemon() -> &'static Daemon {
    static DAEMON: OnceLock<Daemon> = OnceLock::new();
    DAEMON.get_or_init(|| Daemon::start(binary(), CONFIG))
}

/// The site all tests share, on a runtime of its own: those of tests end with the test.
pub(crate) fn site() -> &'static Site {
    static SITE: OnceLock<(Site, tokio::runtime::Runtime)> = OnceLock::new();
    let (site, _) = SITE.get_or_init(|| {
        std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .expect("a runtime");
            let site = runtime.block_on(Site::start()).expect("a free port");
            (site, runtime)
        })
        .join()
        .expect("the site starts")
    });
    site
}

/// A new connection to the shared daemon.
pub(crate) fn client() -> Client {
    Client::new(&daemon().url())
}

/// A new session of the shared daemon on a page of the site.
pub(crate) async fn open(path: &str) -> OpenSession {
    client().open(&site().url(path)).await
}

/// A new session of the shared daemon on a blank page.
pub(crate) async fn blank() -> OpenSession {
    client().open("about:blank").await
}
