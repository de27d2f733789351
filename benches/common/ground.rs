//! A daemon with a site beside it, and sessions that live as long as a benchmark.

use std::path::Path;

use anyhow::{Context as _, ensure};
use pagebox::grpc::v1::{Language, SessionOptions};

use super::client::{self, Client, OpenSession};
use super::daemon::Daemon;
use super::http::Http;

/// The title of the site's first page.
pub(crate) const TITLE: &str = "Tidewater Almanac";
/// The code that everything is compared by.
pub(crate) const CODE: &str = "await page.title()";
/// The same with agent-browser.
pub(crate) const COMMAND: &str = "agent-browser get title";
const HOUR: i64 = 3600;

/// Starts a daemon with every host port open to its pages. It keeps no session ready.
pub(crate) fn start(config: &str) -> Daemon {
    let binary = Path::new(env!("CARGO_BIN_EXE_pagebox"));
    Daemon::start(binary, config)
}

/// Opens a session on a page.
pub(crate) async fn open(client: &Client, url: &str) -> anyhow::Result<OpenSession> {
    let options = SessionOptions {
        start_url: url.to_owned(),
        ttl: client::seconds(HOUR),
        idle_ttl: client::seconds(HOUR),
        ..SessionOptions::default()
    };
    let session = client.create(options).await?;
    ensure!(session.start_error.is_empty(), "{}", session.start_error);
    Ok(OpenSession::new(client.clone(), session.id))
}

/// Where the browser of a session speaks CDP.
pub(crate) async fn cdp_url(daemon: &Daemon, session: &OpenSession) -> anyhow::Result<String> {
    let http = Http::new(&daemon.url());
    let reply = http.get(&format!("/v2/browser/{}", session.id)).await;
    let reply = reply.good();
    let url = reply["cdpUrl"].as_str();
    Ok(url.with_context(|| format!("no cdpUrl: {reply}"))?.into())
}

/// Runs [`CODE`], or what is like it in bash.
pub(crate) async fn title(session: &OpenSession, language: Language) -> anyhow::Result<()> {
    let code = match language {
        Language::Bash => COMMAND,
        _ => CODE,
    };
    let reply = session.exec(language, code).await;
    let title = match language {
        Language::Bash => Some(reply.stdout.trim_end()),
        _ => reply.result.as_deref(),
    };
    ensure!(title == Some(TITLE), "{}", client::describe(&reply));
    Ok(())
}
