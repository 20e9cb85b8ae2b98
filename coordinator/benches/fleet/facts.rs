//! What the machines of a fleet in a benchmark look like.

use std::collections::{BTreeMap, BTreeSet};
use wavegate_common::facts::{Component, DhcpAgent, Facts};
use wavegate_common::id::{NodeId, Timestamp};
use wavegate_common::platform::{OsFamily, PackageManager, Platform, Release, Role, ServiceManager};

/// A node whose name begins with `control` is one, any other a compute node; both on Ubuntu 14.04.
pub fn facts(node: &NodeId) -> Facts {
    let role = if node.as_str().starts_with("control") { Role::Control } else { Role::Compute };
    let felix = (Component::Felix, "1.4.5~trusty".to_owned());
    Facts {
        node: node.clone(),
        observed_at: Timestamp(1),
        hostname: node.to_string(),
        kernel: "3.13.0-170-generic".to_owned(),
        boot_id: "6f1c2a34-2f5b-4f0b-9b44-9a3a5f0d1c77".to_owned(),
        platform: Platform {
            family: OsFamily::Debian,
            id: "ubuntu".to_owned(),
            version_id: "14.04".to_owned(),
            pretty_name: "Ubuntu 14.04.6 LTS".to_owned(),
            package_manager: PackageManager::Apt,
            service_manager: ServiceManager::Upstart,
        },
        roles: BTreeSet::from([role]),
        versions: BTreeMap::from([felix, (Component::Neutron, "1:2015.1.4".to_owned())]),
        release: "kilo".parse::<Release>().ok(),
        dhcp_agent: DhcpAgent::Neutron,
        etcd: None,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}
