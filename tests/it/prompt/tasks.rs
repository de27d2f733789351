//! What prompts are for, in both formats: search, log in, forms, lists, errors.

use pagebox::grpc::v1::{PromptOptions, StepOutcome};

use super::{answer, duration, made, secret, secrets, steps, task, world};
use crate::model::TOKENS;
use crate::shared::site;

#[tokio::test]
async fn a_search_is_done_and_a_result_read() {
    let world = world();
    for asked in world.able() {
        let session = world.client().open(&site().url("/search")).await;
        let prompt = "Fill \"Search...\" with \"tides\"\nClick \"Search\"\n\
                      Tell me the line with \"edition 2\"";
        let reply = answer(&session, task(&session, asked.model.clone(), prompt)).await;
        assert!(reply.output.contains("tides in edition 2"), "{reply:#?}");
        // Where the answer is from.
        assert!(reply.url.ends_with("/search?q=tides"), "{}", reply.url);
        assert!(
            reply.result.contains("textbox") && reply.result.contains("ref="),
            "{}",
            reply.result
        );
        assert!(
            reply.stdout.contains("tides in edition 2"),
            "{}",
            reply.stdout
        );
        assert_eq!(reply.session_id, session.id);
        assert!(duration(reply.duration) >= duration(reply.overhead));
        if asked.name != "real" {
            let commands: Vec<&str> = reply.steps.iter().map(|step| &*step.command).collect();
            assert!(commands[0].starts_with("fill @e") && commands[0].ends_with(" tides"));
            assert!(commands[1].starts_with("click @e"));
            assert_eq!(commands[2..], ["read"]);
            assert!(
                reply
                    .steps
                    .iter()
                    .all(|step| step.outcome() == StepOutcome::Done)
            );
            assert_eq!(
                (reply.model.as_str(), reply.provider.as_str()),
                ("planner", asked.name)
            );
            // Three steps and the answer.
            let counted = (reply.input_tokens, reply.output_tokens);
            assert_eq!(counted, (4 * TOKENS.0, 4 * TOKENS.1));
        }
        session.stop().await;
    }
}

#[tokio::test]
async fn a_login_with_a_secret() {
    let world = world();
    for (number, asked) in world.able().into_iter().enumerate() {
        let session = world.open("/login").await;
        let value = format!("Sea \"gull\" & {number}'s <7>");
        let options = PromptOptions {
            secrets: secrets(&[("password", secret(&value, &["localhost"]))]),
            ..task(
                &session,
                asked.model,
                "Fill \"Email\" with \"ada@example.com\"\nFill \"Password\" with \"{{password}}\"\n\
                 Click \"Log in\"\nTell me the line with \"Signed in\"",
            )
        };
        let reply = answer(&session, options).await;
        assert!(
            reply
                .output
                .contains("Signed in as ada, with {{password}}."),
            "{}",
            reply.output
        );
        assert!(world.pages.sent().contains(&format!("password={value}")));
        session.stop().await;
    }
}

#[tokio::test]
async fn a_form_of_three_pages() {
    // What it was sent is counted.
    let world = made();
    for (number, asked) in world.able().into_iter().enumerate() {
        let session = world.open("/order/1").await;
        let prompt = format!(
            "Fill \"Name\" with \"Ada {number}\"\nClick \"Continue\"\n\
             Choose \"West\" in \"Harbour\"\nClick \"Continue\"\nClick \"I am sure\"\n\
             Click \"Order\"\nTell me the line with \"Your order\""
        );
        let reply = answer(&session, task(&session, asked.model, &prompt)).await;
        assert!(
            reply
                .output
                .contains(&format!("name=Ada {number}, harbour=West, sure=on")),
            "{}",
            reply.output
        );
        session.stop().await;
    }
}

#[tokio::test]
async fn a_list_of_several_pages_as_json() {
    let world = world();
    for asked in world.able() {
        let session = world.open("/berths").await;
        let prompt = "Collect the lines with \"Berth \" page by page with \"Next\" as a JSON list";
        let reply = answer(&session, task(&session, asked.model, prompt)).await;
        let list: Vec<String> = serde_json::from_str(&reply.output).unwrap();
        let want: Vec<String> = (1..=3)
            .flat_map(|page| (1..=2).map(move |berth| format!("Berth {page}-{berth}")))
            .collect();
        assert_eq!(list, want);
        session.stop().await;
    }
}

#[tokio::test]
async fn stale_refs_and_dialogs_are_told_to_the_model() {
    let world = world();
    for model in [world.model("clumsy"), world.anthropic("clumsy")] {
        let session = world.open("/confirm").await;
        let prompt = "Click \"Delete\"\nTell me the line with \"records\"";
        let reply = answer(&session, task(&session, model, prompt)).await;
        assert!(
            reply.output.contains("All records are deleted"),
            "{reply:#?}"
        );
        let steps = steps(&reply);
        assert_eq!(steps[0], ("click @e999", StepOutcome::Failed));
        assert!(
            steps.contains(&("dialog accept", StepOutcome::Done)),
            "{steps:?}"
        );
        session.stop().await;
    }
    // What is not there yet is waited for.
    let session = world.open("/late").await;
    let prompt = "Click \"Ready\"\nTell me the line with \"It is\"";
    let reply = answer(&session, task(&session, world.model("planner"), prompt)).await;
    assert!(reply.output.contains("It is done"), "{reply:#?}");
    session.stop().await;
}

#[tokio::test]
async fn two_calls_at_once_are_done_one_after_the_other() {
    let world = world();
    for model in [world.model("twin"), world.anthropic("twin")] {
        let session = world.client().open(&site().url("/search")).await;
        let prompt = "Fill \"Search...\" with \"ebb\"\nClick \"Search\"\nTell me the line with \"edition 3\"";
        let reply = answer(&session, task(&session, model, prompt)).await;
        assert!(reply.output.contains("ebb in edition 3"), "{reply:#?}");
        // Two steps of one answer, one, and the answer.
        assert_eq!(reply.input_tokens, 3 * TOKENS.0);
        let numbers: Vec<u32> = reply.steps.iter().map(|step| step.number).collect();
        assert_eq!(numbers, [1, 2, 3]);
        session.stop().await;
    }
}

#[tokio::test]
async fn a_picture_reaches_a_model_that_takes_it() {
    let world = world();
    for model in [world.model("artist"), world.anthropic("artist")] {
        let session = world.open("/berths").await;
        let reply = answer(&session, task(&session, model, "Look at it")).await;
        assert_eq!(reply.output, "I saw the picture.");
        assert_eq!(steps(&reply), [("screenshot", StepOutcome::Done)]);
        session.stop().await;
    }
}

#[tokio::test]
async fn prompts_and_code_share_one_page() {
    let world = world();
    let session = world.client().open(&site().url("/search")).await;
    session
        .node("await page.fill('[name=q]', 'flood'); globalThis.mine = 1")
        .await;
    let click = task(&session, world.model("planner"), "Click \"Search\"");
    answer(&session, click).await;
    assert!(session.node("page.url()").await.ends_with("?q=flood"));
    assert_eq!(
        session.python("await page.title()").await,
        "Results for flood"
    );
    let again = task(
        &session,
        world.anthropic("planner"),
        "Fill \"Search...\" with \"slack\"\nClick \"Search\"",
    );
    answer(&session, again).await;
    let title = session.bash("agent-browser get title").await;
    assert_eq!(title, "Results for slack");
    assert_eq!(session.node("mine").await, "1");
    assert_eq!(session.node("context.pages().length").await, "1");
    session.stop().await;
}

#[tokio::test]
async fn a_session_of_its_own_is_gone_afterwards() {
    use pagebox::grpc::v1::prompt_options::Place;
    use pagebox::grpc::v1::{PromptRequest, SessionOptions, SessionState};
    let world = world();
    let client = world.client();
    let options = PromptOptions {
        place: Some(Place::OneShot(SessionOptions {
            start_url: site().url("/search"),
            ..SessionOptions::default()
        })),
        prompt: "Tell me the line with \"Search\"".into(),
        ..PromptOptions::default()
    };
    let request = PromptRequest {
        options: Some(options),
    };
    let reply = client
        .executions()
        .prompt(request)
        .await
        .unwrap()
        .into_inner();
    assert!(reply.success, "{reply:#?}");
    let session = client.get(&reply.session_id).await.unwrap();
    assert_eq!(session.state(), SessionState::Stopped);
    // A blank page has no site; the first that is opened is where it is at home.
    let blank = client.open("about:blank").await;
    let url = site().url("/search");
    let other = world.pages.other("/elsewhere");
    let prompt = format!("Open \"{url}\"\nOpen \"{other}\"");
    let reply = answer(&blank, task(&blank, world.model("planner"), &prompt)).await;
    assert!(
        reply.output.starts_with("I was refused: open"),
        "{reply:#?}"
    );
    assert_eq!(blank.node("page.url()").await, url);
    blank.stop().await;
}
