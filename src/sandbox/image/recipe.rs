//! The fields of an image file, and their checks. Pure but for the directories that a `*` is
//! looked up in.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::limits::Bytes;

/// The fields of an image file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Recipe {
    /// Profile: `seccomp/NAME.json` beside the image file.
    pub(in super::super) seccomp: String,
    /// Whether /proc is mounted (only its own processes, `subset=pid`).
    #[serde(default)]
    pub(in super::super) proc: bool,
    /// Debian packages whose programs and data are inside; see `packages.rs` for what is left out.
    #[serde(default)]
    pub(super) packages: Vec<String>,
    /// Programs of the host's /usr/bin, by name.
    #[serde(default)]
    pub(super) programs: Vec<String>,
    /// Shared libraries beyond those that files inside need: what is opened at run time.
    #[serde(default)]
    pub(super) libraries: Vec<String>,
    /// Host files and directories, read-only.
    #[serde(default)]
    pub(super) binds: Vec<Bind>,
    #[serde(default)]
    pub(super) symlinks: Vec<Symlink>,
    /// Nodes of the host's /dev, by name.
    #[serde(default)]
    pub(in super::super) devices: Vec<String>,
    /// Writable memory only this sandbox sees.
    #[serde(default)]
    pub(in super::super) tmpfs: Vec<Tmpfs>,
    /// Directories of the session's scratch.
    #[serde(default)]
    pub(in super::super) scratch: Vec<ScratchMount>,
    /// How many namespaces may be created inside; 0 each for all that are not named.
    #[serde(default)]
    pub(in super::super) namespaces: Namespaces,
    #[serde(default)]
    pub(in super::super) landlock: Landlock,
}

/// One file or directory of the host.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bind {
    /// On the host. One component may hold a `*`.
    pub(super) from: PathBuf,
    /// Inside; the same path when absent. When the last component of `from` holds the `*`, the
    /// directory for all that match; when another does, only one path may match.
    pub(super) to: Option<PathBuf>,
    /// Skipped when the host does not have it.
    #[serde(default)]
    pub(super) optional: bool,
    /// Nothing of it may be executed when false.
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
pub(in super::super) struct Tmpfs {
    pub(in super::super) at: PathBuf,
    pub(in super::super) size: Bytes,
    /// Files and directories it may hold.
    pub(in super::super) inodes: u64,
    #[serde(default)]
    pub(in super::super) exec: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct ScratchMount {
    pub(in super::super) dir: ScratchDir,
    pub(in super::super) at: PathBuf,
    #[serde(default)]
    pub(in super::super) exec: bool,
    #[serde(default)]
    pub(in super::super) read_only: bool,
}

/// The parts of a scratch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in super::super) enum ScratchDir {
    Tmp,
    Workspace,
    Agent,
    /// A memory of its own, which the others cannot fill.
    Browser,
}

impl ScratchDir {
    pub(in super::super) const ALL: [Self; 4] =
        [Self::Tmp, Self::Workspace, Self::Agent, Self::Browser];

    /// Its path inside, as callers name it.
    pub(in super::super) fn inside(self) -> &'static str {
        match self {
            Self::Tmp => "/tmp",
            Self::Workspace => "/workspace",
            Self::Agent => "/run/agent-browser",
            Self::Browser => "/browser",
        }
    }

    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Self::Tmp => "tmp",
            Self::Workspace => "workspace",
            Self::Agent => "agent",
            Self::Browser => "browser",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in super::super) struct Namespaces {
    pub(in super::super) user: u32,
    pub(in super::super) pid: u32,
    pub(in super::super) net: u32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in super::super) struct Landlock {
    /// Paths below which files may be executed; everything read-only when absent.
    pub(in super::super) execute: Option<Vec<PathBuf>>,
    /// TCP: no bind, and connect only to the ports the daemon listens on.
    pub(in super::super) tcp_listeners_only: bool,
}

fn yes() -> bool {
    true
}

impl Recipe {
    /// Reads an image file; `${name}` is replaced from `vars`, and each `*` by what matches.
    pub(super) fn parse(text: &str, vars: &[(&str, &Path)]) -> Result<Self, String> {
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
        let names = recipe.devices.iter().chain(&recipe.packages);
        let names = names.chain(&recipe.programs).chain(&recipe.libraries);
        if let Some(name) = names
            .into_iter()
            .find(|name| name.is_empty() || name.contains('/') || name.starts_with('.'))
        {
            return Err(format!(
                "not the name of a device, package, program or library: {name:?}"
            ));
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
    let names = bind.from.file_name().unwrap_or_default();
    let into_directory = names.to_string_lossy().contains('*');
    if found.len() > 1 && bind.to.is_some() && !into_directory {
        return Err(format!(
            "a bind with `to` must match one path only: {} matches {} paths",
            bind.from.display(),
            found.len()
        ));
    }
    Ok(found
        .into_iter()
        .map(|from| Bind {
            to: match &bind.to {
                Some(to) if into_directory => Some(to.join(from.file_name().unwrap_or_default())),
                to => to.clone(),
            },
            from,
            ..bind
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
            "seccomp = 'runner'\nbinds = [{ from = '/*/local', to = '/x' }, { from = '/*/bin', to = '/x' }]",
            "seccomp = 'runner'\ndevices = ['../dev/sda']",
            "seccomp = 'runner'\nprograms = ['/bin/sh']",
            "seccomp = 'runner'\npackages = ['../../etc/shadow']",
            "seccomp = 'runner'\nlibraries = ['']",
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
        // Two of them cannot both be /site.
        fs::create_dir(root.path().join("python3.12/site")).unwrap();
        Recipe::parse(text, &[("root", root.path())]).unwrap_err();
    }

    #[test]
    fn a_star_at_the_end_puts_all_into_one_directory() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a.mjs", "b.mjs", "c.json"] {
            fs::write(root.path().join(name), "").unwrap();
        }
        let text = "seccomp = 'runner'\nbinds = [{ from = '${root}/*.mjs', to = '/opt/x' }]";
        let recipe = Recipe::parse(text, &[("root", root.path())]).unwrap();
        let found: Vec<&Path> = recipe.binds.iter().map(Bind::target).collect();
        assert_eq!(
            found,
            [Path::new("/opt/x/a.mjs"), Path::new("/opt/x/b.mjs")]
        );
    }
}
