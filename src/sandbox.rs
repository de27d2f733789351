//! Sandboxes: isolated process trees, built by the spawner.
//!
//! The interface the layers above use. It knows nothing of sessions, browsers or languages.
//!
//! ```text
//! daemon                                  spawner (one thread, started before tokio)
//!   client, usage   <-- SEQPACKET, wire -->  spawner: spaces, sandboxes
//!   process: start_spawner                     plan (pure), probe
//!                                              cgroup, network, mounts
//!                                              child: the steps of a sandbox -> init
//!                                                seccomp, landlock
//! spec, image, error: data both have          sys: every unsafe call
//! ```
//!
//! `docs/sandbox.md` explains the steps, images, profiles and limits.

mod allocator;
mod cgroup;
mod child;
mod client;
mod error;
mod image;
mod init;
mod landlock;
mod memory;
mod mounts;
mod network;
mod open_files;
mod plan;
mod probe;
mod process;
#[cfg(any(test, fuzzing))]
pub(crate) mod property;
mod seccomp;
mod spawner;
mod spec;
mod sys;
mod usage;
mod wire;

pub use allocator::return_large_buffers;
pub use client::{ControlEnd, Sandbox, Sandboxes, Scratch, Space};
pub use error::{Error, StepError};
pub use image::{Image, Listing, Seen, SeenKind};
pub use memory::memory_left;
pub use open_files::raise_open_files;
pub use process::{SpawnerProcess, drop_privileges, start_spawner};
pub use spawner::{is_spawner, spawner_main};
pub use spec::{
    CgroupMode, Control, Exit, ExitStatus, GroupLimits, HostReport, IpFamily, LimitOf, Network,
    Probe, ProbeState, SandboxLimits, SandboxSpec, SpaceSpec, SpawnerConfig, Usage, Weakening,
    Weight,
};

#[cfg(test)]
mod tests;
