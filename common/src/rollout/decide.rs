//! `decide`: what should happen next. It may be asked any number of times; it changes nothing.
//!
//! A start is legal exactly when [`Rollout::may_start`] says so: `apply` asks it, and `decide` offers nothing else.

use super::index::Kind;
use super::{Event, Hold, PauseReason, Rollout, Status, Task, TaskRef, TaskState};
use crate::id::{NodeId, Timestamp};
use crate::plan::StagePlan;
use crate::platform::Stage;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;

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

/// The links of nodes that are asked for in the order of their names: of many nodes they are read off in one go.
struct LinksInOrder<'a> {
    observed: Observed<'a>,
    walk: Option<Peekable<btree_map::Iter<'a, NodeId, Link>>>,
}

impl<'a> LinksInOrder<'a> {
    fn new(observed: Observed<'a>, nodes: usize) -> Self {
        let many = nodes.saturating_mul(8) > observed.links.len();
        Self { observed, walk: many.then(|| observed.links.iter().peekable()) }
    }

    fn link(&mut self, node: &NodeId) -> Link {
        let Some(walk) = &mut self.walk else { return self.observed.link(node) };
        while walk.next_if(|(known, _)| *known < node).is_some() {}
        let known = walk.peek().filter(|(known, _)| *known == node);
        known.map_or(Link::Offline { since: Timestamp(0) }, |(_, link)| **link)
    }
}

impl Rollout {
    /// The events that should be recorded next, each legal when the ones before it have been applied. Empty when there
    /// is nothing to do but wait; what for is [`Rollout::waiting`]'s to say.
    #[must_use]
    pub fn decide(&self, observed: Observed<'_>) -> Vec<Event> {
        self.decide_after(observed, || self.lost(observed))
    }

    /// As [`Rollout::decide`], without the look for lost or late nodes unless a task would start: none may start beside a lost node. That
    /// look goes over every node in flight, which need not be after every event.
    #[must_use]
    pub fn decide_meanwhile(&self, observed: Observed<'_>) -> Vec<Event> {
        let decided = self.decide_after(observed, Vec::new);
        if decided.iter().any(|event| matches!(event, Event::TaskStarted { .. })) {
            return self.decide(observed);
        }
        decided
    }

    fn decide_after(&self, observed: Observed<'_>, lost: impl FnOnce() -> Vec<Event>) -> Vec<Event> {
        if self.ended() || self.status == Status::Ready {
            return Vec::new();
        }
        let mut passed = self.expired(observed.now);
        passed.extend(lost());
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
        let Some(tasks) = self.stages.get(&stage.stage).filter(|_| room > 0) else { return Vec::new() };
        // Nothing scheduled is left before the current wave, and nothing after it may start. Where a failed task of an earlier
        // wave is tried again, that wave is the current one.
        let candidates = tasks.current_wave().into_iter().flat_map(|wave| tasks.scheduled_in(wave));
        let mut asked = BTreeMap::new();
        let mut may_start = |node: &NodeId, kind: Kind| {
            let ask = || self.may_start(stage.stage, node, observed.now).is_ok();
            *asked.entry(kind).or_insert_with(ask)
        };
        let mut ready = candidates
            .filter(|(node, _, kind)| may_start(node, *kind))
            .filter(|(node, ..)| observed.link(node).is_online())
            .peekable();
        // Each may start by itself; together only those of one group may, and an etcd member never beside another node.
        let Some(first) = ready.peek().map(|(.., kind)| *kind) else { return Vec::new() };
        let room = if first.alone { 1 } else { room };
        ready
            .filter(|(.., kind)| *kind == first)
            .take(room as usize)
            .map(|(node, task, _)| Event::TaskStarted {
                task: TaskRef { stage: stage.stage, node: node.clone(), attempt: task.attempt + 1 },
            })
            .collect()
    }

    fn expired(&self, now: Timestamp) -> Vec<Event> {
        let over = self.waivers.expired(now).into_iter();
        over.map(|waiver| Event::WaiverEnded { node: waiver.node.clone(), by: None }).collect()
    }

    /// Tasks whose node was not heard of for too long, and those that take too long.
    fn lost(&self, observed: Observed<'_>) -> Vec<Event> {
        // A rollout that is being stopped sends no order that was not confirmed, so it would wait for ever for such a task.
        let unconfirmed = |task: &Task| {
            self.status == Status::Stopping
                && task.progress == TaskState::Preparing
                && observed.now.millis_since(task.since) >= observed.lost_after_ms
        };
        let mut events = Vec::new();
        for (stage, tasks) in &self.stages {
            let mut links = LinksInOrder::new(observed, tasks.tally().in_flight.len());
            for (place, node, task) in tasks.in_flight() {
                let about = || TaskRef { stage: *stage, node: node.clone(), attempt: task.attempt };
                let gone = match links.link(node) {
                    Link::Online { .. } => false,
                    Link::Offline { since } => observed.now.millis_since(since) >= observed.lost_after_ms,
                };
                if gone || unconfirmed(task) {
                    events.push(Event::TaskLost { task: about() });
                    continue;
                }
                let late = task.progress == TaskState::Applying
                    && !task.overdue
                    && observed.now.millis_since(task.since) >= tasks.index().limit_ms(place);
                events.extend(late.then(|| Event::TaskOverdue { task: about() }));
            }
        }
        events
    }

    /// Milliseconds that a node may work on its task without anybody wondering: what its steps may take together, half as
    /// much again, and ten minutes.
    pub(super) fn limit_ms(&self, stage: Stage, node: &NodeId) -> u64 {
        let index = self.stages.get(&stage).map(|tasks| tasks.index());
        index.and_then(|index| Some(index.limit_ms(index.place(node)?))).unwrap_or(u64::MAX)
    }

    /// The first stage in which more nodes have failed than may, with how many have and how many may.
    pub(super) fn over_threshold(&self) -> Option<(Stage, u32, u32)> {
        let stages = self.plan.body.stages.iter();
        let counts =
            stages.map(|stage| (stage.stage, self.counts(stage.stage).failed, stage.limits.errors_allowed));
        counts.into_iter().find(|(_, failed, allowed)| failed > allowed)
    }

    fn any_in_flight(&self) -> bool {
        self.stages.values().any(|tasks| !tasks.tally().in_flight.is_empty())
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
