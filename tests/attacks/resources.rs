//! Resources: what one session takes must not be missing anywhere else.

mod cpu;
mod files;
mod kernel;
mod memory;
mod output;
mod processes;
mod time;

use crate::case::{Case, Group};

pub(crate) fn group() -> Group {
    Group {
        title: "Resources",
        cases: CASES,
    }
}

const CASES: &[Case] = &[
    Case {
        number: 1,
        name: "fork bomb",
        tries: "forks as fast as it can, in bash, python and node, and goes on after the execution",
        observed: "never more processes than `runner.processes`; `TIMED_OUT`; the session's other languages go on",
        run: |ground| Box::pin(processes::fork_bomb(ground)),
    },
    Case {
        number: 2,
        name: "processes and threads counted",
        tries: "holds 400 children, then 400 threads, which works outside",
        observed: "EAGAIN below `runner.processes` (256); once they are let go, forking works again",
        run: |ground| Box::pin(processes::counted(ground)),
    },
    Case {
        number: 3,
        name: "memory bomb",
        tries: "takes memory without end: heap, buffers, shared mappings, memfd, files of its scratch, in every language",
        observed: "`OUT_OF_MEMORY`, peak not above `runner.memory`; without cgroups an allocation fails or `OUT_OF_MEMORY`; the next execution works",
        run: |ground| Box::pin(memory::bomb(ground)),
    },
    Case {
        number: 4,
        name: "processes of all contexts together",
        tries: "forks in three sandboxes of one session at once, each below its own limit",
        observed: "never more tasks than `session.processes`; without cgroups each sandbox has its own limit only",
        run: |ground| Box::pin(processes::across_contexts(ground)),
    },
    Case {
        number: 5,
        name: "memory spread over children",
        tries: "50 children that each take a little, together three times the limit",
        observed: "`OUT_OF_MEMORY`, peak not above `runner.memory`",
        run: |ground| Box::pin(memory::in_children(ground)),
    },
    Case {
        number: 6,
        name: "full scratch",
        tries: "writes one file for as long as it can, in every language",
        observed: "ENOSPC at `session.scratch`; nothing is written on the host; once it is deleted, there is room",
        run: |ground| Box::pin(files::full_by_bytes(ground)),
    },
    Case {
        number: 7,
        name: "empty files",
        tries: "makes empty files for as long as it can, in every language",
        observed: "ENOSPC at `session.scratch_inodes`",
        run: |ground| Box::pin(files::full_by_inodes(ground)),
    },
    Case {
        number: 8,
        name: "sparse file of a terabyte",
        tries: "truncate and fallocate to 1 TiB, which a host's disk may allow",
        observed: "EFBIG at `runner.file_size`, in every language",
        run: |ground| Box::pin(files::sparse(ground)),
    },
    Case {
        number: 9,
        name: "open files",
        tries: "opens files until it cannot, tries to raise its limit, in every language",
        observed: "EMFILE at `runner.open_files`, EPERM for the limit; the daemon's own descriptors stay as they were",
        run: |ground| Box::pin(files::open_files(ground)),
    },
    Case {
        number: 10,
        name: "links, names and depth",
        tries: "hard links without end, a name of 256 bytes, a tree as deep as it gets",
        observed: "ENOSPC at `session.scratch_inodes`, ENAMETOOLONG; the session ends as fast as any",
        run: |ground| Box::pin(files::links_names_and_depth(ground)),
    },
    Case {
        number: 11,
        name: "busy loop",
        tries: "an endless loop in node, python and bash",
        observed: "killed at the deadline, `TIMED_OUT`, exit code 137; the next execution has a new context",
        run: |ground| Box::pin(time::busy_loop(ground)),
    },
    Case {
        number: 12,
        name: "sleep for ever",
        tries: "waits for what never comes, with and without the event loop",
        observed: "`TIMED_OUT` by wall time, hardly any processor time",
        run: |ground| Box::pin(time::sleep(ground)),
    },
    Case {
        number: 13,
        name: "every signal ignored",
        tries: "ignores every signal that can be, then loops",
        observed: "killed at the deadline, `TIMED_OUT`",
        run: |ground| Box::pin(time::signals_ignored(ground)),
    },
    Case {
        number: 14,
        name: "daemons",
        tries: "double fork, setsid, all descriptors closed, in python and bash, with an execution that ends and one that is killed",
        observed: "dead with its context at a kill, else when `StopSession` returns",
        run: |ground| Box::pin(processes::daemons(ground)),
    },
    Case {
        number: 15,
        name: "forks after its end",
        tries: "a child that closes its output, outlives the execution, and forks without end and writes to the next one's output",
        observed: "the execution is `COMPLETED`; the other languages go on; none of it is left after `StopSession`",
        run: |ground| Box::pin(processes::after_the_end(ground)),
    },
    Case {
        number: 16,
        name: "stopped processes",
        tries: "SIGSTOP to itself, to its group, and to everything it may signal",
        observed: "killed at the deadline, `TIMED_OUT`; bash that is not stopped itself: `FAILED`, exit code 147",
        run: |ground| Box::pin(time::stopped(ground)),
    },
    Case {
        number: 17,
        name: "memory of the kernel",
        tries: "fills pipes, unix sockets and TCP connections that nobody reads, in many processes",
        observed: "counted against `runner.memory`: `OUT_OF_MEMORY`, or writes that wait before they reach it; cgroup v1 counts TCP apart",
        run: |ground| Box::pin(kernel::buffers(ground)),
    },
    Case {
        number: 18,
        name: "endless output",
        tries: "`yes` and the like on stdout, stderr, and on both at once",
        observed: "`OUTPUT_LIMIT`, cut at exactly the limit and flagged; the daemon's memory grows by a few times the limit at most",
        run: |ground| Box::pin(output::endless(ground)),
    },
    Case {
        number: 19,
        name: "output and result at their limits",
        tries: "stdout, stderr and result of exactly their limits, then one byte more of each",
        observed: "`COMPLETED` and nothing cut; then `OUTPUT_LIMIT`, or a result that is cut and flagged",
        run: |ground| Box::pin(output::exact(ground)),
    },
    Case {
        number: 20,
        name: "64 spinning processes",
        tries: "takes all processors, from one sandbox and from three of a session at once",
        observed: "no more processor time than `runner.cpu_percent` and `session.cpu_percent` of the wall time; without cgroups not limited",
        run: |ground| Box::pin(cpu::quota(ground)),
    },
    Case {
        number: 21,
        name: "recursion, stack and regular expression",
        tries: "recursion without end, a stack made larger than there is, a regular expression that backtracks for ever",
        observed: "an error or a signal of its own, `FAILED` or `RUNNER_CRASHED`; the expression is `TIMED_OUT`",
        run: |ground| Box::pin(cpu::recursion(ground)),
    },
    Case {
        number: 22,
        name: "zombies and orphans",
        tries: "400 children that end and are not waited for, then 600 orphans one after the other",
        observed: "EAGAIN below `runner.processes` for the first; pid 1 reaps the orphans, so that they all can be",
        run: |ground| Box::pin(processes::zombies(ground)),
    },
    Case {
        number: 120,
        name: "hogs everywhere at once",
        tries: "node, python, bash and the page of one session spin at once",
        observed: "each is `TIMED_OUT`; then every language and the page work; the honest session's times are in the table",
        run: |ground| Box::pin(cpu::everywhere(ground)),
    },
    Case {
        number: 121,
        name: "shared memory files",
        tries: "fills /dev/shm by bytes and by files",
        observed: "ENOSPC at 64 MiB and 1024 files, which belong to one sandbox",
        run: |ground| Box::pin(files::shared_memory(ground)),
    },
    Case {
        number: 122,
        name: "inotify",
        tries: "inotify instances and watches without end, which the host counts for the spawner's user",
        observed: "EMFILE at 32 instances and ENOSPC at 16384 watches of a sandbox; another session and the host still get theirs",
        run: |ground| Box::pin(kernel::inotify(ground)),
    },
    Case {
        number: 123,
        name: "timers and signals",
        tries: "POSIX timers without end, which the host counts for the spawner's user",
        observed: "EAGAIN at RLIMIT_SIGPENDING (4096); another session and the host still get theirs",
        run: |ground| Box::pin(kernel::timers(ground)),
    },
    Case {
        number: 124,
        name: "many tiny executions",
        tries: "240 executions one after the other, and 9 fresh ones",
        observed: "the daemon holds what it held before and grew by less than 16 MiB",
        run: |ground| Box::pin(output::many_tiny(ground)),
    },
    Case {
        number: 125,
        name: "full scratch, cleaned up inside",
        tries: "fills its scratch by bytes and by files, kills what runs, and goes on",
        observed: "every language starts, works and cleans up in a full scratch",
        run: |ground| Box::pin(files::cleaned_up_inside(ground)),
    },
    Case {
        number: 126,
        name: "full scratch before bash",
        tries: "fills the scratch before bash and agent-browser's service have started",
        observed: "both start",
        run: |ground| Box::pin(files::bash_in_a_full_scratch(ground)),
    },
];
