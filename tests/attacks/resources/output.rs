//! Output, and what the daemon keeps of executions.

use std::time::Duration;

use pagebox::grpc::v1::{ExecuteResponse, Language, Outcome, OutputLimits};

use crate::arena::Ground;
use crate::client::{OpenSession, describe};
use crate::inside::{LANGUAGES, goes_on, killed};
use crate::leaks::resident_kib;

const LIMIT: usize = 100_000;
/// `limits.stdout` by default.
const DEFAULT_LIMIT: usize = 10 << 20;
/// Of the daemon while one execution floods it: pieces on their way, the reply, the message, and the
/// honest session's work.
const FLOOD_KIB: u64 = 96 << 10;
const TINY: usize = 240;
const FRESH: usize = 9;
/// What the records of that many ended executions may cost, with slack.
const GROWTH_KIB: u64 = 16 << 10;

async fn limited(session: &OpenSession, language: Language, code: &str) -> ExecuteResponse {
    let mut options = session.options(language, code);
    let bytes = LIMIT as u64;
    options.output_limits = Some(OutputLimits {
        stdout_bytes: bytes,
        stderr_bytes: bytes,
        result_bytes: bytes,
    });
    session.run(options).await
}

pub(super) async fn endless(ground: &Ground) {
    let session = ground.blank().await;
    for (language, code, on_stdout) in [
        (Language::Bash, "yes", true),
        (Language::Bash, "yes >&2", false),
        (
            Language::Node,
            "for (;;) require('fs').writeSync(1, 'x'.repeat(65536))",
            true,
        ),
        (
            Language::Node,
            "for (;;) require('fs').writeSync(2, 'x'.repeat(65536))",
            false,
        ),
        (Language::Python, "while True: print('x' * 65536)", true),
        (
            Language::Python,
            "import os\nwhile True: os.write(2, b'x')",
            false,
        ),
    ] {
        let reply = limited(&session, language, code).await;
        killed(&reply, Outcome::OutputLimit);
        let (flooded, other) = if on_stdout {
            (&reply.stdout, &reply.stderr)
        } else {
            (&reply.stderr, &reply.stdout)
        };
        assert_eq!((flooded.len(), &**other), (LIMIT, ""), "{code}");
        let flags = (reply.stdout_truncated, reply.stderr_truncated);
        assert_eq!(flags, (on_stdout, !on_stdout), "{code}");
    }
    for (language, code) in [
        (Language::Bash, "yes & yes >&2"),
        (
            Language::Node,
            "for (;;) { require('fs').writeSync(1, 'x'.repeat(999)); require('fs').writeSync(2, 'y'.repeat(999)); }",
        ),
        (
            Language::Python,
            "import os\nwhile True:\n    os.write(1, b'x' * 999)\n    os.write(2, b'y' * 999)",
        ),
    ] {
        let reply = limited(&session, language, code).await;
        killed(&reply, Outcome::OutputLimit);
        for (text, cut) in [
            (&reply.stdout, reply.stdout_truncated),
            (&reply.stderr, reply.stderr_truncated),
        ] {
            assert!(
                text.len() <= LIMIT && (!cut || text.len() == LIMIT),
                "{code}"
            );
        }
        assert!(reply.stdout_truncated || reply.stderr_truncated, "{code}");
    }
    let before = resident_kib(ground.daemon().pid());
    let flood = session.exec(Language::Bash, "yes");
    tokio::pin!(flood);
    let mut most = 0;
    let reply = loop {
        tokio::select! {
            reply = &mut flood => break reply,
            () = tokio::time::sleep(Duration::from_millis(5)) => {
                most = most.max(resident_kib(ground.daemon().pid()));
            }
        }
    };
    killed(&reply, Outcome::OutputLimit);
    assert_eq!(reply.stdout.len(), DEFAULT_LIMIT);
    ground.note(format!("{} KiB more at most", most.saturating_sub(before)));
    assert!(most < before + FLOOD_KIB, "{before} KiB, then {most}");
    goes_on(&session).await;
    session.stop().await;
}

pub(super) async fn exact(ground: &Ground) {
    let session = ground.blank().await;
    let code = |language, stdout: usize, stderr: usize, result: usize| match language {
        Language::Python => format!(
            "import os\nfor fd, n in ((1, {stdout}), (2, {stderr})):\n    text = b'x' * n\n    \
             while text: text = text[os.write(fd, text):]\n'x' * {result}"
        ),
        Language::Bash => {
            format!(
                "head -c {stdout} /dev/zero | tr '\\0' x; head -c {stderr} /dev/zero | tr '\\0' x >&2"
            )
        }
        _ => format!(
            "for (const [fd, n] of [[1, {stdout}], [2, {stderr}]]) require('fs').writeFileSync(fd, 'x'.repeat(n)); \
             'x'.repeat({result})"
        ),
    };
    for language in LANGUAGES {
        let result = if language == Language::Bash { 0 } else { LIMIT };
        let reply = limited(&session, language, &code(language, LIMIT, LIMIT, result)).await;
        assert_eq!(reply.outcome(), Outcome::Completed, "{}", describe(&reply));
        let cut = (
            reply.stdout_truncated,
            reply.stderr_truncated,
            reply.result_truncated,
        );
        assert_eq!(cut, (false, false, false), "{language:?}");
        let sizes = (
            reply.stdout.len(),
            reply.stderr.len(),
            reply.result.as_deref().unwrap_or_default().len(),
        );
        assert_eq!(sizes, (LIMIT, LIMIT, result), "{language:?}");

        for (stdout, stderr) in [(LIMIT + 1, 0), (0, LIMIT + 1)] {
            // It goes on, so that only its output can end it.
            let more = code(language, stdout, stderr, 0);
            let reply = limited(&session, language, &more).await;
            let cut = (reply.stdout_truncated, reply.stderr_truncated);
            assert_eq!(cut, (stdout > LIMIT, stderr > LIMIT), "{language:?}");
            assert_eq!(reply.stdout.len().max(reply.stderr.len()), LIMIT);
        }
    }
    for language in [Language::Node, Language::Python] {
        let reply = limited(&session, language, &code(language, 0, 0, LIMIT + 1)).await;
        assert!(
            reply.success && reply.result_truncated,
            "{}",
            describe(&reply)
        );
        assert_eq!(reply.result.map(|text| text.len()), Some(LIMIT));
    }
    session.stop().await;
}

pub(super) async fn many_tiny(ground: &Ground) {
    let session = ground.blank().await;
    goes_on(&session).await;
    let before = resident_kib(ground.daemon().pid());
    for _ in 0..TINY / LANGUAGES.len() {
        for language in LANGUAGES {
            session
                .good(language, if language == Language::Bash { ":" } else { "1" })
                .await;
        }
    }
    for number in 0..FRESH {
        let language = LANGUAGES[number % LANGUAGES.len()];
        let mut options =
            session.options(language, if language == Language::Bash { ":" } else { "1" });
        options.fresh = true;
        let reply = session.run(options).await;
        assert!(reply.success, "{}", describe(&reply));
    }
    let grown = resident_kib(ground.daemon().pid()).saturating_sub(before);
    ground.note(format!(
        "{grown} KiB more after {} executions",
        TINY + FRESH
    ));
    assert!(grown < GROWTH_KIB, "the daemon grew by {grown} KiB");
    session.stop().await;
}
