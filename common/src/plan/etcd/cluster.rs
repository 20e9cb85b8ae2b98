//! Whether the fleet's etcd is one cluster, all of it known to the fleet, and well.

use super::{and, problem};
use crate::etcd::{
    Alarm, ClusterView, EtcdFacts, MemberId, MemberView, Part, fleet, unwell as judge_members,
};
use crate::facts::Facts;
use crate::id::NodeId;
use crate::plan::Problem;
use std::collections::{BTreeMap, BTreeSet};

/// What the agents of members could not find out.
pub(super) fn unknown(nodes: &BTreeMap<NodeId, Facts>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (node, etcd) in fleet::members(nodes) {
        let mut unknown = etcd.unknown.clone();
        if unknown.is_empty() && (etcd.member.is_none() || etcd.cluster.is_none()) {
            unknown.push("which member of which cluster it is".to_owned());
        }
        if unknown.is_empty() {
            continue;
        }
        let what = format!("the etcd member of {node} could not be looked at: {}", unknown.join("; "));
        let next = format!(
            "see that etcd runs on {node} and that its agent may ask it (wavegate-agent facts shows what it finds, \
             section [etcd] of agent.toml says with what it asks), then plan again"
        );
        problems.push(problem(Some(node), what, next));
    }
    problems
}

/// Members of more than one cluster.
pub(super) fn several(nodes: &BTreeMap<NodeId, Facts>) -> Vec<Problem> {
    let clusters = fleet::clusters(nodes);
    if clusters.len() < 2 {
        return Vec::new();
    }
    let told = and(clusters.iter().map(|(id, nodes)| format!("{id} of {}", nodes_of(nodes))));
    let what = format!("the fleet's members are of {} etcd clusters: {told}", clusters.len());
    let next = "a fleet has one cluster: find out whether a member came up as a cluster of its own (lost data directory, \
                changed configuration); a second cluster that is meant to be is no part of this fleet, take its nodes out of it \
                (wavegate node remove NODE)";
    vec![problem(None, what, next.to_owned())]
}

/// Proxies and gateways that lead to a cluster that is not the members'.
pub(super) fn elsewhere(nodes: &BTreeMap<NodeId, Facts>) -> Vec<Problem> {
    let clusters = fleet::clusters(nodes);
    let Some((cluster, members)) = clusters.first_key_value() else { return Vec::new() };
    let leads = |(node, etcd): (&NodeId, &EtcdFacts)| {
        let to = etcd.cluster_id.filter(|to| to != cluster && etcd.part != Part::Member)?;
        let what = format!(
            "the etcd {} of {node} leads to cluster {to}, and the fleet's members are of cluster {cluster} ({})",
            etcd.part,
            nodes_of(members)
        );
        let next = format!(
            "let it lead to this fleet's members (its --initial-cluster or --endpoints; an old etcd proxy keeps them in its data \
             directory), or take {node} out of the fleet (wavegate node remove {node})"
        );
        Some(problem(Some(node), what, next))
    };
    fleet::etcd_of(nodes).filter_map(leads).collect()
}

/// Members that no node of the fleet runs, and nodes whose member is not of the cluster any more.
pub(super) fn strangers(nodes: &BTreeMap<NodeId, Facts>) -> Vec<Problem> {
    let mut listed: BTreeMap<MemberId, &MemberView> = BTreeMap::new();
    for (_, view) in fleet::views(nodes) {
        listed.extend(view.members.iter().map(|member| (member.id, member)));
    }
    // A node whose agent could not say which member it runs is a problem of its own, and no reason to call one unknown.
    let mut unsure: Vec<&Facts> = nodes
        .values()
        .filter(|facts| {
            facts.etcd.as_ref().is_some_and(|etcd| etcd.part == Part::Member && etcd.member.is_none())
        })
        .collect();
    let mut problems = Vec::new();
    let strange = |member: &&&MemberView| fleet::node_of(nodes, member.id).is_none();
    let (named, others): (Vec<&MemberView>, Vec<&MemberView>) = listed
        .values()
        .filter(strange)
        .copied()
        .partition(|member| unsure.iter().any(|facts| is_called(facts, member)));
    for member in named {
        unsure.retain(|facts| !is_called(facts, member));
    }
    for member in others {
        if member.status().is_none() && unsure.pop().is_some() {
            continue;
        }
        problems.push(stranger(member));
    }
    for (node, etcd) in fleet::members(nodes) {
        let Some(id) = etcd.member.filter(|id| !listed.is_empty() && !listed.contains_key(id)) else {
            continue;
        };
        let what = format!("etcd on {node} runs member {id}, which is not among the members of the cluster");
        let next = format!(
            "find out whether it was removed from the cluster; if so, stop it and take the role off {node}, or add it anew \
             (etcdctl member add), then plan again"
        );
        problems.push(problem(Some(node), what, next));
    }
    problems
}

fn stranger(member: &MemberView) -> Problem {
    let mut urls: Vec<String> = member.client_urls.clone();
    urls.extend(member.peer_urls.iter().map(|url| format!("{url} for peers")));
    let at = if urls.is_empty() { String::new() } else { format!(", at {},", urls.join(", ")) };
    let what = format!(
        "{} ({}){at} is a member of the cluster, and no node of the fleet runs it",
        member.called(),
        member.id
    );
    let next = "put an agent on its machine and enrol it (wavegate token create): every member takes part, one after the other; \
                one that is gone for good is removed from the cluster first (etcdctl member remove)";
    problem(None, what, next.to_owned())
}

/// Whether a member's name or one of its addresses is the node's.
fn is_called(facts: &Facts, member: &MemberView) -> bool {
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let own = [short(facts.node.as_str()), short(&facts.hostname)];
    let host = |url: &String| {
        let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        short(rest.rsplit_once(':').map_or(rest, |(host, _)| host))
    };
    own.contains(&short(&member.name))
        || member.peer_urls.iter().chain(&member.client_urls).any(|url| own.contains(&host(url)))
}

/// Members that are not well and alarms, each trouble once, with who sees it where not everybody does.
pub(super) fn unwell(nodes: &BTreeMap<NodeId, Facts>, max_lag: u64) -> Vec<Problem> {
    let observers: BTreeSet<&NodeId> = fleet::views(nodes).map(|(node, _)| node).collect();
    let mut troubles: BTreeMap<Option<String>, BTreeMap<String, BTreeSet<&NodeId>>> = BTreeMap::new();
    let mut alarms: BTreeMap<(MemberId, &str), &ClusterView> = BTreeMap::new();
    for (node, view) in fleet::views(nodes) {
        alarms.extend(view.alarms.iter().map(|Alarm { member, kind }| ((*member, kind.as_str()), view)));
        for trouble in judge_members(view, None, max_lag) {
            troubles.entry(trouble.member).or_default().entry(trouble.why).or_default().insert(node);
        }
    }
    let mut problems: Vec<Problem> = Vec::new();
    for (member, whys) in troubles {
        let node = member.as_ref().and_then(|name| node_called(nodes, name));
        problems.push(trouble(member.as_deref(), node, &whys, &observers));
    }
    problems.extend(alarms.into_iter().map(|((member, kind), view)| alarm(nodes, view, member, kind)));
    problems
}

fn node_called<'n>(nodes: &'n BTreeMap<NodeId, Facts>, name: &str) -> Option<&'n NodeId> {
    let named =
        |(_, view): (&NodeId, &ClusterView)| view.members.iter().find(|m| m.called() == name).map(|m| m.id);
    fleet::node_of(nodes, fleet::views(nodes).find_map(named)?)
}

fn trouble(
    member: Option<&str>,
    node: Option<&NodeId>,
    whys: &BTreeMap<String, BTreeSet<&NodeId>>,
    observers: &BTreeSet<&NodeId>,
) -> Problem {
    let seen: BTreeSet<&NodeId> = whys.values().flatten().copied().collect();
    let told: Vec<String> = if whys.len() == 1 && seen == *observers {
        whys.keys().cloned().collect()
    } else {
        whys.iter().map(|(why, by)| format!("{why} (so for {})", and(by))).collect()
    };
    let mut what = match member {
        Some(member) => format!("etcd member {member} {}", told.join(", ")),
        None => format!("the etcd cluster: {}", told.join(", ")),
    };
    let content: BTreeSet<&NodeId> = observers.difference(&seen).copied().collect();
    if !content.is_empty() {
        let see = if content.len() == 1 { "sees" } else { "see" };
        what.push_str(&format!("; {} {see} nothing wrong with it", and(content)));
    }
    let next = match node {
        Some(node) => format!(
            "bring it back first (on {node}: the state and the log of its etcd service): a member is stopped only while all the \
             others are healthy and caught up; then plan again"
        ),
        None => "bring it in order first: a member is stopped only while all the others are healthy and caught up; then plan \
                 again"
            .to_owned(),
    };
    problem(node, what, next)
}

fn alarm(nodes: &BTreeMap<NodeId, Facts>, view: &ClusterView, member: MemberId, kind: &str) -> Problem {
    let called = view.member(member).map_or_else(|| format!("member {member}"), MemberView::called);
    let what = format!("etcd has raised alarm {kind} of {called}, and nobody has disarmed it");
    let next = match kind {
        "NOSPACE" => {
            "compact and defragment the members one by one (etcdctl compact, etcdctl defrag) or raise --quota-backend-bytes, \
             then etcdctl alarm disarm, then plan again"
        }
        "CORRUPT" => {
            "its data differ from the others': replace it (etcdctl member remove, member add with an empty data directory), then \
             etcdctl alarm disarm, then plan again"
        }
        _ => "mend what it is about (etcdctl alarm list), disarm it (etcdctl alarm disarm), then plan again",
    };
    problem(fleet::node_of(nodes, member), what, next.to_owned())
}

fn nodes_of(nodes: &BTreeSet<NodeId>) -> String {
    and(nodes)
}
