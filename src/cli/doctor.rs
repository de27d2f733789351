//! `pagebox doctor`: prints what [`crate::doctor`] finds.

use std::process::ExitCode;

use super::{ConfigFile, Error, output, runtime};
use crate::doctor::{self, Verdict};
use crate::grpc::Client;
use crate::sandbox::{Probe, ProbeState, Sandboxes};
use crate::server;

/// Where long text is wrapped.
const WIDTH: usize = 100;

/// Say what this host can isolate, what is degraded, and how to fix it.
///
/// Every mechanism is tried, not looked up: a spawner is started as the daemon would start it, and
/// a browser as a session would.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 when everything works, 1 when something is degraded, 2 when Pagebox cannot run here.

Examples:
  pagebox doctor
  pagebox doctor --server http://127.0.0.1:7370
  pagebox doctor --json | jq '.probes[] | select(.state != \"works\")'")]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Ask this daemon what it found, instead of trying here
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    server: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Error> {
    let probes = match &args.server {
        Some(server) => runtime()?.block_on(ask(server))?,
        None => here(args.config.clone())?,
    };
    let verdict = Verdict::of(&probes);
    if args.json {
        let json = serde_json::json!({ "verdict": verdict, "probes": probes });
        output::print(&format!("{json}\n"))?;
    } else {
        output::print(&text(&probes, verdict))?;
    }
    Ok(ExitCode::from(match verdict {
        Verdict::Works => 0,
        Verdict::Degraded => 1,
        Verdict::CannotRun => 2,
    }))
}

fn here(config: ConfigFile) -> Result<Vec<Probe>, Error> {
    let mut config = config.load(Vec::new())?.config;
    config.read_files()?;
    let spawner = server::start_spawner(&config, || Ok(())).map(|(spawner, ())| spawner);
    runtime()?.block_on(async {
        let connect = |process| Sandboxes::connect(process).map_err(anyhow::Error::from);
        let sandboxes = spawner.and_then(connect);
        let probes = doctor::examine(&config, sandboxes.as_ref()).await;
        if let Ok(sandboxes) = sandboxes {
            sandboxes.shutdown().await;
        }
        Ok(probes)
    })
}

async fn ask(server: &str) -> Result<Vec<Probe>, Error> {
    let daemon = Client::connect(server).await?.get_daemon().await?;
    Ok(daemon.probes.into_iter().map(Probe::from).collect())
}

fn text(probes: &[Probe], verdict: Verdict) -> String {
    let width = probes.iter().map(|probe| probe.mechanism.len()).max();
    let width = width.unwrap_or(0);
    let mut text = String::new();
    for probe in probes {
        let state = match probe.state {
            ProbeState::Works => "works",
            ProbeState::Degraded => "degraded",
            ProbeState::Refused => "refused",
            ProbeState::Unknown => "unknown",
        };
        let head = format!("{state:<8}  {:<width$}  ", probe.mechanism);
        let room = WIDTH.saturating_sub(head.len());
        let mut lines = wrapped(&probe.detail, room);
        if !probe.remedy.is_empty() {
            lines.extend(wrapped(&format!("remedy: {}", probe.remedy), room));
        }
        text.push_str(&head);
        text.push_str(&lines.join(&format!("\n{}", " ".repeat(head.len()))));
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    let count = |state| probes.iter().filter(|probe| probe.state == state).count();
    text.push_str(&format!(
        "{} of {} work, {} degraded, {} refused, {} unknown.\n{}\n",
        count(ProbeState::Works),
        probes.len(),
        count(ProbeState::Degraded),
        count(ProbeState::Refused),
        count(ProbeState::Unknown),
        match verdict {
            Verdict::Works => "Pagebox runs here with full isolation.",
            Verdict::Degraded => "Pagebox runs here, with what is degraded above.",
            Verdict::CannotRun => "Pagebox cannot run here until what is refused above works.",
        }
    ));
    text
}

/// Lines of whole words, none longer than `room` where the words let it.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(mechanism: &str, state: ProbeState, detail: &str, remedy: &str) -> Probe {
        Probe {
            mechanism: mechanism.into(),
            state,
            detail: detail.into(),
            remedy: remedy.into(),
            weakening: None,
        }
    }

    #[test]
    fn one_line_for_each_probe_and_one_for_each_remedy() {
        let probes = [
            probe("seccomp", ProbeState::Works, "", ""),
            probe("fonts", ProbeState::Degraded, "none", "install some"),
        ];
        assert_eq!(
            text(&probes, Verdict::of(&probes)),
            "works     seccomp\n\
             degraded  fonts    none\n\
             \x20                  remedy: install some\n\
             1 of 2 work, 1 degraded, 0 refused, 0 unknown.\n\
             Pagebox runs here, with what is degraded above.\n"
        );
    }

    #[test]
    fn long_text_is_wrapped_at_words_and_aligned() {
        let probes = [probe("x", ProbeState::Refused, &"word ".repeat(60), "")];
        let text = text(&probes, Verdict::of(&probes));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.len() > 3, "{text}");
        assert!(lines.iter().all(|line| line.len() <= WIDTH), "{text}");
        assert_eq!(lines[1].find("word"), lines[0].find("word"));
    }
}
