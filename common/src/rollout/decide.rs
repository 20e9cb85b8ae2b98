//! `decide`: what should happen next. It may be asked any number of times; it changes nothing.
//!
//! A start is legal exactly when [`Rollout::may_start`] says so: `apply` asks it, and `decide` offers nothing else.

use super::{Event, PauseReason, Rollout, Status, Task, TaskRef, TaskState};
use crate::id::{NodeId, Timestamp};
use crate::plan::StagePlan;
use crate::platform::Stage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whether a node's agent is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "link", rename_all = "lowercase")]
pub enum Link {
    /// It is, and heartbeats arrive.
    Online {
        /// Since when.
        since: Timestamp,
    },
    /// It is not.
    Offline {
        /// Since when, or since the coordinator started if it was not seen since.
        since: Timestamp,
    },
}

impl Link {
    /// Whether it is connected.
    #[must_use]
    pub const fn is_online(self) -> bool {
        matches!(self, Self::Online { .. })
    }
}

/// What the coordinator sees around the rollout.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The time.
    pub now: Timestamp,
    /// The nodes' links; a node that is missing is taken as offline since ever.
    pub links: &'a BTreeMap<NodeId, Link>,
    /// After so many milliseconds offline, a node with a task in flight is lost.
    pub lost_after_ms: u64,
}

impl Observed<'_> {
    /// A node's link.
    #[must_use]
    pub fn link(&self, node: &NodeId) -> Link {
        self.links.get(node).copied().unwrap_or(Link::Offline { since: Timestamp(0) })
    }
}

/// What holds a start, apart from the node's link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Hold {
    /// The rollout does not run.
    #[error("the rollout is {status}")]
    NotRunning {
        /// Its status.
        status: Status,
    },
    /// The task is not waiting to be started.
    #[error("it is {state}")]
    NotScheduled {
        /// Its state.
        state: TaskState,
    },
    /// The barrier: an earlier stage is not done.
    #[error("stage {stage} is not done: {unfinished} nodes are not finished")]
    Barrier {
        /// The stage that is not done.
        stage: Stage,
        /// Its unfinished nodes.
        unfinished: u32,
    },
    /// An earlier wave has not ended.
    #[error("wave {} has not ended", wave + 1)]
    EarlierWave {
        /// The wave, from 0.
        wave: usize,
    },
    /// The canary failed: it must finish before any other node starts.
    #[error("the canary has not finished")]
    Canary,
    /// An operator has not let the wave begin.
    #[error("wave {} waits for an operator", wave + 1)]
    NotReleased {
        /// The wave, from 0.
        wave: usize,
    },
    /// More nodes went wrong than may.
    #[error("{errors} nodes failed or are unknown, {allowed} allowed")]
    Errors {
        /// Failed and unknown nodes.
        errors: u32,
        /// Allowed ones.
        allowed: u32,
    },
    /// As many nodes are in flight, failed or unknown as may be.
    #[error("{unavailable} nodes are in flight, failed or unknown, at most {allowed} may be")]
    MaxUnavailable {
        /// Such nodes.
        unavailable: u32,
        /// Allowed ones.
        allowed: u32,
    },
}

impl Rollout {
    /// Whether a task may be given out now, as far as the rollout's own state goes (the node's link is asked apart).
    ///
    /// # Errors
    /// What holds it.
    pub fn may_start(&self, stage: Stage, node: &NodeId) -> Result<(), Hold> {
        if self.status != Status::Running {
            return Err(Hold::NotRunning { status: self.status });
        }
        let state = self.task(stage, node).map_or(TaskState::Canceled, |task| task.state);
        if state != TaskState::Scheduled {
            return Err(Hold::NotScheduled { state });
        }
        self.barrier(stage)?;
        let Some(planned) = self.plan.stage(stage) else { return Err(Hold::NotScheduled { state }) };
        let wave = planned.waves.iter().position(|wave| wave.contains(node)).unwrap_or(planned.waves.len());
        self.earlier_waves(planned, wave)?;
        if !self.is_released(stage, wave) {
            return Err(Hold::NotReleased { wave });
        }
        self.within_limits(planned)
    }

    /// I1: no task of a stage before every task of every earlier stage is finished.
    fn barrier(&self, stage: Stage) -> Result<(), Hold> {
        for earlier in self.plan.body.stages.iter().filter(|earlier| earlier.stage < stage) {
            let counts = self.counts(earlier.stage);
            let unfinished = counts.total() - counts.finished;
            if unfinished > 0 {
                return Err(Hold::Barrier { stage: earlier.stage, unfinished });
            }
        }
        Ok(())
    }

    fn earlier_waves(&self, planned: &StagePlan, wave: usize) -> Result<(), Hold> {
        let state = |node: &NodeId| self.task(planned.stage, node).map(|task| task.state);
        for (index, earlier) in planned.waves.iter().enumerate().take(wave) {
            for node in earlier {
                match state(node) {
                    Some(TaskState::Finished) => {}
                    Some(TaskState::Failed) if index > 0 => {}
                    Some(TaskState::Failed | TaskState::Unknown) if index == 0 => return Err(Hold::Canary),
                    Some(
                        TaskState::Scheduled
                        | TaskState::Preparing
                        | TaskState::Applying
                        | TaskState::Failed
                        | TaskState::Unknown
                        | TaskState::Canceled,
                    )
                    | None => return Err(Hold::EarlierWave { wave: index }),
                }
            }
        }
        Ok(())
    }

    /// I2 and I3: how many nodes may be worked on, and how many may have gone wrong.
    fn within_limits(&self, planned: &StagePlan) -> Result<(), Hold> {
        let counts = self.counts(planned.stage);
        let (errors, allowed) = (counts.failed + counts.unknown, planned.limits.errors_allowed);
        if errors > allowed {
            return Err(Hold::Errors { errors, allowed });
        }
        let (unavailable, allowed) = (counts.unavailable(), max_unavailable(planned));
        if unavailable >= allowed {
            return Err(Hold::MaxUnavailable { unavailable, allowed });
        }
        Ok(())
    }

    /// The events that should be recorded next, each legal when the ones before it have been applied. Empty when there
    /// is nothing to do but wait; what for is [`Rollout::waiting`]'s to say.
    #[must_use]
    pub fn decide(&self, observed: Observed<'_>) -> Vec<Event> {
        if self.ended() || self.status == Status::Ready {
            return Vec::new();
        }
        let lost = self.lost(observed);
        if !lost.is_empty() {
            return lost;
        }
        match self.status {
            Status::Stopping if !self.any_in_flight() => vec![Event::Stopped],
            Status::Running => self.advance(observed),
            Status::Ready | Status::Paused | Status::Stopping | Status::Stopped | Status::Finished => {
                Vec::new()
            }
        }
    }

    fn advance(&self, observed: Observed<'_>) -> Vec<Event> {
        let Some(stage) = self.current_stage() else { return vec![Event::Finished] };
        if let Some((stage, failed, allowed)) = self.over_threshold() {
            return vec![Event::Paused { reason: PauseReason::ErrorThreshold { stage, failed, allowed } }];
        }
        self.starts(stage, observed)
    }

    fn starts(&self, stage: &StagePlan, observed: Observed<'_>) -> Vec<Event> {
        let room = max_unavailable(stage).saturating_sub(self.counts(stage.stage).unavailable());
        // A failed task of an earlier wave that is tried again comes before the nodes of later waves.
        let candidates =
            stage.waves.iter().flatten().filter_map(|node| Some((node, self.task(stage.stage, node)?)));
        candidates
            .filter(|(_, task)| task.state == TaskState::Scheduled)
            .filter(|(node, _)| observed.link(node).is_online())
            .filter(|(node, _)| self.may_start(stage.stage, node).is_ok())
            .take(room as usize)
            .map(|(node, task)| Event::TaskStarted {
                task: TaskRef { stage: stage.stage, node: node.clone(), attempt: task.attempt + 1 },
            })
            .collect()
    }

    fn lost(&self, observed: Observed<'_>) -> Vec<Event> {
        let gone = |node: &NodeId| match observed.link(node) {
            Link::Online { .. } => false,
            Link::Offline { since } => observed.now.millis_since(since) >= observed.lost_after_ms,
        };
        let tasks = self
            .tasks
            .iter()
            .flat_map(|(stage, tasks)| tasks.iter().map(move |(node, task)| (stage, node, task)));
        // A rollout that is being stopped sends no order that was not confirmed, so it would wait for ever for such a task.
        let unconfirmed = |task: &Task| {
            self.status == Status::Stopping
                && task.state == TaskState::Preparing
                && observed.now.millis_since(task.since) >= observed.lost_after_ms
        };
        tasks
            .filter(|(_, node, task)| task.in_flight() && (gone(node) || unconfirmed(task)))
            .map(|(stage, node, task)| Event::TaskLost {
                task: TaskRef { stage: *stage, node: node.clone(), attempt: task.attempt },
            })
            .collect()
    }

    /// The first stage in which more nodes have failed than may, with how many have and how many may.
    pub(super) fn over_threshold(&self) -> Option<(Stage, u32, u32)> {
        let stages = self.plan.body.stages.iter();
        let counts =
            stages.map(|stage| (stage.stage, self.counts(stage.stage).failed, stage.limits.errors_allowed));
        counts.into_iter().find(|(_, failed, allowed)| failed > allowed)
    }

    fn any_in_flight(&self) -> bool {
        self.tasks.values().flat_map(|tasks| tasks.values()).any(super::Task::in_flight)
    }

    /// The wave that waits for an operator, if one does.
    #[must_use]
    pub fn wave_to_release(&self) -> Option<(Stage, usize)> {
        let stage = self.current_stage()?;
        let wave = self.current_wave(stage)?;
        (!self.is_released(stage.stage, wave)).then_some((stage.stage, wave))
    }
}

/// I3: whatever a plan says, never more than one etcd member at a time.
fn max_unavailable(stage: &StagePlan) -> u32 {
    match stage.stage {
        Stage::Etcd => 1,
        Stage::Compute | Stage::Control => stage.limits.max_unavailable,
    }
}
