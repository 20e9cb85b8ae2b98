//! In which order the members of the cluster are worked on: followers by name, the leader last. The fewer elections, the
//! better; where etcd can hand leadership over, that is done before the leader is stopped.

use crate::etcd::{EtcdFacts, fleet};
use crate::facts::Facts;
use crate::id::NodeId;
use crate::plan::{PlanBody, PlannedEtcd};
use crate::platform::{Role, Stage};
use std::collections::BTreeMap;

/// Brings what the plan says of etcd up to these facts: which cluster and member each node has to do with, and that the
/// leader is the last of its members, whatever groups there are: each is a wave of its own. The same facts again change nothing
/// more.
pub fn settle_etcd(body: &mut PlanBody, nodes: &BTreeMap<NodeId, Facts>) {
    let only = fleet::only_cluster(nodes);
    for (node, planned) in &mut body.nodes {
        let etcd = nodes.get(node).and_then(|facts| facts.etcd.as_ref());
        planned.etcd = etcd.and_then(|etcd: &EtcdFacts| {
            let cluster = etcd.cluster_id.or(only)?;
            Some(PlannedEtcd { part: etcd.part, cluster, member: etcd.member })
        });
    }
    let leader = fleet::leader(nodes);
    let is_member =
        |node: &NodeId| nodes.get(node).is_some_and(|facts| facts.roles.contains(&Role::EtcdMember));
    for stage in body.stages.iter_mut().filter(|stage| stage.stage == Stage::Etcd) {
        let alone = |wave: &Vec<NodeId>| matches!(wave.as_slice(), [node] if is_member(node));
        let mut members: Vec<Vec<NodeId>> = stage.waves.iter().filter(|wave| alone(wave)).cloned().collect();
        members.sort_by_key(|wave| (wave.first() == leader, wave.first().cloned()));
        let mut sorted = members.into_iter();
        for wave in stage.waves.iter_mut().filter(|wave| alone(wave)) {
            if let Some(next) = sorted.next() {
                *wave = next;
            }
        }
    }
}
