//! The inventory that operators set; there is one, or none.

use super::{Made, Store, audit, decode, encode};
use crate::store::{AuditRecord, InventoryRecord, StoreError};
use redb::{TableDefinition, WriteTransaction};

/// The one inventory, as JSON.
const INVENTORY: TableDefinition<&str, &[u8]> = TableDefinition::new("inventory");
const KEY: &str = "inventory";

pub(super) fn create(tx: &WriteTransaction) -> Made<()> {
    tx.open_table(INVENTORY)?;
    Ok(())
}

impl Store {
    /// The inventory, if one is set.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be read.
    pub fn inventory(&self) -> Result<Option<InventoryRecord>, StoreError> {
        self.read(|tx| {
            let inventory = tx.open_table(INVENTORY)?;
            inventory.get(KEY)?.map(|bytes| decode("inventory", bytes.value())).transpose()
        })
    }

    /// Keeps an inventory in place of the one before; `None` keeps none.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be written.
    pub fn put_inventory(
        &self,
        inventory: Option<&InventoryRecord>,
        audit: &AuditRecord,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            let mut table = tx.open_table(INVENTORY)?;
            match inventory {
                Some(record) => table.insert(KEY, encode("inventory", record)?.as_slice())?,
                None => table.remove(KEY)?,
            };
            drop(table);
            audit::add(tx, audit)
        })
    }
}
