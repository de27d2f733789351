//! What a new process does to become a sandbox, as two lists of steps run top to bottom: the
//! first by the sandbox's pid 1, the second by the program's process that it forks. A step that
//! fails ends the sandbox before anything untrusted ran, and is reported with its name.
//!
//! `docs/sandbox.md` holds the same lists; a test compares them.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::setrlimit;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Uid, chdir, execve, read, setgroups, sethostname, setresgid, setresuid, setsid,
};

use super::cgroup::Entrances;
use super::error::StepError;
use super::image::Image;
use super::init;
use super::mounts;
use super::plan::{INNER_UID, Plan};
use super::seccomp::Profile;
use super::spec::Control;
use super::{landlock, sys};

/// The namespaces every sandbox has of its own from its first instruction. The network namespace
/// is the space's, joined before; the cgroup namespace comes once the process is in its cgroup.
pub(super) const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// Where descriptors are kept while 0 to 4 are being put in place.
const HIGH_FD: RawFd = 50;

/// One step: its name in errors and in `docs/sandbox.md`, what it is for, and how it is done.
pub(super) struct Step {
    pub(super) name: &'static str,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "read by the test of docs/sandbox.md")
    )]
    pub(super) what: &'static str,
    run: fn(&mut Build<'_>) -> Result<(), StepError>,
}

/// By pid 1 of the sandbox.
pub(super) const INIT_STEPS: [Step; 18] = [
    Step {
        name: "join-cgroup",
        what: "move into the cgroup the spawner made, before there is anything to count",
        run: join_cgroup,
    },
    Step {
        name: "cgroup-namespace",
        what: "hide the path of the cgroup",
        run: cgroup_namespace,
    },
    Step {
        name: "wait-mapping",
        what: "wait until the spawner has set uid map and gid map",
        run: wait_mapping,
    },
    Step {
        name: "oom-score",
        what: "the program is killed before pid 1, and pid 1 before anything of the host",
        run: oom_score,
    },
    Step {
        name: "become-user",
        what: "no groups, gid and uid 1000",
        run: become_user,
    },
    Step {
        name: "parent-death",
        what: "die with the spawner; check that it lives",
        run: parent_death,
    },
    Step {
        name: "session",
        what: "own session and host name, umask 077, signals as at boot",
        run: session,
    },
    Step {
        name: "mount-private",
        what: "nothing mounted here is seen elsewhere",
        run: mount_private,
    },
    Step {
        name: "mount-proc",
        what: "a /proc of this pid namespace, processes only, others' hidden; nothing can be written \
               in it but where Chromium maps uids",
        run: mount_proc,
    },
    Step {
        name: "mount-root",
        what: "copy the image's read-only root, mount scratch and private memory on it",
        run: mount_root,
    },
    Step {
        name: "namespace-limits",
        what: "let no namespace be created inside beyond what the image names",
        run: namespace_limits,
    },
    Step {
        name: "pivot-root",
        what: "make it the root, drop the old one, check",
        run: pivot_root,
    },
    Step {
        name: "rlimits",
        what: "open files, file size, processes, no core, no locked memory",
        run: rlimits,
    },
    Step {
        name: "no-new-privs",
        what: "no program gains anything by being executed",
        run: no_new_privs,
    },
    Step {
        name: "securebits",
        what: "uid 0 means nothing, locked",
        run: securebits,
    },
    Step {
        name: "capabilities",
        what: "empty the bounding, ambient, inheritable, permitted and effective sets",
        run: capabilities,
    },
    Step {
        name: "undumpable",
        what: "pid 1 can be neither traced nor looked into",
        run: undumpable,
    },
    Step {
        name: "fork",
        what: "fork the program's process; pid 1 stays to reap, under its own seccomp profile",
        run: fork,
    },
];

/// By the process that becomes the program.
pub(super) const PROGRAM_STEPS: [Step; 6] = [
    Step {
        name: "program-session",
        what: "a session without a terminal",
        run: program_session,
    },
    Step {
        name: "descriptors",
        what: "0 is /dev/null, 1 and 2 pipes, 3 and 4 as asked; all others close at exec",
        run: descriptors,
    },
    Step {
        name: "landlock",
        what: "second fence round files, TCP ports, signals",
        run: confine,
    },
    Step {
        name: "directory",
        what: "enter the working directory",
        run: directory,
    },
    Step {
        name: "seccomp",
        what: "install the profile's filters",
        run: seccomp,
    },
    Step {
        name: "execve",
        what: "become the program",
        run: exec,
    },
];

/// What the steps work on.
pub(super) struct Build<'a> {
    pub(super) plan: &'a Plan,
    pub(super) image: &'a Image,
    pub(super) profile: &'a Profile,
    pub(super) init_profile: &'a Profile,
    pub(super) control: Control,
    /// Name of the scratch on the stage.
    pub(super) scratch: &'a str,
    /// Ports the browser may connect to.
    pub(super) ports: &'a [u16],
    pub(super) memory_is_limited: bool,
    /// Whether setgroups may be forbidden (rootless: the kernel demands that it is).
    pub(super) keep_groups: bool,
    /// Ends before the program is executed: the spawner's test of the host.
    pub(super) probe_only: bool,
    pub(super) fds: ChildFds,
    /// `oom_score_adj` of pid 1, and what it is again once the program has inherited the highest.
    pub(super) oom_score: Option<(File, String)>,
    pub(super) proc: Option<OwnedFd>,
    pub(super) root: Option<OwnedFd>,
}

/// The child's ends.
pub(super) struct ChildFds {
    /// One byte comes when the ids are mapped; end of file when the spawner is gone.
    pub(super) sync: OwnedFd,
    /// Takes the failed step; closed by a successful execve.
    pub(super) status: OwnedFd,
    /// Takes the program's wait status from init.
    pub(super) report: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// Becomes 3 and up.
    pub(super) control: Vec<OwnedFd>,
    /// Of its cgroup.
    pub(super) entrances: Entrances,
}

/// Runs the steps in a process that clone3 just made; never returns.
pub(super) fn run(mut build: Build<'_>) -> ! {
    let failed = INIT_STEPS
        .iter()
        .find_map(|step| (step.run)(&mut build).err().map(|error| (step.name, error)));
    if let Some((name, error)) = failed {
        report_failure(&build, name, error);
    }
    // Only an init whose program has ended comes here.
    sys::exit_now(0)
}

fn run_program(build: &mut Build<'_>) -> ! {
    for step in &PROGRAM_STEPS {
        if let Err(error) = (step.run)(build) {
            report_failure(build, step.name, error);
        }
    }
    sys::exit_now(0)
}

fn report_failure(build: &Build<'_>, step: &str, mut error: StepError) -> ! {
    if error.step != step && !error.step.is_empty() {
        error.detail = format!("{}: {}", error.step, error.detail);
    }
    step.clone_into(&mut error.step);
    let bytes = serde_json::to_vec(&error).unwrap_or_default();
    // If the spawner is gone there is no one to tell; the exit itself is what counts.
    let _ = File::from(match build.fds.status.try_clone() {
        Ok(fd) => fd,
        Err(_) => sys::exit_now(1),
    })
    .write_all(&bytes);
    sys::exit_now(1)
}

fn fail(detail: &str) -> impl FnOnce(Errno) -> StepError + '_ {
    move |errno| StepError::new("", errno, detail)
}

fn join_cgroup(build: &mut Build<'_>) -> Result<(), StepError> {
    std::mem::take(&mut build.fds.entrances).join()
}

fn wait_mapping(build: &mut Build<'_>) -> Result<(), StepError> {
    match read(&build.fds.sync, &mut [0]) {
        Ok(1) => Ok(()),
        Ok(_) => Err(StepError::new("", Errno::EPIPE, "the spawner is gone")),
        Err(errno) => Err(fail("read")(errno)),
    }
}

fn cgroup_namespace(_: &mut Build<'_>) -> Result<(), StepError> {
    unshare(CloneFlags::CLONE_NEWCGROUP).map_err(fail("unshare"))
}

fn write(path: &str, value: &str) -> Result<(), StepError> {
    fs::write(path, value).map_err(|error| StepError::io("", &error, format!("{path} = {value}")))
}

/// The program inherits the highest score; [`fork`] takes pid 1 back to the one the spawner set.
/// Who lowers its score needs no privilege down to the value that one with privilege set last.
fn oom_score(build: &mut Build<'_>) -> Result<(), StepError> {
    const PATH: &str = "/proc/self/oom_score_adj";
    let failed = |error| StepError::io("", &error, PATH);
    let own = fs::read_to_string(PATH).map_err(failed)?;
    let options = File::options().write(true).open(PATH);
    let mut file = options.map_err(failed)?;
    file.write_all(b"1000").map_err(failed)?;
    build.oom_score = Some((file, own));
    Ok(())
}

/// After the mounts: a detached mount needs a mount namespace for itself.
fn namespace_limits(build: &mut Build<'_>) -> Result<(), StepError> {
    build
        .plan
        .namespace_limits
        .iter()
        .try_for_each(|(file, value)| write(&format!("/proc/sys/user/{file}"), &value.to_string()))
}

fn become_user(build: &mut Build<'_>) -> Result<(), StepError> {
    match setgroups(&[]) {
        Err(Errno::EPERM) if build.keep_groups => {}
        other => other.map_err(fail("setgroups"))?,
    }
    let (uid, gid) = (Uid::from_raw(INNER_UID), Gid::from_raw(INNER_UID));
    setresgid(gid, gid, gid).map_err(fail("setresgid"))?;
    setresuid(uid, uid, uid).map_err(fail("setresuid"))
}

/// After the change of uid, which clears it.
fn parent_death(build: &mut Build<'_>) -> Result<(), StepError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(fail("prctl"))?;
    let mut watched = [PollFd::new(build.fds.sync.as_fd(), PollFlags::POLLIN)];
    let gone = poll(&mut watched, PollTimeout::ZERO).map_err(fail("poll"))?;
    if gone != 0 {
        return Err(StepError::new("", Errno::EPIPE, "the spawner is gone"));
    }
    Ok(())
}

fn session(_: &mut Build<'_>) -> Result<(), StepError> {
    setsid().map_err(fail("setsid"))?;
    umask(Mode::from_bits_truncate(0o077));
    sys::reset_signals();
    sethostname("pagebox").map_err(fail("sethostname"))
}

fn mount_private(_: &mut Build<'_>) -> Result<(), StepError> {
    mounts::make_private()
}

fn mount_proc(build: &mut Build<'_>) -> Result<(), StepError> {
    if build.image.recipe.proc {
        let read_only = build.image.recipe.namespaces.user == 0;
        build.proc = Some(mounts::new_proc(read_only)?);
    }
    Ok(())
}

fn mount_root(build: &mut Build<'_>) -> Result<(), StepError> {
    let image = build.image;
    let root = mounts::private_root(
        &image.name,
        &image.recipe,
        build.scratch,
        build.proc.as_ref(),
    )?;
    build.root = Some(root);
    Ok(())
}

fn pivot_root(build: &mut Build<'_>) -> Result<(), StepError> {
    let root = build
        .root
        .take()
        .ok_or_else(|| fail("no root")(Errno::EINVAL))?;
    build.proc = None;
    mounts::pivot(root.as_fd())
}

fn rlimits(build: &mut Build<'_>) -> Result<(), StepError> {
    build.plan.rlimits.iter().try_for_each(|(resource, value)| {
        setrlimit(*resource, *value, *value).map_err(fail(&format!("{resource:?} = {value}")))
    })
}

fn no_new_privs(_: &mut Build<'_>) -> Result<(), StepError> {
    prctl::set_no_new_privs().map_err(fail("prctl"))
}

fn securebits(_: &mut Build<'_>) -> Result<(), StepError> {
    lock_securebits()
}

/// uid 0 means nothing from here on, and that cannot be undone.
pub(super) fn lock_securebits() -> Result<(), StepError> {
    // NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE set, KEEP_CAPS not; all four locked.
    const BITS: u64 = 0b1110_1111;
    sys::prctl(libc::PR_SET_SECUREBITS, BITS, 0)
        .map(drop)
        .map_err(fail("prctl"))
}

fn capabilities(_: &mut Build<'_>) -> Result<(), StepError> {
    empty_capabilities()
}

/// Empties all five sets of this thread.
pub(super) fn empty_capabilities() -> Result<(), StepError> {
    // Every number the kernel knows: it refuses the first one beyond.
    for capability in 0..64 {
        match sys::prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            Ok(_) => {}
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(fail("bounding set")(errno)),
        }
    }
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as u64;
    sys::prctl(libc::PR_CAP_AMBIENT, clear, 0).map_err(fail("ambient set"))?;
    sys::drop_capabilities().map_err(fail("capset"))
}

fn undumpable(_: &mut Build<'_>) -> Result<(), StepError> {
    prctl::set_dumpable(false).map_err(fail("prctl"))
}

fn fork(build: &mut Build<'_>) -> Result<(), StepError> {
    match sys::fork().map_err(fail("fork"))? {
        None => run_program(build),
        Some(program) => {
            if let Some((mut file, own)) = build.oom_score.take() {
                file.write_all(own.trim().as_bytes())
                    .map_err(|error| StepError::io("", &error, "oom_score_adj"))?;
            }
            init::run(program, &build.fds.report, build.init_profile)
        }
    }
}

fn program_session(_: &mut Build<'_>) -> Result<(), StepError> {
    setsid().map(drop).map_err(fail("setsid"))
}

fn descriptors(build: &mut Build<'_>) -> Result<(), StepError> {
    let lift = |fd: &OwnedFd| {
        fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(HIGH_FD))
            .map(sys::owned)
            .map_err(fail("fcntl"))
    };
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let null = open("/dev/null", flags, Mode::empty()).map_err(fail("/dev/null"))?;
    let fds = &build.fds;
    let placed: Vec<OwnedFd> = [&null, &fds.stdout, &fds.stderr]
        .into_iter()
        .chain(&fds.control)
        .map(lift)
        .collect::<Result<_, _>>()?;
    // The only one that is needed until execve and may lie where another is about to go.
    build.fds.status = lift(&build.fds.status)?;
    for (at, fd) in (0..).zip(&placed) {
        sys::place_fd(fd.as_fd(), at).map_err(fail("dup2"))?;
    }
    sys::cloexec_from(build.control.first_closed()).map_err(fail("close_range"))
}

fn confine(build: &mut Build<'_>) -> Result<(), StepError> {
    landlock::confine(&build.image.recipe, build.ports)
        .map_err(|error| StepError::new("", Errno::UnknownErrno, error))
}

fn directory(build: &mut Build<'_>) -> Result<(), StepError> {
    chdir(&*build.plan.cwd).map_err(fail(&build.plan.cwd.to_string_lossy()))
}

fn seccomp(build: &mut Build<'_>) -> Result<(), StepError> {
    build
        .profile
        .install(build.memory_is_limited)
        .map_err(|error| StepError::new("", Errno::UnknownErrno, error.to_string()))
}

fn exec(build: &mut Build<'_>) -> Result<(), StepError> {
    if build.probe_only {
        sys::exit_now(0);
    }
    let program = &build.plan.argv[0];
    match execve(program, &build.plan.argv, &build.plan.env) {
        Ok(never) => match never {},
        Err(errno) => Err(fail(&program.to_string_lossy())(errno)),
    }
}
