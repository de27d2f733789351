//! Files: how many are open, how large one is, how much a session keeps.

use pagebox::grpc::v1::{ExecutionLimits, Language, Outcome, SessionLimits};

use super::{World, goes_on};
use crate::client::describe;

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn open_files_end_at_the_limit() {
    for world in World::all().await {
        let limits = ExecutionLimits {
            open_files: 300,
            ..ExecutionLimits::default()
        };
        let session = world.open_contexts(limits).await;
        let python = session
            .python(
                "files = []\ntry:\n    while True: files.append(open('/dev/null'))\n\
                 except OSError as error: caught = error.errno\n\
                 count = len(files)\nfiles.clear()\n(count < 300, caught)",
            )
            .await;
        assert_eq!(python, "[true,24]", "EMFILE");
        let node = session
            .node(
                "const fs = require('fs'), files = []; let caught;\n\
                 try { for (;;) files.push(fs.openSync('/dev/null')) } catch (e) { caught = e.code }\n\
                 const count = files.length; files.forEach(f => fs.closeSync(f));\n\
                 [count < 300, caught]",
            )
            .await;
        assert_eq!(node, r#"[true,"EMFILE"]"#);
        assert_eq!(session.bash("ulimit -n; ulimit -Hn").await, "300\n300");
        goes_on(&session).await;
        session.stop().await;
    }
}

#[tokio::test]
async fn every_language_starts_with_the_least_file_size() {
    for world in World::all().await {
        let limits = ExecutionLimits {
            file_size_bytes: MIB / 4,
            ..ExecutionLimits::default()
        };
        let session = world.open_contexts(limits).await;
        goes_on(&session).await;
        session.stop().await;
    }
}

#[tokio::test]
async fn a_file_ends_at_its_limit_by_error_or_signal() {
    for world in World::all().await {
        let limits = ExecutionLimits {
            file_size_bytes: MIB,
            ..ExecutionLimits::default()
        };
        let session = world.open_contexts(limits).await;
        let python = session
            .python(
                "import os\ntry:\n    with open('/tmp/p', 'wb', 0) as f:\n        \
                 while True: f.write(b'x' * 300_000)\n\
                 except OSError as error: caught = error.errno\n\
                 (caught, os.path.getsize('/tmp/p'))",
            )
            .await;
        assert_eq!(python, "[27,1048576]", "EFBIG at the byte");
        let node = session
            .node(
                "const fs = require('fs'); let caught;\n\
                 try { fs.writeFileSync('/tmp/n', Buffer.alloc(2 << 20)) } catch (e) { caught = e.code }\n\
                 [caught, fs.statSync('/tmp/n').size]",
            )
            .await;
        assert_eq!(node, r#"["EFBIG",1048576]"#);
        // A child without a handler is ended by SIGXFSZ, 25.
        let bash = session
            .bash("head -c 2000000 /dev/zero > /tmp/b; echo $? $(stat -c %s /tmp/b)")
            .await;
        assert_eq!(bash, "153 1048576");
        // bash itself too; that is its own end and no limit of Pagebox's.
        let reply = session
            .exec(
                Language::Bash,
                "printf '%2000000d' 1 > /tmp/c; echo not here",
            )
            .await;
        assert!(
            matches!(reply.outcome(), Outcome::Failed | Outcome::Completed),
            "{}",
            describe(&reply)
        );
        assert!(!reply.killed);
        assert_eq!(session.bash("stat -c %s /tmp/c").await, "1048576");
        goes_on(&session).await;
        session.stop().await;
    }
}

#[tokio::test]
async fn the_files_of_all_contexts_share_bytes_and_inodes() {
    for world in World::all().await {
        let limits = SessionLimits {
            scratch_bytes: 8 * MIB,
            scratch_inodes: 200,
            ..SessionLimits::default()
        };
        let session = world.open(limits, ExecutionLimits::default()).await;
        let python = session
            .python("open('/workspace/p', 'wb').write(bytes(5 << 20))")
            .await;
        assert_eq!(python, "5242880");
        let node = session
            .node(
                "const fs = require('fs'); let caught;\n\
                 try { fs.writeFileSync('/tmp/n', Buffer.alloc(5 << 20)) } catch (e) { caught = e.code }\n\
                 [caught, fs.statSync('/tmp/n').size <= 3 << 20]",
            )
            .await;
        assert_eq!(node, r#"["ENOSPC",true]"#);
        let bash = session
            .bash(
                "rm /tmp/n /workspace/p; for i in $(seq 400); do : > /tmp/f$i || break; done \
                   2>/tmp/error; ls /tmp | wc -l",
            )
            .await;
        let files: u32 = bash.parse().unwrap();
        assert!((100..200).contains(&files), "{files}");
        session.bash("rm -f /tmp/f*").await;
        goes_on(&session).await;
        session.stop().await;
    }
}
