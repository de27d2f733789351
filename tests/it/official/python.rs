//! firecrawl-py, sync and async; and what schemathesis makes of the OpenAPI document.

use super::{clients, passes};
use crate::daemon::Daemon;
use crate::keys::key;
use crate::prompt::world;
use crate::shared::{binary, daemon};

/// Runs a script of pytest.
async fn script(name: &str, arguments: &[&str], daemon: &Daemon) {
    let python = clients().join(".venv/bin/python");
    let script = format!("python/{name}.py");
    let mut whole = vec!["-m", "pytest", "-q", "-p", "no:cacheprovider", &script];
    whole.extend_from_slice(arguments);
    passes(&python, &whole, daemon).await;
}

#[tokio::test]
async fn scrape_interact_and_stop_as_documented() {
    script("test_interact", &[], daemon()).await;
}

#[tokio::test]
async fn standalone_sessions() {
    script("test_sessions", &[], daemon()).await;
}

#[tokio::test]
async fn the_client_for_asyncio() {
    script("test_async", &[], daemon()).await;
}

#[tokio::test]
async fn errors_as_the_clients_classes() {
    script("test_errors", &[], daemon()).await;
}

#[tokio::test]
async fn prompts() {
    script("test_prompt", &[], &world().daemon).await;
}

#[tokio::test]
async fn profiles() {
    script("test_profiles", &[], daemon()).await;
}

#[tokio::test]
async fn keys_limits_and_other_owners() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let limited = ["create", "--tenant", "limited", "--max-sessions", "1"];
    let poor = ["create", "--tenant", "poor", "--budget", "10"];
    let (limited, poor) = (key(&data_dir, &limited), key(&data_dir, &poor));
    let place = [("PAGEBOX_DATA_DIR", data_dir.to_str().unwrap())];
    let daemon = Daemon::start_in(binary(), "", &["--host-loopback", "*"], &place);
    script("test_keys", &["--key", &limited, "--key", &poor], &daemon).await;
}

#[tokio::test]
async fn what_is_not_kept_is_replayed_or_a_conflict() {
    let daemon = Daemon::start(binary(), "[scrape]\nkeep_at_most = 0\n");
    script("test_replay", &[], &daemon).await;
}

#[tokio::test]
async fn the_openapi_document_says_what_is_answered() {
    // Two are in use from the start.
    // Calls that take control are among those made, and code then waits.
    let config = "[session]\nmax_sessions = 3\nhuman_control = \"2s\"\n";
    let daemon = Daemon::start(binary(), config);
    let document = format!("{}/openapi.json", daemon.url());
    let schemathesis = clients().join(".venv/bin/schemathesis");
    passes(&schemathesis, &["--no-color", "run", &document], &daemon).await;
}
