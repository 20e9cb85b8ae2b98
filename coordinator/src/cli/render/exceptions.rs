//! Nodes that a rollout goes on without: those that are or were waived, and those that its plan does not have. Every report
//! of the rollout names them.

use super::{Look, Tone, few, time};
use crate::status::view::RolloutStatus;
use wavegate_common::id::{NodeId, Timestamp};
use wavegate_common::rollout::{TaskState, Waiver};

/// Every waiver that there was, with reason, who and until when; and the nodes outside the plan. Empty text for none.
#[must_use]
pub fn exceptions(rollout: &RolloutStatus, look: &Look) -> String {
    let mut text = String::new();
    if !rollout.waivers.is_empty() {
        text.push_str(&format!("{}\n", look.paint(Tone::Bad, "Waived")));
    }
    for waiver in &rollout.waivers {
        text.push_str(&look.paragraph(&format!("{}: {}", waiver.node, waiver.reason), 2));
        text.push_str(&look.paragraph(&who_and_when(waiver, rollout.now, look), 4));
    }
    if !rollout.outside.is_empty() {
        text.push_str(&look.paragraph(&outside(&rollout.outside), 0));
    }
    text
}

/// `by alice, from 12:00 until 20:00 (8 h more)`; of one that has ended, how.
fn who_and_when(waiver: &Waiver, now: Timestamp, look: &Look) -> String {
    let (from, until) = (time::moment(waiver.at, look), time::moment(waiver.until, look));
    let how = match (waiver.ended, &waiver.ended_by) {
        (Some(at), Some(by)) => format!("ended by {by} {}", time::moment(at, look)),
        (Some(_), None) => "over, it counts again".to_owned(),
        (None, _) if waiver.until > now => {
            format!("{} more", time::duration(waiver.until.millis_since(now)))
        }
        (None, _) => "to the end of the rollout".to_owned(),
    };
    format!("by {}, from {from} until {until} ({how})", waiver.by)
}

/// One line for the nodes that the plan does not have.
#[must_use]
pub fn outside(nodes: &[NodeId]) -> String {
    let names = few(nodes.iter().map(NodeId::as_str));
    format!("Outside the plan, enrolled after it was made and left as they are: {names}")
}

/// A waiver that begins or ends, as a line of `watch`.
#[must_use]
pub fn change(before: Option<&Waiver>, after: &Waiver, look: &Look) -> Option<(Timestamp, String)> {
    let Waiver { node, reason, by, at, until, ended, ended_by } = after;
    match (before, ended) {
        (None, None) => {
            let until = time::moment(*until, look);
            Some((*at, format!("{node} is waived by {by} until {until}: {reason}")))
        }
        (Some(Waiver { ended: Some(_), .. }), _) | (Some(_), None) => None,
        (_, Some(ended)) => {
            let how =
                ended_by.as_ref().map_or_else(|| "is over".to_owned(), |by| format!("is ended by {by}"));
            Some((*ended, format!("the waiver of {node} by {by} ({reason}) {how}")))
        }
    }
}

/// What a rollout that has ended did not do for waivers' sake; empty text if there is nothing.
#[must_use]
pub fn left_out(rollout: &RolloutStatus, look: &Look) -> String {
    let tasks = rollout.stages.iter().flat_map(|stage| &stage.tasks);
    let waived = tasks.filter(|task| task.state == TaskState::Waived).map(|task| task.node.as_str());
    let mut names: Vec<&str> = waived.collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return String::new();
    }
    let text = format!(
        "Not done, since waived: {}. When that can be done: wavegate plan, which goes on from there.",
        few(names)
    );
    look.paragraph(&text, 0)
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_waiver_is_named_while_it_lasts_and_for_ever_after() {
        let status = samples::waived().status(100);
        insta::assert_snapshot!(exceptions(&status, &samples::look()), @r"
        Waived
          compute-1: the disk is being replaced
            by alice, from 2026-11-22T12:01:00+00:00 until 2026-11-22T20:01:00+00:00 (7 h 59 min more)
        ");
        let mut ended = samples::waived();
        ended.end_waiver(120, "compute-1", Some("bob"));
        ended.waive(130, "compute-1", "still the disk", 10);
        ended.end_waiver(140, "compute-1", None);
        insta::assert_snapshot!(exceptions(&ended.status(150), &samples::look()), @r"
        Waived
          compute-1: the disk is being replaced
            by alice, from 2026-11-22T12:01:00+00:00 until 2026-11-22T20:01:00+00:00 (ended by bob
            2026-11-22T12:02:00+00:00)
          compute-1: still the disk
            by alice, from 2026-11-22T12:02:10+00:00 until 2026-11-22T12:02:20+00:00 (over, it counts
            again)
        ");
        let mut outside = samples::running().status(90);
        outside.outside = vec![samples::node("compute-8"), samples::node("compute-9")];
        insta::assert_snapshot!(exceptions(&outside, &samples::look()), @"Outside the plan, enrolled after it was made and left as they are: compute-8, compute-9");
        assert_eq!(exceptions(&samples::running().status(90), &samples::look()), "");
    }

    #[test]
    fn what_was_left_out_is_said_at_the_end() {
        insta::assert_snapshot!(left_out(&samples::waived().status(100), &samples::look()), @"Not done, since waived: compute-1. When that can be done: wavegate plan, which goes on from there.");
        assert_eq!(left_out(&samples::finished().status(300), &samples::look()), "");
    }
}
