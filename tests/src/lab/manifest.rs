//! The versions the lab starts from and offers, and what deploy-1 serves.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

const FIXTURE_VERSIONS: &str = include_str!("../../lab/versions.env");

/// A version before and after the upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// What nodes start with.
    pub old: String,
    /// What the repository offers.
    pub new: String,
}

/// An archive deploy-1 serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Its address as nodes reach it.
    pub url: String,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
}

/// What is in the lab's repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// calico-common and calico-felix, without epoch and revision; Felix prints it for `--version`.
    pub calico: Versions,
    /// networking-calico, calico-compute, calico-control and calico-dhcp-agent; their packages have epoch 1.
    pub networking_calico: Versions,
    /// neutron-* and openstack-neutron.
    pub neutron: Versions,
    /// python-etcd.
    pub python_etcd: Versions,
    /// Debian's version of etcd-server and etcd-client.
    pub etcd: Versions,
    /// Debian's version of etcd one minor version later, which the repository does not offer until a test has it do so; none
    /// where the lab's suite is the newest it knows.
    pub etcd_next: Option<String>,
    /// Debian's version of dnsmasq-base.
    pub dnsmasq: Versions,
    /// version-release of the dnsmasq rpm.
    pub dnsmasq_rpm: Versions,
    /// A source archive of python-etcd, with a setup.py, in the new version.
    pub python_etcd_archive: Archive,
    /// etcd as its project releases it, `etcd-vX-linux-amd64/{etcd,etcdctl}`, in the new version.
    pub etcd_archive: Archive,
}

impl Manifest {
    /// Puts together `versions.env` and the `manifest.env` of built packages.
    pub(super) fn read(packages: &Path) -> Result<Self> {
        let built = packages.join("manifest.env");
        let built =
            std::fs::read_to_string(&built).with_context(|| format!("reading {}", built.display()))?;
        let all: BTreeMap<&str, &str> = FIXTURE_VERSIONS
            .lines()
            .chain(built.lines())
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .collect();
        let value = |key: &str| {
            all.get(key).map(|value| (*value).to_owned()).with_context(|| format!("no {key} in the manifest"))
        };
        let versions = |name: &str| {
            anyhow::Ok(Versions { old: value(&format!("{name}_OLD"))?, new: value(&format!("{name}_NEW"))? })
        };
        let archive = |name: &str| {
            let file = value(&format!("{name}_ARCHIVE"))?;
            anyhow::Ok(Archive {
                url: format!("http://deploy-1/archives/{file}"),
                sha256: value(&format!("{name}_SHA256"))?,
            })
        };
        Ok(Self {
            calico: versions("CALICO")?,
            networking_calico: versions("NC")?,
            neutron: versions("NEUTRON")?,
            python_etcd: versions("PYTHON_ETCD")?,
            etcd: versions("ETCD")?,
            etcd_next: value("ETCD_NEXT").ok(),
            dnsmasq: versions("DNSMASQ")?,
            dnsmasq_rpm: versions("DNSMASQ_RPM")?,
            python_etcd_archive: archive("PYTHON_ETCD")?,
            etcd_archive: archive("ETCD")?,
        })
    }
}
