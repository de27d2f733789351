//! What becomes of code while a person is in control of its browser.

use std::time::Duration;

use pagebox::grpc::v1::{Language, OnHumanControl, ReleaseControlRequest, TakeControlRequest};
use tonic::Code;

use crate::client::{Client, OpenSession, describe, reason, seconds};
use crate::daemon::Daemon;
use crate::shared::{binary, blank};

/// A caller takes control.
pub(crate) async fn take(session: &OpenSession) {
    let session_id = session.id.clone();
    let request = TakeControlRequest { session_id };
    let mut sessions = session.client().sessions();
    sessions.take_control(request).await.unwrap();
}

/// And gives it back.
pub(crate) async fn release(session: &OpenSession) {
    let session_id = session.id.clone();
    let request = ReleaseControlRequest { session_id };
    let mut sessions = session.client().sessions();
    sessions.release_control(request).await.unwrap();
}

#[tokio::test]
async fn a_click_waits_longer_than_its_code_may_take() {
    let session = blank().await;
    let set = "globalThis.before = page; await page.setContent('<button onclick=\"document.title += 1\">x</button>')";
    session.good(Language::Node, set).await;
    let code = "await new Promise((r) => setTimeout(r, 1000)); await page.click('button'); \
        [page === before, await page.title()].join(' ')";
    let mut options = session.options(Language::Node, code);
    options.timeout = seconds(3);
    let person = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        take(&session).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        release(&session).await;
    };
    let (reply, ()) = tokio::join!(session.run(options), person);
    assert_eq!(reply.result(), "true 1", "{}", describe(&reply));
    session.stop().await;
}

#[tokio::test]
async fn code_that_waits_in_line_does_not_start_under_a_person() {
    let session = blank().await;
    session.good(Language::Node, "1").await;
    let first = "await new Promise((r) => setTimeout(r, 2000)); Date.now()";
    let second = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        session.node("Date.now()").await
    };
    let refused = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut options = session.options(Language::Node, "1");
        options.on_human_control = OnHumanControl::Fail.into();
        let refused = session.client().execute(options).await.unwrap_err();
        assert_eq!(reason(&refused), "HUMAN_IN_CONTROL");
    };
    let person = async {
        tokio::time::sleep(Duration::from_millis(1000)).await;
        take(&session).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        // It may start as soon as control is asked to go back.
        let now = std::time::SystemTime::now();
        release(&session).await;
        now.duration_since(std::time::UNIX_EPOCH).unwrap()
    };
    let (first, second, (), given_back) =
        tokio::join!(session.node(first), second, refused, person);
    let at = |text: String| text.parse::<u128>().expect("milliseconds");
    assert!(at(first) < given_back.as_millis());
    assert!(at(second) >= given_back.as_millis());
    session.stop().await;
}

#[tokio::test]
async fn only_so_much_code_waits_for_a_person() {
    let daemon = Daemon::start(binary(), "[session]\nqueue_per_context = 2\n");
    let session = Client::new(&daemon.url()).open("about:blank").await;
    take(&session).await;
    let tries = (0..8).map(|_| {
        session
            .client()
            .execute(session.options(Language::Node, "1"))
    });
    let tries = futures_util::future::join_all(tries);
    let person = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        release(&session).await;
    };
    let (tries, ()) = tokio::join!(tries, person);
    let full = tries.iter().filter_map(|tried| tried.as_ref().err());
    let full: Vec<_> = full.map(|status| (status.code(), reason(status))).collect();
    let expected = (Code::ResourceExhausted, "QUEUE_FULL".to_owned());
    assert_eq!(full, vec![expected; 5], "one at the head and two more");
    session.stop().await;
}
