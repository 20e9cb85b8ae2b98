//! What a fleet consists of: its nodes, what each is for, its family and its address.

use serde::{Deserialize, Serialize};

/// Which package family a node belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// apt and dpkg.
    Apt,
    /// rpm, with dnf or yum.
    Rpm,
}

impl Family {
    /// The name the scripts under `tests/lab` use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Apt => "apt",
            Self::Rpm => "rpm",
        }
    }
}

/// What a node says it is, and what of it is a stand-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// Debian, with its systemd.
    // The aliases are what records of an earlier lab have, which is ended by its record.
    #[serde(alias = "apt")]
    Debian,
    /// Real rpm and dnf on a Debian base that says it is Rocky Linux 9, with systemd.
    #[serde(alias = "rpm")]
    Rocky9,
    /// The same, saying that it is CentOS 7: a stand-in for yum over the real rpm, and no dnf.
    Centos7,
    /// Real apt and dpkg on a Debian base that says it is Ubuntu 14.04: a stand-in for upstart, and no systemd.
    Trusty,
}

impl System {
    /// The name the scripts under `tests/lab` use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::Rocky9 => "rocky9",
            Self::Centos7 => "centos7",
            Self::Trusty => "trusty",
        }
    }

    /// Which packages it takes.
    pub fn family(self) -> Family {
        match self {
            Self::Debian | Self::Trusty => Family::Apt,
            Self::Rocky9 | Self::Centos7 => Family::Rpm,
        }
    }

    /// Whether its process 1 is the stand-in for upstart.
    pub fn has_upstart(self) -> bool {
        self == Self::Trusty
    }
}

impl From<Family> for System {
    fn from(family: Family) -> Self {
        match family {
            Family::Apt => Self::Debian,
            Family::Rpm => Self::Rocky9,
        }
    }
}

/// What a node is provisioned as. Every role starts with the old versions of what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Serves the package repositories; a coordinator's place.
    Deploy,
    /// A member of the etcd cluster.
    Etcd,
    /// Felix, the DHCP agent, dnsmasqs and a VM.
    Compute,
    /// neutron-server.
    Control,
    /// The base system with the repositories configured, and nothing else.
    Bare,
}

impl Role {
    /// The name the scripts under `tests/lab` use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Etcd => "etcd",
            Self::Compute => "compute",
            Self::Control => "control",
            Self::Bare => "bare",
        }
    }

    /// The first host number of the role's addresses.
    fn first_host(self) -> usize {
        match self {
            Self::Deploy => 10,
            Self::Etcd => 11,
            Self::Compute => 21,
            Self::Control => 101,
            Self::Bare => 151,
        }
    }
}

/// What of etcd is on a compute, in front of its Felix, which then asks localhost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Front {
    /// `etcd --proxy on`, as Calico's installation pages have it up to 2.6.
    Proxy,
    /// `etcd gateway start`.
    Gateway,
}

/// One node of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Host name, unique in the fleet.
    pub name: String,
    /// What it is provisioned as.
    pub role: Role,
    /// What it says it is.
    #[serde(alias = "family")]
    pub system: System,
    /// Its address in 10.71.0.0/24.
    pub address: String,
    /// Has networking-calico installed by pip too (computes).
    pub pip: bool,
    /// What of etcd its Felix asks (computes); none: the members.
    #[serde(default)]
    pub front: Option<Front>,
    /// How many megabytes it can write; none: as many as this machine has.
    #[serde(default)]
    pub disk_mb: Option<u32>,
}

/// The nodes of a fleet. Always has a `deploy-1`, which serves the repositories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetSpec {
    /// The fleet's name: letters, digits and dashes.
    pub name: String,
    /// Its nodes, in the order they were added.
    pub nodes: Vec<NodeSpec>,
}

impl FleetSpec {
    /// A fleet of `deploy-1` alone.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), nodes: Vec::new() }.with(Role::Deploy, Family::Apt)
    }

    /// The default fleet: 3 etcd members, 3 computes and 2 controls, of both families.
    pub fn standard(name: &str) -> Self {
        Self::new(name)
            .with(Role::Etcd, Family::Apt)
            .with(Role::Etcd, Family::Apt)
            .with(Role::Etcd, Family::Apt)
            .with_pip_compute(Family::Apt)
            .with(Role::Compute, Family::Apt)
            .with_pip_compute(Family::Rpm)
            .with(Role::Control, Family::Apt)
            .with(Role::Control, Family::Rpm)
    }

    /// Adds a node named after its role and counted from 1: `etcd-1`, `etcd-2`, ... A family alone stands for Debian
    /// or Rocky Linux 9.
    #[must_use]
    pub fn with(self, role: Role, system: impl Into<System>) -> Self {
        self.add(role, system.into())
    }

    /// Adds a compute that has networking-calico 1.0.0 from pip besides the packaged one.
    #[must_use]
    pub fn with_pip_compute(self, system: impl Into<System>) -> Self {
        self.with(Role::Compute, system).change_last(|node| node.pip = true)
    }

    /// Adds a Debian compute whose Felix asks an etcd proxy or gateway on it.
    #[must_use]
    pub fn with_fronted_compute(self, front: Front) -> Self {
        self.with(Role::Compute, System::Debian).change_last(|node| node.front = Some(front))
    }

    /// Gives the node that was added last a disk of its own that is full after so many megabytes.
    #[must_use]
    pub fn small_disk(self, megabytes: u32) -> Self {
        self.change_last(|node| node.disk_mb = Some(megabytes))
    }

    fn change_last(mut self, change: impl FnOnce(&mut NodeSpec)) -> Self {
        if let Some(node) = self.nodes.last_mut() {
            change(node);
        }
        self
    }

    fn add(mut self, role: Role, system: System) -> Self {
        let earlier = self.nodes.iter().filter(|node| node.role == role).count();
        self.nodes.push(NodeSpec {
            name: format!("{}-{}", role.word(), earlier + 1),
            role,
            system,
            address: format!("10.71.0.{}", role.first_host() + earlier),
            pip: false,
            front: None,
            disk_mb: None,
        });
        self
    }

    /// The nodes of a role.
    pub fn of_role(&self, role: Role) -> impl Iterator<Item = &NodeSpec> {
        self.nodes.iter().filter(move |node| node.role == role)
    }
}
