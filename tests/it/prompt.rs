//! Prompts against language models that decide from what they are sent (`tests/common/model.rs`). With
//! `PAGEBOX_TEST_MODEL_PROVIDER`, `_NAME`, `_BASE_URL` and `_KEY_FILE` set, the tasks are given to that
//! model too.

mod cli;
mod extract;
mod faults;
mod fences;
mod http;
mod pages;
mod people;
mod secrets;
mod tasks;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use pagebox::grpc::v1::prompt_options::Place;
use pagebox::grpc::v1::{
    Model, PromptOptions, PromptOutcome, PromptRequest, PromptResponse, Secret, StepOutcome,
};
use tonic::Status;

use crate::client::{Client, OpenSession};
use crate::daemon::Daemon;
use crate::model::{KEY, Models};
use crate::shared::binary;
use pages::Pages;

/// Models, pages, and a daemon that asks the one and shows the other.
#[derive(Debug)]
pub(crate) struct World {
    models: Models,
    pages: Pages,
    pub(crate) daemon: Daemon,
    key: PathBuf,
    _directory: tempfile::TempDir,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for World {
    fn drop(&mut self) {
        // A test that drops it is a runtime's own task, which may not wait for another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A world of its own.
fn made() -> World {
    let make = || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let models = runtime.block_on(Models::start()).expect("a free port");
        let pages = runtime.block_on(Pages::start());
        let directory = tempfile::tempdir().expect("a temporary directory");
        let key = directory.path().join("key");
        std::fs::write(&key, format!("{KEY}\n")).expect("the key's file");
        let agent = "provider = \"openai\"\nmodel = \"planner\"\nimages = true\n\
                     per_request = [\"model\", \"provider\", \"base_url\"]\n";
        let more = "[session]\nmax_sessions = 60\n[log]\nfilter = \"pagebox=trace,genai=trace\"\n";
        let config = format!("{}{more}", config(agent, &models, &key));
        let daemon = Daemon::start(binary(), &config);
        World {
            models,
            pages,
            daemon,
            key,
            _directory: directory,
            runtime: Some(runtime),
        }
    };
    // Apart from the runtime of the test.
    std::thread::spawn(make).join().expect("a world")
}

/// The section `[agent]` with these keys, and where the models are.
fn config(agent: &str, models: &Models, key: &Path) -> String {
    let (url, key) = (models.url(), key.display());
    format!("[agent]\nbase_url = \"{url}\"\nkey_file = \"{key}\"\n{agent}")
}

/// The world that most tests share.
pub(crate) fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(made)
}

/// Who is asked.
#[derive(Clone, Debug)]
struct Asked {
    name: &'static str,
    model: Model,
}

impl World {
    fn client(&self) -> Client {
        Client::new(&self.daemon.url())
    }

    /// Another daemon with the same models.
    fn daemon(&self, agent: &str) -> Daemon {
        Daemon::start(binary(), &config(agent, &self.models, &self.key))
    }

    async fn open(&self, path: &str) -> OpenSession {
        self.client().open(&self.pages.url(path)).await
    }

    /// One of the test's models, by how well it does.
    fn model(&self, name: &str) -> Model {
        Model {
            name: name.to_owned(),
            ..Model::default()
        }
    }

    /// The same in Anthropic's format.
    fn anthropic(&self, name: &str) -> Model {
        Model {
            provider: "anthropic".into(),
            name: name.to_owned(),
            base_url: self.models.url(),
            key: KEY.to_owned(),
        }
    }

    /// Those that must be able to do every task.
    fn able(&self) -> Vec<Asked> {
        let mut all = vec![
            Asked {
                name: "openai",
                model: self.model("planner"),
            },
            Asked {
                name: "anthropic",
                model: self.anthropic("planner"),
            },
        ];
        let variable = |name: &str| std::env::var(format!("PAGEBOX_TEST_MODEL_{name}")).ok();
        if let Some(provider) = variable("PROVIDER") {
            let key = variable("KEY_FILE").map(|path| std::fs::read_to_string(path).unwrap());
            let model = Model {
                provider,
                name: variable("NAME").expect("PAGEBOX_TEST_MODEL_NAME"),
                base_url: variable("BASE_URL").unwrap_or_default(),
                key: key.map(|key| key.trim().to_owned()).unwrap_or_default(),
            };
            all.push(Asked {
                name: "real",
                model,
            });
        }
        all
    }
}

/// A task in a session.
fn task(session: &OpenSession, model: Model, prompt: &str) -> PromptOptions {
    PromptOptions {
        place: Some(Place::SessionId(session.id.clone())),
        prompt: prompt.to_owned(),
        model: Some(model),
        ..PromptOptions::default()
    }
}

async fn prompt(session: &OpenSession, options: PromptOptions) -> Result<PromptResponse, Status> {
    let request = PromptRequest {
        options: Some(options),
    };
    let reply = session.client().executions().prompt(request).await?;
    Ok(reply.into_inner())
}

/// Has a task done that must come to an answer.
async fn answer(session: &OpenSession, options: PromptOptions) -> PromptResponse {
    let task = options.prompt.clone();
    match prompt(session, options).await {
        Ok(reply) => {
            assert_eq!(
                reply.outcome(),
                PromptOutcome::Answered,
                "{task}\n{reply:#?}"
            );
            assert!(
                reply.success && reply.error.is_empty() && !reply.killed,
                "{reply:#?}"
            );
            reply
        }
        Err(status) => panic!("{task}\n{status}"),
    }
}

fn secret(value: &str, domains: &[&str]) -> Secret {
    Secret {
        value: value.to_owned(),
        domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
    }
}

fn secrets(all: &[(&str, Secret)]) -> HashMap<String, Secret> {
    all.iter()
        .map(|(name, secret)| ((*name).to_owned(), secret.clone()))
        .collect()
}

/// Commands with how they went.
fn steps(reply: &PromptResponse) -> Vec<(&str, StepOutcome)> {
    reply
        .steps
        .iter()
        .map(|step| (step.command.as_str(), step.outcome()))
        .collect()
}

fn duration(duration: Option<prost_types::Duration>) -> Duration {
    Duration::try_from(duration.expect("a duration")).expect("not negative")
}
