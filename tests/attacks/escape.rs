//! Escape and information: what leads out of a sandbox, and what is seen of the host from inside.

#[path = "../common/elf.rs"]
mod elf;

mod calls;
mod files;
mod probe;
mod processes;
mod sessions;

use crate::case::{Case, Group};

pub(crate) fn group() -> Group {
    Group {
        title: "Escape and information",
        cases: CASES,
    }
}

const CASES: &[Case] = &[
    Case {
        number: 23,
        name: "other processes' memory",
        tries: "ptrace, process_vm_readv and writev, pidfd_getfd, kcmp and the like on a child of its own",
        observed: "EPERM for each; outside they work",
        run: |ground| Box::pin(calls::other_processes(ground)),
    },
    Case {
        number: 25,
        name: "pid 1 of the sandbox",
        tries: "looks into /proc/1; signals, stops, reschedules and limits pid 1 by every call; ends its own runner",
        observed: "ENOENT; pid 1 stays; the execution has a bounded outcome and the next one a new context",
        run: |ground| Box::pin(processes::pid_one(ground)),
    },
    Case {
        number: 26,
        name: "processes by their pid on the host",
        tries: "opens memory, environment and files of the daemon, the spawner, the test and every sandbox; signals and queries them",
        observed: "ENOENT and ESRCH; outside they are there",
        run: |ground| Box::pin(processes::host_pids(ground)),
    },
    Case {
        number: 28,
        name: "descriptors",
        tries: "lists what a program and the runners have open",
        observed: "the three streams; of a runner also sockets, pipes and event files, never a file or a directory",
        run: |ground| Box::pin(processes::descriptors(ground)),
    },
    Case {
        number: 30,
        name: "files of the host and of other sessions",
        tries: "opens a world-readable file of the host, the daemon's directory, /sys, the kernel's files in /proc, another session's /tmp, /workspace and /dev/shm, by code and by the page",
        observed: "ENOENT; the page is refused; outside they are there",
        run: |ground| Box::pin(files::of_the_host(ground)),
    },
    Case {
        number: 31,
        name: "mounts",
        tries: "mount, umount, pivot_root, chroot, the new mount calls, file handles, swap and quota, \
                cgroup file systems among them",
        observed: "EPERM for each; outside they work as root of a new user namespace",
        run: |ground| Box::pin(calls::mounts(ground)),
    },
    Case {
        number: 32,
        name: "namespaces",
        tries: "unshare and clone of each kind, clone3, setns, raising /proc/sys/user",
        observed: "EPERM; clone3 ENOSYS, so that libc uses clone; outside each makes a namespace",
        run: |ground| Box::pin(calls::namespaces(ground)),
    },
    Case {
        number: 34,
        name: "parts of the kernel attacks like",
        tries: "bpf, perf events, userfaultfd, io_uring, splice, personality, LDT, System V and POSIX \
                queues, fanotify, memfd_secret, execveat, another seccomp filter",
        observed: "EPERM for each",
        run: |ground| Box::pin(calls::kernel_parts(ground)),
    },
    Case {
        number: 36,
        name: "keyrings",
        tries: "add_key, request_key, persistent keyrings, in two sessions",
        observed: "EPERM in both; outside the key is there",
        run: |ground| Box::pin(calls::keyrings(ground)),
    },
    Case {
        number: 37,
        name: "the machine itself",
        tries: "kexec, modules, reboot, swap, accounting, the kernel's log, clock, host name, other \
                uids, capabilities",
        observed: "EPERM for each",
        run: |ground| Box::pin(calls::the_machine(ground)),
    },
    Case {
        number: 38,
        name: "terminals",
        tries: "TIOCSTI, TIOCLINUX and line disciplines, also with bits the kernel drops; a terminal \
                to open",
        observed: "EPERM; there is no terminal",
        run: |ground| Box::pin(calls::terminals(ground)),
    },
    Case {
        number: 39,
        name: "privileged files",
        tries: "set-uid copies and programs, file capabilities, attributes, device nodes, writing to the image in every way, /proc/self/exe and mem, memfd",
        observed: "euid unchanged; ENOTSUP for attributes; EPERM, EROFS, ENOENT for the rest",
        run: |ground| Box::pin(files::privileged(ground)),
    },
    Case {
        number: 41,
        name: "socket families",
        tries: "every family from 0 to 59, raw sockets",
        observed: "EAFNOSUPPORT for all but unix and IP; raw sockets EPERM",
        run: |ground| Box::pin(calls::sockets(ground)),
    },
    Case {
        number: 44,
        name: "core dumps",
        tries: "aborts, breaks, raises the limit of core files",
        observed: "no file, EPERM, EROFS",
        run: |ground| Box::pin(processes::core_dumps(ground)),
    },
    Case {
        number: 110,
        name: "every system call there is",
        tries: "native code calls each number below 520 through both 64-bit entries, in bash's, \
                python's and node's sandbox, and one through the 32-bit entry",
        observed: "EPERM for all that the profile does not list; the 32-bit entry ends the process \
                   with SIGSYS",
        run: |ground| Box::pin(calls::every_number(ground)),
    },
    Case {
        number: 111,
        name: "limits and priorities",
        tries: "raises every rlimit; real-time and deadline scheduling, io priority, oom score, locked memory, odd prctl operations",
        observed: "EPERM, EACCES or EROFS",
        run: |ground| Box::pin(processes::raising(ground)),
    },
    Case {
        number: 112,
        name: "environment and arguments",
        tries: "reads them of every process that each sandbox shows",
        observed: "no path, port, directory or variable of the daemon's",
        run: |ground| Box::pin(processes::environments(ground)),
    },
    Case {
        number: 113,
        name: "attributes that tools copy",
        tries: "sed -i, cp -p, cp -a, mv between file systems, tar with attributes",
        observed: "all succeed and print nothing",
        run: |ground| Box::pin(files::attributes(ground)),
    },
    Case {
        number: 114,
        name: "/proc/self",
        tries: "opens each file of it that can be written; reads maps, frames, kernel stack, cgroup; goes up from root and cwd",
        observed: "EROFS or EACCES; no frame, no address, no path of the host's",
        run: |ground| Box::pin(files::proc_self(ground)),
    },
    Case {
        number: 115,
        name: "hostile file names",
        tries: "newlines, invalid UTF-8, 255 bytes, device names, shell syntax, 200 levels; given to the page, to agent-browser and to every language",
        observed: "taken as names by everything; nothing is run",
        run: |ground| Box::pin(files::names(ground)),
    },
    Case {
        number: 116,
        name: "hostile kinds of files",
        tries: "FIFOs, sockets, links to /proc, /dev and /etc, loops, sparse files where browser and daemon open files: uploads and the directory of downloads",
        observed: "nothing of the host is read or written; the session goes on",
        run: |ground| Box::pin(files::kinds(ground)),
    },
    Case {
        number: 117,
        name: "directories swapped for links",
        tries: "renames a link to a directory of the host over the directories that downloads are put into, all the time",
        observed: "nothing is written outside; the session goes on",
        run: |ground| Box::pin(files::swapped(ground)),
    },
    Case {
        number: 118,
        name: "descriptors handed over",
        tries: "python's sandbox passes bash's its root, /proc, /proc/self, private memory and pidfd \
                through a unix socket in the scratch",
        observed: "nothing opens through them that one's own sandbox refuses; EINVAL for the pidfd",
        run: |ground| Box::pin(sessions::descriptors(ground)),
    },
    Case {
        number: 119,
        name: "two sessions that want to meet",
        tries: "ports, abstract sockets, System V and POSIX objects, signals, files of the same name",
        observed: "ECONNREFUSED, EPERM, ENOENT; inside one session ports and abstract sockets meet",
        run: |ground| Box::pin(sessions::meeting(ground)),
    },
];
