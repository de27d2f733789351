//! How a case runs its client in a sandbox and looks at the session afterwards.

use std::path::Path;
use std::time::Duration;

use pagebox::grpc::v1::{ExecuteResponse, Language};
use serde_json::Value;

use crate::client::{Client, OpenSession, describe};
use crate::daemon::Daemon;

/// A CDP client whose every byte is the attacker's.
const CLIENT: &str = include_str!("client.js");
/// For code that may take long on a busy machine.
pub(super) const LONG: Duration = Duration::from_secs(110);

/// A daemon of the case's own and a session of it: for another configuration, or to let pages reach
/// servers that the session's code runs, which the arena's daemon does not.
pub(super) async fn alone(config: &str) -> (Daemon, OpenSession) {
    let daemon = Daemon::start_with(Path::new(env!("CARGO_BIN_EXE_pagebox")), config, &[]);
    let session = Client::new(&daemon.url()).open("about:blank").await;
    (daemon, session)
}

/// Runs client code in the session; its last expression, a JSON text, is what is returned.
pub(super) async fn attack(session: &OpenSession, code: &str) -> Value {
    let reply = attempt(session, code).await;
    let text = reply.result.as_deref();
    let text = text.unwrap_or_else(|| panic!("{}\nof\n{code}", describe(&reply)));
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text} of\n{code}"))
}

/// Runs client code in the session, however it ends.
pub(super) async fn attempt(session: &OpenSession, code: &str) -> ExecuteResponse {
    let code = format!("{CLIENT}\n{code}");
    session.exec_within(LONG, Language::Node, &code).await
}

/// The session's browser serves its other clients and a new one.
pub(super) async fn serves(session: &OpenSession) {
    let code = "await page.goto('data:text/html,<title>afterwards</title>'); \
                await page.evaluate(() => new Promise((r) => setTimeout(() => r(6 * 7), 20)))";
    let reply = session.exec_within(LONG, Language::Node, code).await;
    assert_eq!(reply.result.as_deref(), Some("42"), "{}", describe(&reply));
    let fresh = attack(
        session,
        "const client = await Cdp.connect(); const own = await client.page(); \
         const title = await client.value('document.title', own); client.close(); \
         JSON.stringify([client.status, title])",
    )
    .await;
    assert_eq!(fresh, serde_json::json!([101, "afterwards"]));
}
