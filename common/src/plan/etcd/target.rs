//! Where the plan takes etcd: one version for every member, and one that the cluster and its clients may go to.

use super::{Foreseen, and, problem};
use crate::etcd::{EtcdFacts, EtcdVersion, NoVersion, Objection, fleet, judge, judge_clients};
use crate::facts::Facts;
use crate::id::NodeId;
use crate::plan::Problem;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn problems(nodes: &BTreeMap<NodeId, Facts>, foreseen: &Foreseen<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut versions: BTreeMap<EtcdVersion, Vec<&NodeId>> = BTreeMap::new();
    for (node, etcd) in fleet::members(nodes).filter(|(node, _)| foreseen.known.contains(node)) {
        match foreseen.targets.get(node).map_or(Ok(etcd.version), |to| to.parse().map(Some)) {
            Ok(Some(version)) => versions.entry(version).or_default().push(node),
            // What it runs could not be found out, which is a problem of its own.
            Ok(None) => {}
            Err(error) => problems.push(unreadable(node, &error)),
        }
    }
    let rolled = fleet::members(nodes).any(|(node, _)| foreseen.targets.contains_key(node));
    if versions.len() > 1 {
        if rolled {
            problems.push(different(&versions, foreseen));
        }
        return problems;
    }
    let (Some((to, _)), Some(view)) = (versions.first_key_value(), fleet::best_view(nodes)) else {
        return problems;
    };
    let objections = judge(view, *to).into_iter().chain(judge_clients(view, *to, nodes));
    problems.extend(objections.map(|Objection { rule: _, nodes, what, next }| {
        let one = nodes.first().filter(|_| nodes.len() == 1);
        problem(one, what, next)
    }));
    problems
}

/// The one version that every member would run; `None` if there is no such one.
pub(super) fn of(nodes: &BTreeMap<NodeId, Facts>, foreseen: &Foreseen<'_>) -> Option<EtcdVersion> {
    let known = fleet::members(nodes).filter(|(node, _)| foreseen.known.contains(node));
    let to = |(node, etcd): (&NodeId, &EtcdFacts)| match foreseen.targets.get(node) {
        Some(to) => to.parse().ok(),
        None => etcd.version,
    };
    let versions: BTreeSet<EtcdVersion> = known.filter_map(to).collect();
    versions.first().filter(|_| versions.len() == 1).copied()
}

fn unreadable(node: &NodeId, error: &NoVersion) -> Problem {
    let next = "look at the package or archive that the plan names (wavegate plan show)".to_owned();
    problem(Some(node), format!("etcd on {node} would run what nobody can judge: {error}"), next)
}

fn different(versions: &BTreeMap<EtcdVersion, Vec<&NodeId>>, foreseen: &Foreseen<'_>) -> Problem {
    let told = versions.iter().map(|(version, nodes)| {
        let stays = nodes.iter().all(|node| !foreseen.targets.contains_key(*node));
        let stays = if stays { ", where it stays as it is" } else { "" };
        format!("{version} on {}{stays}", and(nodes))
    });
    let what =
        format!("the members would not run one version of etcd: {}", told.collect::<Vec<_>>().join("; "));
    let next = "let every member get the same: one state of their mirrors, no package held (apt-mark showhold, yum versionlock), \
                or a version named for all (--set etcd_packages=NAME=VERSION), then plan again";
    problem(None, what, next.to_owned())
}
