//! Saves that something dies under, and profiles that cannot be used.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pagebox::grpc::v1::SessionState;
use pagebox::id::SessionId;
use pagebox::profile::{Archive, Config, Profiles, State, Summary};
use pagebox::tenant::Owner;
use tonic::Code;

use super::*;
use crate::leaks::descendants;

/// Every file below the profiles of a data directory.
pub(super) fn objects(data_dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![data_dir.join("profiles")];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => left.push(path),
                false => found.push(path),
            }
        }
    }
    found
}

#[tokio::test]
async fn a_daemon_killed_at_any_step_of_a_save_leaves_the_old_state_or_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let mut before = "none".to_owned();
    {
        let daemon = daemon_in(&data_dir, "");
        saved(&Client::new(&daemon.url()), "work", &before).await;
    }
    let (mut old, mut new) = (0, 0);
    for round in 0..14u64 {
        let now = format!("round{round}");
        {
            let mut daemon = daemon_in(&data_dir, "");
            let client = Client::new(&daemon.url());
            let session = client.open_with(with("work", true)).await;
            let found = state(&session).await;
            assert_eq!(found, state_of(&before), "round {round}");
            login(&session, &now).await;
            let id = session.now().await.id;
            let stopping = tokio::spawn(async move { client.stop(&id).await });
            tokio::time::sleep(Duration::from_millis(40 * round)).await;
            daemon.signal("KILL");
            daemon.wait(Duration::from_secs(10));
            // Whatever it has come to.
            drop(stopping.await);
        }
        let daemon = daemon_in(&data_dir, "");
        let client = Client::new(&daemon.url());
        let found = found(&client, "work").await;
        if found == state_of(&now) {
            (new, before) = (new + 1, now);
        } else {
            assert_eq!(found, state_of(&before), "round {round}");
            old += 1;
        }
        assert_eq!(objects(&data_dir).len(), 1, "round {round}");
    }
    assert!(old > 0 && new > 0, "{old} old, {new} new: no step was met");
}

#[tokio::test]
async fn a_browser_that_crashes_saves_nothing_and_frees_the_profile() {
    let daemon = Daemon::start(binary(), "");
    let client = Client::new(&daemon.url());
    saved(&client, "crashed", "ada").await;
    let session = client.open_with(with("crashed", true)).await;
    login(&session, "bob").await;
    kill_browser(&daemon);
    eventually(Duration::from_secs(20), async || {
        match session.now().await.state() {
            SessionState::Failed => Ok(()),
            state => Err(format!("{state:?}")),
        }
    })
    .await;
    let profile = session.now().await.profile.unwrap();
    assert_eq!((profile.save_time, &*profile.save_error), (None, ""));
    assert_eq!(found(&client, "crashed").await, state_of("ada"));
    saved(&client, "crashed", "cy").await;
}

#[tokio::test]
async fn a_profile_that_cannot_be_written_is_told_with_the_session() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let daemon = daemon_in(&data_dir, "");
    let client = Client::new(&daemon.url());
    saved(&client, "work", "ada").await;
    let session = client.open_with(with("work", true)).await;
    login(&session, "bob").await;
    // In the place of the owner's directory there is a file.
    let object = objects(&data_dir).pop().unwrap();
    let owner = object.parent().unwrap();
    let aside = data_dir.join("aside");
    fs::rename(owner, &aside).unwrap();
    fs::write(owner, "").unwrap();
    let stopped = session.stop().await.session.unwrap();
    assert_eq!(stopped.state(), SessionState::Stopped);
    let profile = stopped.profile.unwrap();
    assert_eq!(profile.save_time, None);
    assert!(
        profile.save_error.contains("profiles cannot be reached"),
        "{profile:?}"
    );
    fs::remove_file(owner).unwrap();
    fs::rename(aside, owner).unwrap();
    assert_eq!(found(&client, "work").await, state_of("ada"));
}

#[tokio::test]
async fn a_damaged_object_or_one_of_another_key_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let key = data_dir.join("profiles.key");
    {
        let daemon = daemon_in(&data_dir, "");
        let client = Client::new(&daemon.url());
        saved(&client, "work", "ada").await;
        let object = objects(&data_dir).pop().unwrap();
        let whole = fs::read(&object).unwrap();
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        fs::write(&object, changed).unwrap();
        let refused = client.create(with("work", true)).await.unwrap_err();
        assert_eq!(
            (refused.code(), &*reason(&refused)),
            (Code::Internal, "PROFILE_UNREADABLE")
        );
        assert!(refused.message().contains("\"work\""), "{refused}");
        fs::write(&object, whole).unwrap();
        assert_eq!(found(&client, "work").await, state_of("ada"));
    }
    let aside = data_dir.join("aside.key");
    fs::rename(&key, &aside).unwrap();
    // Of another daemon.
    let other = directory.path().join("other");
    drop(daemon_in(&other, ""));
    fs::rename(other.join("profiles.key"), &key).unwrap();
    {
        let daemon = daemon_in(&data_dir, "");
        let client = Client::new(&daemon.url());
        let refused = get(&client, "work").await.unwrap_err();
        assert_eq!(reason(&refused), "PROFILE_UNREADABLE");
        assert!(refused.message().contains("another key"), "{refused}");
    }
    fs::rename(&aside, &key).unwrap();
    let config = format!("[profile]\nkey_file = {key:?}\n");
    let daemon = daemon_in(&data_dir, &config);
    let client = Client::new(&daemon.url());
    assert_eq!(found(&client, "work").await, state_of("ada"));
}

/// A directory with nothing in it.
struct Empty(Option<Vec<u8>>);

impl Empty {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("profile")).unwrap();
        let mut tar = std::process::Command::new("tar");
        let packed = tar.args(["--create", "--zstd", "--file=-", "-C"]);
        let packed = packed.arg(root.path()).arg("profile").output().unwrap();
        assert!(packed.status.success());
        Self(Some(packed.stdout))
    }
}

impl Archive for Empty {
    async fn next(&mut self, _: usize) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.take())
    }

    async fn finish(self) -> Result<(), String> {
        Ok(())
    }
}

#[tokio::test]
async fn a_profile_of_a_later_browser_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let owner = Owner::anonymous();
    {
        let daemon = daemon_in(&data_dir, "");
        saved(&Client::new(&daemon.url()), "work", "ada").await;
    }
    let profiles = Profiles::open(&data_dir.join("profiles"), Config::default()).unwrap();
    let name = "work".to_owned().try_into().unwrap();
    let writer = profiles
        .write(&owner, &name, SessionId::generate())
        .unwrap();
    let summary = Summary {
        name,
        saved_at: SystemTime::now(),
        browser: "HeadlessChrome/9999.0".to_owned(),
        cookies: Default::default(),
        origins: Default::default(),
    };
    let (state, archive) = (State::default(), Empty::new());
    let saved = profiles.save(writer, &summary, &state, archive).await;
    saved.unwrap().commit().await.unwrap();
    let daemon = daemon_in(&data_dir, "");
    let client = Client::new(&daemon.url());
    let refused = client.create(with("work", true)).await.unwrap_err();
    assert_eq!(
        (refused.code(), &*reason(&refused)),
        (Code::FailedPrecondition, "PROFILE_TOO_NEW")
    );
    assert!(refused.message().contains("9999"), "{refused}");
    assert_eq!(
        get(&client, "work").await.unwrap().browser,
        "HeadlessChrome/9999.0"
    );
}

#[tokio::test]
async fn a_browser_killed_while_it_is_saved_leaves_the_old_state_or_the_new_one() {
    let daemon = Daemon::start(binary(), "");
    let client = Client::new(&daemon.url());
    let mut before = "none".to_owned();
    saved(&client, "work", &before).await;
    let mut refused = 0;
    for round in 0..8u64 {
        let now = format!("round{round}");
        let session = client.open_with(with("work", true)).await;
        login(&session, &now).await;
        let (stopper, id) = (client.clone(), session.now().await.id);
        let stopping = tokio::spawn(async move { stopper.stop(&id).await });
        tokio::time::sleep(Duration::from_millis(25 * round)).await;
        kill_browser(&daemon);
        let stopped = stopping.await.unwrap().unwrap().session.unwrap();
        let profile = stopped.profile.unwrap();
        // It is told whether it was saved.
        match profile.save_time {
            Some(_) => before = now,
            None => refused += 1,
        }
        assert_eq!(
            found(&client, "work").await,
            state_of(&before),
            "round {round}: {profile:?}"
        );
        assert_eq!(objects(&daemon.data_dir()).len(), 1, "round {round}");
    }
    assert!(refused > 0, "no save was met");
}

#[tokio::test]
async fn a_profile_larger_than_may_be_kept_is_told_and_the_old_one_stays() {
    let daemon = Daemon::start(binary(), "[profile]\nmax_size = \"1 MiB\"\n");
    let client = Client::new(&daemon.url());
    saved(&client, "work", "ada").await;
    let session = client.open_with(with("work", true)).await;
    login(&session, "bob").await;
    let fill = "await page.evaluate(async () => {
        const bytes = new Uint8Array(3 << 20);
        for (let at = 0; at < bytes.length; at += 65536) {
            crypto.getRandomValues(bytes.subarray(at, at + 65536));
        }
        const root = await navigator.storage.getDirectory();
        const file = await root.getFileHandle('large', { create: true });
        const writing = await file.createWritable();
        await writing.write(bytes);
        await writing.close();
    }); 'filled'";
    assert_eq!(session.node(fill).await, "filled");
    let profile = session.stop().await.session.unwrap().profile.unwrap();
    assert_eq!(profile.save_time, None);
    assert!(
        profile.save_error.contains("larger than 1 MiB"),
        "{profile:?}"
    );
    assert_eq!(found(&client, "work").await, state_of("ada"));
    assert_eq!(objects(&daemon.data_dir()).len(), 1);
}

fn kill_browser(daemon: &Daemon) {
    for process in descendants(daemon.pid()) {
        if process.name.contains("chrom") || process.name.contains("headless") {
            crate::daemon::signal(process.pid, "KILL");
        }
    }
}
