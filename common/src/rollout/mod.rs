//! A rollout: one execution of one plan. State changes by [`Rollout::apply`] alone; what to do next is [`Rollout::decide`]'s.
//!
//! Nothing here looks at a clock or a connection: both are arguments.

mod apply;
mod chunks;
mod decide;
mod event;
mod hold;
mod index;
mod places;
mod reading;
mod report;
mod state;
mod tally;
mod tasks;
mod waiting;
mod waivers;

pub use crate::waves::Mode;
pub use apply::IllegalEvent;
pub use decide::{Link, Observed};
pub use event::{Entry, Event, PauseReason, TaskRef, TaskResult};
pub use hold::Hold;
pub use report::{Contradiction, Report, Reported};
pub use state::{Counts, EndedStep, StageState, Status, Task, TaskState, Waiver};
pub use waiting::{Subject, WaitingOn};

use crate::id::{Actor, Generation, NodeId, RolloutId, Timestamp};
use crate::order::{TaskKey, TaskOrder};
use crate::plan::{Plan, StagePlan};
use crate::platform::Stage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tasks::StageTasks;
use waivers::Waivers;

/// One execution of one plan. A copy is cheap: it shares what neither has changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    id: RolloutId,
    plan: Arc<Plan>,
    status: Status,
    status_since: Timestamp,
    pause: Option<PauseReason>,
    mode: Mode,
    started_at: Option<Timestamp>,
    approved_by: Vec<Actor>,
    acknowledged: Vec<String>,
    stages: BTreeMap<Stage, Arc<StageTasks>>,
    waivers: Arc<Waivers>,
    released: Arc<BTreeSet<(Stage, usize)>>,
    last_seq: u64,
}

impl Rollout {
    /// A rollout of a plan, before its first event.
    #[must_use]
    pub fn new(id: RolloutId, plan: Arc<Plan>) -> Self {
        let tasks_of = |planned: &StagePlan| (planned.stage, Arc::new(StageTasks::new(&plan, planned)));
        let stages = plan.body.stages.iter().map(tasks_of).collect();
        Self {
            id,
            plan,
            status: Status::Ready,
            status_since: Timestamp::default(),
            pause: None,
            mode: Mode::Auto,
            started_at: None,
            approved_by: Vec::new(),
            acknowledged: Vec::new(),
            stages,
            waivers: Arc::default(),
            released: Arc::default(),
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

    /// Who had approved its plan when it was started.
    #[must_use]
    pub fn approved_by(&self) -> &[Actor] {
        &self.approved_by
    }

    /// The ids of its plan's warnings that were acknowledged when it was started.
    #[must_use]
    pub fn acknowledged(&self) -> &[String] {
        &self.acknowledged
    }

    /// Every waiver that there was, in the order in which they were given; each node has at most one in force.
    #[must_use]
    pub fn waivers(&self) -> &[Waiver] {
        self.waivers.given()
    }

    /// The waiver of a node, if one is in force.
    #[must_use]
    pub fn waiver(&self, node: &NodeId) -> Option<&Waiver> {
        self.waivers.of(node)
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

    /// Whether nothing is given out or decided any more. What nodes still report, also of waived and lost ones, is recorded.
    #[must_use]
    pub const fn ended(&self) -> bool {
        matches!(self.status, Status::Stopped | Status::Finished)
    }

    /// The tasks of a stage, by node.
    pub fn tasks(&self, stage: Stage) -> impl Iterator<Item = (&NodeId, &Task)> {
        self.stages.get(&stage).into_iter().flat_map(|tasks| tasks.iter())
    }

    /// One task.
    #[must_use]
    pub fn task(&self, stage: Stage, node: &NodeId) -> Option<&Task> {
        self.stages.get(&stage)?.of(node)
    }

    /// How many tasks of a stage are where.
    #[must_use]
    pub fn counts(&self, stage: Stage) -> Counts {
        self.stages.get(&stage).map_or_else(Counts::default, |tasks| tasks.tally().counts)
    }

    /// How many tasks of a stage are neither finished nor waived.
    fn unsettled(&self, stage: Stage) -> u32 {
        self.stages.get(&stage).map_or(0, |tasks| tasks.tally().unsettled())
    }

    /// The stage that is being worked on: the first with a task that is neither finished nor waived.
    #[must_use]
    pub fn current_stage(&self) -> Option<&StagePlan> {
        self.plan.body.stages.iter().find(|planned| self.unsettled(planned.stage) > 0)
    }

    /// The wave of a stage that is being worked on: the first with a task that has not ended. A canary that failed has not
    /// done what it is for, so its wave is not over.
    #[must_use]
    pub fn current_wave(&self, stage: &StagePlan) -> Option<usize> {
        self.stages.get(&stage.stage)?.current_wave()
    }

    /// Whether the waves of a stage begin when an operator says so.
    #[must_use]
    pub fn is_manual(&self, stage: &StagePlan) -> bool {
        self.mode == Mode::Manual || stage.limits.start == Mode::Manual
    }

    /// Whether an operator let a wave begin.
    #[must_use]
    pub fn is_released(&self, stage: Stage, wave: usize) -> bool {
        self.released.contains(&(stage, wave))
    }

    /// Until when what was done before a wave is left to prove itself, if a soak time was asked for and something was
    /// done: the time begins with the end of the wave before it, which for the first wave is the last of the stage before.
    #[must_use]
    pub fn soaks_until(&self, stage: Stage, wave: usize) -> Option<Timestamp> {
        let before = match wave.checked_sub(1) {
            Some(before) => self.plan.stage(stage).map(|planned| (planned, before)),
            None => self
                .plan
                .body
                .stages
                .iter()
                .rfind(|earlier| earlier.stage < stage && !earlier.waves.is_empty())
                .map(|earlier| (earlier, earlier.waves.len() - 1)),
        };
        let (planned, before) = before.filter(|(planned, _)| planned.limits.soak_s > 0)?;
        let tally = self.stages.get(&planned.stage)?.tally();
        let ended = (0..=before).filter_map(|wave| tally.wave(wave)?.since).max()?;
        Some(Timestamp(ended.0.saturating_add(planned.limits.soak_s.saturating_mul(1000))))
    }

    /// Where a stage is.
    #[must_use]
    pub fn stage_state(&self, stage: &StagePlan) -> StageState {
        let counts = self.counts(stage.stage);
        if counts.finished + counts.waived == counts.total() {
            return StageState::Done;
        }
        if counts.failed + counts.unknown > 0 {
            return StageState::Error;
        }
        if counts.not_tried == counts.total() {
            return StageState::Unstarted;
        }
        if self.ended() {
            return StageState::Stopped;
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
        let ended = if self.unsettled(stage) == 0 {
            self.tasks(stage).map(|(_, task)| task.since).max()
        } else {
            None
        };
        (began, ended)
    }

    /// The orders that may be sent now: of all tasks that were given out and are not known to have ended, also of lost
    /// nodes. They are sent (again) whenever their node connects, and a node that has one already answers from its journal.
    ///
    /// I5: while the rollout does not run, a node that is not known to have had its order is not sent it; if it had it
    /// all the same, its journal knows and it reports by itself. Nor is it while the node is waived: nobody waits for it, and
    /// others may be at work by now. After its end a rollout has no orders.
    pub fn open_orders(&self, generation: Generation) -> impl Iterator<Item = TaskOrder> {
        self.plan.body.stages.iter().flat_map(move |planned| {
            let tasks = self.stages.get(&planned.stage).into_iter().flat_map(|tasks| tasks.given_out());
            tasks.filter_map(move |(node, task)| self.open_order(planned, node, task, generation))
        })
    }

    /// The orders that may be sent to one node now: as [`Rollout::open_orders`].
    pub fn open_orders_of(&self, generation: Generation, node: &NodeId) -> impl Iterator<Item = TaskOrder> {
        self.plan.body.stages.iter().filter_map(move |planned| {
            self.open_order(planned, node, self.task(planned.stage, node)?, generation)
        })
    }

    fn open_order(
        &self,
        planned: &StagePlan,
        node: &NodeId,
        task: &Task,
        generation: Generation,
    ) -> Option<TaskOrder> {
        let given_out = (task.in_flight() || task.progress == TaskState::Unknown)
            && !self.ended()
            && (task.accepted || self.status == Status::Running)
            && (task.accepted || !task.waived);
        if !given_out {
            return None;
        }
        Some(TaskOrder {
            key: TaskKey {
                rollout: self.id.clone(),
                plan: self.plan.id.clone(),
                stage: planned.stage,
                node: node.clone(),
                attempt: task.attempt,
            },
            generation,
            planned: self.plan.body.nodes.get(node).cloned(),
            steps: planned.tasks.get(node)?.clone(),
        })
    }
}
