//! `pagebox config`: the effective configuration.

use std::process::ExitCode;

use super::{ConfigFile, Error, output};

/// Print the effective configuration as TOML, with where each changed value is from.
///
/// Later sources win: defaults, /etc/pagebox/pagebox.toml, ~/.config/pagebox/pagebox.toml (or one
/// file given by --config instead of both), PAGEBOX_* variables, flags. Unknown keys are refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pagebox config
  pagebox config --config deploy/pagebox.toml
  PAGEBOX_SESSION__MAX_SESSIONS=50 PAGEBOX_LOG__FORMAT=json pagebox config")]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Error> {
    output::print(&args.config.load(Vec::new())?.to_toml()?)?;
    Ok(ExitCode::SUCCESS)
}
