//! Times on the wire: ISO 8601 in UTC, to the millisecond.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(super) fn iso(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    let cut = at.replace_millisecond(at.millisecond()).unwrap_or(at);
    cut.format(&Rfc3339).unwrap_or_default()
}

/// Whole milliseconds.
pub(super) fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_iso_8601() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
        assert_eq!(iso(at), "2023-11-14T22:13:20.123Z");
    }
}
