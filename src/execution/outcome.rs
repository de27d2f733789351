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
    /// A process of its sandbox was killed for memory during it, and for whose limit.
    pub out_of_memory: Option<MemoryLimit>,
    /// Exit code the runner's `finished` frame gave.
    pub claimed: Option<i32>,
    /// Exit code its runner's process itself ended with, when it ended by `exit`.
    pub exited: Option<i32>,
}

/// Which memory limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    /// Of its own sandbox.
    Sandbox,
    /// Of the session: browser and all contexts together.
    Session,
    /// Neither: the host's memory ended, or that of a cgroup above Pagebox's.
    Host,
}

/// What became of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How it ended.
    pub outcome: Outcome,
    /// Its exit code; 137 when it was killed.
    pub exit_code: i32,
    /// Pagebox, or a limit it set, ended it.
    pub killed: bool,
}

/// Decides what became of an execution.
///
/// What the daemon did to it comes first (it had only one reason to kill), then the kernel's
/// report, then the code's own end.
#[must_use]
pub fn decide(ending: Ending) -> Verdict {
    const KILLED: i32 = 137;
    let killed = |outcome| Verdict {
        outcome,
        exit_code: KILLED,
        killed: true,
    };
    let ended = |outcome, exit_code| Verdict {
        outcome,
        exit_code,
        killed: false,
    };
    if ending.deadline_hit {
        return killed(Outcome::TimedOut);
    }
    if ending.output_limit_hit {
        return killed(Outcome::OutputLimit);
    }
    if ending.cancelled {
        return killed(Outcome::Cancelled);
    }
    let code = ending.claimed.or(ending.exited);
    match code {
        Some(0) => ended(Outcome::Completed, 0),
        // A child of the code was killed, and the code ended by itself because of it.
        Some(code) if ending.out_of_memory.is_some() => ended(Outcome::OutOfMemory, code),
        None if ending.out_of_memory.is_some() => killed(Outcome::OutOfMemory),
        code if ending.browser_died => ended(Outcome::BrowserCrashed, code.unwrap_or(KILLED)),
        Some(code) => ended(Outcome::Failed, code),
        None => ended(Outcome::RunnerCrashed, KILLED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ending: Ending) -> (Outcome, i32, bool) {
        let verdict = decide(ending);
        (verdict.outcome, verdict.exit_code, verdict.killed)
    }

    #[test]
    fn a_runner_killed_for_memory_was_killed_and_a_child_of_it_was_not_it() {
        let killed = Ending {
            out_of_memory: Some(MemoryLimit::Sandbox),
            ..Ending::default()
        };
        assert_eq!(seen(killed), (Outcome::OutOfMemory, 137, true));
        let child = Ending {
            claimed: Some(137),
            ..killed
        };
        assert_eq!(seen(child), (Outcome::OutOfMemory, 137, false));
    }

    #[test]
    fn a_users_own_137_is_not_an_out_of_memory_kill() {
        let ending = Ending {
            claimed: Some(137),
            ..Ending::default()
        };
        assert_eq!(seen(ending), (Outcome::Failed, 137, false));
    }

    #[test]
    fn the_deadline_wins_over_what_the_kill_caused() {
        let ending = Ending {
            deadline_hit: true,
            out_of_memory: Some(MemoryLimit::Session),
            browser_died: true,
            ..Ending::default()
        };
        assert_eq!(seen(ending), (Outcome::TimedOut, 137, true));
    }

    #[test]
    fn an_oom_kill_the_code_survived_is_no_failure() {
        let ending = Ending {
            out_of_memory: Some(MemoryLimit::Session),
            claimed: Some(0),
            ..Ending::default()
        };
        assert_eq!(seen(ending), (Outcome::Completed, 0, false));
    }

    #[test]
    fn a_runner_that_ends_by_exit_gives_its_code() {
        let ending = Ending {
            exited: Some(3),
            ..Ending::default()
        };
        assert_eq!(seen(ending), (Outcome::Failed, 3, false));
        assert_eq!(
            seen(Ending::default()),
            (Outcome::RunnerCrashed, 137, false)
        );
    }
}
