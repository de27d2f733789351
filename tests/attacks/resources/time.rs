//! Time.

use std::time::Duration;

use pagebox::grpc::v1::{Language, Outcome};

use crate::arena::Ground;
use crate::inside::{LANGUAGES, cpu_time, ended, goes_on, times_out};

const LIMIT: Duration = Duration::from_secs(1);
/// Long enough for an interpreter to start on a busy machine and say so.
const LONGER: Duration = Duration::from_secs(3);

pub(super) async fn busy_loop(ground: &Ground) {
    let session = ground.blank().await;
    for (language, code) in [
        (Language::Node, "while (true) {}"),
        (Language::Python, "while True: pass"),
        (Language::Bash, "while :; do :; done"),
    ] {
        times_out(&session, LIMIT, language, code).await;
    }
    for language in LANGUAGES {
        let nothing = if language == Language::Bash { ":" } else { "1" };
        let reply = session.good(language, nothing).await;
        assert!(reply.context_restarted, "{language:?}");
    }
    session.stop().await;
}

pub(super) async fn sleep(ground: &Ground) {
    let session = ground.blank().await;
    for (language, code) in [
        (
            Language::Node,
            "await new Promise(() => setInterval(() => {}, 1e6))",
        ),
        (
            Language::Node,
            "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)",
        ),
        (Language::Python, "import time\ntime.sleep(1e6)"),
        (
            Language::Python,
            "import asyncio\nawait asyncio.Event().wait()",
        ),
        (Language::Bash, "sleep infinity"),
        (Language::Bash, "mkfifo /tmp/never; read -r _ < /tmp/never"),
    ] {
        let reply = times_out(&session, LIMIT, language, code).await;
        let cpu = cpu_time(&reply);
        assert!(cpu < LIMIT, "{code}: {cpu:?}");
    }
    goes_on(&session).await;
    session.stop().await;
}

pub(super) async fn signals_ignored(ground: &Ground) {
    let session = ground.blank().await;
    for (language, code) in [
        (
            Language::Node,
            "for (const s of Object.keys(require('os').constants.signals)) \
             { try { process.on(s, () => {}); } catch {} } console.log('begun'); \
             await new Promise(() => setInterval(() => {}, 1000))",
        ),
        (
            Language::Python,
            "import signal\nfor s in signal.valid_signals():\n    try: signal.signal(s, signal.SIG_IGN)\n    \
             except (OSError, ValueError): pass\nprint('begun', flush=True)\nwhile True: pass",
        ),
        (
            Language::Bash,
            "for s in $(seq 1 64); do trap '' $s 2>/dev/null; done; echo begun; while :; do :; done",
        ),
    ] {
        let reply = times_out(&session, LONGER, language, code).await;
        assert_eq!(reply.stdout, "begun\n", "{code}");
    }
    goes_on(&session).await;
    session.stop().await;
}

pub(super) async fn stopped(ground: &Ground) {
    let session = ground.blank().await;
    for (language, code) in [
        (Language::Node, "process.kill(process.pid, 'SIGSTOP')"),
        (
            Language::Python,
            "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
        ),
        (
            Language::Python,
            "import os, signal\nos.killpg(0, signal.SIGSTOP)",
        ),
        (Language::Bash, "kill -STOP -1 0; kill -STOP $$; sleep 1000"),
    ] {
        times_out(&session, LIMIT, language, code).await;
    }
    // The runner of bash sees that what it waits for has stopped, and says so.
    let code = "kill -STOP $$ $PPID; sleep 1000";
    let reply = session.exec(Language::Bash, code).await;
    ended(&reply, &[Outcome::Failed]);
    assert_eq!(reply.exit_code, 128 + 19);
    goes_on(&session).await;
    session.stop().await;
}
