//! Memory: of a sandbox, of a session, and what is no limit at all though it looks like one.

use std::time::Duration;

use pagebox::grpc::v1::{EndReason, ExecutionLimits, Language, LimitsHit, Outcome, SessionLimits};

use super::{LANGUAGES, World, goes_on};
use crate::client::describe;

const MIB: u64 = 1 << 20;
const LONG: Duration = Duration::from_secs(60);

const OF_SANDBOX: &str = "killed: the sandbox reached its memory limit of 256 MiB";

fn memory(mib: u64) -> ExecutionLimits {
    ExecutionLimits {
        memory_bytes: mib * MIB,
        ..ExecutionLimits::default()
    }
}

/// Six children of 80 MiB each, which stay; each far below 256 MiB.
fn six_children(language: Language) -> &'static str {
    match language {
        Language::Python => {
            "import os, time\n\
             for _ in range(6):\n    \
                 if os.fork() == 0:\n        \
                     hoard = bytearray(b'x') * (80 << 20)\n        \
                     time.sleep(1000)\n        \
                     os._exit(0)\n    \
                 time.sleep(0.2)\n\
             while True:\n    \
                 pid, status = os.wait()\n    \
                 print('child ended by', os.WTERMSIG(status), flush=True)\n    \
                 raise SystemExit(7)"
        }
        Language::Node => {
            "const { spawn } = require('child_process');\n\
             const code = 'globalThis.hoard = Buffer.alloc(80 << 20, 1); setInterval(() => {}, 1e6)';\n\
             const ended = new Promise(resolve => {\n\
             for (let i = 0; i < 6; i++) spawn(process.execPath, ['-e', code]).on('exit', \
             (code, signal) => resolve(signal ?? code)) });\n\
             console.log('child ended by', await ended); process.exit(7)"
        }
        // tail keeps what it is to write, and nobody reads it.
        _ => {
            "for i in 1 2 3 4 5 6; do\n\
             (head -c 80000000 /dev/zero | tail -c 80000000 | sleep 1000) & done\n\
             wait -n; echo child ended by $?; exit 7"
        }
    }
}

#[tokio::test]
async fn children_below_the_limit_each_cannot_exceed_it_together() {
    for world in World::all().await {
        for language in LANGUAGES {
            let session = world.open_contexts(memory(256)).await;
            let reply = session
                .exec_within(LONG, language, six_children(language))
                .await;
            let context = format!("{} {language:?}: {}", world.mode, describe(&reply));
            let hit = reply.limits_hit.unwrap();
            if world.memory {
                // The kernel ends one child, or more, and the code goes on as it likes: here it
                // waits for one and ends.
                assert!(hit.oom_kills > 0, "{context}");
                assert!(reply.peak_memory_bytes <= 256 * MIB, "{context}");
                match language {
                    // A pipeline's status is its last command's, which was not the one.
                    Language::Bash => assert_ne!(reply.outcome(), Outcome::Completed, "{context}"),
                    _ => {
                        assert_eq!(reply.outcome(), Outcome::OutOfMemory, "{context}");
                        // The kernel takes the largest, which may be the code itself.
                        let ended = (reply.exit_code, reply.killed);
                        assert!([(7, false), (137, true)].contains(&ended), "{context}");
                        if reply.killed {
                            assert_eq!(
                                reply.error.as_ref().unwrap().message,
                                OF_SANDBOX,
                                "{context}"
                            );
                        }
                    }
                }
            } else {
                assert_eq!(reply.outcome(), Outcome::OutOfMemory, "{context}");
                assert_eq!((reply.exit_code, reply.killed), (137, true), "{context}");
                assert_eq!(
                    reply.error.as_ref().unwrap().message,
                    OF_SANDBOX,
                    "{context}"
                );
            }
            // Else the other children are still there, and hold what they have.
            if reply.killed {
                goes_on(&session).await;
            }
            session.stop().await;
        }
    }
}

#[tokio::test]
async fn a_process_beyond_the_limit_ends_out_of_memory_or_is_refused_it() {
    for world in World::all().await {
        let session = world.open_contexts(memory(256)).await;
        for (language, code) in [
            (
                Language::Node,
                "const hoard = []; for (;;) hoard.push(Buffer.alloc(16 << 20, 1))",
            ),
            (
                Language::Python,
                "hoard = []\nwhile True:\n    hoard.append(bytearray(b'x') * (16 << 20))",
            ),
            (
                Language::Bash,
                "x=$(head -c 30000000 /dev/zero | tr '\\0' x); while :; do x=$x$x; done",
            ),
        ] {
            let reply = session.exec_within(LONG, language, code).await;
            let context = format!("{} {language:?}: {}", world.mode, describe(&reply));
            if world.memory {
                assert_eq!(reply.outcome(), Outcome::OutOfMemory, "{context}");
                assert!(reply.limits_hit.unwrap().oom_kills > 0, "{context}");
                assert!(reply.peak_memory_bytes <= 256 * MIB, "{context}");
                assert!(reply.peak_memory_bytes > 200 * MIB, "{context}");
                assert_eq!(
                    reply.error.as_ref().unwrap().message,
                    OF_SANDBOX,
                    "{context}"
                );
            } else {
                // RLIMIT_DATA: the allocation fails, and how code takes that is its own affair.
                assert!(
                    matches!(reply.outcome(), Outcome::Failed | Outcome::OutOfMemory),
                    "{context}"
                );
                assert_eq!(reply.peak_memory_bytes, 0, "not measured: {context}");
            }
        }
        goes_on(&session).await;
        session.stop().await;
    }
}

#[tokio::test]
async fn files_in_private_memory_count_with_the_processes() {
    for world in World::all().await {
        let session = world.open_contexts(memory(256)).await;
        // Neither alone is too much; /dev/shm has 64 MiB.
        let code = "import time\nopen('/dev/shm/x', 'wb').write(b'x' * (60 << 20))\n\
                    held = bytearray(b'x') * (180 << 20)\ntime.sleep(1000)";
        let reply = session.exec_within(LONG, Language::Python, code).await;
        let context = format!("{}: {}", world.mode, describe(&reply));
        assert_eq!(reply.outcome(), Outcome::OutOfMemory, "{context}");
        assert!(reply.killed, "{context}");
        let message = "killed: the sandbox reached its memory limit of 256 MiB";
        assert_eq!(reply.error.unwrap().message, message, "{context}");
        goes_on(&session).await;
        session.stop().await;
    }
}

#[tokio::test]
async fn a_killed_child_is_counted_and_the_outcome_is_the_codes_own() {
    let world = World::own().await;
    let session = world.open_contexts(memory(256)).await;
    for (language, code) in [
        (
            Language::Bash,
            "head -c 600000000 /dev/zero | tail -c 600000000 >/dev/null; \
             echo ${PIPESTATUS[1]}",
        ),
        (
            Language::Python,
            "import subprocess\nsubprocess.run(['python3', '-c', 'x = bytearray(600 << 20)'], \
             env={'PATH': '/usr/bin'}).returncode",
        ),
        (
            Language::Node,
            "require('child_process').spawnSync(process.execPath, \
             ['-e', 'const a = []; for (;;) a.push(Buffer.alloc(16 << 20, 1))']).signal",
        ),
    ] {
        let reply = session.exec_within(LONG, language, code).await;
        let context = format!("{language:?}: {}", describe(&reply));
        assert_eq!(reply.outcome(), Outcome::Completed, "{context}");
        let hit = reply.limits_hit.unwrap();
        if world.memory {
            assert!(hit.oom_kills > 0, "{context}");
            let said = reply.result.unwrap_or(reply.stdout);
            assert!(
                ["137\n", "-9", "SIGKILL"].contains(&&*said),
                "{context}: {said}"
            );
        }
        // The count is that of one execution, not of the context's life.
        let nothing = if language == Language::Bash { ":" } else { "1" };
        let reply = session.good(language, nothing).await;
        assert_eq!(reply.limits_hit.unwrap().oom_kills, 0);
    }
    session.stop().await;
}

#[tokio::test]
async fn exit_codes_and_signals_of_the_codes_own_are_no_limit() {
    for world in World::all().await {
        let session = world.open_contexts(ExecutionLimits::default()).await;
        let none = LimitsHit {
            cpu_throttled: None,
            ..LimitsHit::default()
        };
        for (language, code, outcome, exit_code) in [
            (Language::Node, "process.exit(137)", Outcome::Failed, 137),
            (
                Language::Python,
                "raise SystemExit(137)",
                Outcome::Failed,
                137,
            ),
            (
                Language::Python,
                "import os\nos._exit(137)",
                Outcome::Failed,
                137,
            ),
            (Language::Bash, "exit 137", Outcome::Failed, 137),
            (
                Language::Bash,
                "sleep 1000 & kill -9 $!; wait $!",
                Outcome::Failed,
                137,
            ),
            (Language::Node, "process.exit(0)", Outcome::Completed, 0),
            (Language::Bash, "exit 124", Outcome::Failed, 124),
            (
                Language::Node,
                "process.kill(process.pid, 'SIGKILL')",
                Outcome::RunnerCrashed,
                137,
            ),
            (
                Language::Python,
                "import os\nos.kill(os.getpid(), 9)",
                Outcome::RunnerCrashed,
                137,
            ),
            (
                Language::Python,
                "import os\nos.kill(os.getpid(), 15)",
                Outcome::Failed,
                143,
            ),
        ] {
            let reply = session.exec(language, code).await;
            let context = format!("{} {code}: {}", world.mode, describe(&reply));
            assert_eq!(
                (reply.outcome(), reply.exit_code, reply.killed),
                (outcome, exit_code, false),
                "{context}"
            );
            let hit = LimitsHit {
                cpu_throttled: None,
                ..reply.limits_hit.unwrap()
            };
            assert_eq!(hit, none, "{context}");
            if outcome == Outcome::RunnerCrashed {
                let message = reply.error.unwrap().message;
                assert!(message.contains("signal 9"), "{message}");
            }
        }
        goes_on(&session).await;
        session.stop().await;
    }
}

#[tokio::test]
async fn contexts_together_cannot_exceed_the_session() {
    for world in World::all().await {
        let limits = SessionLimits {
            memory_bytes: 720 * MIB,
            ..SessionLimits::default()
        };
        let session = world.open(limits, memory(600)).await;
        // Each is below its own limit; both, and the browser, are not below the session's.
        session
            .good(
                Language::Python,
                "held = bytearray(b'x') * (350 << 20)\nlen(held)",
            )
            .await;
        let node = session
            .exec_within(
                LONG,
                Language::Node,
                "globalThis.held = Buffer.alloc(350 << 20, 1);
                 await new Promise(resolve => setTimeout(resolve, 2000)); held.length",
            )
            .await;
        let context = format!("{}: {}", world.mode, describe(&node));
        if node.outcome() == Outcome::OutOfMemory {
            let message = node.error.unwrap().message;
            assert!(message.contains("session"), "{context}");
            assert!(message.contains("720 MiB"), "{context}");
        } else {
            // The kernel took another one: python, the larger, or the browser.
            let python = session.options(Language::Python, "'held' in globals()");
            match session.client().execute(python).await {
                Ok(python) => assert!(python.context_restarted, "{context}"),
                Err(_) => {
                    let ended = session.now().await;
                    assert_eq!(ended.end_reason(), EndReason::BrowserCrashed, "{context}");
                }
            }
        }
        session.stop().await;
    }
}
