//! Processes and cpu.

use std::time::Duration;

use pagebox::grpc::v1::{ExecutionLimits, Language, Outcome, SessionLimits};

use super::{World, goes_on};
use crate::client::{describe, environment};

fn processes(number: u32) -> ExecutionLimits {
    ExecutionLimits {
        processes: number,
        ..ExecutionLimits::default()
    }
}

/// Starts processes until none is given any more, at most `MOST`; the result is how many.
const PYTHON: &str = "import os, signal, time\npids = []\n\
    for _ in range(int(os.environ['MOST'])):\n    \
        try:\n        pid = os.fork()\n    except BlockingIOError:\n        break\n    \
        if pid == 0:\n        time.sleep(1000)\n        os._exit(0)\n    \
        pids.append(pid)\nlen(pids)";
/// The only program of its sandbox is node, which takes at least seven tasks, or hangs without them:
/// how many could be forked.
const NODE: &str = "const { spawn } = require('child_process'); let started = 0;\n\
    for (let i = 0; i < +process.env.MOST; i++) {\n\
      const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 1e6)']);\n\
      await new Promise(resolve => { child.on('error', resolve);\n\
        child.on('spawn', () => { started++; resolve() }) }) }\n\
    started";

#[tokio::test]
async fn processes_end_at_the_limit_of_each_sandbox_by_itself() {
    for world in World::all().await {
        let session = world.open_contexts(processes(48)).await;
        for (language, code, most, expected) in [
            (Language::Python, PYTHON, "100", 16..48),
            (Language::Node, NODE, "20", 1..20),
        ] {
            // Both under one uid: what one started does not count against the other.
            let mut options = session.options(language, code);
            options.environment = environment(&[("MOST", most)]);
            let reply = session.run(options).await;
            let context = format!("{} {language:?}: {}", world.mode, describe(&reply));
            assert_eq!(reply.outcome(), Outcome::Completed, "{context}");
            let started: u32 = reply.result.unwrap().parse().unwrap();
            assert!(expected.contains(&started), "{context}");
            if world.processes {
                assert!(reply.limits_hit.unwrap().forks_refused > 0, "{context}");
            }
        }
        session.stop().await;
    }
}

#[tokio::test]
async fn bash_that_cannot_fork_is_told_and_the_refusals_are_counted() {
    for world in World::all().await {
        let session = world.open_contexts(processes(32)).await;
        let code = "for i in $(seq 100); do sleep 1000 & done; wait";
        let reply = session
            .exec_within(Duration::from_secs(5), Language::Bash, code)
            .await;
        let context = format!("{}: {}", world.mode, describe(&reply));
        assert!(
            matches!(reply.outcome(), Outcome::TimedOut | Outcome::Failed),
            "{context}"
        );
        assert!(
            reply.stderr.contains("Resource temporarily unavailable"),
            "{context}"
        );
        if world.processes {
            assert!(reply.limits_hit.unwrap().forks_refused > 0, "{context}");
        }
        goes_on(&session).await;
        session.stop().await;
    }
}

#[tokio::test]
async fn all_processes_of_a_session_count_together() {
    let world = World::own().await;
    let limits = SessionLimits {
        processes: 220,
        ..SessionLimits::default()
    };
    let session = world.open(limits, ExecutionLimits::default()).await;
    let mut total = 0;
    for (language, code) in [(Language::Python, PYTHON), (Language::Node, NODE)] {
        let mut options = session.options(language, code);
        options.environment = environment(&[("MOST", "200")]);
        let reply = session.run(options).await;
        match reply.result.as_deref().map(str::parse::<u32>) {
            Some(Ok(started)) => total += started,
            // There may be no room left for what it needs itself.
            _ => assert_ne!(reply.outcome(), Outcome::Completed, "{}", describe(&reply)),
        }
    }
    if world.processes {
        assert!(total < 220, "{total}");
    } else {
        // Reported as weaker: each sandbox has its own limit only.
        assert!(total > 220, "{total}");
    }
    session.stop().await;
}

#[tokio::test]
async fn cpu_time_stays_within_the_quota() {
    for world in World::all().await {
        let limits = ExecutionLimits {
            cpu_percent: 20,
            ..ExecutionLimits::default()
        };
        let session = world.open_contexts(limits).await;
        for (language, code) in [
            (
                Language::Node,
                "const end = Date.now() + 3000; while (Date.now() < end) {}",
            ),
            (
                Language::Python,
                "import time\nend = time.monotonic() + 3\nwhile time.monotonic() < end: pass",
            ),
            (
                Language::Bash,
                "end=$((SECONDS + 4)); while ((SECONDS < end)); do :; done",
            ),
        ] {
            let reply = session.good(language, code).await;
            let context = format!("{} {language:?}", world.mode);
            let wall = Duration::try_from(reply.duration.unwrap()).unwrap();
            let cpu = Duration::try_from(reply.cpu_time.unwrap()).unwrap();
            let throttled = reply.limits_hit.unwrap().cpu_throttled.unwrap();
            let throttled = Duration::try_from(throttled).unwrap();
            assert!(cpu > Duration::from_millis(50), "{context}: {cpu:?}");
            if world.cpu {
                assert!(cpu < wall * 3 / 10, "{context}: {cpu:?} of {wall:?}");
                // A host too busy to give it even its quota has nothing to hold back.
                let held_back = !throttled.is_zero() || cpu < wall * 18 / 100;
                assert!(held_back, "{context}: {cpu:?} of {wall:?}");
            } else {
                assert_eq!(throttled, Duration::ZERO, "{context}");
            }
        }
        session.stop().await;
    }
}
