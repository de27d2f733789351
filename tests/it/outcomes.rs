//! How executions of hostile or broken code end: each by exactly its own outcome, with the page,
//! the daemon and other sessions unharmed.

use std::time::Duration;

use pagebox::grpc::v1::{CancelExecutionRequest, ExecuteResponse, Language, Outcome, OutputLimits};

use crate::client::{OpenSession, describe, duration};
use crate::daemon::host::host;
use crate::leaks::{descendants, eventually};
use crate::shared::{binary, blank, daemon, open};

/// After whatever happened: the page is as it was, and every language works.
async fn goes_on(session: &OpenSession) {
    assert_eq!(
        session.node("await page.title()").await,
        "Tidewater Almanac"
    );
    assert_eq!(
        session.python("await page.title()").await,
        "Tidewater Almanac"
    );
    assert_eq!(session.bash("echo fine").await, "fine");
}

fn killed(reply: &ExecuteResponse, outcome: Outcome) {
    assert_eq!(reply.outcome(), outcome, "{}", describe(reply));
    assert!(!reply.success && reply.killed, "{}", describe(reply));
    assert_eq!(reply.exit_code, 137);
}

#[tokio::test]
async fn the_next_execution_is_told_that_variables_are_gone() {
    let session = open("/").await;
    session.good(Language::Node, "var kept = 1").await;
    let reply = session
        .exec_within(Duration::from_secs(1), Language::Node, "while (true) {}")
        .await;
    killed(&reply, Outcome::TimedOut);
    let reply = session.good(Language::Node, "typeof kept").await;
    assert!(reply.context_restarted);
    assert_eq!(reply.result.as_deref(), Some("undefined"));
    let reply = session.good(Language::Node, "1").await;
    assert!(!reply.context_restarted);
    session.stop().await;
}

/// Whether any process has this name and argument.
pub(crate) fn runs(name: &str, argument: &str) -> bool {
    descendants(daemon().pid()).iter().any(|process| {
        let path = format!("/proc/{}/cmdline", process.pid);
        let line = std::fs::read_to_string(path).unwrap_or_default();
        let mut parts = line.split('\0');
        parts.next() == Some(name) && parts.next() == Some(argument)
    })
}

#[tokio::test]
async fn a_memory_bomb_is_an_out_of_memory_outcome() {
    let test = "a_memory_bomb_is_an_out_of_memory_outcome";
    if !host(binary()).can(test, "cgroup-memory") {
        return;
    }
    let session = open("/").await;
    for (language, code) in [
        (
            Language::Node,
            "const hoard = []; for (;;) hoard.push(Buffer.alloc(16 << 20, 1))",
        ),
        (
            Language::Python,
            "hoard = []\nwhile True:\n    hoard.append(bytearray(b'x') * (16 << 20))",
        ),
    ] {
        let reply = session
            .exec_within(Duration::from_secs(60), language, code)
            .await;
        assert_eq!(
            reply.outcome(),
            Outcome::OutOfMemory,
            "{}",
            describe(&reply)
        );
        assert!(reply.peak_memory_bytes > 16 << 20);
        goes_on(&session).await;
    }
    session.stop().await;
}

#[tokio::test]
async fn a_long_result_is_cut_at_its_limit() {
    let session = blank().await;
    let mut options = session.options(Language::Node, "'\u{e9}'.repeat(1000)");
    options.output_limits = Some(OutputLimits {
        result_bytes: 101,
        ..OutputLimits::default()
    });
    let reply = session.run(options).await;
    assert!(reply.result_truncated && reply.success);
    assert_eq!(
        reply.result,
        Some("\u{e9}".repeat(50)),
        "cut at a character"
    );
    session.stop().await;
}

#[tokio::test]
async fn kill_everything_kills_only_its_own_sandbox() {
    let session = open("/").await;
    for (language, code) in [
        (Language::Bash, "kill -9 -1"),
        (Language::Node, "process.kill(-1, 'SIGKILL')"),
        (Language::Python, "import os\nos.kill(-1, 9)"),
        (Language::Node, "process.kill(process.pid, 'SIGKILL')"),
        (
            Language::Python,
            "import os\nos.kill(1, 9)\nos.kill(os.getppid() or 1, 9)",
        ),
        (Language::Node, "process.abort()"),
        (Language::Bash, "kill -9 $PPID; kill -9 $$"),
    ] {
        let reply = session
            .exec_within(Duration::from_secs(10), language, code)
            .await;
        assert!(
            matches!(
                reply.outcome(),
                Outcome::Completed | Outcome::Failed | Outcome::RunnerCrashed
            ),
            "{code}: {}",
            describe(&reply)
        );
        assert!(!reply.killed, "{code}: pagebox killed nothing");
        if language == Language::Python {
            // It may have killed the driver below it, which the runner can notice a moment later.
            session.exec(Language::Python, "await page.title()").await;
        }
        goes_on(&session).await;
    }
    session.stop().await;
}

#[tokio::test]
async fn cancel_ends_a_running_and_a_queued_execution() {
    use pagebox::grpc::v1::ExecuteStreamRequest;
    use pagebox::grpc::v1::execute_stream_response::Event;
    use tokio_stream::StreamExt;

    let session = open("/").await;
    let mut executions = session.client().executions();
    let mut options = session.options(Language::Node, "console.log('on'); while (true) {}");
    options.timeout = Some(duration(Duration::from_secs(100)));
    let request = ExecuteStreamRequest {
        options: Some(options),
    };
    let mut stream = executions
        .execute_stream(request)
        .await
        .unwrap()
        .into_inner();
    let mut started = String::new();
    let mut finished = None;
    while let Some(event) = stream.next().await {
        match event.unwrap().event.unwrap() {
            Event::Started(event) => started = event.execution_id,
            Event::Stdout(_) => {
                let request = CancelExecutionRequest {
                    execution_id: started.clone(),
                };
                let reply = session
                    .client()
                    .executions()
                    .cancel_execution(request)
                    .await;
                assert!(reply.unwrap().into_inner().cancelled);
            }
            Event::Stderr(bytes) => panic!("{}", String::from_utf8_lossy(&bytes)),
            Event::Finished(reply) => finished = Some(reply),
        }
    }
    killed(&finished.expect("a finished event"), Outcome::Cancelled);
    let request = CancelExecutionRequest {
        execution_id: started,
    };
    let again = session
        .client()
        .executions()
        .cancel_execution(request)
        .await;
    assert!(!again.unwrap().into_inner().cancelled, "it had ended");
    goes_on(&session).await;
    session.stop().await;
}

#[tokio::test]
async fn stopping_a_session_cancels_what_runs_in_it() {
    let session = open("/").await;
    // A running context: what has not started is refused instead, as the session has ended.
    session.node("1").await;
    let running = {
        let session = session.clone();
        tokio::spawn(async move {
            session
                .exec_within(Duration::from_secs(100), Language::Node, "while (true) {}")
                .await
        })
    };
    eventually(Duration::from_secs(30), async || {
        let count = session.now().await.running_executions;
        (count == 1).then_some(()).ok_or(format!("{count} running"))
    })
    .await;
    session.stop().await;
    killed(&running.await.unwrap(), Outcome::Cancelled);
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_its_execution() {
    let session = open("/").await;
    let running = {
        let session = session.clone();
        tokio::spawn(async move {
            let code = "while (true) {}";
            session
                .exec_within(Duration::from_secs(100), Language::Node, code)
                .await
        })
    };
    let count = async || session.now().await.running_executions;
    eventually(Duration::from_secs(30), async || {
        (count().await == 1)
            .then_some(())
            .ok_or("not running".to_owned())
    })
    .await;
    running.abort();
    eventually(Duration::from_secs(30), async || {
        (count().await == 0)
            .then_some(())
            .ok_or("still running".to_owned())
    })
    .await;
    goes_on(&session).await;
    session.stop().await;
}

#[tokio::test]
async fn a_result_near_its_limit_costs_the_runner_little_more_than_itself() {
    const SIZE: usize = 30 << 20;
    let session = blank().await;
    for (code, first) in [
        ("'x'.repeat(30 << 20)", 'x'),
        // Six bytes of JSON for each.
        ("'\\u0001'.repeat(30 << 20)", '\u{1}'),
    ] {
        let mut options = session.options(Language::Node, code);
        options.timeout = Some(duration(Duration::from_secs(90)));
        let reply = session.run(options).await;
        let result = reply.result.as_deref().unwrap_or_default();
        assert!(
            reply.success && result.len() == SIZE,
            "{code}: {:?}",
            reply.outcome()
        );
        assert!(result.chars().all(|c| c == first), "{code}");
        assert!(
            reply.peak_memory_bytes < 600 << 20,
            "{}",
            reply.peak_memory_bytes
        );
    }
    let pairs = session.node("'a' + '😀'.repeat(200_000)").await;
    assert!(pairs.starts_with('a') && pairs.chars().skip(1).all(|c| c == '😀'));
    assert_eq!(pairs.chars().count(), 200_001);
    session.stop().await;
}
