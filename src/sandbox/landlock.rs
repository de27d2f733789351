//! Landlock: a second fence round the files, TCP ports and signals of a sandbox's programs.
//!
//! The mounts already decide what exists; this holds even if one of them were wrong.

use std::fs::File;
use std::net::TcpStream;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope,
};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::getppid;

use super::image::Recipe;
use super::sys;

/// The ABI with network rules and scopes; below it the host is reported as degraded.
pub(super) const FULL_ABI: i32 = 6;

/// The best ABI that kernel and library share; `None` without Landlock.
fn abi() -> Option<ABI> {
    Some(match sys::landlock_abi() {
        ..=0 => return None,
        1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        6 => ABI::V6,
        _ => ABI::V7,
    })
}

/// Confines this process for good: read and execute everywhere (or only where the image says),
/// write only where something writable is mounted, TCP and signals by the image. Does nothing
/// without Landlock, which the spawner only allows when the operator did.
pub(super) fn confine(recipe: &Recipe, ports: &[u16]) -> Result<(), String> {
    match abi() {
        Some(abi) => restrict(abi, recipe, ports).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

fn restrict(abi: ABI, recipe: &Recipe, ports: &[u16]) -> Result<(), Box<dyn std::error::Error>> {
    let tcp = recipe.landlock.tcp_listeners_only && abi >= ABI::V4;
    let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(abi))?;
    if tcp {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi))?;
    }
    if abi >= ABI::V6 {
        ruleset = ruleset.scope(Scope::from_all(abi))?;
    }
    let mut ruleset = ruleset.create()?;
    let read = AccessFs::from_read(abi);
    let all = AccessFs::from_all(abi);
    let mut rules: Vec<(&Path, BitFlags<AccessFs>)> = Vec::new();
    match &recipe.landlock.execute {
        None => rules.push((Path::new("/"), read)),
        Some(paths) => {
            rules.push((Path::new("/"), read & !AccessFs::Execute));
            rules.extend(paths.iter().map(|path| (&**path, read)));
        }
    }
    let writable = recipe
        .tmpfs
        .iter()
        .map(|mount| (&*mount.at, mount.exec))
        .chain(
            recipe
                .scratch
                .iter()
                .filter(|mount| !mount.read_only)
                .map(|mount| (&*mount.at, mount.exec)),
        );
    for (path, exec) in writable {
        let access = if exec { all } else { all & !AccessFs::Execute };
        rules.push((path, access));
    }
    if recipe.proc && recipe.namespaces.user > 0 {
        // What may be written there is the kernel's decision per file: uid maps, oom scores.
        rules.push((Path::new("/proc"), AccessFs::WriteFile.into()));
    }
    // Not the one of zeros: what a program maps of it, shared and writable, is memory that neither
    // RLIMIT_DATA counts nor, once it is unmapped page by page, the watchdog sees.
    let devices: Vec<_> = recipe
        .devices
        .iter()
        .filter(|name| *name != "zero")
        .map(|name| Path::new("/dev").join(name))
        .collect();
    rules.extend(
        devices
            .iter()
            .map(|path| (&**path, AccessFs::WriteFile.into())),
    );
    for (path, access) in rules {
        match PathFd::new(path) {
            Ok(fd) => ruleset = ruleset.add_rule(PathBeneath::new(fd, access))?,
            // An optional part of the image that this host does not have.
            Err(_) if !path.exists() => {}
            Err(error) => return Err(error.into()),
        }
    }
    if tcp {
        for port in ports {
            ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
    }
    ruleset.restrict_self()?;
    Ok(())
}

/// One thing Landlock stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fence {
    Files,
    Network,
    Signals,
}

impl Fence {
    /// The ABI that first has it.
    pub(super) fn since(self) -> i32 {
        match self {
            Self::Files => 1,
            Self::Network => 4,
            Self::Signals => FULL_ABI,
        }
    }
}

/// Confines this process by one fence with no opening, and makes sure that it stops something that
/// worked before.
pub(super) fn refuses(fence: Fence) -> Result<(), String> {
    let abi = abi().ok_or("not in this kernel")?;
    // What a refused call says; `None` when it is not refused.
    let tried = || match fence {
        Fence::Files => File::open("/proc/self/status").err(),
        Fence::Network => TcpStream::connect(("127.0.0.1", 1)).err(),
        Fence::Signals => kill(getppid(), None).err().map(Into::into),
    };
    let denied = match fence {
        Fence::Files | Fence::Network => Errno::EACCES,
        Fence::Signals => Errno::EPERM,
    };
    let is_denied = |error: Option<std::io::Error>| {
        error.and_then(|error| error.raw_os_error()) == Some(denied as i32)
    };
    if is_denied(tried()) {
        return Err("refused before any rule was set".to_owned());
    }
    let ruleset = Ruleset::default();
    let ruleset = match fence {
        Fence::Files => ruleset.handle_access(AccessFs::from_all(abi)),
        Fence::Network => ruleset.handle_access(AccessNet::from_all(abi)),
        Fence::Signals => ruleset.scope(Scope::from_all(abi)),
    };
    ruleset
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(|error| error.to_string())?;
    match is_denied(tried()) {
        true => Ok(()),
        false => Err("what has no rule is not refused".to_owned()),
    }
}
