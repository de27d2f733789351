//! `pagebox prompt`.

use std::process::{Command, Output};

use super::world;
use crate::shared::{binary, site};

fn pagebox(arguments: &[&str]) -> Output {
    Command::new(binary())
        .args(arguments)
        .env_remove("PAGEBOX_SERVER")
        .env("PAGEBOX_CONFIG", "/dev/null")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn the_answer_is_on_stdout_and_progress_on_stderr() {
    let world = world();
    let session = world.client().open(&site().url("/search")).await;
    let server = world.daemon.url();
    let task =
        "Fill \"Search...\" with \"bore\"\nClick \"Search\"\nTell me the line with \"edition 1\"";
    let output = pagebox(&[
        "prompt",
        task,
        "-s",
        &session.id,
        "--server",
        &server,
        "--progress",
    ]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.trim_end().ends_with("bore in edition 1"), "{out}");
    assert_eq!(out.lines().count(), 1);
    assert!(
        err.contains("1. fill @e") && err.contains("3. read"),
        "{err}"
    );
    assert!(err.contains("done in "), "{err}");
    // Without a terminal there is none unless it is asked for.
    let again = pagebox(&[
        "prompt",
        "Tell me the line with \"edition\"",
        "-s",
        &session.id,
        "--server",
        &server,
    ]);
    assert_eq!(text(&again.stderr), "");
    let json = pagebox(&[
        "prompt",
        "Tell me the line with \"edition\"",
        "-s",
        &session.id,
        "--server",
        &server,
        "--json",
    ]);
    let reply: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(reply["outcome"], "PROMPT_OUTCOME_ANSWERED", "{reply}");
    assert_eq!(reply["steps"][0]["command"], "read");
    session.stop().await;
}

#[tokio::test]
async fn the_exit_status_says_how_it_ended() {
    let world = world();
    let session = world.open("/berths").await;
    let server = world.daemon.url();
    let run = |more: &[&str]| {
        let base = ["prompt", "Go on", "-s", &session.id, "--server", &server];
        pagebox(&[&base[..], more].concat())
    };
    let looper = run(&["--model", "looper", "--max-steps", "2"]);
    assert_eq!(looper.status.code(), Some(1), "{}", text(&looper.stderr));
    assert!(text(&looper.stdout).contains("2. scroll down 10: done"));
    assert!(text(&looper.stderr).contains("2 steps"));
    assert_eq!(
        run(&["--model", "hanger", "-t", "2"]).status.code(),
        Some(124)
    );
    let down = run(&["--model", "down"]);
    assert_eq!(down.status.code(), Some(125));
    assert!(
        text(&down.stderr).contains("MODEL_FAILED"),
        "{}",
        text(&down.stderr)
    );
    session.stop().await;
}

#[tokio::test]
async fn a_daemon_of_its_own_with_a_secret_from_a_file() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("pagebox.toml");
    let password = directory.path().join("password");
    std::fs::write(&password, "correct horse cli\n").unwrap();
    let agent = "provider = \"anthropic\"\nmodel = \"planner\"\n";
    let agent = super::config(agent, &world.models, &world.key);
    std::fs::write(&config, agent).unwrap();
    let mut command = crate::daemon::host::command(binary());
    let output = command
        .args(["prompt", "-", "--host-loopback", "*", "--url", &world.pages.url("/login")])
        .args(["--secret-file", &format!("pw={}", password.display())])
        .args(["--secret-domain", "pw=localhost", "--config", config.to_str().unwrap()])
        .env_remove("PAGEBOX_SERVER")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            use std::io::Write as _;
            let task = "Fill \"Password\" with \"{{pw}}\"\nClick \"Log in\"\nTell me the line with \"Signed\"\n";
            child.stdin.take().unwrap().write_all(task.as_bytes())?;
            child.wait_with_output()
        })
        .unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(out, "Signed in as ada, with {{pw}}.\n", "{err}");
    assert!(
        world
            .pages
            .sent()
            .contains(&"password=correct horse cli".to_owned())
    );
}
