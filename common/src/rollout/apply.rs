//! `apply`: the only way a rollout's state changes, live and in replay. An event that must not be is a typed error.

use super::places::Place;
use super::tasks::StageTasks;
use super::{EndedStep, Entry, Event, Hold, Rollout, Status, Task, TaskRef, TaskResult, TaskState, Waiver};
use crate::id::{Actor, NodeId, StepId, Timestamp};
use crate::platform::Stage;
use std::sync::Arc;

/// Why an event can't be applied. The rollout is then as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalEvent {
    /// The log has a gap or a repetition.
    #[error("event {found} follows event {last}; the log must have no gap")]
    OutOfSequence {
        /// The last event applied.
        last: u64,
        /// The one that came.
        found: u64,
    },
    /// The rollout's status does not allow it.
    #[error("rollout is {status}")]
    NotWhile {
        /// Its status.
        status: Status,
    },
    /// The plan has no such task.
    #[error("the plan has no task of stage {stage} on node {node}")]
    NoSuchTask {
        /// The stage.
        stage: Stage,
        /// The node.
        node: NodeId,
    },
    /// The task's state does not allow it.
    #[error("{node} is {state} in stage {stage}")]
    TaskIs {
        /// The stage.
        stage: Stage,
        /// The node.
        node: NodeId,
        /// Its state.
        state: TaskState,
    },
    /// It is about another attempt than the current one.
    #[error("attempt {found} of {node} in stage {stage} is not its current attempt {current}")]
    OtherAttempt {
        /// The stage.
        stage: Stage,
        /// The node.
        node: NodeId,
        /// The current attempt.
        current: u32,
        /// The one the event is about.
        found: u32,
    },
    /// It is not the next step of the task.
    #[error("step {found} of {node} in stage {stage} ended, expected {expected}")]
    OtherStep {
        /// The stage.
        stage: Stage,
        /// The node.
        node: NodeId,
        /// The next step, or `none` after the last one.
        expected: String,
        /// The one that ended.
        found: StepId,
    },
    /// A task ended otherwise than its steps.
    #[error("{node} reports stage {stage} as {result:?}, its steps say otherwise")]
    ResultContradictsSteps {
        /// The stage.
        stage: Stage,
        /// The node.
        node: NodeId,
        /// What it reported.
        result: TaskResult,
    },
    /// The barrier, the limits or the order of waves do not allow the start.
    #[error("{node} may not start stage {stage}: {hold}")]
    Held {
        /// The stage.
        stage: Stage,
        /// The node.
        node: NodeId,
        /// What holds it.
        hold: Hold,
    },
    /// More nodes have failed than are allowed to; going on would halt again at once.
    #[error("{failed} node(s) failed in stage {stage}, {allowed} allowed")]
    OverThreshold {
        /// The stage.
        stage: Stage,
        /// Failed nodes.
        failed: u32,
        /// Allowed ones.
        allowed: u32,
    },
    /// The plan has no such node, or it has nothing left to do.
    #[error("{node} has nothing left to do in this rollout")]
    NothingToWaive {
        /// The node.
        node: NodeId,
    },
    /// A node that is worked on can't be waived.
    #[error("{node} is {state} in stage {stage}")]
    AtWork {
        /// The stage.
        stage: Stage,
        /// The node.
        node: NodeId,
        /// The state of its task.
        state: TaskState,
    },
    /// An etcd member that is not done may be down, and the next one would be taken down beside it.
    #[error(
        "{node} is an etcd member that has not finished stage etcd: with it out, the next one may cost the quorum"
    )]
    EtcdMember {
        /// The node.
        node: NodeId,
    },
    /// A waiver must have an end that is still to come.
    #[error("the waiver of {node} would be over already")]
    WaiverOver {
        /// The node.
        node: NodeId,
    },
    /// There is no waiver to end.
    #[error("{node} is not waived")]
    NotWaived {
        /// The node.
        node: NodeId,
    },
    /// A waiver is not over by itself before its time.
    #[error("the waiver of {node} is not over yet")]
    WaiverNotOver {
        /// The node.
        node: NodeId,
    },
    /// The wave is not the one that waits.
    #[error("wave {} of stage {stage} is not the one that waits", wave + 1)]
    NotTheWave {
        /// The stage.
        stage: Stage,
        /// The wave, from 0.
        wave: usize,
    },
}

impl Rollout {
    /// Applies one entry of the log.
    ///
    /// # Errors
    /// [`IllegalEvent`]; the rollout is then as it was.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), IllegalEvent> {
        if entry.seq != self.last_seq + 1 {
            return Err(IllegalEvent::OutOfSequence { last: self.last_seq, found: entry.seq });
        }
        self.apply_event(&entry.event, entry.at)?;
        self.last_seq = entry.seq;
        Ok(())
    }

    fn apply_event(&mut self, event: &Event, at: Timestamp) -> Result<(), IllegalEvent> {
        match event {
            Event::Started { mode, approved_by, acknowledged, .. } => {
                self.require(&[Status::Ready])?;
                self.mode = *mode;
                self.approved_by.clone_from(approved_by);
                self.acknowledged.clone_from(acknowledged);
                self.started_at = Some(at);
                self.become_status(Status::Running, at);
            }
            Event::TaskStarted { task } => self.start(task, at)?,
            Event::TaskAccepted { task } => {
                self.task_in(task, &[TaskState::Preparing])?.change(|task| task.become_accepted(at));
            }
            Event::StepEnded { task, step, ended_at, outcome } => {
                let found = self.find(task)?;
                let Some(next) = found.next_step().filter(|next| *next == step) else {
                    let expected = found.next_step().map_or("none", StepId::as_str).to_owned();
                    let (stage, node) = (task.stage, task.node.clone());
                    return Err(IllegalEvent::OtherStep { stage, node, expected, found: step.clone() });
                };
                // The plan's own name of it, which all nodes share.
                let step = next.clone();
                let ended = EndedStep { step, ended_at: *ended_at, outcome: outcome.clone() };
                found.current(task, &[TaskState::Applying])?.change(|task| task.steps.push(ended));
            }
            Event::TaskEnded { task, result } => self.end(task, *result, at)?,
            Event::TaskLost { task } => {
                self.task_in(task, &[TaskState::Preparing, TaskState::Applying])?
                    .change(|task| task.become_state(TaskState::Unknown, at));
            }
            Event::TaskOverdue { task } => {
                self.task_in(task, &[TaskState::Applying])?.change(|task| task.overdue = true);
            }
            Event::TaskReturned { task } => {
                self.task_in(task, &[TaskState::Unknown])?.change(|task| task.become_accepted(at));
            }
            Event::TaskRestarted { task } => {
                self.task_in(task, &[TaskState::Applying])?.change(|task| task.steps.clear());
            }
            Event::TaskRetried { task, .. } => {
                self.require(&[Status::Running, Status::Paused])?;
                let failed = self.task_in(task, &[TaskState::Failed])?;
                failed.change(|task| task.become_state(TaskState::Scheduled, at));
            }
            Event::WaveReleased { stage, wave, .. } => {
                self.require(&[Status::Running, Status::Paused])?;
                if self.wave_to_release(at) != Some((*stage, *wave)) {
                    return Err(IllegalEvent::NotTheWave { stage: *stage, wave: *wave });
                }
                Arc::make_mut(&mut self.released).insert((*stage, *wave));
            }
            Event::NodeWaived { node, reason, until, by } => self.waive(node, reason, *until, by, at)?,
            Event::WaiverEnded { node, by } => self.end_waiver(node, by.as_ref(), at)?,
            Event::Paused { reason } => {
                self.require(&[Status::Running])?;
                self.pause = Some(reason.clone());
                self.become_status(Status::Paused, at);
            }
            Event::Resumed { .. } => self.resume(at)?,
            Event::StopRequested { .. } => {
                self.require(&[Status::Running, Status::Paused])?;
                self.become_status(Status::Stopping, at);
            }
            Event::Stopped => self.stop(at)?,
            Event::Finished => {
                self.require(&[Status::Running])?;
                if let Some(stage) = self.current_stage() {
                    let (stage, node) = (stage.stage, self.first_unfinished(stage.stage));
                    let state = self.task(stage, &node).map_or(TaskState::Scheduled, Task::state);
                    return Err(IllegalEvent::TaskIs { stage, node, state });
                }
                self.become_status(Status::Finished, at);
            }
        }
        Ok(())
    }

    fn start(&mut self, task: &TaskRef, at: Timestamp) -> Result<(), IllegalEvent> {
        let current = self.task(task.stage, &task.node).ok_or_else(|| no_such(task))?.attempt;
        if task.attempt != current + 1 {
            return Err(IllegalEvent::OtherAttempt {
                stage: task.stage,
                node: task.node.clone(),
                current,
                found: task.attempt,
            });
        }
        self.may_start(task.stage, &task.node, at).map_err(|hold| IllegalEvent::Held {
            stage: task.stage,
            node: task.node.clone(),
            hold,
        })?;
        self.task_in(&TaskRef { attempt: current, ..task.clone() }, &[TaskState::Scheduled])?.change(|t| {
            t.attempt = task.attempt;
            t.steps.clear();
            t.accepted = false;
            t.overdue = false;
            t.started_at = Some(at);
            t.become_state(TaskState::Preparing, at);
        });
        Ok(())
    }

    fn end(&mut self, task: &TaskRef, result: TaskResult, at: Timestamp) -> Result<(), IllegalEvent> {
        let current = self.task_in(task, &[TaskState::Applying])?;
        let failed = current.task().is_some_and(has_failed);
        let agrees = match result {
            TaskResult::Finished => current.next_step().is_none() && !failed,
            TaskResult::Failed => failed,
        };
        if !agrees {
            let (stage, node) = (task.stage, task.node.clone());
            return Err(IllegalEvent::ResultContradictsSteps { stage, node, result });
        }
        let state = match result {
            TaskResult::Finished => TaskState::Finished,
            TaskResult::Failed => TaskState::Failed,
        };
        current.change(|task| task.become_state(state, at));
        Ok(())
    }

    fn resume(&mut self, at: Timestamp) -> Result<(), IllegalEvent> {
        self.require(&[Status::Paused])?;
        if let Some((stage, failed, allowed)) = self.over_threshold() {
            return Err(IllegalEvent::OverThreshold { stage, failed, allowed });
        }
        self.pause = None;
        self.become_status(Status::Running, at);
        Ok(())
    }

    fn stop(&mut self, at: Timestamp) -> Result<(), IllegalEvent> {
        self.require(&[Status::Stopping])?;
        for (stage, tasks) in &self.stages {
            if let Some((_, node, task)) = tasks.in_flight().next() {
                return Err(IllegalEvent::TaskIs { stage: *stage, node: node.clone(), state: task.progress });
            }
        }
        for tasks in self.stages.values_mut() {
            Arc::make_mut(tasks).change_all(
                |task| task.progress == TaskState::Scheduled,
                |task| task.become_state(TaskState::Canceled, at),
            );
        }
        self.pause = None;
        self.become_status(Status::Stopped, at);
        Ok(())
    }

    /// The node's tasks that are not finished do not count from here. A waiver that is in force is given a new reason and end.
    fn waive(
        &mut self,
        node: &NodeId,
        reason: &str,
        until: Timestamp,
        by: &Actor,
        at: Timestamp,
    ) -> Result<(), IllegalEvent> {
        self.require(&[Status::Running, Status::Paused])?;
        self.may_waive(node)?;
        if until <= at {
            return Err(IllegalEvent::WaiverOver { node: node.clone() });
        }
        let waivers = Arc::make_mut(&mut self.waivers);
        waivers.end(node, Some(by), at);
        waivers.begin(Waiver {
            node: node.clone(),
            reason: reason.to_owned(),
            by: by.clone(),
            at,
            until,
            ended: None,
            ended_by: None,
        });
        self.let_count(node, false);
        Ok(())
    }

    /// Whether a node may be let not count: it has something left to do, is not at it, and is no etcd member that may be down.
    ///
    /// # Errors
    /// Why not.
    pub fn may_waive(&self, node: &NodeId) -> Result<(), IllegalEvent> {
        let tasks = || self.stages.iter().filter_map(|(stage, tasks)| Some((*stage, tasks.of(node)?)));
        let left = || tasks().filter(|(_, task)| task.progress != TaskState::Finished);
        if left().next().is_none() {
            return Err(IllegalEvent::NothingToWaive { node: node.clone() });
        }
        let member = self.plan.is_etcd_member(node);
        if member && left().any(|(stage, _)| stage == Stage::Etcd) {
            return Err(IllegalEvent::EtcdMember { node: node.clone() });
        }
        if let Some((stage, task)) = left().find(|(_, task)| task.in_flight()) {
            return Err(IllegalEvent::AtWork { stage, node: node.clone(), state: task.progress });
        }
        Ok(())
    }

    fn end_waiver(&mut self, node: &NodeId, by: Option<&Actor>, at: Timestamp) -> Result<(), IllegalEvent> {
        if self.ended() {
            return Err(IllegalEvent::NotWhile { status: self.status });
        }
        let waiver = self.waivers.of(node).ok_or_else(|| IllegalEvent::NotWaived { node: node.clone() })?;
        if by.is_none() && at < waiver.until {
            return Err(IllegalEvent::WaiverNotOver { node: node.clone() });
        }
        Arc::make_mut(&mut self.waivers).end(node, by, at);
        self.let_count(node, true);
        Ok(())
    }

    fn let_count(&mut self, node: &NodeId, counts: bool) {
        for tasks in self.stages.values_mut() {
            if let Some(place) = tasks.index().place(node) {
                Arc::make_mut(tasks).change(place, |task| task.waived = !counts);
            }
        }
    }

    fn require(&self, allowed: &[Status]) -> Result<(), IllegalEvent> {
        if allowed.contains(&self.status) {
            return Ok(());
        }
        Err(IllegalEvent::NotWhile { status: self.status })
    }

    /// The task an event is about.
    fn find(&mut self, about: &TaskRef) -> Result<ToChange<'_>, IllegalEvent> {
        let tasks = self.stages.get_mut(&about.stage).ok_or_else(|| no_such(about))?;
        let place = tasks.index().place(&about.node).ok_or_else(|| no_such(about))?;
        Ok(ToChange { tasks, place })
    }

    /// The task an event is about, if it is its current attempt and in one of the states.
    fn task_in(&mut self, about: &TaskRef, states: &[TaskState]) -> Result<ToChange<'_>, IllegalEvent> {
        self.find(about)?.current(about, states)
    }

    fn first_unfinished(&self, stage: Stage) -> NodeId {
        let open = self.tasks(stage).find(|(_, task)| !task.settled());
        open.map_or_else(
            || unreachable!("the stage is current: it has an unfinished task"),
            |(node, _)| node.clone(),
        )
    }

    fn become_status(&mut self, status: Status, at: Timestamp) {
        self.status = status;
        self.status_since = at;
        if !matches!(status, Status::Paused) {
            self.pause = None;
        }
    }
}

/// A task that an event is about and may change.
struct ToChange<'r> {
    tasks: &'r mut Arc<StageTasks>,
    place: Place,
}

impl ToChange<'_> {
    fn task(&self) -> Option<&Task> {
        self.tasks.task(self.place)
    }

    /// The step that has not ended; `None` after the last one or a failed one.
    fn next_step(&self) -> Option<&StepId> {
        let task = self.task().filter(|task| !has_failed(task))?;
        self.tasks.index().steps(self.place).get(task.steps.len()).map(|step| &step.id)
    }

    /// The same, if the event is about its current attempt and it is in one of the states.
    fn current(self, about: &TaskRef, states: &[TaskState]) -> Result<Self, IllegalEvent> {
        let task = self.task().ok_or_else(|| no_such(about))?;
        let (stage, node) = (about.stage, &about.node);
        if task.attempt != about.attempt {
            return Err(IllegalEvent::OtherAttempt {
                stage,
                node: node.clone(),
                current: task.attempt,
                found: about.attempt,
            });
        }
        if !states.contains(&task.progress) {
            return Err(IllegalEvent::TaskIs { stage, node: node.clone(), state: task.progress });
        }
        Ok(self)
    }

    fn change(self, change: impl FnOnce(&mut Task)) {
        Arc::make_mut(self.tasks).change(self.place, change);
    }
}

impl Task {
    fn become_accepted(&mut self, at: Timestamp) {
        self.accepted = true;
        self.overdue = false;
        self.become_state(TaskState::Applying, at);
    }

    fn become_state(&mut self, state: TaskState, at: Timestamp) {
        self.progress = state;
        self.since = at;
    }
}

/// Whether a step of it failed, which is then its last.
fn has_failed(task: &Task) -> bool {
    task.steps.last().is_some_and(|ended| ended.outcome.error().is_some())
}

fn no_such(about: &TaskRef) -> IllegalEvent {
    IllegalEvent::NoSuchTask { stage: about.stage, node: about.node.clone() }
}
