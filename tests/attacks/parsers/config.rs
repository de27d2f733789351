//! What a config file does to a daemon that starts.

use std::process::Stdio;
use std::time::Duration;

use crate::arena::Ground;

/// Nothing of it is run, so it takes no time.
const AT_ONCE: Duration = Duration::from_secs(60);

pub(super) async fn hostile(_: &Ground) {
    let directory = tempfile::tempdir().expect("a directory");
    let long = |text: &str, times: usize| text.repeat(times).into_bytes();
    let files: [(&str, Vec<u8>); 12] = [
        ("binary", (0..=255).collect()),
        ("nul", b"[session]\nmax_sessions = 1\0".to_vec()),
        ("deep", [long("x = ", 1), long("[", 200_000)].concat()),
        (
            "deep-table",
            [long("a.", 100_000), b"b = 1".to_vec()].concat(),
        ),
        ("long", [long("x", 20 << 20), b" = 1".to_vec()].concat()),
        (
            "many",
            (0..50_000)
                .flat_map(|n| format!("k{n} = {n}\n").into_bytes())
                .collect(),
        ),
        (
            "twice",
            b"[session]\nmax_sessions = 1\nmax_sessions = 2\n".to_vec(),
        ),
        ("type", b"session = 7".to_vec()),
        (
            "number",
            b"[session]\nmax_sessions = 99999999999999999999999\n".to_vec(),
        ),
        ("negative", b"[session]\nmax_sessions = -1\n".to_vec()),
        (
            "size",
            b"[egress]\nmax_bytes = \"99999999999999999 GiB\"\n".to_vec(),
        ),
        (
            "rule",
            [
                b"[egress]\nallow = [\"".to_vec(),
                long("*.", 100_000),
                b"\"]".to_vec(),
            ]
            .concat(),
        ),
    ];
    let mut paths = vec![
        "/dev/zero".into(),
        "/dev/full".into(),
        "/proc/self/mem".into(),
    ];
    paths.push(directory.path().to_owned());
    for (name, bytes) in files {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).expect("there is room");
        paths.push(path);
    }
    for path in paths {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_pagebox"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--config"]);
        command.arg(&path).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(AT_ONCE, command.output()).await;
        let output = output.unwrap_or_else(|_| panic!("{} is still read", path.display()));
        let output = output.expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        // Not by a signal: no crash, and not for want of memory.
        let code = output.status.code();
        assert_eq!(code, Some(125), "{}: {said}", path.display());
        assert!(
            said.contains(&*path.to_string_lossy()),
            "{}: {said}",
            path.display()
        );
        assert!(
            said.len() < 10_000,
            "{}: {} bytes of error",
            path.display(),
            said.len()
        );
    }
}
