//! What an agent observed about its node, with the time of observation.

use crate::etcd::EtcdFacts;
use crate::id::{NodeId, Timestamp};
use crate::platform::{Platform, Release, Role, words};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

words!(
    /// Software whose version decides what is to be done.
    Component, "component" {
        /// The etcd server.
        Etcd = "etcd",
        /// Calico's agent on compute nodes.
        Felix = "felix",
        /// Calico's Neutron driver and DHCP agent, a Python package.
        NetworkingCalico = "networking-calico",
        /// Neutron, of which the OpenStack release follows.
        Neutron = "neutron",
        /// The DHCP server that the DHCP agent runs.
        Dnsmasq = "dnsmasq",
    }
);

words!(
    /// Which DHCP agent's service is active.
    DhcpAgent, "DHCP agent" {
        /// None is.
        None = "none",
        /// `neutron-dhcp-agent`.
        Neutron = "neutron",
        /// `calico-dhcp-agent`.
        Calico = "calico",
        /// Both are, which is wrong: two agents fight over the same dnsmasq processes.
        Both = "both",
    }
);

/// What an agent observed about its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The node, as its certificate names it.
    pub node: NodeId,
    /// When the agent looked.
    pub observed_at: Timestamp,
    /// The machine's host name.
    pub hostname: String,
    /// Kernel release, e.g. `6.1.0-18-amd64`.
    pub kernel: String,
    /// Changes at every boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// What it runs on.
    pub platform: Platform,
    /// What it is for, from what is installed and from what the agent's configuration adds.
    pub roles: BTreeSet<Role>,
    /// Installed versions, as the package database tells them, or the program itself where no package owns it.
    pub versions: BTreeMap<Component, String>,
    /// The OpenStack release that the installed Neutron belongs to.
    pub release: Option<Release>,
    /// Which DHCP agent is active.
    pub dhcp_agent: DhcpAgent,
    /// etcd on it, and how Calico's software on it reaches one; `None` where neither is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdFacts>,
    /// Version of the agent itself.
    pub agent_version: String,
}

impl Facts {
    /// Whether they say something of the node that `known` does not. When it was looked at and how far etcd's data has
    /// grown is nothing to write down: a node where nothing happens has no news.
    #[must_use]
    pub fn has_news(&self, known: &Self) -> bool {
        let settled = |facts: &Self| {
            let etcd = facts.etcd.clone().map(EtcdFacts::without_growth);
            Self { observed_at: Timestamp::default(), etcd, ..facts.clone() }
        };
        settled(self) != settled(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::{
        ClusterId, ClusterView, EtcdVersion, MemberId, MemberState, MemberStatus, MemberView, Part,
    };
    use crate::platform::{OsFamily, PackageManager, ServiceManager};

    fn facts(observed_at: u64, version: EtcdVersion, index: u64) -> Facts {
        let status = MemberStatus {
            version,
            term: 2,
            index,
            applied: Some(index),
            leader: Some(MemberId(1)),
            db_bytes: index * 100,
            healthy: true,
            errors: Vec::new(),
        };
        let member = MemberView {
            id: MemberId(1),
            name: "m1".to_owned(),
            peer_urls: Vec::new(),
            client_urls: Vec::new(),
            learner: false,
            state: MemberState::Up(status),
        };
        let view = ClusterView {
            id: ClusterId(1),
            version: Some(version),
            members: vec![member],
            alarms: Vec::new(),
            auth: Some(false),
            v2_keys: None,
            v3_keys: Some(index),
        };
        Facts {
            node: NodeId::new("n1").expect("a name"),
            observed_at: Timestamp(observed_at),
            hostname: "n1".to_owned(),
            kernel: "6.1".to_owned(),
            boot_id: "b".to_owned(),
            platform: Platform {
                family: OsFamily::Debian,
                id: "debian".to_owned(),
                version_id: "12".to_owned(),
                pretty_name: "Debian 12".to_owned(),
                package_manager: PackageManager::Apt,
                service_manager: ServiceManager::Systemd,
            },
            roles: BTreeSet::new(),
            versions: BTreeMap::new(),
            release: None,
            dhcp_agent: DhcpAgent::None,
            etcd: Some(EtcdFacts { cluster: Some(view), ..EtcdFacts::of(Part::Member) }),
            agent_version: "1".to_owned(),
        }
    }

    #[test]
    fn a_cluster_that_is_written_to_is_no_news() {
        let (old, new) = (EtcdVersion::new(3, 3, 25), EtcdVersion::new(3, 4, 23));
        let known = facts(1, old, 5000);
        assert!(!facts(2, old, 6000).has_news(&known));
        assert!(facts(2, new, 5000).has_news(&known));
        assert!(facts(2, old, 0).has_news(&known), "its keys are gone");
        assert!(Facts { hostname: "n2".to_owned(), ..facts(1, old, 5000) }.has_news(&known));
    }
}
