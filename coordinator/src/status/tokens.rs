//! Join tokens as operators see them: whom they are for, what they are still worth, who has used them. No secret is in here.

use crate::store::{Revocation, Store, StoreError, TokenRecord, TokenUse};
use serde::{Deserialize, Serialize};
use wavegate_common::id::{Actor, NodeId, Timestamp};

/// What a token is still worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Worth {
    /// Somebody may enrol with it.
    Valid,
    /// As many have as may.
    Used,
    /// It is too late.
    Expired,
    /// An operator has revoked it.
    Revoked,
}

/// A join token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenStatus {
    /// Its id, the part behind `wg1.` of its text.
    pub id: String,
    /// What it is still worth.
    pub worth: Worth,
    /// The only node that may use it, if it is for one.
    pub node: Option<NodeId>,
    /// How many nodes may use it, each once.
    pub uses: u32,
    /// How many have.
    pub times_used: u32,
    /// Whether only nodes of the inventory may.
    pub declared: bool,
    /// Who made it.
    pub created_by: Actor,
    /// When; `None` if it was before this was kept.
    pub created_at: Option<Timestamp>,
    /// From when on it is worth nothing.
    pub expires_at: Timestamp,
    /// Who has revoked it.
    pub revoked: Option<Revocation>,
}

/// A join token with who has used it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenDetail {
    /// The token.
    #[serde(flatten)]
    pub token: TokenStatus,
    /// Who has enrolled with it, by name.
    pub used_by: Vec<TokenUse>,
}

/// Every token that is kept, the newest first.
///
/// # Errors
/// What the store says.
pub fn token_list(store: &Store, now: Timestamp) -> Result<Vec<TokenStatus>, StoreError> {
    let mut list: Vec<TokenStatus> = store.tokens()?.into_iter().map(|token| status(token, now)).collect();
    list.sort_by(|a, b| (b.created_at, b.expires_at, &b.id).cmp(&(a.created_at, a.expires_at, &a.id)));
    Ok(list)
}

/// A token and who has used it.
///
/// # Errors
/// What the store says.
pub fn token(store: &Store, id: &str, now: Timestamp) -> Result<Option<TokenDetail>, StoreError> {
    let Some(token) = store.token(id)? else { return Ok(None) };
    let used_by = store.token_uses(&token)?;
    Ok(Some(TokenDetail { token: status(token, now), used_by }))
}

fn status(token: TokenRecord, now: Timestamp) -> TokenStatus {
    let times_used = token.times_used();
    let worth = match () {
        () if token.revoked.is_some() => Worth::Revoked,
        () if times_used >= token.uses => Worth::Used,
        () if now >= token.expires_at => Worth::Expired,
        () => Worth::Valid,
    };
    let TokenRecord { id, node, expires_at, created_by, created_at, uses, declared, revoked, .. } = token;
    TokenStatus { id, worth, node, uses, times_used, declared, created_by, created_at, expires_at, revoked }
}
