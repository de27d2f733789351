//! Escape and information.

use crate::case::Group;

pub(crate) fn group() -> Group {
    Group {
        title: "Escape and information",
        cases: &[],
    }
}
