//! Durations as people write them.

use jiff::{Span, SpanRelativeTo};

/// Reads a duration, in seconds: `90s`, `30m`, `24h`, `7d`.
///
/// # Errors
/// What is wrong; what would be right.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no duration; write for example 30m, 24h or 7d");
    let span: Span = text.parse().map_err(|_| wrong())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    u64::try_from(duration.as_secs()).ok().filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_people_write_them() {
        let read = |text| seconds(text).expect(text);
        assert_eq!(
            [read("90s"), read("30m"), read("24h"), read("7d"), read("1h 30m")],
            [90, 1800, 86_400, 604_800, 5400]
        );
        for bad in ["", "soon", "24", "-1h", "0s", "1 month"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
