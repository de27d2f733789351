//! The shipped images, and images of a directory made for the test.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn shipped() -> Vec<Image> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let node = crate::config::NodeFiles::find();
    let vars = [
        ("runners", &*root.join("runners")),
        ("node", &*node.program),
        ("npm", &*node.npm),
    ];
    Image::load_all(&root.join("sandbox-images"), &vars).unwrap()
}

/// The contents of an image over the files of `root`, which it names `${root}`.
fn contents(root: &Path, text: &str) -> Result<Contents, String> {
    let text = format!("seccomp = 'runner'\n{text}");
    let recipe = Recipe::parse(&text, &[("root", root)])?;
    contents::compute(&recipe, &mut Loader::new())
}

fn place(contents: &Contents, at: &str) -> Option<Source> {
    let entry = contents
        .entries
        .iter()
        .find(|entry| entry.at == Path::new(at));
    entry.map(|entry| entry.source.clone())
}

#[test]
fn the_shipped_images_load_and_miss_nothing() {
    let images = shipped();
    let names: Vec<&str> = images.iter().map(|image| &*image.name).collect();
    assert_eq!(
        names,
        ["agent", "bash", "browser", "node", "profile", "python"]
    );
    for image in &images {
        assert_eq!(
            image.contents.missing,
            Vec::<String>::new(),
            "{}",
            image.name
        );
    }
}

#[test]
fn programs_come_with_their_loader_and_libraries_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let contents = contents(root.path(), "programs = ['sh']").unwrap();
    let names: Vec<_> = contents
        .entries
        .iter()
        .map(|entry| entry.at.file_name().unwrap().to_string_lossy())
        .collect();
    assert!(names.contains(&"sh".into()), "{names:?}");
    assert!(names.contains(&"libc.so.6".into()), "{names:?}");
    assert!(
        names.iter().any(|name| name.starts_with("ld-linux")),
        "{names:?}"
    );
    assert!(names.len() <= 4, "{names:?}");
}

#[test]
fn small_files_are_copied_large_ones_and_directories_are_mounted() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    fs::write(root.join("small"), "x").unwrap();
    let large = fs::File::create(root.join("large")).unwrap();
    large.set_len(contents::COPIED.0 + 1).unwrap();
    fs::create_dir(root.join("directory")).unwrap();
    let text = "binds = [{ from = '${root}/small', to = '/a' }, { from = '${root}/large', to = '/b', exec = false },
                { from = '${root}/directory', to = '/c' }, { from = '${root}/none', optional = true }]";
    let contents = contents(&root, text).unwrap();
    let copy = Source::Copy {
        from: root.join("small"),
        exec: false,
    };
    assert_eq!(place(&contents, "/a"), Some(copy));
    let mount = Source::Mount {
        from: root.join("large"),
        exec: false,
    };
    assert_eq!(place(&contents, "/b"), Some(mount));
    let directory = Source::Mount {
        from: root.join("directory"),
        exec: true,
    };
    assert_eq!(place(&contents, "/c"), Some(directory));
    assert_eq!(contents.entries.len(), 3);
}

#[test]
fn what_not_everyone_may_have_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "x").unwrap();
    fs::create_dir(root.path().join("directory")).unwrap();
    let named = "binds = [{ from = '${root}/file' }]";
    for (mode, good) in [
        (0o644, true),
        (0o600, false),
        (0o4755, false),
        (0o2755, false),
    ] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(contents(root.path(), named).is_ok(), good, "{mode:o}");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    for text in [
        "binds = [{ from = '${root}/none' }]",
        "binds = [{ from = '/dev/null' }]",
        "programs = ['no-such-program']",
        "packages = ['no-such-package']",
        "libraries = ['no-such-library.so']",
        // It would be hidden by the mount.
        "binds = [{ from = '${root}/directory', to = '/d' }, { from = '${root}/file', to = '/d/file' }]",
    ] {
        assert!(contents(root.path(), text).is_err(), "{text}");
    }
}

#[test]
fn a_listing_has_every_path_once() {
    for image in shipped() {
        let listing = image.listing().unwrap();
        let mut paths: Vec<_> = listing.paths.iter().map(|seen| &seen.path).collect();
        let all = paths.len();
        paths.dedup();
        assert_eq!(paths.len(), all, "{}", image.name);
        assert!(paths.contains(&&PathBuf::from("/etc/passwd")));
        for seen in listing.paths.iter().filter(|seen| seen.writable) {
            let made = [SeenKind::Device, SeenKind::Memory, SeenKind::Scratch];
            assert!(made.contains(&seen.kind), "{seen:?}");
        }
    }
}
