//! Sandboxes inside the spawner: clone, map, release; then watch, kill, reap.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::pipe2;

use crate::id::{SandboxId, SpaceId};
use crate::limits::Bytes;

use super::super::cgroup::{Controller, Entrances, Group};
use super::super::child::{self, Build, ChildFds};
use super::super::error::StepError;
use super::super::plan::{Held, INNER_UID, Plan};
use super::super::spec::{Control, Exit, ExitStatus, LimitOf, SandboxSpec, Usage};
use super::super::sys::{self, Forked};
use super::super::usage::Counters;
use super::super::wire::{self, CounterKind, Message, Reply};
use super::{BUILD_DEADLINE, Spawner, owner};

/// `oom_score_adj` of a sandbox's pid 1, at least: before anything of the host, after the program.
/// As root this is also the floor for everything inside.
const INIT_OOM_SCORE: i32 = 500;
/// Longest failure a child can report; fits a pipe's atomic write.
const MAX_FAILURE: u64 = 4096;
/// Niceness of what no cgroup limits: a third of the daemon's share, sched(7).
const NICE: i32 = 5;

/// The niceness of a pid 1 that is to end: before all others of the sandbox.
const FIRST: i32 = -20;

/// A sandbox, from clone3 until its pid 1 is reaped.
pub(in super::super) struct Sandbox {
    pub(super) space: SpaceId,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    /// Until execve has succeeded.
    pub(super) building: Option<Building>,
    /// Takes the program's wait status from init.
    report: File,
    group: Option<Group>,
    /// Most memory of all its processes together.
    pub(super) memory: Bytes,
    /// Where its private memory is mounted, and once the watchdog has opened it, each tmpfs.
    pub(super) private_at: Vec<PathBuf>,
    pub(super) private: Vec<OwnedFd>,
    /// Killed by the watchdog, for this limit.
    over: Option<LimitOf>,
    /// Cpu time it had when it was killed, where no cgroup counts it: what is killed together with
    /// pid 1 leaves none to wait4.
    pub(super) cpu_time: Duration,
    /// What failed while it was built; the request is answered when it is gone.
    failed: Option<(u64, StepError)>,
}

/// A sandbox under construction.
pub(super) struct Building {
    request: u64,
    deadline: Instant,
    /// End of file when execve has succeeded, else the failed step.
    pub(super) status: File,
    /// Held until then: its end tells the child that the spawner is gone.
    _sync: File,
    fds: DaemonFds,
}

/// The daemon's ends.
struct DaemonFds {
    stdout: OwnedFd,
    stderr: OwnedFd,
    control: Vec<OwnedFd>,
    counters: Vec<(CounterKind, File)>,
}

impl Sandbox {
    /// SIGKILL to pid 1; the kernel kills the rest. Idempotent.
    pub(super) fn kill(&mut self) {
        // It has to run once more to end the others, which may be hundreds that all want to run.
        // Without privileges it waits for its turn.
        let _ = sys::set_nice(self.pid, FIRST);
        // It fails only when the process has ended.
        let _ = sys::pidfd_kill(self.pidfd.as_fd());
        if let Some(group) = &self.group {
            group.kill();
        }
    }

    /// Kills it for memory it uses beyond a limit.
    pub(super) fn kill_for_memory(&mut self, of: LimitOf) {
        self.over.get_or_insert(of);
        self.kill();
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.building.as_ref().map(|building| building.deadline)
    }

    /// Ends the construction for taking too long.
    pub(super) fn give_up(&mut self) {
        let detail = format!("not running after {} s", BUILD_DEADLINE.as_secs());
        self.fail(StepError::new("build-deadline", Errno::ETIMEDOUT, detail));
    }

    fn fail(&mut self, error: StepError) {
        if let Some(building) = self.building.take() {
            self.failed = Some((building.request, error));
        }
        self.kill();
    }

    pub(super) fn usage(&self, cpu_time: Duration) -> Usage {
        let counters = self.group.as_ref().map(Group::counters).unwrap_or_default();
        let mut usage = Counters::new(counters).read();
        // Without cgroup: what wait4 knows, which misses processes init did not reap.
        usage.cpu_time = usage.cpu_time.max(cpu_time);
        usage
    }

    /// Whether a cgroup counts its cpu time.
    pub(super) fn counts_cpu(&self) -> bool {
        self.group
            .as_ref()
            .is_some_and(|group| group.has(Controller::Cpuacct))
    }
}

/// Both ends of everything that connects a sandbox to the outside.
struct Ends {
    child: ChildFds,
    daemon: DaemonFds,
    sync: OwnedFd,
    status: OwnedFd,
    report: OwnedFd,
}

fn ends(control: Control) -> Result<Ends, Errno> {
    let pipe = || pipe2(OFlag::O_CLOEXEC);
    let (sync_child, sync) = pipe()?;
    let (status, status_child) = pipe()?;
    let (report, report_child) = pipe()?;
    let (stdout, stdout_child) = pipe()?;
    let (stderr, stderr_child) = pipe()?;
    let (daemon, child) = match control {
        Control::None => (vec![], vec![]),
        Control::Frames => {
            let (daemon, child) = socketpair(
                AddressFamily::Unix,
                SockType::Stream,
                None,
                SockFlag::SOCK_CLOEXEC,
            )?;
            (vec![daemon], vec![child])
        }
        Control::CdpPipe => {
            let (read_child, to) = pipe()?;
            let (from, write_child) = pipe()?;
            (vec![to, from], vec![read_child, write_child])
        }
    };
    // The daemon's ends and the report are never waited for; the child's block as usual.
    for fd in daemon.iter().chain([&stdout, &stderr, &report]) {
        fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    Ok(Ends {
        child: ChildFds {
            sync: sync_child,
            status: status_child,
            report: report_child,
            stdout: stdout_child,
            stderr: stderr_child,
            control: child,
            entrances: Entrances::default(),
        },
        daemon: DaemonFds {
            stdout,
            stderr,
            control: daemon,
            counters: Vec::new(),
        },
        sync,
        status,
        report,
    })
}

impl Spawner {
    /// Starts building a sandbox; `request` is answered when its program runs or it has failed.
    pub(super) fn spawn(
        &mut self,
        space: SpaceId,
        spec: &SandboxSpec,
        request: u64,
    ) -> Result<(), StepError> {
        self.build(space, spec, request, false).map(drop)
    }

    /// Builds a sandbox up to, but without, execve, and waits until it is gone.
    pub(in super::super) fn try_build(
        &mut self,
        space: SpaceId,
        spec: &SandboxSpec,
    ) -> Result<(), StepError> {
        let id = self.build(space, spec, 0, true)?;
        let Some(mut sandbox) = self.sandboxes.remove(&id) else {
            return Ok(());
        };
        let outcome = sandbox
            .building
            .as_mut()
            .map_or(Ok(()), |building| building.outcome());
        let waited = sys::wait(sandbox.pid, 0);
        if let Some(group) = &sandbox.group {
            group.remove();
        }
        outcome?;
        match waited {
            Ok(Some(ended)) if ended.status == 0 => Ok(()),
            _ => Err(StepError::new(
                "init",
                Errno::ECHILD,
                "pid 1 did not end as it should",
            )),
        }
    }

    fn build(
        &mut self,
        space_id: SpaceId,
        spec: &SandboxSpec,
        request: u64,
        probe_only: bool,
    ) -> Result<SandboxId, StepError> {
        let id = SandboxId(self.next_id());
        let space = self.space(space_id)?;
        let (image, profile) = self.images.get(&spec.image).ok_or_else(|| {
            StepError::new(
                "validate",
                Errno::ENOENT,
                format!("no image {:?}", spec.image),
            )
        })?;
        let memory_is_limited = self.cgroups.has(Controller::Memory);
        let held = Held {
            memory: memory_is_limited,
            processes: self.cgroups.has(Controller::Pids),
        };
        let plan = Plan::new(spec, &image.recipe, held)?;
        let mut ends = ends(spec.control)
            .map_err(|errno| StepError::new("descriptors", errno, "pipes and sockets"))?;
        let group = match &space.group {
            Some(parent) => Some(parent.child(&format!("box-{id}"), &spec.limits.group, false)?),
            None => None,
        };
        let undo = |error| {
            if let Some(group) = &group {
                group.remove();
            }
            error
        };
        ends.child.entrances = match &group {
            Some(group) => group.entrances().map_err(undo)?,
            None => Entrances::default(),
        };
        space.netns(spec.network).enter().map_err(undo)?;
        let forked = if self.rootless {
            sys::clone3(child::NAMESPACES)
        } else {
            owner::clone_for(space.uid)
        };
        let (pid, pidfd) = match forked {
            Ok(Forked::Child) => {
                drop((ends.sync, ends.status, ends.report));
                child::run(Build {
                    plan: &plan,
                    image,
                    profile,
                    init_profile: &self.init_profile,
                    control: spec.control,
                    scratch: &space.name,
                    ports: &space.browser_ports,
                    memory_is_limited,
                    keep_groups: self.rootless,
                    probe_only,
                    fds: ends.child,
                    oom_score: None,
                    proc: None,
                    root: None,
                })
            }
            Ok(Forked::Parent { pid, pidfd }) => (pid, pidfd),
            Err(errno) => {
                self.home.enter().map_err(undo)?;
                return Err(undo(StepError::new("clone3", errno, "new namespaces")));
            }
        };
        drop(ends.child);
        let home = self.home.enter();
        let mut sync = File::from(ends.sync);
        let released = home
            .and_then(|()| set_oom_score(pid))
            .and_then(|()| map_ids(pid, space.uid))
            .and_then(|()| self.lower_priority(pid))
            .and_then(|()| {
                sync.write_all(&[1])
                    .map_err(|error| StepError::io("release", &error, ""))
            });
        ends.daemon.counters = group.as_ref().map(Group::counters).unwrap_or_default();
        let mut sandbox = Sandbox {
            space: space_id,
            pid,
            pidfd,
            building: Some(Building {
                request,
                deadline: Instant::now() + BUILD_DEADLINE,
                status: File::from(ends.status),
                _sync: sync,
                fds: ends.daemon,
            }),
            report: File::from(ends.report),
            group,
            memory: spec.limits.group.memory,
            private_at: image.recipe.tmpfs.iter().map(|m| m.at.clone()).collect(),
            private: Vec::new(),
            over: None,
            cpu_time: Duration::ZERO,
            failed: None,
        };
        if let Err(error) = released {
            sandbox.kill();
            // It was killed before it could run anything; this only waits for the kernel.
            let _ = sys::wait(pid, 0);
            if let Some(group) = &sandbox.group {
                group.remove();
            }
            // Had it failed by itself, then that is why there was nobody to release.
            let told = sandbox.building.as_mut().map(Building::outcome);
            return told.unwrap_or(Ok(())).and(Err(error));
        }
        self.sandboxes.insert(id, sandbox);
        self.look_soon();
        Ok(id)
    }

    /// The status pipe of a sandbox under construction has something: an end, or a failure.
    pub(super) fn building_news(&mut self, id: SandboxId) -> io::Result<()> {
        let Some(sandbox) = self.sandboxes.get_mut(&id) else {
            return Ok(());
        };
        let Some(building) = &mut sandbox.building else {
            return Ok(());
        };
        if let Err(error) = building.outcome() {
            sandbox.fail(error);
            return Ok(());
        }
        let Some(Building { request, fds, .. }) = sandbox.building.take() else {
            return Ok(());
        };
        let kinds = fds.counters.iter().map(|(kind, _)| *kind).collect();
        let sent: Vec<_> = [fds.stdout.as_fd(), fds.stderr.as_fd()]
            .into_iter()
            .chain(fds.control.iter().map(AsFd::as_fd))
            .chain(fds.counters.iter().map(|(_, file)| file.as_fd()))
            .collect();
        if !self.hand_over(request, Reply::Spawned(id, kinds), &sent)?
            && let Some(sandbox) = self.sandboxes.get_mut(&id)
        {
            sandbox.kill();
        }
        Ok(())
    }

    /// pid 1 has ended: reap it, which proves that all of the sandbox is gone, and say so.
    pub(super) fn reap(&mut self, id: SandboxId) -> io::Result<()> {
        // A status that came with the end must be seen first.
        if self
            .sandboxes
            .get(&id)
            .is_some_and(|sandbox| sandbox.building.is_some())
        {
            self.building_news(id)?;
        }
        let Some(mut sandbox) = self.sandboxes.remove(&id) else {
            return Ok(());
        };
        let ended = sys::wait(sandbox.pid, 0)?;
        let cpu_time = ended.map_or(sandbox.cpu_time, |ended| {
            ended.cpu_time.max(sandbox.cpu_time)
        });
        let usage = sandbox.usage(cpu_time);
        if let Some(group) = &sandbox.group {
            group.remove();
        }
        match sandbox.failed.take() {
            Some((request, error)) => self.reply(request, Err(error))?,
            None => {
                // What the daemon asked for, or the program did, may have come at the same moment;
                // the limit is what it was killed for.
                let status = match sandbox.over {
                    Some(of) => ExitStatus::OutOfMemory(of),
                    None => program_status(&mut sandbox.report),
                };
                let exit = Exit { status, usage };
                wire::send(self.socket.as_fd(), &Message::Exited(id, exit), &[])?;
            }
        }
        let space = sandbox.space;
        drop(sandbox); // who closes the space may count our descriptors
        self.finish_closing(space)
    }
}

impl Spawner {
    /// Where nothing limits cpu, sandboxes at least come after the daemon.
    fn lower_priority(&self, pid: i32) -> Result<(), StepError> {
        if self.cgroups.has(Controller::Cpu) {
            return Ok(());
        }
        match sys::set_nice(pid, NICE) {
            // It would go up: started at a lower priority than this, without root.
            Err(Errno::EACCES) => Ok(()),
            set => set.map_err(|errno| StepError::new("priority", errno, "")),
        }
    }
}

impl Building {
    /// Reads the status pipe to its end: nothing there means that execve succeeded.
    fn outcome(&mut self) -> Result<(), StepError> {
        let mut text = Vec::new();
        let read = (&mut self.status).take(MAX_FAILURE).read_to_end(&mut text);
        read.map_err(|error| StepError::io("status", &error, "read"))?;
        if text.is_empty() {
            return Ok(());
        }
        Err(serde_json::from_slice(&text)
            .unwrap_or_else(|error| StepError::new("status", Errno::EBADMSG, error.to_string())))
    }
}

/// How the program ended, as init saw it; nothing when init itself was killed.
fn program_status(report: &mut File) -> ExitStatus {
    let mut bytes = [0; 4];
    match report.read(&mut bytes) {
        Ok(4) => {
            let status = i32::from_ne_bytes(bytes);
            match status & 0x7f {
                0 => ExitStatus::Code((status >> 8) & 0xff),
                signal => ExitStatus::Signal(signal),
            }
        }
        _ => ExitStatus::Killed,
    }
}

/// Raises the score a new pid 1 has from the daemon; never lowers it, which may need privilege.
fn set_oom_score(pid: i32) -> Result<(), StepError> {
    let path = format!("/proc/{pid}/oom_score_adj");
    let failed = |error| StepError::io("oom-score", &error, &*path);
    let inherited = fs::read_to_string(&path).map_err(failed)?;
    let inherited = inherited.trim().parse().unwrap_or(i32::MIN);
    fs::write(&path, inherited.max(INIT_OOM_SCORE).to_string()).map_err(failed)
}

/// 1000 inside is `uid` outside, and nothing else exists.
pub(in super::super) fn map_ids(pid: i32, uid: u32) -> Result<(), StepError> {
    for file in ["gid_map", "uid_map"] {
        let text = format!("{INNER_UID} {uid} 1");
        fs::write(format!("/proc/{pid}/{file}"), &text)
            .map_err(|error| StepError::io("map-ids", &error, format!("{file} = {text}")))?;
    }
    Ok(())
}
