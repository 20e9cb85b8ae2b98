//! What the coordinator asks of one agent: run a task, or preview its steps.

use crate::action::Action;
use crate::id::{Generation, NodeId, PlanId, RolloutId, StepId};
use crate::plan::PlannedNode;
use crate::platform::Stage;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Which attempt at which task: the key under which agent and coordinator talk about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// The rollout.
    pub rollout: RolloutId,
    /// The rollout's plan. A coordinator whose store was set back to an earlier copy counts its rollouts from there
    /// again: what a node did under the same number for another plan is not taken for this one's.
    pub plan: PlanId,
    /// The stage.
    pub stage: Stage,
    /// The node.
    pub node: NodeId,
    /// 1 for the first attempt, one more for every retry.
    pub attempt: u32,
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} attempt {}", self.rollout, self.stage, self.node, self.attempt)
    }
}

/// What a step is to do on one node, all parameters filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Work {
    /// Check, apply, verify.
    Run {
        /// The action.
        #[serde(flatten)]
        action: Action,
        /// After so many seconds the step has failed.
        timeout_s: u64,
    },
    /// Nothing, for a reason that is shown.
    Skip {
        /// Why.
        reason: String,
    },
}

/// A step as it stands in a plan and in an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Its id.
    pub id: StepId,
    /// What it is, for people.
    pub title: String,
    /// What is to be done.
    pub work: Work,
}

/// The steps of a task in a plan, in order. Most nodes of a fleet have the same ones: a copy shares them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Steps(Arc<[PlannedStep]>);

impl Deref for Steps {
    type Target = [PlannedStep];

    fn deref(&self) -> &[PlannedStep] {
        &self.0
    }
}

impl From<Vec<PlannedStep>> for Steps {
    fn from(steps: Vec<PlannedStep>) -> Self {
        Self(steps.into())
    }
}

impl FromIterator<PlannedStep> for Steps {
    fn from_iter<I: IntoIterator<Item = PlannedStep>>(steps: I) -> Self {
        Self(steps.into_iter().collect())
    }
}

impl<'s> IntoIterator for &'s Steps {
    type Item = &'s PlannedStep;
    type IntoIter = std::slice::Iter<'s, PlannedStep>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// The order to run one task. It may be delivered more than once; its key makes that harmless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskOrder {
    /// Which attempt at which task.
    pub key: TaskKey,
    /// The generation of the coordinator that gave it.
    pub generation: Generation,
    /// What the plan saw of the node; a node that has changed since is not worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<PlannedNode>,
    /// The steps, in order.
    pub steps: Steps,
}
