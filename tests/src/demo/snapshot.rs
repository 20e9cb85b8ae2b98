//! What is to be seen of a host: packages, the service's process, dnsmasqs, the DHCP agent, lock_path.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use crate::deploy::Wavegate;
use crate::lab::{Dnsmasq, Node, Role};

/// A host at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What it is for.
    pub role: Role,
    /// Installed packages that the procedure is about.
    pub packages: BTreeMap<String, String>,
    /// The stage's service and its main process.
    pub service: (&'static str, Option<i32>),
    /// Whether the service is active.
    pub active: bool,
    /// Every dnsmasq, by pid.
    pub dnsmasqs: Vec<Dnsmasq>,
    /// Active DHCP agents.
    pub dhcp_agents: Vec<&'static str>,
    /// The line of neutron.conf that sets lock_path, if one does.
    pub lock_path: Option<String>,
}

const PACKAGES: &[&str] = &[
    "etcd-server",
    "calico-felix",
    "calico-compute",
    "calico-control",
    "calico-dhcp-agent",
    "networking-calico",
    "dnsmasq-base",
    "dnsmasq",
    "openstack-neutron",
];

impl Snapshot {
    /// A host now.
    ///
    /// # Errors
    ///
    /// When it is off.
    pub fn of(node: &Node) -> Result<Self> {
        let service = match node.role() {
            Role::Etcd => "etcd",
            Role::Compute => "calico-felix",
            Role::Control => "neutron-server",
            Role::Deploy | Role::Bare => "wavegate-coordinator",
        };
        let unit = node.unit(service)?;
        let mut dhcp_agents = Vec::new();
        for agent in ["neutron-dhcp-agent", "calico-dhcp-agent"] {
            if node.unit(agent)?.active == "active" {
                dhcp_agents.push(agent);
            }
        }
        let mut packages = node.packages()?;
        packages.retain(|name, _| PACKAGES.contains(&name.as_str()));
        let configuration = match node.role() {
            Role::Compute => node.read_file("/etc/neutron/neutron.conf")?,
            Role::Etcd | Role::Control | Role::Deploy | Role::Bare => String::new(),
        };
        Ok(Self {
            role: node.role(),
            packages,
            service: (service, unit.main_pid),
            active: unit.active == "active",
            dnsmasqs: node.dnsmasqs()?,
            dhcp_agents,
            lock_path: configuration.lines().find(|line| line.starts_with("lock_path")).map(str::to_owned),
        })
    }

    /// Every managed host now, by name.
    ///
    /// # Errors
    ///
    /// When one is off.
    pub fn of_all(wavegate: &Wavegate<'_>) -> Result<BTreeMap<String, Self>> {
        wavegate.managed().map(|node| Ok((node.name().to_owned(), Self::of(node)?))).collect()
    }

    /// Neutron's dnsmasqs.
    pub fn neutron_dnsmasqs(&self) -> impl Iterator<Item = &Dnsmasq> {
        self.dnsmasqs.iter().filter(|dnsmasq| dnsmasq.neutron)
    }

    /// The dnsmasqs that are not Neutron's, by pid and start time.
    pub fn strangers(&self) -> Vec<(i32, u64)> {
        let others = self.dnsmasqs.iter().filter(|dnsmasq| !dnsmasq.neutron);
        others.map(|dnsmasq| (dnsmasq.pid, dnsmasq.starttime)).collect()
    }
}

/// Checks on the hosts themselves that each stage's software is new and runs, and that strangers were left alone.
///
/// # Errors
///
/// Names the host and what is not so.
pub fn must_be_upgraded(
    wavegate: &Wavegate<'_>,
    before: &BTreeMap<String, Snapshot>,
    after: &BTreeMap<String, Snapshot>,
) -> Result<()> {
    for node in wavegate.managed() {
        host_must_be_upgraded(node.name(), &before[node.name()], &after[node.name()])?;
    }
    Ok(())
}

fn host_must_be_upgraded(name: &str, old: &Snapshot, new: &Snapshot) -> Result<()> {
    if !new.active || new.service.1 == old.service.1 {
        bail!("{name}: {} has no new process: {:?} -> {:?}", new.service.0, old.service.1, new.service.1);
    }
    // etcd from a release archive is in no package.
    if !new.packages.is_empty() && new.packages.iter().all(|(name, now)| old.packages.get(name) == Some(now))
    {
        bail!("{name}: no package changed: {:?}", new.packages);
    }
    if new.role == Role::Compute {
        compute_must_be_upgraded(name, old, new)?;
    }
    Ok(())
}

fn compute_must_be_upgraded(name: &str, old: &Snapshot, new: &Snapshot) -> Result<()> {
    if new.dhcp_agents != ["calico-dhcp-agent"] {
        bail!("{name}: active DHCP agents: {:?}", new.dhcp_agents);
    }
    if let Some(stale) = new.neutron_dnsmasqs().find(|dnsmasq| !dnsmasq.exe_is_file_on_disk) {
        bail!("{name}: dnsmasq {} still runs a replaced file", stale.pid);
    }
    if new.neutron_dnsmasqs().count() != old.neutron_dnsmasqs().count() || new.neutron_dnsmasqs().count() == 0
    {
        bail!("{name}: Neutron's dnsmasqs: {:?} -> {:?}", old.dnsmasqs, new.dnsmasqs);
    }
    let survivors = |dnsmasq: &&Dnsmasq| {
        old.dnsmasqs.iter().any(|o| (o.pid, o.starttime) == (dnsmasq.pid, dnsmasq.starttime))
    };
    if let Some(survivor) = new.neutron_dnsmasqs().find(survivors) {
        bail!("{name}: dnsmasq {} is the old agent's", survivor.pid);
    }
    if old.strangers() != new.strangers() || new.strangers().is_empty() {
        bail!(
            "{name}: a dnsmasq that is not Neutron's was touched: {:?} -> {:?}",
            old.dnsmasqs,
            new.dnsmasqs
        );
    }
    Ok(())
}
