//! `docs/sandbox.md` says what the code does.

use super::child::{INIT_STEPS, PROGRAM_STEPS, Step};

#[test]
fn the_documented_steps_are_the_code_s() {
    let list = |steps: &[Step]| {
        steps
            .iter()
            .enumerate()
            .map(|(at, step)| format!("{}. `{}`: {}\n", at + 1, step.name, step.what))
            .collect::<String>()
    };
    let docs = include_str!("../../docs/sandbox.md");
    for steps in [list(&INIT_STEPS), list(&PROGRAM_STEPS)] {
        assert!(docs.contains(&steps), "docs/sandbox.md must hold:\n{steps}");
    }
}
