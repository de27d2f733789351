//! Python executions: results, tracebacks, exits, tasks that outlive their execution.

use pagebox::grpc::v1::{Language, Outcome};

use crate::client::describe;
use crate::shared::{blank, open};

#[tokio::test]
async fn the_result_is_the_last_expression() {
    let session = open("/").await;
    for (code, result) in [
        ("await page.title()", Some("Tidewater Almanac")),
        ("x = 20\nx + 1", Some("21")),
        ("'text'", Some("text")),
        ("{'a': [1, None, 'x']}", Some(r#"{"a": [1, null, "x"]}"#)),
        ("True", Some("true")),
        ("None", None),
        ("y = 5", None),
    ] {
        let reply = session.good(Language::Python, code).await;
        let got = reply.result.as_deref().map(|text| text.replace(' ', ""));
        let want = result.map(|text| text.replace(' ', ""));
        assert_eq!(got, want, "{code}");
    }
    for code in ["{1, 2}", "lambda: 1", "a = []; a.append(a); a", "object()"] {
        let reply = session.good(Language::Python, code).await;
        assert!(reply.result.is_some(), "{code}: {}", describe(&reply));
    }
    session.stop().await;
}

#[tokio::test]
async fn all_statements_run_and_print_goes_to_stdout() {
    let session = open("/").await;
    let code = "import sys\nfor i in range(3):\n    print('line', i)\n\
                print('to stderr', file=sys.stderr)\nprint(page.url.rsplit(':', 1)[0])";
    let reply = session.good(Language::Python, code).await;
    assert_eq!(reply.stdout, "line 0\nline 1\nline 2\nhttp://localhost\n");
    assert_eq!(reply.stderr, "to stderr\n");
    session.stop().await;
}

#[tokio::test]
async fn state_stays_between_executions() {
    let session = blank().await;
    session
        .good(
            Language::Python,
            "import math\ndef area(r):\n    return math.pi * r * r",
        )
        .await;
    assert_eq!(session.python("round(area(2), 3)").await, "12.566");
    session.stop().await;
}

#[tokio::test]
async fn an_uncaught_error_has_the_users_own_lines() {
    let session = blank().await;
    let code = "def sail():\n    raise ValueError('no wind')\n\nsail()";
    let reply = session.exec(Language::Python, code).await;
    assert_eq!((reply.outcome(), reply.exit_code), (Outcome::Failed, 1));
    let error = reply.error.clone().unwrap();
    assert_eq!((&*error.name, &*error.message), ("ValueError", "no wind"));
    assert!(reply.stderr.contains("line 2, in sail"), "{}", reply.stderr);
    assert!(reply.stderr.contains("line 4"), "{}", reply.stderr);
    assert!(!reply.stderr.contains("runner"), "{}", reply.stderr);

    let reply = session.exec(Language::Python, "x = 1\ny = = 2").await;
    assert_eq!(reply.outcome(), Outcome::Failed);
    assert_eq!(reply.error.unwrap().name, "SyntaxError");
    session.stop().await;
}

#[tokio::test]
async fn sys_exit_gives_its_code() {
    let session = blank().await;
    for (code, exit_code, outcome) in [
        ("import sys; sys.exit(4)", 4, Outcome::Failed),
        ("import sys; sys.exit()", 0, Outcome::Completed),
        ("import sys; sys.exit('because')", 1, Outcome::Failed),
        ("import os; os._exit(5)", 5, Outcome::Failed),
    ] {
        let reply = session.exec(Language::Python, code).await;
        assert_eq!(
            (reply.exit_code, reply.outcome()),
            (exit_code, outcome),
            "{code}: {}",
            describe(&reply)
        );
    }
    assert_eq!(session.python("'again'").await, "again");
    session.stop().await;
}

#[tokio::test]
async fn a_task_that_outlives_its_execution_goes_on_in_its_context() {
    let session = blank().await;
    let code = "import asyncio\nlog = []\nasync def tick():\n    while True:\n        \
                log.append(1)\n        await asyncio.sleep(0.01)\ntask = asyncio.create_task(tick())";
    session.good(Language::Python, code).await;
    let code = "before = len(log)\nawait asyncio.sleep(0.3)\nlen(log) > before";
    assert_eq!(session.python(code).await, "true");
    assert_eq!(
        session
            .python("task.cancel()\nawait asyncio.sleep(0.05)\ntask.cancelled()")
            .await,
        "true"
    );
    session.stop().await;
}
