//! The fleet as operators see it: a node's record, its link and what is declared of it in one.

use super::view::NodeStatus;
use crate::store::KnownNode;
use std::borrow::Cow;
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
    pub fn has(&self, node: &NodeStatus<'_>) -> bool {
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
pub fn node_list<'a>(
    known: &'a BTreeMap<NodeId, Arc<KnownNode>>,
    links: &'a BTreeMap<NodeId, Link>,
    inventory: Option<&'a Inventory>,
    wanted: &Wanted,
) -> impl Iterator<Item = NodeStatus<'a>> {
    let declared = inventory.iter().flat_map(|inventory| inventory.nodes.keys());
    let missing = declared.filter(|node| !known.contains_key(*node)).map(|node| (node, None));
    let enrolled = known.iter().map(|(node, known)| (node, Some(&**known)));
    let mut nodes: Vec<_> = enrolled.chain(missing).filter(|(name, _)| wanted.names(name)).collect();
    nodes.sort_unstable_by_key(|(name, _)| *name);
    nodes.into_iter().map(move |(node, known)| {
        let declared = inventory.and_then(|inventory| inventory.nodes.get(node));
        NodeStatus {
            declared: inventory.map(|_| declared.is_some()),
            labels: declared.map(|declared| Cow::Borrowed(&declared.labels)).unwrap_or_default(),
            ..node_status(node, known, links)
        }
    })
}

/// A node as operators see it now; without a record it has not enrolled.
fn node_status<'a>(
    node: &NodeId,
    known: Option<&'a KnownNode>,
    links: &BTreeMap<NodeId, Link>,
) -> NodeStatus<'a> {
    let facts = known.and_then(|known| known.facts.as_ref());
    let enrolled_at = known.map(|known| known.enrolled_at);
    let since = enrolled_at.unwrap_or_default();
    NodeStatus {
        node: node.clone(),
        link: links.get(node).copied().unwrap_or(Link::Offline { since }),
        roles: facts.map(|facts| Cow::Borrowed(&facts.roles)).unwrap_or_default(),
        platform: facts.map(|facts| Cow::Borrowed(&facts.platform)),
        versions: facts.map(|facts| Cow::Borrowed(&facts.versions)).unwrap_or_default(),
        release: facts.and_then(|facts| facts.release),
        dhcp_agent: facts.map(|facts| facts.dhcp_agent),
        etcd: facts.and_then(|facts| facts.etcd.as_ref()).map(Cow::Borrowed),
        agent_version: facts.map(|facts| Cow::Borrowed(facts.agent_version.as_str())),
        trouble: None,
        observed_at: facts.map(|facts| facts.observed_at),
        enrolled_at,
        declared: None,
        labels: Cow::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use wavegate_common::facts::Facts;
    use wavegate_common::id::Timestamp;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a name")
    }

    fn facts(name: &str) -> Facts {
        let platform = json!({
            "family": "debian", "id": "ubuntu", "version_id": "16.04", "pretty_name": "Ubuntu 16.04.7 LTS",
            "package_manager": "apt", "service_manager": "systemd",
        });
        let facts = json!({
            "node": name, "observed_at": 60, "hostname": name, "kernel": "4.4.0", "boot_id": "b", "platform": platform,
            "roles": ["compute", "etcd-proxy"], "versions": { "felix": "1.4.6", "dnsmasq": "2.75" }, "release": "mitaka",
            "dhcp_agent": "calico", "agent_version": "0.1.0", "etcd": { "part": "proxy", "clients": [] },
        });
        serde_json::from_value(facts).expect("facts")
    }

    fn known(name: &str, facts: Option<Facts>) -> (NodeId, Arc<KnownNode>) {
        let (enrolled_at, fingerprint) = (Timestamp(50), "f".to_owned());
        (node(name), Arc::new(KnownNode { node: node(name), enrolled_at, fingerprint, facts }))
    }

    #[test]
    fn a_node_is_its_record_its_link_and_what_is_declared_of_it() {
        let nodes = BTreeMap::from([known("c1", Some(facts("c1"))), known("c3", None)]);
        let links = BTreeMap::from([(node("c1"), Link::Online { since: Timestamp(70) })]);
        let text = "[nodes.c1]\nlabels = { rack = \"r1\" }\n[nodes.c2]\n";
        let inventory = Inventory::parse("fleet.toml", text).expect("an inventory");
        let everybody = Wanted::default();
        let lines = |inventory: Option<&Inventory>| {
            let list = node_list(&nodes, &links, inventory, &everybody);
            let lines = list.map(|node| serde_json::to_string(&node).expect("JSON"));
            lines.collect::<Vec<_>>().join("\n")
        };
        insta::assert_snapshot!(lines(None), @r#"
        {"node":"c1","link":{"link":"online","since":70},"roles":["etcd-proxy","compute"],"platform":{"family":"debian","id":"ubuntu","version_id":"16.04","pretty_name":"Ubuntu 16.04.7 LTS","package_manager":"apt","service_manager":"systemd"},"versions":{"felix":"1.4.6","dnsmasq":"2.75"},"release":"mitaka","dhcp_agent":"calico","etcd":{"part":"proxy"},"agent_version":"0.1.0","observed_at":60,"enrolled_at":50}
        {"node":"c3","link":{"link":"offline","since":50},"roles":[],"platform":null,"versions":{},"release":null,"dhcp_agent":null,"agent_version":null,"observed_at":null,"enrolled_at":50}
        "#);
        insta::assert_snapshot!(lines(Some(&inventory)), @r#"
        {"node":"c1","link":{"link":"online","since":70},"roles":["etcd-proxy","compute"],"platform":{"family":"debian","id":"ubuntu","version_id":"16.04","pretty_name":"Ubuntu 16.04.7 LTS","package_manager":"apt","service_manager":"systemd"},"versions":{"felix":"1.4.6","dnsmasq":"2.75"},"release":"mitaka","dhcp_agent":"calico","etcd":{"part":"proxy"},"agent_version":"0.1.0","observed_at":60,"enrolled_at":50,"declared":true,"labels":{"rack":"r1"}}
        {"node":"c2","link":{"link":"offline","since":0},"roles":[],"platform":null,"versions":{},"release":null,"dhcp_agent":null,"agent_version":null,"observed_at":null,"enrolled_at":null,"declared":true}
        {"node":"c3","link":{"link":"offline","since":50},"roles":[],"platform":null,"versions":{},"release":null,"dhcp_agent":null,"agent_version":null,"observed_at":null,"enrolled_at":50,"declared":false}
        "#);
        let only = Wanted { node: Some(node("c3")), ..Wanted::default() };
        let only = node_list(&nodes, &links, Some(&inventory), &only).map(|node| node.node);
        assert_eq!(only.collect::<Vec<_>>(), [node("c3")]);
    }
}
