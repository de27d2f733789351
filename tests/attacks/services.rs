//! What the daemon and its services listen on, against code that finds it.

use pagebox::grpc::v1::Language;

use crate::arena::Ground;
use crate::case::{Case, Group};

pub(crate) fn group() -> Group {
    Group {
        title: "Services",
        cases: CASES,
    }
}

const CASES: &[Case] = &[
    Case {
        number: 100,
        name: "the daemon's own port",
        tries: "the daemon's port under all its names, from a page and from code, where every port of the host is open to them",
        observed: "403 for it, 200 for another port of the host",
        run: |ground| Box::pin(own_port(ground)),
    },
    Case {
        number: 101,
        name: "agent-browser's service ended",
        tries: "tells the service, which speaks to everyone who has its socket, to end",
        observed: "the next execution, or the one after it, has a new one",
        run: |ground| Box::pin(agent_service_ended(ground)),
    },
];

/// Who reaches it can do all that the daemon can.
async fn own_port(ground: &Ground) {
    let session = ground.blank().await;
    let own = ground.daemon().address().port();
    let other = ground.site().port();
    let page = |host: &str, port: u16| {
        format!("const r = await page.goto('http://{host}:{port}/'); r.status()")
    };
    let code = |host: &str, port: u16| {
        format!(
            "set +e; curl -s -m 10 -o /dev/null -w '%{{http_connect}}' --noproxy '' -p \
             http://{host}:{port}/; true"
        )
    };
    assert_eq!(session.node(&page("127.0.0.1", other)).await, "200");
    assert_eq!(session.bash(&code("127.0.0.1", other)).await, "200");
    for host in ["127.0.0.1", "localhost", "[::1]", "127.1", "2130706433"] {
        assert_eq!(session.node(&page(host, own)).await, "403", "page, {host}");
        assert_eq!(session.bash(&code(host, own)).await, "403", "code, {host}");
    }
    session.stop().await;
}

async fn agent_service_ended(ground: &Ground) {
    let session = ground.blank().await;
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
