//! Resources: what one session takes must not be missing anywhere else.

use std::time::Duration;

use pagebox::grpc::v1::{Language, Outcome};

use crate::arena::Ground;
use crate::case::{Case, Group};

pub(crate) fn group() -> Group {
    Group {
        title: "Resources",
        cases: CASES,
    }
}

const CASES: &[Case] = &[Case {
    number: 11,
    name: "busy loop",
    tries: "`while (true) {}` in node",
    observed: "killed at the deadline, `TIMED_OUT`, exit code 137; the next execution has a new context",
    run: |ground| Box::pin(busy_loop(ground)),
}];

async fn busy_loop(ground: &Ground) {
    let session = ground.blank().await;
    let limit = Duration::from_secs(1);
    let reply = session
        .exec_within(limit, Language::Node, "while (true) {}")
        .await;
    assert_eq!(reply.outcome(), Outcome::TimedOut);
    assert!(reply.killed && reply.exit_code == 137);
    assert!(session.good(Language::Node, "1").await.context_restarted);
    session.stop().await;
}
