//! Processes: the sandbox's own pid 1, the daemon's and other sessions', and what each shows.

use std::time::Duration;

use pagebox::grpc::v1::{Language, Outcome};

use super::probe::{self, Pair};
use crate::arena::Ground;
use crate::client::describe;
use crate::leaks::descendants;

/// 25 and 50: pid 1 is neither looked into nor ended from inside.
pub(super) async fn pid_one(ground: &Ground) {
    let looks = [
        "environ",
        "root",
        "fd",
        "mem",
        "maps",
        "exe",
        "cwd",
        "status",
        "oom_score_adj",
        "ns/pid",
        "task",
        "cmdline",
    ];
    let mut code = String::new();
    let mut pairs: Vec<(String, &str)> = Vec::new();
    for file in looks {
        code += &format!("t('{file}', lambda: os.stat('/proc/1/{file}', follow_symlinks=False))\n");
        pairs.push((file.to_owned(), "ENOENT"));
    }
    let natural = probe::outside(&code);
    natural.expect("outside", looks.map(|name| (name, "ok")));
    code += r"
for signal in (9, 19, 15, 1, 0): t(f'kill {signal}', lambda: os.kill(1, signal))
t('tgkill', lambda: c(234, 1, 1, 9))
t('tkill', lambda: c(200, 1, 19))
t('queue', lambda: c(129, 1, 9, ctypes.create_string_buffer(128)))
t('pidfd', lambda: c(424, os.pidfd_open(1), 9, 0, 0))
t('priority', lambda: os.setpriority(os.PRIO_PROCESS, 1, 19))
t('affinity', lambda: os.sched_setaffinity(1, {0}))
t('scheduler', lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)))
t('limits', lambda: c(302, 1, 7, struct.pack('QQ', 0, 0), 0))
t('group', lambda: os.setpgid(1, 0))
t('still there', lambda: str(os.path.exists('/proc/self')))
";
    let session = ground.blank().await;
    for (place, seen) in [
        ("bash", probe::in_bash(&session, &code).await),
        ("python", probe::in_python(&session, &code).await),
    ] {
        seen.expect(place, pairs.iter().map(|(name, word)| (&**name, *word)));
        // Landlock lets no signal out of its domain; without it pid 1 ignores them.
        for name in [
            "kill 9", "kill 19", "kill 15", "kill 1", "kill 0", "tgkill", "tkill", "pidfd",
        ] {
            seen.expect(place, [(name, "EPERM|ok")]);
        }
        seen.expect(
            place,
            [
                ("queue", "EPERM"),
                // One's own uid: the kernel allows these, and they change nothing that matters.
                ("priority", "ok|EPERM"),
                ("affinity", "ok|EPERM"),
                ("scheduler", "ok|EPERM"),
                ("limits", "EPERM"),
                ("group", "ESRCH|EPERM"),
                ("still there", "True"),
            ],
        );
    }
    // What can be ended is one's own, the runner and agent-browser's shell among it.
    for language in [Language::Bash, Language::Python, Language::Node] {
        let code = match language {
            Language::Bash => "kill -STOP -1; kill -9 -1; kill -9 $PPID; sleep 60",
            Language::Python => {
                "import os, signal\nos.kill(-1, signal.SIGSTOP)\nos.kill(os.getpid(), 9)"
            }
            _ => "process.kill(process.pid, 'SIGKILL'); await new Promise(() => {})",
        };
        let reply = session
            .exec_within(Duration::from_secs(5), language, code)
            .await;
        assert_ne!(reply.outcome(), Outcome::Completed, "{}", describe(&reply));
        let next = if language == Language::Bash {
            "true"
        } else {
            "1"
        };
        session.good(language, next).await;
    }
    session.stop().await;
}

/// 26: the daemon, the spawner, the test and every sandbox, by their pids on the host.
pub(super) async fn host_pids(ground: &Ground) {
    let session = ground.blank().await;
    let mut pids = vec![ground.daemon().pid(), std::process::id()];
    pids.extend(
        descendants(ground.daemon().pid())
            .into_iter()
            .map(|process| process.pid),
    );
    let code = |signals: bool| {
        let mut code = format!("pids = {pids:?}\n");
        code += "def none(attempt):\n    def work():\n        for pid in pids:\n            if pid < 100: continue\n            \
                 try: attempt(pid)\n            except OSError as e:\n                if e.errno in (2, 3): continue\n                \
                 return f'{pid}: {e}'\n            return f'{pid} is there'\n        return 'none'\n    return work\n";
        for file in [
            "mem",
            "environ",
            "maps",
            "root/etc/shadow",
            "cwd",
            "fd/0",
            "status",
        ] {
            code += &format!(
                "t('{file}', none(lambda pid: os.open(f'/proc/{{pid}}/{file}', os.O_PATH)))\n"
            );
        }
        if signals {
            code += "t('signal', none(lambda pid: os.kill(pid, 0)))\n\
                     t('pidfd', none(lambda pid: os.pidfd_open(pid)))\n\
                     t('affinity', none(lambda pid: os.sched_getaffinity(pid)))\n\
                     t('priority', none(lambda pid: os.getpriority(os.PRIO_PROCESS, pid)))\n\
                     t('limits', none(lambda pid: c(302, pid, 7, 0, ctypes.create_string_buffer(16))))\n\
                     t('session', none(lambda pid: os.getsid(pid)))\n\
                     t('robust list', none(lambda pid: c(274, pid, ctypes.create_string_buffer(8), ctypes.create_string_buffer(8))))\n";
        }
        code
    };
    let natural = probe::outside(&code(false));
    assert_ne!(natural.get("status"), "none", "outside: {natural:?}");
    for (place, seen) in [
        ("bash", probe::in_bash(&session, &code(true)).await),
        ("python", probe::in_python(&session, &code(true)).await),
    ] {
        seen.expect(
            place,
            [
                "mem",
                "environ",
                "maps",
                "root/etc/shadow",
                "cwd",
                "fd/0",
                "status",
                "signal",
                "pidfd",
                "affinity",
                "priority",
                "limits",
                "session",
                "robust list",
            ]
            .map(|name| (name, "none")),
        );
    }
    session.stop().await;
}

/// 28: what a program of each language is given besides its three streams: nothing.
pub(super) async fn descriptors(ground: &Ground) {
    let session = ground.blank().await;
    // The listing itself holds one.
    let list = "import os; print(sorted(os.listdir('/proc/self/fd')))";
    let expected = "['0', '1', '2', '3']";
    assert_eq!(
        session.bash(&format!("python3 -I -c \"{list}\"")).await,
        expected
    );
    let nested = format!(
        "import subprocess, sys\nprint(subprocess.run([sys.executable, '-I', '-c', \"{list}\"], \
         stdout=subprocess.PIPE, text=True).stdout, end='')"
    );
    let reply = session.good(Language::Python, &nested).await;
    assert_eq!(reply.stdout.trim(), expected);
    // Of the runners themselves: pipes, sockets, event files; never a file or a directory.
    let own = "import os\nprint(sorted({os.readlink(f'/proc/self/fd/{n}').split(':')[0] for n in \
               os.listdir('/proc/self/fd') if os.path.lexists(f'/proc/self/fd/{n}')}))";
    let reply = session.good(Language::Python, own).await;
    let allowed = ["/dev/null", "anon_inode", "pipe", "socket"];
    let kinds = |text: &str| {
        text.split('\'')
            .skip(1)
            .step_by(2)
            .map(ToOwned::to_owned)
            .collect::<Vec<_>>()
    };
    for kind in kinds(&reply.stdout) {
        assert!(allowed.contains(&&*kind), "python has {kind}");
    }
    let own = "const fs = require('fs');\n\
               const kinds = fs.readdirSync('/proc/self/fd').flatMap((n) => {\n\
               \x20 try { return [fs.readlinkSync('/proc/self/fd/' + n).split(':')[0]] } catch { return [] } });\n\
               console.log(kinds.map((kind) => `'${kind}'`).join())";
    let reply = session.good(Language::Node, own).await;
    for kind in kinds(&reply.stdout) {
        assert!(allowed.contains(&&*kind), "node has {kind}");
    }
    session.stop().await;
}

/// 44: a dying process leaves no core and starts no helper of the host's.
pub(super) async fn core_dumps(ground: &Ground) {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let code = r"
import resource
t('abort', lambda: child(os.abort))
t('segment', lambda: child(lambda: ctypes.string_at(0)))
t('limit', lambda: str(resource.getrlimit(resource.RLIMIT_CORE)))
t('raised', lambda: resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30)))
t('filter', lambda: write('/proc/self/coredump_filter', b'0xff'))
t('files', lambda: str(sorted(name for name in os.listdir('.') if name.startswith('core'))))
";
    let session = ground.blank().await;
    for (place, seen) in [
        ("bash", probe::in_bash(&session, code).await),
        ("python", probe::in_python(&session, code).await),
    ] {
        seen.expect(
            place,
            [
                ("abort", "signal 6"),
                ("segment", "signal 11"),
                ("limit", "(0, 0)"),
                ("raised", "EPERM"),
                ("filter", "EROFS"),
                ("files", "[]"),
            ],
        );
    }
    if !pattern.starts_with('|') && !pattern.starts_with('/') {
        let natural = "import resource\n_, hard = resource.getrlimit(resource.RLIMIT_CORE)\n\
                       resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))\nchild(os.abort)\n\
                       t('files', lambda: str(hard == 0 or any('core' in name for name in os.listdir('.'))))\n";
        probe::outside(natural).expect("outside", [("files", "True")]);
    }
    session.stop().await;
}

/// 111: limits, priorities and scores go one way only.
pub(super) async fn raising(ground: &Ground) {
    let code = r"
import resource
def up(name):
    def work():
        which = getattr(resource, name)
        soft, hard = resource.getrlimit(which)
        resource.setrlimit(which, (hard + 1, hard + 1))
    t(name, work)
for name in ('RLIMIT_NOFILE', 'RLIMIT_NPROC', 'RLIMIT_FSIZE', 'RLIMIT_CORE', 'RLIMIT_MEMLOCK'): up(name)
t('nice', lambda: os.nice(-1))
t('round robin', lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1)))
t('fifo', lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99)))
t('deadline', lambda: c(314, 0, struct.pack('IIQiIQQQ', 48, 6, 0, 0, 0, 10**7, 10**8, 10**8), 0))
t('ioprio', lambda: c(251, 1, 0, 1 << 13))
t('oom score', lambda: write('/proc/self/oom_score_adj', b'0'))
t('autogroup', lambda: write('/proc/self/autogroup', b'-20'))
t('timer slack', lambda: write('/proc/self/timerslack_ns', b'1'))
t('lock memory', lambda: c(149, ctypes.create_string_buffer(4096), 4096))
t('lock all', lambda: c(151, 3))
t('wake alarm', lambda: c(283, 8, 0))
t('prctl MDWE', lambda: c(157, 65, 1, 0, 0, 0))
t('prctl speculation', lambda: c(157, 53, 0, 2, 0, 0))
t('prctl MM', lambda: c(157, 35, 1, 0, 0, 0))
t('prctl securebits', lambda: c(157, 28, 0, 0, 0, 0))
t('prctl ambient', lambda: c(157, 47, 2, 0, 0, 0))
t('prctl TSC', lambda: c(157, 26, 2, 0, 0, 0))
t('prctl seccomp', lambda: c(157, 22, 2, 0, 0, 0))
t('prctl core scheduling', lambda: c(157, 62, 1, 0, 0, 0))
t('prctl dispatch', lambda: c(157, 59, 1, 0, 0, 0))
t('privileges again', lambda: c(157, 38, 0, 0, 0, 0))
";
    let inside: Vec<Pair> = [
        "RLIMIT_NOFILE",
        "RLIMIT_NPROC",
        "RLIMIT_FSIZE",
        "RLIMIT_CORE",
        "RLIMIT_MEMLOCK",
        "round robin",
        "fifo",
        "deadline",
        "ioprio",
        "lock memory",
        "lock all",
        "prctl MDWE",
        "prctl speculation",
        "prctl MM",
        "prctl securebits",
        "prctl ambient",
        "prctl TSC",
        "prctl seccomp",
        "prctl core scheduling",
        "prctl dispatch",
    ]
    .map(|name| (name, "EPERM", ""))
    .into_iter()
    .chain([
        ("nice", "EACCES|EPERM", ""),
        ("wake alarm", "EPERM|EINVAL", ""),
        ("oom score", "EROFS", ""),
        ("autogroup", "EROFS|ENOENT", ""),
        ("timer slack", "EROFS", ""),
        ("privileges again", "EINVAL", "EINVAL"),
    ])
    .collect();
    let session = ground.blank().await;
    let lines = |seen: &probe::Seen, place| seen.expect(place, inside.iter().map(|p| (p.0, p.1)));
    lines(&probe::in_bash(&session, code).await, "bash");
    lines(&probe::in_python(&session, code).await, "python");
    let natural = "t('ioprio', lambda: c(251, 1, 0, 2 << 13))\n\
                   t('prctl speculation', lambda: c(157, 53, 0, 0, 0, 0))\n\
                   t('oom score', lambda: write('/proc/self/oom_score_adj', b'1000'))\n\
                   t('timer slack', lambda: write('/proc/self/timerslack_ns', b'1'))\n";
    probe::outside(natural).expect(
        "outside",
        [("ioprio", "ok"), ("oom score", "ok"), ("timer slack", "ok")],
    );
    session.stop().await;
}

/// 112: what environment and arguments of all visible processes tell, the browser's included.
pub(super) async fn environments(ground: &Ground) {
    let session = ground.open("/").await;
    let dump = "for p in /proc/[0-9]*; do cat $p/environ $p/cmdline $p/comm; done 2>/dev/null | tr '\\0' '\\n'; true";
    let mut text = session.bash(dump).await;
    text += &session
        .good(
            Language::Python,
            &format!("import subprocess\nprint(subprocess.run(['/bin/sh', '-c', {dump:?}], stdout=subprocess.PIPE, text=True).stdout) if False else [print(open(f'/proc/{{p}}/{{f}}', errors='replace').read().replace('\\0', '\\n')) for p in __import__('os').listdir('/proc') if p.isdigit() for f in ('environ', 'cmdline')]"),
        )
        .await
        .stdout;
    text += &session
        .good(
            Language::Node,
            "const fs = require('fs');\nfor (const p of fs.readdirSync('/proc').filter((n) => +n))\n\
             \x20 for (const f of ['environ', 'cmdline'])\n    console.log(fs.readFileSync(`/proc/${p}/${f}`, 'latin1').replaceAll('\\0', '\\n'))",
        )
        .await
        .stdout;
    assert!(text.contains("HTTP_PROXY=http://127.0.0.1:3128"), "{text}");
    let host = [
        std::env::current_dir().unwrap().display().to_string(),
        ground.daemon().temporary().display().to_string(),
        ground.daemon().address().to_string(),
        ground.daemon().address().port().to_string(),
        env!("CARGO_MANIFEST_DIR").to_owned(),
    ];
    for secret in &host {
        assert!(
            !text.contains(&**secret),
            "{secret} is told inside:\n{text}"
        );
    }
    // No variable of the daemon's that it was not given to pass on.
    let passed_on = [
        "PATH", "HOME", "USER", "LANG", "TMPDIR", "PWD", "SHLVL", "_", "NO_PROXY", "no_proxy",
    ];
    for (name, value) in std::env::vars() {
        let lines = || {
            text.lines()
                .filter_map(|line| line.strip_prefix(&*name)?.strip_prefix('='))
        };
        if !passed_on.contains(&&*name) && value.len() > 3 {
            assert!(
                !lines().any(|told| told == value),
                "{name} of the daemon is told inside"
            );
        }
    }
    session.stop().await;
}
