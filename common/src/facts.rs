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
