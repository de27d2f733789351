//! The documents name files and settings that exist and keep to their length; the demo passes.

use std::path::Path;
use std::process::Command;

use crate::daemon::host::skip;

const DOCUMENTS: [&str; 15] = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs/ARCHITECTURE.md",
    "docs/sandbox.md",
    "docs/api.md",
    "docs/http.md",
    "docs/live.md",
    "docs/egress.md",
    "docs/keys.md",
    "docs/performance.md",
    "docs/profiles.md",
    "docs/prompt.md",
    "docs/scrape.md",
];
/// Directories whose files are meant when a document names a path under them.
const TREES: [&str; 9] = [
    "src/",
    "proto/",
    "runners/",
    "sandbox-images/",
    "tests/",
    "benches/",
    "docs/",
    "examples/",
    "deploy/",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The text outside and inside of fenced code.
fn fenced(text: &str) -> (String, String) {
    let (mut prose, mut code, mut inside) = (String::new(), String::new(), false);
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
            continue;
        }
        let side = if inside { &mut code } else { &mut prose };
        side.push_str(line);
        side.push('\n');
    }
    assert!(!inside, "a fence is not closed");
    (prose, code)
}

/// Texts in backquotes.
fn quoted(prose: &str) -> impl Iterator<Item = &str> {
    prose.split('`').skip(1).step_by(2)
}

/// Paths in backquotes, in links, and as words of fenced code.
fn named_paths(text: &str) -> Vec<String> {
    let (text, code) = fenced(text);
    let quoted = quoted(&text);
    let linked = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    quoted
        .chain(linked)
        .chain(code.split_whitespace())
        .map(|path| path.split('#').next().unwrap_or("").trim())
        .filter(|path| {
            !path.contains(['*', '{', '<', ' ', '\n', '…', '$']) && !path.contains("NAME")
        })
        .filter(|path| TREES.iter().any(|tree| path.starts_with(tree)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn documents_name_files_that_exist() {
    for document in DOCUMENTS {
        for path in named_paths(&read(document)) {
            assert!(
                root().join(&path).exists(),
                "{document} names {path}, which is not there"
            );
        }
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for document in DOCUMENTS {
        let text = read(document);
        let folder = root().join(document);
        let folder = folder.parent().expect("a document lies in a folder");
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or("");
            let path = link.split('#').next().unwrap_or("");
            if path.is_empty() || path.contains("://") {
                continue;
            }
            assert!(folder.join(path).exists(), "{document} links to {link}");
        }
    }
}

#[test]
fn the_readme_names_settings_that_exist() {
    let sample = read("deploy/pagebox.toml");
    let mut section = "";
    let mut known = Vec::new();
    for line in sample.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((key, _)) = line.trim_start_matches('#').split_once(" = ") {
            known.push(format!("{section}.{key}"));
        }
    }
    let (prose, _) = fenced(&read("README.md"));
    let named: Vec<&str> = quoted(&prose)
        .filter(|text| {
            text.split_once('.').is_some_and(|(section, key)| {
                sample.contains(&format!("\n[{section}]\n"))
                    && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            })
        })
        .collect();
    assert!(named.len() >= 10, "{named:?}");
    for name in named {
        assert!(
            known.iter().any(|key| key == name),
            "README.md names {name}"
        );
    }
}

#[test]
fn the_demo_passes() {
    let demo = Path::new(env!("CARGO_BIN_EXE_pagebox")).with_file_name("examples/demo");
    if !demo.exists() {
        // Built by `cargo test`, but not by `cargo test --test it`.
        assert!(
            std::env::var_os("CI_REQUIRE_ALL").is_none(),
            "{} is missing",
            demo.display()
        );
        skip("the_demo_passes", "run `cargo build --example demo` first");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(&demo).arg(folder.path()).output();
    let output = output.expect("the demo starts");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("\nAll 9 steps gave what they should"),
        "{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn documents_keep_to_their_length_and_end_in_a_newline() {
    let lines = read("docs/ARCHITECTURE.md").lines().count();
    assert!(lines <= 200, "docs/ARCHITECTURE.md has {lines} lines");
    for document in DOCUMENTS.into_iter().chain(["LICENSE"]) {
        assert!(read(document).ends_with('\n'), "{document}");
    }
    assert!(read("LICENSE").contains("Apache License"));
}

#[test]
fn the_proto_and_the_makefile_have_no_loose_ends() {
    for (file, words) in [
        ("Makefile", ["demo:", "test:", "check:", "run:", "bench:"]),
        (".ci/run", ["make test", "set -euo", "CI", "cd", "bash"]),
    ] {
        let text = read(file);
        for word in words {
            assert!(text.contains(word), "{file} lacks {word}");
        }
    }
}
