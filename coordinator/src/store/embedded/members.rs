//! Nodes that have enrolled, and the join tokens by which they do.

use super::{Made, Store, audit, decode, encode};
use crate::store::{AuditRecord, KnownNode, NodeRecord, ShownToken, StoreError, TokenRecord, TokenUse};
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use wavegate_common::facts::Facts;
use wavegate_common::id::{NodeId, Timestamp};

/// Nodes by name, as JSON.
const NODES: TableDefinition<&str, &[u8]> = TableDefinition::new("nodes");
/// Tokens by id, as JSON.
const TOKENS: TableDefinition<&str, &[u8]> = TableDefinition::new("tokens");
/// When tokens were used, in milliseconds since the epoch, by token and node. Apart from the tokens, so that one which ten
/// thousand nodes use is not written ten thousand times with all of them.
const USES: TableDefinition<(&str, &str), u64> = TableDefinition::new("token_uses");

/// Tokens that expired so long ago are dropped.
const EXPIRED_TOKENS_KEPT_MS: u64 = 30 * 24 * 3600 * 1000;

pub(super) fn create(tx: &WriteTransaction) -> Made<()> {
    tx.open_table(NODES)?;
    tx.open_table(TOKENS)?;
    tx.open_table(USES)?;
    Ok(())
}

impl Store {
    /// Every node.
    ///
    /// # Errors
    /// [`StoreError`] if they can't be read.
    pub fn nodes(&self) -> Result<Vec<KnownNode>, StoreError> {
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

    /// Keeps nodes as they are now, all of them or none.
    ///
    /// # Errors
    /// [`StoreError`] if they can't be written.
    pub fn put_nodes(&self, nodes: &[NodeRecord]) -> Result<(), StoreError> {
        self.write(|tx| nodes.iter().try_for_each(|node| put_node(tx, node)))
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

    /// Keeps a token that was just made, or revoked. Those that expired long ago are forgotten, and their uses.
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
            for id in &old {
                tokens.remove(id.as_str())?;
            }
            if !old.is_empty() {
                tx.open_table(USES)?.retain(|(id, _), _| !old.iter().any(|old| old == id))?;
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

    /// Every token.
    ///
    /// # Errors
    /// [`StoreError`] if they can't be read.
    pub fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        self.read(|tx| {
            let tokens = tx.open_table(TOKENS)?;
            tokens.iter()?.map(|row| decode("tokens", row?.1.value())).collect()
        })
    }

    /// Who has used a token, by node.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be read.
    pub fn token_uses(&self, token: &TokenRecord) -> Result<Vec<TokenUse>, StoreError> {
        let mut found = self.read(|tx| {
            let uses = tx.open_table(USES)?;
            let mut found = Vec::new();
            for row in uses.range((token.id.as_str(), "")..)? {
                let (key, at) = row?;
                let (id, node) = key.value();
                if id != token.id {
                    break;
                }
                if let Ok(node) = NodeId::new(node) {
                    found.push(TokenUse { node, at: Timestamp(at.value()) });
                }
            }
            Ok(found)
        })?;
        // Of the time when a token had one use, and that in its record alone.
        found.extend(token.used.clone().filter(|_| found.is_empty()));
        Ok(found)
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
        judge: impl FnOnce(Option<ShownToken>, Option<NodeRecord>) -> Result<(TokenRecord, NodeRecord), E>,
    ) -> Result<Result<NodeRecord, E>, StoreError> {
        self.write(|tx| {
            let mut tokens = tx.open_table(TOKENS)?;
            let mut uses = tx.open_table(USES)?;
            let token = tokens.get(token_id)?.map(|bytes| decode("tokens", bytes.value())).transpose()?;
            let kept = uses.get((token_id, node.as_str()))?.map(|at| Timestamp(at.value()));
            let token = token.map(|record: TokenRecord| {
                let last = record.used.as_ref().filter(|used| used.node == *node).map(|used| used.at);
                ShownToken { record, used_at: kept.or(last) }
            });
            let nodes = tx.open_table(NODES)?;
            let known = nodes.get(node.as_str())?.map(|bytes| decode("nodes", bytes.value())).transpose()?;
            drop(nodes);
            let (token, node) = match judge(token, known) {
                Ok(both) => both,
                Err(refusal) => return Ok(Err(refusal)),
            };
            tokens.insert(token.id.as_str(), encode("tokens", &token)?.as_slice())?;
            if let Some(used) = &token.used {
                uses.insert((token.id.as_str(), used.node.as_str()), used.at.0)?;
            }
            put_node(tx, &node)?;
            audit::add(tx, audit)?;
            Ok(Ok(node))
        })
    }
}

/// Keeps what agents observed. Of a node that is not in the fleet nothing is kept.
pub(super) fn put_facts(tx: &WriteTransaction, facts: &[&Facts]) -> Made<()> {
    let mut nodes = tx.open_table(NODES)?;
    for facts in facts {
        let known = nodes.get(facts.node.as_str())?.map(|bytes| decode("nodes", bytes.value()));
        let Some(record) = known.transpose()? else { continue };
        let record = NodeRecord { facts: Some((*facts).clone()), ..record };
        nodes.insert(facts.node.as_str(), encode("nodes", &record)?.as_slice())?;
    }
    Ok(())
}

fn put_node(tx: &WriteTransaction, node: &NodeRecord) -> Made<()> {
    tx.open_table(NODES)?.insert(node.node.as_str(), encode("nodes", node)?.as_slice())?;
    Ok(())
}
