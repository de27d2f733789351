//! How tests and benchmarks of sandboxes set up the real spawner and its spaces.

use std::ops::Range;
use std::path::{Path, PathBuf};

use pagebox::config::Config;
use pagebox::limits::Bytes;
use pagebox::sandbox::{CgroupMode, GroupLimits, SpaceSpec, SpawnerConfig, Weakening};
use pagebox::server::read_images;

/// The images this repository ships.
pub(crate) fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sandbox-images")
}

/// For a spawner with the images of a directory and uids of its own. What this host lacks is allowed.
pub(crate) fn config(images: &Path, uids: Range<u32>) -> SpawnerConfig {
    let files = Config {
        images: Some(images.to_owned()),
        runners: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("runners")),
        ..Config::default()
    };
    SpawnerConfig {
        executable: Some(PathBuf::from(env!("CARGO_BIN_EXE_pagebox"))),
        images: read_images(&files).expect("the images of this host"),
        allow_degraded: vec![Weakening::SharedUid, Weakening::NoCgroup],
        uid_base: uids.start,
        uid_count: uids.end - uids.start,
        cgroups: CgroupMode::Auto,
    }
}

/// A space with listeners where a session has them.
pub(crate) fn space_spec(limits: GroupLimits) -> SpaceSpec {
    SpaceSpec {
        scratch: Bytes::mib(64),
        scratch_inodes: 1000,
        browser_data: Bytes::mib(512),
        browser_data_inodes: 16_384,
        limits,
        runner_ports: vec![9222, 3128],
        browser_ports: vec![3128],
    }
}
