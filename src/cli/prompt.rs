//! `pagebox prompt`: has a language model do a task on a page, and shows what it does meanwhile.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::daemon::{self, server_of};
use super::exec::timeout;
use super::output::{complain, plain, print};
use super::{ConfigFile, Error, NetworkArgs, pair, port};
use crate::agent::MAX_PROMPT;
use crate::grpc::v1::prompt_options::Place;
use crate::grpc::v1::prompt_stream_response::Event;
use crate::grpc::{self, Client, v1};
use crate::server::Signals;

/// How long a daemon may take to confirm a cancel.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(3);
/// Exit status after a timeout, as timeout(1) has it.
const TIMED_OUT: u8 = 124;
/// Exit status when ended otherwise.
const KILLED: u8 = 137;
/// Longest value of a secret; one byte more shows that there is more.
const MAX_SECRET: u64 = 4096;
/// How much of a step's output is shown while it goes on.
const SHOWN: usize = 100;

/// Have a language model do a task on a page.
///
/// The answer is printed on stdout; what the model does meanwhile on stderr, when that is a terminal
/// or with --progress. Which model is asked is a matter of the daemon's configuration (section
/// [agent], docs/prompt.md).
///
/// Without -s, --server or PAGEBOX_SERVER the command brings its own daemon, as pagebox exec does.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 with an answer; 1 without; 124 when it ran into its timeout; 137 when it was ended
otherwise; 130 after Ctrl-C; 2 for a mistake on the command line; 125 when Pagebox itself fails.

Examples:
  pagebox prompt 'What is the first headline?' --url https://example.com
  id=$(pagebox session create --url https://example.com/login)
  pagebox prompt -s $id --secret-file password=/run/secrets/example \\
    'Log in as ada@example.com with {{password}}'
  pagebox exec -s $id -e 'page.url()'
  echo 'Collect all prices as JSON' | pagebox prompt - --url https://example.com --json")]
pub(super) struct Args {
    /// The task, 1 to 10,000 characters; - reads it from stdin
    task: String,
    /// Work in this session of a running daemon
    #[arg(short, long, value_name = "ID", conflicts_with_all = ["url", "NetworkArgs"])]
    session: Option<String>,
    /// Page to open first
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// End it after this long, 1 to 300 seconds [default: 300]
    #[arg(short, long, value_name = "SECONDS", value_parser = timeout)]
    timeout: Option<prost_types::Duration>,
    /// Steps at most [default: as configured]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    max_steps: Option<u32>,
    /// Let it go to this domain beside the site it begins on; may be repeated
    #[arg(long, value_name = "DOMAIN")]
    allow_navigation: Vec<String>,
    /// A secret the model writes as {{NAME}}, and the file of its value; may be repeated
    #[arg(long, value_name = "NAME=FILE", value_parser = pair)]
    secret_file: Vec<(String, String)>,
    /// Where a secret may be used, instead of the site it begins on; may be repeated
    #[arg(long, value_name = "NAME=DOMAIN", value_parser = pair)]
    secret_domain: Vec<(String, String)>,
    /// Another model of the configured provider, if the daemon lets requests choose
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Print the whole reply as one JSON object instead
    #[arg(long)]
    json: bool,
    /// Show what it does, also when stderr is no terminal
    #[arg(long)]
    progress: bool,
    /// Daemon to use instead of an own one
    #[arg(
        long,
        value_name = "URL",
        env = "PAGEBOX_SERVER",
        hide_env_values = true
    )]
    server: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
    /// Let the session reach this port of the host's loopback, '*' for all (own daemon only)
    #[arg(long, value_name = "PORT", value_parser = port, conflicts_with = "session")]
    host_loopback: Vec<String>,
    #[command(flatten)]
    network: NetworkArgs,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Error> {
    // Read now: an own daemon is about to give up the right to.
    let task = task(&args.task)?;
    let options = options(&args, task)?;
    let shows = args.progress || std::io::stderr().is_terminal();
    let json = args.json;
    let server = server_of(args.server.as_deref(), args.session.as_deref());
    let drive = async |client: &mut Client, signals: &mut Signals| {
        let progress = if shows {
            Progress::Shown
        } else {
            Progress::Quiet
        };
        drive(client, options, signals, progress, json).await
    };
    let status = match server {
        Some(server) => daemon::remote(&server, drive)?,
        None => daemon::embedded(daemon::load(args.config, args.host_loopback)?, drive)?,
    };
    Ok(ExitCode::from(status))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Shown,
    Quiet,
}

fn task(text: &str) -> Result<String, Error> {
    if text != "-" {
        return Ok(text.to_owned());
    }
    // Of more the daemon says that it is too long.
    let most = MAX_PROMPT as u64 * 4 + 1;
    let mut task = String::new();
    let read = std::io::stdin().lock().take(most).read_to_string(&mut task);
    read.map_err(Error::ReadPrompt)?;
    Ok(task.trim_end().to_owned())
}

fn options(args: &Args, prompt: String) -> Result<v1::PromptOptions, Error> {
    let place = match &args.session {
        Some(session) => Place::SessionId(session.clone()),
        None => Place::OneShot(v1::SessionOptions {
            start_url: args.url.clone().unwrap_or_default(),
            network: Some(args.network.clone().wire()),
            ..v1::SessionOptions::default()
        }),
    };
    Ok(v1::PromptOptions {
        place: Some(place),
        prompt,
        timeout: args.timeout,
        max_steps: args.max_steps.unwrap_or_default(),
        allow_navigation: args.allow_navigation.clone(),
        secrets: secrets(&args.secret_file, &args.secret_domain)?,
        model: args.model.as_ref().map(|name| v1::Model {
            name: name.clone(),
            ..v1::Model::default()
        }),
        origin: "pagebox-prompt".to_owned(),
        on_human_control: v1::OnHumanControl::Unspecified.into(),
        execution_id: String::new(),
    })
}

fn secrets(
    files: &[(String, String)],
    domains: &[(String, String)],
) -> Result<HashMap<String, v1::Secret>, Error> {
    let mut secrets = HashMap::new();
    for (name, path) in files {
        let path = PathBuf::from(path);
        let mut value = String::new();
        std::fs::File::open(&path)
            .and_then(|file| file.take(MAX_SECRET).read_to_string(&mut value))
            .map_err(|source| Error::ReadSecret {
                name: name.clone(),
                path,
                source,
            })?;
        // An editor's last newline is not part of it.
        let value = value.trim_end_matches(['\n', '\r']).to_owned();
        let domains = Vec::new();
        secrets.insert(name.clone(), v1::Secret { value, domains });
    }
    for (name, domain) in domains {
        let secret = secrets.get_mut(name);
        let secret = secret.ok_or_else(|| Error::NoSuchSecret(name.clone()))?;
        secret.domains.push(domain.clone());
    }
    Ok(secrets)
}

/// Sees a prompt through to its end, or to a signal's; the exit status.
async fn drive(
    client: &mut Client,
    options: v1::PromptOptions,
    signals: &mut Signals,
    progress: Progress,
    json: bool,
) -> Result<u8, Error> {
    let of_signal = |signal: tokio::signal::unix::SignalKind| {
        u8::try_from(128 + signal.as_raw_value()).unwrap_or(u8::MAX)
    };
    let mut stream = tokio::select! {
        stream = client.prompt(options) => stream?,
        // Dropping the call is enough: nothing has an id yet.
        signal = signals.next() => return Ok(of_signal(signal)),
    };
    let mut id = None;
    let reply = loop {
        let event = tokio::select! {
            event = stream.next() => event?,
            signal = signals.next() => {
                if let Some(id) = id {
                    // Dropping the stream would do it too, but only after this process is gone.
                    let cancel = async {
                        let cancelled = client.cancel(id).await;
                        while let Ok(Some(_)) = stream.next().await {}
                        cancelled
                    };
                    let cancelled = tokio::time::timeout(CANCEL_TIMEOUT, cancel).await;
                    if !matches!(cancelled, Ok(Ok(_))) {
                        tracing::warn!("the daemon did not confirm the cancel");
                    }
                }
                return Ok(of_signal(signal));
            }
        };
        match event {
            Some(Event::Started(started)) => id = Some(started.execution_id),
            Some(Event::Finished(reply)) => break reply,
            Some(event) if progress == Progress::Shown => {
                if let Some(line) = line(&event) {
                    eprintln!("{line}");
                }
            }
            Some(_) => {}
            None => {
                return Err(grpc::ClientError::Lost("the reply ended early".to_owned()).into());
            }
        }
    };
    let status = status_of(&reply);
    let text = match json {
        true => grpc::to_json("PromptResponse", &reply)?,
        // A page may have a word in it.
        false => reply
            .output
            .lines()
            .map(plain)
            .collect::<Vec<_>>()
            .join("\n"),
    };
    print(&(text + "\n"))?;
    if !reply.error.is_empty() && !json {
        complain(&reply.error);
    }
    Ok(status)
}

/// What a person is told of a step, in one line.
fn line(event: &Event) -> Option<String> {
    let short = |text: &str| -> String {
        let text = plain(text);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let cut: String = text.chars().take(SHOWN).collect();
        match cut.len() < text.len() {
            true => format!("{cut}…"),
            false => cut,
        }
    };
    match event {
        Event::StepStarted(step) => Some(format!("{}. {}", step.number, short(&step.command))),
        Event::StepFinished(step) => {
            let outcome = match step.outcome() {
                v1::StepOutcome::Done => "done",
                v1::StepOutcome::Failed => "failed",
                v1::StepOutcome::Refused => "refused",
                v1::StepOutcome::TimedOut => "timed out",
                v1::StepOutcome::Unspecified => "ended",
            };
            let took = step.duration.unwrap_or_default();
            let took = Duration::try_from(took).unwrap_or_default();
            let output = short(&step.output);
            let output = match output.is_empty() {
                true => output,
                false => format!(": {output}"),
            };
            Some(format!("   {outcome} in {} ms{output}", took.as_millis()))
        }
        Event::Started(_) | Event::Finished(_) => None,
    }
}

fn status_of(reply: &v1::PromptResponse) -> u8 {
    match reply.outcome() {
        v1::PromptOutcome::Answered => 0,
        v1::PromptOutcome::TimedOut => TIMED_OUT,
        v1::PromptOutcome::Cancelled => KILLED,
        v1::PromptOutcome::StepLimit
        | v1::PromptOutcome::Failed
        | v1::PromptOutcome::Unspecified => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_nothing_to_the_terminal() {
        let step = v1::PromptStep {
            outcome: v1::StepOutcome::Done.into(),
            output: "\u{1b}]0;owned\u{7}\n\u{9b}31m red".into(),
            ..v1::PromptStep::default()
        };
        let line = line(&Event::StepFinished(step)).unwrap();
        assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
        assert_eq!(line, "   done in 0 ms: ]0;owned 31m red");
    }

    #[test]
    fn secrets_come_from_files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\n").unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let pairs = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            let own = |&(a, b): &(&str, &str)| (a.to_owned(), b.to_owned());
            all.iter().map(own).collect()
        };
        let read = secrets(&pairs(&[("pin", &path)]), &pairs(&[("pin", "a.test")])).unwrap();
        let want = v1::Secret {
            value: "hunter2".into(),
            domains: vec!["a.test".into()],
        };
        assert_eq!(read, [("pin".to_owned(), want)].into());
        assert!(matches!(
            secrets(&pairs(&[("pin", "/nonexistent")]), &[]),
            Err(Error::ReadSecret { .. })
        ));
        assert!(matches!(
            secrets(&[], &pairs(&[("pin", "a.test")])),
            Err(Error::NoSuchSecret(_))
        ));
    }

    #[test]
    fn the_exit_status_says_how_it_ended() {
        for (outcome, status) in [
            (v1::PromptOutcome::Answered, 0),
            (v1::PromptOutcome::StepLimit, 1),
            (v1::PromptOutcome::Failed, 1),
            (v1::PromptOutcome::TimedOut, 124),
            (v1::PromptOutcome::Cancelled, 137),
        ] {
            let reply = v1::PromptResponse {
                outcome: outcome.into(),
                ..v1::PromptResponse::default()
            };
            assert_eq!(status_of(&reply), status);
        }
    }
}
