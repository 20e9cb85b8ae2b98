//! Nodes that have enrolled, and the join tokens by which they do.

use super::{Made, Store, audit, decode, encode};
use crate::store::{AuditRecord, NodeRecord, StoreError, TokenRecord};
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use wavegate_common::id::{NodeId, Timestamp};

/// Nodes by name, as JSON.
const NODES: TableDefinition<&str, &[u8]> = TableDefinition::new("nodes");
/// Tokens by id, as JSON.
const TOKENS: TableDefinition<&str, &[u8]> = TableDefinition::new("tokens");

/// Tokens that expired so long ago are dropped.
const EXPIRED_TOKENS_KEPT_MS: u64 = 30 * 24 * 3600 * 1000;

pub(super) fn create(tx: &WriteTransaction) -> Made<()> {
    tx.open_table(NODES)?;
    tx.open_table(TOKENS)?;
    Ok(())
}

impl Store {
    /// Every node.
    ///
    /// # Errors
    /// [`StoreError`] if they can't be read.
    pub fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        self.read(|tx| {
            let nodes = tx.open_table(NODES)?;
            nodes.iter()?.map(|row| decode("nodes", row?.1.value())).collect()
        })
    }

    /// Keeps a node as it is now.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be written.
    pub fn put_node(&self, node: &NodeRecord) -> Result<(), StoreError> {
        self.write(|tx| put_node(tx, node))
    }

    /// Forgets a node. One that is not there may be forgotten again.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be written.
    pub fn remove_node(&self, node: &NodeId, audit: &AuditRecord) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.open_table(NODES)?.remove(node.as_str())?;
            audit::add(tx, audit)
        })
    }

    /// Keeps a token that was just made.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be written.
    pub fn put_token(
        &self,
        token: &TokenRecord,
        now: Timestamp,
        audit: &AuditRecord,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            let mut tokens = tx.open_table(TOKENS)?;
            let mut old = Vec::new();
            for row in tokens.iter()? {
                let (id, bytes) = row?;
                let token: TokenRecord = decode("tokens", bytes.value())?;
                if now.millis_since(token.expires_at) > EXPIRED_TOKENS_KEPT_MS {
                    old.push(id.value().to_owned());
                }
            }
            for id in old {
                tokens.remove(id.as_str())?;
            }
            tokens.insert(token.id.as_str(), encode("tokens", token)?.as_slice())?;
            audit::add(tx, audit)
        })
    }

    /// A token by its id.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be read.
    pub fn token(&self, id: &str) -> Result<Option<TokenRecord>, StoreError> {
        self.read(|tx| {
            let tokens = tx.open_table(TOKENS)?;
            tokens.get(id)?.map(|bytes| decode("tokens", bytes.value())).transpose()
        })
    }

    /// Enrols a node by a token: `judge` sees both as they are, and if it agrees, the token's use and the node are kept
    /// in one transaction.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be read or written; inside, what `judge` says.
    pub fn enrol<E>(
        &self,
        token_id: &str,
        node: &NodeId,
        audit: &AuditRecord,
        judge: impl FnOnce(Option<TokenRecord>, Option<NodeRecord>) -> Result<(TokenRecord, NodeRecord), E>,
    ) -> Result<Result<NodeRecord, E>, StoreError> {
        self.write(|tx| {
            let mut tokens = tx.open_table(TOKENS)?;
            let token = tokens.get(token_id)?.map(|bytes| decode("tokens", bytes.value())).transpose()?;
            let nodes = tx.open_table(NODES)?;
            let known = nodes.get(node.as_str())?.map(|bytes| decode("nodes", bytes.value())).transpose()?;
            drop(nodes);
            let (token, node) = match judge(token, known) {
                Ok(both) => both,
                Err(refusal) => return Ok(Err(refusal)),
            };
            tokens.insert(token.id.as_str(), encode("tokens", &token)?.as_slice())?;
            put_node(tx, &node)?;
            audit::add(tx, audit)?;
            Ok(Ok(node))
        })
    }
}

fn put_node(tx: &WriteTransaction, node: &NodeRecord) -> Made<()> {
    tx.open_table(NODES)?.insert(node.node.as_str(), encode("nodes", node)?.as_slice())?;
    Ok(())
}
