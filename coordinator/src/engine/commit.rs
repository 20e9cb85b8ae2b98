//! The end of a turn: what follows is decided, all that it has collected is stored in one transaction, and only then is
//! anything sent. If it can't be stored the rollout is as it was, nothing is sent, and reports are kept to be tried again.

use super::turn::{Pending, Turn};
use super::{Engine, ToAgent, Trouble, error::told, words};
use crate::store::{Append, Batch, Store, StoreError};
use wavegate_common::facts::Facts;

impl Engine {
    /// Begins a turn: the time is looked at, and after a write that failed the store.
    pub(super) fn begin_turn(&mut self) {
        let elapsed = self.look_at_the_time();
        self.turn.begin(elapsed);
        self.excuse_who_queued();
        self.become_sure();
        self.show();
    }

    /// What has elapsed by now; the moments of the links are moved up to it.
    fn look_at_the_time(&mut self) -> u64 {
        let elapsed = self.clock.elapsed_ms();
        self.looked_at = self.clock.now();
        self.links.follow(self.looked_at, elapsed);
        elapsed
    }

    /// Answers whoever asks between two turns.
    pub(super) fn answer_meanwhile(&mut self) {
        self.look_at_the_time();
        self.show();
    }

    /// Ends a turn. Asked again, there is nothing left to do.
    pub(super) fn end_turn(&mut self) {
        if std::mem::take(&mut self.turn.unsettled) {
            let _dispatch = tracing::debug_span!("dispatch").entered();
            self.settle();
        }
        // What is not stored is not sent; it comes up again.
        if self.commit().is_ok() {
            let _dispatch = tracing::debug_span!("dispatch").entered();
            self.send_what_is_stored();
        }
        let stood_still = self.pace.stood_still_ms();
        if stood_still > 0 {
            self.excuse(stood_still);
        }
        if std::mem::take(&mut self.turn.changed) {
            self.changes.send_modify(|version| *version += 1);
        }
        self.show();
        if std::mem::take(&mut self.turn.ticked) {
            self.log_reasons();
        }
    }

    /// Stores what the turn has collected, all or nothing.
    ///
    /// # Errors
    /// What the store says. Then the rollout is again as it is stored.
    pub(super) fn commit(&mut self) -> Result<(), StoreError> {
        if !self.turn.has_news() {
            return Ok(());
        }
        let _store = tracing::debug_span!("store").entered();
        let on_disk = self.keep().inspect_err(|error| {
            self.put_back();
            self.note_trouble(error);
        })?;
        self.log_events();
        let printed = !self.turn.output.is_empty();
        if on_disk {
            self.written();
        } else {
            self.unflushed_output = true;
        }
        self.turn.forget_stored();
        if printed {
            self.output.send_modify(|version| *version += 1);
        }
        Ok(())
    }

    /// Stores it. Returns whether it is on disk.
    fn keep(&self) -> Result<bool, StoreError> {
        let Turn { events, facts, output, audit, .. } = &self.turn;
        let facts: Vec<&Facts> =
            facts.iter().filter_map(|node| self.nodes.get(node)?.facts.as_ref()).collect();
        let append = events.as_ref().zip(self.rollout.as_ref()).and_then(|(pending, rollout)| {
            Some(Append {
                rollout: rollout.id(),
                expected_last_seq: pending.entries.first()?.seq.saturating_sub(1),
                generation: self.generation,
                entries: &pending.entries,
                begin: pending.begin.as_ref(),
            })
        });
        self.write(|store| {
            store.keep(&Batch { append, facts: &facts, output: &output[..], audit: &audit[..] })
        })
    }

    /// The store takes nothing: the rollout is as it is stored. Acknowledgements come up again with the reports. Output is
    /// lost, and so are words for the audit list, which the log has. Nodes that are to be sent their order still are: which
    /// one that is the rollout says when it is sent.
    fn put_back(&mut self) {
        if let Some(Pending { stored, .. }) = self.turn.events.take() {
            self.rollout = stored;
        }
        self.unstored.append(&mut self.turn.reports);
        self.turn.output.clear();
        self.turn.audit.clear();
        self.turn.acknowledgements.clear();
        // With the next tick: at once it would be tried again and again.
        self.turn.unsettled = false;
        self.changed();
    }

    fn log_events(&self) {
        let Some((pending, rollout)) = self.turn.events.as_ref().zip(self.rollout.as_ref()) else { return };
        for entry in &pending.entries {
            let (rollout, seq) = (rollout.id(), entry.seq);
            if words::is_of_note(&entry.event) {
                tracing::info!(%rollout, seq, "{}", words::event(&entry.event));
            } else {
                tracing::debug!(%rollout, seq, "{}", words::event(&entry.event));
            }
        }
    }

    fn send_what_is_stored(&mut self) {
        for key in std::mem::take(&mut self.turn.acknowledgements) {
            let node = key.node.clone();
            self.send(&node, ToAgent::Acknowledge(key));
        }
        // A pause that could not be stored may be there all the same: it is looked for first.
        if !self.unsure {
            let nodes = std::mem::take(&mut self.turn.orders);
            self.send_orders(&nodes);
        }
    }

    /// Writes to the store, and measures how long that takes.
    pub(super) fn write<T>(&self, write: impl FnOnce(&Store) -> T) -> T {
        self.pace.measure(&self.clock, || write(&self.store))
    }

    /// Makes what was written without waiting for the disk safe, or finds out whether the store can be written again.
    pub(super) fn flush(&mut self) {
        if self.unflushed_output || self.trouble.is_some() {
            match self.write(Store::flush) {
                Ok(()) => self.written(),
                Err(error) => self.note_trouble(&error),
            }
        }
    }

    /// The store was written; output that was kept before is on disk with it.
    fn written(&mut self) {
        self.unflushed_output = false;
        if let Some(trouble) = self.trouble.take() {
            tracing::info!("the store can be written again; it could not: {}", trouble.what);
            self.changed();
        }
    }

    /// Notes that the store could not be written, or not be read.
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

    /// The engine stood still for so long since its disk did: nobody was silent or away for it.
    fn excuse(&mut self, stood_still_ms: u64) {
        self.links.excuse(stood_still_ms, self.clock.now(), self.clock.elapsed_ms());
        self.planning_excused(stood_still_ms);
        self.changed();
    }
}
