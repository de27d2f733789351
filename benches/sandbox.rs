//! Times what confinement costs: `cargo bench --bench sandbox`.
//!
//! First a sandbox itself, for each image: from the request until a small program has been executed
//! in it, until that has ended and been reaped, and four at once. Then the same runner conversation
//! in a sandbox and without one, interleaved: what a warm execution pays for being confined. Beside it
//! node that does nothing, alone, in bubblewrap and in a sandbox. Prints a table and writes
//! `target/bench/sandbox.md` and `.json`.
//!
//! `ROUNDS=N` (50). `BENCH_IMAGES=DIRECTORY` (other image files beside their seccomp profiles) takes part in every
//! round.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pagebox::execution::Language;
use pagebox::limits::Bytes;
use pagebox::runner;
use pagebox::sandbox::{
    Control, ControlEnd, ExitStatus, GroupLimits, Network, Sandbox, SandboxLimits, SandboxSpec,
    Sandboxes, Space, SpawnerProcess, start_spawner,
};
use serde_json::{Value, json};

#[path = "common/all.rs"]
mod common;

use common::report::{Limit, Report};
use common::samples::Samples;
use common::{rival, samples, spawner};

/// Executions of each kind for a round, in and outside of a sandbox.
const WARM_PER_ROUND: usize = 6;
const PARALLEL: usize = 4;
/// It is in every image, prints a line and ends.
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
const IMAGES: [&str; 4] = ["node", "python", "bash", "browser"];
const LIMITS: GroupLimits = GroupLimits {
    memory: Bytes::gib(2),
    processes: 1024,
    cpu_percent: 400,
};
/// A build of one runner sandbox must stay below this, in milliseconds, at the median.
const WANTED: f64 = 5.0;

/// Code that only computes, and code that reads, writes and starts threads or processes.
const CODES: [(Language, [&str; 2]); 3] = [
    (
        Language::Node,
        [
            "1 + 1",
            "const f = await import('node:fs/promises'); await f.writeFile('x', 'y'.repeat(65536)); (await f.readFile('x')).length",
        ],
    ),
    (
        Language::Python,
        [
            "1 + 1",
            "open('x', 'w').write('y' * 65536)\nlen(open('x').read())",
        ],
    ),
    (
        Language::Bash,
        [":", "head -c 65536 /dev/zero > x; wc -c x | cat > y"],
    ),
];

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` starts this too, without the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("sandbox: measured by `cargo bench` only");
        return Ok(());
    }
    let mut spawners = vec![("", start(&spawner::shipped())?)];
    if let Some(other) = std::env::var_os("BENCH_IMAGES") {
        spawners.push(("other: ", start(Path::new(&other))?));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(spawners))
}

/// Must run before tokio: the spawner dies with the thread that starts it.
fn start(images: &Path) -> anyhow::Result<SpawnerProcess> {
    let config = spawner::config(images, 200_000_000..200_000_100);
    Ok(start_spawner(&config)?)
}

async fn measure(spawners: Vec<(&str, SpawnerProcess)>) -> anyhow::Result<()> {
    let mut grounds = Vec::new();
    for (who, spawner) in spawners {
        let sandboxes = Sandboxes::connect(spawner)?;
        let space = sandboxes.create_space(spawner::space_spec(LIMITS)).await?;
        grounds.push((who, sandboxes, space));
    }
    let rounds = samples::number("ROUNDS", 50);
    let mut samples = Samples::default();
    for round in 0..=rounds {
        // The first fills caches.
        let mut thrown_away = Samples::default();
        let samples = if round == 0 {
            &mut thrown_away
        } else {
            &mut samples
        };
        for image in IMAGES {
            for (who, _, space) in &grounds {
                build(space, who, image, samples).await?;
            }
        }
        nodes(&grounds[0].2, samples).await?;
    }
    let (_, sandboxes, space) = grounds.remove(0);
    for (language, codes) in CODES {
        let rounds = rounds * WARM_PER_ROUND;
        conversations(&space, language, codes, rounds, &mut samples).await?;
    }
    space.close().await?;
    sandboxes.shutdown().await;
    report(&samples, rounds)
}

fn spec(image: &str, argv: &[&str], control: Control) -> SandboxSpec {
    SandboxSpec {
        image: image.to_owned(),
        argv: argv.iter().map(|&part| part.to_owned()).collect(),
        env: environment("/workspace"),
        cwd: if image == "browser" {
            "/browser"
        } else {
            "/workspace"
        }
        .into(),
        network: Network::Runner,
        control,
        limits: SandboxLimits {
            group: GroupLimits {
                memory: Bytes::mib(512),
                processes: 128,
                cpu_percent: 400,
            },
            open_files: 1024,
            file_size: Bytes::mib(64),
        },
    }
}

fn environment(home: &str) -> Vec<(String, String)> {
    [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", home),
        ("LANG", "C.UTF-8"),
        ("TMPDIR", "/tmp"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

async fn build(space: &Space, who: &str, image: &str, samples: &mut Samples) -> anyhow::Result<()> {
    let start = || space.spawn(spec(image, &[LOADER, "--version"], Control::None));
    let begun = Instant::now();
    let sandbox = start().await?;
    samples.add(
        format!("{who}{image}: built, program executed"),
        begun.elapsed(),
    );
    sandbox.wait().await;
    samples.add(
        format!("{who}{image}: the same, until it is gone"),
        begun.elapsed(),
    );
    let begun = Instant::now();
    let all = futures_util::future::join_all((0..PARALLEL).map(|_| start())).await;
    samples.add(
        format!("{who}{image}: {PARALLEL} built at once"),
        begun.elapsed(),
    );
    for sandbox in all {
        sandbox?.wait().await;
    }
    if image == "bash" {
        let spec = spec(
            image,
            &["/bin/bash", "-c", "read line <&3"],
            Control::Frames,
        );
        let sandbox = space.spawn(spec).await?;
        let begun = Instant::now();
        sandbox.kill();
        sandbox.wait().await;
        samples.add(
            format!("{who}{image}: killed, until it is gone"),
            begun.elapsed(),
        );
    }
    Ok(())
}

/// Node that does nothing, from its start to its end: alone, in bubblewrap, in a sandbox.
async fn nodes(space: &Space, samples: &mut Samples) -> anyhow::Result<()> {
    const BUBBLEWRAP: &str = "--unshare-all --die-with-parent --new-session --clearenv \
        --setenv PATH /usr/local/bin:/usr/bin \
        --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib --symlink usr/lib64 /lib64 \
        --proc /proc --dev /dev --tmpfs /tmp --tmpfs /workspace --chdir /workspace";
    const NOTHING: [&str; 2] = ["-e", "0"];
    let mut alone = rival::program("node");
    let mut bubble = Command::new("bwrap");
    bubble.args(BUBBLEWRAP.split_whitespace()).arg("--");
    bubble.arg("node");
    for (who, command) in [("no sandbox", &mut alone), ("bubblewrap", &mut bubble)] {
        let begun = Instant::now();
        match command.args(NOTHING).status() {
            Ok(status) => {
                ensure!(status.success(), "{command:?}: {status}");
                samples.add(format!("node -e 0: {who}"), begun.elapsed());
            }
            // The one that the set-up for the daemon does not install.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context("cannot start node"),
        }
    }
    let argv = runner::argv(Language::Node);
    let begun = Instant::now();
    let argv = [argv[0].as_str(), NOTHING[0], NOTHING[1]];
    let sandbox = space.spawn(spec("node", &argv, Control::None)).await?;
    let exit = sandbox.wait().await;
    samples.add("node -e 0: a sandbox", begun.elapsed());
    ensure!(exit.status == ExitStatus::Code(0), "{exit:?}");
    Ok(())
}

/// A runner's control channel, used like the daemon uses it, but blocking.
struct Frames {
    read: BufReader<UnixStream>,
    write: UnixStream,
    count: u32,
}

impl Frames {
    fn new(socket: UnixStream) -> anyhow::Result<Self> {
        socket.set_nonblocking(false)?;
        let mut frames = Self {
            read: BufReader::new(socket.try_clone()?),
            write: socket,
            count: 0,
        };
        frames.send(&json!({ "type": "init", "cdp_url": null }))?;
        ensure!(
            frames.receive()?["type"] == "ready",
            "the runner is not ready"
        );
        Ok(frames)
    }

    fn send(&mut self, frame: &Value) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(frame)?;
        line.push(b'\n');
        Ok(self.write.write_all(&line)?)
    }

    fn receive(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        self.read.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }

    fn execute(&mut self, code: &str) -> anyhow::Result<Duration> {
        self.count += 1;
        let id = self.count.to_string();
        // Runners take the fields in this order.
        let (id_text, code) = (serde_json::to_string(&id)?, serde_json::to_string(code)?);
        let line = format!(
            r#"{{"type":"execute","id":{id_text},"page":null,"result_limit_bytes":65536,"environment":{{}},"code":{code}}}"#
        );
        let begun = Instant::now();
        self.write.write_all(line.as_bytes())?;
        self.write.write_all(b"\n")?;
        let finished = self.receive()?;
        let took = begun.elapsed();
        ensure!(
            finished["id"] == id && finished["exit_code"] == 0,
            "{finished}"
        );
        Ok(took)
    }
}

/// A runner started like the conformance tests start it: no sandbox, no limit.
struct Unconfined {
    child: Child,
    frames: Frames,
    _directory: tempfile::TempDir,
}

impl Unconfined {
    fn start(language: Language) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir_in("/dev/shm")?;
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("runners");
        let home = home.to_string_lossy();
        let argv = runner::argv(language);
        // Found in PATH: where the images have node is no place of the host's.
        let program = match language {
            Language::Node => "node",
            Language::Python | Language::Bash => &argv[0],
        };
        let arguments = argv[1..].iter();
        let arguments = arguments.map(|part| part.replace("/opt/pagebox/runners", &home));
        let (ours, theirs) = UnixStream::pair()?;
        // The shell moves the socket from 0 to 3, so nothing has to happen between fork and exec.
        let child = Command::new("/bin/sh")
            .args(["-c", r#"exec "$@" 3<&0 0</dev/null"#, "sh", program])
            .args(arguments)
            .current_dir(directory.path())
            .env_clear()
            .envs(environment(&directory.path().to_string_lossy()))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start a runner")?;
        Ok(Self {
            child,
            frames: Frames::new(ours)?,
            _directory: directory,
        })
    }
}

impl Drop for Unconfined {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn confined(space: &Space, language: Language) -> anyhow::Result<(Sandbox, Frames)> {
    let argv = runner::argv(language);
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let spec = spec(language.as_str(), &argv, Control::Frames);
    let mut sandbox = space.spawn(spec).await?;
    let control = std::mem::replace(&mut sandbox.control, ControlEnd::None);
    let ControlEnd::Frames(socket) = control else {
        anyhow::bail!("no frames");
    };
    let frames = Frames::new(socket);
    Ok((sandbox, frames.context("a confined runner did not start")?))
}

async fn conversations(
    space: &Space,
    language: Language,
    codes: [&str; 2],
    rounds: usize,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let (sandbox, mut inside) = confined(space, language).await?;
    let mut outside = Unconfined::start(language)?;
    for (code, what) in codes.into_iter().zip(["computes", "uses files"]) {
        for round in 0..rounds + 20 {
            let (with, without) = (inside.execute(code)?, outside.frames.execute(code)?);
            // Compilers and caches warm up first.
            if round >= 20 {
                samples.add(format!("{language} {what}: unconfined"), without);
                samples.add(format!("{language} {what}: confined"), with);
            }
        }
    }
    sandbox.kill();
    sandbox.wait().await;
    Ok(())
}

fn report(samples: &Samples, rounds: usize) -> anyhow::Result<()> {
    let (mut rows, mut times) = (Vec::new(), Vec::new());
    for (name, count) in samples.counts() {
        let (median, p95) = (samples.percentile(name, 50), samples.percentile(name, 95));
        let free = name
            .strip_suffix(": confined")
            .map(|who| samples.percentile(&format!("{who}: unconfined"), 50));
        let share = free.map(|free| 100.0 * (median - free) / median);
        let shown = share
            .map(|share| format!("{share:.1} %"))
            .unwrap_or_default();
        let values = [format!("{median:.2}"), format!("{p95:.2}"), shown];
        let cells = [name.to_owned(), count.to_string()];
        rows.push(cells.into_iter().chain(values).collect());
        times.push(json!({
            "name": name, "samples": count, "p50_ms": median, "p95_ms": p95,
            "confinement_percent": share,
        }));
    }
    let mut report = Report::new("sandbox");
    let header = [
        "what",
        "samples",
        "p50 ms",
        "p95 ms",
        "share of confinement",
    ];
    report.table("rows", &header, &rows);
    report.set("rows", json!(times));
    report.set("rounds", json!(rounds));
    for image in IMAGES {
        let median = samples.percentile(&format!("{image}: built, program executed"), 50);
        let what = format!("a sandbox of image {image} is built");
        report.aim(&what, median, "ms", Limit::Under(WANTED));
    }
    report.publish()
}
