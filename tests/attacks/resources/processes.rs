//! Processes and threads.

use std::time::Duration;

use pagebox::grpc::v1::{Language, Outcome, SessionState};
use tokio::task::JoinHandle;

use crate::arena::Ground;
use crate::inside::{self, goes_on, killed, last_number, runs, tasks_below};
use crate::outside;

/// `runner.processes` by default.
const PROCESSES: u64 = 256;

/// Forks, counts and holds children until it cannot; lets them go at its end.
const HOLD_CHILDREN: &str = "\
import errno, os
end, keep = os.pipe()
count, why = 0, 'none'
try:
    while count < 400:
        if os.fork() == 0:
            os.close(keep)
            os.read(end, 1)
            os._exit(0)
        count += 1
except OSError as error:
    why = errno.errorcode[error.errno]
os.close(keep)
for _ in range(count): os.wait()
os.close(end)
print(why, count)";

const HOLD_THREADS: &str = "\
import threading
end = threading.Event()
held, why = [], 'none'
try:
    while len(held) < 400:
        thread = threading.Thread(target=end.wait)
        thread.start()
        held.append(thread)
except RuntimeError as error:
    why = str(error)
end.set()
for thread in held: thread.join()
print(why, len(held))";

const LEAVE_ZOMBIES: &str = "\
import errno, os
count, why = 0, 'none'
try:
    while count < 400:
        if os.fork() == 0: os._exit(0)
        count += 1
except OSError as error:
    why = errno.errorcode[error.errno]
for _ in range(count): os.wait()
print(why, count)";

/// A grandchild whose parent has ended belongs to pid 1. A busy machine may let pid 1 wait.
const LEAVE_ORPHANS: &str = "\
import os, time
count, deadline = 0, time.monotonic() + 25
while count < 600 and time.monotonic() < deadline:
    try:
        child = os.fork()
    except BlockingIOError:
        time.sleep(0.01)
        continue
    if child == 0:
        try:
            os.fork()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    count += 1
print(count)";

/// Looks how many tasks there are below a daemon until it is told to stop.
struct Peak {
    stop: tokio::sync::oneshot::Sender<()>,
    task: JoinHandle<usize>,
}

impl Peak {
    fn watch(pid: u32) -> Self {
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let mut most = 0;
            loop {
                most = most.max(tasks_below(pid));
                tokio::select! {
                    _ = &mut stopped => return most,
                    () = tokio::time::sleep(Duration::from_millis(50)) => {}
                }
            }
        });
        Self { stop, task }
    }

    async fn end(self) -> usize {
        self.stop.send(()).expect("it waits for this");
        self.task.await.expect("it does not panic")
    }
}

pub(super) async fn fork_bomb(ground: &Ground) {
    let session = ground.blank().await;
    goes_on(&session).await;
    let limit = Duration::from_secs(3);
    let bombs = [
        (
            Language::Bash,
            ":(){ :|:& };: 2>/dev/null; while :; do :; done",
        ),
        (
            Language::Python,
            "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        ),
        (
            Language::Node,
            "require('fs').writeFileSync('/tmp/bomb.js', `
               const more = () => { try { require('child_process').spawn(process.execPath,
                 ['/tmp/bomb.js'], { stdio: 'ignore' }).on('error', () => {}); } catch {} };
               setInterval(more, 10); more();`);
             require('/tmp/bomb.js'); await new Promise(() => {})",
        ),
    ];
    let usual = tasks_below(ground.daemon().pid());
    for (language, bomb) in bombs {
        let peak = Peak::watch(ground.daemon().pid());
        let reply = session.exec_within(limit, language, bomb).await;
        let most = peak.end().await;
        // Node may give up by itself when it gets no thread.
        let ends = [Outcome::TimedOut, Outcome::Failed, Outcome::RunnerCrashed];
        inside::ended(&reply, &ends);
        // Agent-browser's service and a context that starts anew come on top.
        let bound = usual + 2 * usize::try_from(PROCESSES).unwrap();
        assert!(most < bound, "{language:?}: {most} tasks, {usual} before");
        ground.note(format!(
            "{language:?}: {} tasks more at most",
            most.saturating_sub(usual)
        ));
        goes_on(&session).await;
    }
    // As it is written everywhere: the execution is over at once, the bomb is not.
    session
        .exec_within(limit, Language::Bash, ":(){ :|:& };: 2>/dev/null")
        .await;
    assert_eq!(session.node("await page.evaluate('1 + 1')").await, "2");
    assert_eq!(session.python("await page.evaluate('1 + 1')").await, "2");
    session.stop().await;
}

pub(super) async fn counted(ground: &Ground) {
    let session = ground.blank().await;
    for (code, why) in [
        (HOLD_CHILDREN, "EAGAIN"),
        (HOLD_THREADS, "can't start new thread"),
    ] {
        assert_eq!(outside::good(Language::Python, code).await, "none 400");
        // Twice: the first has let go of everything.
        for _ in 0..2 {
            let seen = session.good(Language::Python, code).await.stdout;
            assert!(seen.starts_with(why), "{seen}");
            let count = last_number(&seen);
            assert!((100..PROCESSES).contains(&count), "{seen}");
        }
    }
    session.stop().await;
}

pub(super) async fn across_contexts(ground: &Ground) {
    const TOTAL: usize = 600;
    let own = ground.own(&format!("[session]\nprocesses = {TOTAL}\n"));
    let session = own.blank().await;
    goes_on(&session).await;
    // Held until all three have theirs.
    let hold = HOLD_CHILDREN.replace("os.close(keep)\nfor", "time.sleep(4)\nos.close(keep)\nfor");
    let hold = format!("import time\n{hold}");
    let fresh = || {
        let mut options = session.options(Language::Python, &hold);
        options.fresh = true;
        session.run(options)
    };
    let peak = Peak::watch(own.daemon().pid());
    let (one, two, three) = tokio::join!(session.exec(Language::Python, &hold), fresh(), fresh());
    let most = peak.end().await;
    let counts: Vec<u64> = [&one, &two, &three]
        .iter()
        .filter(|reply| reply.outcome() == Outcome::Completed)
        .map(|reply| last_number(&reply.stdout))
        .collect();
    ground.note(format!("{counts:?} children, {most} tasks at most"));
    assert!(counts.iter().all(|count| *count < PROCESSES), "{counts:?}");
    if ground.mode().limits_groups() {
        // The spawner is not the session's.
        assert!(most <= TOTAL + 1, "{most}");
        assert!(most > TOTAL / 2, "{most}: the limit was never near");
    }
    // A browser that gets no thread may end, and its session with it; nothing else.
    if session.now().await.state() == SessionState::Ready {
        session.stop().await;
    }
    own.end().await;
}

pub(super) async fn zombies(ground: &Ground) {
    let session = ground.blank().await;
    assert_eq!(
        outside::good(Language::Python, LEAVE_ZOMBIES).await,
        "none 400"
    );
    let seen = session.good(Language::Python, LEAVE_ZOMBIES).await.stdout;
    assert!(seen.starts_with("EAGAIN"), "{seen}");
    assert!(last_number(&seen) < PROCESSES, "{seen}");
    let seen = session.good(Language::Python, LEAVE_ORPHANS).await.stdout;
    assert_eq!(last_number(&seen), 600);
    session.stop().await;
}

pub(super) async fn daemons(ground: &Ground) {
    let daemon = ground.daemon().pid();
    let session = ground.blank().await;
    // Unlikely durations mark these processes among the host's.
    let marks = ["31539611", "31539612"];
    let leave = format!(
        "setsid sh -c 'sleep {} & ' >/dev/null 2>&1 </dev/null",
        marks[0]
    );
    session.bash(&leave).await;
    let code = format!(
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        \
         os.closerange(0, 1024)\n        os.execv('/usr/bin/python3',\n          \
         ['{}', '-c', 'import time; time.sleep(1000)'])\n    os._exit(0)\n\
         print('left', flush=True)\ntime.sleep(1000)",
        marks[1]
    );
    let limit = Duration::from_secs(3);
    let reply = session.exec_within(limit, Language::Python, &code).await;
    killed(&reply, Outcome::TimedOut);
    assert_eq!(reply.stdout, "left\n");
    assert!(!runs(daemon, marks[1], "-c"), "killed with its sandbox");
    assert!(runs(daemon, "sleep", marks[0]), "its context still lives");
    goes_on(&session).await;
    session.stop().await;
    assert!(!runs(daemon, "sleep", marks[0]), "gone when stop returns");
}

pub(super) async fn after_the_end(ground: &Ground) {
    let session = ground.blank().await;
    let code = "(exec >&- 2>&- <&-; while :; do sleep 1000 & done) & \
                (while :; do echo noise; done) & echo done";
    let reply = session.exec(Language::Bash, code).await;
    inside::ended(&reply, &[Outcome::Completed, Outcome::OutputLimit]);
    for _ in 0..5 {
        assert_eq!(session.node("await page.evaluate('1 + 1')").await, "2");
        assert_eq!(session.python("await page.evaluate('1 + 1')").await, "2");
    }
    // Its own language may be out of processes, or drown in noise; it ends all the same.
    let limit = Duration::from_secs(3);
    session.exec_within(limit, Language::Bash, "sleep 1").await;
    session.stop().await;
    assert!(!runs(ground.daemon().pid(), "sleep", "1000"));
}
