//! Where files are: the usual config files, the runners, the sandbox images, programs for sandboxes.

use std::path::{Path, PathBuf};

use super::{Config, Error};

/// Where programs of a sandbox may come from: sandboxes see only /usr. What was installed by hand
/// comes first, as in the usual PATH.
pub const PROGRAM_DIRS: [&str; 2] = ["/usr/local/bin", "/usr/bin"];

/// A program that sandboxes may be given, by the name it goes by.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    PROGRAM_DIRS
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
}

/// Node's program and the directory of the npm beside it, wherever its packager put them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFiles {
    /// The program itself, no link.
    pub program: PathBuf,
    /// The package `npm`: holds `bin/npm-cli.js`. May be missing.
    pub npm: PathBuf,
}

impl NodeFiles {
    /// Looks for them. What there is not is named where Debian's own package would have it, so that
    /// whoever needs it can say what is missing.
    #[must_use]
    pub fn find() -> Self {
        Self::behind(&find_program("node").unwrap_or_else(|| PathBuf::from("/usr/bin/node")))
    }

    /// From the name node goes by, perhaps a link; `npm` stands beside it.
    fn behind(node: &Path) -> Self {
        let npm = node.with_file_name("npm").canonicalize().ok();
        let package = npm.as_deref().and_then(|cli| {
            cli.ends_with("bin/npm-cli.js")
                .then(|| cli.parent()?.parent())
                .flatten()
        });
        Self {
            program: node.canonicalize().unwrap_or_else(|_| node.to_owned()),
            npm: package.map_or_else(|| PathBuf::from("/usr/share/nodejs/npm"), Path::to_owned),
        }
    }
}

/// `/etc/pagebox/pagebox.toml`, then the user's own; those that exist.
pub(super) fn usual_files() -> Vec<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = set("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".config")));
    let system = Some(PathBuf::from("/etc"));
    [system, home]
        .into_iter()
        .flatten()
        .map(|dir| dir.join("pagebox/pagebox.toml"))
        .filter(|path| path.exists())
        .collect()
}

/// This process's uids: real, effective, saved, file system.
///
/// # Errors
/// When /proc does not tell; a process that may be root must not go on then.
pub fn own_uids() -> std::io::Result<[u32; 4]> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let uids: Option<Vec<u32>> = uids.and_then(|uids| {
        uids.split_whitespace()
            .map(|uid| uid.parse().ok())
            .collect()
    });
    uids.and_then(|uids| uids.try_into().ok())
        .ok_or_else(|| std::io::Error::other("no uids in /proc/self/status"))
}

/// Where state is when nothing is said.
fn usual_data_dir(is_root: bool) -> Option<PathBuf> {
    if is_root {
        return Some(PathBuf::from("/var/lib/pagebox"));
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let state = set("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.or_else(|| set("HOME").map(|home| Path::new(&home).join(".local/state")));
    state.map(|state| state.join("pagebox"))
}

impl Config {
    /// Directory of what outlives the daemon.
    ///
    /// # Errors
    /// When nothing is configured, and nothing says whose process this is or where its home is.
    pub fn data_dir(&self) -> Result<PathBuf, Error> {
        if let Some(path) = &self.data_dir {
            return Ok(path.clone());
        }
        let is_root = own_uids().is_ok_and(|uids| uids.contains(&0));
        usual_data_dir(is_root).ok_or_else(|| Error::Invalid {
            key: "data_dir",
            message: "is not set, and neither are XDG_STATE_HOME and HOME".to_owned(),
        })
    }

    /// Directory of the runners (`node/`, `python/`, `bash/`).
    ///
    /// # Errors
    /// When it is not where the configuration says, nor beside the binary.
    pub fn runners_dir(&self) -> Result<PathBuf, Error> {
        locate("runners", self.runners.as_deref(), "runners")
    }

    /// Directory of the sandbox images (`*.toml`).
    ///
    /// # Errors
    /// When it is not where the configuration says, nor beside the binary.
    pub fn images_dir(&self) -> Result<PathBuf, Error> {
        locate("images", self.images.as_deref(), "sandbox-images")
    }
}

fn locate(what: &'static str, configured: Option<&Path>, name: &str) -> Result<PathBuf, Error> {
    let exe_dir = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.canonicalize().ok()?.parent()?.to_owned()));
    locate_from(what, configured, name, exe_dir.as_deref())
}

/// Looks in the configured place only, or else: beside the binary, in `../share/pagebox`, and
/// above `target/debug` and `target/debug/deps` for a build by cargo.
fn locate_from(
    what: &'static str,
    configured: Option<&Path>,
    name: &str,
    exe_dir: Option<&Path>,
) -> Result<PathBuf, Error> {
    let candidates: Vec<PathBuf> = match (configured, exe_dir) {
        (Some(path), _) => vec![path.to_owned()],
        (None, Some(dir)) => [".", "../share/pagebox", "../..", "../../.."]
            .iter()
            .map(|up| dir.join(up).join(name))
            .collect(),
        (None, None) => Vec::new(),
    };
    candidates
        .iter()
        .filter(|path| path.is_dir())
        .find_map(|path| path.canonicalize().ok())
        .ok_or_else(|| Error::NotFound {
            what,
            looked: candidates
                .iter()
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
                .join(", "),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_the_binary_wins_over_share_wins_over_the_project() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let exe = root.join("target/debug");
        std::fs::create_dir_all(&exe).unwrap();
        let found = |expected: &str| {
            std::fs::create_dir_all(root.join(expected)).unwrap();
            let found = locate_from("runners", None, "runners", Some(&exe)).unwrap();
            assert_eq!(found, root.join(expected));
        };
        found("runners");
        found("target/share/pagebox/runners");
        found("target/debug/runners");
    }

    #[test]
    fn npm_is_found_wherever_node_was_installed() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        // Upstream's and NodeSource's layout, what the set-up script unpacks, Debian's.
        for (name, home, package) in [
            ("upstream", "bin/node", "lib/node_modules/npm"),
            (
                "unpacked",
                "lib/pagebox-node/bin/node",
                "lib/pagebox-node/lib/node_modules/npm",
            ),
            ("debian", "bin/node", "share/nodejs/npm"),
        ] {
            let prefix = root.join(name);
            let (program, package) = (prefix.join(home), prefix.join(package));
            for dir in [
                &prefix.join("bin"),
                program.parent().unwrap(),
                &package.join("bin"),
            ] {
                std::fs::create_dir_all(dir).unwrap();
            }
            std::fs::write(&program, "").unwrap();
            std::fs::write(package.join("bin/npm-cli.js"), "").unwrap();
            let link = |to: &Path, at: &str| {
                if !prefix.join(at).exists() {
                    std::os::unix::fs::symlink(to, prefix.join(at)).unwrap();
                }
            };
            link(&program, "bin/node");
            link(&package.join("bin/npm-cli.js"), "bin/npm");
            let found = NodeFiles::behind(&prefix.join("bin/node"));
            let npm = package;
            assert_eq!(found, NodeFiles { program, npm }, "{name}");
        }
        let none = NodeFiles::behind(&root.join("bin/node"));
        assert_eq!(none.program, root.join("bin/node"));
        assert_eq!(none.npm, Path::new("/usr/share/nodejs/npm"));
    }

    #[test]
    fn a_configured_place_is_the_only_one() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("runners")).unwrap();
        let missing = root.path().join("elsewhere");
        let error = locate_from("runners", Some(&missing), "runners", Some(root.path()))
            .unwrap_err()
            .to_string();
        assert!(error.contains("elsewhere"), "{error}");
        assert!(error.contains("`runners`"), "{error}");
    }
}
