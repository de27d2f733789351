//! The JS SDK, the CLI, the MCP server; Puppeteer over `cdpUrl`. Playwright over it is in `http/cdp.rs`.

use std::path::Path;

use super::passes;
use crate::daemon::Daemon;
use crate::keys::key;
use crate::prompt::world;
use crate::shared::{binary, daemon};

async fn script_passes(name: &str, daemon: &Daemon) {
    let script = format!("node/{name}.mjs");
    passes(Path::new("node"), &[&script], daemon).await;
}

#[tokio::test]
async fn the_sdk() {
    script_passes("sdk", daemon()).await;
}

#[tokio::test]
async fn the_sdk_where_scrapes_are_done_again() {
    let daemon = Daemon::start(binary(), "[scrape]\nkeep = \"0s\"\n");
    script_passes("replay", &daemon).await;
}

#[tokio::test]
async fn the_command_line() {
    script_passes("cli", daemon()).await;
}

#[tokio::test]
async fn profiles() {
    script_passes("profiles", daemon()).await;
}

#[tokio::test]
async fn keys() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let key = key(&data_dir, &["create", "--tenant", "acme"]);
    let place = [("PAGEBOX_DATA_DIR", data_dir.to_str().unwrap())];
    let daemon = Daemon::start_in(binary(), "", &[], &place);
    passes(Path::new("node"), &["node/keys.mjs", &key], &daemon).await;
}

#[tokio::test]
async fn the_mcp_server() {
    script_passes("mcp", daemon()).await;
}

#[tokio::test]
async fn puppeteer() {
    script_passes("puppeteer", daemon()).await;
}

#[tokio::test]
async fn prompts() {
    script_passes("prompt", &world().daemon).await;
}
