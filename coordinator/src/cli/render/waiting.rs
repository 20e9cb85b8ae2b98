//! What a rollout waits for, as people read it; `why` prints nothing else. The words are the core's.

use super::{Look, Tone, time};
use wavegate_common::id::Timestamp;
use wavegate_common::rollout::WaitingOn;

/// What is waited for, each with since when and what would unblock it; empty text for an empty list.
#[must_use]
pub fn waiting(reasons: &[WaitingOn], now: Timestamp, look: &Look) -> String {
    let one = |reason: &WaitingOn| {
        let since = if reason.since == Timestamp::default() {
            "the beginning".to_owned()
        } else {
            time::since(reason.since, now, look)
        };
        let rows = [("since", since.as_str()), ("next", &reason.unblock)];
        look.paragraph(&reason.why, 2) + &look.labelled(&rows, 4)
    };
    reasons.iter().map(one).collect()
}

/// What `why` prints.
#[must_use]
pub fn why(reasons: &[WaitingOn], now: Timestamp, look: &Look) -> String {
    if reasons.is_empty() {
        return "Nothing is waited for: it is over. See wavegate status.\n".to_owned();
    }
    format!("{}\n{}", look.paint(Tone::Heading, "Waiting"), waiting(reasons, now, look))
}

/// Whether a reason asks somebody to do something; the others end by themselves.
#[must_use]
pub fn needs_somebody(reason: &WaitingOn) -> bool {
    !reason.unblock.starts_with("nothing to do")
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn why_says_since_when_and_what_to_do() {
        let status = samples::running().status(200);
        insta::assert_snapshot!(why(&status.waiting, status.now, &samples::look()), @r"
        Waiting
          compute-2 is applying stage compute
            since  2 min 9 s (2026-11-22T12:01:11+00:00)
            next   nothing to do: it goes on by itself (watch: wavegate logs compute-2 --follow)
          compute-3 went offline while applying stage compute
            since  2 min (2026-11-22T12:01:20+00:00)
            next   switch compute-3 on, or start its agent there: systemctl start wavegate-agent; it goes
                   on by itself when it is back. To go on without it: wavegate waive compute-3; if it is
                   gone for good: wavegate stop, then wavegate node remove compute-3
          stage control waits for stage compute: 2 of 3 node(s) not finished: compute-2, compute-3
            since  3 min 10 s (2026-11-22T12:00:10+00:00)
            next   every node of stage compute finishes or is waived
        ");
        assert!(why(&[], status.now, &samples::look()).starts_with("Nothing is waited for"));
    }
}
