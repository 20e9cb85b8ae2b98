//! Taking events into a turn, the only way in which the rollout moves on; deciding what comes next; what is sent to nodes.

use super::turn::Pending;
use super::{Engine, SEND_AGAIN_MS, ToAgent, words};
use crate::store::{AuditRecord, RolloutRecord, StoreError};
use std::collections::BTreeSet;
use wavegate_common::id::NodeId;
use wavegate_common::order::{TaskKey, TaskOrder};
use wavegate_common::rollout::{Entry, Event, IllegalEvent, Rollout, TaskState};

/// Events that are decided in a turn at most.
const MOST_DECIDED: usize = 500;

/// Why events were not recorded. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// They are not legal.
    #[error(transparent)]
    Illegal(#[from] IllegalEvent),
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Engine {
    /// Records what an operator asked for: it is stored when this returns.
    pub(super) fn record(&mut self, events: Vec<Event>, audit: &AuditRecord) -> Result<(), RecordError> {
        self.collect(events)?;
        self.turn.audit.push(audit.clone());
        Ok(self.commit()?)
    }

    /// Records the first events of a rollout, which is the newest from then on. They are stored when this returns.
    pub(super) fn begin(
        &mut self,
        rollout: Rollout,
        record: RolloutRecord,
        events: Vec<Event>,
        audit: &AuditRecord,
    ) -> Result<(), RecordError> {
        let stored = self.rollout.replace(rollout);
        self.turn.events = Some(Pending { stored, begin: Some(record), entries: Vec::new() });
        let recorded = self.record(events, audit);
        if let Some(Pending { stored, .. }) = self.turn.events.take() {
            self.rollout = stored;
        }
        recorded
    }

    /// Takes events of the newest rollout into this turn: all or none.
    pub(super) fn collect(&mut self, events: Vec<Event>) -> Result<(), IllegalEvent> {
        let (at, generation) = (self.clock.now(), self.generation);
        let Some(rollout) = &mut self.rollout else { return Ok(()) };
        let pending = self.turn.events.get_or_insert_with(|| Pending {
            stored: Some(rollout.clone()),
            begin: None,
            entries: Vec::new(),
        });
        let before = pending.entries.len();
        for event in events {
            let entry = Entry { seq: rollout.last_seq() + 1, at, generation, event };
            if let Err(illegal) = rollout.apply(&entry) {
                self.take_back(before);
                return Err(illegal);
            }
            pending.entries.push(entry);
        }
        self.changed();
        Ok(())
    }

    /// Takes back the last entries of this turn, down to so many.
    fn take_back(&mut self, left: usize) {
        let Some(pending) = &mut self.turn.events else { return };
        if pending.entries.len() == left {
            return;
        }
        pending.entries.truncate(left);
        let Some(mut rollout) = pending.stored.clone() else { return };
        for entry in &pending.entries {
            rollout.apply(entry).unwrap_or_else(|_| unreachable!("it was applied to the same a moment ago"));
        }
        self.rollout = Some(rollout);
    }

    /// Goes on until there is nothing to do but wait, or so much is decided that the rest is for the next turn: whoever asks
    /// meanwhile is not kept waiting while thousands of orders are given out.
    pub(super) fn settle(&mut self) {
        let mut decided = 0;
        loop {
            let Some(rollout) = &self.rollout else { return };
            let mut events = match self.turn.look_for_lost {
                true => rollout.decide(self.observed()),
                false => rollout.decide_meanwhile(self.observed()),
            };
            if self.superseded.is_some() {
                events.retain(|event| !matches!(event, Event::TaskStarted { .. }));
            }
            if events.is_empty() {
                self.turn.look_for_lost = false;
                return;
            }
            events.truncate(MOST_DECIDED - decided);
            decided += events.len();
            let started = events.iter().filter_map(|event| match event {
                Event::TaskStarted { task } => Some(task.node.clone()),
                _ => None,
            });
            let started: Vec<NodeId> = started.collect();
            if let Err(error) = self.collect(events) {
                tracing::error!(%error, "what was decided is not legal; please report this as a defect");
                return;
            }
            self.turn.orders.extend(started);
            if decided == MOST_DECIDED {
                self.turn.unsettled = true;
                return;
            }
        }
    }

    /// Sends a node a message, if it is online.
    pub(super) fn send(&mut self, node: &NodeId, message: ToAgent) -> bool {
        let sent = self.links.send(node, message, self.clock.now());
        if !sent {
            // In the sending at a turn's end nothing is settled any more: what follows is, in the next turn.
            self.after_offline(node);
        }
        sent
    }

    /// Sends nodes the orders that are open for them, as far as there are any that may be sent.
    pub(super) fn send_orders(&mut self, nodes: &BTreeSet<NodeId>) {
        let Some(rollout) = self.rollout.as_ref().filter(|_| self.superseded.is_none()) else { return };
        let generation = self.generation;
        let open = nodes.iter().flat_map(|node| rollout.open_orders_of(generation, node));
        let mut again = Vec::new();
        for order in open.collect::<Vec<TaskOrder>>() {
            let (key, now) = (order.key.clone(), self.clock.now());
            let node = key.node.clone();
            if self.send(&node, ToAgent::Order(Box::new(order))) {
                let before = self.ordered.insert(node.clone(), (key.clone(), now));
                again.extend(before.is_some_and(|(before, _)| before == key).then_some(node));
            }
        }
        if !again.is_empty() {
            tracing::info!(
                "sent again, since they were not confirmed: the orders of {}",
                words::names(&again)
            );
        }
    }

    /// Has orders sent again that nodes have not confirmed for a while: sending one twice is harmless.
    pub(super) fn send_orders_again(&mut self) {
        let Some(rollout) = self.rollout.as_ref().filter(|rollout| !rollout.ended()) else { return };
        let now = self.clock.now();
        for stage in &rollout.plan().body.stages {
            let unconfirmed = rollout.tasks(stage.stage).filter(|(node, task)| {
                let waits = matches!(task.progress, TaskState::Preparing | TaskState::Unknown);
                let of_this = |key: &TaskKey| {
                    key.stage == stage.stage && key.attempt == task.attempt && rollout.is_of(key)
                };
                let sent = || self.ordered.get(*node).filter(|(key, _)| of_this(key));
                waits
                    && self.links.is_online(node)
                    && sent().is_none_or(|(_, at)| now.millis_since(*at) >= SEND_AGAIN_MS)
            });
            self.turn.orders.extend(unconfirmed.map(|(node, _)| node.clone()));
        }
    }
}
