//! How commands and daemons end when somebody ends them, and what is left then: nothing.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use pagebox::grpc::v1::{Language, Outcome, SessionOptions};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::client::{Client, reason};
use crate::daemon::host::command;
use crate::daemon::{Daemon, signal};
use crate::leaks::{cgroups, descendants, eventually};
use crate::shared::{binary, daemon};

/// `pagebox exec` as it runs by itself.
struct Exec {
    child: Child,
    temporary: tempfile::TempDir,
}

impl Exec {
    /// Starts it with code that writes a line and goes on.
    fn start(arguments: &[&str]) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let child = command(binary())
            .arg("exec")
            .args(arguments)
            .env_remove("PAGEBOX_SERVER")
            .env("TMPDIR", temporary.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut exec = Self { child, temporary };
        let mut line = String::new();
        let stdout = exec.child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "on\n", "output comes while the code runs");
        exec
    }
}

async fn nothing_left(
    held: &std::collections::BTreeSet<crate::leaks::Process>,
    groups: &std::collections::BTreeSet<PathBuf>,
) {
    eventually(Duration::from_secs(1), async || {
        let alive: Vec<_> = held.iter().filter(|process| process.is_alive()).collect();
        let groups: Vec<_> = groups.iter().filter(|path| path.exists()).collect();
        (alive.is_empty() && groups.is_empty())
            .then_some(())
            .ok_or(format!("{alive:?} {groups:?}"))
    })
    .await;
}

#[tokio::test]
async fn exec_ended_by_a_signal_leaves_nothing() {
    let code = "trap '' INT TERM; setsid sleep 31539621 >/dev/null & echo on; sleep 31539621";
    for (name, status) in [("INT", Some(130)), ("TERM", Some(143)), ("KILL", None)] {
        let mut exec = Exec::start(&["-l", "bash", "-e", code]);
        let held = descendants(exec.child.id());
        let groups = cgroups(&held);
        assert!(held.len() > 5, "{held:?}");
        signal(exec.child.id(), name);
        assert_eq!(exec.child.wait().unwrap().code(), status, "{name}");
        nothing_left(&held, &groups).await;
        let files = std::fs::read_dir(exec.temporary.path()).unwrap().count();
        assert_eq!(files, 0, "temporary files after {name}");
    }
}

#[tokio::test]
async fn exec_at_a_daemon_ended_by_ctrl_c_ends_its_code() {
    let code = "echo on; sleep 31539622";
    let url = daemon().url();
    let mut exec = Exec::start(&["--server", &url, "-l", "bash", "-e", code]);
    eventually(Duration::from_secs(10), async || {
        crate::outcomes::runs("sleep", "31539622")
            .then_some(())
            .ok_or("not there yet".to_owned())
    })
    .await;
    signal(exec.child.id(), "INT");
    assert_eq!(exec.child.wait().unwrap().code(), Some(130));
    assert!(
        !crate::outcomes::runs("sleep", "31539622"),
        "killed before it returned"
    );
}

#[test]
fn exec_passes_every_byte_live() {
    let code = "echo on; sleep 1; for i in {0..255}; do printf \"\\\\x$(printf %02x $i)\"; done; \
                printf '\\xff\\xfe' >&2; kill -9 $$";
    let mut child = command(binary())
        .args(["exec", "-l", "bash", "-e", code])
        .env("PAGEBOX_SERVER", daemon().url())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; 3];
    stdout.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"on\n");
    assert!(child.try_wait().unwrap().is_none(), "it still runs");
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    let mut errors = Vec::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_end(&mut errors)
        .unwrap();
    assert_eq!(rest, (0..=255).collect::<Vec<u8>>());
    assert!(errors.starts_with(b"\xff\xfe"), "{errors:?}");
    assert_eq!(child.wait().unwrap().code(), Some(137));
}

#[test]
fn exec_says_that_its_page_did_not_open() {
    let output = command(binary())
        .args(["exec", "--url", "http://localhost:9/", "-e", "'ran'"])
        .env("PAGEBOX_SERVER", daemon().url())
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"ran\n");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("the page could not be loaded"), "{stderr}");
}

#[tokio::test]
async fn a_daemon_that_lost_its_spawner_ends_with_everything() {
    let mut daemon = Daemon::start(binary(), "");
    let client = Client::new(&daemon.url());
    let session = client.open("about:blank").await;
    session
        .bash("setsid sleep 31539623 >/dev/null 2>&1 &")
        .await;
    let held = descendants(daemon.pid());
    let spawner: Vec<_> = held
        .iter()
        .filter(|process| process.name == "pagebox-spawner")
        .collect();
    assert!(!spawner.is_empty(), "{held:?}");
    for process in spawner {
        signal(process.pid, "KILL");
    }
    let status = daemon.wait(Duration::from_secs(5));
    assert!(!status.success());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let alive: Vec<_> = held.iter().filter(|process| process.is_alive()).collect();
    assert!(alive.is_empty(), "{alive:?}");
}

/// As a service manager does it: every process of the service gets the signal.
#[tokio::test]
async fn a_drain_says_so_and_survives_a_signal_to_the_spawner() {
    let mut daemon = Daemon::start(binary(), "drain_grace = \"5s\"\n");
    let client = Client::new(&daemon.url());
    let session = client.open("about:blank").await;
    session.python("1").await;
    let run = |language, code: &'static str| {
        let session = session.clone();
        tokio::spawn(async move {
            let options = session.options(language, code);
            session.client().execute(options).await
        })
    };
    let in_time = run(
        Language::Node,
        "await new Promise((r) => setTimeout(r, 2500)); 'in time'",
    );
    let too_long = run(Language::Python, "while True: pass");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let queued = run(Language::Python, "'queued'");
    eventually(Duration::from_secs(20), async || {
        let count = session.now().await.running_executions;
        (count == 3).then_some(()).ok_or(format!("{count} there"))
    })
    .await;

    let held = descendants(daemon.pid());
    let groups = cgroups(&held);
    for process in held
        .iter()
        .filter(|process| process.name == "pagebox-spawner")
    {
        signal(process.pid, "TERM");
    }
    daemon.signal("TERM");
    let mut health = HealthClient::new(client.channel());
    for service in [
        "",
        "pagebox.v1.SessionService",
        "pagebox.v1.ExecutionService",
    ] {
        eventually(Duration::from_secs(2), async || {
            let request = HealthCheckRequest {
                service: service.to_owned(),
            };
            let status = health.check(request).await.unwrap().into_inner().status();
            (status == ServingStatus::NotServing)
                .then_some(())
                .ok_or(format!("{service:?} {status:?}"))
        })
        .await;
    }
    let refused = client.create(SessionOptions::default()).await.unwrap_err();
    assert_eq!(
        (refused.code(), &*reason(&refused)),
        (Code::Unavailable, "DRAINING")
    );
    assert_eq!(session.now().await.id, session.id, "reading goes on");

    let reply = in_time.await.unwrap().unwrap();
    assert_eq!(reply.result.as_deref(), Some("in time"));
    let reply = too_long.await.unwrap().unwrap();
    assert_eq!(reply.outcome(), Outcome::Cancelled);
    let refused = queued.await.unwrap().unwrap_err();
    assert_eq!(
        (refused.code(), &*reason(&refused)),
        (Code::Unavailable, "DRAINING")
    );
    assert!(daemon.wait(Duration::from_secs(20)).success());
    nothing_left(&held, &groups).await;
}

fn config(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = command(binary())
        .arg("config")
        .args(arguments)
        .envs(environment.iter().copied())
        .env_remove("PAGEBOX_SERVER")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn config_can_be_used_as_a_file_and_its_sources_have_an_order() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pagebox.toml");
    let path = file.to_str().unwrap();
    std::fs::write(
        &file,
        "drain_grace = \"7s\"\n[session]\nmax_sessions = 3\nremembered = 4\n",
    )
    .unwrap();
    let environment = [("PAGEBOX_SESSION__MAX_SESSIONS", "5")];
    let (code, first, stderr) = config(&["--config", path], &environment);
    assert_eq!(code, Some(0), "{stderr}");
    let printed: toml::Table = first.parse().unwrap();
    assert_eq!(printed["drain_grace"].as_str(), Some("7s"));
    assert_eq!(printed["session"]["max_sessions"].as_integer(), Some(5));
    assert_eq!(printed["session"]["remembered"].as_integer(), Some(4));

    std::fs::write(&file, &first).unwrap();
    let (code, second, stderr) = config(&["--config", path], &[]);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(second.parse::<toml::Table>().unwrap(), printed);

    let (code, _, stderr) = config(&[], &[("PAGEBOX_SESSION__MAX_SESION", "5")]);
    assert_eq!(code, Some(125));
    assert!(stderr.contains("PAGEBOX_SESSION__MAX_SESION"), "{stderr}");
}

#[test]
fn completions_are_scripts_their_shell_reads() {
    for shell in ["bash", "zsh", "fish"] {
        let output = command(binary())
            .args(["completions", shell])
            .output()
            .unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("pagebox") && text.contains("exec"), "{shell}");
    }
}
