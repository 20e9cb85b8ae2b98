//! A stage of thousands of nodes on one screen: which of its tasks somebody should see, and how many are left out.

use super::view::{RolloutStatus, StageStatus, TaskStatus};
use wavegate_common::rollout::{Counts, TaskState};

/// A stage of so many nodes is shown whole.
pub const WHOLE: usize = 60;
/// Nodes of one kind that are shown of a larger one.
const OF_A_KIND: usize = 15;

/// Why a task is shown, the most pressing first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Failed,
    Unknown,
    /// At work, and offline or overdue.
    Stuck,
    Waived,
    AtWork,
}

/// What is looked at of a task.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) state: TaskState,
    /// Whether its agent is away, or it takes longer than it may.
    pub(super) stuck: bool,
    /// Since when it is in its state, in milliseconds.
    pub(super) since_ms: u64,
}

impl Seen {
    const fn kind(self) -> Option<Kind> {
        match self.state {
            TaskState::Failed => Some(Kind::Failed),
            TaskState::Unknown => Some(Kind::Unknown),
            TaskState::Preparing | TaskState::Applying if self.stuck => Some(Kind::Stuck),
            TaskState::Waived => Some(Kind::Waived),
            TaskState::Preparing | TaskState::Applying => Some(Kind::AtWork),
            TaskState::Scheduled | TaskState::Finished | TaskState::Canceled => None,
        }
    }
}

/// The places of the tasks that are shown: all of a small stage; of a large one those that somebody should see, a few of
/// each kind, the newest first.
pub(super) fn shown(tasks: &[Seen]) -> Vec<usize> {
    if tasks.len() <= WHOLE {
        return (0..tasks.len()).collect();
    }
    let mut chosen: Vec<(Kind, u64, usize)> = tasks
        .iter()
        .enumerate()
        .filter_map(|(place, task)| Some((task.kind()?, u64::MAX - task.since_ms, place)))
        .collect();
    chosen.sort_unstable();
    let kinds = chosen.chunk_by(|a, b| a.0 == b.0);
    kinds.flat_map(|kind| kind.iter().take(OF_A_KIND)).map(|(.., place)| *place).collect()
}

/// How many of them are not among those at these places.
pub(super) fn left_out(tasks: &[Seen], shown: &[usize]) -> Counts {
    let mut counts = Counts::default();
    if shown.len() == tasks.len() {
        return counts;
    }
    let mut is_shown = vec![false; tasks.len()];
    shown.iter().filter_map(|place| is_shown.get_mut(*place).map(|it| *it = true)).for_each(drop);
    tasks
        .iter()
        .zip(is_shown)
        .filter(|(_, shown)| !shown)
        .for_each(|(task, _)| *counts.part(task.state) += 1);
    counts
}

/// Whether a stage has too many nodes to show each of them.
#[must_use]
pub const fn is_large(stage: &StageStatus) -> bool {
    stage.counts.total() as usize > WHOLE
}

/// Cuts a status that came whole, from a coordinator that knows of no other. What was cut there stays as it is.
pub fn cut(status: &mut RolloutStatus) {
    status.stages.iter_mut().for_each(cut_stage);
}

fn cut_stage(stage: &mut StageStatus) {
    if stage.left_out.total() > 0 {
        return;
    }
    let seen =
        |task: &TaskStatus| Seen { state: task.state, stuck: !task.link.is_online(), since_ms: task.since.0 };
    let tasks: Vec<Seen> = stage.tasks.iter().map(seen).collect();
    let places = shown(&tasks);
    if places.len() < tasks.len() {
        stage.left_out = left_out(&tasks, &places);
        let whole = std::mem::take(&mut stage.tasks);
        stage.tasks = places.into_iter().filter_map(|place| whole.get(place).cloned()).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(state: TaskState, since_ms: u64) -> Seen {
        Seen { state, stuck: false, since_ms }
    }

    #[test]
    fn a_small_stage_is_shown_whole_and_in_order() {
        let tasks = vec![seen(TaskState::Finished, 1); WHOLE];
        let shown = shown(&tasks);
        assert_eq!(shown, (0..WHOLE).collect::<Vec<_>>());
        assert_eq!(left_out(&tasks, &shown), Counts::default());
    }

    #[test]
    fn of_a_large_stage_what_somebody_should_see_the_newest_first() {
        let mut tasks = vec![seen(TaskState::Finished, 1); 5000];
        tasks.extend((0..3000).map(|at| seen(TaskState::Applying, at)));
        tasks.push(seen(TaskState::Failed, 5));
        tasks.push(seen(TaskState::Failed, 7));
        tasks.push(Seen { stuck: true, ..seen(TaskState::Preparing, 3) });
        tasks.push(seen(TaskState::Unknown, 1));
        tasks.push(seen(TaskState::Waived, 1));
        tasks.push(seen(TaskState::Scheduled, 1));
        let shown = shown(&tasks);
        assert_eq!(shown[..7], [8001, 8000, 8003, 8002, 8004, 7999, 7998]);
        assert_eq!(shown.len(), 5 + OF_A_KIND);
        let counts = left_out(&tasks, &shown);
        assert_eq!((counts.finished, counts.running, counts.not_tried), (5000, 3000 - 15, 1));
        assert_eq!(counts.total() as usize + shown.len(), tasks.len());
    }
}
