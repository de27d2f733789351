//! Code that asks for a person from inside: `pagebox.handoff`.

use std::time::Duration;

use pagebox::grpc::v1::watch_session_response::Event;
use pagebox::grpc::v1::{
    EndReason, ExecuteResponse, Language, Outcome, ReleaseControlRequest, SessionOptions,
    TakeControlRequest, WatchSessionRequest, WatchSessionResponse,
};
use tokio_stream::StreamExt as _;
use tonic::Streaming;

use crate::client::{Client, OpenSession, describe, seconds};
use crate::daemon::Daemon;
use crate::shared::{binary, blank, client};

/// Longest wait for anything here.
const LIMIT: Duration = Duration::from_secs(30);

/// What a session tells of itself.
struct Events(Streaming<WatchSessionResponse>);

impl Events {
    async fn of(session: &OpenSession) -> Self {
        let request = WatchSessionRequest {
            session_id: session.id.clone(),
        };
        let mut sessions = session.client().sessions();
        Self(sessions.watch_session(request).await.unwrap().into_inner())
    }

    /// The next thing that code asks a person for; empty when it does not any more.
    async fn asked(&mut self) -> String {
        loop {
            let event = tokio::time::timeout(LIMIT, self.0.next()).await;
            let event = event.expect("an event in time").unwrap().unwrap().event;
            if let Some(Event::HumanAsked(asked)) = event {
                return asked.reason;
            }
        }
    }
}

async fn take(session: &OpenSession) {
    let session_id = session.id.clone();
    let request = TakeControlRequest { session_id };
    let mut sessions = session.client().sessions();
    sessions.take_control(request).await.unwrap();
}

async fn release(session: &OpenSession) {
    let session_id = session.id.clone();
    let request = ReleaseControlRequest { session_id };
    let mut sessions = session.client().sessions();
    sessions.release_control(request).await.unwrap();
}

/// Runs code that asks for a person, has one come who takes longer than the code's whole timeout, and
/// checks what was told.
async fn helped(session: &OpenSession, language: Language, code: &str) -> ExecuteResponse {
    let mut events = Events::of(session).await;
    let mut options = session.options(language, code);
    options.timeout = seconds(2);
    let person = async {
        assert_eq!(events.asked().await, "solve the \"captcha\" ü");
        take(session).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        release(session).await;
        assert_eq!(events.asked().await, "");
    };
    let (reply, ()) = tokio::join!(session.run(options), person);
    reply
}

#[tokio::test]
async fn node_waits_for_a_person() {
    let session = blank().await;
    // So that the clock counts what the code does, and not a runner's start.
    session
        .good(Language::Node, "globalThis.before = page; 1")
        .await;
    let code = "await pagebox.handoff('solve the \"captcha\" ü'); page === before";
    let reply = helped(&session, Language::Node, code).await;
    assert_eq!(reply.result(), "true", "{}", describe(&reply));
    session.stop().await;
}

#[tokio::test]
async fn python_waits_for_a_person() {
    let session = blank().await;
    session.good(Language::Python, "before = page").await;
    let code = "await pagebox.handoff('solve the \"captcha\" ü')\npage is before";
    let reply = helped(&session, Language::Python, code).await;
    assert_eq!(reply.result(), "true", "{}", describe(&reply));
    session.stop().await;
}

#[tokio::test]
async fn bash_waits_for_a_person() {
    let session = blank().await;
    session.good(Language::Bash, "true").await;
    let code = "pagebox-handoff 'solve the \"captcha\" ü' && echo done";
    let reply = helped(&session, Language::Bash, code).await;
    assert_eq!(reply.stdout, "done\n", "{}", describe(&reply));
    session.stop().await;
}

#[tokio::test]
async fn nobody_in_time_is_an_error_and_then_the_clock_goes_on() {
    let session = blank().await;
    let code = "try { await pagebox.handoff('anybody?', { timeout: 1 }) } catch (e) { `${e.name} ${e.message}` }";
    let said = session.node(code).await;
    assert_eq!(said, "TimeoutError handoff: no person was done within 1s");
    let code = "try:\n  await pagebox.handoff('anybody?', timeout=0.5)\nexcept TimeoutError as e:\n  said = str(e)\nsaid";
    assert_eq!(
        session.python(code).await,
        "handoff: no person was done within 500ms"
    );
    let code = "pagebox-handoff --timeout 1 anybody || echo $?";
    assert_eq!(session.bash(code).await, "124");
    let code = "await pagebox.handoff('anybody?', { timeout: 1 }).catch(() => {}); for (;;) await new Promise((r) => setTimeout(r, 50))";
    let reply = session
        .exec_within(Duration::from_secs(2), Language::Node, code)
        .await;
    assert_eq!(reply.outcome(), Outcome::TimedOut, "{}", describe(&reply));
    session.stop().await;
}

#[tokio::test]
async fn only_running_code_asks_and_what_has_ended_asks_no_more() {
    let session = blank().await;
    let mut events = Events::of(&session).await;
    // Not waited for: its end is that of the execution.
    let code = "globalThis.late = pagebox.handoff('never mind').then(() => 'done', (e) => e.message); \
        await new Promise((r) => setTimeout(r, 500)); 1";
    session.good(Language::Node, code).await;
    assert_eq!(events.asked().await, "never mind");
    assert_eq!(events.asked().await, "");
    assert_eq!(
        session.node("await late").await,
        "handoff: the execution that asked has ended"
    );
    // A program that goes on between executions, with the token of the runner.
    let code = "(sleep 1; pagebox-handoff 'still here' 2> /tmp/said) & true";
    session.good(Language::Bash, code).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let said = session.bash("cat /tmp/said").await;
    assert_eq!(
        said,
        "pagebox-handoff: only code that runs can ask for a person"
    );
    // One that gives up waiting.
    let code = "timeout 1 pagebox-handoff 'I am gone' || echo gone";
    assert_eq!(session.bash(code).await, "gone");
    assert_eq!(events.asked().await, "I am gone");
    assert_eq!(events.asked().await, "");
    for (code, said) in [
        ("timeout: 0", "timeout must be seconds"),
        ("timeout: 1e9", "timeout must be seconds"),
        ("timeout: 'x'", "timeout must be seconds"),
    ] {
        let code = format!("await pagebox.handoff('x', {{ {code} }}).catch((e) => e.message)");
        let heard = session.node(&code).await;
        assert!(heard.contains(said), "{heard}");
    }
    session.stop().await;
}

#[tokio::test]
async fn a_daemon_says_how_long_people_are_waited_for() {
    let daemon = Daemon::start(binary(), "[cdp]\nhandoff_limit = \"2s\"\n");
    let session = Client::new(&daemon.url()).open("about:blank").await;
    for options in ["{ timeout: 3 }", "undefined"] {
        let code = format!("await pagebox.handoff('anybody?', {options}).catch((e) => e.message)");
        let said = session.node(&code).await;
        assert_eq!(said, "handoff: no person was done within 2s");
    }
    // Again and again.
    let code = "for (;;) await pagebox.handoff('anybody?', { timeout: 1 }).catch(() => {})";
    let reply = session
        .exec_within(Duration::from_secs(1), Language::Node, code)
        .await;
    assert_eq!(reply.outcome(), Outcome::TimedOut, "{}", describe(&reply));
    session.stop().await;
}

#[tokio::test]
async fn a_session_that_waits_for_a_person_ends_in_its_time() {
    let client = client();
    let options = SessionOptions {
        ttl: seconds(30),
        ..SessionOptions::default()
    };
    let session = client.open_with(options).await;
    take(&session).await;
    let mut options = session.options(
        Language::Node,
        "await pagebox.handoff('for ever', { timeout: 3600 })",
    );
    options.on_human_control = pagebox::grpc::v1::OnHumanControl::Ignore.into();
    options.timeout = seconds(300);
    // The longest there is; killed with its session.
    let reply = tokio::time::timeout(3 * LIMIT, client.execute(options)).await;
    let reply = reply.expect("in the time of the session");
    assert_eq!(reply.unwrap().outcome(), Outcome::Cancelled);
    // It is stopping by now: this waits.
    let ended = session.stop().await.session.unwrap();
    assert_eq!(ended.end_reason(), EndReason::TtlExpired);
}
