//! The scratch, as the hub needs it: where the browser may read and write for a client.

use std::io;
use std::path::{Component, Path};

use tokio::runtime::Handle;

use crate::cdp::Files;
use crate::sandbox::{self, Scratch};

/// The directories code and browser share.
const SHARED: [&str; 2] = ["/tmp", "/workspace"];

/// [`Files`] over a session's scratch.
#[derive(Debug)]
pub struct ScratchFiles {
    scratch: Scratch,
    /// Whose threads run the calls.
    runtime: Handle,
}

impl ScratchFiles {
    /// Files of this scratch. Inside a tokio runtime.
    #[must_use]
    pub fn new(scratch: Scratch) -> Self {
        Self {
            scratch,
            runtime: Handle::current(),
        }
    }

    /// The hub calls from threads that may block.
    fn wait(&self, operation: impl Future<Output = Result<(), sandbox::Error>>) -> io::Result<()> {
        self.runtime.block_on(operation).map_err(|error| {
            error
                .errno()
                .map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error)
        })
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
        self.wait(self.scratch.create_dir_all(path))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.wait(self.scratch.link(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.wait(self.scratch.remove(path))
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
