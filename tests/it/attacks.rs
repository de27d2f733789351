//! Attacks on the daemon and its parts from code and pages. Each comes with its pair: the same
//! thing works where it should, so that the refusal is what is seen.

use pagebox::grpc::v1::{Language, Outcome};

use crate::shared::blank;

/// Code that fills its disk, by bytes or by files, must be able to go on and clean up: in each
/// language, and in a runner that starts only then.
#[tokio::test]
async fn a_full_scratch_leaves_every_language_able_to_clean_up() {
    let session = blank().await;
    session
        .bash("mkdir -p /workspace/kept && cd /workspace/kept")
        .await;
    let by_bytes = "i=0; while head -c 1M /dev/zero >> /tmp/big; do :; done 2>/dev/null; \
                    while printf x > /tmp/small-$((i++)); do :; done 2>/dev/null; true";
    let by_files = "python3 -c '\nimport itertools\ntry:\n  for i in itertools.count(): \
                    open(f\"/tmp/f{i}\", \"w\").close()\nexcept OSError: pass'";
    for fill in [by_bytes, by_files] {
        session.bash(fill).await;
        let full = "echo xxx > /workspace/more 2>/dev/null && echo room || echo full";
        assert_eq!(session.bash(full).await, "full");
        assert_eq!(session.bash("pwd").await, "/workspace/kept");
        assert_eq!(session.node("await page.evaluate('1 + 1')").await, "2");
        assert_eq!(session.python("await page.evaluate('1 + 1')").await, "2");
        let killed = session.exec(Language::Bash, "kill -9 -1").await;
        assert_ne!(killed.outcome(), Outcome::Completed);
        session.bash("find /tmp -maxdepth 1 -type f -delete").await;
        assert_eq!(session.bash(full).await, "room");
        session.bash("cd /workspace/kept; rm /workspace/more").await;
        assert_eq!(session.bash("agent-browser get url").await, "about:blank");
    }
    session.stop().await;
}

/// Code can end agent-browser's service, which speaks to everyone who has its socket; the next
/// execution has a new one.
#[tokio::test]
async fn agent_browsers_service_is_back_after_code_ended_it() {
    let session = blank().await;
    assert_eq!(session.bash("agent-browser get url").await, "about:blank");
    let end = "python3 -c '\nimport socket\ns = socket.socket(socket.AF_UNIX)\n\
               s.connect(\"/run/agent-browser/default.sock\")\n\
               s.send(b\"{\\\"id\\\":\\\"1\\\",\\\"action\\\":\\\"close\\\"}\\n\")\n\
               while s.recv(4096): pass'";
    session.bash(end).await;
    let back = || async {
        let reply = session.exec(Language::Bash, "agent-browser get url").await;
        reply.stdout.trim() == "about:blank"
    };
    assert!(back().await || back().await);
    session.stop().await;
}

/// The service shares the scratch: where that is full before the first bash starts, bash starts.
#[tokio::test]
async fn bash_starts_in_a_full_scratch() {
    let session = blank().await;
    let fill = "import itertools\ntry:\n  for i in itertools.count(): open(f'/tmp/f{i}', 'w').close()\n\
                except OSError: pass";
    session.good(Language::Python, fill).await;
    session.bash("find /tmp -maxdepth 1 -type f -delete").await;
    assert_eq!(session.bash("agent-browser get url").await, "about:blank");
    session.stop().await;
}
