//! A fake compute node, its journal, and the compute task of the procedure that ships.

use std::collections::BTreeMap;
use std::path::Path;
use wavegate_agent::etcd::EtcdSettings;
use wavegate_agent::facts;
use wavegate_agent::host::fake::{
    ETCD_ARCHIVE_URL, FakeHost, FakeMachine, Faults, PYTHON_ETCD_ARCHIVE_URL, sha256,
};
use wavegate_agent::journal::{JournalFile, SharedJournal};
use wavegate_agent::os::Os;
use wavegate_agent::policy::PolicyFile;
use wavegate_common::action::{
    Action, EtcdBackUp, EtcdCheckCluster, EtcdCheckMember, EtcdInstallPackages, PackageSpec,
};
use wavegate_common::facts::Facts;
use wavegate_common::id::{Actor, Generation, NodeId, PlanId, RolloutId, StepId, Timestamp};
use wavegate_common::order::{PlannedStep, TaskKey, TaskOrder, Work};
use wavegate_common::plan::{Options, Plan, PlannedNode, compile};
use wavegate_common::platform::Stage;
use wavegate_common::policy::SHIPPED;
use wavegate_common::procedure::{Procedure, shipped};

pub const NODE: &str = "compute-1";

pub fn node() -> NodeId {
    NodeId::new(NODE).expect("a name")
}

pub fn key(attempt: u32) -> TaskKey {
    let (rollout, plan) = (RolloutId::new("r1").expect("an id"), PlanId::new("p1").expect("an id"));
    TaskKey { rollout, plan, stage: Stage::Compute, node: node(), attempt }
}

pub fn order(attempt: u32, generation: u64, steps: &[PlannedStep]) -> TaskOrder {
    TaskOrder {
        key: key(attempt),
        generation: Generation(generation),
        planned: None,
        steps: steps.to_vec().into(),
    }
}

/// The same for a node that a plan saw as this machine.
pub fn order_as_planned(
    attempt: u32,
    generation: u64,
    steps: &[PlannedStep],
    machine: &FakeMachine,
) -> TaskOrder {
    let Facts { roles, platform, release, versions, observed_at, .. } = observed(machine);
    let planned = PlannedNode { roles, platform, release, versions, etcd: None, observed_at };
    TaskOrder { planned: Some(planned), ..order(attempt, generation, steps) }
}

pub fn observed(machine: &FakeMachine) -> Facts {
    let mut machine = machine.clone();
    machine.faults = Faults::default();
    facts::observe(&FakeHost::new(machine), node(), &[].into(), &EtcdSettings::default()).expect("facts")
}

pub fn os(machine: &FakeMachine) -> Os {
    Os { platform: machine.platform.clone() }
}

/// The shipped policy, with what these suites order beside the shipped procedure.
pub fn policy(state: &Path) -> PolicyFile {
    let text = SHIPPED
        .replace(
            "archives = [",
            &format!("archives = [\"{PYTHON_ETCD_ARCHIVE_URL}\", \"{ETCD_ARCHIVE_URL}\","),
        )
        .replace("whole_distribution = false", "whole_distribution = true")
        .replace("disable = [", "disable = [\"nothing\", ");
    let path = state.join("policy.toml");
    std::fs::write(&path, text).expect("written");
    PolicyFile::new(path)
}

pub fn journal(state: &Path) -> SharedJournal {
    SharedJournal::new(JournalFile::open(state).expect("a journal").0)
}

/// The steps of the shipped procedure's compute stage for this machine.
pub fn compute_steps(machine: &FakeMachine) -> Vec<PlannedStep> {
    shipped_steps(machine, Stage::Compute, &[])
}

/// The steps of a stage of the shipped procedure for this machine, with settings as after `--set`.
pub fn shipped_steps(machine: &FakeMachine, stage: Stage, settings: &[&str]) -> Vec<PlannedStep> {
    let plan = shipped_plan(machine, settings);
    plan.stage(stage).expect("the stage").tasks[&node()].to_vec()
}

/// A plan of the shipped procedure for this machine.
pub fn shipped_plan(machine: &FakeMachine, settings: &[&str]) -> Plan {
    let (file, text) = shipped("calico-openstack").expect("it ships");
    let procedure = Procedure::parse(file, text).expect("it is right");
    let digest =
        |url: &str| machine.fetchable.get(url).map_or_else(|| "0".repeat(64), |content| sha256(content));
    let mut set = vec![
        format!("python_etcd_archive_url={PYTHON_ETCD_ARCHIVE_URL}"),
        format!("python_etcd_archive_sha256={}", digest(PYTHON_ETCD_ARCHIVE_URL)),
        "python_etcd_version=0.4.3".to_owned(),
        format!("etcd_archive_url={ETCD_ARCHIVE_URL}"),
        format!("etcd_archive_sha256={}", digest(ETCD_ARCHIVE_URL)),
    ];
    set.extend(settings.iter().map(|setting| (*setting).to_owned()));
    let values = procedure.values(None, &set).expect("values of the right types");
    let fleet = BTreeMap::from([(node(), observed(machine))]);
    let by = Actor("test".to_owned());
    let plan = compile(&procedure, &values, &fleet, &Options::default(), Timestamp(0), by).expect("a plan");
    assert_eq!(plan.problems, []);
    Plan::seal(plan).expect("JSON")
}

/// What is done to a member of etcd that comes in packages.
pub fn member_steps() -> Vec<PlannedStep> {
    let run = |id: &str, action: Action| PlannedStep {
        id: StepId::new(id).expect("a step id"),
        title: id.to_owned(),
        work: Work::Run { action, timeout_s: 900 },
    };
    let install = EtcdInstallPackages {
        packages: vec![PackageSpec { name: "etcd".to_owned(), version: None }],
        also: Vec::new(),
        allow_downgrades: false,
        unit: "etcd".to_owned(),
        within_s: 60,
        max_lag: 1000,
    };
    vec![
        run("check-cluster", Action::EtcdCheckCluster(EtcdCheckCluster { within_s: 60, max_lag: 1000 })),
        run(
            "back-up",
            Action::EtcdBackUp(EtcdBackUp { directory: "/var/lib/wavegate/etcd-backups".to_owned() }),
        ),
        run("install", Action::EtcdInstallPackages(install)),
        run(
            "check-member",
            Action::EtcdCheckMember(EtcdCheckMember { within_s: 300, settle_s: 20, max_lag: 1000 }),
        ),
    ]
}
