//! The audit list: who asked for what or tried what, and what came of it. Bounded, the oldest go first.

use super::{Made, Store, decode, encode};
use crate::store::{AuditRecord, StoreError};
use redb::{ReadableTable, TableDefinition, WriteTransaction};

const AUDIT: TableDefinition<u64, &[u8]> = TableDefinition::new("audit");

/// Records kept.
pub const AUDIT_KEPT: u64 = 100_000;

pub(super) fn create(tx: &WriteTransaction) -> Made<()> {
    tx.open_table(AUDIT)?;
    Ok(())
}

pub(super) fn add(tx: &WriteTransaction, record: &AuditRecord) -> Made<()> {
    let mut audit = tx.open_table(AUDIT)?;
    let next = audit.last()?.map_or(0, |(last, _)| last.value()) + 1;
    audit.insert(next, encode("audit", record)?.as_slice())?;
    let first = audit.first()?.map(|(first, _)| first.value());
    if let Some(first) = first.filter(|first| first + AUDIT_KEPT <= next) {
        audit.remove(first)?;
    }
    Ok(())
}

impl Store {
    /// Adds to the audit list.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be written.
    pub fn audit(&self, record: &AuditRecord) -> Result<(), StoreError> {
        self.write(|tx| add(tx, record))
    }

    /// The newest records of the audit list, the newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be read.
    pub fn audited(&self, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        self.read(|tx| {
            let audit = tx.open_table(AUDIT)?;
            audit.iter()?.rev().take(limit).map(|row| decode("audit", row?.1.value())).collect()
        })
    }
}
