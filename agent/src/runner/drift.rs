//! Whether the node is still as the plan saw it, asked before a task first touches it: the plan's steps are right for that
//! node, and for no other.

use super::Machine;
use crate::facts;
use crate::journal::Store;
use wavegate_common::facts::Facts;
use wavegate_common::id::NodeId;
use wavegate_common::order::{TaskOrder, Work};
use wavegate_common::outcome::StepError;
use wavegate_common::plan::{PlannedNode, differences};
use wavegate_common::platform::Role;

/// Compares the node with what the plan saw, if the step of this index is the first of its task that does anything and was
/// not begun before.
///
/// # Errors
/// What differs, or why it is not known, as the error of that step.
pub(super) fn still_as_planned(
    store: &impl Store,
    machine: Machine<'_>,
    order: &TaskOrder,
    index: usize,
) -> Result<(), StepError> {
    let Some(planned) = &order.planned else { return Ok(()) };
    let (interrupted, ours) = store.read(|journal| {
        let interrupted = journal.current().is_some_and(|task| task.started.is_some());
        (interrupted, journal.has_begun(&order.key.rollout, &order.key.plan))
    });
    let first = order.steps[..index].iter().all(|step| matches!(step.work, Work::Skip { .. }));
    if interrupted || !first {
        return Ok(());
    }
    let node = &order.key.node;
    let facts = facts::observe(machine.host, node.clone(), machine.extra_roles, machine.etcd)
        .map_err(|error| not_known(node, &error))?;
    let all = differing(planned, facts, ours);
    if all.is_empty() { Ok(()) } else { Err(otherwise(node, &all)) }
}

/// What differs. When this rollout has worked on the node already (`ours`), versions are otherwise because of that, and a role
/// may not be seen because a failed step left its service down; what such a node has gained is not our doing.
fn differing(planned: &PlannedNode, mut facts: Facts, ours: bool) -> Vec<String> {
    if ours {
        facts.roles.extend(&planned.roles);
        // A proxy that a failed step left down looks like a node that asks elsewhere.
        facts.roles.retain(|role| *role != Role::EtcdClient || planned.roles.contains(role));
    }
    // Plans from before versions were noted have none.
    let versions = !ours && !planned.versions.is_empty();
    differences(planned, &facts, versions).iter().map(ToString::to_string).collect()
}

fn otherwise(node: &NodeId, differing: &[String]) -> StepError {
    StepError {
        what: format!("this node is not as the plan saw it: {}", differing.join(", ")),
        output: Vec::new(),
        next: format!(
            "make a new plan: wavegate stop, wavegate plan, wavegate start (nodes that are done are looked at again and \
             left as they are); or put the node back as it was: wavegate retry {node}"
        ),
    }
}

fn not_known(node: &NodeId, error: &anyhow::Error) -> StepError {
    StepError {
        what: format!("whether this node is as the plan saw it cannot be found out: {error:#}"),
        output: Vec::new(),
        next: format!(
            "mend that on the node (`wavegate-agent facts` shows when it is well), then: wavegate retry {node}"
        ),
    }
}
