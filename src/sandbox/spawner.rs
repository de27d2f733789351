//! The spawner process: one thread, no tokio, an empty environment. It builds spaces and
//! sandboxes on request, reaps them, and ends with everything it made when the daemon does.
//!
//! ```text
//! sandbox:  building --status pipe closed--> running --pid 1 reaped--> gone (Exited is sent)
//!              '--failed step / deadline--> killed --reaped--> gone (the request fails)
//! space:    open --CloseSpace--> closing --last sandbox gone--> gone (the request is answered)
//! ```
//!
//! It takes only typed requests, checks them again (`plan`), and never acts on a path made up
//! elsewhere other than below a scratch.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::id::{SandboxId, SpaceId};

use self::processes::Finder;
use self::space::Space;
use super::cgroup::Cgroups;
use super::error::StepError;
use super::image::Image;
use super::network::Netns;
use super::seccomp::{self, Profile};
use super::wire::{self, Command, Message, Reply, Request};
use super::{mounts, sys};

mod files;
mod owner;
mod processes;
mod sandbox;
mod space;
mod start;
mod watchdog;

pub(super) use self::sandbox::{Sandbox, map_ids};
pub(super) use self::start::{ARGV0, own_user_namespace};
pub use self::start::{is_spawner, spawner_main};

/// A sandbox that is not running this long after clone3 is given up: a build takes milliseconds,
/// a first exec of a large program from a cold disk seconds.
const BUILD_DEADLINE: Duration = Duration::from_secs(20);
/// How long a reply may wait for a daemon that does not read: longer means it is stuck, and the
/// spawner ends rather than stop reaping.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// By name, each with its compiled seccomp profile.
type Images = BTreeMap<String, (Image, Profile)>;

/// Everything the process holds.
pub(super) struct Spawner {
    socket: OwnedFd,
    daemon: OwnedFd,
    pub(super) images: Images,
    init_profile: Profile,
    pub(super) cgroups: Cgroups,
    /// Started without root: one uid for all.
    pub(super) rootless: bool,
    /// The spawner's own, empty network namespace.
    home: Netns,
    /// uids given to spaces: the first, how many, and where the search for a free one starts.
    uids: UidPool,
    spaces: BTreeMap<SpaceId, Space>,
    sandboxes: BTreeMap<SandboxId, Sandbox>,
    next_id: u64,
    /// Which processes are of which sandbox, and when the watchdog looks at them.
    finder: Finder,
    look_at: Instant,
}

/// uids of live spaces. One is used again only when its space is gone, and as late as possible.
pub(super) struct UidPool {
    base: u32,
    count: u32,
    next: u32,
}

impl UidPool {
    fn take(&mut self, used: impl Fn(u32) -> bool) -> Option<u32> {
        let uid = (0..self.count)
            .map(|step| self.base + (self.next + step) % self.count)
            .find(|uid| !used(*uid))?;
        self.next = (uid - self.base + 1) % self.count;
        Some(uid)
    }
}

impl Spawner {
    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Serves until the daemon is gone or asks to end.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let events = self.wait()?;
            if events.daemon_gone {
                return Ok(());
            }
            for id in events.status {
                self.building_news(id)?;
            }
            for id in events.ended {
                self.reap(id)?;
            }
            if events.request {
                match wire::receive::<Request>(&self.socket)? {
                    None => return Ok(()),
                    Some((
                        Request {
                            id,
                            command: Command::Shutdown,
                        },
                        _,
                    )) => {
                        self.end_all();
                        return self.reply(id, Ok(Reply::Done));
                    }
                    Some((request, _)) => self.request(request)?,
                }
            }
            self.expire();
            self.look();
        }
    }

    fn wait(&self) -> io::Result<Events> {
        let mut watched = vec![
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.daemon.as_fd(), PollFlags::POLLIN),
        ];
        let mut what = Vec::new();
        for (id, sandbox) in &self.sandboxes {
            watched.push(PollFd::new(sandbox.pidfd.as_fd(), PollFlags::POLLIN));
            what.push((*id, false));
            if let Some(building) = &sandbox.building {
                watched.push(PollFd::new(building.status.as_fd(), PollFlags::POLLIN));
                what.push((*id, true));
            }
        }
        let builds = self.sandboxes.values().filter_map(Sandbox::deadline);
        let deadline = builds.chain(self.next_look()).min();
        let timeout = deadline.map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut watched, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<bool> = watched.iter().map(|fd| fd.any() != Some(false)).collect();
        let mut events = Events {
            request: ready[0],
            daemon_gone: ready[1],
            ..Events::default()
        };
        for ((id, is_status), ready) in what.into_iter().zip(&ready[2..]) {
            match (ready, is_status) {
                (false, _) => {}
                (true, true) => events.status.push(id),
                (true, false) => events.ended.push(id),
            }
        }
        Ok(events)
    }

    fn request(&mut self, request: Request) -> io::Result<()> {
        let id = request.id;
        match request.command {
            Command::CreateSpace(spec) => match self.create_space(spec) {
                Ok((space, listeners)) => {
                    let fds: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
                    if !self.hand_over(id, Reply::Space(space), &fds)? {
                        self.remove_space(space);
                    }
                    Ok(())
                }
                Err(error) => self.reply(id, Err(error)),
            },
            Command::CloseSpace(space) => self.close_space(space, id),
            Command::Weigh(space, weight) => {
                let done = self.space(space).and_then(|space| space.weigh(weight));
                self.reply(id, done.map(|()| Reply::Done))
            }
            Command::Spawn(space, spec) => match self.spawn(space, &spec, id) {
                Ok(()) => Ok(()), // answered when it runs, or has failed and is gone
                Err(error) => self.reply(id, Err(error)),
            },
            Command::Kill(sandbox) => {
                self.kill(sandbox);
                self.reply(id, Ok(Reply::Done))
            }
            Command::Usage(sandbox) => {
                let usage = self.usage_of(sandbox);
                self.reply(id, Ok(Reply::Usage(usage)))
            }
            Command::RunnerSocket(space, family) => match self.runner_socket(space, family) {
                Ok(socket) => self.hand_over(id, Reply::Fd, &[socket.as_fd()]).map(drop),
                Err(error) => self.reply(id, Err(error)),
            },
            Command::File(space, operation) => {
                let done = self.space(space).and_then(|space| space.file(&operation));
                match done {
                    Ok(Some(file)) => self.hand_over(id, Reply::Fd, &[file.as_fd()]).map(drop),
                    Ok(None) => self.reply(id, Ok(Reply::Done)),
                    Err(error) => self.reply(id, Err(error)),
                }
            }
            Command::Shutdown => Ok(()), // answered by the loop, which ends with it
        }
    }

    fn reply(&self, id: u64, result: Result<Reply, StepError>) -> io::Result<()> {
        wire::send(self.socket.as_fd(), &Message::Reply(id, result), &[])
    }

    /// Answers with descriptors. False when the kernel lets none through, which fails this request
    /// only: without root, the descriptors that any session has under way count for our user too.
    fn hand_over(&self, id: u64, reply: Reply, fds: &[BorrowedFd<'_>]) -> io::Result<bool> {
        match wire::send(self.socket.as_fd(), &Message::Reply(id, Ok(reply)), fds) {
            Err(error) if error.raw_os_error() == Some(Errno::ETOOMANYREFS as i32) => {
                let detail = "too many descriptors of this user are under way in sockets";
                let error = StepError::new("hand-over", Errno::ETOOMANYREFS, detail);
                self.reply(id, Err(error)).map(|()| false)
            }
            sent => sent.map(|()| true),
        }
    }

    fn space(&self, id: SpaceId) -> Result<&Space, StepError> {
        match self.spaces.get(&id) {
            Some(space) if space.closing.is_none() => Ok(space),
            _ => Err(StepError::new(
                "validate",
                Errno::ENOENT,
                format!("no space {id}"),
            )),
        }
    }

    /// Kills what takes too long to build.
    fn expire(&mut self) {
        let now = Instant::now();
        for sandbox in self.sandboxes.values_mut() {
            if sandbox.deadline().is_some_and(|at| at <= now) {
                sandbox.give_up();
            }
        }
    }

    /// Ends everything; nothing of it is left afterwards.
    fn end_all(&mut self) {
        for sandbox in self.sandboxes.values_mut() {
            sandbox.kill();
        }
        for (_, sandbox) in std::mem::take(&mut self.sandboxes) {
            // Reaping pid 1 is what proves that its processes are gone; it was killed above.
            let _ = sys::wait(sandbox.pid, 0);
        }
        for (_, space) in std::mem::take(&mut self.spaces) {
            space.remove();
        }
        if let Some(group) = self.cgroups.top() {
            group.remove();
        }
    }
}

#[derive(Default)]
struct Events {
    request: bool,
    daemon_gone: bool,
    /// Sandboxes whose status pipe has something.
    status: Vec<SandboxId>,
    /// Sandboxes whose pid 1 has ended.
    ended: Vec<SandboxId>,
}

/// Compiles the seccomp profile of every image.
fn compile(images: Vec<Image>) -> Result<(Images, Profile), StepError> {
    let bad = |name: &str, reason: String| {
        StepError::new("seccomp", Errno::EINVAL, format!("{name}: {reason}"))
    };
    let init = seccomp::compile(seccomp::INIT).map_err(|reason| bad("init", reason))?;
    let mut compiled = BTreeMap::new();
    for image in images {
        let profile =
            seccomp::compile(&image.seccomp).map_err(|reason| bad(&image.name, reason))?;
        compiled.insert(image.name.clone(), (image, profile));
    }
    mounts::enter_stage(compiled.values().map(|(image, _)| image))?;
    Ok((compiled, init))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_in_use_is_never_given_again_and_a_free_one_late() {
        let mut pool = UidPool {
            base: 100,
            count: 3,
            next: 0,
        };
        assert_eq!(pool.take(|_| false), Some(100));
        assert_eq!(pool.take(|uid| uid == 100), Some(101));
        assert_eq!(pool.take(|uid| uid == 101), Some(102));
        assert_eq!(pool.take(|uid| uid == 102), Some(100));
        assert_eq!(pool.take(|uid| uid < 102), Some(102));
        assert_eq!(pool.take(|_| true), None);
    }
}
