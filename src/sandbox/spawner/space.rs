//! Spaces inside the spawner: a uid, a scratch, two network namespaces, a cgroup.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

use crate::id::SpaceId;
use crate::limits::Bytes;

use super::super::cgroup::Group;
use super::super::error::StepError;
use super::super::mounts::{self, ScratchMounts};
use super::super::network::{self, Netns};
use super::super::plan;
use super::super::spec::{IpFamily, Network, SpaceSpec, Weight};
use super::super::wire::{FileOperation, Reply};
use super::{Spawner, files, watchdog};

pub(in super::super) struct Space {
    /// As the spawner sees it; 1000 inside.
    pub(super) uid: u32,
    /// Its scratch on the stage, and its cgroup.
    pub(super) name: String,
    scratch: ScratchMounts,
    runner: Netns,
    browser: Netns,
    pub(super) browser_ports: Vec<u16>,
    pub(super) group: Option<Group>,
    /// Most memory of all its sandboxes together.
    pub(super) memory: Bytes,
    /// The request to answer when it is gone.
    pub(super) closing: Option<u64>,
}

impl Space {
    pub(super) fn netns(&self, network: Network) -> &Netns {
        match network {
            Network::Browser => &self.browser,
            Network::Runner => &self.runner,
        }
    }

    /// Without a group there is nothing to weigh.
    pub(super) fn weigh(&self, weight: Weight) -> Result<(), StepError> {
        (self.group.as_ref()).map_or(Ok(()), |group| group.weigh(weight))
    }

    pub(super) fn file(&self, operation: &FileOperation) -> Result<Option<File>, StepError> {
        files::as_user(self.uid, || files::run(&self.scratch.shared, operation))
    }

    /// What its scratch and its browser's data hold; it is memory that belongs to no process.
    pub(super) fn scratch_used(&self) -> Bytes {
        let ScratchMounts { shared, browser } = &self.scratch;
        Bytes(watchdog::used(shared).0 + watchdog::used(browser).0)
    }

    /// Takes everything away; its sandboxes are gone already.
    pub(super) fn remove(self) {
        if let Some(group) = &self.group {
            group.remove();
        }
        // A scratch that stays behind is unreachable and ends with the spawner; nothing to do.
        if let Err(error) = mounts::remove_scratch(&self.name) {
            eprintln!("pagebox spawner: {error}");
        }
    }
}

impl Spawner {
    pub(in super::super) fn create_space(
        &mut self,
        spec: SpaceSpec,
    ) -> Result<(SpaceId, Vec<TcpListener>), StepError> {
        plan::check_space(&spec)?;
        let uid = self.free_uid()?;
        let id = SpaceId(self.next_id());
        let name = format!("space-{id}");
        let made = self.networks(&spec);
        self.home.enter()?;
        let (runner, browser, listeners) = made?;
        let group = match self.cgroups.top() {
            Some(top) => Some(top.child(&name, &spec.limits, true)?),
            None => None,
        };
        let scratch = mounts::make_scratch(&name, uid, &spec).inspect_err(|_| {
            if let Some(group) = &group {
                group.remove();
            }
        })?;
        let space = Space {
            uid,
            name,
            scratch,
            runner,
            browser,
            browser_ports: spec.browser_ports,
            group,
            memory: spec.limits.memory,
            closing: None,
        };
        self.spaces.insert(id, space);
        Ok((id, listeners))
    }

    fn free_uid(&mut self) -> Result<u32, StepError> {
        if self.rootless {
            return Ok(0);
        }
        let spaces = &self.spaces;
        self.uids
            .take(|uid| spaces.values().any(|space| space.uid == uid))
            .ok_or_else(|| StepError::new("uid", Errno::EAGAIN, "every uid is in use"))
    }

    /// Both namespaces with their listeners, the runners' first. The caller goes back home.
    fn networks(&self, spec: &SpaceSpec) -> Result<(Netns, Netns, Vec<TcpListener>), StepError> {
        let mut listeners = Vec::new();
        let runner = Netns::enter_new()?;
        for port in &spec.runner_ports {
            listeners.push(network::listener(*port)?);
        }
        let browser = Netns::enter_new()?;
        for port in &spec.browser_ports {
            listeners.push(network::listener(*port)?);
        }
        Ok((runner, browser, listeners))
    }

    /// A TCP socket of the runners' namespace.
    pub(super) fn runner_socket(
        &self,
        id: SpaceId,
        family: IpFamily,
    ) -> Result<OwnedFd, StepError> {
        let space = self.space(id)?;
        space.runner.enter()?;
        let socket = network::tcp_socket(family);
        self.home.enter()?;
        socket
    }

    /// Kills what runs in a space; answers `request` when nothing is left.
    pub(super) fn close_space(&mut self, id: SpaceId, request: u64) -> io::Result<()> {
        match self.spaces.get_mut(&id) {
            Some(space) if space.closing.is_none() => space.closing = Some(request),
            _ => return self.reply(request, Ok(Reply::Done)),
        }
        for sandbox in self.sandboxes.values_mut() {
            if sandbox.space == id {
                sandbox.kill();
            }
        }
        self.finish_closing(id)
    }

    /// Removes a space that has no sandbox.
    pub(in super::super) fn remove_space(&mut self, id: SpaceId) {
        if let Some(space) = self.spaces.remove(&id) {
            space.remove();
        }
    }

    /// Removes a closing space once its last sandbox is gone.
    pub(super) fn finish_closing(&mut self, id: SpaceId) -> io::Result<()> {
        let closing = self.spaces.get(&id).and_then(|space| space.closing);
        let (Some(request), false) = (
            closing,
            self.sandboxes.values().any(|sandbox| sandbox.space == id),
        ) else {
            return Ok(());
        };
        self.remove_space(id);
        self.reply(request, Ok(Reply::Done))
    }
}
