//! What a plan that works on etcd must know of the fleet's etcd: whether the cluster is whole, well and known to the fleet,
//! whether it may go where the plan takes it, and in which order its members go. It judges a compiled plan with its previews.

mod cluster;
mod order;
mod target;
mod warnings;

pub use order::settle_etcd;

use super::{PlanBody, Problem, Warning};
use crate::action::Action;
use crate::etcd::fleet;
use crate::facts::Facts;
use crate::id::NodeId;
use crate::order::Work;
use crate::outcome::{Change, Preview, StepError};
use crate::platform::Stage;
use std::collections::{BTreeMap, BTreeSet};

/// What `Change::Version` calls etcd.
const ETCD: &str = "etcd";
/// How far behind a member may be where no step of the plan says it.
const MAX_LAG: u64 = 1000;

/// What stage etcd of a plan would do.
struct Foreseen<'p> {
    /// The nodes that it changes, or would if nothing were in the way.
    changed: BTreeSet<&'p NodeId>,
    /// The nodes that could say what they would do.
    known: BTreeSet<&'p NodeId>,
    /// The version that etcd would run on each node that gets one, as the preview has it.
    targets: BTreeMap<&'p NodeId, &'p str>,
    /// How many entries a member may be behind.
    max_lag: u64,
}

/// What keeps a plan from being started because of the fleet's etcd, and what must be acknowledged. Where stage etcd would
/// change nothing, nothing is said.
#[must_use]
pub fn judge_etcd(body: &PlanBody, nodes: &BTreeMap<NodeId, Facts>) -> (Vec<Problem>, Vec<Warning>) {
    let foreseen = foreseen(body);
    if foreseen.changed.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let several = cluster::several(nodes);
    if !several.is_empty() {
        // Of two clusters no other question has one answer.
        return (several, Vec::new());
    }
    let mut problems = cluster::unwell(nodes, foreseen.max_lag);
    // A member that is known to be down could not be asked for that reason.
    let down: BTreeSet<NodeId> = problems.iter().filter_map(|problem| problem.node.clone()).collect();
    problems.extend(
        cluster::unknown(nodes)
            .into_iter()
            .filter(|problem| problem.node.as_ref().is_none_or(|node| !down.contains(node))),
    );
    problems.extend(cluster::elsewhere(nodes));
    problems.extend(cluster::strangers(nodes));
    problems.extend(target::problems(nodes, &foreseen));
    let rolled = fleet::members(nodes).any(|(node, _)| foreseen.changed.contains(node));
    (problems, if rolled { warnings::warnings(nodes, target::of(nodes, &foreseen)) } else { Vec::new() })
}

fn foreseen(body: &PlanBody) -> Foreseen<'_> {
    let (changed, known, targets) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    let mut foreseen = Foreseen { changed, known, targets, max_lag: MAX_LAG };
    for (node, previews) in body.previews.get(&Stage::Etcd).into_iter().flatten() {
        if !previews.iter().any(|given| matches!(given.preview, Preview::Blocked { .. })) {
            foreseen.known.insert(node);
        }
        for given in previews {
            match &given.preview {
                Preview::WouldChange { changes } => {
                    foreseen.changed.insert(node);
                    foreseen.targets.extend(changes.iter().find_map(version).map(|to| (node, to)));
                }
                Preview::Blocked { .. } => drop(foreseen.changed.insert(node)),
                Preview::AlreadySo { .. } | Preview::WouldCheck => {}
            }
        }
    }
    let steps =
        body.stages.iter().filter(|stage| stage.stage == Stage::Etcd).flat_map(|stage| stage.tasks.values());
    let lags = steps.flatten().filter_map(|step| match &step.work {
        Work::Run { action: Action::EtcdCheckCluster(check), .. } => Some(check.max_lag),
        Work::Run { .. } | Work::Skip { .. } => None,
    });
    if let Some(lag) = lags.max() {
        foreseen.max_lag = lag;
    }
    foreseen
}

fn version(change: &Change) -> Option<&str> {
    match change {
        Change::Version { of, to, .. } if of == ETCD => Some(to),
        Change::Version { .. }
        | Change::Package { .. }
        | Change::Service { .. }
        | Change::Process { .. }
        | Change::File { .. } => None,
    }
}

fn problem(node: Option<&NodeId>, what: String, next: String) -> Problem {
    let error = StepError { what, output: Vec::new(), next };
    Problem { node: node.cloned(), stage: Some(Stage::Etcd), step: None, error }
}

/// `a`, `a and b`, `a, b and c`.
fn and<T: ToString>(all: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> = all.into_iter().map(|one| one.to_string()).collect();
    crate::etcd::path::and(&names)
}

#[cfg(test)]
mod tests;
