//! The runner's channel, written to by code.

use pagebox::grpc::v1::{Language, Outcome};

use crate::arena::Ground;
use crate::client::{OpenSession, describe};

/// Frames that end the runner.
const BROKEN: [&str; 14] = [
    "{}",
    "[]",
    "null",
    "\\u0000",
    "{\"type\":\"ready\"}",
    "{\"type\":\"failed\",\"message\":\"x\"}",
    "{\"type\":\"finished\"}",
    "{\"type\":\"finished\",\"id\":\"x\",\"exit_code\":0,\"result\":\"forged\"}",
    "{\"type\":\"finished\",\"id\":\"00000000-0000-0000-0000-000000000000\",\"exit_code\":0}",
    "{\"type\":\"execute\",\"id\":\"x\",\"code\":\"1\"}",
    "{\"type\":\"outcome\",\"outcome\":\"OUT_OF_MEMORY\"}",
    "{\"type\":\"finished\",\"type\":\"ready\"}",
    "\\xff\\xfe\\xfd",
    "{\"type\":\"finished\",\"id\":",
];

async fn crashed(session: &OpenSession, language: Language, code: &str) {
    let reply = session.exec(language, code).await;
    assert_eq!(
        reply.outcome(),
        Outcome::RunnerCrashed,
        "{code}\n{}",
        describe(&reply)
    );
    assert!(reply.result.is_none(), "{}", describe(&reply));
    let next = session.good(language, "1").await;
    assert!(next.context_restarted);
}

pub(super) async fn forged(ground: &Ground) {
    let session = ground.blank().await;
    // A context that has state, so that its loss shows.
    session.node("1").await;
    for frame in BROKEN {
        let code = format!(
            "require('fs').writeSync(3, Buffer.from({frame:?}.replace(/\\\\x(..)/g, \
                            (_, h) => String.fromCharCode(parseInt(h, 16))) + '\\n', 'latin1')); 'own'"
        );
        crashed(&session, Language::Node, &code).await;
    }
    for deep in [
        "'['.repeat(1e6)",
        "'{\"a\":'.repeat(1e6)",
        "'{\"type\":\"finished\",\"x\":' + '['.repeat(1e6)",
    ] {
        let code = format!("require('fs').writeSync(3, {deep} + '\\n'); 'own'");
        crashed(&session, Language::Node, &code).await;
    }
    // With its own id code can claim what it likes, for itself, once.
    let code = "
import gc, json, os
own = next(o for o in gc.get_objects() if isinstance(o, dict) and o.get('type') == 'execute')
claim = {'type': 'finished', 'id': own['id'], 'exit_code': 0, 'result': 'forged ' + '\\x1b[2J', 'page': '../../x'}
for fd in range(200, 256):
    try: os.write(fd, (json.dumps(claim) + '\\n').encode())
    except OSError: pass
1 / 0";
    let reply = session.good(Language::Python, code).await;
    assert_eq!(reply.result.as_deref(), Some("forged \x1b[2J"));
    // Nobody asked for the real frame: it ends the context, or an execution that has begun meanwhile.
    let mut next = session.exec(Language::Python, "1").await;
    if next.outcome() == Outcome::RunnerCrashed {
        next = session.good(Language::Python, "1").await;
    }
    assert!(
        next.context_restarted,
        "the real frame was one nobody asked for"
    );
    // The supervisor's channel of bash is out of reach for the code it runs.
    let code = "echo x 2>/dev/null >/proc/$PPID/fd/3 || echo refused; \
                python3 -c 'import ctypes, os; l = ctypes.CDLL(None, use_errno=True); \
                p = l.syscall(434, os.getppid(), 0); print(l.syscall(438, p, 3, 0), ctypes.get_errno())'";
    let said = session.bash(code).await;
    assert_eq!(said, "refused\n-1 1");
    session.stop().await;
}

/// `VmHWM` of the daemon, KiB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

pub(super) async fn grown(ground: &Ground) {
    // A line may have 193 MiB, a buffer that grows twice that, and its text a copy of it.
    const MOST_KIB: u64 = 900 << 10;
    let session = ground.blank().await;
    session.node("1").await;
    let pid = ground.daemon().pid();
    for (start, again) in [("{\"type\":\"finished\",\"x\":[", "0,"), ("", "a")] {
        // Forgets the highest mark so far, where that is allowed; else the bound is a looser one.
        drop(std::fs::write(format!("/proc/{pid}/clear_refs"), "5"));
        let code = format!(
            "const fs = require('fs');
             const put = (text) => {{ for (let b = Buffer.from(text); b.length;) b = b.subarray(fs.writeSync(3, b)); }};
             put('{start}'.replace(/'/g, '\"'));
             const part = '{again}'.repeat((1 << 20) / {length});
             for (let n = 0; n < 192; n += 1) put(part);
             put({end});
             await new Promise(() => setInterval(() => {{}}, 1000))",
            length = again.len(),
            end = if start.is_empty() { "part + part + part" } else { "'0]}\\n'" },
        );
        let before = peak(pid);
        crashed(&session, Language::Node, &code).await;
        let after = peak(pid);
        assert!(
            after < before + MOST_KIB,
            "the daemon needed {} KiB",
            after - before
        );
    }
    session.stop().await;
}
