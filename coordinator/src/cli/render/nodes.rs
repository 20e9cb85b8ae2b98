//! The fleet as people read it: `wavegate nodes`.

use super::inventory::labels;
use super::{Look, Tone, cell, counted, few, time};
use crate::status::view::NodeStatus;
use wavegate_common::etcd::told;
use wavegate_common::facts::{Component, DhcpAgent};
use wavegate_common::id::Timestamp;
use wavegate_common::rollout::Link;

const COMPONENTS: [(Component, &str); 5] = [
    (Component::Etcd, "ETCD"),
    (Component::Felix, "FELIX"),
    (Component::NetworkingCalico, "NETWORKING-CALICO"),
    (Component::Neutron, "NEUTRON"),
    (Component::Dnsmasq, "DNSMASQ"),
];

/// The nodes: a table of what they are, and one of what is installed on them; and how they differ from the inventory.
#[must_use]
pub fn nodes(nodes: &[NodeStatus<'_>], now: Timestamp, look: &Look) -> String {
    if nodes.is_empty() {
        return "No node has enrolled yet. Make a token (wavegate token create) and give it to an agent.\n"
            .to_owned();
    }
    let online = nodes.iter().filter(|node| node.link.is_online()).count();
    let summary = format!("{}, {online} online\n", counted(nodes.len(), "node"));
    let mut parts = vec![
        summary,
        machines(nodes, now, look),
        versions(nodes, look),
        etcd(nodes, look),
        troubles(nodes, look),
        against_inventory(nodes, look),
    ];
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

/// What is wrong with agents.
fn troubles(nodes: &[NodeStatus<'_>], look: &Look) -> String {
    let troubled = nodes.iter().filter_map(|node| Some((&node.node, node.trouble.as_ref()?)));
    troubled.map(|(node, trouble)| look.paragraph(&format!("{node}: {trouble}"), 0)).collect()
}

/// Who is declared and not there, and who is there and not declared.
fn against_inventory(nodes: &[NodeStatus<'_>], look: &Look) -> String {
    let names = |wanted: fn(&NodeStatus<'_>) -> bool| {
        few(nodes.iter().filter(|node| wanted(node)).map(|node| node.node.as_str()))
    };
    let missing = names(|node| node.enrolled_at.is_none());
    let undeclared = names(|node| node.declared == Some(false));
    let mut text = String::new();
    if !missing.is_empty() {
        text.push_str(&look.paragraph(
            &format!("In the inventory and not enrolled, so that no plan can be made: {missing} (wavegate token create --node NODE)"),
            0,
        ));
    }
    if !undeclared.is_empty() {
        text.push_str(&look.paragraph(
            &format!("Not in the inventory: {undeclared}. They take part all the same; declare them (wavegate inventory set FILE) or remove them (wavegate node remove NODE)"),
            0,
        ));
    }
    text
}

fn machines(nodes: &[NodeStatus<'_>], now: Timestamp, look: &Look) -> String {
    let labelled = nodes.iter().any(|node| !node.labels.is_empty());
    let mut header = vec!["NODE", "LINK", "ROLES", "PLATFORM", "RELEASE", "DHCP AGENT", "AGENT"];
    header.extend(labelled.then_some("LABELS"));
    let mut table = look.table(&header);
    for node in nodes {
        let roles = node.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ");
        let dhcp_agent = match node.dhcp_agent {
            Some(DhcpAgent::Both) => cell(Tone::Bad, DhcpAgent::Both),
            other => cell(Tone::Plain, or_dash(other)),
        };
        let mut row = vec![
            cell(Tone::Plain, &node.node),
            link(node, now),
            cell(Tone::Plain, if roles.is_empty() { "-" } else { &roles }),
            cell(Tone::Plain, or_dash(node.platform.as_ref())),
            cell(Tone::Plain, or_dash(node.release)),
            dhcp_agent,
            cell(Tone::Plain, or_dash(node.agent_version.as_ref())),
        ];
        row.extend(labelled.then(|| cell(Tone::Plain, labels(&node.labels))));
        table.add_row(row);
    }
    look.lay_out(table, 0)
}

fn link(node: &NodeStatus<'_>, now: Timestamp) -> comfy_table::Cell {
    match node.link {
        Link::Offline { .. } if node.enrolled_at.is_none() => cell(Tone::Bad, "not enrolled"),
        Link::Online { .. } => cell(Tone::Good, "online"),
        Link::Offline { since } if since == Timestamp::default() => cell(Tone::Bad, "offline"),
        Link::Offline { since } => {
            cell(Tone::Bad, format!("offline {}", time::duration(now.millis_since(since))))
        }
    }
}

/// Only columns that some node has something for.
fn versions(nodes: &[NodeStatus<'_>], look: &Look) -> String {
    let installed = |component| nodes.iter().any(|node| node.versions.contains_key(&component));
    let shown: Vec<_> = COMPONENTS.into_iter().filter(|(component, _)| installed(*component)).collect();
    if shown.is_empty() {
        return String::new();
    }
    let header: Vec<&str> = std::iter::once("NODE").chain(shown.iter().map(|(_, name)| *name)).collect();
    let mut table = look.table(&header);
    for node in nodes.iter().filter(|node| !node.versions.is_empty()) {
        let of = |component: &Component| node.versions.get(component).map_or("-", String::as_str);
        table.add_row(
            std::iter::once(node.node.as_str()).chain(shown.iter().map(|(component, _)| of(component))),
        );
    }
    look.lay_out(table, 0)
}

/// Who has a part in etcd: what it is there, and what could not be found out.
fn etcd(nodes: &[NodeStatus<'_>], look: &Look) -> String {
    let mut table = look.table(&["NODE", "PART IN ETCD", "RUNS", "CLUSTER", "DATA ON", "UNKNOWN"]);
    for (node, etcd) in nodes.iter().filter_map(|node| Some((node, node.etcd.as_ref()?))) {
        let on = match etcd.data_filesystem.as_deref() {
            Some(kind @ ("tmpfs" | "ramfs")) => cell(Tone::Bad, kind),
            other => cell(Tone::Plain, or_dash(other)),
        };
        let unknown = if etcd.unknown.is_empty() { "-".to_owned() } else { etcd.unknown.join("; ") };
        table.add_row(vec![
            cell(Tone::Plain, &node.node),
            cell(Tone::Plain, told::part(etcd)),
            cell(Tone::Plain, or_dash(etcd.version)),
            cell(Tone::Plain, or_dash(etcd.cluster_id)),
            on,
            cell(Tone::Plain, unknown),
        ]);
    }
    look.lay_out(table, 0)
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn the_fleet() {
        insta::assert_snapshot!(nodes(&samples::nodes(), samples::at(200), &samples::look()), @r"
        7 nodes, 5 online

        NODE       LINK                ROLES        PLATFORM                    RELEASE  DHCP AGENT  AGENT
        compute-1  online              etcd-proxy,  ubuntu 14.04, apt/upstart   kilo     neutron     0.1.0
                                       compute
        compute-2  online              compute      centos 7, yum/systemd       kilo     neutron     0.1.0
        compute-3  offline 2 min       compute      centos 7, yum/systemd       kilo     neutron     0.1.0
        control-1  online              control      ubuntu 14.04, apt/upstart   kilo     -           0.1.0
        deploy-1   online              -            ubuntu 14.04, apt/upstart   -        -           0.1.0
        etcd-1     online              etcd-member  ubuntu 14.04, apt/upstart   kilo     -           0.1.0
        compute-4  offline 3 min 20 s  -            -                           -        -           -

        NODE       FELIX         DNSMASQ
        compute-1  1.4.5~trusty  2.68-1ubuntu0.1
        compute-2  1.4.5~trusty  2.68-1ubuntu0.1
        compute-3  1.4.5~trusty  2.68-1ubuntu0.1

        NODE    PART IN ETCD          RUNS   CLUSTER  DATA ON  UNKNOWN
        etcd-1  member etcd-1, leads  2.3.8  cdf8     tmpfs    -
        ");
        insta::assert_snapshot!(nodes(&samples::declared_nodes(), samples::at(200), &samples::look()), @r"
        8 nodes, 5 online

        NODE       LINK                ROLES        PLATFORM       RELEASE  DHCP AGENT  AGENT  LABELS
        compute-1  online              etcd-proxy,  ubuntu 14.04,  kilo     neutron     0.1.0  rack=r1,
                                       compute      apt/upstart                                zone=a
        compute-2  online              compute      centos 7,      kilo     neutron     0.1.0  rack=r2
                                                    yum/systemd
        compute-3  offline 2 min       compute      centos 7,      kilo     neutron     0.1.0  rack=r2
                                                    yum/systemd
        control-1  online              control      ubuntu 14.04,  kilo     -           0.1.0  -
                                                    apt/upstart
        deploy-1   online              -            ubuntu 14.04,  -        -           0.1.0  -
                                                    apt/upstart
        etcd-1     online              etcd-member  ubuntu 14.04,  kilo     -           0.1.0  -
                                                    apt/upstart
        compute-4  offline 3 min 20 s  -            -              -        -           -      -
        control-2  not enrolled        -            -              -        -           -      -

        NODE       FELIX         DNSMASQ
        compute-1  1.4.5~trusty  2.68-1ubuntu0.1
        compute-2  1.4.5~trusty  2.68-1ubuntu0.1
        compute-3  1.4.5~trusty  2.68-1ubuntu0.1

        NODE    PART IN ETCD          RUNS   CLUSTER  DATA ON  UNKNOWN
        etcd-1  member etcd-1, leads  2.3.8  cdf8     tmpfs    -

        In the inventory and not enrolled, so that no plan can be made: control-2 (wavegate token create
        --node NODE)
        Not in the inventory: compute-4. They take part all the same; declare them (wavegate inventory set
        FILE) or remove them (wavegate node remove NODE)
        ");
        let mut skewed = samples::nodes();
        skewed.retain(|node| node.node.as_str() == "compute-3");
        skewed[0].trouble = Some("its agent 0.3.0 is not taken: the coordinator is 0.1.0, and they work together within one minor version; install wavegate-agent 0.1.0 on compute-3".into());
        insta::assert_snapshot!(nodes(&skewed, samples::at(200), &samples::look()), @r"
        1 node, 0 online

        NODE       LINK           ROLES    PLATFORM               RELEASE  DHCP AGENT  AGENT
        compute-3  offline 2 min  compute  centos 7, yum/systemd  kilo     neutron     0.1.0

        NODE       FELIX         DNSMASQ
        compute-3  1.4.5~trusty  2.68-1ubuntu0.1

        compute-3: its agent 0.3.0 is not taken: the coordinator is 0.1.0, and they work together within
        one minor version; install wavegate-agent 0.1.0 on compute-3
        ");
        insta::assert_snapshot!(nodes(&[], samples::at(0), &samples::look()), @"No node has enrolled yet. Make a token (wavegate token create) and give it to an agent.");
    }
}
