//! Prompts on the wire: what a request asks for, and what is told of one.

use std::pin::Pin;

use futures_util::Stream;
use tonic::Status;

use super::call::Deadline;
use super::execution_service::check_size;
use super::field::{self, FieldError};
use super::status::Error;
use super::v1::prompt_stream_response::Event;
use super::{Limits, v1, view};
use crate::agent::{
    ModelOptions, Prompt, PromptEvent, PromptOptions, PromptOutcome, Provider, Report,
    SecretOptions, Step, StepOutcome,
};
use crate::egress::Secret;
use crate::limits::Bytes;
use crate::session::Place;

/// What is to be done and where.
pub(super) fn options(
    wire: Option<v1::PromptOptions>,
    limits: Limits,
) -> Result<(Place, PromptOptions), FieldError> {
    use v1::prompt_options::Place as Wire;
    let wire = wire.ok_or_else(|| FieldError::new("options", "must be given"))?;
    let place = match wire.place {
        Some(Wire::SessionId(id)) => Place::Session(field::session_id("options.session_id", &id)?),
        Some(Wire::OneShot(session)) => Place::OneShot(Box::new(field::session_options(
            "options.one_shot.",
            Some(session),
            limits,
        )?)),
        None => {
            let message = "either it or one_shot must be given";
            return Err(FieldError::new("options.session_id", message));
        }
    };
    let secret = |(name, secret): (String, v1::Secret)| {
        let options = SecretOptions {
            value: Secret::from(&*secret.value),
            domains: secret.domains,
        };
        (name, options)
    };
    let timeout = wire.timeout.map(|_| {
        let field = "options.timeout".to_owned();
        field::duration(field, wire.timeout, std::time::Duration::ZERO)
    });
    let options = PromptOptions {
        prompt: wire.prompt,
        timeout: timeout.transpose()?,
        max_steps: (wire.max_steps != 0).then_some(wire.max_steps),
        allow_navigation: wire.allow_navigation,
        secrets: wire.secrets.into_iter().map(secret).collect(),
        model: model(wire.model.unwrap_or_default())?,
        on_human_control: field::on_human_control(wire.on_human_control)?,
        origin: wire.origin,
        id: field::not_empty(wire.execution_id)
            .map(|id| field::execution_id("options.execution_id", &id))
            .transpose()?,
    };
    Ok((place, options))
}

fn model(wire: v1::Model) -> Result<ModelOptions, FieldError> {
    let provider = field::not_empty(wire.provider).map(|name| {
        let known = name.parse::<Provider>();
        known.map_err(|()| {
            let message = "must be openai, anthropic or gemini";
            FieldError::new("options.model.provider", message)
        })
    });
    Ok(ModelOptions {
        provider: provider.transpose()?,
        model: field::not_empty(wire.name),
        base_url: field::not_empty(wire.base_url),
        key: field::not_empty(wire.key).map(|key| Secret::from(&*key)),
    })
}

/// A prompt's report as a reply.
pub(super) fn report(report: Report) -> v1::PromptResponse {
    v1::PromptResponse {
        execution_id: report.execution_id.to_string(),
        session_id: report.session_id.to_string(),
        outcome: outcome(report.outcome).into(),
        success: report.succeeded(),
        killed: report.killed(),
        output: report.output,
        result: report.result,
        stdout: report.stdout,
        steps: report.steps.into_iter().map(step).collect(),
        provider: report.provider.as_str().to_owned(),
        model: report.model,
        input_tokens: report.tokens.input,
        output_tokens: report.tokens.output,
        error: report.error.unwrap_or_default(),
        truncated: report.truncated,
        start_time: Some(view::timestamp(report.start_time)),
        duration: Some(view::duration(report.duration)),
        overhead: Some(view::duration(report.overhead)),
        url: report.url,
        title: report.title,
    }
}

fn outcome(outcome: PromptOutcome) -> v1::PromptOutcome {
    match outcome {
        PromptOutcome::Answered => v1::PromptOutcome::Answered,
        PromptOutcome::StepLimit => v1::PromptOutcome::StepLimit,
        PromptOutcome::TimedOut => v1::PromptOutcome::TimedOut,
        PromptOutcome::Cancelled => v1::PromptOutcome::Cancelled,
        PromptOutcome::Failed => v1::PromptOutcome::Failed,
    }
}

fn step(step: Step) -> v1::PromptStep {
    let outcome = match step.outcome {
        StepOutcome::Done => v1::StepOutcome::Done,
        StepOutcome::Failed => v1::StepOutcome::Failed,
        StepOutcome::Refused => v1::StepOutcome::Refused,
        StepOutcome::TimedOut => v1::StepOutcome::TimedOut,
    };
    v1::PromptStep {
        number: step.number,
        command: step.command,
        outcome: outcome.into(),
        output: step.output,
        duration: Some(view::duration(step.duration)),
    }
}

pub(super) type EventStream =
    Pin<Box<dyn Stream<Item = Result<v1::PromptStreamResponse, Status>> + Send>>;

/// The prompt's events; it is dropped, and so cancelled, with the stream or at the deadline.
pub(super) fn stream(prompt: Prompt, deadline: Deadline, limit: Bytes) -> EventStream {
    let started = Event::Started(v1::PromptStarted {
        execution_id: prompt.id.to_string(),
        session_id: prompt.session_id.to_string(),
    });
    let first = futures_util::stream::once(async { Ok(started) });
    let rest = futures_util::stream::unfold(Some(prompt), move |prompt| async move {
        let mut prompt = prompt?;
        let event = deadline.bound(prompt.events.recv()).await;
        let event = event.and_then(|event| event.ok_or(Error::NoReport(prompt.id)));
        let item = event.and_then(|event| wire_event(event, limit));
        match item {
            Ok(event @ Event::Finished(_)) => Some((Ok(event), None)),
            Ok(event) => Some((Ok(event), Some(prompt))),
            Err(error) => Some((Err(Status::from(error)), None)),
        }
    });
    let all = futures_util::StreamExt::chain(first, rest);
    Box::pin(futures_util::StreamExt::map(all, |item| {
        let event = Some(item?);
        Ok(v1::PromptStreamResponse { event })
    }))
}

fn wire_event(event: PromptEvent, limit: Bytes) -> Result<Event, Error> {
    Ok(match event {
        PromptEvent::StepStarted { number, command } => {
            Event::StepStarted(v1::PromptStepStarted { number, command })
        }
        PromptEvent::StepFinished(finished) => Event::StepFinished(step(finished)),
        PromptEvent::Finished(whole) => {
            let reply = report(*whole);
            check_size(&reply, limit)?;
            Event::Finished(reply)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execution::OutputLimits;

    const LIMITS: Limits = Limits {
        output: OutputLimits {
            stdout: Bytes(1),
            stderr: Bytes(1),
            result: Bytes(1),
        },
        message: Bytes(1),
        traffic: Bytes(1),
    };

    fn wire() -> v1::PromptOptions {
        v1::PromptOptions {
            place: Some(v1::prompt_options::Place::SessionId(
                "0190aaaa-0000-7000-8000-000000000000".into(),
            )),
            prompt: "go".into(),
            ..v1::PromptOptions::default()
        }
    }

    #[test]
    fn what_is_left_out_is_the_daemons() {
        let (_, read) = options(Some(wire()), LIMITS).unwrap();
        let want = PromptOptions {
            prompt: "go".into(),
            ..PromptOptions::default()
        };
        assert_eq!(read, want);
    }

    #[test]
    fn bad_fields_are_named() {
        type Change = fn(&mut v1::PromptOptions);
        let cases: [(&str, Change); 5] = [
            ("options.session_id", |o| o.place = None),
            ("options.model.provider", |o| {
                o.model = Some(v1::Model {
                    provider: "acme".into(),
                    ..v1::Model::default()
                });
            }),
            ("options.timeout", |o| {
                o.timeout = Some(prost_types::Duration {
                    seconds: -1,
                    nanos: 0,
                });
            }),
            ("options.execution_id", |o| o.execution_id = "x".into()),
            ("options.session_id", |o| {
                o.place = Some(v1::prompt_options::Place::SessionId("x".into()));
            }),
        ];
        for (field, change) in cases {
            let mut wire = wire();
            change(&mut wire);
            assert_eq!(options(Some(wire), LIMITS).unwrap_err().field, field);
        }
        assert_eq!(options(None, LIMITS).unwrap_err().field, "options");
    }

    #[test]
    fn a_request_is_not_shown_with_its_secrets() {
        let mut wire = wire();
        let secret = v1::Secret {
            value: "hunter2".into(),
            domains: Vec::new(),
        };
        wire.secrets.insert("password".into(), secret);
        wire.model = Some(v1::Model {
            key: "sk-mine".into(),
            ..v1::Model::default()
        });
        let shown = format!("{wire:?}{:?}", options(Some(wire.clone()), LIMITS));
        assert!(
            !shown.contains("hunter2") && !shown.contains("sk-mine"),
            "{shown}"
        );
    }
}
