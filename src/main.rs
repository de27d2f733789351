//! The program `pagebox`: the spawner when it was started as that, else the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: the spawner is this same program, and must stay small and single-threaded.
    if pagebox::sandbox::is_spawner() {
        pagebox::sandbox::spawner_main();
    }
    pagebox::cli::run()
}
