//! Memory.

use std::time::Duration;

use pagebox::grpc::v1::{ExecuteResponse, Language, Outcome};

use crate::arena::Ground;
use crate::client::describe;
use crate::inside::{self, goes_on};
use crate::outside;

/// Enough for every runner, little enough to reach at once.
const LIMIT: u64 = 256 << 20;
const CONFIG: &str = "[runner]\nmemory = \"256 MiB\"\n";
/// How long a bomb may take to go off on a busy machine.
const FUSE: Duration = Duration::from_secs(60);

/// What the limit of `ground` says to code that went beyond it.
fn went_off(ground: &Ground, reply: &ExecuteResponse) {
    if ground.mode().limits_groups() {
        inside::ended(reply, &[Outcome::OutOfMemory]);
        let peak = reply.peak_memory_bytes;
        assert!(
            peak > LIMIT / 2 && peak <= LIMIT,
            "{}: {peak}",
            describe(reply)
        );
    } else {
        // Each process has a limit; what it cannot have, it is told. The rest is watched.
        let ends = [
            Outcome::OutOfMemory,
            Outcome::Failed,
            Outcome::RunnerCrashed,
        ];
        inside::ended(reply, &ends);
    }
}

pub(super) async fn bomb(ground: &Ground) {
    let most = "held = bytearray(b'x') * (400 << 20)\nprint(len(held))";
    assert_eq!(outside::good(Language::Python, most).await, "419430400");
    let own = ground.own(CONFIG);
    let session = own.blank().await;
    for (language, code) in [
        (
            Language::Node,
            "const hoard = []; for (;;) hoard.push(Buffer.alloc(16 << 20, 1))",
        ),
        (
            Language::Node,
            "const hoard = []; for (let i = 0; ; i++) hoard.push(new Array(100000).fill(i + 0.5))",
        ),
        (
            Language::Python,
            "hoard = []\nwhile True: hoard.append(bytearray(b'x') * (16 << 20))",
        ),
        (
            Language::Python,
            "import mmap\nhoard = []\nwhile True:\n    m = mmap.mmap(-1, 16 << 20)\n    \
             m.write(b'x' * (16 << 20))\n    hoard.append(m)",
        ),
        (
            Language::Python,
            "import os\nf = os.memfd_create('x')\nwhile True: os.write(f, b'x' * (16 << 20))",
        ),
        (Language::Bash, "x=x; while :; do x=$x$x; done"),
        (Language::Bash, "head -c 480M /dev/zero > /tmp/big"),
    ] {
        let reply = session.exec_within(FUSE, language, code).await;
        let to_disk = code.contains("/tmp/big");
        if to_disk && !ground.mode().limits_groups() {
            inside::ended(&reply, &[Outcome::Completed]);
        } else {
            went_off(ground, &reply);
        }
        if to_disk {
            session.exec(Language::Bash, "rm -f /tmp/big").await;
        }
        goes_on(&session).await;
    }
    session.stop().await;
    own.end().await;
}

pub(super) async fn in_children(ground: &Ground) {
    let code = "\
import os, time
end, keep = os.pipe()
for _ in range(50):
    if os.fork() == 0:
        os.close(keep)
        held = bytearray(b'x') * (16 << 20)
        os.read(end, 1)
        os._exit(0)
time.sleep(WAIT)
os.close(keep)
codes = [os.wait()[1] for _ in range(50)]
print(codes.count(0))
assert codes.count(0) == 50, codes";
    assert_eq!(
        outside::good(Language::Python, &code.replace("WAIT", "1")).await,
        "50"
    );
    let own = ground.own(CONFIG);
    let session = own.blank().await;
    let reply = session
        .exec_within(FUSE, Language::Python, &code.replace("WAIT", "5"))
        .await;
    if ground.mode().limits_groups() {
        went_off(ground, &reply);
    } else {
        // The watchdog looks now and then, so the children may have been quicker.
        let ends = [Outcome::OutOfMemory, Outcome::Completed];
        inside::ended(&reply, &ends);
        ground.note(format!("without cgroups: {:?}", reply.outcome()));
    }
    goes_on(&session).await;
    session.stop().await;
    own.end().await;
}
