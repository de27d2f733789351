//! Many sessions and executions at once, and many sessions in turn.

use std::time::Duration;

use pagebox::grpc::v1::{Language, Outcome};

use crate::client::Client;
use crate::daemon::Daemon;
use crate::leaks::{Holdings, eventually, holdings, resident_kib};
use crate::shared::{binary, blank, site};

const SESSIONS: usize = 8;
const EXECUTIONS: usize = 25;
/// Sessions made and stopped one after another.
const IN_TURN: usize = 50;
/// How much the daemon may have grown over [`IN_TURN`] sessions: allocator slack and the records of
/// ended sessions, far below what one leaked hub or buffer per session would add.
const GROWTH_KIB: u64 = 24 << 10;

/// Waits until the daemon holds no more than `before` again.
pub(crate) async fn back_to(daemon: &Daemon, before: &Holdings) {
    eventually(Duration::from_secs(10), async || {
        let now = holdings(daemon.pid(), &daemon.temporary());
        (now == *before)
            .then_some(())
            .ok_or(format!("{now:?}, before {before:?}"))
    })
    .await;
}

#[tokio::test]
async fn eight_sessions_run_mixed_code_without_mixing_it_up() {
    let daemon = Daemon::start(binary(), "");
    let client = Client::new(&daemon.url());
    // What is made once and kept is made by the first session.
    client.open("about:blank").await.stop().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = holdings(daemon.pid(), &daemon.temporary());

    let tasks: Vec<_> = (0..SESSIONS)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let url = site().url(&format!("/search?q=boat-{number}"));
                let session = client.open(&url).await;
                let title = format!("Results for boat-{number}");
                for round in 0..EXECUTIONS {
                    let mark = format!("{number}/{round}");
                    match round % 3 {
                        0 => {
                            let code = format!(
                                "globalThis.sum = (globalThis.sum ?? 0) + 1; console.log('{mark}'); \
                                 `${{sum}} ${{await page.title()}}`"
                            );
                            let reply = session.good(Language::Node, &code).await;
                            let want = format!("{} {title}", round / 3 + 1);
                            assert_eq!(reply.result.as_deref(), Some(&*want), "{mark}");
                            assert_eq!(reply.stdout, format!("{mark}\n"));
                        }
                        1 => {
                            let code = format!("print('{mark}')\nawait page.title()");
                            let reply = session.good(Language::Python, &code).await;
                            assert_eq!(reply.result.as_deref(), Some(&*title), "{mark}");
                            assert_eq!(reply.stdout, format!("{mark}\n"));
                        }
                        _ => {
                            let code = format!(
                                "echo {mark} >> log; tail -n 1 log; agent-browser get title"
                            );
                            assert_eq!(session.bash(&code).await, format!("{mark}\n{title}"));
                        }
                    }
                }
                assert_eq!(session.now().await.total_executions, EXECUTIONS as u64);
                session.stop().await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    back_to(&daemon, &before).await;
}

#[tokio::test]
async fn fifty_sessions_in_turn_leave_nothing() {
    let daemon = Daemon::start(binary(), "");
    let client = Client::new(&daemon.url());
    let round = async || {
        let session = client.open(&site().url("/")).await;
        assert_eq!(
            session.node("await page.title()").await,
            "Tidewater Almanac"
        );
        session.stop().await;
    };
    for _ in 0..3 {
        round().await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = holdings(daemon.pid(), &daemon.temporary());
    let memory = resident_kib(daemon.pid());
    for _ in 0..IN_TURN {
        round().await;
    }
    back_to(&daemon, &before).await;
    let grown = resident_kib(daemon.pid()).saturating_sub(memory);
    assert!(grown < GROWTH_KIB, "the daemon grew by {grown} KiB");
}

#[tokio::test]
async fn languages_and_fresh_executions_run_side_by_side() {
    let session = blank().await;
    let meet = |own: &str, other: &str| {
        // Each waits for the other's file: in turn they would never meet.
        (format!("/tmp/{own}"), format!("/tmp/{other}"))
    };
    let node = |own: &str, other: &str| {
        let (own, other) = meet(own, other);
        format!(
            "const fs = require('fs'); fs.writeFileSync('{own}', ''); \
             while (!fs.existsSync('{other}')) await new Promise((r) => setTimeout(r, 20)); 'met'"
        )
    };
    let (own, other) = meet("b", "a");
    let python = format!(
        "import asyncio, os\nopen('{own}', 'w').close()\nwhile not os.path.exists('{other}'):\n    \
         await asyncio.sleep(0.02)\n'met'"
    );
    let first_code = node("a", "b");
    let (first, second) = tokio::join!(session.node(&first_code), session.python(&python));
    assert_eq!((&*first, &*second), ("met", "met"));

    let third_code = node("c", "d");
    let mut fresh = session.options(Language::Node, &node("d", "c"));
    fresh.fresh = true;
    let (third, fourth) = tokio::join!(session.node(&third_code), session.run(fresh));
    assert_eq!(third, "met");
    assert_eq!(fourth.result.as_deref(), Some("met"));
    session.stop().await;
}

#[tokio::test]
async fn executions_of_one_context_queue_in_order() {
    let session = blank().await;
    session.node("globalThis.order = []; 1").await;
    let mut tasks = Vec::new();
    for number in 0..5 {
        let running = session.clone();
        tasks.push(tokio::spawn(async move {
            let code =
                format!("await new Promise((r) => setTimeout(r, 300)); order.push({number}); 1");
            running.node(&code).await
        }));
        // The next is sent only when this one is known to be queued.
        crate::leaks::eventually(Duration::from_secs(20), async || {
            let there = session.now().await.total_executions;
            let started = session.now().await.running_executions as usize;
            (there as usize > number || started > 0)
                .then_some(())
                .ok_or("not queued".to_owned())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(session.node("JSON.stringify(order)").await, "[0,1,2,3,4]");
    session.stop().await;
}

/// Runs node code in a runner of its own, or after a kill, until one that stood by was taken.
async fn finds_one_that_stood_by(mut age: impl AsyncFnMut() -> String) {
    for _ in 0..6 {
        // As long as it has stood by, so old it is.
        tokio::time::sleep(Duration::from_secs(4)).await;
        let age: f64 = age().await.parse().unwrap();
        if age > 3.0 {
            return;
        }
    }
    panic!("each runner was started when it was needed");
}

#[tokio::test]
async fn fresh_code_finds_a_runner_that_stands_by() {
    let session = blank().await;
    let mut options = session.options(
        Language::Node,
        "await page.title(); if (globalThis.seen) throw seen; globalThis.seen = 1; process.uptime()",
    );
    options.fresh = true;
    let first: f64 = {
        let reply = session.run(options.clone()).await;
        reply.result.unwrap().parse().unwrap()
    };
    assert!(first > 0.0);
    finds_one_that_stood_by(async || {
        let reply = session.run(options.clone()).await;
        reply.result.unwrap_or_else(|| panic!("{}", reply.stderr))
    })
    .await;
    session.stop().await;
}

#[tokio::test]
async fn code_after_a_kill_finds_a_runner_that_stands_by() {
    let session = blank().await;
    finds_one_that_stood_by(async || {
        let limit = Duration::from_secs(1);
        let reply = session
            .exec_within(limit, Language::Node, "for (;;);")
            .await;
        assert_eq!(reply.outcome(), Outcome::TimedOut);
        session.node("await page.title(); process.uptime()").await
    })
    .await;
    session.stop().await;
}
