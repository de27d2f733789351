//! What a case is.

use std::pin::Pin;

use crate::arena::Ground;

/// The work of a case; a panic is its failure.
pub(crate) type Attack<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Cases on one subject.
pub(crate) struct Group {
    /// Its heading.
    pub(crate) title: &'static str,
    /// In the order of their numbers.
    pub(crate) cases: &'static [Case],
}

/// One thing hostile code, a hostile page or a hostile client tries. `docs/attack-suite.md` is made
/// from these.
pub(crate) struct Case {
    /// Never given to another case, also after this one is gone.
    pub(crate) number: u16,
    /// A few words.
    pub(crate) name: &'static str,
    /// What it does, in a sentence: "forks until it cannot, in bash, node and python".
    pub(crate) tries: &'static str,
    /// What is seen: "EAGAIN at the limit of processes; the outcome is `TIMED_OUT`".
    pub(crate) observed: &'static str,
    /// Does it and looks. What it opened it stops.
    pub(crate) run: for<'a> fn(&'a Ground) -> Attack<'a>,
}
