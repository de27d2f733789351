//! Network.

use crate::case::Group;

pub(crate) fn group() -> Group {
    Group {
        title: "Network",
        cases: &[],
    }
}
