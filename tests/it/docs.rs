//! The documents name files that exist, and keep to their length.

use std::path::Path;

const DOCUMENTS: [&str; 6] = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs/ARCHITECTURE.md",
    "docs/sandbox.md",
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

/// Paths in backquotes and in links.
fn named_paths(text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let linked = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    quoted
        .chain(linked)
        .map(|path| path.split('#').next().unwrap_or("").trim())
        .filter(|path| !path.contains(['*', '{', '<', ' ', '\n', '…', '$']))
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
