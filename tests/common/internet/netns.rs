//! Network namespaces held by a descriptor: made by a thread of this process, gone when dropped.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace. Sockets made in it stay in it, whoever uses them.
#[derive(Debug)]
pub(crate) struct Netns(File);

impl Netns {
    /// A new one, with `lo` up.
    ///
    /// # Errors
    /// When this process may not make one.
    pub(super) fn new() -> io::Result<Self> {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        });
        let namespace = Self(made.join().expect("the thread does not panic")?);
        namespace.ip("link set lo up");
        Ok(namespace)
    }

    /// Moves the calling thread into it, for good.
    ///
    /// # Errors
    /// When this process may not.
    pub(super) fn enter(&self) -> io::Result<()> {
        setns(&self.0, CloneFlags::CLONE_NEWNET)?;
        Ok(())
    }

    /// Runs `job` on a thread in it: the sockets it makes and the processes it starts are inside.
    pub(crate) fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            self.enter().expect("a namespace of our own");
            job()
        };
        std::thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Runs lines of `ip` commands in it.
    ///
    /// # Panics
    /// With what `ip` says against one.
    pub(crate) fn ip(&self, lines: &str) {
        let done = self.run(|| {
            let mut ip = Command::new("ip")
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the Debian package iproute2 is installed");
            let input = ip.stdin.take().expect("piped");
            { input }
                .write_all(lines.as_bytes())
                .expect("ip reads its commands");
            ip.wait_with_output().expect("ip ends")
        });
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "ip: {said}\n{lines}");
    }

    /// Its name for `ip`, valid while it is held.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Another descriptor of it.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}
