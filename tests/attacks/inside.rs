//! What cases say about executions of hostile code.

use std::time::Duration;

use pagebox::grpc::v1::{ExecuteResponse, Language, Outcome};

use crate::client::{OpenSession, describe};
use crate::leaks::{Process, descendants};

/// All languages there are.
pub(crate) const LANGUAGES: [Language; 3] = [Language::Node, Language::Python, Language::Bash];
/// Until the daemon has seen a deadline and killed: generous for a busy machine.
const KILL_SLACK: Duration = Duration::from_secs(30);

/// It ended so.
pub(crate) fn ended(reply: &ExecuteResponse, outcomes: &[Outcome]) {
    assert!(outcomes.contains(&reply.outcome()), "{}", describe(reply));
}

/// Pagebox, or a limit it set, ended it, and says why.
pub(crate) fn killed(reply: &ExecuteResponse, outcome: Outcome) {
    ended(reply, &[outcome]);
    assert!(reply.killed && !reply.success, "{}", describe(reply));
    assert_eq!(reply.exit_code, 137, "{}", describe(reply));
}

/// How long it ran.
pub(crate) fn took(reply: &ExecuteResponse) -> Duration {
    let took = reply.duration.expect("every reply has one");
    Duration::try_from(took).expect("a positive time")
}

/// Processor time of its sandbox.
pub(crate) fn cpu_time(reply: &ExecuteResponse) -> Duration {
    let time = reply.cpu_time.expect("every reply has one");
    Duration::try_from(time).expect("a positive time")
}

/// Runs code that never ends by itself: it is killed at its deadline, not before and not much
/// later, and its context is replaced.
pub(crate) async fn times_out(
    session: &OpenSession,
    limit: Duration,
    language: Language,
    code: &str,
) -> ExecuteResponse {
    let reply = session.exec_within(limit, language, code).await;
    killed(&reply, Outcome::TimedOut);
    let took = took(&reply);
    assert!(
        took >= limit && took < limit + KILL_SLACK,
        "{code}: {took:?}"
    );
    reply
}

/// After whatever happened, the session serves every language, and its page answers.
pub(crate) async fn goes_on(session: &OpenSession) {
    assert_eq!(session.node("await page.evaluate('1 + 1')").await, "2");
    assert_eq!(session.python("await page.evaluate('1 + 1')").await, "2");
    assert_eq!(session.bash("echo fine").await, "fine");
}

/// The number a program printed last.
pub(crate) fn last_number(text: &str) -> u64 {
    let word = text.split_whitespace().last();
    word.and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no number at the end of {text:?}"))
}

/// Processes and threads below a daemon.
pub(crate) fn tasks_below(pid: u32) -> usize {
    descendants(pid).iter().map(tasks_of).sum()
}

fn tasks_of(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", process.pid)).map_or(0, Iterator::count)
}

/// Whether a process below a daemon has this name and argument.
pub(crate) fn runs(pid: u32, name: &str, argument: &str) -> bool {
    descendants(pid).iter().any(|process| {
        let path = format!("/proc/{}/cmdline", process.pid);
        let line = std::fs::read_to_string(path).unwrap_or_default();
        let mut parts = line.split('\0');
        parts.next() == Some(name) && parts.next() == Some(argument)
    })
}
