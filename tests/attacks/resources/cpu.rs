//! Processor time.

use std::time::Duration;

use pagebox::grpc::v1::{Language, Outcome};

use crate::arena::Ground;
use crate::inside::{LANGUAGES, cpu_time, ended, goes_on, killed, times_out, took};

/// Long enough that what is measured beside the code does not matter.
const LIMIT: Duration = Duration::from_secs(4);
const SPIN: &str = "for i in $(seq 64); do (while :; do :; done) & done; wait";
const SPIN_PYTHON: &str = "import os\nfor _ in range(6): os.fork()\nwhile True: pass";
const SPIN_NODE: &str = "const { Worker } = require('worker_threads'); \
    for (let i = 0; i < 8; i++) new Worker('for (;;);', { eval: true }); \
    await new Promise((done) => setTimeout(done, 500)); for (;;);";

/// Processor time for each second of wall time.
fn share(replies: &[&pagebox::grpc::v1::ExecuteResponse]) -> f64 {
    let cpu: f64 = replies
        .iter()
        .map(|reply| cpu_time(reply).as_secs_f64())
        .sum();
    let wall = replies.iter().map(|reply| took(reply).as_secs_f64());
    cpu / wall.fold(0.0, f64::max)
}

pub(super) async fn quota(ground: &Ground) {
    let own = ground.own("[runner]\ncpu_percent = 40\n");
    let session = own.blank().await;
    goes_on(&session).await;
    let reply = session.exec_within(LIMIT, Language::Bash, SPIN).await;
    killed(&reply, Outcome::TimedOut);
    let one = share(&[&reply]);
    session.stop().await;
    own.end().await;

    let own = ground.own(
        "[session]\ncpu_percent = 80\n[runner]\ncpu_percent = 80\n[browser]\ncpu_percent = 80\n",
    );
    let session = own.blank().await;
    goes_on(&session).await;
    let (bash, python, node) = tokio::join!(
        session.exec_within(LIMIT, Language::Bash, SPIN),
        session.exec_within(LIMIT, Language::Python, SPIN_PYTHON),
        session.exec_within(LIMIT, Language::Node, SPIN_NODE),
    );
    for reply in [&bash, &python, &node] {
        killed(reply, Outcome::TimedOut);
    }
    let all = share(&[&bash, &python, &node]);
    session.stop().await;
    own.end().await;

    ground.note(format!(
        "of a core: {one:.2} of 0.40 one sandbox, {all:.2} of 0.80 a session"
    ));
    if ground.mode().limits_groups() {
        // A quota is counted in periods of 100 ms, one of which may begin full; and what a runner
        // does until it is told to begin is counted too.
        assert!(one < 0.40 * 1.3 && all < 0.80 * 1.3, "{one} {all}");
    }
}

pub(super) async fn everywhere(ground: &Ground) {
    let session = ground.open("/").await;
    goes_on(&session).await;
    let page = "page.evaluate('for (;;);').catch(() => {}); await new Promise((done) => setTimeout(done, 300)); ";
    let node = format!("{page}{SPIN_NODE}");
    let (node, python, bash) = tokio::join!(
        session.exec_within(LIMIT, Language::Node, &node),
        session.exec_within(LIMIT, Language::Python, SPIN_PYTHON),
        session.exec_within(LIMIT, Language::Bash, SPIN),
    );
    for reply in [&node, &python, &bash] {
        killed(reply, Outcome::TimedOut);
    }
    for language in LANGUAGES {
        let nothing = if language == Language::Bash { ":" } else { "1" };
        let reply = session.good(language, nothing).await;
        assert!(reply.context_restarted, "{language:?}");
    }
    goes_on(&session).await;
    session.stop().await;
}

pub(super) async fn recursion(ground: &Ground) {
    let session = ground.blank().await;
    let own_end = [
        Outcome::Failed,
        Outcome::RunnerCrashed,
        Outcome::OutOfMemory,
    ];
    for (language, code, error) in [
        (
            Language::Node,
            "(function f() { f(); })()",
            Some("RangeError"),
        ),
        (
            Language::Node,
            "require('v8').setFlagsFromString('--stack-size=1000000'); \
             const f = (n) => n + f(n + 1); new Function('f', 'return f(0)')(f)",
            None,
        ),
        (
            Language::Python,
            "def f(): f()\nf()",
            Some("RecursionError"),
        ),
        (
            Language::Python,
            "import sys\nsys.setrecursionlimit(2 ** 30)\n\
             class C:\n    def __getattr__(self, name): return getattr(self, name)\nC().x",
            None,
        ),
        (Language::Bash, "f() { f; }; f", None),
    ] {
        let limit = Duration::from_secs(60);
        let reply = session.exec_within(limit, language, code).await;
        ended(&reply, &own_end);
        if let Some(error) = error {
            assert_eq!(reply.error.map(|error| error.name).as_deref(), Some(error));
            assert_eq!(reply.exit_code, 1);
        }
    }
    let limit = Duration::from_secs(1);
    let subject = "a".repeat(64);
    let node = format!("/^(a+)+$/.test('{subject}!')");
    times_out(&session, limit, Language::Node, &node).await;
    let python = format!("import re\nre.match('^(a+)+$', '{subject}!')");
    times_out(&session, limit, Language::Python, &python).await;
    goes_on(&session).await;
    session.stop().await;
}
