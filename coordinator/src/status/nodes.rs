//! The fleet as operators see it: a node's record and its link in one.

use super::view::NodeStatus;
use crate::store::NodeRecord;
use std::collections::BTreeMap;
use wavegate_common::id::NodeId;
use wavegate_common::rollout::Link;

/// A node as operators see it now.
#[must_use]
pub fn node_status(record: &NodeRecord, links: &BTreeMap<NodeId, Link>) -> NodeStatus {
    let facts = record.facts.as_ref();
    NodeStatus {
        node: record.node.clone(),
        link: links.get(&record.node).copied().unwrap_or(Link::Offline { since: record.enrolled_at }),
        roles: facts.map(|facts| facts.roles.clone()).unwrap_or_default(),
        platform: facts.map(|facts| facts.platform.clone()),
        versions: facts.map(|facts| facts.versions.clone()).unwrap_or_default(),
        release: facts.and_then(|facts| facts.release),
        dhcp_agent: facts.map(|facts| facts.dhcp_agent),
        agent_version: facts.map(|facts| facts.agent_version.clone()),
        observed_at: facts.map(|facts| facts.observed_at),
        enrolled_at: record.enrolled_at,
    }
}
