//! What a node is for, from what is installed and what runs.

use super::unobserved;
use crate::etcd::Here;
use crate::host::Host;
use crate::os::Os;
use crate::os::service::ServiceState;
use anyhow::Result;
use std::collections::BTreeSet;
use wavegate_common::facts::DhcpAgent;
use wavegate_common::platform::{OsFamily, Role};

/// The roles of the node, on which etcd runs so.
pub(super) fn roles(host: &dyn Host, os: &Os, etcd: &[Here]) -> Result<BTreeSet<Role>> {
    let mut roles: BTreeSet<Role> = etcd.iter().map(|here| here.part.role()).collect();
    let names = ["calico-felix", "calico-compute", "calico-control", "neutron-server"];
    let installed = os.versions(host, &names).map_err(|error| unobserved(&error))?;
    let any = |names: &[&str]| names.iter().any(|name| installed.contains_key(*name));
    if any(&["calico-felix", "calico-compute"]) {
        roles.insert(Role::Compute);
    }
    // On Red Hat's side one package brings the units of all of Neutron, so that the unit says nothing.
    let serves = match os.platform.family {
        OsFamily::Debian => any(&["neutron-server"]) || wanted(host, os, "neutron-server")? == Some(true),
        OsFamily::RedHat => false,
    };
    if serves || any(&["calico-control"]) {
        roles.insert(Role::Control);
    }
    Ok(roles)
}

/// Which DHCP agent is active.
pub(super) fn dhcp_agent(host: &dyn Host, os: &Os) -> Result<DhcpAgent> {
    let agents = os.services(host, &["neutron-dhcp-agent", "calico-dhcp-agent"]);
    let run: Vec<bool> =
        agents.map_err(|error| unobserved(&error))?.iter().map(ServiceState::is_active).collect();
    let runs = |at: usize| run.get(at) == Some(&true);
    Ok(match (runs(0), runs(1)) {
        (false, false) => DhcpAgent::None,
        (true, false) => DhcpAgent::Neutron,
        (false, true) => DhcpAgent::Calico,
        (true, true) => DhcpAgent::Both,
    })
}

/// Whether a service that is there is to run: whether nobody keeps it down. `None` if it is not there.
fn wanted(host: &dyn Host, os: &Os, unit: &str) -> Result<Option<bool>> {
    let state = os.service(host, unit).map_err(|error| unobserved(&error))?;
    Ok(state.installed.then(|| !state.is_kept_down()))
}
