//! Which machines a simulated fleet has, what its site sets, and the plan as a coordinator without agents would compile it.

use super::chance::Chance;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;
use wavegate_agent::etcd::EtcdSettings;
use wavegate_agent::facts;
use wavegate_agent::host::fake::{ETCD_ARCHIVE_URL, FakeHost, FakeMachine, PYTHON_ETCD_ARCHIVE_URL, sha256};
use wavegate_agent::policy::PolicyFile;
use wavegate_common::id::{Actor, NodeId, Timestamp};
use wavegate_common::plan::{Options, Plan, compile};
use wavegate_common::platform::Stage;
use wavegate_common::policy::SHIPPED;
use wavegate_common::procedure::{Procedure, shipped};
use wavegate_common::waves::WaveOverride;

/// The procedure of every simulated rollout.
const PROCEDURE: &str = "calico-openstack";

/// A kind of machine.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// What it is called.
    pub name: &'static str,
    make: fn() -> FakeMachine,
}

impl Kind {
    /// A new machine of this kind.
    #[must_use]
    pub fn machine(&self) -> FakeMachine {
        (self.make)()
    }
}

const ETCD: [Kind; 3] = [
    Kind { name: "debian-etcd", make: FakeMachine::debian_etcd },
    Kind { name: "trusty-etcd", make: FakeMachine::trusty_etcd },
    Kind { name: "redhat-etcd", make: FakeMachine::redhat_etcd },
];
const COMPUTE: [Kind; 3] = [
    Kind { name: "debian-compute", make: FakeMachine::debian_compute },
    Kind { name: "redhat-compute", make: FakeMachine::redhat_compute },
    Kind { name: "trusty-compute", make: FakeMachine::trusty_compute },
];
const CONTROL: [Kind; 3] = [
    Kind { name: "debian-control", make: FakeMachine::debian_control },
    Kind { name: "redhat-control", make: FakeMachine::redhat_control },
    Kind { name: "trusty-control", make: FakeMachine::trusty_control },
];

/// A fleet of about so many nodes, at least four; most are compute nodes.
pub fn members(chance: &mut Chance, nodes: usize) -> Vec<(String, Kind)> {
    let etcd = if nodes < 100 { 1 + chance.below(3) } else { 5 };
    let control = if nodes < 100 { 1 + chance.below(3) } else { 7 };
    let compute = nodes.saturating_sub(etcd + control).max(2);
    let mut members = Vec::new();
    for (role, kinds, count) in
        [("etcd", &ETCD, etcd), ("compute", &COMPUTE, compute), ("control", &CONTROL, control)]
    {
        for index in 1..=count {
            members.push((format!("{role}-{index:03}"), kinds[chance.below(kinds.len())]));
        }
    }
    members
}

/// One machine of every kind.
#[must_use]
pub fn one_of_each() -> Vec<(String, Kind)> {
    let kinds = ETCD.iter().chain(&COMPUTE).chain(&CONTROL);
    kinds.map(|kind| (kind.name.to_owned(), *kind)).collect()
}

/// The site's policy, written below a directory: what ships, and where these machines get their archives.
///
/// # Errors
/// If it can't be written.
pub fn policy(directory: &Path) -> Result<PolicyFile> {
    let archives = format!("archives = [\"{PYTHON_ETCD_ARCHIVE_URL}\", \"{ETCD_ARCHIVE_URL}\",");
    let path = directory.join("policy.toml");
    std::fs::write(&path, SHIPPED.replace("archives = [", &archives)).context("writing the nodes' policy")?;
    Ok(PolicyFile::new(path))
}

/// The procedure's file name and text.
///
/// # Errors
/// If it does not ship.
pub fn procedure() -> Result<(&'static str, &'static str)> {
    shipped(PROCEDURE).context("the procedure does not ship")
}

/// What the site sets, as after `--set`.
#[must_use]
pub fn settings(hosts: &BTreeMap<NodeId, &FakeHost>) -> Vec<String> {
    let digest = |url: &str| {
        let served =
            hosts.values().find_map(|host| host.machine().fetchable.get(url).map(|served| sha256(served)));
        served.unwrap_or_else(|| "0".repeat(64))
    };
    vec![
        format!("python_etcd_archive_url={PYTHON_ETCD_ARCHIVE_URL}"),
        format!("python_etcd_archive_sha256={}", digest(PYTHON_ETCD_ARCHIVE_URL)),
        "python_etcd_version=0.4.3".to_owned(),
        format!("etcd_archive_url={ETCD_ARCHIVE_URL}"),
        format!("etcd_archive_sha256={}", digest(ETCD_ARCHIVE_URL)),
    ]
}

/// A plan without previews, from what the hosts say of themselves now.
///
/// # Errors
/// If there is none, or it has problems.
pub fn plan(
    hosts: &BTreeMap<NodeId, &FakeHost>,
    waves: BTreeMap<Stage, WaveOverride>,
    now: Timestamp,
    by: Actor,
) -> Result<Plan> {
    let (file, text) = procedure()?;
    let procedure = Procedure::parse(file, text)?;
    let values = procedure.values(None, &settings(hosts))?;
    let observe = |(node, host): (&NodeId, &&FakeHost)| {
        let facts = facts::observe(*host, node.clone(), &[].into(), &EtcdSettings::default());
        facts.map(|facts| (node.clone(), facts)).with_context(|| format!("observing {node}"))
    };
    let fleet = hosts.iter().map(observe).collect::<Result<BTreeMap<_, _>>>()?;
    let options = Options { waves, ..Options::default() };
    let body = compile(&procedure, &values, &fleet, &options, now, by)?;
    anyhow::ensure!(body.problems.is_empty(), "the plan has problems: {:?}", body.problems);
    Ok(Plan::seal(body)?)
}
