//! The plans that were made and the rollouts that there were, a line each.

use super::view::RolloutStatus;
use crate::store::{PlanHead, Store, StoreError};
use serde::{Deserialize, Serialize};
use wavegate_common::id::{Actor, PlanId, RolloutId, Timestamp};
use wavegate_common::rollout::{Event, Status};

/// A plan in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanLine {
    /// Its id.
    pub plan: PlanId,
    /// Its digest, hexadecimal.
    pub digest: String,
    /// Its procedure.
    pub procedure: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: Actor,
    /// Its nodes.
    pub nodes: usize,
    /// What keeps it from being started.
    pub problems: usize,
    /// Who has approved it.
    pub approved_by: Vec<Actor>,
    /// The rollout that executes or executed it.
    pub rollout: Option<RolloutId>,
}

/// A rollout in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutLine {
    /// Its id.
    pub rollout: RolloutId,
    /// Its plan.
    pub plan: PlanId,
    /// When it was started.
    pub created_at: Timestamp,
    /// Who started it.
    pub created_by: Actor,
    /// Where it is.
    pub status: Status,
    /// Since when.
    pub since: Timestamp,
}

/// Every plan that is kept, the newest first.
///
/// # Errors
/// [`StoreError`] if they can't be read.
pub fn plans(store: &Store) -> Result<Vec<PlanLine>, StoreError> {
    let rollouts = store.rollouts()?;
    let line = |plan: PlanHead| {
        let approved_by = store.approvals(&plan.id)?.into_iter().map(|given| given.by).collect();
        let executed = rollouts.iter().find(|record| record.plan == plan.id);
        Ok(PlanLine {
            procedure: plan.procedure,
            created_at: plan.created_at,
            created_by: plan.created_by,
            nodes: plan.nodes,
            problems: plan.problems,
            approved_by,
            rollout: executed.map(|record| record.id.clone()),
            plan: plan.id,
            digest: plan.digest,
        })
    };
    store.plans()?.into_iter().map(line).collect()
}

/// Every rollout, the newest first. `newest` is where that one is; those before it have ended, as their last event says.
///
/// # Errors
/// [`StoreError`] if they can't be read.
pub fn rollouts(store: &Store, newest: Option<&RolloutStatus>) -> Result<Vec<RolloutLine>, StoreError> {
    let line = |record: crate::store::RolloutRecord| {
        let known = newest.filter(|newest| newest.rollout == record.id);
        let (status, since) = match (known, store.last_event(&record.id)?) {
            (Some(known), _) => (known.status, known.since),
            (None, Some(last)) if last.event == Event::Finished => (Status::Finished, last.at),
            (None, Some(last)) if last.event == Event::Stopped => (Status::Stopped, last.at),
            (None, Some(_)) => (Status::Running, record.created_at),
            (None, None) => (Status::Ready, record.created_at),
        };
        let crate::store::RolloutRecord { id: rollout, plan, created_at, created_by } = record;
        Ok(RolloutLine { rollout, plan, created_at, created_by, status, since })
    };
    store.rollouts()?.into_iter().map(line).collect()
}
