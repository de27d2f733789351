//! Images: what a sandbox sees. Reads `sandbox-images/NAME.toml` and the seccomp profile it names
//! into plain data; building is the spawner's work.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::limits::Bytes;

use super::error::Error;
use super::seccomp;

/// What a sandbox sees: parsed from `sandbox-images/NAME.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Image {
    /// The file's name without `.toml`.
    pub name: String,
    /// Everything else the file says, variables replaced.
    pub(super) recipe: Recipe,
    /// The text of the seccomp profile it names.
    pub(super) seccomp: String,
}

/// The fields of an image file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    /// Profile: `seccomp/NAME.json` beside the image file.
    pub(super) seccomp: String,
    /// Whether /proc is mounted (only its own processes, `subset=pid`).
    #[serde(default)]
    pub(super) proc: bool,
    /// Host files and directories, read-only.
    #[serde(default)]
    pub(super) binds: Vec<Bind>,
    #[serde(default)]
    pub(super) symlinks: Vec<Symlink>,
    /// Nodes of the host's /dev, by name.
    #[serde(default)]
    pub(super) devices: Vec<String>,
    /// Writable memory only this sandbox sees.
    #[serde(default)]
    pub(super) tmpfs: Vec<Tmpfs>,
    /// Directories of the session's scratch.
    #[serde(default)]
    pub(super) scratch: Vec<ScratchMount>,
    /// How many namespaces may be created inside; 0 each for all that are not named.
    #[serde(default)]
    pub(super) namespaces: Namespaces,
    #[serde(default)]
    pub(super) landlock: Landlock,
}

/// One read-only bind.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bind {
    /// On the host. One component may hold a `*`; then `to` needs that only one path matches.
    pub(super) from: PathBuf,
    /// Inside; the same path when absent.
    pub(super) to: Option<PathBuf>,
    /// Skipped when the host does not have it.
    #[serde(default)]
    pub(super) optional: bool,
    /// Mounted noexec when false.
    #[serde(default = "yes")]
    pub(super) exec: bool,
}

impl Bind {
    pub(super) fn target(&self) -> &Path {
        self.to.as_deref().unwrap_or(&self.from)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Symlink {
    pub(super) at: PathBuf,
    pub(super) to: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tmpfs {
    pub(super) at: PathBuf,
    pub(super) size: Bytes,
    /// Files and directories it may hold.
    pub(super) inodes: u64,
    #[serde(default)]
    pub(super) exec: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScratchMount {
    pub(super) dir: ScratchDir,
    pub(super) at: PathBuf,
    #[serde(default)]
    pub(super) exec: bool,
    #[serde(default)]
    pub(super) read_only: bool,
}

/// The parts of a scratch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ScratchDir {
    Tmp,
    Workspace,
    Agent,
}

impl ScratchDir {
    pub(super) const ALL: [Self; 3] = [Self::Tmp, Self::Workspace, Self::Agent];

    /// Its path inside, as callers name it.
    pub(super) fn inside(self) -> &'static str {
        match self {
            Self::Tmp => "/tmp",
            Self::Workspace => "/workspace",
            Self::Agent => "/run/agent-browser",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tmp => "tmp",
            Self::Workspace => "workspace",
            Self::Agent => "agent",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Namespaces {
    pub(super) user: u32,
    pub(super) pid: u32,
    pub(super) net: u32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Landlock {
    /// Paths below which files may be executed; everything read-only when absent.
    pub(super) execute: Option<Vec<PathBuf>>,
    /// TCP: no bind, and connect only to the ports the daemon listens on.
    pub(super) tcp_listeners_only: bool,
}

fn yes() -> bool {
    true
}

impl Image {
    /// Reads every `*.toml` of a directory; `${name}` is replaced from `vars`.
    ///
    /// # Errors
    /// A file that cannot be read, has an unknown field, a path that is not absolute and plain, an
    /// unknown variable, or a seccomp profile that does not compile.
    pub fn load_all(dir: &Path, vars: &[(&str, &Path)]) -> Result<Vec<Self>, Error> {
        let read_error = |path: &Path, source| Error::ReadImage {
            path: path.to_owned(),
            source,
        };
        let mut files: Vec<PathBuf> = fs::read_dir(dir)
            .map_err(|error| read_error(dir, error))?
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| read_error(dir, error))?
            .into_iter()
            .map(|entry| entry.path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "toml")
            })
            .collect();
        files.sort();
        files
            .iter()
            .map(|path| {
                let text = fs::read_to_string(path).map_err(|error| read_error(path, error))?;
                let bad = |reason: String| Error::BadImage {
                    path: path.clone(),
                    reason,
                };
                let recipe = Recipe::parse(&text, vars).map_err(bad)?;
                let profile = dir.join("seccomp").join(format!("{}.json", recipe.seccomp));
                let seccomp =
                    fs::read_to_string(&profile).map_err(|error| read_error(&profile, error))?;
                seccomp::compile(&seccomp).map_err(|reason| Error::BadImage {
                    path: profile.clone(),
                    reason,
                })?;
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                Ok(Self {
                    name: name.into_owned(),
                    recipe,
                    seccomp,
                })
            })
            .collect()
    }
}

impl Recipe {
    fn parse(text: &str, vars: &[(&str, &Path)]) -> Result<Self, String> {
        let mut recipe: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if recipe.seccomp.contains(['/', '.']) {
            return Err(format!("seccomp is not a name: {}", recipe.seccomp));
        }
        let mut binds = Vec::new();
        for mut bind in recipe.binds {
            bind.from = substitute(&bind.from, vars)?;
            binds.extend(expand(bind)?);
        }
        recipe.binds = binds;
        let targets = recipe
            .binds
            .iter()
            .flat_map(|bind| [&*bind.from, bind.target()]);
        let paths = targets
            .chain(recipe.symlinks.iter().map(|link| &*link.at))
            .chain(recipe.tmpfs.iter().map(|tmpfs| &*tmpfs.at))
            .chain(recipe.scratch.iter().map(|mount| &*mount.at));
        for path in paths {
            check_plain(path)?;
        }
        if let Some(device) = recipe.devices.iter().find(|name| name.contains(['/', '.'])) {
            return Err(format!("not the name of a device: {device}"));
        }
        Ok(recipe)
    }
}

/// Absolute, no `..`, not `/` itself.
fn check_plain(path: &Path) -> Result<(), String> {
    let plain = path.is_absolute()
        && path.file_name().is_some()
        && !path.components().any(|part| part.as_os_str() == "..");
    plain
        .then_some(())
        .ok_or_else(|| format!("not an absolute, plain path: {}", path.display()))
}

fn substitute(path: &Path, vars: &[(&str, &Path)]) -> Result<PathBuf, String> {
    let mut text = path.to_string_lossy().into_owned();
    for (name, value) in vars {
        text = text.replace(&format!("${{{name}}}"), &value.to_string_lossy());
    }
    if text.contains("${") {
        return Err(format!("unknown variable in {text}"));
    }
    Ok(PathBuf::from(text))
}

/// A bind with a component that holds one `*`, as the binds of all paths that match.
fn expand(bind: Bind) -> Result<Vec<Bind>, String> {
    let Some(found) = matching(&bind.from) else {
        return Ok(vec![bind]);
    };
    if found.is_empty() && !bind.optional {
        return Err(format!("nothing matches {}", bind.from.display()));
    }
    if found.len() > 1 && bind.to.is_some() {
        return Err(format!(
            "a bind with `to` must match one path only: {} matches {} paths",
            bind.from.display(),
            found.len()
        ));
    }
    Ok(found
        .into_iter()
        .map(|from| Bind {
            from,
            ..bind.clone()
        })
        .collect())
}

/// The paths that match one with a `*`, sorted; none when it holds no `*`.
fn matching(pattern: &Path) -> Option<Vec<PathBuf>> {
    let parts: Vec<_> = pattern.components().collect();
    let (at, prefix, suffix) = parts.iter().enumerate().find_map(|(at, part)| {
        let (prefix, suffix) = part.as_os_str().to_str()?.split_once('*')?;
        Some((at, prefix, suffix))
    })?;
    let (dir, below): (PathBuf, PathBuf) = (
        parts[..at].iter().collect(),
        parts[at + 1..].iter().collect(),
    );
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.len() >= prefix.len() + suffix.len()
                && name.starts_with(prefix)
                && name.ends_with(suffix)
        })
        // Joining nothing would add a slash, which a file does not take.
        .map(|entry| match below.as_os_str().is_empty() {
            true => entry.path(),
            false => entry.path().join(&below),
        })
        .filter(|path| path.exists())
        .collect();
    found.sort();
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Recipe, String> {
        Recipe::parse(text, &[("runners", Path::new("/srv/runners"))])
    }

    #[test]
    fn variables_are_replaced() {
        let recipe =
            parse("seccomp = 'runner'\nbinds = [{ from = '${runners}/node', to = '/opt/node' }]")
                .unwrap();
        assert_eq!(recipe.binds[0].from, Path::new("/srv/runners/node"));
        assert_eq!(recipe.binds[0].target(), Path::new("/opt/node"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "seccomp = 'runner'\nunknown = 1",
            "seccomp = '../x'",
            "seccomp = 'runner'\nbinds = [{ from = '${nowhere}/x' }]",
            "seccomp = 'runner'\nbinds = [{ from = 'usr/bin' }]",
            "seccomp = 'runner'\nbinds = [{ from = '/usr/../etc' }]",
            "seccomp = 'runner'\nbinds = [{ from = '/usr', to = '/' }]",
            "seccomp = 'runner'\nbinds = [{ from = '/usr/nothing-matches-*' }]",
            "seccomp = 'runner'\nbinds = [{ from = '/usr/lib*', to = '/x' }]",
            "seccomp = 'runner'\ndevices = ['../dev/sda']",
            "seccomp = 'runner'\nscratch = [{ dir = 'other', at = '/x' }]",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_star_in_the_middle_finds_what_is_below_it() {
        let root = tempfile::tempdir().unwrap();
        let below = root.path().join("python3.11/site");
        fs::create_dir_all(&below).unwrap();
        fs::create_dir(root.path().join("python3.12")).unwrap();
        let text = "seccomp = 'runner'\n\
                    binds = [{ from = '${root}/python3.*/site', to = '/site' }]";
        let recipe = Recipe::parse(text, &[("root", root.path())]).unwrap();
        let found: Vec<&Path> = recipe.binds.iter().map(|bind| &*bind.from).collect();
        assert_eq!(found, [below]);
        assert_eq!(recipe.binds[0].target(), Path::new("/site"));
    }

    #[test]
    fn the_shipped_images_load() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let vars = [
            ("runners", &*root.join("runners")),
            ("node", Path::new("/usr/bin/node")),
            ("npm", Path::new("/usr/lib/node_modules/npm")),
        ];
        let images = Image::load_all(&root.join("sandbox-images"), &vars).unwrap();
        let names: Vec<&str> = images.iter().map(|image| &*image.name).collect();
        assert_eq!(names, ["agent", "bash", "browser", "node", "python"]);
    }
}
