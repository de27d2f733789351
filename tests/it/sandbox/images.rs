//! What exists inside is what `pagebox image show` prints: nothing more and nothing less.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use pagebox::sandbox::{Control, Image, Listing, Network, SandboxSpec, Seen, SeenKind};

use super::browser::chromium;
use super::harness::*;

/// A program of each image that stays until it is killed.
fn staying(image: &str) -> SandboxSpec {
    let mut spec = bash("");
    spec.image = image.to_owned();
    spec.control = Control::Frames;
    let (argv, network): (&[&str], _) = match image {
        "agent" => (
            &["/opt/pagebox/runners/node/node_modules/agent-browser/bin/agent-browser-linux-x64"],
            Network::Runner,
        ),
        "bash" => (&["/bin/bash", "-c", "read line <&3"], Network::Runner),
        "browser" => return chromium(),
        "node" => (
            &["/usr/local/bin/node", "-e", "setInterval(() => {}, 1e6)"],
            Network::Runner,
        ),
        "python" => (
            &[
                "/usr/bin/python3",
                "-I",
                "-c",
                "import time; time.sleep(1e6)",
            ],
            Network::Runner,
        ),
        "profile" => (&["/bin/sh", "-c", "read line <&3"], Network::Browser),
        other => panic!("no program known for image {other}"),
    };
    if image == "profile" {
        spec.cwd = "/".into();
    }
    spec.argv = argv.iter().map(|&part| part.to_owned()).collect();
    spec.network = network;
    spec.env.extend(
        [
            ("AGENT_BROWSER_DAEMON", "1"),
            ("AGENT_BROWSER_SESSION", "default"),
            ("AGENT_BROWSER_SOCKET_DIR", "/run/agent-browser"),
            ("AGENT_BROWSER_IDLE_TIMEOUT_MS", "0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    spec
}

/// Everything below `root`, as paths inside; what is below `covered` is not looked into.
fn walk(root: &Path, covered: &BTreeSet<PathBuf>) -> BTreeMap<PathBuf, fs::Metadata> {
    let mut found = BTreeMap::new();
    let mut left = vec![PathBuf::from("/")];
    while let Some(directory) = left.pop() {
        let host = root.join(directory.strip_prefix("/").unwrap());
        for entry in fs::read_dir(&host).unwrap_or_else(|e| panic!("{}: {e}", host.display())) {
            let entry = entry.unwrap();
            let path = directory.join(entry.file_name());
            let metadata = fs::symlink_metadata(entry.path()).unwrap();
            if metadata.is_dir() && !covered.contains(&path) {
                left.push(path.clone());
            }
            found.insert(path, metadata);
        }
    }
    found
}

/// What the listing promises: its paths, what its directories hold on the host, and what is above.
fn promised(listing: &Listing) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::new();
    for seen in &listing.paths {
        paths.extend(seen.path.ancestors().map(Path::to_owned));
        if seen.kind == SeenKind::Directory {
            let below = walk(seen.source.as_deref().unwrap(), &BTreeSet::new());
            paths.extend(below.into_keys().map(|path| {
                let relative = path.strip_prefix("/").unwrap();
                seen.path.join(relative)
            }));
        }
    }
    paths.remove(Path::new("/"));
    paths
}

fn check(image: &Image, root: &Path) {
    let listing = image.listing().unwrap();
    let made = [SeenKind::Memory, SeenKind::Scratch, SeenKind::Proc];
    let covered = listing
        .paths
        .iter()
        .filter(|seen| made.contains(&seen.kind));
    let covered: BTreeSet<PathBuf> = covered.map(|seen| seen.path.clone()).collect();
    let inside = walk(root, &covered);
    let promised = promised(&listing);
    let is: BTreeSet<PathBuf> = inside.keys().cloned().collect();
    let more: Vec<_> = is.difference(&promised).collect();
    let less: Vec<_> = promised.difference(&is).collect();
    assert!(
        more.is_empty() && less.is_empty(),
        "{}: more {more:?}, less {less:?}",
        image.name
    );

    let is_device = |path: &Path| {
        let device = |seen: &Seen| seen.kind == SeenKind::Device && seen.path == path;
        listing.paths.iter().any(device)
    };
    for (path, metadata) in &inside {
        let kind = metadata.file_type();
        let plain = kind.is_file() || kind.is_dir() || kind.is_symlink();
        assert!(
            plain || (kind.is_char_device() && is_device(path)),
            "{}",
            path.display()
        );
        if kind.is_file() {
            // What a mounted directory holds gains nothing either: nosuid, no_new_privs.
            assert_eq!(
                metadata.permissions().mode() & 0o6000,
                0,
                "{}",
                path.display()
            );
        }
    }
    let host = fs::read_to_string("/etc/passwd").unwrap();
    let own = fs::read_to_string(root.join("etc/passwd")).unwrap();
    assert_ne!(own, host);
    assert_eq!(own.lines().count(), 3);
    for path in [
        "/home",
        "/root",
        "/sys",
        "/var",
        "/etc/hostname",
        "/etc/machine-id",
        "/usr/sbin",
    ] {
        let of_ours = path == "/home" && image.name == "agent";
        assert!(
            of_ours || !is.contains(Path::new(path)),
            "{}: {path}",
            image.name
        );
    }
}

#[tokio::test]
async fn a_sandbox_has_exactly_the_files_of_its_image() {
    if !host().can(
        "a_sandbox_has_exactly_the_files_of_its_image",
        "session-uids",
    ) {
        return;
    }
    let world = World::new().await;
    for image in &world.config.images {
        let before: BTreeSet<u32> = processes(&world.config)
            .into_iter()
            .map(|(pid, _)| pid)
            .collect();
        let sandbox = world.space.spawn(staying(&image.name)).await.unwrap();
        let (pid, _) = processes(&world.config)
            .into_iter()
            .find(|(pid, _)| !before.contains(pid))
            .unwrap();
        check(image, Path::new(&format!("/proc/{pid}/root")));
        sandbox.kill();
        sandbox.wait().await;
    }
    world.end().await;
}

#[tokio::test]
async fn the_tools_of_bash_run_and_those_of_the_host_are_not_there() {
    let world = World::new().await;
    // Each is executed, so that its loader and libraries are proven too.
    let there = [
        "awk 'BEGIN { print 1 }'",
        "bc --version",
        "bzip2 --help",
        "column --version",
        "curl --version",
        "diff --version",
        "file --version",
        "find --version",
        "flock --version",
        "gawk --version",
        "git --version",
        "grep --version",
        "gzip --version",
        "hexdump --version",
        "hostname",
        "iconv --version",
        "jq --version",
        "less --version",
        "locale",
        "openssl version",
        "patch --version",
        "perl -e 'print 1'",
        "pgrep --version",
        "ps --version",
        "sed --version",
        "sh -c :",
        "sort --version",
        "tar --version",
        "tput -V",
        "unzip -v",
        "wget --version",
        "which sh",
        "xargs --version",
        "xz --version",
        "zip -v",
        "python3 -c 'import ssl, sqlite3, lzma'",
        "node -e 0",
        "npx --version",
        "git remote-https 2>&1 | grep -q usage || git --exec-path",
        "echo 1 | iconv -f UTF-8 -t UTF-16 | file -",
    ];
    for command in there {
        let ran = run(&world.space, bash(&format!("{command} >/dev/null"))).await;
        let good = ran.exit.status == pagebox::sandbox::ExitStatus::Code(0);
        assert!(good, "{command}: {ran:?}");
    }
    for program in [
        "gcc",
        "cc",
        "ld",
        "make",
        "apt",
        "apt-get",
        "dpkg",
        "su",
        "sudo",
        "mount",
        "ssh",
        "systemctl",
        "passwd",
        "newuidmap",
    ] {
        let out = world
            .output(&format!("type {program} >/dev/null 2>&1; echo $?"))
            .await;
        assert_eq!(out, "1\n", "{program}");
    }
    world.end().await;
}
