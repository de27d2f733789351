//! Wall time, and what is reported when two limits are reached at once.

use std::time::Duration;

use pagebox::grpc::v1::{ExecutionLimits, Language, Outcome};

use super::{LANGUAGES, World, goes_on};
use crate::client::describe;

/// A busy host may kill late; what matters is that it is bounded, and never early.
const LATE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_timeout_is_never_early_and_bounded_late() {
    for world in World::all().await {
        let session = world.open_contexts(ExecutionLimits::default()).await;
        let timeout = Duration::from_millis(1500);
        for language in LANGUAGES {
            let code = match language {
                Language::Node => "while (true) {}",
                Language::Python => "while True: pass",
                _ => "while :; do :; done",
            };
            let reply = session.exec_within(timeout, language, code).await;
            let context = format!("{} {language:?}: {}", world.mode, describe(&reply));
            assert_eq!(reply.outcome(), Outcome::TimedOut, "{context}");
            let took = Duration::try_from(reply.duration.unwrap()).unwrap();
            assert!(
                took >= timeout && took < timeout + LATE,
                "{took:?} {context}"
            );
            let cpu = Duration::try_from(reply.cpu_time.unwrap()).unwrap();
            assert!(cpu > Duration::from_millis(20), "{cpu:?} {context}");
        }
        session.stop().await;
    }
}

/// Which of the two comes first is chance; that one of them is reported, whole, is not.
#[tokio::test]
async fn memory_and_time_at_the_same_moment_are_one_outcome() {
    for world in World::all().await {
        let limits = ExecutionLimits {
            memory_bytes: 256 << 20,
            ..ExecutionLimits::default()
        };
        let session = world.open_contexts(limits).await;
        let timeout = Duration::from_secs(2);
        for after in ["1.8", "1.9", "1.95", "2.0"] {
            // In children, so that it is the sum that is over, in every mode; pid 1 of the code
            // waits for none of them.
            let code = format!(
                "import os, time\ntime.sleep({after})\nfor _ in range(8):\n    \
                 if os.fork() == 0:\n        hoard = bytearray(b'x') * (80 << 20)\n        \
                 time.sleep(1000)\nhoard = bytearray(b'x') * (80 << 20)\ntime.sleep(1000)"
            );
            let reply = session.exec_within(timeout, Language::Python, &code).await;
            let context = format!("{} {after}: {}", world.mode, describe(&reply));
            assert!(reply.killed && reply.exit_code == 137, "{context}");
            let took = Duration::try_from(reply.duration.unwrap()).unwrap();
            let name = reply.error.as_ref().unwrap().name.as_str();
            match reply.outcome() {
                Outcome::TimedOut => {
                    assert_eq!(name, "TimedOut", "{context}");
                    assert!(took >= timeout, "{took:?} {context}");
                }
                Outcome::OutOfMemory => assert_eq!(name, "OutOfMemory", "{context}"),
                _ => panic!("{context}"),
            }
        }
        goes_on(&session).await;
        session.stop().await;
    }
}
