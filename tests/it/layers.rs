//! The layer rule of `src/lib.rs`, checked on the source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Lowest first; a module may use its own layer's modules only where the diagram puts them side by
/// side without saying otherwise, so equals may not use each other.
const LAYERS: [&[&str]; 9] = [
    &["id", "limits", "config", "telemetry"],
    &["sandbox", "cdp", "execution", "egress", "store", "tenant"],
    &["runner", "browser"],
    &["profile"],
    &["session"],
    &["agent"],
    &["scrape", "live"],
    &["grpc", "http"],
    &["server", "cli", "doctor"],
];

/// `config` is named by every layer's own section types and names them back: it puts the sections
/// together. `id`, `limits` and `telemetry` are plain values.
const ANY: [&str; 4] = ["id", "limits", "config", "telemetry"];

/// Uses inside one layer that the design asks for.
const SIDEWAYS: [(&str, &str); 8] = [
    ("tenant", "store"),
    ("cli", "server"),
    ("cli", "doctor"),
    ("doctor", "server"),
    ("server", "doctor"),
    ("runner", "browser"),
    ("browser", "egress"),
    ("cdp", "execution"),
];

/// Which modules may name a crate.
const CRATES: [(&[&str], &[&str]); 6] = [
    (
        &["tonic", "tonic_types", "tonic_health", "tonic_reflection"],
        &["grpc", "server"],
    ),
    (&["axum", "utoipa", "utoipa_axum"], &["server", "http"]),
    (&["rusqlite"], &["store"]),
    (&["genai", "reqwest", "jsonschema", "psl"], &["agent"]),
    (
        &["object_store", "chacha20poly1305", "aead_stream"],
        &["profile"],
    ),
    (
        &["nix", "libc", "seccompiler", "landlock", "caps"],
        &["sandbox"],
    ),
];

fn sources() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.insert(path.clone(), std::fs::read_to_string(path).unwrap());
            }
        }
    }
    found
}

/// `src/cdp/hub.rs` is in the module `cdp`.
fn module_of(path: &Path) -> String {
    let inside = path
        .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .unwrap();
    let first = inside.components().next().unwrap().as_os_str();
    first.to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// The source without comments, and without what stands in strings of `//` URLs only by luck: a
/// line that begins with `//` is a comment.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim_start)
        .filter(|line| !line.starts_with("//"))
}

/// Modules named after `crate::`, in groups too.
fn used_modules(text: &str) -> BTreeSet<String> {
    let text: String = code(text).collect::<Vec<_>>().join(" ");
    let mut found = BTreeSet::new();
    for (start, _) in text.match_indices("crate::") {
        let before = text[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &text[start + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => found.extend(first_word(&std::mem::take(&mut name))),
                    _ if depth == 0 => name.push(c),
                    _ => {}
                }
            }
            found.extend(first_word(&name));
        } else {
            found.extend(first_word(rest));
        }
    }
    found
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text
        .trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!word.is_empty()).then_some(word)
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn modules_use_lower_layers_only() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        let Some(layer) = layer_of(&module) else {
            assert!(
                ["lib", "main"].contains(&&*module),
                "{module} has no layer: add it to src/lib.rs and here"
            );
            continue;
        };
        for used in used_modules(&text) {
            let allowed = used == module
                || ANY.contains(&&*used)
                || module == "config"
                || SIDEWAYS.contains(&(&module, &used))
                || layer_of(&used).is_none_or(|below| below < layer);
            if !allowed {
                wrong.push(format!("{} uses {used}", path.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn some_crates_stay_in_their_layer() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        // Tests look at what they test by whatever means there are.
        if path.components().any(|part| {
            ["tests", "tests.rs"]
                .map(Some)
                .contains(&part.as_os_str().to_str())
        }) {
            continue;
        }
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        let module = module_of(&path);
        for (crates, modules) in CRATES {
            for name in crates.iter().filter(|_| !modules.contains(&&*module)) {
                let named = code(text).any(|line| {
                    line.match_indices(&format!("{name}::")).any(|(at, _)| {
                        let before = line[..at].chars().next_back();
                        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
                    })
                });
                if named {
                    wrong.push(format!("{} uses {name}", path.display()));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn unsafe_code_is_in_one_file() {
    for (path, text) in sources() {
        let has_unsafe = code(&text).any(|line| {
            line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl")
        });
        assert!(
            !has_unsafe || path.ends_with("sandbox/sys.rs"),
            "{} has unsafe code",
            path.display()
        );
    }
}

#[test]
fn every_file_says_what_it_is_and_stays_readable() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{} has no head", path.display());
        let lines = text.split("#[cfg(test)]").next().unwrap().lines().count();
        assert!(lines <= 800, "{} has {lines} lines", path.display());
        let is_old_style = path.file_name().is_some_and(|name| name == "mod.rs");
        assert!(!is_old_style, "{}: foo.rs, not foo/mod.rs", path.display());
    }
}

#[test]
fn grouped_uses_are_read() {
    let text = "use crate::{browser, cdp::{Hub, Event}, session::Config};\n// crate::server\nfn f() { crate::id::new() }";
    let want = ["browser", "cdp", "id", "session"];
    assert_eq!(used_modules(text), want.map(str::to_owned).into());
}
