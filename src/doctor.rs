//! What this host can do for Pagebox: the spawner's own probes, and the programs sandboxes need.
//!
//! Only looks; changes and installs nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::process::Command;

use crate::config::{Config, PROGRAM_DIRS, find_program};
use crate::sandbox::{self, Probe, ProbeState, Sandboxes, SpawnerProcess};

/// What repairs a missing program.
const REPAIR: &str = "run sandbox-images/setup.sh";
const FONT_DIR: &str = "/usr/share/fonts";
/// Directories looked through for a font: enough for any real tree, not for a loop of links.
const MAX_FONT_DIRS: usize = 500;
/// How long a program may take to say its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
const OLDEST_NODE: u32 = 20;
const OLDEST_PYTHON: (u32, u32) = (3, 11);

/// The sum of all probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing is missing.
    Works,
    /// It runs, with something weaker or missing.
    Degraded,
    /// It does not run.
    CannotRun,
}

impl Verdict {
    /// The worst of them.
    #[must_use]
    pub fn of(probes: &[Probe]) -> Self {
        let any = |state| probes.iter().any(|probe| probe.state == state);
        if any(ProbeState::Refused) {
            Self::CannotRun
        } else if any(ProbeState::Degraded) {
            Self::Degraded
        } else {
            Self::Works
        }
    }
}

/// Examines the host, with the spawner or the reason there is none; inside the runtime.
pub async fn examine(config: &Config, spawner: anyhow::Result<SpawnerProcess>) -> Vec<Probe> {
    let mut probes = isolation(spawner).await;
    probes.extend(
        config
            .egress
            .weakening()
            .map(|weakening| degraded("egress", weakening)),
    );
    probes.push(chromium(&config.browser.program).await);
    probes.push(fonts(Path::new(FONT_DIR)));
    probes.push(node().await);
    match config.runners_dir() {
        Ok(runners) => probes.extend([
            node_package(&runners, "playwright-core", ProbeState::Refused),
            node_package(&runners, "agent-browser", ProbeState::Degraded),
            python(&runners).await,
        ]),
        Err(error) => probes.push(refused("runners", error.to_string())),
    }
    probes
}

async fn isolation(spawner: anyhow::Result<SpawnerProcess>) -> Vec<Probe> {
    let sandboxes = match spawner {
        Ok(process) => Sandboxes::connect(process).map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    match sandboxes {
        Ok(sandboxes) => {
            let probes = sandboxes.report().probes.clone();
            sandboxes.shutdown().await;
            probes
        }
        Err(error) => match error.downcast_ref() {
            // The spawner has probed, and found too little.
            Some(sandbox::Error::HostRefused(report)) => report.probes.clone(),
            _ => vec![refused("spawner", format!("{error:#}"))],
        },
    }
}

fn works(mechanism: &str, detail: impl Into<String>) -> Probe {
    probe(mechanism, ProbeState::Works, detail)
}

fn refused(mechanism: &str, detail: impl Into<String>) -> Probe {
    probe(mechanism, ProbeState::Refused, detail)
}

fn degraded(mechanism: &str, detail: impl Into<String>) -> Probe {
    probe(mechanism, ProbeState::Degraded, detail)
}

fn probe(mechanism: &str, state: ProbeState, detail: impl Into<String>) -> Probe {
    Probe {
        mechanism: mechanism.to_owned(),
        state,
        detail: detail.into(),
    }
}

async fn chromium(program: &Path) -> Probe {
    match version(program).await {
        Ok(version) => works("chromium", version),
        Err(error) => refused(
            "chromium",
            format!("no session can be opened: {error}; {REPAIR}"),
        ),
    }
}

async fn node() -> Probe {
    let Some(program) = find_program("node") else {
        return refused(
            "node",
            format!("no session can be opened: not in {PROGRAM_DIRS:?}; {REPAIR}"),
        );
    };
    match version(&program).await {
        Ok(version) if first_number(&version) >= OLDEST_NODE => works("node", version),
        Ok(version) => refused(
            "node",
            format!("{version} is older than {OLDEST_NODE}; {REPAIR}"),
        ),
        Err(error) => refused("node", format!("{error}; {REPAIR}")),
    }
}

async fn python(runners: &Path) -> Probe {
    let lost = "python code cannot run";
    let Some(packages) = python_packages(&runners.join("python")) else {
        return degraded(
            "python",
            format!(
                "{lost}: no playwright in {}; {REPAIR}",
                runners.join("python").display()
            ),
        );
    };
    let Some(program) = find_program("python3") else {
        return degraded("python", format!("{lost}: no python3; {REPAIR}"));
    };
    match version(&program).await {
        Ok(version) if python_version(&version) >= OLDEST_PYTHON => {
            works("python", format!("{version}, {}", packages.display()))
        }
        Ok(version) => degraded("python", format!("{lost}: {version} is too old; {REPAIR}")),
        Err(error) => degraded("python", format!("{lost}: {error}; {REPAIR}")),
    }
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
        Ok(version) => works(name, version),
        Err(error) => probe(
            name,
            when_missing,
            format!("{}: {error}; {REPAIR}", manifest.display()),
        ),
    }
}

/// Without fonts Chromium lays out no text at all.
fn fonts(root: &Path) -> Probe {
    let mut dirs = vec![root.to_owned()];
    let mut seen = 0;
    while let Some(dir) = dirs.pop() {
        seen += 1;
        if seen > MAX_FONT_DIRS {
            break;
        }
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.extension().and_then(|suffix| suffix.to_str()) {
                Some("ttf" | "otf" | "ttc" | "pfb") => {
                    return works("fonts", root.display().to_string());
                }
                _ if entry.file_type().is_ok_and(|kind| kind.is_dir()) => dirs.push(path),
                _ => {}
            }
        }
    }
    degraded(
        "fonts",
        format!(
            "pages show no text: no font in {}; {REPAIR}",
            root.display()
        ),
    )
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
    fn the_worst_probe_decides() {
        assert_eq!(Verdict::of(&[]), Verdict::Works);
        assert_eq!(Verdict::of(&[works("a", "")]), Verdict::Works);
        assert_eq!(
            Verdict::of(&[works("a", ""), degraded("b", "")]),
            Verdict::Degraded
        );
        assert_eq!(
            Verdict::of(&[degraded("a", ""), refused("b", "")]),
            Verdict::CannotRun
        );
    }

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
        assert_eq!(probe.state, ProbeState::Degraded);
        std::fs::create_dir_all(&package).unwrap();
        std::fs::write(package.join("package.json"), "{\"version\":\"0.41.2\"}").unwrap();
        let probe = node_package(runners.path(), "agent-browser", ProbeState::Degraded);
        assert_eq!(
            (probe.state, probe.detail.as_str()),
            (ProbeState::Works, "0.41.2")
        );
    }

    #[test]
    fn fonts_are_looked_for_in_all_depths() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(fonts(root.path()).state, ProbeState::Degraded);
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::fs::write(root.path().join("a/b/x.ttf"), "").unwrap();
        assert_eq!(fonts(root.path()).state, ProbeState::Works);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let error = version(Path::new("/nonexistent/node")).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains("/nonexistent/node"), "{error}");
    }
}
