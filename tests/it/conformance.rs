//! Plays the golden conversations of `runners/conformance/*.jsonl` against the real runners:
//! frames over fd 3, without browser, daemon or privilege. The format is described in
//! `runners/conformance/README.md`.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};

/// No line may take longer: the slowest start is a cold Playwright.
const LINE_LIMIT: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    code: String,
    #[serde(default)]
    environment: Map<String, Value>,
    #[serde(default = "result_limit")]
    result_limit_bytes: u64,
    #[serde(default)]
    fresh: bool,
    #[serde(default = "success")]
    expect: Value,
    #[serde(default)]
    expect_contains: BTreeMap<String, String>,
    exit: Option<i32>,
    stdout: Option<String>,
    stderr: Option<String>,
    #[serde(default)]
    stdout_contains: Vec<String>,
    #[serde(default)]
    stderr_contains: Vec<String>,
    #[serde(default)]
    stderr_excludes: Vec<String>,
    stdout_bytes: Option<usize>,
    #[serde(default)]
    files: BTreeMap<String, String>,
}

fn result_limit() -> u64 {
    1 << 20
}

fn success() -> Value {
    json!({"exit_code": 0, "error": null})
}

/// What one line led to.
struct Reply {
    finished: Option<Value>,
    exit: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// A started runner and the daemon's ends of its fds.
struct Runner {
    child: Child,
    frames: BufReader<OwnedReadHalf>,
    to_runner: OwnedWriteHalf,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

impl Runner {
    async fn start(command: &[String], cwd: &Path) -> Result<Runner> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (stdout, stdout_end) = output_pipe()?;
        let (stderr, stderr_end) = output_pipe()?;
        // The shell moves the socket from 0 to 3, so nothing has to happen between fork and exec. A
        // sandbox too has every signal at its default; this test may run where SIGINT is ignored.
        let child = Command::new("/bin/sh")
            .args([
                "-c",
                r#"exec env --default-signal "$@" 3<&0 0</dev/null"#,
                "sh",
            ])
            .args(command)
            .current_dir(cwd)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(stdout_end))
            .stderr(Stdio::from(stderr_end))
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let (read, to_runner) = UnixStream::from_std(ours)?.into_split();
        let mut runner = Runner {
            child,
            frames: BufReader::new(read),
            to_runner,
            stdout,
            stderr,
        };
        runner
            .send(&json!({"type": "init", "cdp_url": null}))
            .await?;
        let mut line = String::new();
        runner.frames.read_line(&mut line).await?;
        let frame: Value = serde_json::from_str(&line).context("first frame")?;
        ensure!(frame["type"] == "ready", "expected ready, got {frame}");
        Ok(runner)
    }

    async fn send(&mut self, frame: &Value) -> Result<()> {
        let mut bytes = serde_json::to_vec(frame)?;
        bytes.push(b'\n');
        Ok(self.to_runner.write_all(&bytes).await?)
    }

    /// Sends one execution and waits for `finished` or the runner's end, reading the output beside it.
    async fn play(&mut self, line: &Line, id: &str, cwd: &Path) -> Result<Reply> {
        let frame = format!(
            r#"{{"type":"execute","id":{},"page":null,"result_limit_bytes":{},"environment":{},"code":{}}}"#,
            serde_json::to_string(id)?,
            line.result_limit_bytes,
            serde_json::to_string(&line.environment)?,
            serde_json::to_string(&line.code.replace("{CWD}", &cwd.display().to_string()))?,
        );
        self.to_runner.write_all(frame.as_bytes()).await?;
        self.to_runner.write_all(b"\n").await?;
        let (mut stdout, mut stderr, mut frame) = (Vec::new(), Vec::new(), Vec::new());
        let (mut stdout_open, mut stderr_open) = (true, true);
        loop {
            tokio::select! {
                read = self.frames.read_until(b'\n', &mut frame) => { read?; break; }
                read = self.stdout.read_buf(&mut stdout), if stdout_open => stdout_open = read? > 0,
                read = self.stderr.read_buf(&mut stderr), if stderr_open => stderr_open = read? > 0,
            }
        }
        if frame.is_empty() {
            let status = self.child.wait().await?;
            self.stdout.read_to_end(&mut stdout).await?;
            self.stderr.read_to_end(&mut stderr).await?;
            return Ok(Reply {
                finished: None,
                exit: status.code(),
                stdout,
                stderr,
            });
        }
        // `finished` promises that all output is in the pipes: take it without waiting.
        drain(&self.stdout, &mut stdout)?;
        drain(&self.stderr, &mut stderr)?;
        let finished: Value = serde_json::from_slice(&frame).context("finished frame")?;
        ensure!(
            finished["type"] == "finished" && finished["id"] == id,
            "unexpected frame {finished}"
        );
        Ok(Reply {
            finished: Some(finished),
            exit: None,
            stdout,
            stderr,
        })
    }
}

fn output_pipe() -> Result<(pipe::Receiver, std::io::PipeWriter)> {
    let (read, write) = std::io::pipe()?;
    Ok((pipe::Receiver::from_owned_fd(OwnedFd::from(read))?, write))
}

/// Reads past tokio's readiness, which may not have heard of the newest bytes yet.
fn drain(from: &pipe::Receiver, to: &mut Vec<u8>) -> Result<()> {
    use std::io::Read;
    let mut file = std::fs::File::from(std::os::fd::AsFd::as_fd(from).try_clone_to_owned()?);
    let mut chunk = [0; 65536];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => to.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn check(line: &Line, reply: &Reply) -> Result<()> {
    let stdout = String::from_utf8_lossy(&reply.stdout);
    let stderr = String::from_utf8_lossy(&reply.stderr);
    match (&reply.finished, line.exit) {
        (None, Some(status)) => ensure!(
            reply.exit == Some(status),
            "exit {:?}, expected {status}; stderr: {stderr}",
            reply.exit
        ),
        (None, None) => bail!(
            "the runner ended by itself with {:?}; stderr: {stderr}",
            reply.exit
        ),
        (Some(frame), Some(_)) => bail!("the runner did not end: {frame}"),
        (Some(frame), None) => {
            subset(&line.expect, frame, "finished").with_context(|| format!("stderr: {stderr}"))?;
            for (path, part) in &line.expect_contains {
                let pointer = format!("/{}", path.replace('.', "/"));
                let text = frame
                    .pointer(&pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                ensure!(
                    text.contains(part.as_str()),
                    "{path} is {text:?}, which lacks {part:?}"
                );
            }
        }
    }
    if let Some(expected) = &line.stdout {
        ensure!(
            stdout == *expected,
            "stdout is {stdout:?}, expected {expected:?}"
        );
    }
    if let Some(expected) = &line.stderr {
        ensure!(
            stderr == *expected,
            "stderr is {stderr:?}, expected {expected:?}"
        );
    }
    if let Some(expected) = line.stdout_bytes {
        ensure!(
            reply.stdout.len() == expected,
            "{} bytes on stdout, expected {expected}",
            reply.stdout.len()
        );
    }
    for part in &line.stdout_contains {
        ensure!(
            stdout.contains(part.as_str()),
            "stdout is {stdout:?}, which lacks {part:?}"
        );
    }
    for part in &line.stderr_contains {
        ensure!(
            stderr.contains(part.as_str()),
            "stderr is {stderr:?}, which lacks {part:?}"
        );
    }
    for part in &line.stderr_excludes {
        ensure!(
            !stderr.contains(part.as_str()),
            "stderr is {stderr:?}, which must not hold {part:?}"
        );
    }
    Ok(())
}

fn subset(expected: &Value, actual: &Value, path: &str) -> Result<()> {
    if let (Value::Object(expected), Value::Object(actual)) = (expected, actual) {
        for (key, value) in expected {
            subset(
                value,
                actual.get(key).unwrap_or(&Value::Null),
                &format!("{path}.{key}"),
            )?;
        }
        return Ok(());
    }
    ensure!(
        expected == actual,
        "{path} is {actual}, expected {expected}"
    );
    Ok(())
}

/// Plays a whole file; every line is played even when one before failed, so a run shows all faults.
async fn conversation(language: &str, command: &[String]) -> Result<()> {
    let file = root()
        .join("runners/conformance")
        .join(format!("{language}.jsonl"));
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let cwd = tempfile::tempdir()?;
    let mut runner: Option<Runner> = None;
    let mut failures = Vec::new();
    for (index, text) in text.lines().enumerate() {
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let line: Line = serde_json::from_str(text)
            .with_context(|| format!("{language}.jsonl:{}", index + 1))?;
        for (name, content) in &line.files {
            std::fs::write(cwd.path().join(name), content)?;
        }
        if line.fresh {
            runner = None;
        }
        let played = tokio::time::timeout(LINE_LIMIT, async {
            let mut current = match runner.take() {
                Some(current) => current,
                None => Runner::start(command, cwd.path()).await?,
            };
            let reply = current
                .play(&line, &format!("e{index}"), cwd.path())
                .await?;
            if reply.finished.is_some() {
                runner = Some(current);
            }
            check(&line, &reply)
        });
        let outcome = played
            .await
            .unwrap_or_else(|_| bail!("no answer in {LINE_LIMIT:?}"));
        if let Err(error) = outcome {
            failures.push(format!(
                "{language}.jsonl:{} {}: {error:#}",
                index + 1,
                line.name
            ));
        }
    }
    ensure!(
        failures.is_empty(),
        "{} lines failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
    Ok(())
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// True when all of `needed` is there; else says so, or fails where everything is required.
fn installed(language: &str, needed: &[PathBuf]) -> Result<bool> {
    let Some(missing) = needed.iter().find(|path| !path.exists()) else {
        return Ok(true);
    };
    let note = format!("{language} runner: {} is missing", missing.display());
    ensure!(std::env::var_os("CI_REQUIRE_ALL").is_none(), "{note}");
    crate::daemon::host::skip("conformance", &note);
    Ok(false)
}

#[tokio::test]
async fn node() -> Result<()> {
    let home = root().join("runners/node");
    let runner = home.join("runner.mjs");
    if !installed("node", &[runner.clone(), home.join("node_modules/acorn")])? {
        return Ok(());
    }
    conversation("node", &["node".into(), runner.display().to_string()]).await
}

#[tokio::test]
async fn python() -> Result<()> {
    let home = root().join("runners/python");
    let runner = home.join("runner.py");
    let python = home.join(".venv/bin/python");
    if !installed("python", &[runner.clone(), python.clone()])? {
        return Ok(());
    }
    let mut command = vec![python.display().to_string()];
    command.extend(["-I", "-B", "-u", "-X", "utf8"].map(String::from));
    command.push(runner.display().to_string());
    conversation("python", &command).await
}

#[tokio::test]
async fn bash() -> Result<()> {
    let home = root().join("runners/bash");
    // As the daemon has it: the commands beside the runner come first.
    let path = format!(
        "PATH={}:/usr/local/bin:/usr/bin:/bin",
        home.join("bin").display()
    );
    let runner = home.join("runner.sh").display().to_string();
    conversation("bash", &[path, "/bin/bash".into(), runner]).await
}
