//! The fleet as operators see it: a node's record, its link and what is declared of it in one.

use super::view::NodeStatus;
use crate::store::KnownNode;
use std::collections::BTreeMap;
use std::sync::Arc;
use wavegate_common::id::NodeId;
use wavegate_common::inventory::Inventory;
use wavegate_common::platform::Role;
use wavegate_common::rollout::Link;

/// Which nodes are asked for: those to which all of it applies; every node without any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// This node.
    pub node: Option<NodeId>,
    /// Those with this role.
    pub role: Option<Role>,
    /// Those whose agent is not connected, or that have not enrolled.
    pub offline: bool,
    /// Those with whose agent something is wrong, or that differ from the inventory.
    pub trouble: bool,
}

impl Wanted {
    /// Whether a node is one of them.
    #[must_use]
    pub fn has(&self, node: &NodeStatus) -> bool {
        let strange = || node.trouble.is_some() || node.declared == Some(false) || node.enrolled_at.is_none();
        self.names(&node.node)
            && self.role.is_none_or(|role| node.roles.contains(&role))
            && (!self.offline || !node.link.is_online())
            && (!self.trouble || strange())
    }

    /// Whether a node of this name may be one of them.
    fn names(&self, name: &NodeId) -> bool {
        self.node.as_ref().is_none_or(|node| node == name)
    }
}

/// The nodes that have enrolled and those that are declared, by name: those that may be wanted, as far as their names go.
#[must_use]
pub fn node_list(
    known: &BTreeMap<NodeId, Arc<KnownNode>>,
    links: &BTreeMap<NodeId, Link>,
    inventory: Option<&Inventory>,
    wanted: &Wanted,
) -> Vec<NodeStatus> {
    let declared = inventory.iter().flat_map(|inventory| inventory.nodes.keys());
    let mut names: Vec<&NodeId> = known.keys().chain(declared).filter(|name| wanted.names(name)).collect();
    names.sort_unstable();
    names.dedup();
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
