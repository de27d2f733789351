//! The daemon's parsers.

use crate::case::Group;

pub(crate) fn group() -> Group {
    Group {
        title: "The daemon's parsers",
        cases: &[],
    }
}
