//! A plan as operators see it: with who has approved it.

use crate::store::Approval;
use serde::{Deserialize, Serialize};
use wavegate_common::id::{Actor, PlanId};
use wavegate_common::plan::{Plan, PlanBody};

/// A plan with who has approved it. Its JSON is the plan's with `approval` beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct PlanView {
    /// The plan.
    #[serde(flatten)]
    pub plan: Plan,
    /// Who has approved it.
    pub approval: Approvals,
}

/// The same as it is read: field by field, since what is flattened is read twice and loses how its parts were written, by which
/// those that are alike are known.
#[derive(Deserialize)]
struct Written {
    id: PlanId,
    digest: String,
    body: PlanBody,
    #[serde(default)]
    approval: Approvals,
}

impl From<Written> for PlanView {
    fn from(Written { id, digest, body, approval }: Written) -> Self {
        Self { plan: Plan { id, digest, body }, approval }
    }
}

/// Who has approved a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approvals {
    /// Whether somebody else than its author must, before it can be started.
    pub required: bool,
    /// Who has, in the order in which they did.
    pub given: Vec<Approval>,
}

impl Approvals {
    /// Whether a plan of this author can't be started for want of approval.
    #[must_use]
    pub fn is_missing(&self, author: &Actor) -> bool {
        self.required && !self.given.iter().any(|given| given.by != *author)
    }
}
