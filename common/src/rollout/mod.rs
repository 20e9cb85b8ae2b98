//! A rollout: one execution of one plan. State changes by [`Rollout::apply`] alone; what to do next is [`Rollout::decide`]'s.
//!
//! Nothing here looks at a clock or a connection: both are arguments.

mod apply;
mod decide;
mod event;
mod report;
mod waiting;

pub use apply::IllegalEvent;
pub use decide::{Hold, Link, Observed};
pub use event::{Entry, Event, Mode, PauseReason, TaskRef, TaskResult};
pub use report::{Contradiction, Report, Reported};
pub use waiting::{Subject, WaitingOn};

use crate::id::{NodeId, RolloutId, StepId, Timestamp};
use crate::order::{TaskKey, TaskOrder};
use crate::outcome::Outcome;
use crate::plan::{Plan, StagePlan};
use crate::platform::{Stage, words};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
        /// Every task is finished, or there is none.
        Done = "done",
        /// A node failed or is unknown.
        Error = "error",
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
    /// Where it is.
    pub state: TaskState,
    /// The attempt that the rest is about; 0 before the first.
    pub attempt: u32,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// When the attempt was given out.
    pub started_at: Option<Timestamp>,
    /// Whether the node is known to have had the order of this attempt.
    pub accepted: bool,
    /// The steps that ended in this attempt, in order.
    pub steps: Vec<EndedStep>,
}

impl Task {
    /// Given out and not known to have ended.
    #[must_use]
    pub const fn in_flight(&self) -> bool {
        matches!(self.state, TaskState::Preparing | TaskState::Applying)
    }

    /// Whether any step of the last attempt changed the node.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.steps.iter().any(|step| step.outcome.changed())
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
}

impl Counts {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.not_tried + self.running + self.finished + self.failed + self.unknown
    }

    /// Nodes that count against max_unavailable.
    #[must_use]
    pub const fn unavailable(&self) -> u32 {
        self.running + self.failed + self.unknown
    }

    fn add(&mut self, state: TaskState) {
        match state {
            TaskState::Scheduled | TaskState::Canceled => self.not_tried += 1,
            TaskState::Preparing | TaskState::Applying => self.running += 1,
            TaskState::Finished => self.finished += 1,
            TaskState::Failed => self.failed += 1,
            TaskState::Unknown => self.unknown += 1,
        }
    }
}

/// One execution of one plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    id: RolloutId,
    plan: Arc<Plan>,
    status: Status,
    status_since: Timestamp,
    pause: Option<PauseReason>,
    mode: Mode,
    started_at: Option<Timestamp>,
    tasks: BTreeMap<Stage, BTreeMap<NodeId, Task>>,
    released: BTreeSet<(Stage, usize)>,
    last_seq: u64,
}

impl Rollout {
    /// A rollout of a plan, before its first event.
    #[must_use]
    pub fn new(id: RolloutId, plan: Arc<Plan>) -> Self {
        let fresh = Task {
            state: TaskState::Scheduled,
            attempt: 0,
            since: Timestamp::default(),
            started_at: None,
            accepted: false,
            steps: Vec::new(),
        };
        let tasks_of = |stage: &StagePlan| {
            stage.tasks.keys().map(|node| (node.clone(), fresh.clone())).collect::<BTreeMap<_, _>>()
        };
        let tasks = plan.body.stages.iter().map(|stage| (stage.stage, tasks_of(stage))).collect();
        Self {
            id,
            plan,
            status: Status::Ready,
            status_since: Timestamp::default(),
            pause: None,
            mode: Mode::Auto,
            started_at: None,
            tasks,
            released: BTreeSet::new(),
            last_seq: 0,
        }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &RolloutId {
        &self.id
    }

    /// The plan it executes.
    #[must_use]
    pub const fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Where it is, and since when.
    #[must_use]
    pub const fn status(&self) -> (Status, Timestamp) {
        (self.status, self.status_since)
    }

    /// Why it is paused, if it is.
    #[must_use]
    pub const fn pause(&self) -> Option<&PauseReason> {
        self.pause.as_ref()
    }

    /// Whether a key is of this rollout: its id and its plan.
    #[must_use]
    pub fn is_of(&self, key: &TaskKey) -> bool {
        key.rollout == self.id && key.plan == self.plan.id
    }

    /// Who lets its waves begin.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// When it was started.
    #[must_use]
    pub const fn started_at(&self) -> Option<Timestamp> {
        self.started_at
    }

    /// The place of the last event in the log; 0 before the first.
    #[must_use]
    pub const fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Whether nothing will happen to it any more.
    #[must_use]
    pub const fn ended(&self) -> bool {
        matches!(self.status, Status::Stopped | Status::Finished)
    }

    /// The tasks of a stage, by node.
    pub fn tasks(&self, stage: Stage) -> impl Iterator<Item = (&NodeId, &Task)> {
        self.tasks.get(&stage).into_iter().flatten()
    }

    /// One task.
    #[must_use]
    pub fn task(&self, stage: Stage, node: &NodeId) -> Option<&Task> {
        self.tasks.get(&stage)?.get(node)
    }

    /// How many tasks of a stage are where.
    #[must_use]
    pub fn counts(&self, stage: Stage) -> Counts {
        let mut counts = Counts::default();
        for (_, task) in self.tasks(stage) {
            counts.add(task.state);
        }
        counts
    }

    /// The stage that is being worked on: the first with a task that is not finished.
    #[must_use]
    pub fn current_stage(&self) -> Option<&StagePlan> {
        let open =
            |stage: &&StagePlan| self.tasks(stage.stage).any(|(_, task)| task.state != TaskState::Finished);
        self.plan.body.stages.iter().find(open)
    }

    /// The wave of a stage that is being worked on: the first with a task that has not ended. A canary that failed has not
    /// done what it is for, so its wave is not over.
    #[must_use]
    pub fn current_wave(&self, stage: &StagePlan) -> Option<usize> {
        let over = |wave: usize, node: &NodeId| match self.task(stage.stage, node).map(|task| task.state) {
            Some(TaskState::Finished) => true,
            Some(TaskState::Failed) => wave > 0,
            Some(
                TaskState::Scheduled
                | TaskState::Preparing
                | TaskState::Applying
                | TaskState::Unknown
                | TaskState::Canceled,
            )
            | None => false,
        };
        let open = |(index, wave): (usize, &Vec<NodeId>)| !wave.iter().all(|node| over(index, node));
        stage.waves.iter().enumerate().position(open)
    }

    /// Whether a wave may begin, as far as operators are asked.
    #[must_use]
    pub fn is_released(&self, stage: Stage, wave: usize) -> bool {
        self.mode == Mode::Auto || self.released.contains(&(stage, wave))
    }

    /// Where a stage is.
    #[must_use]
    pub fn stage_state(&self, stage: &StagePlan) -> StageState {
        let counts = self.counts(stage.stage);
        if counts.finished == counts.total() {
            return StageState::Done;
        }
        if counts.failed + counts.unknown > 0 {
            return StageState::Error;
        }
        if counts.not_tried == counts.total() {
            return StageState::Unstarted;
        }
        match self.current_wave(stage) {
            Some(0) => StageState::Canary,
            _ => StageState::Active,
        }
    }

    /// When the first task of a stage was given out and, if all have ended, when the last one did.
    #[must_use]
    pub fn stage_times(&self, stage: Stage) -> (Option<Timestamp>, Option<Timestamp>) {
        let began = self.tasks(stage).filter_map(|(_, task)| task.started_at).min();
        let done = self.tasks(stage).all(|(_, task)| task.state == TaskState::Finished);
        let ended = if done { self.tasks(stage).map(|(_, task)| task.since).max() } else { None };
        (began, ended)
    }

    /// The orders that may be sent now: of all tasks that were given out and are not known to have ended, also of lost
    /// nodes. They are sent (again) whenever their node connects, and a node that has one already answers from its journal.
    ///
    /// I5: while the rollout does not run, a node that is not known to have had its order is not sent it; if it had it
    /// all the same, its journal knows and it reports by itself. After its end a rollout has no orders.
    pub fn open_orders(&self, generation: crate::id::Generation) -> impl Iterator<Item = TaskOrder> {
        self.plan.body.stages.iter().flat_map(move |stage| {
            let given_out = |task: &Task| {
                (task.in_flight() || task.state == TaskState::Unknown)
                    && !self.ended()
                    && (task.accepted || self.status == Status::Running)
            };
            self.tasks(stage.stage).filter(move |(_, task)| given_out(task)).filter_map(
                move |(node, task)| {
                    Some(TaskOrder {
                        key: TaskKey {
                            rollout: self.id.clone(),
                            plan: self.plan.id.clone(),
                            stage: stage.stage,
                            node: node.clone(),
                            attempt: task.attempt,
                        },
                        generation,
                        steps: stage.tasks.get(node)?.clone(),
                    })
                },
            )
        })
    }
}
