//! The user data directory as an archive (tar, zstd), packed and unpacked by programs in a sandbox:
//! the daemon reads nothing of what a browser wrote.
//!
//! Only files and directories are in one. How many and how large they may be is what the browser's
//! own tmpfs holds.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use super::Name;
use super::object::Saved;
use super::{Error, SealError};
use crate::browser;
use crate::limits::Bytes;
use crate::sandbox::{
    Control, ControlEnd, ExitStatus, GroupLimits, Network, Sandbox, SandboxLimits, SandboxSpec,
    Space,
};

const IMAGE: &str = "profile";
/// Beside the files themselves, which are memory too.
const PROGRAMS: Bytes = Bytes::mib(128);
/// What is read of the programs' complaints.
const MAX_COMPLAINT: u64 = 2048;

/// Caches stay: they can be had again. What Chromium keeps its own crashes and measurements in too.
/// No program reads the directory meanwhile.
const PACK: &str = "\
set -e
cd /browser
find profile -type d \\( -name Cache -o -name 'Code Cache' -o -name GPUCache -o -name ShaderCache \
-o -name 'Gr*Cache' -o -name 'Dawn*Cache' -o -name 'Shared Dictionary' -o -name Crashpad \
-o -name BrowserMetrics \\) -prune -o \\( -type f -o -type d \\) -print0 >/tmp/names
exec tar --create --file=- --null --no-recursion --files-from=/tmp/names \
--owner=0 --group=0 --numeric-owner --use-compress-program='zstd -q -3'";

/// What is neither a file nor a directory was not packed by us.
const UNPACK: &str = "\
set -e
tar --extract --file=- --directory=/browser --no-same-owner --no-same-permissions \
--use-compress-program='zstd -q -d' <&3
odd=$(find /browser/profile ! -type f ! -type d -print -quit)
[ -z \"$odd\" ] || { echo \"neither a file nor a directory: $odd\" >&2; exit 1; }";

/// What the programs may use, which hold the browser's files while they work.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    memory: Bytes,
    file_size: Bytes,
}

impl From<&browser::Config> for Limits {
    fn from(config: &browser::Config) -> Self {
        Self {
            memory: Bytes(config.data.0 + PROGRAMS.0),
            file_size: config.data,
        }
    }
}

/// An archive on its way into an object.
pub trait Archive: Send {
    /// The next piece, of at most so many bytes; none at the end.
    fn next(&mut self, most: usize)
    -> impl Future<Output = Result<Option<Vec<u8>>, String>> + Send;

    /// Whether all of it was packed.
    fn finish(self) -> impl Future<Output = Result<(), String>> + Send;
}

/// An archive as a sandbox packs it. Dropping it gives it up.
#[derive(Debug)]
pub struct Packed {
    stdout: pipe::Receiver,
    running: Running,
}

impl Packed {
    /// Packs the data of a browser that has ended.
    ///
    /// # Errors
    /// When the sandbox cannot be built.
    pub async fn begin(space: &Space, limits: Limits) -> Result<Self, String> {
        let mut running = Running::start(space, limits, PACK, Control::None).await?;
        let stdout = running.sandbox.stdout.take();
        let stdout = stdout.ok_or("its sandbox has no stdout")?;
        let stdout = pipe::Receiver::from_owned_fd(stdout).map_err(|error| error.to_string())?;
        Ok(Self { stdout, running })
    }
}

impl Archive for Packed {
    async fn next(&mut self, most: usize) -> Result<Option<Vec<u8>>, String> {
        let mut piece = vec![0; most];
        let mut filled = 0;
        while filled < most {
            match self.stdout.read(&mut piece[filled..]).await {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) => return Err(error.to_string()),
            }
        }
        piece.truncate(filled);
        Ok((filled > 0).then_some(piece))
    }

    async fn finish(self) -> Result<(), String> {
        self.running.finish().await
    }
}

impl Saved {
    /// Unpacks what is left of it for a browser that has not started yet.
    ///
    /// # Errors
    /// When the object is damaged, or does not fit.
    pub async fn unpack(mut self, space: &Space, limits: Limits) -> Result<(), Error> {
        let name = self.summary.name.clone();
        let failed = |why: String| Error::Archive {
            name: name.clone(),
            what: "unpacked",
            why,
        };
        let mut running = Running::start(space, limits, UNPACK, Control::Frames)
            .await
            .map_err(failed)?;
        let mut input = running.input().map_err(failed)?;
        let fed = self.feed(&mut input, &name).await;
        drop(input);
        // Why it does not take more, if it does not, is in what it says.
        let finished = running.finish().await;
        fed?;
        finished.map_err(failed)
    }

    async fn feed(&mut self, input: &mut UnixStream, name: &Name) -> Result<(), Error> {
        let unreadable = |source: SealError| Error::Unreadable {
            name: name.clone(),
            source,
        };
        while let Some(piece) = self.archive().await.map_err(unreadable)? {
            if input.write_all(&piece).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Programs at work on the browser's data.
#[derive(Debug)]
struct Running {
    sandbox: Sandbox,
    complaint: JoinHandle<String>,
}

impl Running {
    async fn start(
        space: &Space,
        limits: Limits,
        script: &str,
        control: Control,
    ) -> Result<Self, String> {
        let spec = SandboxSpec {
            image: IMAGE.to_owned(),
            argv: ["/bin/sh", "-c", script].map(str::to_owned).into(),
            env: [("PATH", "/usr/bin:/bin"), ("LC_ALL", "C.UTF-8")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            cwd: "/".into(),
            network: Network::Browser,
            control,
            limits: SandboxLimits {
                group: GroupLimits {
                    memory: limits.memory,
                    processes: 32,
                    cpu_percent: 200,
                },
                open_files: 256,
                file_size: limits.file_size,
            },
        };
        let mut sandbox = space.spawn(spec).await.map_err(|error| error.to_string())?;
        let complaint = tokio::spawn(complaint(sandbox.stderr.take()));
        Ok(Self { sandbox, complaint })
    }

    /// What it reads from.
    fn input(&mut self) -> Result<UnixStream, String> {
        let control = std::mem::replace(&mut self.sandbox.control, ControlEnd::None);
        let ControlEnd::Frames(stream) = control else {
            return Err("its sandbox has no input".to_owned());
        };
        let stream: StdUnixStream = stream;
        UnixStream::from_std(stream).map_err(|error| error.to_string())
    }

    async fn finish(self) -> Result<(), String> {
        let exit = self.sandbox.wait().await;
        let complaint = self.complaint.await.unwrap_or_default();
        match exit.status {
            ExitStatus::Code(0) => Ok(()),
            status if complaint.is_empty() => Err(format!("{status:?}")),
            status => Err(format!("{complaint} ({status:?})")),
        }
    }
}

/// What programs write to stderr, as one line; the rest of it is read, and left.
async fn complaint(stderr: Option<OwnedFd>) -> String {
    let Some(Ok(mut pipe)) = stderr.map(pipe::Receiver::from_owned_fd) else {
        return String::new();
    };
    let mut text = Vec::new();
    let read = (&mut pipe).take(MAX_COMPLAINT).read_to_end(&mut text).await;
    // It ends with the sandbox.
    let rest = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    if let Some(error) = read.err().or(rest.err()) {
        return error.to_string();
    }
    let text = String::from_utf8_lossy(&text);
    text.lines().collect::<Vec<_>>().join("; ")
}
