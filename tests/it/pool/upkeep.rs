//! How kits are kept: built when there is room, memory and quiet, replaced, and ended.

use std::time::Duration;

use pagebox::grpc::v1::execution_options::Place;
use pagebox::grpc::v1::{ExecutionOptions, Language, SessionOptions};

use super::{
    BUILT, browsers, built, create, has_built, plain, pool, spaces, spaces_of_browsers, start,
    with_a_kit,
};
use crate::client::reason;
use crate::daemon::{Daemon, signal};
use crate::leaks::{Process, cgroups, descendants, eventually};

/// The program itself, below the first process of its sandbox.
fn runner_of_node(daemon: &Daemon) -> Process {
    let is_it = |process: &Process| {
        let line = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("runners/node")
    };
    let found = descendants(daemon.pid()).into_iter().rfind(is_it);
    found.expect("a kit has a runner")
}

#[tokio::test]
async fn a_kit_that_dies_or_is_old_is_replaced() {
    let (daemon, client) = with_a_kit(&pool("")).await;
    signal(browsers(&daemon)[0].pid, "KILL");
    has_built(&daemon, 2).await;
    signal(runner_of_node(&daemon).pid, "KILL");
    has_built(&daemon, 3).await;
    let (made, session) = plain(&client).await;
    assert!(made.warm);
    assert_eq!(session.node("1 + 1").await, "2");
    has_built(&daemon, 4).await;
    // Whoever comes at the moment of its death has a session that works all the same.
    for browser in browsers(&daemon) {
        signal(browser.pid, "KILL");
    }
    eventually(BUILT, async || {
        let (_, session) = plain(&client).await;
        let options = ExecutionOptions {
            place: Some(Place::SessionId(session.id.clone())),
            code: "1 + 1".to_owned(),
            ..ExecutionOptions::default()
        };
        let reply = client.execute(options).await;
        let said = reply.map_err(|error| error.to_string())?.result;
        session.stop().await;
        (said.as_deref() == Some("2"))
            .then_some(())
            .ok_or("no result".to_owned())
    })
    .await;

    let (young, client) = with_a_kit("[pool]\nmax_age = \"1s\"\nmemory_left = \"0\"\n").await;
    has_built(&young, 3).await;
    eventually(Duration::from_secs(10), async || {
        let count = spaces_of_browsers(&young).len();
        (count <= 1)
            .then_some(())
            .ok_or(format!("{count} kits at once"))
    })
    .await;
    let (_, session) = plain(&client).await;
    assert_eq!(session.node("1 + 1").await, "2");
}

#[tokio::test]
async fn without_memory_there_is_no_kit_but_a_session() {
    let (daemon, client) = start("[pool]\nsize = 2\nmemory_left = \"1048576 GiB\"\n");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (made, session) = plain(&client).await;
    assert!(!made.warm);
    assert_eq!(session.node("1 + 1").await, "2");
    assert_eq!(built(&daemon), 0);
}

#[tokio::test]
async fn kits_take_no_room_from_sessions() {
    let config = "[session]\nmax_sessions = 2\n[sandbox]\nuid_count = 2\n\
                  [pool]\nsize = 2\nmemory_left = \"0\"\n";
    let (daemon, client) = start(config);
    has_built(&daemon, 2).await;
    let odd = || SessionOptions {
        user_agent: "Odd".to_owned(),
        ..SessionOptions::default()
    };
    // A kit makes room, and nobody is refused.
    let (cold, first) = create(&client, odd()).await;
    let (warm, second) = plain(&client).await;
    assert_eq!((cold.warm, warm.warm), (false, true));
    let full = client.create(odd()).await.unwrap_err();
    assert_eq!(reason(&full), "SESSION_LIMIT");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(built(&daemon), 2, "there is no room");
    first.stop().await;
    has_built(&daemon, 3).await;
    // In the room of one that is being built, too.
    second.stop().await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    let (_, one) = create(&client, odd()).await;
    let (_, other) = create(&client, odd()).await;
    for session in [one, other] {
        assert_eq!(session.node("1 + 1").await, "2");
        session.stop().await;
    }
}

#[tokio::test]
async fn a_kit_runs_as_little_as_can_be_until_it_is_taken() {
    let (daemon, client) = with_a_kit(&pool("")).await;
    let weights = || -> Vec<String> {
        let spaces = spaces(&descendants(daemon.pid()));
        let files = spaces.iter().flat_map(|space| {
            let files = ["cpu.shares", "cpu.weight"].into_iter();
            files.filter_map(|file| std::fs::read_to_string(space.join(file)).ok())
        });
        files.map(|text| text.trim().to_owned()).collect()
    };
    let kits = weights();
    if kits.is_empty() {
        eprintln!("this host limits no cpu: nothing to lower");
        return;
    }
    assert!(
        kits.iter().all(|weight| ["1", "2"].contains(&&**weight)),
        "{kits:?}"
    );
    let (made, _) = plain(&client).await;
    assert!(made.warm);
    let sessions = weights();
    let usual = |weight: &String| ["100", "1024"].contains(&&**weight);
    assert!(sessions.iter().any(usual), "{sessions:?}");
}

#[tokio::test]
async fn nothing_is_built_while_code_runs() {
    let (daemon, client) = with_a_kit(&pool("")).await;
    let options = ExecutionOptions {
        place: Some(Place::OneShot(SessionOptions::default())),
        language: Language::Node.into(),
        code: "await new Promise((done) => setTimeout(done, 4000)); 'done'".to_owned(),
        ..ExecutionOptions::default()
    };
    let reply = client.execute(options).await.unwrap();
    assert_eq!(reply.result.as_deref(), Some("done"));
    assert!(daemon.log().contains("warm=true"), "{}", daemon.log());
    assert_eq!(built(&daemon), 1);
    has_built(&daemon, 2).await;
}

#[tokio::test]
async fn a_host_that_builds_no_kit_is_told_of_once() {
    let (daemon, client) = start(&pool("[browser]\nprogram = \"/usr/bin/false\""));
    eventually(BUILT, async || {
        let told = daemon.log().contains("no kit can be built");
        told.then_some(()).ok_or_else(|| daemon.log())
    })
    .await;
    let log = daemon.log();
    assert_eq!(log.matches("kit not built").count(), 1, "{log}");
    assert_eq!(log.matches("no kit can be built").count(), 1, "{log}");
    let failed = client.create(SessionOptions::default()).await.unwrap_err();
    assert_eq!(reason(&failed), "BROWSER_FAILED");
}

#[tokio::test]
async fn neither_a_drain_nor_a_kill_leaves_a_kit() {
    for how in ["TERM", "KILL"] {
        let (mut daemon, _) = with_a_kit(&pool("")).await;
        let held = descendants(daemon.pid());
        let groups = cgroups(&held);
        assert!(held.len() > 5, "{held:?}");
        daemon.signal(how);
        daemon.wait(Duration::from_secs(20));
        eventually(Duration::from_secs(1), async || {
            let alive: Vec<_> = held.iter().filter(|process| process.is_alive()).collect();
            alive
                .is_empty()
                .then_some(())
                .ok_or(format!("{how}: {alive:?}"))
        })
        .await;
        if how == "TERM" {
            let left: Vec<_> = groups.iter().filter(|path| path.exists()).collect();
            assert!(left.is_empty(), "{left:?}");
            assert!(!daemon.log().contains("did not end"), "{}", daemon.log());
            assert_eq!(std::fs::read_dir(daemon.temporary()).unwrap().count(), 0);
        }
    }
}
