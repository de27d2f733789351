//! `docs/attack-suite.md`, which is made from the cases.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::case::Group;

/// The document.
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/attack-suite.md");
/// Set by `make attack-doc`: writes the document anew instead of comparing it.
const WRITE: &str = "PAGEBOX_WRITE_ATTACK_DOC";

const HEAD: &str = "\
# The attack suite

What hostile code, pages and callers try against a running daemon, and what is seen. Every line is a
case that runs through the API, with the real Chromium and the real runners. Where the same thing is
possible on the host, the case does it there too, so that the refusal inside is Pagebox's.

    make attack                                      # all of them, and a table
    cargo test --locked --test attacks -- '011 '     # one
    make attack-doc                                  # this page, after a change of the cases

The suite runs as root and as any other user; the line above the table says which, and what of the
host's isolation is weaker. A case that could not show something here says so below its line.

After every case, whatever it tried: the daemon answers; its open files and those of its spawner,
its processes, mounts, cgroups and temporary files are no more than before; its memory is back
within a bound; and an honest session, which worked beside the attack all the time, got every one of
its results. The table has how long the cleaning took, the honest session's times and the memory. A
case that fails prints its reason and the end of the daemon's log, and the next one gets a new daemon.

A new case is an entry of a `CASES` list in `tests/attacks/`: a number never used before, a name,
what it tries, what is observed, and a function that does it and stops the sessions it opened.
`inside.rs` has what cases say about executions, `outside.rs` runs the same text on the host, and
`Ground::own` starts a daemon with other limits.
";

/// Every number is given once, and every text fits its place in the document.
pub(crate) fn numbers_are_unique(groups: &[Group]) -> Result<(), String> {
    let mut seen = BTreeMap::new();
    for case in groups.iter().flat_map(|group| group.cases) {
        if let Some(other) = seen.insert(case.number, case.name) {
            return Err(format!(
                "{} is the number of {other:?} and of {:?}",
                case.number, case.name
            ));
        }
        for text in [case.name, case.tries, case.observed] {
            if text.is_empty() || text.contains(['\n', '|']) {
                return Err(format!("case {}: {text:?} does not fit", case.number));
            }
        }
    }
    Ok(())
}

/// The document is what the cases say; or becomes so, when that is asked for.
pub(crate) fn document_is_current(groups: &[Group]) -> Result<(), String> {
    let wanted = document(groups);
    if std::env::var_os(WRITE).is_some() {
        return std::fs::write(PATH, wanted).map_err(|error| format!("{PATH}: {error}"));
    }
    let found = std::fs::read_to_string(PATH).map_err(|error| format!("{PATH}: {error}"))?;
    if found == wanted {
        return Ok(());
    }
    let line = found
        .lines()
        .zip(wanted.lines())
        .position(|(is, should)| is != should)
        .unwrap_or_else(|| found.lines().count().min(wanted.lines().count()));
    Err(format!(
        "{PATH} is not what the cases say, from line {}: run `make attack-doc`",
        line + 1
    ))
}

fn document(groups: &[Group]) -> String {
    let mut text = HEAD.to_owned();
    for group in groups.iter().filter(|group| !group.cases.is_empty()) {
        let _ = write!(
            text,
            "\n## {}\n\n| | case | tries | observed |\n|---|---|---|---|\n",
            group.title
        );
        for case in group.cases {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                case.number, case.name, case.tries, case.observed
            );
        }
    }
    text
}
