//! Who has approved which plan. They go when their plan goes.

use super::{Made, Store, audit, decode, encode};
use crate::store::{Approval, AuditRecord, StoreError};
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use wavegate_common::id::PlanId;

/// The approvals of a plan, in the order in which they were given, as JSON, by the plan's id.
const APPROVALS: TableDefinition<&str, &[u8]> = TableDefinition::new("approvals");

pub(super) fn create(tx: &WriteTransaction) -> Made<()> {
    tx.open_table(APPROVALS)?;
    Ok(())
}

/// Forgets the approvals of a plan that is dropped.
pub(super) fn drop_of(tx: &WriteTransaction, plan: &str) -> Made<()> {
    tx.open_table(APPROVALS)?.remove(plan)?;
    Ok(())
}

impl Store {
    /// Who has approved a plan, in the order in which they did.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be read.
    pub fn approvals(&self, plan: &PlanId) -> Result<Vec<Approval>, StoreError> {
        self.read(|tx| {
            let approvals = tx.open_table(APPROVALS)?;
            let given = approvals.get(plan.as_str())?;
            given.map_or(Ok(Vec::new()), |bytes| decode("approvals", bytes.value()))
        })
    }

    /// Adds an approval of a plan.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be written.
    pub fn approve(&self, plan: &PlanId, approval: &Approval, audit: &AuditRecord) -> Result<(), StoreError> {
        self.write(|tx| {
            let mut approvals = tx.open_table(APPROVALS)?;
            let given = approvals.get(plan.as_str())?.map(|bytes| decode("approvals", bytes.value()));
            let mut given: Vec<Approval> = given.transpose()?.unwrap_or_default();
            given.push(approval.clone());
            approvals.insert(plan.as_str(), encode("approvals", &given)?.as_slice())?;
            drop(approvals);
            audit::add(tx, audit)
        })
    }
}
