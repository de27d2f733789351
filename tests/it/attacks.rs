//! Attacks on the daemon and its parts from code and pages. Each comes with its pair: the same
//! thing works where it should, so that the refusal is what is seen.

use crate::shared::{blank, daemon, site};

/// `--host-loopback '*'` opens the host's ports to pages and code; the daemon's own stays closed,
/// under every name it has: who reaches it can do all that the daemon can.
#[tokio::test]
async fn no_rule_opens_the_daemons_own_port_to_a_session() {
    let session = blank().await;
    let own = daemon().address().port();
    let other = site().port();
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
