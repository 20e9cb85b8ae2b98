//! Plans, rollouts and their event logs.

use super::heads::Head;
use super::{Failure, GENERATION_KEY, Made, NUMBERS, Store, approvals, audit, bad_record, decode, encode};
use crate::store::{Append, AuditRecord, PlanHead, RolloutRecord, StoreError, rollout_number};
use redb::{ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use std::collections::BTreeSet;
use std::ops::Bound;
use wavegate_common::id::{PlanId, RolloutId};
use wavegate_common::plan::Plan;
use wavegate_common::rollout::Entry;

/// Plans by id, as JSON.
const PLANS: TableDefinition<&str, &[u8]> = TableDefinition::new("plans");
/// The plans' ids in the order in which they were made.
const PLAN_ORDER: TableDefinition<u64, &str> = TableDefinition::new("plan_order");
/// Rollouts by number, as JSON.
const ROLLOUTS: TableDefinition<u64, &[u8]> = TableDefinition::new("rollouts");
/// Entries by rollout and seq, as JSON.
const EVENTS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("events");

/// Plans that were never started are dropped when so many newer plans are there.
const PLANS_KEPT: u64 = 50;

pub(super) fn create(tx: &WriteTransaction) -> Made<()> {
    tx.open_table(PLANS)?;
    tx.open_table(PLAN_ORDER)?;
    tx.open_table(ROLLOUTS)?;
    tx.open_table(EVENTS)?;
    Ok(())
}

impl Store {
    /// Keeps a plan.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be written.
    pub fn put_plan(&self, plan: &Plan, audit: &AuditRecord) -> Result<(), StoreError> {
        self.write(|tx| {
            let mut order = tx.open_table(PLAN_ORDER)?;
            let next = order.last()?.map_or(0, |(last, _)| last.value()) + 1;
            order.insert(next, plan.id.as_str())?;
            tx.open_table(PLANS)?.insert(plan.id.as_str(), encode("plans", plan)?.as_slice())?;
            drop(order);
            drop_old_plans(tx)?;
            audit::add(tx, audit)
        })
    }

    /// A plan, or the newest one.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be read.
    pub fn plan(&self, id: Option<&PlanId>) -> Result<Option<Plan>, StoreError> {
        self.read(|tx| {
            let order = tx.open_table(PLAN_ORDER)?;
            let id = match id {
                Some(id) => Some(id.to_string()),
                None => order.last()?.map(|(_, id)| id.value().to_owned()),
            };
            let Some(id) = id else { return Ok(None) };
            let plans = tx.open_table(PLANS)?;
            plans.get(id.as_str())?.map(|bytes| decode("plans", bytes.value())).transpose()
        })
    }

    /// What lists say of every plan that is kept, the newest first.
    ///
    /// # Errors
    /// [`StoreError`] if they can't be read.
    pub fn plans(&self) -> Result<Vec<PlanHead>, StoreError> {
        self.read(|tx| {
            let plans = tx.open_table(PLANS)?;
            let mut all = Vec::new();
            for row in plans.iter()? {
                all.push(PlanHead::from(decode::<Head>("plans", row?.1.value())?));
            }
            all.sort_by_key(|plan| std::cmp::Reverse(plan.created_at));
            Ok(all)
        })
    }

    /// Every rollout's record, the newest first.
    ///
    /// # Errors
    /// [`StoreError`] if they can't be read.
    pub fn rollouts(&self) -> Result<Vec<RolloutRecord>, StoreError> {
        self.read(|tx| {
            let rollouts = tx.open_table(ROLLOUTS)?;
            rollouts.iter()?.rev().map(|row| decode("rollouts", row?.1.value())).collect()
        })
    }

    /// The last event of a rollout, if it has one.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be read.
    pub fn last_event(&self, id: &RolloutId) -> Result<Option<Entry>, StoreError> {
        let number = rollout_number(id)?;
        self.read(|tx| {
            let events = tx.open_table(EVENTS)?;
            let last = events.range((number, 0)..=(number, u64::MAX))?.next_back();
            last.map(|row| entry(row?.1.value())).transpose()
        })
    }

    /// A rollout's record, or the newest one's.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be read.
    pub fn rollout(&self, id: Option<&RolloutId>) -> Result<Option<RolloutRecord>, StoreError> {
        let number = id.map(rollout_number).transpose()?;
        self.read(|tx| {
            let rollouts = tx.open_table(ROLLOUTS)?;
            let bytes = match number {
                Some(number) => rollouts.get(number)?,
                None => rollouts.last()?.map(|(_, bytes)| bytes),
            };
            bytes.map(|bytes| decode("rollouts", bytes.value())).transpose()
        })
    }

    /// The rollout that executes or executed a plan, if there is one.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be read.
    pub fn rollout_of(&self, plan: &PlanId) -> Result<Option<RolloutRecord>, StoreError> {
        self.read(|tx| {
            for row in tx.open_table(ROLLOUTS)?.iter()?.rev() {
                let record: RolloutRecord = decode("rollouts", row?.1.value())?;
                if record.plan == *plan {
                    return Ok(Some(record));
                }
            }
            Ok(None)
        })
    }

    /// The events of a rollout after a place in its log, in order, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if they can't be read.
    pub fn events(&self, id: &RolloutId, after_seq: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let number = rollout_number(id)?;
        let Some(first) = after_seq.checked_add(1) else { return Ok(Vec::new()) };
        self.read(|tx| {
            let events = tx.open_table(EVENTS)?;
            let rows = events.range((number, first)..=(number, u64::MAX))?.take(limit);
            rows.map(|row| entry(row?.1.value())).collect()
        })
    }
}

fn entry(bytes: &[u8]) -> Made<Entry> {
    Entry::from_json(bytes).map_err(|source| bad_record("events", source))
}

/// Appends events, if the log ends where the writer thinks and nobody has taken over from it.
pub(super) fn append(tx: &WriteTransaction, append: &Append<'_>) -> Made<()> {
    let number = rollout_number(append.rollout).map_err(Failure::Refused)?;
    let stored = tx.open_table(NUMBERS)?.get(GENERATION_KEY)?.map_or(0, |last| last.value());
    if stored != append.generation.0 {
        let found = wavegate_common::id::Generation(stored);
        return Err(Failure::Refused(StoreError::Fenced { ours: append.generation, found }));
    }
    if let Some(record) = append.begin {
        tx.open_table(ROLLOUTS)?.insert(number, encode("rollouts", record)?.as_slice())?;
    }
    let mut events = tx.open_table(EVENTS)?;
    let found = events.range((number, 0)..=(number, u64::MAX))?.next_back();
    let found = found.transpose()?.map_or(0, |(key, _)| key.value().1);
    if found != append.expected_last_seq {
        let (rollout, expected) = (append.rollout.clone(), append.expected_last_seq);
        return Err(Failure::Refused(StoreError::Conflict { rollout, expected, found }));
    }
    // Each follows the one before, at the end of the rollout's log: that is gone to once, and pages are filled one after the other.
    let mut end = events.upper_bound_mut(Bound::Included((number, u64::MAX)))?;
    for entry in append.entries {
        end.insert_before((number, entry.seq), encode("events", entry)?.as_slice())?;
    }
    end.close()?;
    Ok(())
}

/// Drops the oldest plans that no rollout executes, beyond [`PLANS_KEPT`].
fn drop_old_plans(tx: &WriteTransaction) -> Made<()> {
    let mut order = tx.open_table(PLAN_ORDER)?;
    let Some(excess) = order.len()?.checked_sub(PLANS_KEPT).filter(|excess| *excess > 0) else {
        return Ok(());
    };
    let mut executed = BTreeSet::new();
    for row in tx.open_table(ROLLOUTS)?.iter()? {
        executed.insert(decode::<RolloutRecord>("rollouts", row?.1.value())?.plan.to_string());
    }
    let mut oldest = Vec::new();
    for row in order.iter()?.take(usize::try_from(excess).unwrap_or(usize::MAX)) {
        let (place, id) = row?;
        oldest.push((place.value(), id.value().to_owned()));
    }
    let mut plans = tx.open_table(PLANS)?;
    for (place, id) in oldest {
        order.remove(place)?;
        if !executed.contains(&id) {
            plans.remove(id.as_str())?;
            approvals::drop_of(tx, &id)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Batch;
    use wavegate_common::id::{Actor, FleetId, Generation, Timestamp};
    use wavegate_common::rollout::Event;

    fn entries(seqs: std::ops::Range<u64>) -> Vec<Entry> {
        let by = |seq: u64| Actor("x".repeat(usize::try_from(seq % 700).expect("small")));
        let entry = |seq| {
            let event = Event::Resumed { by: by(seq) };
            Entry { seq, at: Timestamp(seq), generation: Generation(0), event }
        };
        seqs.map(entry).collect()
    }

    #[test]
    fn logs_of_many_pages_are_read_as_they_were_appended() {
        let store = Store::in_memory(&FleetId::new("f1").expect("an id")).expect("a store");
        let append = |rollout: &RolloutId, seqs: std::ops::Range<u64>| {
            let (generation, expected_last_seq) = (Generation(0), seqs.start - 1);
            let entries = &entries(seqs)[..];
            let append = Append { rollout, expected_last_seq, generation, entries, begin: None };
            store.keep(&Batch { append: Some(append), ..Batch::default() })
        };
        let [first, second] = ["r1", "r2"].map(|id| RolloutId::new(id).expect("an id"));
        for (rollout, seqs) in [(&second, 1..2), (&first, 1..400), (&second, 2..40), (&first, 400..402)] {
            append(rollout, seqs).expect("appended");
        }
        assert!(append(&first, 401..402).is_err(), "that place is taken");
        assert_eq!(store.events(&first, 0, usize::MAX).expect("read"), entries(1..402));
        assert_eq!(store.events(&second, 0, usize::MAX).expect("read"), entries(1..40));
    }
}
