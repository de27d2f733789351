//! The official clients, unmodified and pinned (`tests/clients/`), against the real daemon. Each test is a
//! script there, whose assertions are its own; here it is given a daemon and a site.

mod node;
mod python;
mod readme;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::daemon::Daemon;
use crate::shared::site;

/// Longest run of one script.
const DEADLINE: Duration = Duration::from_secs(600);

/// Where the clients and the scripts are.
fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// `PATH` with the clients' own programs first.
fn path() -> OsString {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = [
        "tests/clients/node_modules/.bin",
        "tests/clients/.venv/bin",
        "runners/node/node_modules/.bin",
    ];
    let others = std::env::var_os("PATH").unwrap_or_default();
    let all = own.map(|folder| root.join(folder)).into_iter();
    std::env::join_paths(all.chain(std::env::split_paths(&others))).unwrap()
}

/// Runs a script against a daemon, with `PAGEBOX_URL` and `SITE_URL` in its environment and a home of its
/// own, and shows what it said when it fails. What it printed.
pub(crate) async fn passes(program: &Path, arguments: &[&str], daemon: &Daemon) -> String {
    let home = tempfile::tempdir().unwrap();
    let run = Command::new(program)
        .args(arguments)
        .current_dir(clients())
        .env("PATH", path())
        .env("HOME", home.path())
        .env_remove("XDG_RUNTIME_DIR")
        .env("PAGEBOX_URL", daemon.url())
        .env("SITE_URL", site().url(""))
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, run).await;
    let output = output
        .unwrap_or_else(|_| panic!("{arguments:?} ran for {} s", DEADLINE.as_secs()))
        .unwrap_or_else(|error| panic!("{}: {error}; run `make setup-dev`", program.display()));
    assert!(
        output.status.success(),
        "{arguments:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
