//! The attack suite: hostile code, pages and CDP clients against a real daemon, one case after the
//! other, each with an honest session beside it. `make attack` runs it and prints a table.
#![allow(
    dead_code,
    reason = "the shared modules also serve the other tests, the demo and the benchmarks"
)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "../common/client.rs"]
mod client;
#[path = "../common/daemon.rs"]
mod daemon;
#[path = "../common/leaks.rs"]
mod leaks;
#[path = "../common/site.rs"]
mod site;

mod arena;
mod browser;
mod case;
mod catalogue;
mod escape;
mod honest;
mod inside;
mod mode;
mod network;
mod outside;
mod own;
mod parsers;
mod protocol;
mod resources;
mod services;
mod table;

use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use arena::Arena;
use case::{Case, Group};

/// Every group with its cases, in the order of the table.
fn groups() -> Vec<Group> {
    vec![
        resources::group(),
        escape::group(),
        network::group(),
        protocol::group(),
        browser::group(),
        parsers::group(),
        services::group(),
    ]
}

fn main() {
    let mut arguments = Arguments::from_args();
    // The honest session beside a case would otherwise suffer from the next one.
    arguments.test_threads = Some(1);
    let arena = Arc::new(Arena::default());
    let cases = groups().into_iter().flat_map(|group| group.cases);
    let about = [
        Trial::test("numbers of cases are given once", || {
            catalogue::numbers_are_unique(&groups()).map_err(Into::into)
        }),
        Trial::test("docs/attack-suite.md is what the cases say", || {
            catalogue::document_is_current(&groups()).map_err(Into::into)
        }),
    ];
    let trials = about
        .into_iter()
        .chain(cases.map(|case| trial(case, Arc::clone(&arena))))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Err(why) = arena.finish() {
        eprintln!("{why}");
        std::process::exit(101);
    }
    conclusion.exit();
}

fn trial(case: &'static Case, arena: Arc<Arena>) -> Trial {
    let name = format!("{:03} {}", case.number, case.name);
    Trial::test(name, move || arena.run(case).map_err(Into::into))
}
