//! Sites that are slow, silent or endless: they cost their own request, and end with it.

use std::time::Duration;

use pagebox::grpc::v1::{Language, Outcome};

use super::world::{nothing_closed_was_reached, own, world};
use crate::client::describe;
use crate::internet::World;
use crate::leaks::{descendants, eventually, resident_kib};

/// Long on purpose: the machine may be busy. What is waited for takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a daemon may keep of answers no one reads, all buffers of all connections together. Endless
/// sites would have sent gigabytes.
const HOARD_KIB: u64 = 128 << 10;

/// Waits until as many connections as said, whose request holds `mark`, are open.
async fn connections(world: &World, mark: &str, wanted: usize) {
    eventually(PATIENCE, async || match world.sites().open(mark) {
        open if open == wanted => Ok(()),
        open => Err(format!("{open} connections of {mark}, not {wanted}")),
    })
    .await;
}

/// The timeout of an execution ends what it was downloading, whatever the site does.
#[tokio::test]
async fn a_download_ends_with_the_execution_that_runs_it() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    for path in ["endless?over", "drip?over", "silent?over"] {
        let url = format!("http://public.example/{path}");
        let bash = format!("curl -s {url} >/dev/null");
        let node = format!("for await (const x of (await fetch('{url}')).body);");
        let python = format!(
            "import urllib.request\nr = urllib.request.urlopen('{url}')\nwhile r.read(65536): pass"
        );
        let limit = Duration::from_secs(5);
        let replies = tokio::join!(
            session.exec_within(limit, Language::Bash, &bash),
            session.exec_within(limit, Language::Node, &node),
            session.exec_within(limit, Language::Python, &python),
        );
        for reply in <[_; 3]>::from(replies) {
            assert_eq!(reply.outcome(), Outcome::TimedOut, "{}", describe(&reply));
        }
        connections(world, path, 0).await;
        let reached = world.sites().of_request(path);
        assert_eq!(reached.len(), 3, "each was on its way: {reached:?}");
    }
    session.stop().await;
    nothing_closed_was_reached(world);
}

/// A page that loads for ever is left like any other.
#[tokio::test]
async fn a_page_that_never_ends_can_be_left() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    for path in ["drip?page", "silent?page", "endless?page"] {
        let code = format!(
            "const late = await page.goto('http://public.example/{path}', {{ timeout: 2000 }})
               .then(() => 'loaded', (e) => /Timeout/.test(e) ? 'late' : String(e));
             const next = await page.goto('http://other.example/after');
             late + ' ' + next.status()"
        );
        assert_eq!(session.node(&code).await, "late 200", "{path}");
        connections(world, path, 0).await;
    }
    session.stop().await;
    nothing_closed_was_reached(world);
}

/// A session full of stuck connections is served beside others, and stops as promptly.
#[tokio::test]
async fn stuck_connections_hold_up_neither_others_nor_the_end() {
    let Some(world) = own("") else { return };
    let session = world.client().open("http://public.example/page").await;
    let pid = world.daemon().pid();
    let before = resident_kib(pid);
    // Ten of each, by code that reads nothing of what comes, and six by the page.
    let stick = "
import socket
stuck = []
for path in ['endless?stuck', 'drip?stuck', 'silent?stuck'] * 10:
    s = socket.create_connection(('127.0.0.1', 3128))
    s.sendall(f'GET http://public.example/{path} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'.encode())
    stuck.append(s)
len(stuck)";
    assert_eq!(session.python(stick).await, "30");
    // (URLs of their own: Chromium would have one wait for the other's cache entry.)
    let stick = "await page.evaluate(() => {
        self.stuck = ['endless', 'drip', 'silent', 'drip', 'silent', 'endless']
          .map((path, n) => fetch(`http://public.example/${path}?stuck&page=${n}`));
      }); 'stuck'";
    assert_eq!(session.node(stick).await, "stuck");
    connections(&world, "?stuck", 36).await;

    let other = world.client().open("http://other.example/beside").await;
    assert_eq!(other.node("await page.title()").await, "reached");
    let code = "curl -s http://public.example/beside | grep -c reached";
    assert_eq!(other.bash(code).await, "1");
    assert_eq!(session.bash(code).await, "1");
    assert_eq!(world.sites().open("?stuck"), 36);
    let grown = resident_kib(pid).saturating_sub(before);
    assert!(
        grown < HOARD_KIB,
        "{grown} KiB more for 36 stuck connections"
    );

    other.stop().await;
    let ended = tokio::time::timeout(PATIENCE, session.stop()).await;
    ended.expect("it stops although sites never end");
    connections(&world, "?stuck", 0).await;
    // Of both sessions only the spawner is left.
    eventually(PATIENCE, async || {
        let left = descendants(pid);
        if left.len() == 1 {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })
    .await;
    nothing_closed_was_reached(&world);
}
