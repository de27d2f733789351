//! Saves that are interrupted, do not fit, or meet what is broken. The archive is not a browser's
//! here: `tests/it/profiles.rs` has those.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

/// Where the test's own process, if this is it, saves.
const DIRECTORY: &str = "PROFILE_TEST_DIRECTORY";

/// Of the archive of a process of its own, and a little more with each save.
const LENGTH: usize = 100_000;

/// So many bytes of one kind.
struct Same {
    byte: u8,
    left: usize,
}

impl Archive for Same {
    async fn next(&mut self, most: usize) -> Result<Option<Vec<u8>>, String> {
        let piece = vec![self.byte; self.left.min(most)];
        self.left -= piece.len();
        Ok((!piece.is_empty()).then_some(piece))
    }

    async fn finish(self) -> Result<(), String> {
        Ok(())
    }
}

fn name(name: &str) -> Name {
    name.to_owned().try_into().unwrap()
}

fn summary(of: &str) -> Summary {
    Summary {
        name: name(of),
        saved_at: SystemTime::UNIX_EPOCH,
        browser: "Chrome/1.2".to_owned(),
        cookies: [("a.test".to_owned(), 2)].into(),
        origins: ["https://a.test".to_owned()].into(),
    }
}

async fn save(profiles: &Profiles, of: &str, byte: u8, left: usize) -> Result<(), Error> {
    let writer = profiles.write(&Owner::anonymous(), &name(of), SessionId::generate())?;
    let archive = Same { byte, left };
    let state = State::default();
    let unsaved = profiles.save(writer, &summary(of), &state, archive).await?;
    unsaved.commit().await
}

/// The archive of a profile: of which kind, and how many bytes.
async fn read(profiles: &Profiles, of: &str) -> Option<(BTreeSet<u8>, usize)> {
    let saved = profiles.load(&Owner::anonymous(), &name(of)).await.unwrap();
    let mut saved = saved?;
    assert_eq!(saved.summary, summary(of));
    saved.state().await.unwrap();
    let (mut kinds, mut length) = (BTreeSet::new(), 0);
    while let Some(piece) = saved.archive().await.unwrap() {
        length += piece.len();
        kinds.extend(piece);
    }
    Some((kinds, length))
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

fn open(directory: &Path) -> Profiles {
    Profiles::open(directory, Config::default()).unwrap()
}

#[test]
fn names_have_one_to_128_characters_of_any_kind() {
    for good in ["a", "../..", "ünï/☃ \n", &"☃".repeat(128)] {
        assert_eq!(name(good).to_string(), good);
    }
    for bad in [String::new(), "☃".repeat(129)] {
        assert_eq!(Name::try_from(bad), Err(NotAName));
    }
}

#[test]
fn a_browser_is_newer_by_its_first_number() {
    assert!(is_newer(
        "HeadlessChrome/141.0.1.2",
        "HeadlessChrome/140.9.9.9"
    ));
    for (browser, than) in [
        ("HeadlessChrome/140.1", "HeadlessChrome/140.0"),
        ("HeadlessChrome/99.0", "HeadlessChrome/140.0"),
        ("", "HeadlessChrome/140.0"),
        ("HeadlessChrome/141.0", "?"),
    ] {
        assert!(!is_newer(browser, than), "{browser} {than}");
    }
}

#[tokio::test]
async fn a_profile_is_its_owners_and_replaced_as_a_whole() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("profiles");
    let profiles = open(&directory);
    let owner = Owner::anonymous();
    assert_eq!(read(&profiles, "a/../b").await, None);
    let before = profiles.version(&owner, &name("a/../b")).await.unwrap();
    for (byte, length) in [(1, 0), (2, 3_000_000), (3, 64 << 10), (4, 5)] {
        save(&profiles, "a/../b", byte, length).await.unwrap();
        let (kinds, read) = read(&profiles, "a/../b").await.unwrap();
        assert_eq!(read, length);
        assert!(kinds.iter().all(|kind| *kind == byte));
        assert_eq!(files(&directory).len(), 1);
    }
    let after = profiles.version(&owner, &name("a/../b")).await.unwrap();
    assert!(before.is_none() && after.is_some());
    save(&profiles, "A", 1, 1).await.unwrap();
    let listed = profiles.list(&owner).await.unwrap();
    let names: Vec<String> = listed.iter().map(|view| view.name.to_string()).collect();
    assert_eq!(names, ["A", "a/../b"]);
    assert_eq!(listed[0].cookies["a.test"], 2);
    let other = Owner {
        user: "bob".into(),
        ..owner.clone()
    };
    assert_eq!(profiles.list(&other).await.unwrap(), []);
    let unknown = profiles.get(&other, &name("A")).await;
    assert!(matches!(unknown, Err(Error::Unknown(_))));
    // Another daemon on the same directory has the same key.
    assert!(open(&directory).get(&owner, &name("A")).await.is_ok());
    assert!(profiles.delete(&owner, &name("A")).await.unwrap());
    assert!(!profiles.delete(&owner, &name("A")).await.unwrap());
    assert_eq!(files(&directory).len(), 1);
}

#[tokio::test]
async fn one_session_writes_a_profile_until_it_lets_go() {
    let profiles = Profiles::in_memory(Config::default());
    let owner = Owner::anonymous();
    let first = SessionId::generate();
    let writer = profiles.write(&owner, &name("p"), first).unwrap();
    let refused = profiles.write(&owner, &name("p"), SessionId::generate());
    assert!(matches!(refused, Err(Error::Busy { writer }) if writer == first));
    let refused = profiles.delete(&owner, &name("p")).await;
    assert!(matches!(refused, Err(Error::BeingSaved { writer }) if writer == first));
    let other = Owner {
        tenant: "other".into(),
        ..owner.clone()
    };
    drop(profiles.write(&other, &name("p"), first).unwrap());
    drop(writer);
    drop(profiles.write(&owner, &name("p"), first).unwrap());
}

#[tokio::test]
async fn a_profile_that_is_too_large_leaves_the_old_one() {
    let root = tempfile::tempdir().unwrap();
    let config = Config {
        max_size: Bytes::mib(1),
        ..Config::default()
    };
    let profiles = Profiles::open(root.path(), config).unwrap();
    save(&profiles, "p", 1, 1000).await.unwrap();
    let refused = save(&profiles, "p", 2, 2 << 20).await.unwrap_err();
    assert!(matches!(refused, Error::TooLarge { .. }), "{refused}");
    assert_eq!(read(&profiles, "p").await, Some(([1].into(), 1000)));
}

#[tokio::test]
async fn what_is_damaged_or_of_another_key_is_named_and_never_empty() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("profiles");
    let profiles = open(&directory);
    save(&profiles, "mine", 1, 1000).await.unwrap();
    let object = files(&directory).pop().unwrap();
    let whole = fs::read(&object).unwrap();
    fs::write(&object, &whole[..whole.len() - 1]).unwrap();
    let mut cut = profiles
        .load(&Owner::anonymous(), &name("mine"))
        .await
        .unwrap()
        .unwrap();
    cut.state().await.unwrap();
    let found = loop {
        match cut.archive().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(found, Err(SealError::Damaged(_))), "{found:?}");
    fs::write(&object, "").unwrap();
    let error = profiles
        .get(&Owner::anonymous(), &name("mine"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("\"mine\""), "{error}");
    fs::write(&object, &whole).unwrap();
    let key = directory.with_extension("key");
    fs::remove_file(&key).unwrap();
    let lost = Profiles::open(&directory, Config::default()).unwrap_err();
    assert!(matches!(lost, Error::Key(KeyError::Lost { .. })), "{lost}");
    assert!(!key.exists());
    drop(open(&root.path().join("others")));
    fs::rename(root.path().join("others.key"), &key).unwrap();
    let error = open(&directory)
        .get(&Owner::anonymous(), &name("mine"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("another key"), "{error}");
}

/// In a process of its own: saves one whole profile after the other until it is killed.
#[tokio::test]
async fn saving_without_end() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let profiles = open(Path::new(&directory));
    for round in 0u8.. {
        let length = LENGTH + usize::from(round) * 100;
        match save(&profiles, "p", round, length).await {
            Ok(()) => println!("saved {round}"),
            Err(error) => println!("refused {error}"),
        }
    }
}

fn saving(directory: &Path, before: &[&str]) -> Command {
    let this = std::env::current_exe().unwrap();
    let this = [this.to_str().unwrap()];
    let words: Vec<&str> = before.iter().chain(&this).copied().collect();
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .args([
            "--exact",
            "profile::tests::saving_without_end",
            "--nocapture",
        ])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped());
    command
}

#[tokio::test]
async fn killed_at_any_moment_a_save_leaves_the_old_profile_or_the_new_one() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("profiles");
    let mut found = BTreeSet::new();
    for round in 0u32..60 {
        let mut child = saving(&directory, &[]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while !lines.next().unwrap().unwrap().starts_with("saved") {}
        // Each moment of a save is met by some round.
        std::thread::sleep(Duration::from_micros(970 * u64::from(round)));
        child.kill().unwrap();
        child.wait().unwrap();
        let profiles = open(&directory);
        let (kinds, length) = read(&profiles, "p").await.unwrap();
        let [kind] = kinds.into_iter().collect::<Vec<_>>()[..] else {
            panic!("two saves in one");
        };
        assert_eq!(length, LENGTH + usize::from(kind) * 100);
        assert_eq!(files(&directory).len(), 1, "round {round}");
        found.insert(kind);
    }
    assert!(found.len() > 1, "no save was met: {found:?}");
}

#[tokio::test]
async fn a_full_disk_leaves_the_old_profile_and_no_rest() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("profiles");
    // A disk of 1 MiB of its own, nearly full once the first profiles are there.
    let script = format!(
        "mount -t tmpfs -o size=1m tmpfs {0} && (timeout 20 \"$@\" | \
         while read word more; do [ $word = refused ] && {{ echo \"$more\"; break; }}; \
         [ \"$more\" != 3 ] || head -c 850000 /dev/zero >{0}/filler; done); \
         find {0} -name '*#*' | wc -l; find {0} -type f | wc -l; rm -f {0}/filler; cp -r {0}/. {1}",
        root.path().join("disk").display(),
        root.path().join("kept").display(),
    );
    fs::create_dir(root.path().join("disk")).unwrap();
    fs::create_dir(root.path().join("kept")).unwrap();
    let on_disk = root.path().join("disk/profiles");
    let before = ["unshare", "-rm", "sh", "-c", &script, "sh"];
    let output = saving(&on_disk, &before).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    // Why, in words; no half file; the key, the profile and the filler.
    assert!(lines[0].contains("No space left"), "{text}");
    assert_eq!(lines[1..3], ["0", "3"], "{text}");
    drop(directory);
    let profiles = open(&root.path().join("kept/profiles"));
    let (kinds, length) = read(&profiles, "p").await.unwrap();
    let kind = kinds.first().copied().unwrap();
    assert_eq!((kinds.len(), length), (1, LENGTH + usize::from(kind) * 100));
}
