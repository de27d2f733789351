//! The runner's own process, and what it starts with.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pagebox::grpc::v1::{Language, Outcome};

use crate::arena::Ground;
use crate::client::describe;

/// What each language's environment may hold.
const COMMON: [&str; 13] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TMPDIR",
    "CDP_URL",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "NODE_OPTIONS",
];
const OWN: [&str; 20] = [
    "PLAYWRIGHT_NODEJS_PATH",
    "PIP_BREAK_SYSTEM_PACKAGES",
    "PIP_DISABLE_PIP_VERSION_CHECK",
    "NPM_CONFIG_PREFIX",
    "NPM_CONFIG_UPDATE_NOTIFIER",
    "AGENT_BROWSER_SOCKET_DIR",
    "AGENT_BROWSER_SCREENSHOT_DIR",
    "AGENT_BROWSER_NO_VERSION_CHECK",
    "BASH_ENV",
    "PAGEBOX_RUNNER",
    "SHLVL",
    "PWD",
    "OLDPWD",
    "_",
    "LC_ALL",
    "LC_CTYPE",
    "PYTHONUTF8",
    "PW_CLI_DISPLAY_VERSION",
    "PW_LANG_NAME",
    "PW_LANG_NAME_VERSION",
];

pub(super) async fn environment(ground: &Ground) {
    let session = ground.blank().await;
    let python = "import json, os\njson.dumps(sorted(os.environ))";
    let node = "Object.keys(process.env).sort()";
    let bash = "python3 -c 'import json, os; print(json.dumps(sorted(os.environ)))'";
    for (language, code) in [
        (Language::Node, node),
        (Language::Python, python),
        (Language::Bash, bash),
    ] {
        let reply = session.good(language, code).await;
        let text = reply.result.unwrap_or(reply.stdout);
        let names: BTreeSet<String> = serde_json::from_str(&text).expect("a list of names");
        let known = |name: &str| COMMON.contains(&name) || OWN.contains(&name);
        let more: Vec<&String> = names.iter().filter(|name| !known(name)).collect();
        assert!(more.is_empty(), "{language:?}: {more:?}");
        assert!(names.contains("CDP_URL"), "{names:?}");
    }
    // The start of the process, of pid 1, and what the host's processes have.
    let code = "import glob, json
said = []
for path in glob.glob('/proc/*/environ'):
    try: text = open(path, 'rb').read()
    except OSError: continue
    said += [v.split(b'=')[0].decode() for v in text.split(b'\\0') if v]
json.dumps(sorted(set(said)))";
    let names: BTreeSet<String> = serde_json::from_str(&session.python(code).await).unwrap();
    let known = |name: &str| COMMON.contains(&name) || OWN.contains(&name);
    assert!(names.iter().all(|name| known(name)), "{names:?}");
    let code = "try:\n  r = open('/proc/1/environ', 'rb').read().decode() or 'empty'\nexcept OSError as e:\n  r = type(e).__name__\nr";
    let seen = session.python(code).await;
    assert!(
        ["empty", "PermissionError", "FileNotFoundError"].contains(&&*seen),
        "{seen}"
    );
    session.stop().await;
}

pub(super) async fn killed(ground: &Ground) {
    let session = ground.blank().await;
    for language in [Language::Node, Language::Python, Language::Bash] {
        session.good(language, super::anything(language)).await;
    }
    for (language, code, outcome) in [
        (
            Language::Node,
            "process.kill(process.pid, 'SIGKILL'); await new Promise(() => setInterval(() => {}, 99))",
            Outcome::RunnerCrashed,
        ),
        (
            Language::Node,
            "process.kill(process.pid, 'SIGSTOP'); while (true);",
            Outcome::TimedOut,
        ),
        (
            Language::Python,
            "import os; os.kill(os.getpid(), 9); 1",
            Outcome::RunnerCrashed,
        ),
        (
            Language::Python,
            "import os; os.kill(0, 19); 1",
            Outcome::TimedOut,
        ),
        (
            Language::Python,
            "import ctypes; ctypes.string_at(0)",
            Outcome::Failed,
        ),
        (
            Language::Bash,
            "kill -KILL $PPID; sleep 60",
            Outcome::RunnerCrashed,
        ),
        (
            Language::Bash,
            "kill -STOP $PPID; sleep 60",
            Outcome::TimedOut,
        ),
        (
            Language::Bash,
            "kill -KILL -1; sleep 60",
            Outcome::RunnerCrashed,
        ),
        (
            Language::Bash,
            "kill -STOP -1; kill -STOP 0; sleep 60",
            Outcome::TimedOut,
        ),
    ] {
        // What is stopped is waited for to the end.
        let seconds = if outcome == Outcome::TimedOut { 1 } else { 30 };
        let timeout = Duration::from_secs(seconds);
        let reply = session.exec_within(timeout, language, code).await;
        // A program that is stopped may be seen to die before its time is up.
        let is_good = reply.outcome() == outcome
            || outcome == Outcome::TimedOut && reply.outcome() == Outcome::RunnerCrashed;
        assert!(is_good, "{code}\n{}", describe(&reply));
        let expected = if outcome == Outcome::Failed { 139 } else { 137 };
        assert_eq!(reply.exit_code, expected, "{code}\n{}", describe(&reply));
        session.good(language, super::anything(language)).await;
    }
    // pid 1 is out of reach, and whoever is told to be killed by it is not.
    let code = "import os
said = []
for signal in (1, 2, 9, 15, 19):
    try: os.kill(1, signal); said.append('sent')
    except OSError as e: said.append(type(e).__name__)
said";
    let said = session.python(code).await;
    assert!(
        said.contains("sent") || said.contains("PermissionError"),
        "{said}"
    );
    assert_eq!(session.python("'alive'").await, "alive");
    session.stop().await;
}

pub(super) async fn hooks(ground: &Ground) {
    let session = ground.blank().await;
    let python = "
import atexit, os, signal, threading, time
def stay(*_):
    while True: pass
atexit.register(stay)
for s in range(1, 65):
    try: signal.signal(s, stay)
    except (OSError, ValueError): pass
class Last:
    def __del__(self): stay()
last = Last()
threading.Thread(target=lambda: time.sleep(10**6)).start()
'left'";
    let node = "
for (const name of ['exit', 'beforeExit', 'SIGTERM', 'SIGINT', 'SIGHUP', 'disconnect'])
  process.on(name, () => { while (true); });
new FinalizationRegistry(() => { while (true); }).register({}, 1);
setInterval(() => {}, 1); 'left'";
    let bash = "trap 'while :; do :; done' EXIT TERM INT HUP QUIT; \
                (trap '' TERM INT HUP; setsid sleep 31539777 & disown); \
                python3 -c 'import signal, time; [signal.signal(s, signal.SIG_IGN) for s in range(1, 32) if s not in (9, 19)]; time.sleep(31539777)' & \
                trap - EXIT; echo left";
    assert_eq!(session.python(python).await, "left");
    assert_eq!(session.node(node).await, "left");
    assert_eq!(session.bash(bash).await, "left");
    let began = Instant::now();
    session.stop().await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "it took {took:?} to stop");
}
