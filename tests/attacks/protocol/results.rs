//! Values, errors and built-ins that fight back.

use std::time::Duration;

use pagebox::grpc::v1::{Language, Outcome, OutputLimits};

use crate::arena::Ground;
use crate::client::describe;

const TIMEOUT: Duration = Duration::from_secs(1);

pub(super) async fn unshowable(ground: &Ground) {
    let session = ground.blank().await;
    let node = [
        "const a = {}; a.a = a; a",
        "({ get x() { throw new Error('no') } })",
        "({ toJSON() { throw null } })",
        "new Proxy({}, { get() { throw 1 }, ownKeys() { throw 2 }, getPrototypeOf() { throw 3 } })",
        "let deep = []; for (let n = 0; n < 1e5; n += 1) deep = [deep]; deep",
        "let chain = {}; for (let n = 0; n < 1e5; n += 1) chain = { chain }; chain",
        "Object.defineProperty(Object.create(null), Symbol.toPrimitive, { get() { throw 1 } })",
        "({ [Symbol.for('nodejs.util.inspect.custom')]() { throw 1 }, a: 1n })",
        "({ then() { throw new Error('thenable') } })",
        "'\\ud800'.repeat(1000)",
        "new Array(4294967295)",
        "new Uint8Array(50e6)",
        "'x'.repeat(100e6)",
        "({ a: 'x'.repeat(100e6), toString() { throw 1 } })",
    ];
    let python = [
        "a = []; a.append(a); a",
        "class A:\n  def __repr__(self): raise SystemExit(3)\nA()",
        "class A:\n  def __repr__(self): return 5\nA()",
        "class A(dict):\n  def items(self): raise KeyboardInterrupt\nA(a=1)",
        "class A(str):\n  def encode(self, *a): raise ValueError\n  def __str__(self): return 1\nA('x')",
        "class M(type):\n  __name__ = property(lambda s: 1 / 0)\nclass A(metaclass=M):\n  def __repr__(self): raise MemoryError\nA()",
        "deep = []\nfor n in range(100000): deep = [deep]\ndeep",
        "'\\ud800' * 1000",
        "'x' * 100_000_000",
        "10 ** 100000",
        "[float('nan'), {1: 2}, b'x', object()]",
    ];
    for (language, codes) in [(Language::Node, &node[..]), (Language::Python, &python[..])] {
        for code in codes {
            let mut options = session.options(language, code);
            options.output_limits = Some(OutputLimits {
                result_bytes: 1 << 20,
                ..OutputLimits::default()
            });
            let reply = session.run(options).await;
            let ended = [Outcome::Completed, Outcome::Failed, Outcome::OutOfMemory];
            assert!(
                ended.contains(&reply.outcome()),
                "{code}\n{}",
                describe(&reply)
            );
            let length = reply.result.as_ref().map_or(0, String::len);
            assert!(length <= 1 << 20, "{code}: {length}");
            assert!(
                length < (1 << 20) - 3 || reply.result_truncated,
                "{code}: {length}"
            );
            session.good(language, "1").await;
        }
    }
    // Half a gigabyte, where a runner has one in all.
    for (language, code) in [
        (
            Language::Node,
            "Array.from({ length: 900 }, (_, n) => String(n).repeat(400000))",
        ),
        (Language::Python, "['x' * 500_000_000, 'y' * 400_000_000]"),
    ] {
        let reply = session
            .exec_within(Duration::from_secs(30), language, code)
            .await;
        let ended = [
            Outcome::Completed,
            Outcome::Failed,
            Outcome::OutOfMemory,
            Outcome::RunnerCrashed,
        ];
        assert!(
            ended.contains(&reply.outcome()),
            "{code}\n{}",
            describe(&reply)
        );
        session.good(language, "1").await;
    }
    for (language, code) in [
        (Language::Node, "({ toJSON() { while (true); } })"),
        (Language::Node, "({ get a() { while (true); } })"),
        (Language::Node, "({ then() {} })"),
        (
            Language::Node,
            "new Proxy({}, { ownKeys() { while (true); } })",
        ),
        (
            Language::Python,
            "class A:\n  def __repr__(self):\n    while True: pass\nA()",
        ),
        (
            Language::Python,
            "class A(dict):\n  def items(self):\n    while True: pass\nA(a=1)",
        ),
    ] {
        let reply = session.exec_within(TIMEOUT, language, code).await;
        // What awaits nothing may also be shown as the object it is.
        let shown = code.contains("then()") && reply.outcome() == Outcome::Completed;
        assert!(
            shown || reply.outcome() == Outcome::TimedOut,
            "{code}\n{}",
            describe(&reply)
        );
        session.good(language, "1").await;
    }
    session.stop().await;
}

pub(super) async fn errors(ground: &Ground) {
    let session = ground.blank().await;
    for (language, code) in [
        (Language::Node, "throw new Error('x'.repeat(100e6))"),
        (
            Language::Node,
            "const e = new Error('x'); e.name = 'N'.repeat(1e6); throw e",
        ),
        (
            Language::Node,
            "class E extends Error {}; Object.defineProperty(E, 'name', { value: 'C'.repeat(1e6) }); throw new E('x')",
        ),
        (
            Language::Node,
            "let e = new Error('0'); for (let n = 0; n < 1e4; n += 1) e = new Error('x', { cause: e }); throw e",
        ),
        (
            Language::Node,
            "const e = new Error('x'); e.stack = 's'.repeat(50e6); throw e",
        ),
        (
            Language::Node,
            "throw { get message() { throw 1 }, get name() { throw 2 } }",
        ),
        (
            Language::Node,
            "throw new Proxy(new Error('x'), { get() { throw 1 } })",
        ),
        (
            Language::Node,
            "throw '\\x1b[2J' + '\\ud800'.repeat(100000)",
        ),
        (Language::Node, "throw undefined"),
        (Language::Python, "raise ValueError('x' * 100_000_000)"),
        (
            Language::Python,
            "raise type('N' * 1_000_000, (Exception,), {})('x')",
        ),
        (
            Language::Python,
            "class E(Exception):\n  def __str__(self): raise self\nraise E",
        ),
        (
            Language::Python,
            "class E(Exception):\n  def __str__(self): raise SystemExit(0)\nraise E",
        ),
        (
            Language::Python,
            "class E(Exception):\n  @property\n  def __class__(self): raise MemoryError\nraise E",
        ),
        (
            Language::Python,
            "e = None\nfor n in range(10000):\n  f = ValueError(n); f.__cause__ = e; e = f\nraise e",
        ),
        (
            Language::Python,
            "raise BaseExceptionGroup('g', [ValueError('x' * 1000)] * 10000)",
        ),
        (Language::Python, "raise GeneratorExit('\\ud800')"),
        (Language::Bash, "printf 'x%.0s' {1..100000} >&2; exit 255"),
    ] {
        let reply = session
            .exec_within(Duration::from_secs(60), language, code)
            .await;
        // To word a message of 100 MB can take more than a runner has, and to print it more than it may;
        // one that lies about its class is never worded.
        let ended = [
            Outcome::Failed,
            Outcome::OutOfMemory,
            Outcome::OutputLimit,
            Outcome::TimedOut,
        ];
        assert!(
            ended.contains(&reply.outcome()),
            "{code}\n{}",
            describe(&reply)
        );
        if let Some(error) = &reply.error {
            assert!(error.name.len() <= 256, "{code}: {}", error.name.len());
            assert!(
                error.message.len() <= 64 << 10,
                "{code}: {}",
                error.message.len()
            );
        }
        session.good(language, super::anything(language)).await;
    }
    for (language, code) in [
        (
            Language::Node,
            "throw new (class extends Error { get message() { while (true); } })",
        ),
        (
            Language::Python,
            "class E(Exception):\n  def __str__(self):\n    while True: pass\nraise E",
        ),
    ] {
        let reply = session.exec_within(TIMEOUT, language, code).await;
        let ended = [Outcome::TimedOut, Outcome::Failed];
        assert!(
            ended.contains(&reply.outcome()),
            "{code}\n{}",
            describe(&reply)
        );
        session.good(language, "1").await;
    }
    session.stop().await;
}

pub(super) async fn replaced(ground: &Ground) {
    let (session, other) = tokio::join!(ground.blank(), ground.blank());
    let node = "
        for (const f of ['stringify', 'parse']) JSON[f] = () => { throw new Error('mine') };
        globalThis.Promise = class {}; globalThis.Buffer = null; globalThis.setTimeout = null;
        for (const type of [Array, String, Object, Function, Promise, Map, Set, Uint8Array, RegExp])
          for (const key of Reflect.ownKeys(type?.prototype ?? {}))
            if (!['constructor', '__proto__'].includes(key))
              try { type.prototype[key] = function () { throw new Error('mine') } } catch {}
        Object.prototype.toJSON = () => 'mine'; Object.prototype.then = null;
        Object.prototype.type = 'finished'; Object.prototype.exit_code = 7; Object.prototype.result = 'mine';
        process.exit = () => {}; process.kill = () => {}; process.emit = () => { throw 1 };
        require('fs').writeSync = () => 0; require('net').Socket.prototype.write = () => true;
        'replaced'";
    let python = "
import builtins, json, os, socket, asyncio, sys
for name in ('print', 'len', 'isinstance', 'open', 'repr', 'str', 'type', 'getattr', 'list', 'dict', 'BaseException'):
    setattr(builtins, name, None)
json.dumps = json.loads = json.JSONEncoder.encode = json.JSONEncoder.iterencode = lambda *a, **k: 'mine'
json.JSONDecoder.decode = lambda *a: {'type': 'init', 'cdp_url': None}
socket.socket.sendall = socket.socket.recv = lambda *a: b''
os.write = os.fstat = os.dup2 = lambda *a: 0
sys.modules.clear()
'replaced'";
    for (language, code, sum) in [
        (Language::Node, node, "6 * 7"),
        (Language::Python, python, "6 * 7"),
        (
            Language::Bash,
            "unset PATH; printf() { :; }; export -f printf; alias echo=false; enable -n echo; set -x",
            "echo 42",
        ),
    ] {
        let timeout = Duration::from_secs(2);
        // Its own context may be spoiled by it, whatever its outcome; nothing else may.
        drop(session.exec_within(timeout, language, code).await);
        drop(session.exec_within(timeout, language, sum).await);
        for (place, fresh) in [(&session, true), (&other, false)] {
            let mut options = place.options(language, sum);
            options.fresh = fresh;
            let reply = place.run(options).await;
            let said = reply
                .result
                .clone()
                .unwrap_or_else(|| reply.stdout.trim().to_owned());
            assert_eq!(
                said,
                "42",
                "{language:?}, fresh {fresh}: {}",
                describe(&reply)
            );
        }
    }
    assert_eq!(other.node("await page.evaluate('6 * 7')").await, "42");
    session.stop().await;
    other.stop().await;
}
