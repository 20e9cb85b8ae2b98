//! One node as people read it: `wavegate nodes NODE`.

use super::inventory::labels;
use super::{Look, time};
use crate::status::view::NodeStatus;
use wavegate_common::etcd::told;
use wavegate_common::id::Timestamp;
use wavegate_common::rollout::Link;

/// All that is known of a node.
#[must_use]
pub fn node(node: &NodeStatus<'_>, now: Timestamp, look: &Look) -> String {
    let ago = |since: Timestamp| format!("{} ago", time::duration(now.millis_since(since)));
    let list = |words: Vec<String>| if words.is_empty() { "none".to_owned() } else { words.join(", ") };
    let link = match node.link {
        _ if node.enrolled_at.is_none() => "not enrolled".to_owned(),
        Link::Online { .. } => "online".to_owned(),
        Link::Offline { since } if since == Timestamp::default() => "offline".to_owned(),
        Link::Offline { since } => format!("offline for {}", time::duration(now.millis_since(since))),
    };
    let mut rows = vec![("node", node.node.to_string()), ("link", link)];
    if let Some(at) = node.observed_at {
        rows.push(("looked at", ago(at)));
        rows.push(("roles", list(node.roles.iter().map(ToString::to_string).collect())));
        let versions = node.versions.iter().map(|(component, version)| format!("{component} {version}"));
        rows.push(("versions", list(versions.collect())));
    }
    rows.extend(
        node.platform.as_ref().map(|platform| ("platform", format!("{} ({platform})", platform.pretty_name))),
    );
    rows.extend(node.release.map(|release| ("OpenStack", release.to_string())));
    rows.extend(node.dhcp_agent.map(|agent| ("DHCP agent", agent.to_string())));
    rows.extend(node.agent_version.as_ref().map(|version| ("agent", version.to_string())));
    rows.extend(node.trouble.as_ref().map(|trouble| ("trouble", trouble.to_string())));
    if !node.labels.is_empty() {
        rows.push(("labels", labels(&node.labels)));
    }
    rows.extend(node.etcd.iter().flat_map(|etcd| told::lines(etcd)));
    let rows: Vec<(&str, &str)> = rows.iter().map(|(what, says)| (*what, says.as_str())).collect();
    look.labelled(&rows, 0)
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_member_and_who_never_came() {
        let nodes = samples::nodes();
        let shown = |name: &str| {
            let found = nodes.iter().find(|known| known.node.as_str() == name).expect("it is there");
            node(found, samples::at(200), &samples::look())
        };
        insta::assert_snapshot!(shown("etcd-1"), @r"
        node       etcd-1
        link       online
        looked at  2 min 20 s ago
        roles      etcd-member
        versions   none
        platform   ubuntu 14.04 (ubuntu 14.04, apt/upstart)
        OpenStack  kilo
        agent      0.1.0
        etcd       member etcd-1, leads, version 2.3.8, id 8e9e, of cluster cdf8
        data       /var/lib/etcd, on tmpfs: in memory alone, so that a reboot or an unmount of it loses
                   this member's data
        cluster    1 member, speaks 2.3, users and passwords off, keys of version 2, no API of version 3
                   etcd-1: 2.3.8, leads, healthy, at index 5000
        ");
        insta::assert_snapshot!(shown("compute-4"), @r"
        node  compute-4
        link  offline for 3 min 20 s
        ");
        let declared = samples::declared_nodes();
        insta::assert_snapshot!(node(&declared[7], samples::at(200), &samples::look()), @r"
        node  control-2
        link  not enrolled
        ");
    }
}
