//! Where files are: the usual config files, the runners, the sandbox images.

use std::path::{Path, PathBuf};

use super::{Config, Error};

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

impl Config {
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
