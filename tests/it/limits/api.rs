//! Asking for limits: what is in force, and what is refused.

use std::process::Command;

use pagebox::grpc::v1::execution_options::Place;
use pagebox::grpc::v1::{ExecutionLimits, Language, SessionLimits, SessionOptions};

use super::World;
use crate::client::{fields, reason};
use crate::shared::{binary, client, daemon};

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn what_is_asked_for_is_in_force_and_the_rest_is_the_daemons() {
    let world = World::own().await;
    let session = world
        .open(SessionLimits::default(), ExecutionLimits::default())
        .await;
    let all = session.now().await;
    let most = SessionLimits {
        memory_bytes: 3 << 30,
        processes: 2048,
        cpu_percent: 200,
        scratch_bytes: 512 * MIB,
        scratch_inodes: 65_536,
    };
    let most_of_one = ExecutionLimits {
        memory_bytes: 1 << 30,
        processes: 256,
        cpu_percent: 200,
        open_files: 1024,
        file_size_bytes: 512 * MIB,
    };
    assert_eq!(all.limits, Some(most));
    assert_eq!(all.execution_limits, Some(most_of_one));
    session.stop().await;

    let some = SessionLimits {
        scratch_bytes: 9 * MIB,
        ..SessionLimits::default()
    };
    let some_of_one = ExecutionLimits {
        open_files: 377,
        ..ExecutionLimits::default()
    };
    let session = world.open(some, some_of_one).await;
    let now = session.now().await;
    let expected = SessionLimits {
        scratch_bytes: 9 * MIB,
        ..most
    };
    assert_eq!(now.limits, Some(expected));
    let expected = ExecutionLimits {
        open_files: 377,
        ..most_of_one
    };
    assert_eq!(now.execution_limits, Some(expected));
    assert_eq!(session.bash("ulimit -n").await, "377");
    session.stop().await;
}

#[tokio::test]
async fn too_much_and_too_little_are_refused_by_name() {
    type Change = fn(&mut SessionOptions);
    let cases: [(Change, &str); 10] = [
        (
            |o| o.limits.get_or_insert_default().memory_bytes = (3 << 30) + 1,
            "limits.memory_bytes",
        ),
        (
            |o| o.limits.get_or_insert_default().memory_bytes = 1,
            "limits.memory_bytes",
        ),
        (
            |o| o.limits.get_or_insert_default().processes = 2049,
            "limits.processes",
        ),
        (
            |o| o.limits.get_or_insert_default().cpu_percent = 201,
            "limits.cpu_percent",
        ),
        (
            |o| o.limits.get_or_insert_default().scratch_bytes = 1 << 40,
            "limits.scratch_bytes",
        ),
        (
            |o| o.limits.get_or_insert_default().scratch_inodes = 1,
            "limits.scratch_inodes",
        ),
        (
            |o| o.execution_limits.get_or_insert_default().memory_bytes = MIB,
            "execution_limits.memory_bytes",
        ),
        (
            |o| o.execution_limits.get_or_insert_default().processes = 257,
            "execution_limits.processes",
        ),
        (
            |o| o.execution_limits.get_or_insert_default().open_files = 1025,
            "execution_limits.open_files",
        ),
        (
            |o| o.execution_limits.get_or_insert_default().file_size_bytes = 1,
            "execution_limits.file_size_bytes",
        ),
    ];
    let client = client();
    for (change, field) in cases {
        let mut options = SessionOptions::default();
        change(&mut options);
        let status = client.create(options.clone()).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
        assert_eq!(fields(&status), [format!("options.{field}")]);
        assert_eq!(reason(&status), "INVALID_FIELD");

        let once = pagebox::grpc::v1::ExecutionOptions {
            place: Some(Place::OneShot(options)),
            code: "1".to_owned(),
            ..Default::default()
        };
        let status = client.execute(once).await.unwrap_err();
        assert_eq!(fields(&status), [format!("options.one_shot.{field}")]);
    }
}

#[tokio::test]
async fn an_execution_has_limits_of_its_own_only_in_a_sandbox_of_its_own() {
    let limits = ExecutionLimits {
        open_files: 400,
        ..ExecutionLimits::default()
    };
    let client = client();
    let session = client.open("about:blank").await;
    let mut options = session.options(Language::Bash, "ulimit -n");
    options.limits = Some(limits);
    let status = client.execute(options.clone()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
    assert_eq!(fields(&status), ["options.limits"]);
    assert!(status.message().contains("fresh"), "{status:?}");

    options.fresh = true;
    let reply = session.run(options.clone()).await;
    assert_eq!(reply.stdout, "400\n");
    assert_eq!(session.bash("ulimit -n").await, "1024", "only that one");

    // Not more than the session's.
    options.limits = Some(ExecutionLimits {
        memory_bytes: 2 << 30,
        ..limits
    });
    let status = client.execute(options.clone()).await.unwrap_err();
    assert_eq!(fields(&status), ["options.limits.memory_bytes"]);
    session.stop().await;

    options.fresh = false;
    options.limits = Some(limits);
    options.place = Some(Place::OneShot(SessionOptions::default()));
    let reply = client.execute(options).await.unwrap();
    assert_eq!(reply.stdout, "400\n");
}

#[tokio::test]
async fn the_command_line_asks_for_limits_and_shows_them() {
    let run = |arguments: &[&str]| {
        let ended = Command::new(binary())
            .args(arguments)
            .env("PAGEBOX_SERVER", daemon().url())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
        (
            ended.status.code(),
            String::from_utf8_lossy(&ended.stdout).into_owned(),
            stderr,
        )
    };
    let (code, id, stderr) = run(&[
        "session",
        "create",
        "--memory",
        "1 GiB",
        "--scratch",
        "20MiB",
        "--execution-memory",
        "300 MiB",
        "--open-files",
        "300",
    ]);
    assert_eq!(code, Some(0), "{stderr}");
    let id = id.trim();
    let (_, shown, _) = run(&["session", "show", id]);
    for line in [
        "limits       memory 1 GiB, 2048 processes, cpu 200 %, scratch 20 MiB in 65536 files",
        "of contexts  memory 300 MiB, 256 processes, cpu 200 %, 300 open files, files of 512 MiB",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    let code = ["-l", "bash", "-e", "ulimit -n"];
    let fresh = [
        &["exec", "-s", id, "--fresh", "--open-files", "270"],
        &code[..],
    ]
    .concat();
    assert_eq!(run(&fresh), (Some(0), "270\n".to_owned(), String::new()));
    let (status, _, stderr) = run(&["exec", "-s", id, "--open-files", "270", "-e", "1"]);
    assert_eq!(status, Some(125), "{stderr}");
    assert!(stderr.contains("options.limits"), "{stderr}");
    run(&["session", "stop", id]);
}
