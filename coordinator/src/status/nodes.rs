//! The fleet as operators see it: a node's record, its link and what is declared of it in one.

use super::view::NodeStatus;
use crate::store::KnownNode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use wavegate_common::id::NodeId;
use wavegate_common::inventory::Inventory;
use wavegate_common::rollout::Link;

/// The nodes that have enrolled and those that are declared, by name.
#[must_use]
pub fn node_list(
    known: &BTreeMap<NodeId, Arc<KnownNode>>,
    links: &BTreeMap<NodeId, Link>,
    inventory: Option<&Inventory>,
) -> Vec<NodeStatus> {
    let declared = inventory.iter().flat_map(|inventory| inventory.nodes.keys());
    let names: BTreeSet<&NodeId> = known.keys().chain(declared).collect();
    let of = |node| {
        let declared = inventory.and_then(|inventory| inventory.nodes.get(node));
        NodeStatus {
            declared: inventory.map(|_| declared.is_some()),
            labels: declared.map(|declared| declared.labels.clone()).unwrap_or_default(),
            ..node_status(node, known.get(node), links)
        }
    };
    names.into_iter().map(of).collect()
}

/// A node as operators see it now; without a record it has not enrolled.
fn node_status(node: &NodeId, known: Option<&Arc<KnownNode>>, links: &BTreeMap<NodeId, Link>) -> NodeStatus {
    let facts = known.and_then(|known| known.facts.as_ref());
    let enrolled_at = known.map(|known| known.enrolled_at);
    let since = enrolled_at.unwrap_or_default();
    NodeStatus {
        node: node.clone(),
        link: links.get(node).copied().unwrap_or(Link::Offline { since }),
        roles: facts.map(|facts| facts.roles.clone()).unwrap_or_default(),
        platform: facts.map(|facts| facts.platform.clone()),
        versions: facts.map(|facts| facts.versions.clone()).unwrap_or_default(),
        release: facts.and_then(|facts| facts.release),
        dhcp_agent: facts.map(|facts| facts.dhcp_agent),
        etcd: facts.and_then(|facts| facts.etcd.clone()),
        agent_version: facts.map(|facts| facts.agent_version.clone()),
        trouble: None,
        observed_at: facts.map(|facts| facts.observed_at),
        enrolled_at,
        declared: None,
        labels: BTreeMap::new(),
    }
}
