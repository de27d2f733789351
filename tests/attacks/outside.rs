//! The other half of a pair: the same program text, run on the host and not confined.

use std::process::{Output, Stdio};
use std::time::Duration;

use pagebox::grpc::v1::Language;
use tokio::process::Command;

/// Longest time for a program that shows what works.
const LIMIT: Duration = Duration::from_secs(60);

/// What a program did.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit code; none after a signal.
    pub(crate) code: Option<i32>,
    /// What it printed, without the last newline.
    pub(crate) stdout: String,
    /// What it complained about.
    pub(crate) stderr: String,
}

/// Runs code as the user of the tests, in an empty directory that goes with it.
///
/// Only for programs that do no harm: nothing holds them.
pub(crate) async fn run(language: Language, code: &str) -> Ran {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = match language {
        Language::Python => Command::new("python3"),
        Language::Bash => Command::new("bash"),
        _ => Command::new("node"),
    };
    command.arg(if language == Language::Node {
        "-e"
    } else {
        "-c"
    });
    let output = command
        .arg(code)
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = tokio::time::timeout(LIMIT, output)
        .await
        .unwrap_or_else(|_| panic!("outside it takes longer than {LIMIT:?}:\n{code}"))
        .expect("the interpreter is on the host");
    let text = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes)
            .trim_end_matches('\n')
            .to_owned()
    };
    Ran {
        code: status.code(),
        stdout: text(&stdout),
        stderr: text(&stderr),
    }
}

/// The same for a program that must succeed; what it printed.
pub(crate) async fn good(language: Language, code: &str) -> String {
    let ran = run(language, code).await;
    assert_eq!(ran.code, Some(0), "outside this failed:\n{code}\n{ran:?}");
    ran.stdout
}
