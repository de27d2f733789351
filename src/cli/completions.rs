//! `pagebox completions`: shell completions.

use std::process::ExitCode;

use clap_complete::Shell;

use super::{Error, output};

/// Print completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pagebox completions bash > /etc/bash_completion.d/pagebox
  pagebox completions zsh > ~/.zfunc/_pagebox
  pagebox completions fish > ~/.config/fish/completions/pagebox.fish")]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args, command: &mut clap::Command) -> Result<ExitCode, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "pagebox", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
