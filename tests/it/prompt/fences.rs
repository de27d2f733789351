//! What a page, or a model that believes it, cannot make a prompt do.

use pagebox::grpc::v1::{PromptOptions, StepOutcome};

use super::{answer, prompt, secret, secrets, steps, task, world};
use crate::client::fields;

#[tokio::test]
async fn a_page_that_gives_orders_leads_nowhere() {
    let world = world();
    for model in [world.model("obedient"), world.anthropic("obedient")] {
        let session = world.open("/astray").await;
        let options = PromptOptions {
            secrets: secrets(&[("password", secret("hunter2hunter2", &["bank.test"]))]),
            ..task(&session, model, "What is the news?")
        };
        let reply = answer(&session, options).await;
        let outcome = |command: &str| {
            let all = steps(&reply);
            let found = all.iter().find(|(step, _)| step.contains(command));
            found.unwrap_or_else(|| panic!("no {command}: {all:?}")).1
        };
        for refused in ["open http", "eval ", "tab new", "fill #c"] {
            assert_eq!(outcome(refused), StepOutcome::Refused, "{reply:#?}");
        }
        // What is clicked is done; where it leads to is not reached.
        assert_eq!(world.pages.strayed(), Vec::<String>::new());
        assert!(reply.url.ends_with("/astray"), "{}", reply.url);
        assert_eq!(session.node("context.pages().length").await, "1");
        assert_eq!(session.node("await page.inputValue('#c')").await, "");
        session.stop().await;
    }
    // What the page says was in data, between marks, and in no system text.
    let asked = world.models.requests_with("ignore your instructions");
    assert!(!asked.is_empty());
    for request in asked {
        let system = match &request["system"] {
            serde_json::Value::Null => request["messages"][0]["content"].to_string(),
            system => system.to_string(),
        };
        assert!(!system.contains("ignore your instructions"), "{system}");
        let text = request.to_string();
        let at = text.find("ignore your instructions").unwrap();
        let opened = text[..at].rfind("<page-data-").unwrap();
        let closed = text[..at].rfind("</page-data-");
        // The system text names the marks, too.
        assert!(closed.is_none_or(|closed| closed < opened), "{text}");
    }
}

#[tokio::test]
async fn a_site_may_be_left_for_what_is_allowed() {
    let world = world();
    let session = world.open("/astray").await;
    let other = world.pages.other("/berths");
    let open = format!("Open \"{other}\"\nTell me the line with \"Berth 1-2\"");
    let reply = answer(&session, task(&session, world.model("planner"), &open)).await;
    assert!(
        reply.output.starts_with("I was refused: open"),
        "{reply:#?}"
    );
    assert!(reply.steps[0].output.contains("localhost"), "{reply:#?}");
    let options = PromptOptions {
        allow_navigation: vec!["127.0.0.1".into()],
        ..task(&session, world.model("planner"), &open)
    };
    let reply = answer(&session, options).await;
    assert!(reply.output.contains("Berth 1-2"), "{reply:#?}");
    for bad in ["co.uk", "http://x.test", ""] {
        let options = PromptOptions {
            allow_navigation: vec!["a.test".into(), bad.into()],
            ..task(&session, world.model("planner"), &open)
        };
        let refused = prompt(&session, options).await.unwrap_err();
        assert_eq!(fields(&refused), ["options.allow_navigation[1]"]);
    }
    session.stop().await;
}

#[tokio::test]
async fn a_page_that_goes_back_to_another_site_is_led_back() {
    let world = world();
    let session = world.client().open(&world.pages.other("/berths")).await;
    let here = world.pages.url("/berths");
    session.node(&format!("await page.goto({here:?})")).await;
    let reply = answer(
        &session,
        task(&session, world.model("planner"), "Run \"back\""),
    )
    .await;
    assert_eq!(reply.url, here, "{reply:#?}");
    session.stop().await;
}

#[tokio::test]
async fn only_commands_of_the_list_are_run() {
    let world = world();
    let session = world.open("/berths").await;
    for command in [
        "eval 1 + 1",
        "get cdp-url",
        "cookies",
        "click @e1; touch /tmp/owned",
        "fill @e1 $(touch /tmp/owned)",
        "click @e1 && touch /tmp/owned",
        "upload @e1 /etc/passwd",
        "screenshot /tmp/owned",
        "read http://127.0.0.1:1/",
        "--cdp 9222 snapshot",
        "snapshot --cdp 9222",
        "bash -c id",
    ] {
        let run = format!("Run \"{command}\"");
        let reply = answer(&session, task(&session, world.model("planner"), &run)).await;
        assert!(
            reply.output.starts_with("I was refused:"),
            "{command}: {reply:#?}"
        );
        assert_eq!(reply.steps[0].outcome(), StepOutcome::Refused);
    }
    // What is quoted is a text, whatever is in it.
    let run = "Run \"find text Next hover --name '$(touch /tmp/owned); `touch /tmp/owned`'\"";
    answer(&session, task(&session, world.model("planner"), run)).await;
    assert_eq!(
        session.bash("ls /tmp/owned 2>/dev/null || echo none").await,
        "none"
    );
    session.stop().await;
}

#[tokio::test]
async fn a_task_is_1_to_10000_characters() {
    let world = world();
    let session = world.open("/berths").await;
    for bad in ["", " ", &"ä".repeat(10_001)] {
        let options = task(&session, world.model("planner"), bad);
        let refused = prompt(&session, options).await.unwrap_err();
        assert_eq!(fields(&refused), ["options.prompt"]);
    }
    let long = format!("Tell me the line with \"Berth 1-1\"\n{}", "ä".repeat(9_900));
    answer(&session, task(&session, world.model("planner"), &long)).await;
    session.stop().await;
}
