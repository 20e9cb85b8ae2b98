//! Where things of a rollout can be: the words for it, and the values that carry them. What leads from one to another is
//! `apply`'s business.

use crate::id::{Actor, NodeId, StepId, Timestamp};
use crate::outcome::Outcome;
use crate::platform::words;
use serde::{Deserialize, Serialize};

words!(
    /// Where a rollout is.
    Status, "rollout status" {
        /// Recorded, nothing started.
        Ready = "ready",
        /// Tasks are given out as the plan allows.
        Running = "running",
        /// Nothing new starts; what runs may end.
        Paused = "paused",
        /// Nothing new starts ever again; what runs may end.
        Stopping = "stopping",
        /// Ended before every node was done.
        Stopped = "stopped",
        /// Every node is done.
        Finished = "finished",
    }
);

words!(
    /// Where a task is.
    TaskState, "task state" {
        /// Not tried yet.
        Scheduled = "scheduled",
        /// Given out; the node has not confirmed that it has the order.
        Preparing = "preparing",
        /// The node works on it.
        Applying = "applying",
        /// All its steps are done.
        Finished = "finished",
        /// A step failed.
        Failed = "failed",
        /// The node was lost while it worked on it.
        Unknown = "unknown",
        /// The rollout was stopped before it was tried.
        Canceled = "canceled",
        /// An operator lets its node not count.
        Waived = "waived",
    }
);

words!(
    /// Where a stage is; it follows from its tasks.
    StageState, "stage state" {
        /// No task was given out.
        Unstarted = "unstarted",
        /// The first wave is being worked on.
        Canary = "canary",
        /// A later wave is being worked on.
        Active = "active",
        /// Every task is finished or waived, or there is none.
        Done = "done",
        /// A node failed or is unknown.
        Error = "error",
        /// The rollout was stopped before every task of it was finished.
        Stopped = "stopped",
    }
);

/// A step that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedStep {
    /// The step.
    pub step: StepId,
    /// When it ended, by the node's clock.
    pub ended_at: Timestamp,
    /// What came of it.
    pub outcome: Outcome,
}

/// The task of one stage on one node, as the rollout knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Where it is as far as its node goes: never [`TaskState::Waived`]. What counts is [`Task::state`].
    pub progress: TaskState,
    /// Whether its node is waived.
    pub waived: bool,
    /// The attempt that the rest is about; 0 before the first.
    pub attempt: u32,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// When the attempt was given out.
    pub started_at: Option<Timestamp>,
    /// Whether the node is known to have had the order of this attempt.
    pub accepted: bool,
    /// Whether the node works on it for longer than its steps may take together.
    pub overdue: bool,
    /// The steps that ended in this attempt, in order.
    pub steps: Vec<EndedStep>,
}

impl Task {
    /// Where it is. A waiver lies over all that is not finished; underneath, reports go on to count.
    #[must_use]
    pub const fn state(&self) -> TaskState {
        match self.progress {
            TaskState::Finished => TaskState::Finished,
            _ if self.waived => TaskState::Waived,
            progress => progress,
        }
    }

    /// Given out and not known to have ended, waived or not.
    #[must_use]
    pub const fn in_flight(&self) -> bool {
        matches!(self.progress, TaskState::Preparing | TaskState::Applying)
    }

    /// At work, not waived, and for longer than its steps may take together.
    #[must_use]
    pub const fn is_overdue(&self) -> bool {
        self.overdue && matches!(self.state(), TaskState::Applying)
    }

    /// Whether later stages and waves need not wait for it: it is finished or waived.
    #[must_use]
    pub const fn settled(&self) -> bool {
        matches!(self.state(), TaskState::Finished | TaskState::Waived)
    }

    /// Whether any step of the last attempt changed the node.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.steps.iter().any(|step| step.outcome.changed())
    }
}

/// An operator's decision to let a node not count for a while: named, dated, and with an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiver {
    /// The node.
    pub node: NodeId,
    /// Why.
    pub reason: String,
    /// Who decided it.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
    /// From when on the node counts again.
    pub until: Timestamp,
    /// When it ended, if it has.
    pub ended: Option<Timestamp>,
    /// Who withdrew it, if somebody did.
    pub ended_by: Option<Actor>,
}

impl Waiver {
    /// Whether the node does not count now.
    #[must_use]
    pub const fn in_force(&self) -> bool {
        self.ended.is_none()
    }
}

/// How many tasks are where. The parts always add up to the nodes of the plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Not tried: scheduled or canceled.
    pub not_tried: u32,
    /// Preparing or applying.
    pub running: u32,
    /// Finished.
    pub finished: u32,
    /// Failed.
    pub failed: u32,
    /// Lost while applying.
    pub unknown: u32,
    /// Waived, and not finished.
    pub waived: u32,
}

impl Counts {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.not_tried + self.running + self.finished + self.failed + self.unknown + self.waived
    }

    /// Nodes that count against max_unavailable.
    #[must_use]
    pub const fn unavailable(&self) -> u32 {
        self.running + self.failed + self.unknown
    }

    /// The part that a task in a state counts in.
    pub fn part(&mut self, state: TaskState) -> &mut u32 {
        match state {
            TaskState::Scheduled | TaskState::Canceled => &mut self.not_tried,
            TaskState::Preparing | TaskState::Applying => &mut self.running,
            TaskState::Finished => &mut self.finished,
            TaskState::Failed => &mut self.failed,
            TaskState::Unknown => &mut self.unknown,
            TaskState::Waived => &mut self.waived,
        }
    }
}
