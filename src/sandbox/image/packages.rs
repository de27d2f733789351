//! Manifests: which files of a Debian package are inside. Read from dpkg's own lists.

use std::fs;
use std::path::{Path, PathBuf};

/// dpkg's lists, one per installed package: `NAME.list` or `NAME:ARCHITECTURE.list`.
const LISTS: &str = "/var/lib/dpkg/info";

/// Where programs and what they read at run time are. Nothing of /etc, /var and the programs of
/// administrators.
const TAKEN: [&str; 5] = [
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/share",
];

/// What is for people, desktops, shells at a terminal and package tools.
const LEFT_OUT: [&str; 15] = [
    "/usr/lib/modules",
    "/usr/lib/systemd",
    "/usr/lib/udev",
    "/usr/share/applications",
    "/usr/share/bash-completion",
    "/usr/share/bug",
    "/usr/share/doc",
    "/usr/share/doc-base",
    "/usr/share/icons",
    "/usr/share/info",
    "/usr/share/lintian",
    "/usr/share/locale",
    "/usr/share/man",
    "/usr/share/menu",
    "/usr/share/pixmaps",
];

/// A host path as inside, where /bin, /lib and /sbin are links into /usr.
pub(super) fn merged(path: &Path) -> PathBuf {
    let merge = ["/bin", "/sbin", "/lib", "/lib64"]
        .iter()
        .any(|directory| path.starts_with(directory));
    match path.strip_prefix("/") {
        Ok(relative) if merge => Path::new("/usr").join(relative),
        _ => path.to_owned(),
    }
}

/// The paths that a package's manifest names and an image takes, as on the host; directories too.
///
/// # Errors
/// A host without dpkg, and a package that is not installed.
pub(super) fn files(package: &str) -> Result<Vec<PathBuf>, String> {
    files_in(Path::new(LISTS), package)
}

fn files_in(lists: &Path, package: &str) -> Result<Vec<PathBuf>, String> {
    if !lists.is_dir() {
        return Err(format!(
            "this host has no Debian packages ({} is missing): name the programs of {package} in \
             `programs` and its other files in `binds`",
            lists.display()
        ));
    }
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let text = [
        format!("{package}.list"),
        format!("{package}:{architecture}.list"),
    ]
    .iter()
    .find_map(|name| fs::read_to_string(lists.join(name)).ok())
    .ok_or_else(|| {
        format!("package {package} is not installed: run sandbox-images/setup.sh, or take it out")
    })?;
    Ok(text
        .lines()
        .map(PathBuf::from)
        .filter(|path| taken(path))
        .collect())
}

fn taken(path: &Path) -> bool {
    let path = merged(path);
    TAKEN.iter().any(|directory| path.starts_with(directory))
        && !LEFT_OUT.iter().any(|directory| path.starts_with(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_data_are_taken_documentation_is_not() {
        let lists = tempfile::tempdir().unwrap();
        let text = "/.\n/bin\n/bin/cat\n/usr/share/awk/x.awk\n/usr/share/doc/x\n/etc/x\n/usr/sbin/x\n\
                    /lib/systemd/system/x.service\n/usr/share/docs\n/var/lib/x\n";
        let name = format!(
            "x:{}.list",
            if cfg!(target_arch = "x86_64") {
                "amd64"
            } else {
                "arm64"
            }
        );
        fs::write(lists.path().join(name), text).unwrap();
        let expected = [
            "/bin",
            "/bin/cat",
            "/usr/share/awk/x.awk",
            "/usr/share/docs",
        ];
        assert_eq!(
            files_in(lists.path(), "x").unwrap(),
            expected.map(PathBuf::from)
        );
    }

    #[test]
    fn a_package_or_a_host_that_has_none_says_what_to_do() {
        let lists = tempfile::tempdir().unwrap();
        let error = files_in(lists.path(), "jq").unwrap_err();
        assert!(error.contains("setup.sh"), "{error}");
        let error = files_in(&lists.path().join("none"), "jq").unwrap_err();
        assert!(error.contains("`programs`"), "{error}");
    }

    #[test]
    fn everything_is_below_usr_inside() {
        for (host, inside) in [
            ("/bin/cat", "/usr/bin/cat"),
            ("/lib64/ld.so", "/usr/lib64/ld.so"),
            ("/library", "/library"),
            ("/opt/bin", "/opt/bin"),
        ] {
            assert_eq!(merged(Path::new(host)), Path::new(inside));
        }
    }
}
