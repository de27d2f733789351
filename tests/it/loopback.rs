//! `localhost` of a session: servers its code runs, what of it stays closed, and ports of the host.
//!
//! The daemon here opens nothing of the host, unlike the one other tests share.

mod closed;
mod host_ports;
mod servers;
mod vite;

use std::sync::OnceLock;

use crate::client::{Client, OpenSession};
use crate::daemon::Daemon;
use crate::shared::binary;

fn daemon() -> &'static Daemon {
    static DAEMON: OnceLock<Daemon> = OnceLock::new();
    DAEMON.get_or_init(|| Daemon::start_with(binary(), "[session]\nmax_sessions = 40\n", &[]))
}

/// A new session on a blank page.
async fn blank() -> OpenSession {
    Client::new(&daemon().url()).open("about:blank").await
}

/// Bash that waits until a server answers on `port`.
fn until_up(port: u16) -> String {
    format!(
        "for i in $(seq 300); do curl -s -o /dev/null http://localhost:{port}/ && break; \
         sleep 0.1; done; curl -sS -o /dev/null http://localhost:{port}/"
    )
}

/// Status and text of `url` in the page, or the error of the browser.
async fn visit(session: &OpenSession, url: &str) -> String {
    let code = format!(
        "const visited = await page.goto('{url}').catch((error) => error);
         visited instanceof Error ? visited.message.match(/net::[A-Z_]+/)[0]
           : visited.status() + ' ' + (await page.locator('body').innerText()).trim()"
    );
    session.node(&code).await
}

/// What the page sees where no server is.
fn nothing(port: u16) -> String {
    format!("502 pagebox: nothing listens on port {port} of the session's own localhost; ")
}

/// Status of `url` for code that insists on the proxy; 000 without an answer.
async fn by_proxy(session: &OpenSession, url: &str) -> String {
    let curl = format!(
        "curl -sk -m 20 -o /dev/null -w '%{{http_connect}} %{{http_code}}' --noproxy '' \
         --proxy $http_proxy '{url}' || true"
    );
    session.bash(&curl).await
}
