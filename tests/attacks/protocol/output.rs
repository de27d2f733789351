//! What is written and read by the standard descriptors, and where it is shown.

use std::process::Command;
use std::time::Duration;

use pagebox::grpc::v1::execute_stream_response::Event;
use pagebox::grpc::v1::{ExecuteStreamRequest, Language, Outcome, SessionOptions};
use tokio_stream::StreamExt as _;

use crate::arena::Ground;
use crate::client::{OpenSession, describe};

/// stdout of an execution, byte for byte.
async fn stream(session: &OpenSession, language: Language, code: &str) -> Vec<u8> {
    let request = ExecuteStreamRequest {
        options: Some(session.options(language, code)),
    };
    let mut executions = session.client().executions();
    let mut events = executions
        .execute_stream(request)
        .await
        .unwrap()
        .into_inner();
    let mut stdout = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::Stdout(piece) = event.unwrap().event.unwrap() {
            stdout.extend_from_slice(&piece);
        }
    }
    stdout
}

pub(super) async fn bytes(ground: &Ground) {
    let session = ground.blank().await;
    let hostile: Vec<u8> = (0..=255)
        .chain(*b"\xed\xa0\x80\xf8\x88\x80\x80\x80\x1b]0;owned\x07\x1b[2J\xe2\x80\xae")
        .collect();
    let text = format!("{hostile:?}");
    for (language, code) in [
        (
            Language::Node,
            format!("require('fs').writeSync(1, Buffer.from({text})); undefined"),
        ),
        (
            Language::Python,
            format!("import os\nn = os.write(1, bytes({text}))"),
        ),
        (
            Language::Bash,
            format!("python3 -c 'import os; os.write(1, bytes({text}))'"),
        ),
    ] {
        assert_eq!(
            stream(&session, language, &code).await,
            hostile,
            "{language:?}"
        );
        let reply = session.good(language, &code).await;
        assert!(reply.stdout_lossy && reply.stdout.contains('\u{fffd}'));
        assert!(
            reply.stdout.contains("\u{1b}[2J"),
            "escapes are the caller's to show"
        );
    }
    let code = "process.stdout.write('\\ud800|'); console.error('\\udfff')";
    let reply = session.good(Language::Node, code).await;
    assert_eq!(reply.stdout, "\u{fffd}|");
    // Very many writes of one byte, each a system call.
    let code = "import os\nfor n in range(200_000): os.write(1, b'%d' % (n % 10))";
    let written = stream(&session, Language::Python, code).await;
    assert_eq!(written.len(), 200_000);
    let in_order = written.iter().zip((b'0'..=b'9').cycle());
    assert!(
        in_order
            .into_iter()
            .all(|(seen, expected)| *seen == expected)
    );
    session.stop().await;
}

pub(super) async fn closed(ground: &Ground) {
    let session = ground.blank().await;
    let close =
        "const fs = require('fs'); for (const fd of [LIST]) try { fs.closeSync(fd) } catch {}; 7";
    for (language, code, may_end) in [
        (Language::Node, close.replace("LIST", "0, 1, 2"), false),
        (Language::Node, close.replace("LIST", "0, 1, 2, 3"), true),
        (
            Language::Node,
            close.replace("LIST", "...Array(1024).keys()"),
            true,
        ),
        (
            Language::Python,
            "import os\nos.closerange(0, 3)\n7".to_owned(),
            false,
        ),
        (
            Language::Python,
            "import os\nos.closerange(0, 4)\n7".to_owned(),
            true,
        ),
        (
            Language::Python,
            "import os\nos.closerange(0, 1024)\n7".to_owned(),
            true,
        ),
        (
            Language::Python,
            "import os\nfor n in range(200, 210):\n  try: os.dup2(1, n)\n  except OSError: pass\n7"
                .to_owned(),
            true,
        ),
        (
            Language::Python,
            "import os\nos.dup2(2, 1); os.dup2(0, 2); 7".to_owned(),
            false,
        ),
        (Language::Bash, "exec 0>&- 1>&- 2>&- 3>&-".to_owned(), false),
        (
            Language::Bash,
            "for n in $(seq 0 250); do eval \"exec $n>&-\"; done; true".to_owned(),
            false,
        ),
        (
            Language::Bash,
            "exec 1>&2 2>/dev/null 0</dev/zero; true".to_owned(),
            false,
        ),
    ] {
        let reply = session
            .exec_within(Duration::from_secs(5), language, &code)
            .await;
        let ended = [Outcome::RunnerCrashed, Outcome::Failed, Outcome::TimedOut];
        let fine =
            reply.outcome() == Outcome::Completed || (may_end && ended.contains(&reply.outcome()));
        assert!(fine, "{code}\n{}", describe(&reply));
        assert_eq!(reply.stdout, "", "{code}");
        // The next one writes where it should, if it can.
        let next = match language {
            Language::Node => "process.stdout.write('out')",
            Language::Python => "print('out', end='')",
            _ => "printf out",
        };
        let next = session.exec(language, next).await;
        // Node leaves its descriptors as the code left them; python opens only closed ones again.
        let as_left = language == Language::Node || code.contains("dup2");
        let lost = as_left && next.stdout.is_empty();
        let again = next.outcome() == Outcome::Completed && (next.stdout == "out" || lost);
        assert!(
            again || next.outcome() == Outcome::RunnerCrashed,
            "{code}\n{}",
            describe(&next)
        );
        session.good(language, super::anything(language)).await;
    }
    session.stop().await;
}

pub(super) async fn stdin(ground: &Ground) {
    let session = ground.blank().await;
    let code = "import errno, fcntl, json, os, sys, termios
said = {'read': os.read(0, 9).decode(), 'tty': [os.isatty(n) for n in range(3)]}
def tried(name, call):
    try: said[name] = str(call())
    except OSError as e: said[name] = errno.errorcode[e.errno]
    except termios.error as e: said[name] = errno.errorcode[e.args[0]]
for n in range(3):
    tried(f'push {n}', lambda: fcntl.ioctl(n, termios.TIOCSTI, b'x'))
    tried(f'linux {n}', lambda: fcntl.ioctl(n, 0x541C, b'\\x03'))
    tried(f'control {n}', lambda: fcntl.ioctl(n, termios.TIOCSCTTY, 1))
tried('/dev/tty', lambda: os.open('/dev/tty', os.O_RDWR))
tried('/dev/console', lambda: os.open('/dev/console', os.O_RDWR))
tried('ptmx', lambda: os.open('/dev/ptmx', os.O_RDWR))
json.dumps(said)";
    let said: serde_json::Value = serde_json::from_str(&session.python(code).await).unwrap();
    for (name, seen) in said.as_object().unwrap() {
        match &**name {
            "read" => assert_eq!(seen, ""),
            "tty" => assert_eq!(seen, &serde_json::json!([false, false, false])),
            _ => assert!(
                ["ENOTTY", "EPERM", "ENOENT", "ENXIO", "EACCES", "EINVAL"]
                    .contains(&seen.as_str().unwrap()),
                "{name}: {seen}"
            ),
        }
    }
    assert_eq!(
        session.bash("cat; read -r x; echo $?; tty || true").await,
        "1\nnot a tty"
    );
    assert_eq!(
        session.node("require('fs').readFileSync(0).length").await,
        "0"
    );
    session.stop().await;
}

pub(super) async fn terminal(ground: &Ground) {
    const ESCAPE: &str = "\x1b]0;owned\x07\x1b[2J\u{9b}31m\u{202e}";
    let server = ground.daemon().url();
    let pagebox = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_pagebox"))
            .args(arguments)
            .env("PAGEBOX_SERVER", &server)
            .output()
            .expect("it starts");
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    };
    let options = SessionOptions {
        start_url: format!("http://localhost:1/{ESCAPE}"),
        labels: [(format!("a{ESCAPE}"), format!("b{ESCAPE}"))].into(),
        ..SessionOptions::default()
    };
    let session = ground.client().create(options).await.unwrap();
    let session = OpenSession::new(ground.client().clone(), session.id);
    let title = serde_json::to_string(&ESCAPE).unwrap();
    let url = ground.site().url("/about.html");
    let code = format!(
        "await page.goto('{url}'); await page.evaluate((t) => {{ document.title = t; location.hash = t }}, {title})"
    );
    session.good(Language::Node, &code).await;
    let id = &*session.id;
    let shown = [
        pagebox(&["session", "list"]),
        pagebox(&["session", "show", id]),
        pagebox(&["session", "show", ESCAPE]),
        pagebox(&["exec", "-s", ESCAPE, "-e", "1"]),
        pagebox(&["exec", "--server", &format!("http://{ESCAPE}"), "-e", "1"]),
        pagebox(&[
            "session",
            "create",
            "--url",
            &format!("http://localhost:1/{ESCAPE}"),
        ]),
    ];
    for text in &shown {
        let bad = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(
            !text.contains(bad) && !text.contains('\u{202e}'),
            "{text:?}"
        );
    }
    // The code's own words are passed on as they are: they are what was asked for.
    let code = format!("process.stdout.write({title})");
    assert!(pagebox(&["exec", "-s", id, "-e", &code]).contains("\x1b[2J"));
    let made = shown[5]
        .lines()
        .find(|line| line.len() == 36)
        .expect("an id")
        .to_owned();
    ground.client().stop(&made).await.unwrap();
    session.stop().await;
}
