//! Recording events, the only way in which the rollout moves on; deciding what comes next; sending what was recorded.

use super::{Engine, SEND_AGAIN_MS, ToAgent, Trouble, error::told, newest_rollout, words};
use crate::store::{Append, AuditRecord, RolloutRecord, StoreError};
use std::sync::Arc;
use wavegate_common::id::NodeId;
use wavegate_common::order::TaskOrder;
use wavegate_common::rollout::{Entry, Event, IllegalEvent, Rollout, TaskState};

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
    /// Records events of the newest rollout: all or none.
    pub(super) fn record(
        &mut self,
        events: Vec<Event>,
        audit: Option<&AuditRecord>,
    ) -> Result<(), RecordError> {
        match self.rollout.clone() {
            Some(rollout) => self.record_of(rollout, events, None, audit),
            None => Ok(()),
        }
    }

    /// Records the first events of a rollout, which is the newest from then on.
    pub(super) fn begin(
        &mut self,
        rollout: Rollout,
        record: &RolloutRecord,
        events: Vec<Event>,
        audit: &AuditRecord,
    ) -> Result<(), RecordError> {
        self.record_of(rollout, events, Some(record), Some(audit))
    }

    /// `after` is a copy: it is applied to before the store is asked, and takes the rollout's place afterwards.
    fn record_of(
        &mut self,
        mut after: Rollout,
        events: Vec<Event>,
        begin: Option<&RolloutRecord>,
        audit: Option<&AuditRecord>,
    ) -> Result<(), RecordError> {
        let expected_last_seq = after.last_seq();
        let (at, generation) = (self.clock.now(), self.generation);
        let mut entries = Vec::new();
        for (seq, event) in (expected_last_seq + 1..).zip(events) {
            let entry = Entry { seq, at, generation, event };
            after.apply(&entry)?;
            entries.push(entry);
        }
        let rollout = after.id().clone();
        let append =
            Append { rollout: &rollout, expected_last_seq, generation, entries: &entries, begin, audit };
        if let Err(error) = self.store.append(&append) {
            self.note_trouble(&error);
            return Err(error.into());
        }
        for entry in &entries {
            tracing::info!(%rollout, seq = entry.seq, "{}", words::event(&entry.event));
        }
        self.rollout = Some(after);
        self.written();
        self.changed();
        Ok(())
    }

    /// The store was written; output that was put before is on disk with it.
    pub(super) fn written(&mut self) {
        self.unflushed_output = false;
        if let Some(trouble) = self.trouble.take() {
            tracing::info!("the store can be written again; it could not: {}", trouble.what);
            self.changed();
        }
    }

    /// Goes on until there is nothing to do but wait.
    pub(super) fn settle(&mut self) {
        loop {
            let Some(rollout) = &self.rollout else { return };
            let mut events = rollout.decide(self.observed());
            if self.superseded.is_some() {
                events.retain(|event| !matches!(event, Event::TaskStarted { .. }));
            }
            if events.is_empty() {
                return;
            }
            let started: Vec<NodeId> = events
                .iter()
                .filter_map(|event| {
                    let Event::TaskStarted { task } = event else { return None };
                    Some(task.node.clone())
                })
                .collect();
            if let Err(error) = self.record(events, None) {
                if let RecordError::Illegal(error) = &error {
                    tracing::error!(%error, "what was decided is not legal; please report this as a defect");
                }
                return;
            }
            for node in started {
                self.send_order(&node);
            }
        }
    }

    /// Sends a node the order that is open for it, if there is one that may be sent.
    pub(super) fn send_order(&mut self, node: &NodeId) {
        let Some(rollout) = self.rollout.as_ref().filter(|_| self.superseded.is_none()) else { return };
        let open: Vec<TaskOrder> =
            rollout.open_orders(self.generation).filter(|order| order.key.node == *node).collect();
        for order in open {
            let (key, now) = (order.key.clone(), self.clock.now());
            if self.links.send(node, ToAgent::Order(Box::new(order)), now) {
                self.ordered.insert(node.clone(), (key, now));
            } else {
                self.after_lost_session(node);
                return;
            }
        }
    }

    /// Sends orders again that nodes have not confirmed for a while: sending one twice is harmless.
    pub(super) fn send_orders_again(&mut self) {
        let Some(rollout) = self.rollout.as_ref().filter(|_| self.superseded.is_none()) else { return };
        let now = self.clock.now();
        let unconfirmed = rollout.open_orders(self.generation).filter(|order| {
            let task = rollout.task(order.key.stage, &order.key.node);
            let waiting =
                task.is_some_and(|task| matches!(task.progress, TaskState::Preparing | TaskState::Unknown));
            let sent = self.ordered.get(&order.key.node).filter(|(key, _)| *key == order.key);
            waiting
                && self.links.is_online(&order.key.node)
                && sent.is_none_or(|(_, at)| now.millis_since(*at) >= SEND_AGAIN_MS)
        });
        let nodes: Vec<NodeId> = unconfirmed.map(|order| order.key.node).collect();
        for node in nodes {
            tracing::info!(%node, "its order is sent again, it has not confirmed it");
            self.send_order(&node);
        }
    }

    /// A message could not be sent since the session has ended; what follows from it is settled with the next tick.
    pub(super) fn after_lost_session(&mut self, node: &NodeId) {
        self.steps.remove(node);
        self.stand_still.remove(node);
        self.ordered.remove(node);
        self.planning_lost(node);
        self.changed();
    }

    pub(super) fn note_trouble(&mut self, error: &StoreError) {
        let what = told(error);
        if self.trouble.as_ref().is_none_or(|trouble| trouble.what != what) {
            tracing::error!(
                error = what,
                "the store refuses; nothing is sent that is not stored, and it is tried again"
            );
        }
        let since = self.trouble.take().map_or_else(|| self.clock.now(), |trouble| trouble.since);
        self.trouble = Some(Trouble { what, since });
        self.unsure = true;
        self.changed();
    }

    /// After a failed write the log may or may not have the events: the store is looked at before anything else.
    pub(super) fn become_sure(&mut self) {
        if !self.unsure {
            return;
        }
        let looked = newest_rollout(&self.store).and_then(|rollout| Ok((rollout, self.store.inventory()?)));
        match looked {
            Ok((rollout, inventory)) => {
                (self.rollout, self.inventory) = (rollout, inventory.map(Arc::new));
                self.unsure = false;
            }
            Err(error) => tracing::debug!(error = told(&error), "the store cannot be read yet"),
        }
    }
}
