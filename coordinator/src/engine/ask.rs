//! How things are, of a look: status, what is waited for, the fleet. Changes nothing, and is done off the engine's thread.

use super::commands::no_rollout;
use super::load::replay;
use super::reasons::{About, not_in_plan};
use super::{LoadError, Look, NotTaken, RequestError};
use crate::status::nodes::{Wanted, node_list};
use crate::status::view::{Detail, NodeStatus, RolloutStatus, rollout_status};
use crate::store::Store;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use wavegate_common::id::{NodeId, RolloutId};
use wavegate_common::plan::StagePlan;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Rollout, Subject, Task, WaitingOn};

/// The nodes of the fleet that are wanted, by name. They are looked at one after the other, and written so: never a list.
#[derive(Clone, Copy)]
pub struct Nodes<'a> {
    look: &'a Look,
    wanted: &'a Wanted,
}

impl<'a> Nodes<'a> {
    /// Looks at each.
    pub fn iter(self) -> impl Iterator<Item = NodeStatus<'a>> {
        let Self { look, wanted } = self;
        let inventory = look.inventory.as_ref().map(|record| &record.inventory);
        let all = node_list(&look.nodes, &look.links, inventory, wanted);
        all.map(|node| look.with_trouble(node)).filter(|node| wanted.has(node))
    }
}

impl Serialize for Nodes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Look {
    /// The nodes of the fleet that are wanted.
    #[must_use]
    pub const fn nodes<'a>(&'a self, wanted: &'a Wanted) -> Nodes<'a> {
        Nodes { look: self, wanted }
    }

    /// A node with what is wrong with its agent, beside what its record and its link say.
    fn with_trouble<'a>(&'a self, status: NodeStatus<'a>) -> NodeStatus<'a> {
        if let Some(NotTaken { skew, .. }) = self.not_taken.get(&status.node) {
            let trouble = format!("{}; {}", skew.agent(), skew.agent_next(status.node.as_str()));
            let agent_version = Some(skew.theirs.as_str().into());
            return NodeStatus { agent_version, trouble: Some(trouble.into()), ..status };
        }
        let complaint = self.complaints.get(&status.node);
        NodeStatus { trouble: complaint.map(|complaint| complaint.what.as_str().into()), ..status }
    }

    /// Where a rollout is; the newest without an id. An earlier one is replayed from the store.
    ///
    /// # Errors
    /// If there is none.
    pub fn status(
        &self,
        store: &Store,
        id: Option<&RolloutId>,
        detail: Detail,
    ) -> Result<RolloutStatus, RequestError> {
        if let Some(newest) = self.newest(id)? {
            let mut status = rollout_status(newest, self.observed(), self.generation, &self.steps, detail);
            status.waiting.extend(self.own_reasons(newest, &About::default()));
            whole_rollout_first(&mut status.waiting);
            status.outside = self.outside(newest);
            return Ok(status);
        }
        let earlier = earlier(store, id)?;
        Ok(rollout_status(&earlier, self.observed(), self.generation, &BTreeMap::new(), detail))
    }

    /// What a rollout, or a part of it, waits for; the newest without an id.
    ///
    /// # Errors
    /// If there is none, or no such part of it.
    pub fn why(
        &self,
        store: &Store,
        id: Option<&RolloutId>,
        about: &About,
    ) -> Result<Vec<WaitingOn>, RequestError> {
        let Some(newest) = self.newest(id)? else {
            let earlier = earlier(store, id)?;
            return self.reasons_about(&earlier, about);
        };
        if about.node.as_ref().is_some_and(|node| !newest.ended() && self.outside(newest).contains(node)) {
            return Ok(self.outside_reason(newest).into_iter().collect());
        }
        let mut reasons = self.reasons_about(newest, about)?;
        reasons.extend(self.own_reasons(newest, about));
        whole_rollout_first(&mut reasons);
        if *about == About::default() {
            // Nobody waits for these, and they are named wherever it is said what is waited for.
            let waived = newest.waivers().iter().filter(|waiver| waiver.in_force() && !newest.ended());
            reasons
                .extend(waived.filter_map(|waiver| newest.waiting_for_node(&waiver.node, self.observed())));
            reasons.extend(self.outside_reason(newest));
        }
        Ok(reasons)
    }

    /// What the rollout knows of what is asked for; nothing if that is over.
    fn reasons_about(&self, rollout: &Rollout, about: &About) -> Result<Vec<WaitingOn>, RequestError> {
        let About { node, stage, wave } = about;
        let planned = stage.map(|stage| planned(rollout, stage)).transpose()?;
        match (node, planned, wave) {
            (None, None, None) => Ok(rollout.waiting(self.observed())),
            (_, None, Some(_)) => Err(RequestError::Invalid(
                "a wave is one of a stage; name that too: wavegate why --stage STAGE --wave N".to_owned(),
            )),
            (None, Some(planned), None) => {
                Ok(rollout.waiting_for(&Subject::Stage { stage: planned.stage }, self.observed()))
            }
            (None, Some(planned), Some(wave)) => {
                let (stage, waves) = (planned.stage, planned.waves.len());
                if *wave >= waves {
                    return Err(RequestError::NotFound(format!(
                        "stage {stage} of rollout {} has {waves} wave(s), there is no wave {}",
                        rollout.id(),
                        wave + 1
                    )));
                }
                Ok(rollout.waiting_for(&Subject::Wave { stage, wave: *wave }, self.observed()))
            }
            (Some(node), planned, _) => self.reason_of_node(rollout, node, planned),
        }
    }

    /// A node waits in the first of its stages that it has not finished; of later ones there is nothing else to say.
    fn reason_of_node(
        &self,
        rollout: &Rollout,
        node: &NodeId,
        planned: Option<&StagePlan>,
    ) -> Result<Vec<WaitingOn>, RequestError> {
        if !rollout.plan().body.nodes.contains_key(node) {
            return Err(not_in_plan(&self.nodes, rollout, node));
        }
        let done = |planned: &StagePlan| rollout.task(planned.stage, node).is_none_or(Task::settled);
        let reason = rollout.waiting_for_node(node, self.observed());
        Ok(reason.filter(|_| !planned.is_some_and(done)).into_iter().collect())
    }

    /// A rollout; the newest without an id. An earlier one is replayed from the store.
    ///
    /// # Errors
    /// If there is none.
    pub fn rollout(&self, store: &Store, id: Option<&RolloutId>) -> Result<Rollout, RequestError> {
        self.newest(id)?.map_or_else(|| earlier(store, id), |newest| Ok(newest.clone()))
    }

    /// The newest rollout, if it is the one asked for.
    fn newest(&self, id: Option<&RolloutId>) -> Result<Option<&Rollout>, RequestError> {
        let newest = self.rollout.as_ref().ok_or_else(no_rollout)?;
        Ok((id.is_none() || id == Some(newest.id())).then_some(newest))
    }
}

/// A rollout before the newest one, replayed.
fn earlier(store: &Store, id: Option<&RolloutId>) -> Result<Rollout, RequestError> {
    let Some(record) = store.rollout(id)? else {
        let id = id.map_or("that name", RolloutId::as_str);
        return Err(RequestError::NotFound(format!(
            "there is no rollout {id}; leave the name out for the newest one"
        )));
    };
    replay(store, record).map_err(|error| match error {
        LoadError::Store(error) => RequestError::Store(error),
        LoadError::Plan(error) => RequestError::Plan(error),
        other @ (LoadError::NoPlan(_) | LoadError::Replay { .. } | LoadError::Thread(_)) => {
            RequestError::NotNow(super::told(&other))
        }
    })
}

/// A stage of a rollout's plan.
fn planned(rollout: &Rollout, stage: Stage) -> Result<&StagePlan, RequestError> {
    rollout.plan().stage(stage).ok_or_else(|| {
        let known = rollout.plan().body.stages.iter().map(|stage| stage.stage.as_str());
        RequestError::NotFound(format!(
            "rollout {} has no stage {stage}; its stages: {}",
            rollout.id(),
            known.collect::<Vec<_>>().join(", ")
        ))
    })
}

/// What holds everything stands before what it holds.
fn whole_rollout_first(reasons: &mut [WaitingOn]) {
    reasons.sort_by_key(|reason| reason.subject != Subject::Rollout);
}
