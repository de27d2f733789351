//! Models that fail, each in its way; and callers that have enough.

use std::time::{Duration, Instant};

use pagebox::grpc::v1::prompt_stream_response::Event;
use pagebox::grpc::v1::{
    CancelExecutionRequest, PromptOptions, PromptOutcome, PromptStreamRequest, StepOutcome,
};
use tonic::Code;
use uuid::Uuid;

use super::{answer, made, prompt, steps, task, world};
use crate::client::{fields, reason, seconds};
use crate::daemon::Daemon;
use crate::shared::{binary, site};

const READ: &str = "Tell me the line with \"Berth 1-1\"";
/// Much longer than anything here takes.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn one_that_goes_on_and_on_ends_at_its_last_step() {
    let world = world();
    let session = world.open("/berths").await;
    let options = PromptOptions {
        max_steps: 3,
        ..task(&session, world.model("looper"), "Go on")
    };
    let reply = prompt(&session, options).await.unwrap();
    assert_eq!(reply.outcome(), PromptOutcome::StepLimit, "{reply:#?}");
    assert!(!reply.success && !reply.killed);
    assert_eq!(steps(&reply), [("scroll down 10", StepOutcome::Done); 3]);
    assert!(reply.error.contains("3 steps"), "{}", reply.error);
    assert!(
        reply.output.contains("3. scroll down 10: done"),
        "{}",
        reply.output
    );
    assert!(reply.output.contains("/berths"), "{}", reply.output);
    // One that has its answer by then gives it.
    let options = PromptOptions {
        max_steps: 1,
        ..task(&session, world.model("planner"), READ)
    };
    let reply = answer(&session, options).await;
    assert!(reply.output.contains("Berth 1-1"));
    let options = PromptOptions {
        max_steps: 26,
        ..task(&session, world.model("planner"), READ)
    };
    let refused = prompt(&session, options).await.unwrap_err();
    assert_eq!(fields(&refused), ["options.max_steps"]);
    session.stop().await;
}

#[tokio::test]
async fn one_that_hangs_ends_at_the_timeout() {
    let world = world();
    let session = world.open("/berths").await;
    for (model, done) in [("hanger", 0), ("late-hanger", 1)] {
        let options = PromptOptions {
            timeout: seconds(3),
            ..task(&session, world.model(model), READ)
        };
        let reply = prompt(&session, options).await.unwrap();
        assert_eq!(reply.outcome(), PromptOutcome::TimedOut, "{reply:#?}");
        assert!(reply.killed && !reply.success);
        assert_eq!(reply.steps.len(), done);
        assert!(reply.error.contains("3s"), "{}", reply.error);
        assert!(reply.result.contains("Next"), "{}", reply.result);
    }
    // The session is none the worse for it.
    assert_eq!(session.node("1 + 1").await, "2");
    session.stop().await;
}

#[tokio::test]
async fn one_that_stumbles_is_asked_again() {
    let world = world();
    let session = world.open("/berths").await;
    for model in ["garbage", "busy"] {
        for model in [world.model(model), world.anthropic(model)] {
            let prompt = format!("{READ}\nas {} {}", model.name, model.provider);
            let reply = answer(&session, task(&session, model, &prompt)).await;
            assert!(reply.output.contains("Berth 1-1"), "{reply:#?}");
        }
    }
    session.stop().await;
}

#[tokio::test]
async fn one_that_fails_before_anything_is_done_is_a_status() {
    let world = world();
    let session = world.open("/berths").await;
    for model in ["down", "silent"] {
        let refused = prompt(&session, task(&session, world.model(model), READ)).await;
        match model {
            "down" => {
                let refused = refused.unwrap_err();
                assert_eq!(refused.code(), Code::Unavailable, "{refused}");
                assert_eq!(reason(&refused), "MODEL_FAILED");
                assert!(refused.message().contains("status 500"), "{refused}");
                assert!(refused.message().contains("try again later"), "{refused}");
            }
            // It did answer; only with nothing.
            _ => {
                let reply = refused.unwrap();
                assert_eq!(reply.outcome(), PromptOutcome::Failed, "{reply:#?}");
                assert!(reply.error.contains("said nothing"), "{}", reply.error);
            }
        }
    }
    let nonsense = prompt(&session, task(&session, world.model("nonsense"), READ)).await;
    assert_eq!(reason(&nonsense.unwrap_err()), "MODEL_FAILED");
    // After that it is a reply, with what was done.
    let reply = prompt(&session, task(&session, world.model("late-down"), READ))
        .await
        .unwrap();
    assert_eq!(reply.outcome(), PromptOutcome::Failed);
    assert_eq!(steps(&reply), [("read", StepOutcome::Done)]);
    assert!(reply.error.contains("status 400"), "{}", reply.error);
    session.stop().await;
}

#[tokio::test]
async fn without_a_model_the_missing_setting_is_named() {
    let daemon = Daemon::start(binary(), "");
    let client = crate::client::Client::new(&daemon.url());
    let session = client.open(&site().url("/")).await;
    let options = task(&session, pagebox::grpc::v1::Model::default(), "Go");
    let refused = prompt(&session, options).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(reason(&refused), "MODEL_MISSING");
    assert!(refused.message().contains("agent.provider"), "{refused}");
    session.stop().await;
}

#[tokio::test]
async fn a_prompt_is_cancelled_at_once() {
    let world = world();
    let session = world.open("/berths").await;
    let id = Uuid::now_v7().to_string();
    let options = PromptOptions {
        execution_id: id.clone(),
        ..task(&session, world.model("late-hanger"), READ)
    };
    let request = PromptStreamRequest {
        options: Some(options),
    };
    let mut client = session.client().executions();
    let mut stream = client.prompt_stream(request).await.unwrap().into_inner();
    let mut seen = Vec::new();
    let reply = loop {
        let event = stream.message().await.unwrap().expect("a last event").event;
        match event.expect("an event of this version") {
            Event::Started(started) => {
                assert_eq!(started.execution_id, id);
                seen.push("started".to_owned());
            }
            Event::StepStarted(step) => seen.push(format!("{} {}", step.number, step.command)),
            Event::StepFinished(step) => {
                seen.push(format!("{} {:?}", step.number, step.outcome()));
                // The model hangs now.
                let request = CancelExecutionRequest {
                    execution_id: id.clone(),
                };
                let mut other = session.client().executions();
                let cancelled = other.cancel_execution(request).await.unwrap().into_inner();
                assert!(cancelled.cancelled);
            }
            Event::Finished(reply) => break reply,
        }
    };
    assert_eq!(seen, ["started", "1 read", "1 Done"]);
    assert_eq!(reply.outcome(), PromptOutcome::Cancelled);
    assert!(reply.killed && reply.steps.len() == 1, "{reply:#?}");
    assert!(stream.message().await.unwrap().is_none());
    // Nothing of it goes on, and nothing was lost.
    assert_eq!(session.now().await.running_executions, 0);
    session.stop().await;
}

#[tokio::test]
async fn a_command_that_runs_is_cut_short_by_a_cancel() {
    let world = world();
    let session = world.open("/berths").await;
    let id = Uuid::now_v7().to_string();
    let options = PromptOptions {
        execution_id: id.clone(),
        ..task(
            &session,
            world.model("planner"),
            "Run \"wait --text never-there\"",
        )
    };
    let working = tokio::spawn({
        let session = session.clone();
        async move { prompt(&session, options).await }
    });
    let begun = Instant::now();
    loop {
        let request = CancelExecutionRequest {
            execution_id: id.clone(),
        };
        let running = session.now().await.running_executions;
        // The prompt itself, and its step.
        if running == 2 {
            let mut client = session.client().executions();
            client.cancel_execution(request).await.unwrap();
            break;
        }
        assert!(begun.elapsed() < SOON, "it never ran");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ended = tokio::time::timeout(Duration::from_secs(10), working).await;
    match ended.expect("it ends long before its step would").unwrap() {
        Ok(reply) => assert_eq!(reply.outcome(), PromptOutcome::Cancelled, "{reply:#?}"),
        // The cancel met the first look at the page.
        Err(status) => assert_eq!(reason(&status), "EXECUTION_CANCELLED"),
    }
    assert_eq!(session.node("1 + 1").await, "2");
    session.stop().await;
}

#[tokio::test]
async fn the_end_of_a_session_ends_its_prompt() {
    let world = world();
    let session = world.open("/berths").await;
    let options = task(&session, world.model("late-hanger"), READ);
    let working = tokio::spawn({
        let session = session.clone();
        async move { prompt(&session, options).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    session.stop().await;
    match tokio::time::timeout(SOON, working).await.unwrap().unwrap() {
        Ok(reply) => {
            assert_eq!(reply.outcome(), PromptOutcome::Cancelled);
            assert!(reply.error.contains("stopped"), "{}", reply.error);
        }
        Err(status) => assert_eq!(reason(&status), "SESSION_ENDED"),
    }
    let late = prompt(&session, task(&session, world.model("planner"), READ)).await;
    assert_eq!(reason(&late.unwrap_err()), "SESSION_ENDED");
}

#[tokio::test]
async fn one_prompt_at_a_time_works_in_a_session() {
    let world = world();
    let session = world.open("/berths").await;
    let run = |prompt_: &str| {
        let options = task(&session, world.model("planner"), prompt_);
        let session = session.clone();
        tokio::spawn(async move { answer(&session, options).await })
    };
    let all: Vec<_> = (0..3)
        .map(|_| run("Click \"Next\"\nTell me the line with \"Berth \""))
        .collect();
    let mut found = Vec::new();
    for one in all {
        // The third has no link to click any more.
        found.push(one.await.unwrap().output);
    }
    found.sort();
    assert!(
        found[0].contains("Berth 2-1") && found[1].contains("Berth 3-1"),
        "{found:?}"
    );
    assert!(found[2].contains("no \"Next\""), "{found:?}");
    session.stop().await;
}

#[tokio::test]
async fn a_key_is_sent_to_its_own_address_only() {
    // The model's address sends its callers on.
    let world = made();
    let session = world.open("/berths").await;
    let moved = pagebox::grpc::v1::Model {
        base_url: world.models.moved_url(),
        key: crate::model::KEY.to_owned(),
        ..pagebox::grpc::v1::Model::default()
    };
    let refused = prompt(&session, task(&session, moved, READ))
        .await
        .unwrap_err();
    assert!(refused.message().contains("status 307"), "{refused}");
    // The daemon's own key is not sent to an address of the caller's.
    let elsewhere = pagebox::grpc::v1::Model {
        base_url: world.models.url(),
        ..pagebox::grpc::v1::Model::default()
    };
    let refused = prompt(&session, task(&session, elsewhere, READ))
        .await
        .unwrap_err();
    assert!(refused.message().contains("status 401"), "{refused}");
    assert_eq!(world.models.requests(), Vec::<String>::new());
    assert!(!world.daemon.log().contains(crate::model::KEY));
    session.stop().await;
}
