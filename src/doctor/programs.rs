//! The programs and packages sandboxes need, each asked for its version.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::config::{Config, PROGRAM_DIRS, find_program};
use crate::sandbox::{Probe, ProbeState};

/// What repairs a missing program.
pub(super) const SETUP: &str = "run sandbox-images/setup.sh";
/// How long a program may take to say its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
const OLDEST_NODE: u32 = 20;
const OLDEST_PYTHON: (u32, u32) = (3, 11);
/// What bash code expects beside coreutils.
const TOOLS: [&str; 4] = ["bash", "curl", "git", "jq"];

/// Every program but Chromium.
pub(super) async fn all(config: &Config) -> Vec<Probe> {
    let mut probes = vec![node().await];
    match config.runners_dir() {
        Ok(runners) => probes.extend([
            node_package(&runners, "playwright-core", ProbeState::Refused),
            node_package(&runners, "agent-browser", ProbeState::Degraded),
            python(&runners).await,
        ]),
        Err(error) => probes.push(Probe::refused("runners", error.to_string(), SETUP)),
    }
    probes.push(tools().await);
    probes
}

/// Chromium's version; whether it starts is another question.
pub(super) async fn chromium(program: &Path) -> Probe {
    match version(program).await {
        Ok(version) => Probe::works("chromium", version),
        Err(error) => Probe::refused("chromium", format!("no session opens: {error}"), SETUP),
    }
}

async fn node() -> Probe {
    let bad = |why: String| Probe::refused("node", format!("no session opens: {why}"), SETUP);
    let Some(program) = find_program("node") else {
        return bad(format!("not in {}", PROGRAM_DIRS.join(" or ")));
    };
    match version(&program).await {
        Ok(version) if first_number(&version) >= OLDEST_NODE => Probe::works("node", version),
        Ok(version) => bad(format!("{version} is older than {OLDEST_NODE}")),
        Err(error) => bad(error.to_string()),
    }
}

async fn python(runners: &Path) -> Probe {
    let bad = |why: String| Probe::degraded("python", format!("no python code runs: {why}"), SETUP);
    let dir = runners.join("python");
    let Some(packages) = python_packages(&dir) else {
        return bad(format!("no playwright in {}", dir.display()));
    };
    let Some(program) = find_program("python3") else {
        return bad("no python3".to_owned());
    };
    match version(&program).await {
        Ok(version) if python_version(&version) >= OLDEST_PYTHON => {
            Probe::works("python", format!("{version}, {}", packages.display()))
        }
        Ok(version) => bad(format!("{version} is too old")),
        Err(error) => bad(error.to_string()),
    }
}

async fn tools() -> Probe {
    let mut found = Vec::new();
    for name in TOOLS {
        let answered = match find_program(name) {
            Some(program) => version(&program).await.map_err(|error| error.to_string()),
            None => Err("not installed".to_owned()),
        };
        match answered {
            Ok(_) => found.push(name),
            Err(why) => {
                return Probe::degraded("tools", format!("no {name} in bash code: {why}"), SETUP);
            }
        }
    }
    Probe::works("tools", found.join(", "))
}

/// The site-packages directory with playwright in a virtual environment below `dir`.
fn python_packages(dir: &Path) -> Option<PathBuf> {
    [".venv", "venv"]
        .iter()
        .flat_map(|venv| {
            std::fs::read_dir(dir.join(venv).join("lib"))
                .into_iter()
                .flatten()
        })
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("site-packages"))
        .find(|packages| packages.join("playwright").is_dir())
}

fn node_package(runners: &Path, name: &str, when_missing: ProbeState) -> Probe {
    let manifest = runners
        .join("node/node_modules")
        .join(name)
        .join("package.json");
    let version = std::fs::read(&manifest)
        .map_err(|error| error.to_string())
        .and_then(|bytes| {
            serde_json::from_slice::<serde_json::Value>(&bytes).map_err(|error| error.to_string())
        })
        .map(|manifest| manifest["version"].as_str().unwrap_or("?").to_owned());
    match version {
        Ok(version) => Probe::works(name, version),
        Err(error) => Probe {
            state: when_missing,
            ..Probe::refused(name, format!("{}: {error}", manifest.display()), SETUP)
        },
    }
}

/// What `program --version` prints, with nothing of our environment.
async fn version(program: &Path) -> Result<String, NoVersion> {
    let run = Command::new(program)
        .arg("--version")
        .env_clear()
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let name = || program.to_owned();
    match tokio::time::timeout(VERSION_TIMEOUT, run).await {
        Err(_) => Err(NoVersion::Slow(name())),
        Ok(Err(source)) => Err(NoVersion::Start {
            program: name(),
            source,
        }),
        Ok(Ok(output)) if !output.status.success() => Err(NoVersion::Failed {
            program: name(),
            status: output.status,
        }),
        Ok(Ok(output)) => Ok(String::from_utf8_lossy(&output.stdout)
            .lines()
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()),
    }
}

/// Why a program did not say its version.
#[derive(Debug, thiserror::Error)]
enum NoVersion {
    #[error("cannot run {program}: {source}")]
    Start {
        program: PathBuf,
        source: std::io::Error,
    },
    #[error("{0} --version did not end")]
    Slow(PathBuf),
    #[error("{program} --version failed: {status}")]
    Failed {
        program: PathBuf,
        status: std::process::ExitStatus,
    },
}

fn numbers(text: &str) -> impl Iterator<Item = u32> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
}

fn first_number(text: &str) -> u32 {
    numbers(text).next().unwrap_or(0)
}

fn python_version(text: &str) -> (u32, u32) {
    let mut numbers = numbers(text);
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_programs_print_them() {
        assert_eq!(first_number("v20.20.2"), 20);
        assert_eq!(first_number("none"), 0);
        assert_eq!(python_version("Python 3.11.2"), (3, 11));
        assert!(python_version("Python 3.9.1") < OLDEST_PYTHON);
    }

    #[test]
    fn a_package_is_found_by_its_manifest() {
        let runners = tempfile::tempdir().unwrap();
        let package = runners.path().join("node/node_modules/agent-browser");
        let probe = node_package(runners.path(), "agent-browser", ProbeState::Degraded);
        assert_eq!((probe.state, &*probe.remedy), (ProbeState::Degraded, SETUP));
        std::fs::create_dir_all(&package).unwrap();
        std::fs::write(package.join("package.json"), "{\"version\":\"0.41.2\"}").unwrap();
        let probe = node_package(runners.path(), "agent-browser", ProbeState::Degraded);
        assert_eq!(
            (probe.state, probe.detail.as_str()),
            (ProbeState::Works, "0.41.2")
        );
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let probe = chromium(Path::new("/nonexistent/chromium")).await;
        assert_eq!(probe.state, ProbeState::Refused);
        assert!(probe.detail.contains("/nonexistent/chromium"), "{probe:?}");
    }
}
