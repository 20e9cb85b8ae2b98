//! Moments and durations for people.

use super::Look;
use wavegate_common::id::Timestamp;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Milliseconds as `12 s`, `1 min 12 s`, `2 h 5 min`, `3 d 4 h`.
#[must_use]
pub fn duration(millis: u64) -> String {
    match millis {
        0..MINUTE => format!("{} s", millis / SECOND),
        MINUTE..HOUR => pair(millis, MINUTE, "min", SECOND, "s"),
        HOUR..DAY => pair(millis, HOUR, "h", MINUTE, "min"),
        DAY.. => pair(millis, DAY, "d", HOUR, "h"),
    }
}

fn pair(millis: u64, large: u64, large_name: &str, small: u64, small_name: &str) -> String {
    match (millis / large, millis % large / small) {
        (whole, 0) => format!("{whole} {large_name}"),
        (whole, rest) => format!("{whole} {large_name} {rest} {small_name}"),
    }
}

/// A moment as RFC 3339 with the offset of the look's zone, to the second.
#[must_use]
pub fn moment(at: Timestamp, look: &Look) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(millis) {
        Ok(timestamp) => timestamp.to_zoned(look.zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        // A moment after the year 9999 is a mistake of whoever wrote it; the number at least can be looked for.
        Err(_) => format!("{} ms", at.0),
    }
}

/// `2 min 5 s (2026-11-22T12:48:16+00:00)`: how long ago, and when.
#[must_use]
pub fn since(at: Timestamp, now: Timestamp, look: &Look) -> String {
    format!("{} ({})", duration(now.millis_since(at)), moment(at, look))
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        let texts = [0, 999, 12_345, 72_000, 60_000, 7_500_000, 3_600_000, 273_600_000].map(duration);
        assert_eq!(texts, ["0 s", "0 s", "12 s", "1 min 12 s", "1 min", "2 h 5 min", "1 h", "3 d 4 h"]);
    }

    #[test]
    fn moments_are_rfc_3339() {
        let look = samples::look();
        assert_eq!(moment(Timestamp(1_795_351_821_999), &look), "2026-11-22T12:50:21+00:00");
        assert_eq!(moment(Timestamp(u64::MAX), &look), "18446744073709551615 ms");
    }
}
