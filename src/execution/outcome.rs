//! The closed list of outcomes, and how one is decided.
//!
//! A runner's frame can claim a result, never an outcome: what killed the code is what the daemon
//! and the kernel saw.

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Ran to its end with exit code 0.
    Completed,
    /// An uncaught error, or another exit code.
    Failed,
    /// Killed at its timeout.
    TimedOut,
    /// Killed by the kernel for the memory limit.
    OutOfMemory,
    /// Killed for its output.
    OutputLimit,
    /// Killed by a cancel, or the end of its session.
    Cancelled,
    /// The session's browser died under it.
    BrowserCrashed,
    /// Its runner died without a reply.
    RunnerCrashed,
}

/// What was seen at the end of an execution, all of it measured outside the sandbox except
/// `claimed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// The daemon killed it at its deadline.
    pub deadline_hit: bool,
    /// The daemon killed it for a cancel or the end of the session.
    pub cancelled: bool,
    /// The daemon killed it for its output.
    pub output_limit_hit: bool,
    /// The browser's process ended during it.
    pub browser_died: bool,
    /// The kernel killed a process of its sandbox for memory during it.
    pub oom_killed: bool,
    /// Exit code the runner's `finished` frame gave.
    pub claimed: Option<i32>,
    /// Exit code its runner's process itself ended with, when it ended by `exit`.
    pub exited: Option<i32>,
}

/// Decides outcome and exit code.
///
/// What the daemon did to it comes first (it had only one reason to kill), then the kernel's
/// report, then the code's own end.
#[must_use]
pub fn decide(ending: Ending) -> (Outcome, i32) {
    const KILLED: i32 = 137;
    if ending.deadline_hit {
        return (Outcome::TimedOut, KILLED);
    }
    if ending.output_limit_hit {
        return (Outcome::OutputLimit, KILLED);
    }
    if ending.cancelled {
        return (Outcome::Cancelled, KILLED);
    }
    let code = ending.claimed.or(ending.exited);
    if ending.oom_killed && code != Some(0) {
        return (Outcome::OutOfMemory, code.unwrap_or(KILLED));
    }
    if ending.browser_died && code != Some(0) {
        return (Outcome::BrowserCrashed, code.unwrap_or(KILLED));
    }
    match code {
        Some(0) => (Outcome::Completed, 0),
        Some(code) => (Outcome::Failed, code),
        None => (Outcome::RunnerCrashed, KILLED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_own_137_is_not_an_out_of_memory_kill() {
        let ending = Ending {
            claimed: Some(137),
            ..Ending::default()
        };
        assert_eq!(decide(ending), (Outcome::Failed, 137));
    }

    #[test]
    fn the_deadline_wins_over_what_the_kill_caused() {
        let ending = Ending {
            deadline_hit: true,
            oom_killed: true,
            browser_died: true,
            ..Ending::default()
        };
        assert_eq!(decide(ending), (Outcome::TimedOut, 137));
    }

    #[test]
    fn an_oom_kill_the_code_survived_is_no_failure() {
        let ending = Ending {
            oom_killed: true,
            claimed: Some(0),
            ..Ending::default()
        };
        assert_eq!(decide(ending), (Outcome::Completed, 0));
    }

    #[test]
    fn a_runner_that_ends_by_exit_gives_its_code() {
        let ending = Ending {
            exited: Some(3),
            ..Ending::default()
        };
        assert_eq!(decide(ending), (Outcome::Failed, 3));
        assert_eq!(decide(Ending::default()), (Outcome::RunnerCrashed, 137));
    }
}
