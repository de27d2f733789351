//! The scratch, as the hub needs it: where the browser may read and write for a client.

use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use crate::cdp::Files;
use crate::sandbox::Space;

/// The directories code and browser share.
const SHARED: [&str; 2] = ["/tmp", "/workspace"];

/// [`Files`] over a session's scratch.
#[derive(Debug)]
pub struct ScratchFiles {
    space: Arc<Space>,
}

impl ScratchFiles {
    /// Files of this space.
    #[must_use]
    pub fn new(space: Arc<Space>) -> Self {
        Self { space }
    }
}

/// Whether a path lies in a shared directory whatever its spelling: no `..`, no relative path.
fn is_shared(path: &Path) -> bool {
    SHARED.iter().any(|root| path.starts_with(root))
        && path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

impl Files for ScratchFiles {
    fn allowed(&self, path: &Path) -> bool {
        is_shared(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.space
            .scratch()
            .create_dir_all(path)
            .map_err(io::Error::other)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.space
            .scratch()
            .rename(from, to)
            .map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_scratch_is_shared() {
        for (path, shared) in [
            ("/tmp/a.png", true),
            ("/workspace", true),
            ("/workspace/a/b", true),
            ("/tmp/../etc/passwd", false),
            ("/tmpfile", false),
            ("tmp/a", false),
            ("/etc/passwd", false),
            ("/proc/self/environ", false),
        ] {
            assert_eq!(is_shared(Path::new(path)), shared, "{path}");
        }
    }
}
