//! Protocol and results.

use crate::case::Group;

pub(crate) fn group() -> Group {
    Group {
        title: "Protocol and results",
        cases: &[],
    }
}
