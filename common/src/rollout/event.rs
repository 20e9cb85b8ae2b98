//! The events of a rollout: the only things that change it, and what the event log holds.

use crate::id::{Actor, Generation, NodeId, StepId, Timestamp};
use crate::outcome::Outcome;
use crate::platform::Stage;
use crate::waves::Mode;
use serde::{Deserialize, Serialize};

/// How a task ended on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskResult {
    /// Every step was changed, already so or skipped.
    Finished,
    /// A step failed; the steps after it were not tried.
    Failed,
}

/// Why a rollout was paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum PauseReason {
    /// An operator asked for it.
    Operator {
        /// Who.
        by: Actor,
    },
    /// More nodes of a stage failed than were allowed to.
    ErrorThreshold {
        /// The stage.
        stage: Stage,
        /// Nodes that failed.
        failed: u32,
        /// Nodes that were allowed to.
        allowed: u32,
    },
}

/// Which attempt at which task an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRef {
    /// The stage.
    pub stage: Stage,
    /// The node.
    pub node: NodeId,
    /// The attempt, from 1.
    pub attempt: u32,
}

/// Something that happened in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The rollout began.
    Started {
        /// Who lets its waves begin.
        mode: Mode,
        /// Who started it.
        by: Actor,
        /// Who had approved its plan.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        approved_by: Vec<Actor>,
        /// The ids of the plan's warnings that were acknowledged.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        acknowledged: Vec<String>,
    },
    /// A task was given out. It is recorded before its order is sent.
    TaskStarted {
        /// The task.
        #[serde(flatten)]
        task: TaskRef,
    },
    /// The node has the order in its journal.
    TaskAccepted {
        /// The task.
        #[serde(flatten)]
        task: TaskRef,
    },
    /// A step ended on its node.
    StepEnded {
        /// The task.
        #[serde(flatten)]
        task: TaskRef,
        /// The step.
        step: StepId,
        /// When it ended, by the node's clock.
        ended_at: Timestamp,
        /// What came of it.
        outcome: Outcome,
    },
    /// A task ended on its node.
    TaskEnded {
        /// The task.
        #[serde(flatten)]
        task: TaskRef,
        /// How.
        result: TaskResult,
    },
    /// The node of a task in flight was not heard of for too long.
    TaskLost {
        /// The task.
        #[serde(flatten)]
        task: TaskRef,
    },
    /// The node of a task works on it for longer than its steps may take together.
    TaskOverdue {
        /// The task.
        #[serde(flatten)]
        task: TaskRef,
    },
    /// A lost node is back and its journal says that the task goes on.
    TaskReturned {
        /// The task.
        #[serde(flatten)]
        task: TaskRef,
    },
    /// The node works on it from its first step again: it lost its journal, and with it what it had reported.
    TaskRestarted {
        /// The task.
        #[serde(flatten)]
        task: TaskRef,
    },
    /// A failed task is to be tried again.
    TaskRetried {
        /// The task, with the attempt that failed.
        #[serde(flatten)]
        task: TaskRef,
        /// Who asked for it.
        by: Actor,
    },
    /// An operator let a wave begin.
    WaveReleased {
        /// The stage.
        stage: Stage,
        /// The wave, from 0.
        wave: usize,
        /// Who.
        by: Actor,
    },
    /// An operator lets a node not count, or gives another reason or end for that.
    NodeWaived {
        /// The node.
        node: NodeId,
        /// Why.
        reason: String,
        /// From when on it counts again.
        until: Timestamp,
        /// Who.
        by: Actor,
    },
    /// A node counts again.
    WaiverEnded {
        /// The node.
        node: NodeId,
        /// Who withdrew the waiver; `None` if its time was over.
        by: Option<Actor>,
    },
    /// Nothing new starts from here.
    Paused {
        /// Why.
        #[serde(flatten)]
        reason: PauseReason,
    },
    /// It goes on.
    Resumed {
        /// Who asked for it.
        by: Actor,
    },
    /// Nothing new starts ever again; what runs may end.
    StopRequested {
        /// Who asked for it.
        by: Actor,
    },
    /// What ran has ended; nodes that were not tried are canceled.
    Stopped,
    /// Every node of every stage is done.
    Finished,
}

/// An event as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place in the rollout's log, from 1, without gaps.
    pub seq: u64,
    /// When the coordinator recorded it.
    pub at: Timestamp,
    /// The generation of the coordinator that recorded it.
    pub generation: Generation,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}
