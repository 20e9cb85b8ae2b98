//! The etcd of a whole fleet, put together from what each node's agent found: which clusters, who sees them how, who leads.
//! What a plan makes of that is said in `plan::etcd`.

use super::{ClusterId, ClusterView, EtcdFacts, MemberId, Part};
use crate::facts::Facts;
use crate::id::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// The nodes that have to do with etcd.
pub fn etcd_of(fleet: &BTreeMap<NodeId, Facts>) -> impl Iterator<Item = (&NodeId, &EtcdFacts)> {
    fleet.iter().filter_map(|(node, facts)| Some((node, facts.etcd.as_ref()?)))
}

/// The nodes that run a member.
pub fn members(fleet: &BTreeMap<NodeId, Facts>) -> impl Iterator<Item = (&NodeId, &EtcdFacts)> {
    etcd_of(fleet).filter(|(_, etcd)| etcd.part == Part::Member)
}

/// The clusters that members of the fleet are of, each with their nodes.
#[must_use]
pub fn clusters(fleet: &BTreeMap<NodeId, Facts>) -> BTreeMap<ClusterId, BTreeSet<NodeId>> {
    let mut clusters: BTreeMap<ClusterId, BTreeSet<NodeId>> = BTreeMap::new();
    for (node, etcd) in members(fleet) {
        if let Some(id) = etcd.cluster_id {
            clusters.entry(id).or_default().insert(node.clone());
        }
    }
    clusters
}

/// The one cluster of the fleet; `None` if it has several, or none.
#[must_use]
pub fn only_cluster(fleet: &BTreeMap<NodeId, Facts>) -> Option<ClusterId> {
    let clusters = clusters(fleet);
    clusters.first_key_value().filter(|_| clusters.len() == 1).map(|(id, _)| *id)
}

/// The cluster as each node with a member sees it.
pub fn views(fleet: &BTreeMap<NodeId, Facts>) -> impl Iterator<Item = (&NodeId, &ClusterView)> {
    members(fleet).filter_map(|(node, etcd)| Some((node, etcd.cluster.as_ref()?)))
}

/// The view of whoever got an answer from the most members; of several the first by name.
#[must_use]
pub fn best_view(fleet: &BTreeMap<NodeId, Facts>) -> Option<&ClusterView> {
    let answers = |view: &ClusterView| view.members.iter().filter(|member| member.status().is_some()).count();
    let mut best: Option<&ClusterView> = None;
    for (_, view) in views(fleet) {
        if best.is_none_or(|best| answers(view) > answers(best)) {
            best = Some(view);
        }
    }
    best
}

/// The node that runs a member.
#[must_use]
pub fn node_of(fleet: &BTreeMap<NodeId, Facts>, member: MemberId) -> Option<&NodeId> {
    members(fleet).find(|(_, etcd)| etcd.member == Some(member)).map(|(node, _)| node)
}

/// The node whose member leads, as most members say it.
#[must_use]
pub fn leader(fleet: &BTreeMap<NodeId, Facts>) -> Option<&NodeId> {
    node_of(fleet, best_view(fleet)?.leader()?)
}
