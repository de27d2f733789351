//! `pagebox doctor`: prints what [`crate::doctor`] finds.

use std::process::ExitCode;

use super::{ConfigFile, Error, output, runtime};
use crate::doctor::{self, Verdict};
use crate::sandbox::{Probe, ProbeState};
use crate::server;

/// Say what this host can isolate, what is degraded, and how to fix it.
///
/// Every mechanism is tried, not looked up: a spawner is started as the daemon would start it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 when everything works, 1 when something is degraded, 2 when Pagebox cannot run here.

Examples:
  pagebox doctor
  pagebox doctor --json | jq '.probes[] | select(.state != \"works\")'")]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Error> {
    let mut config = args.config.clone().load(Vec::new())?.config;
    config.read_files()?;
    let spawner = server::start_spawner(&config);
    let probes = runtime()?.block_on(doctor::examine(&config, spawner));
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

fn text(probes: &[Probe], verdict: Verdict) -> String {
    let width = probes.iter().map(|probe| probe.mechanism.len()).max();
    let width = width.unwrap_or(0);
    let mut text = String::new();
    for probe in probes {
        let state = match probe.state {
            ProbeState::Works => "works   ",
            ProbeState::Degraded => "degraded",
            ProbeState::Refused => "refused ",
        };
        let row = format!("{state}  {:<width$}  {}", probe.mechanism, probe.detail);
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text.push_str(match verdict {
        Verdict::Works => "Pagebox runs here with full isolation.\n",
        Verdict::Degraded => "Pagebox runs here, with what is degraded above.\n",
        Verdict::CannotRun => "Pagebox cannot run here until what is refused above works.\n",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_probe() {
        let probes = [
            Probe {
                mechanism: "seccomp".into(),
                state: ProbeState::Works,
                detail: String::new(),
            },
            Probe {
                mechanism: "fonts".into(),
                state: ProbeState::Degraded,
                detail: "none".into(),
            },
        ];
        assert_eq!(
            text(&probes, Verdict::of(&probes)),
            "works     seccomp\n\
             degraded  fonts    none\n\
             Pagebox runs here, with what is degraded above.\n"
        );
    }
}
