//! The swarm's fleet, shaped as real ones are: three etcd members, a few control nodes, and compute nodes, all with the etcd
//! proxy that the installation pages of Calico 1.5 to 2.6 put on every node that is no member. What their repositories offer
//! they have already.

use super::medium::InMemory;
use crate::sim::fleet::{plan, policy};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;
use wavegate_agent::etcd::EtcdSettings;
use wavegate_agent::host::Host;
use wavegate_agent::host::fake::{FakeHost, FakeMachine, FakePackage, Place, join};
use wavegate_agent::journal::{JournalFile, SharedJournal, Store};
use wavegate_agent::os::Os;
use wavegate_agent::policy::PolicyFile;
use wavegate_agent::runner::{self, Machine};
use wavegate_common::id::{Actor, Generation, LeaderId, NodeId, RolloutId};
use wavegate_common::journal::Record;
use wavegate_common::order::{TaskKey, TaskOrder};
use wavegate_common::plan::{Plan, StagePlan};
use wavegate_common::rollout::TaskResult;

/// The version of etcd that they have and are offered: the last that serves version 2 of the API unasked.
const ETCD: &str = "3.3.27";
/// What a proxy is started with; the cluster behind it is the machine's seat.
const PROXY: [&str; 5] = ["/usr/bin/etcd", "--proxy", "on", "--data-dir", "/var/lib/etcd"];

/// How many nodes of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// etcd members.
    pub etcd: usize,
    /// Compute nodes.
    pub compute: usize,
    /// Control nodes.
    pub control: usize,
}

impl Shape {
    /// A fleet of so many nodes, at least five.
    #[must_use]
    pub fn of(nodes: usize) -> Self {
        let control = (nodes / 100).clamp(1, 20);
        Self { etcd: 3, compute: nodes.saturating_sub(3 + control).max(1), control }
    }

    /// All of them.
    #[must_use]
    pub const fn nodes(&self) -> usize {
        self.etcd + self.compute + self.control
    }
}

/// A fleet's machines, by node.
pub struct Fleet {
    /// What they look like, and which cluster they share.
    pub machines: BTreeMap<NodeId, FakeMachine>,
}

impl Fleet {
    /// A fleet that was upgraded by the shipped procedure: another upgrade finds nothing to do. `directory` is for the policy.
    ///
    /// # Errors
    /// If one machine of each kind can't be upgraded.
    pub fn up_to_date(shape: Shape, directory: &Path) -> Result<Self> {
        let Upgraded { etcd, compute, control } = Upgraded::by_the_runner(directory)?;
        let kinds = [
            ("etcd", shape.etcd, &etcd),
            ("compute", shape.compute, &compute),
            ("control", shape.control, &control),
        ];
        let mut made: Vec<(String, FakeMachine)> = Vec::new();
        for (kind, count, machine) in kinds {
            made.extend((1..=count).map(|number| {
                let mut machine = machine.clone();
                let name = format!("{kind}-{number:05}");
                machine.system.hostname.clone_from(&name);
                (name, machine)
            }));
        }
        join(made.iter_mut().map(|(name, machine)| (name.as_str(), machine)));
        let machines = made.into_iter().map(|(name, machine)| Ok((NodeId::new(name)?, machine)));
        Ok(Self { machines: machines.collect::<Result<_>>()? })
    }

    /// Its nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.machines.keys().cloned().collect()
    }
}

/// A machine of each kind, after an upgrade.
struct Upgraded {
    etcd: FakeMachine,
    compute: FakeMachine,
    control: FakeMachine,
}

impl Upgraded {
    /// Upgrades a small fleet, task after task, as its agents would.
    fn by_the_runner(directory: &Path) -> Result<Self> {
        let etcd = || FakeMachine::debian_etcd_of(ETCD, ETCD);
        let mut made = [
            ("etcd-1", etcd()),
            ("etcd-2", etcd()),
            ("etcd-3", etcd()),
            ("compute-1", behind_a_proxy(FakeMachine::debian_compute())?),
            ("control-1", behind_a_proxy(FakeMachine::debian_control())?),
        ];
        join(made.iter_mut().map(|(name, machine)| (*name, machine)));
        let hosts = made.into_iter().map(|(name, machine)| Ok((NodeId::new(name)?, FakeHost::new(machine))));
        let hosts = hosts.collect::<Result<BTreeMap<_, _>>>()?;
        let now = hosts.values().map(|host| host.machine().now).max().unwrap_or_default();
        let seen = hosts.iter().map(|(node, host)| (node.clone(), host)).collect();
        let plan = plan(&seen, BTreeMap::new(), now, Actor("swarm".to_owned()))?;
        let policy = policy(directory)?;
        for stage in &plan.body.stages {
            for node in stage.waves.iter().flatten() {
                let host = hosts.get(node).with_context(|| format!("{node} is not in the fleet"))?;
                run(&plan, stage, node, host, &policy)?;
            }
        }
        let machine = |name: &str| -> Result<FakeMachine> {
            let host = hosts.get(&NodeId::new(name)?).with_context(|| format!("there is no {name}"))?;
            let mut machine = host.machine().clone();
            machine.history.clear();
            Ok(machine)
        };
        Ok(Self { etcd: machine("etcd-1")?, compute: machine("compute-1")?, control: machine("control-1")? })
    }
}

/// Runs a node's task of a stage to its end.
fn run(plan: &Plan, stage: &StagePlan, node: &NodeId, host: &FakeHost, policy: &PolicyFile) -> Result<()> {
    let (journal, _) = JournalFile::open_on(Box::new(InMemory::default()))?;
    let journal = SharedJournal::new(journal);
    let generation = Generation(1);
    journal.append(&Record::Generation { generation, leader: Some(LeaderId::new(1)) })?;
    let (rollout, plan_id) = (RolloutId::new("r1")?, plan.id.clone());
    let key = TaskKey { rollout, plan: plan_id, stage: stage.stage, node: node.clone(), attempt: 1 };
    let steps = stage.tasks.get(node).cloned().unwrap_or_default();
    // The plan was made before any of them was upgraded.
    journal.take(&TaskOrder { key: key.clone(), generation, planned: None, steps }, host.now())?;
    let (os, roles, etcd) =
        (Os { platform: host.machine().platform.clone() }, [].into(), EtcdSettings::default());
    let machine = Machine { host, os: &os, policy, extra_roles: &roles, etcd: &etcd };
    runner::advance(&journal, machine, &mut |_| {})?;
    let task =
        journal.read(|journal| journal.task(&key).cloned()).context("the task is not in the journal")?;
    ensure!(
        task.result == Some(TaskResult::Finished),
        "stage {} of {node}: {:?}",
        stage.stage,
        task.steps.last()
    );
    Ok(())
}

/// A machine with etcd as a proxy beside what it has.
fn behind_a_proxy(mut machine: FakeMachine) -> Result<FakeMachine> {
    let member = FakeMachine::debian_etcd_of(ETCD, ETCD);
    let mut etcd: FakePackage = member.available.get("etcd").context("no etcd is offered")?.clone();
    for unit in &mut etcd.units {
        unit.service.argv = PROXY.map(str::to_owned).to_vec();
    }
    let mut offered = machine.available.clone();
    offered.insert("etcd".to_owned(), etcd.clone());
    let offered: Vec<(&str, FakePackage)> =
        offered.iter().map(|(name, package)| (name.as_str(), package.clone())).collect();
    machine.put_file("/etc/default/etcd", "ETCD_PROXY=on\nETCD_DATA_DIR=/var/lib/etcd\n");
    machine.provision(&[("etcd", etcd)], &offered);
    machine.etcd = member.etcd;
    let seat = machine.etcd.as_mut().context("an etcd member has no seat")?;
    seat.place = Place::Proxy;
    Ok(machine)
}
