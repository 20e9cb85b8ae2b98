//! `decide`: what should happen next. It may be asked any number of times; it changes nothing.
//!
//! A start is legal exactly when [`Rollout::may_start`] says so: `apply` asks it, and `decide` offers nothing else.

use super::{Event, Hold, PauseReason, Rollout, Status, Task, TaskRef, TaskState};
use crate::id::{NodeId, Timestamp};
use crate::order::Work;
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

impl Rollout {
    /// The events that should be recorded next, each legal when the ones before it have been applied. Empty when there
    /// is nothing to do but wait; what for is [`Rollout::waiting`]'s to say.
    #[must_use]
    pub fn decide(&self, observed: Observed<'_>) -> Vec<Event> {
        if self.ended() || self.status == Status::Ready {
            return Vec::new();
        }
        let mut passed = self.expired(observed.now);
        passed.extend(self.lost(observed));
        if !passed.is_empty() {
            return passed;
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
        let room = self.at_once(stage).saturating_sub(self.unavailable(stage));
        // A failed task of an earlier wave that is tried again comes before the nodes of later waves.
        let candidates =
            stage.waves.iter().flatten().filter_map(|node| Some((node, self.task(stage.stage, node)?)));
        let mut ready = candidates
            .filter(|(_, task)| task.state() == TaskState::Scheduled)
            .filter(|(node, _)| observed.link(node).is_online())
            .filter(|(node, _)| self.may_start(stage.stage, node, observed.now).is_ok())
            .peekable();
        // Each may start by itself; together only those of one group may, and an etcd member never beside another node.
        let kind = |node: &NodeId| (stage.groups.get(node), self.is_alone(stage.stage, node));
        let Some(first) = ready.peek().map(|(node, _)| kind(node)) else { return Vec::new() };
        let room = if first.1 { 1 } else { room };
        ready
            .filter(|(node, _)| kind(node) == first)
            .take(room as usize)
            .map(|(node, task)| Event::TaskStarted {
                task: TaskRef { stage: stage.stage, node: node.clone(), attempt: task.attempt + 1 },
            })
            .collect()
    }

    fn expired(&self, now: Timestamp) -> Vec<Event> {
        let over = self.waivers.iter().filter(|waiver| waiver.in_force() && waiver.until <= now);
        over.map(|waiver| Event::WaiverEnded { node: waiver.node.clone(), by: None }).collect()
    }

    /// Tasks whose node was not heard of for too long, and those that take too long.
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
                && task.progress == TaskState::Preparing
                && observed.now.millis_since(task.since) >= observed.lost_after_ms
        };
        let event = |(stage, node, task): (&Stage, &NodeId, &Task)| {
            let about = || TaskRef { stage: *stage, node: node.clone(), attempt: task.attempt };
            if task.in_flight() && (gone(node) || unconfirmed(task)) {
                return Some(Event::TaskLost { task: about() });
            }
            let late = task.progress == TaskState::Applying
                && !task.overdue
                && observed.now.millis_since(task.since) >= self.limit_ms(*stage, node);
            late.then(|| Event::TaskOverdue { task: about() })
        };
        tasks.filter_map(event).collect()
    }

    /// Milliseconds that a node may work on its task without anybody wondering: what its steps may take together, half as
    /// much again, and ten minutes.
    pub(super) fn limit_ms(&self, stage: Stage, node: &NodeId) -> u64 {
        let steps = self.plan.stage(stage).and_then(|stage| stage.tasks.get(node));
        let limits = steps.into_iter().flatten().map(|step| match step.work {
            Work::Run { timeout_s, .. } => timeout_s,
            Work::Skip { .. } => 0,
        });
        let together = limits.fold(0u64, u64::saturating_add);
        together.saturating_add(together / 2).saturating_add(600).saturating_mul(1000)
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

    /// The wave that an operator may let begin now: one that waits for that, or rests.
    #[must_use]
    pub fn wave_to_release(&self, now: Timestamp) -> Option<(Stage, usize)> {
        let stage = self.current_stage()?;
        let wave = self.current_wave(stage)?;
        match self.may_begin(stage, wave, now) {
            Err(Hold::NotReleased { .. } | Hold::Soaking { .. }) => Some((stage.stage, wave)),
            Err(_) | Ok(()) => None,
        }
    }
}
