//! Prompts, and people in control of the same browser.

use std::time::Duration;

use pagebox::grpc::v1::prompt_stream_response::Event;
use pagebox::grpc::v1::{
    Language, OnHumanControl, PromptOptions, PromptOutcome, PromptStreamRequest, StepOutcome,
};

use super::{answer, prompt, steps, task, world};
use crate::client::{OpenSession, reason, seconds};
use crate::takeover::{release, take};

/// Longer than a prompt of this test may take.
const LONG: Duration = Duration::from_secs(11);

/// Runs node code whoever is in control.
async fn all_the_same(session: &OpenSession, code: &str) -> String {
    let mut options = session.options(Language::Node, code);
    options.on_human_control = OnHumanControl::Ignore.into();
    session.run(options).await.result.expect("a result")
}

#[tokio::test]
async fn people_go_where_they_like_and_the_prompt_goes_on_behind_them() {
    let world = world();
    let session = world.open("/berths").await;
    let (here, away) = (
        world.pages.url("/berths"),
        world.pages.other("/berths?person"),
    );
    let read = "Run \"wait --text 'Over to you'\"\nTell me the line with \"Berth 1-1\"";
    let options = PromptOptions {
        timeout: seconds(10),
        ..task(&session, world.model("planner"), read)
    };
    let request = PromptStreamRequest {
        options: Some(options),
    };
    let mut client = session.client().executions();
    let mut events = client.prompt_stream(request).await.unwrap().into_inner();
    let reply = loop {
        let event = events.message().await.unwrap().expect("a last event").event;
        match event.expect("an event of this version") {
            Event::StepStarted(step) if step.number == 1 => {
                take(&session).await;
                let go = format!(
                    "await page.goto({away:?}); globalThis.tab = await context.newPage(); 1"
                );
                all_the_same(&session, &go).await;
                tokio::time::sleep(LONG).await;
                let say = "document.body.append('Over to you')";
                let look = format!(
                    "await page.evaluate({say:?}); const seen = [page.url(), context.pages().length]; \
                     await tab.close(); seen.join(' ')"
                );
                assert_eq!(all_the_same(&session, &look).await, format!("{away} 2"));
                release(&session).await;
            }
            Event::Finished(reply) => break reply,
            Event::Started(_) | Event::StepStarted(_) | Event::StepFinished(_) => {}
        }
    };
    assert_eq!(reply.outcome(), PromptOutcome::Answered, "{reply:#?}");
    assert!(reply.output.contains("Berth 1-1"), "{reply:#?}");
    assert_eq!(reply.url, here, "it was led back to its own site");
    assert_eq!(steps(&reply)[0].1, StepOutcome::Done, "{reply:#?}");
    let told = world.models.requests_with("Over to you");
    let told = told.iter().any(|request| {
        let request = request.to_string();
        request.contains("A person was in control of the page")
            && request.contains("which is not on localhost; it was led back")
    });
    assert!(told, "the model knows of it");
    session.stop().await;
}

#[tokio::test]
async fn a_prompt_begins_under_a_person_only_if_it_is_told_to() {
    let world = world();
    let session = world.open("/berths").await;
    take(&session).await;
    let with = |on_human_control: OnHumanControl| PromptOptions {
        on_human_control: on_human_control.into(),
        ..task(
            &session,
            world.model("planner"),
            "Tell me the line with \"Berth 1-1\"",
        )
    };
    let refused = prompt(&session, with(OnHumanControl::Fail))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "HUMAN_IN_CONTROL", "{refused}");
    let reply = answer(&session, with(OnHumanControl::Ignore)).await;
    assert!(reply.output.contains("Berth 1-1"), "{reply:#?}");
    let waits = prompt(&session, with(OnHumanControl::Wait));
    tokio::pin!(waits);
    let early = tokio::time::timeout(Duration::from_secs(2), &mut waits).await;
    assert!(early.is_err(), "{early:?}");
    release(&session).await;
    let reply = waits.await.unwrap();
    assert!(reply.output.contains("Berth 1-1"), "{reply:#?}");
    session.stop().await;
}
