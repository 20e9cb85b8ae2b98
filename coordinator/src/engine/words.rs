//! Texts that more than one part of the engine has for people.

use wavegate_common::id::{Actor, NodeId};
use wavegate_common::rollout::{Event, PauseReason, TaskRef, TaskResult};

/// At most five names, and how many more.
pub(super) fn names<'a>(nodes: impl IntoIterator<Item = &'a NodeId>) -> String {
    let all: Vec<&str> = nodes.into_iter().map(NodeId::as_str).collect();
    let shown = all.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(5) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Whether an event stands in the log of a coordinator that does not say everything: where tasks begin and end, what goes
/// wrong, and what people do. The steps of tasks are many, and `wavegate events` has them.
pub(super) const fn is_of_note(event: &Event) -> bool {
    match event {
        Event::TaskAccepted { .. } => false,
        Event::StepEnded { outcome, .. } => outcome.error().is_some(),
        Event::Started { .. }
        | Event::TaskStarted { .. }
        | Event::TaskEnded { .. }
        | Event::TaskLost { .. }
        | Event::TaskOverdue { .. }
        | Event::TaskReturned { .. }
        | Event::TaskRestarted { .. }
        | Event::TaskRetried { .. }
        | Event::WaveReleased { .. }
        | Event::NodeWaived { .. }
        | Event::WaiverEnded { .. }
        | Event::Paused { .. }
        | Event::Resumed { .. }
        | Event::StopRequested { .. }
        | Event::Stopped
        | Event::Finished => true,
    }
}

/// An event in a line, for the log.
pub(super) fn event(event: &Event) -> String {
    match event {
        Event::Started { mode, by, approved_by, acknowledged } => {
            let mut text = format!("started by {by}, mode {mode}");
            if !approved_by.is_empty() {
                text.push_str(&format!(", approved by {}", actors(approved_by)));
            }
            if !acknowledged.is_empty() {
                text.push_str(&format!(", {} acknowledged", acknowledged.join(", ")));
            }
            text
        }
        Event::TaskStarted { task } => format!("{} is given out", place(task)),
        Event::TaskAccepted { task } => format!("{} is being applied", place(task)),
        Event::StepEnded { task, step, outcome, .. } => format!("{} step {step}: {outcome}", place(task)),
        Event::TaskEnded { task, result: TaskResult::Finished } => format!("{} finished", place(task)),
        Event::TaskEnded { task, result: TaskResult::Failed } => format!("{} failed", place(task)),
        Event::TaskLost { task } => format!("{} is unknown: its node is lost", place(task)),
        Event::TaskOverdue { task } => {
            format!("{} takes longer than its steps may take together", place(task))
        }
        Event::TaskReturned { task } => format!("{} goes on: its node is back", place(task)),
        Event::TaskRestarted { task } => format!("{} begins anew: its node lost its journal", place(task)),
        Event::TaskRetried { task, by } => format!("{} is to be tried again, says {by}", place(task)),
        Event::WaveReleased { stage, wave, by } => {
            format!("wave {} of stage {stage} may begin, says {by}", wave + 1)
        }
        Event::NodeWaived { node, reason, by, until } => {
            format!("{node} is waived by {by} until {}: {reason}", until.utc())
        }
        Event::WaiverEnded { node, by: Some(by) } => format!("the waiver of {node} is withdrawn by {by}"),
        Event::WaiverEnded { node, by: None } => format!("the waiver of {node} is over: it counts again"),
        Event::Paused { reason: PauseReason::Operator { by } } => format!("paused by {by}"),
        Event::Paused { reason: PauseReason::ErrorThreshold { stage, failed, allowed } } => {
            format!("halted: {failed} node(s) failed in stage {stage}, {allowed} allowed")
        }
        Event::Resumed { by } => format!("resumed by {by}"),
        Event::StopRequested { by } => format!("stop asked for by {by}"),
        Event::Stopped => "stopped".to_owned(),
        Event::Finished => "finished".to_owned(),
    }
}

fn actors(actors: &[Actor]) -> String {
    actors.iter().map(|actor| actor.0.as_str()).collect::<Vec<_>>().join(", ")
}

fn place(task: &TaskRef) -> String {
    format!("stage {} on {} (attempt {})", task.stage, task.node, task.attempt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let nodes: Vec<NodeId> = (1..=7).map(|n| NodeId::new(format!("n{n}")).expect("name")).collect();
        assert_eq!(names(&nodes[..2]), "n1, n2");
        assert_eq!(names(&nodes), "n1, n2, n3, n4, n5 and 2 more");
    }
}
