//! The command line as a shell sees it: streams, exit statuses, JSON.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::daemon::host::command;
use crate::shared::{binary, daemon, site};

fn pagebox(arguments: &[&str]) -> Command {
    let mut command = command(binary());
    command
        .args(arguments)
        .env_remove("PAGEBOX_SERVER")
        .stdin(Stdio::null());
    command
}

/// With `PAGEBOX_SERVER` naming the shared daemon.
fn remote(arguments: &[&str]) -> Output {
    let mut command = pagebox(arguments);
    command.env("PAGEBOX_SERVER", daemon().url());
    command.output().unwrap()
}

/// What a shell sees: exit status, stdout, stderr.
fn seen(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error} in {:?}", seen(output)))
}

#[test]
fn exec_passes_streams_and_exit_codes_through() {
    let out = |text: &str| text.to_owned();
    for (arguments, want) in [
        (
            &["exec", "-l", "bash", "-e", "echo out; echo err >&2; exit 3"][..],
            (Some(3), out("out\n"), out("err\n")),
        ),
        (
            &["exec", "-e", "console.log('logged'); 'the result'"][..],
            (Some(0), out("logged\nthe result\n"), out("")),
        ),
        (
            &["exec", "-l", "python", "-e", "print('p')\n6 * 7"][..],
            (Some(0), out("p\n42\n"), out("")),
        ),
    ] {
        assert_eq!(seen(&remote(arguments)), want, "{arguments:?}");
    }
}

#[test]
fn exec_tells_a_timeout_by_124_and_its_own_failure_by_125() {
    let output = remote(&["exec", "-t", "1", "-e", "while (true) {}"]);
    assert_eq!(output.status.code(), Some(124), "{:?}", seen(&output));
    let output = pagebox(&["exec", "--server", "http://127.0.0.1:9", "-e", "1"])
        .output()
        .unwrap();
    let (code, stdout, stderr) = seen(&output);
    assert_eq!((code, &*stdout), (Some(125), ""));
    assert!(!stderr.is_empty());
    let session = "01890000-0000-7000-8000-000000000000";
    let output = remote(&["exec", "-s", session, "-e", "1"]);
    assert_eq!(output.status.code(), Some(125), "{:?}", seen(&output));
}

#[test]
fn exec_narrows_the_network_of_its_own_session_only() {
    let about = site().url("/about.html");
    let code = "page.url()";
    let open = remote(&["exec", "--allow", "localhost", "--url", &about, "-e", code]);
    assert_eq!(seen(&open), (Some(0), format!("{about}\n"), String::new()));
    for (flags, rule) in [
        (&["--offline"][..], "offline"),
        (&["--allow", "a.test"], "session allow"),
        (&["--deny", "localhost:*"], "session deny localhost:*"),
    ] {
        let output = remote(&[&["exec", "--url", &about, "-e", code], flags].concat());
        let (_, _, stderr) = seen(&output);
        assert!(
            stderr.contains(&format!("refused by rule \"{rule}\"")),
            "{stderr}"
        );

        let create = remote(&[&["session", "create", "--json", "--url", &about], flags].concat());
        let session = json_of(&create);
        let error = session["startError"].as_str().unwrap_or_default();
        assert!(
            error.contains(&format!("refused by rule \"{rule}\"")),
            "{session}"
        );
        remote(&["session", "stop", session["id"].as_str().unwrap()]);

        let output = remote(&[&["exec", "-s", "id", "-e", "1"], flags].concat());
        assert_eq!(output.status.code(), Some(2), "{:?}", seen(&output));
    }
    let output = remote(&["exec", "--allow", "10.0.0.1/8", "-e", "1"]);
    let (code, _, stderr) = seen(&output);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("--allow"), "{stderr}");
}

#[test]
fn exec_reads_a_file_and_stdin() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("code.js");
    std::fs::write(&file, "'from a file'").unwrap();
    let output = remote(&["exec", file.to_str().unwrap()]);
    assert_eq!(seen(&output).1, "from a file\n");

    let mut child = pagebox(&["exec", "-l", "bash", "-"])
        .env("PAGEBOX_SERVER", daemon().url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"echo from stdin\n").unwrap();
    drop(stdin);
    assert_eq!(seen(&child.wait_with_output().unwrap()).1, "from stdin\n");
}

#[test]
fn exec_json_is_the_reply() {
    let url = site().url("/");
    let code = "console.log('x'); await page.title()";
    let output = remote(&["exec", "--json", "--url", &url, "-e", code]);
    let reply = json_of(&output);
    for (name, want) in [
        ("success", json!(true)),
        ("outcome", json!("OUTCOME_COMPLETED")),
        ("exitCode", json!(0)),
        ("killed", json!(false)),
        ("stdout", json!("x\n")),
        ("stderr", json!("")),
        ("result", json!("Tidewater Almanac")),
        ("stdoutTruncated", json!(false)),
        ("url", json!(url)),
        ("title", json!("Tidewater Almanac")),
    ] {
        assert_eq!(reply[name], want, "{name} in {reply}");
    }
    let output = remote(&["exec", "--json", "-e", "throw new TypeError('t')"]);
    let reply = json_of(&output);
    assert_eq!(
        reply["error"],
        json!({ "name": "TypeError", "message": "t" })
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn sessions_are_managed_and_named() {
    let url = site().url("/");
    let created = json_of(&remote(&["session", "create", "--url", &url, "--json"]));
    let id = created["id"].as_str().unwrap().to_owned();
    let run = |code: &str| seen(&remote(&["exec", "-s", &id, "-e", code]));
    assert_eq!(
        run("globalThis.n = 1; await page.click('#count')").0,
        Some(0)
    );
    assert_eq!(
        run("`${n} ${await page.textContent('#counter')}`"),
        (Some(0), "1 1\n".to_owned(), String::new())
    );
    let (_, list, _) = seen(&remote(&["session", "list"]));
    assert!(list.contains(&id), "{list}");
    let shown = json_of(&remote(&["session", "show", &id, "--json"]));
    assert_eq!(shown["session"]["id"], json!(id));
    assert_eq!(remote(&["session", "stop", &id]).status.code(), Some(0));
    assert_eq!(
        run("1").0,
        Some(125),
        "a stopped session is pagebox's failure"
    );
}

#[test]
fn exec_alone_runs_an_embedded_daemon_and_leaves_nothing() {
    let output = pagebox(&["exec", "-e", "await page.evaluate(() => 6 * 7)"])
        .output()
        .unwrap();
    let (code, stdout, stderr) = seen(&output);
    assert_eq!((code, &*stdout), (Some(0), "42\n"), "{stderr}");
}

#[test]
fn config_prints_what_serve_would_use_and_refuses_unknown_keys() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pagebox.toml");
    std::fs::write(&file, "[session]\nmax_sessions = 7\n").unwrap();
    let arguments = ["config", "--config", file.to_str().unwrap()];
    let (code, stdout, stderr) = seen(&pagebox(&arguments).output().unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    let printed: toml::Table = stdout.parse().unwrap();
    assert_eq!(printed["session"]["max_sessions"].as_integer(), Some(7));

    std::fs::write(&file, "[session]\nmax_sesions = 7\n").unwrap();
    let (code, _, stderr) = seen(&pagebox(&arguments).output().unwrap());
    assert_ne!(code, Some(0));
    assert!(stderr.contains("max_sesions"), "{stderr}");
}

#[test]
fn doctor_help_and_completions_answer() {
    let (code, stdout, stderr) = seen(&pagebox(&["doctor"]).output().unwrap());
    // Nothing is refused here that `command` does not allow.
    assert!(code.is_some_and(|code| code <= 1), "{stderr}");
    for word in ["seccomp", "cgroup", "hromium"] {
        assert!(stdout.contains(word), "no {word} in\n{stdout}");
    }
    for command in ["serve", "exec", "session", "doctor", "config"] {
        let (code, stdout, _) = seen(&pagebox(&[command, "--help"]).output().unwrap());
        assert_eq!(code, Some(0), "{command}");
        assert!(stdout.contains("Usage"), "{stdout}");
    }
}
