//! The inventory: the fleet as its owners declare it, beside the fleet as it enrolled, so that no machine is forgotten.
//!
//! Reading its text is `parse`'s business; where it is kept is the coordinator's.

mod parse;

use crate::facts::Facts;
use crate::id::NodeId;
use crate::outcome::StepError;
use crate::plan::Problem;
use crate::platform::Role;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The fleet as it is declared; it has one node at least.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Every node that there should be.
    pub nodes: BTreeMap<NodeId, Declared>,
}

/// What is declared of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// What it is for; `None` leaves it to what its agent finds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<BTreeSet<Role>>,
    /// Where it stands and what else its owners sort it by, e.g. `rack` and `r1`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Inventory {
    /// The labels of every node that has some.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<NodeId, BTreeMap<String, String>> {
        let labelled = self.nodes.iter().filter(|(_, declared)| !declared.labels.is_empty());
        labelled.map(|(node, declared)| (node.clone(), declared.labels.clone())).collect()
    }

    /// Nodes whose found roles are not the declared ones, each a problem with the difference.
    #[must_use]
    pub fn problems(&self, fleet: &BTreeMap<NodeId, Facts>) -> Vec<Problem> {
        let declared =
            self.nodes.iter().filter_map(|(node, declared)| Some((node, declared.roles.as_ref()?)));
        declared
            .filter_map(|(node, declared)| {
                let what = other_roles(declared, &fleet.get(node)?.roles)?;
                let next = format!(
                    "see what its agent finds (wavegate-agent facts, on {node}): install what is missing there or name the \
                     role in the agent's configuration (roles); or declare what is so: wavegate inventory set FILE. Then \
                     plan again"
                );
                let error = StepError { what, output: Vec::new(), next };
                Some(Problem { node: Some(node.clone()), stage: None, step: None, error })
            })
            .collect()
    }
}

/// How the roles that were found differ from those that are declared, if they do. That a node asks an etcd elsewhere follows
/// from what it is for and need not be declared.
fn other_roles(declared: &BTreeSet<Role>, found: &BTreeSet<Role>) -> Option<String> {
    let missing: Vec<&str> = declared.difference(found).map(|role| role.as_str()).collect();
    let more = found.difference(declared).filter(|role| **role != Role::EtcdClient);
    let more: Vec<&str> = more.map(|role| role.as_str()).collect();
    let difference = match (missing.is_empty(), more.is_empty()) {
        (true, true) => return None,
        (false, true) => format!("{} was not found", missing.join(", ")),
        (true, false) => format!("{} was found and is not declared", more.join(", ")),
        (false, false) => {
            format!("{} was not found, {} was and is not declared", missing.join(", "), more.join(", "))
        }
    };
    Some(format!("its roles are not those of the inventory: {difference}"))
}

#[cfg(test)]
mod tests;
