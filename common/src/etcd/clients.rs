//! Whether those who ask a cluster can still do so when it runs another version: Calico's software by its version, `etcd
//! --proxy`, and whoever asks port 4001.

use super::calico::{Calico, OLD_PORT};
use super::fleet::members;
use super::path::{Line, Objection, Rule, and};
use super::{ClusterView, EtcdFacts, EtcdVersion, Part};
use crate::facts::Facts;
use crate::id::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// What speaks against taking the servers of this cluster to version `to`, as far as the nodes of the fleet ask them. Only
/// what the upgrade itself would break counts: what does not work before it is not its fault.
#[must_use]
pub fn judge_clients(
    cluster: &ClusterView,
    to: EtcdVersion,
    fleet: &BTreeMap<NodeId, Facts>,
) -> Vec<Objection> {
    let running = || cluster.members.iter().filter_map(|member| Some(member.status()?.version));
    let passes = |line: Line| to.line() >= line && running().any(|from| from.line() < line);
    let mut all = Vec::new();
    if passes((3, 4)) || passes((3, 6)) {
        all.extend(v2_api(to, fleet));
    }
    if passes((3, 4)) {
        all.extend(v3alpha(to, fleet));
    }
    if to.line() >= (3, 6) {
        all.extend(proxy_gone(to, fleet));
        all.extend(enable_v2_gone(to, fleet));
    }
    if to.line() >= (3, 0) {
        all.extend(port_4001(to, fleet));
    }
    all
}

/// Whether the upgrade leaves keys of the version 2 API where they are and takes the API away that reads them, with nobody in the
/// fleet who is known to ask it. Where somebody is, [`judge_clients`] objects.
#[must_use]
pub fn leaves_v2_keys(cluster: &ClusterView, to: EtcdVersion, fleet: &BTreeMap<NodeId, Facts>) -> bool {
    let before = cluster.members.iter().any(|m| m.status().is_some_and(|it| it.version.line() < (3, 4)));
    let takes_away = before && to.line() >= (3, 4) && to.line() < (3, 6);
    takes_away && cluster.v2_keys == Some(true) && !all_serve_v2(fleet) && v2_api(to, fleet).is_none()
}

/// Whether every member of the fleet is told to serve the version 2 API.
fn all_serve_v2(fleet: &BTreeMap<NodeId, Facts>) -> bool {
    members(fleet).next().is_some() && members(fleet).all(|(_, etcd)| etcd.enable_v2 == Some(true))
}

/// Somebody needs the version 2 API, and not every member will serve it.
fn v2_api(to: EtcdVersion, fleet: &BTreeMap<NodeId, Facts>) -> Option<Objection> {
    let serves = |etcd: &EtcdFacts| etcd.enable_v2 == Some(true);
    let silent: Vec<String> =
        members(fleet).filter(|(_, etcd)| !serves(etcd)).map(|(node, _)| node.to_string()).collect();
    let gone = to.line() >= (3, 6);
    if !gone && all_serve_v2(fleet) {
        return None;
    }
    let old: BTreeSet<NodeId> =
        nodes(fleet, |facts| Calico::of(&facts.versions).is_some_and(|calico| !calico.speaks_v3()));
    let proxies = nodes(fleet, |facts| facts.etcd.as_ref().is_some_and(|etcd| etcd.part == Part::Proxy));
    let mut need = Vec::new();
    if !old.is_empty() {
        need.push(format!("Calico on {} asks it", told(&old)));
    }
    if !proxies.is_empty() {
        need.push(format!("the etcd proxies on {} pass it on", told(&proxies)));
    }
    if need.is_empty() {
        return None;
    }
    let what = if gone {
        format!("{to} has no version 2 API, and {}", need.join(", "))
    } else {
        format!("{to} does not serve the version 2 API unless told to, and {}", need.join(", "))
    };
    let next = if gone {
        "bring Calico to 3.26 or later (from 2.6 by way of 2.6.5 and 3.x) and put etcd gateways in the place of proxies first; \
         until then stay at 3.5"
            .to_owned()
    } else {
        format!(
            "set ETCD_ENABLE_V2=true (--enable-v2) for every member first, here {}; where nothing needs that API any more, \
             delete its keys and put etcd gateways in the place of proxies",
            if silent.is_empty() { "on those that have no agent".to_owned() } else { and(&silent) }
        )
    };
    Some(Objection { rule: Rule::V2Api, nodes: old.union(&proxies).cloned().collect(), what, next })
}

/// networking-calico of Calico 3.0 to 3.25 asks `/v3alpha` and nothing else.
fn v3alpha(to: EtcdVersion, fleet: &BTreeMap<NodeId, Facts>) -> Option<Objection> {
    let nodes = nodes(fleet, |facts| Calico::of(&facts.versions).is_some_and(Calico::asks_v3alpha));
    if nodes.is_empty() {
        return None;
    }
    let what = format!(
        "{to} does not serve /v3alpha any more, and Calico on {}, of 3.0 to 3.25, asks nothing else",
        told(&nodes)
    );
    let next = "bring Calico to 3.26 or later on every node first, with etcd left as it is (--set upgrade_etcd=false), then \
                upgrade etcd";
    Some(Objection { rule: Rule::V3Alpha, nodes, what, next: next.to_owned() })
}

fn proxy_gone(to: EtcdVersion, fleet: &BTreeMap<NodeId, Facts>) -> Option<Objection> {
    let nodes = nodes(fleet, |facts| facts.etcd.as_ref().is_some_and(|etcd| etcd.part == Part::Proxy));
    if nodes.is_empty() {
        return None;
    }
    let what = format!("{to} has no --proxy any more, and etcd on {} is started with it", told(&nodes));
    let next = "put an etcd gateway in the place of each proxy first (etcd gateway start --endpoints=MEMBERS --listen-addr=127.0.0.1:2379)";
    Some(Objection { rule: Rule::ProxyGone, nodes, what, next: next.to_owned() })
}

/// A member does not start with an option that it does not know.
fn enable_v2_gone(to: EtcdVersion, fleet: &BTreeMap<NodeId, Facts>) -> Option<Objection> {
    let told_it = |etcd: &EtcdFacts| {
        let older = etcd.version.is_none_or(|from| from.line() < (3, 6));
        etcd.part == Part::Member && older && etcd.enable_v2.is_some()
    };
    let nodes = nodes(fleet, |facts| facts.etcd.as_ref().is_some_and(told_it));
    if nodes.is_empty() {
        return None;
    }
    let what =
        format!("{to} has no --enable-v2 any more, and etcd on {} is configured with it", told(&nodes));
    let next = "when nothing asks the version 2 API any more, remove --enable-v2 and ETCD_ENABLE_V2 on every member and restart one \
                after the other; etcdutl check v2store must find no custom data on any of them; then plan again";
    Some(Objection { rule: Rule::EnableV2, nodes, what, next: next.to_owned() })
}

/// A server of before 3.0 that is told no port listens on 4001 too, on its own node alone; from 3.0 on it does not.
fn port_4001(to: EtcdVersion, fleet: &BTreeMap<NodeId, Facts>) -> Option<Objection> {
    let nodes = nodes(fleet, |facts| {
        let Some(etcd) = &facts.etcd else { return false };
        let serves = matches!(etcd.part, Part::Member | Part::Proxy) && etcd.listens.is_empty();
        serves && etcd.version.is_some_and(|from| from.line() < (3, 0)) && asks_old_port(facts, etcd)
    });
    if nodes.is_empty() {
        return None;
    }
    let what = format!(
        "{to} does not listen on port {OLD_PORT} unless told to, and Calico on {} asks etcd there",
        told(&nodes)
    );
    let next = "set ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:2379,http://127.0.0.1:4001 (with a member's other addresses, and \
                ETCD_ADVERTISE_CLIENT_URLS) there first, or let Calico ask port 2379";
    Some(Objection { rule: Rule::Port4001, nodes, what, next: next.to_owned() })
}

fn asks_old_port(facts: &Facts, etcd: &EtcdFacts) -> bool {
    if etcd.endpoints.is_empty() {
        return Calico::of(&facts.versions).is_some_and(|calico| calico.asks_old_port_by_default());
    }
    etcd.endpoints.iter().any(|url| {
        let host = url.split_once("://").map_or(url.as_str(), |(_, host)| host).trim_end_matches('/');
        let (host, port) = host.rsplit_once(':').unwrap_or((host, ""));
        port == OLD_PORT && (matches!(host, "localhost" | "[::1]" | "::1") || host.starts_with("127."))
    })
}

fn nodes(fleet: &BTreeMap<NodeId, Facts>, of: impl Fn(&Facts) -> bool) -> BTreeSet<NodeId> {
    fleet.iter().filter(|(_, facts)| of(facts)).map(|(node, _)| node.clone()).collect()
}

/// Names of nodes, the first of many.
fn told(nodes: &BTreeSet<NodeId>) -> String {
    const SHOWN: usize = 5;
    let mut names: Vec<String> = nodes.iter().take(SHOWN).map(ToString::to_string).collect();
    if let Some(more @ 1..) = nodes.len().checked_sub(SHOWN) {
        names.push(format!("{more} more"));
    }
    and(&names)
}

#[cfg(test)]
mod tests;
