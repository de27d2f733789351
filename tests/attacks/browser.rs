//! Browser and CDP.

use crate::case::Group;

pub(crate) fn group() -> Group {
    Group {
        title: "Browser and CDP",
        cases: &[],
    }
}
