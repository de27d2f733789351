//! Standalone sessions.

use std::time::{Duration, SystemTime};

use axum::http::Method;
use serde_json::{Value, json};

use super::{created, execute, http, path};
use crate::daemon::Daemon;
use crate::http_client::Http;
use crate::leaks::eventually;
use crate::outcomes::runs;
use crate::shared::{binary, site};

const UNKNOWN: &str = "01a1fc28-7966-7644-9026-0c4c83e9012b";

#[tokio::test]
async fn a_session_from_its_start_to_its_end() {
    let http = http();
    // The quick start of the contract's documents: a content type and nothing else.
    let json_type = [("content-type", "application/json")];
    let reply = http.send(Method::POST, "/v2/browser", &json_type, "").await;
    let session = reply.good();
    let live = |key: &str| {
        let url = session[key].as_str().unwrap().to_owned();
        let id = session["id"].as_str().unwrap();
        let start = format!("http://{}/live/{id}#", http.host());
        assert_eq!(url.strip_prefix(&start).map(str::len), Some(43), "{url}");
        url
    };
    let (view, control) = (live("liveViewUrl"), live("interactiveLiveViewUrl"));
    assert_ne!(view, control);
    let cdp = session["cdpUrl"].as_str().unwrap();
    let start = format!(
        "ws://{}/cdp/{}?token=",
        http.host(),
        session["id"].as_str().unwrap()
    );
    assert_eq!(cdp.strip_prefix(&start).map(str::len), Some(43), "{cdp}");
    let expires = session["expiresAt"].as_str().unwrap();
    let expires =
        time::OffsetDateTime::parse(expires, &time::format_description::well_known::Rfc3339);
    let left = SystemTime::from(expires.unwrap())
        .duration_since(SystemTime::now())
        .unwrap();
    assert!(
        (Duration::from_secs(500)..=Duration::from_secs(600)).contains(&left),
        "{left:?}"
    );

    let other = format!("/v2/interact/{}", session["id"].as_str().unwrap());
    for path in [path(&session), other] {
        let found = http.get(&path).await.good();
        let expected = json!({
            "success": true, "id": session["id"], "status": "running", "cdpUrl": cdp,
            "liveViewUrl": view, "interactiveLiveViewUrl": control, "warm": false,
        });
        assert_eq!(found, expected);
    }
    let listed = async |status: &str| -> Option<Value> {
        let all = http
            .get(&format!("/v2/browser?status={status}"))
            .await
            .good();
        let sessions = all["sessions"].as_array().unwrap().clone();
        sessions
            .into_iter()
            .find(|item| item["id"] == session["id"])
    };
    let item = listed("active").await.expect("it is active");
    for text in [
        "id",
        "status",
        "cdpUrl",
        "liveViewUrl",
        "createdAt",
        "lastActivity",
    ] {
        assert!(item[text].is_string(), "{text} of {item}");
    }
    assert_eq!(item["status"], "active");
    assert_eq!(item["streamWebView"], true);
    assert_eq!(listed("destroyed").await, None);

    let deleted = http.delete(&path(&session)).await.good();
    assert_eq!(deleted["status"], "stopped");
    assert!(deleted["sessionDurationMs"].is_u64(), "{deleted}");
    assert_eq!(deleted["creditsBilled"], 2);
    let again = http.delete(&path(&session)).await.good();
    assert_eq!(
        again,
        json!({ "success": true, "status": "stopped", "creditsBilled": 2 })
    );

    assert_eq!(listed("active").await, None);
    let item = listed("destroyed").await.expect("it is remembered");
    assert_eq!(item["cdpUrl"], "");
    let found = http.get(&path(&session)).await.good();
    assert_eq!(found["status"], "stopped");
    assert_eq!(found["sessionDurationMs"], deleted["sessionDurationMs"]);
    let late = http
        .post(
            &format!("{}/execute", path(&session)),
            &json!({ "code": "1" }),
        )
        .await;
    assert_eq!(late.refused(410), "Browser session has been destroyed.");
    assert_eq!(
        late.json()["details"],
        json!([{ "message": "it was stopped" }])
    );
}

#[tokio::test]
async fn every_way_code_ends_is_an_answer() {
    let http = http();
    let session = created(&http).await;
    let run = async |language: &str, code: &str| execute(&http, &session, language, code).await;

    let expected = |stdout: &str, result: &str| {
        json!({
            "success": true, "stdout": stdout, "stderr": "", "result": result,
            "exitCode": 0, "killed": false, "truncated": false,
        })
    };
    assert_eq!(
        run("node", "console.log('a'); 'b'").await,
        expected("a\n", "b")
    );
    assert_eq!(run("node", "console.log('a')").await, expected("a\n", "a"));
    assert_eq!(run("python", "print('p')").await, expected("p\n", "p"));
    assert_eq!(
        run("bash", "echo one; echo two").await,
        expected("one\ntwo\n", "one\ntwo")
    );
    let url = site().url("/");
    let title = run(
        "node",
        &format!("await page.goto('{url}'); await page.title()"),
    )
    .await;
    assert_eq!(title["result"], "Tidewater Almanac");
    let object = run("node", "({ a: 1 })").await;
    assert_eq!(object["result"], r#"{"a":1}"#);

    let thrown = run("node", "throw new TypeError('no such harbour')").await;
    assert_eq!(
        (&thrown["success"], &thrown["exitCode"]),
        (&json!(true), &json!(1))
    );
    assert!(
        thrown["error"]
            .as_str()
            .unwrap()
            .contains("TypeError: no such harbour"),
        "{thrown}"
    );
    let failed = run("bash", "echo lost >&2; exit 3").await;
    assert_eq!(
        (&failed["exitCode"], &failed["error"]),
        (&json!(3), &json!("lost"))
    );
    assert_eq!(run("bash", "exit 4").await["error"], "Execution failed");

    let body = json!({ "code": "console.error('begun'); while (true) {}", "timeout": 1.5 });
    let killed = http
        .post(&format!("{}/execute", path(&session)), &body)
        .await
        .good();
    assert_eq!(
        (&killed["killed"], &killed["exitCode"]),
        (&json!(true), &json!(137))
    );
    let error = killed["error"].as_str().unwrap();
    assert_eq!(error, "begun\nTimedOut: killed at its timeout of 1.5 s");
    assert_eq!(
        run("node", "await page.title()").await["result"],
        "Tidewater Almanac"
    );

    let large = run("node", "'x'.repeat(20 << 20)").await;
    assert_eq!(large["result"].as_str().map(str::len), Some(20 << 20));
    http.delete(&path(&session)).await.good();
}

/// As JavaScript clients do at their own timeout: the code is killed, the session goes on.
#[tokio::test]
async fn a_caller_that_goes_away_ends_its_code_and_not_the_session() {
    let http = http();
    let session = created(&http).await;
    execute(&http, &session, "bash", "cd /tmp && kept=here").await;
    let sleep = "86395";
    let call = tokio::spawn({
        let (http, session) = (http.clone(), session.clone());
        async move { execute(&http, &session, "bash", &format!("sleep {sleep}")).await }
    });
    let is_running = async |wanted: bool| {
        eventually(Duration::from_secs(60), async || {
            let now = runs("sleep", sleep);
            (now == wanted)
                .then_some(())
                .ok_or(format!("running: {now}"))
        })
        .await;
    };
    is_running(true).await;
    call.abort();
    is_running(false).await;
    assert_eq!(
        execute(&http, &session, "bash", "echo on").await["stdout"],
        "on\n"
    );
    http.delete(&path(&session)).await.good();
}

#[tokio::test]
async fn what_is_not_there_yet_is_said_by_name() {
    let http = http();
    let session = created(&http).await;
    let own = path(&session);
    for (name, reply) in [
        ("replay", http.get(&format!("{own}/replay")).await),
        ("replay", http.get(&format!("{own}/replay/0")).await),
    ] {
        let error = reply.refused(501);
        assert!(
            error.starts_with(&format!("{name} is not available")),
            "{error}"
        );
    }
    // A prompt is of a session that there is.
    let early = http.post("/v2/interact", &json!({ "prompt": "go" })).await;
    assert!(early.refused(400).starts_with("prompt is not taken here"));
    // Clients ask for a recording without being told to; and code wins over a prompt.
    let body = json!({ "code": "1 + 1", "prompt": "add" });
    let ran = http.post(&format!("{own}/execute"), &body).await.good();
    assert_eq!(ran["result"], "2");
    let body =
        json!({ "recordSession": true, "streamWebView": true, "location": { "country": "DE" } });
    let second = http.post("/v2/browser", &body).await.good();
    assert!(
        second["warning"]
            .as_str()
            .unwrap()
            .contains("location.country")
    );
    for session in [session, second] {
        http.delete(&path(&session)).await.good();
    }
    let unknown = format!("/v2/browser/{UNKNOWN}/replay");
    http.get(&unknown).await.refused(404);
}

#[tokio::test]
async fn sessions_are_counted_for_their_owner() {
    let http = http();
    let session = created(&http).await;
    let status = http.get("/v2/team/queue-status").await.good();
    assert_eq!(status["maxConcurrency"], 60);
    assert_eq!(status["waitingJobsInQueue"], 0);
    assert!(status["activeJobsInQueue"].as_u64() >= Some(1), "{status}");
    http.delete(&path(&session)).await.good();
    let status = http.get("/v2/team/queue-status").await.good();
    assert!(status["mostRecentSuccess"].is_string(), "{status}");
    let credits = http.get("/v2/team/credit-usage").await.good();
    assert!(credits["data"]["remainingCredits"].is_u64(), "{credits}");
}

#[tokio::test]
async fn calls_that_wait_for_room_are_counted() {
    let config = "[session]\nmax_sessions = 1\n\n[tenant]\nwait = \"2m\"\n";
    let daemon = Daemon::start(binary(), config);
    let http = Http::new(&daemon.url());
    let first = created(&http).await;
    let waiting = tokio::spawn({
        let http = http.clone();
        async move { created(&http).await }
    });
    let queue = async |active: u64, waiting: u64| {
        eventually(Duration::from_secs(60), async || {
            let status = http.get("/v2/team/queue-status").await.good();
            let jobs = ["activeJobsInQueue", "waitingJobsInQueue", "jobsInQueue"];
            let is_so = jobs.map(|name| status[name].as_u64().unwrap())
                == [active, waiting, active + waiting];
            is_so.then_some(()).ok_or(status.to_string())
        })
        .await;
    };
    queue(1, 1).await;
    http.delete(&path(&first)).await.good();
    waiting.await.unwrap();
    queue(1, 0).await;
}
