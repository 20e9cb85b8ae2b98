//! The documents that golden texts are made of: a small mixed fleet, its plan, and rollouts of it in several states.

use super::Look;
use crate::status::plan::{Approvals, PlanView};
use crate::status::view::{Detail, NodeStatus, RolloutStatus, TaskStatus, rollout_status};
use crate::store::InventoryRecord;
use jiff::tz::TimeZone;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use wavegate_common::action::{
    Action, HttpCheck, PackageInstall, Scope, ServiceDisable, ServiceRestart, VersionCheck,
};
use wavegate_common::etcd::{
    ClusterId, ClusterView, EtcdFacts, EtcdVersion, MemberId, MemberState, MemberStatus, MemberView, Part,
};
use wavegate_common::facts::{Component, DhcpAgent};
use wavegate_common::id::{Actor, Generation, NodeId, PlanId, RolloutId, StepId, Timestamp};
use wavegate_common::inventory::Inventory;
use wavegate_common::order::{PlannedStep, Work};
use wavegate_common::outcome::{Change, Outcome, Preview, StepError};
use wavegate_common::plan::{
    FORMAT, Limits, Plan, PlanBody, PlannedNode, Problem, StagePlan, StepPreview, Warning,
};
use wavegate_common::platform::{OsFamily, PackageManager, Platform, Role, ServiceManager, Stage};
use wavegate_common::procedure::Value;
use wavegate_common::rollout::{
    Entry, Event, Link, Mode, Observed, PauseReason, Rollout, TaskRef, TaskResult,
};

/// 2026-11-22T12:00:00Z.
const NOON: u64 = 1_795_348_800_000;

pub fn at(seconds: u64) -> Timestamp {
    Timestamp(NOON + seconds * 1000)
}

pub fn look() -> Look {
    Look { colour: false, width: 100, zone: TimeZone::UTC }
}

pub fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a node name")
}

fn id(name: &str) -> StepId {
    StepId::new(name).expect("a step id")
}

fn step(name: &str, title: &str, action: Action) -> PlannedStep {
    PlannedStep { id: id(name), title: title.to_owned(), work: Work::Run { action, timeout_s: 600 } }
}

fn install(packages: &[&str]) -> Action {
    let packages = packages.iter().map(|name| (*name).to_owned().try_into().expect("a package")).collect();
    Action::PackageInstall(PackageInstall {
        packages,
        if_installed: Vec::new(),
        scope: Scope::Named,
        allow_removals: false,
        ..PackageInstall::default()
    })
}

fn restart(unit: &str) -> Action {
    let (newer_than_packages, newer_than_steps) = (Vec::new(), Vec::new());
    Action::ServiceRestart(ServiceRestart {
        unit: unit.to_owned(),
        newer_than_packages,
        newer_than_steps,
        enable: false,
    })
}

fn etcd_steps() -> Vec<PlannedStep> {
    let health =
        HttpCheck { url: "http://127.0.0.1:2379/health".into(), contains: "true".into(), within_s: 60 };
    vec![
        step("install-etcd", "Install etcd", install(&["etcd"])),
        step("etcd-is-healthy", "etcd answers and is healthy", Action::HttpCheck(health)),
    ]
}

fn compute_steps() -> Vec<PlannedStep> {
    let felix = VersionCheck { component: Component::Felix, package: "calico-felix".into() };
    let skipped = Work::Skip { reason: "the node's OpenStack release kilo is before liberty".into() };
    vec![
        step(
            "install-packages",
            "Install Calico's compute packages",
            install(&["calico-compute", "calico-felix"]),
        ),
        step("restart-felix", "Restart Felix", restart("calico-felix")),
        step(
            "neutron-dhcp-agent-stays-down",
            "Stop Neutron's DHCP agent and keep it down",
            Action::ServiceDisable(ServiceDisable { unit: "neutron-dhcp-agent".into() }),
        ),
        PlannedStep {
            id: id("install-dhcp-agent"),
            title: "Install Calico's DHCP agent".into(),
            work: skipped,
        },
        step("felix-is-new", "Felix reports the installed version", Action::VersionCheck(felix)),
    ]
}

fn package(name: &str, from: Option<&str>, to: &str) -> Change {
    Change::Package { name: name.to_owned(), from: from.map(str::to_owned), to: Some(to.to_owned()) }
}

fn preview(step: &str, preview: Preview) -> StepPreview {
    StepPreview { step: id(step), preview }
}

fn would(step: &str, changes: Vec<Change>) -> StepPreview {
    preview(step, Preview::WouldChange { changes })
}

fn so(step: &str, evidence: &str) -> StepPreview {
    preview(step, Preview::AlreadySo { evidence: evidence.to_owned() })
}

fn compute_previews() -> Vec<StepPreview> {
    let packages = vec![
        package("calico-felix", Some("1.4.5~trusty"), "1.4.6~trusty"),
        package("calico-common", None, "1.4.6~trusty"),
    ];
    let restarted = Change::Service { unit: "calico-felix".into(), what: "restarted".into() };
    vec![
        would("install-packages", packages),
        would("restart-felix", vec![restarted]),
        so("neutron-dhcp-agent-stays-down", "neutron-dhcp-agent is not installed"),
        preview("felix-is-new", Preview::WouldCheck),
    ]
}

fn platform(family: OsFamily) -> Platform {
    let (distribution, version, package_manager, service_manager) = match family {
        OsFamily::Debian => ("ubuntu", "14.04", PackageManager::Apt, ServiceManager::Upstart),
        OsFamily::RedHat => ("centos", "7", PackageManager::Yum, ServiceManager::Systemd),
    };
    Platform {
        family,
        id: distribution.to_owned(),
        version_id: version.to_owned(),
        pretty_name: format!("{distribution} {version}"),
        package_manager,
        service_manager,
    }
}

const FLEET: &[(&str, OsFamily, &[Role])] = &[
    ("compute-1", OsFamily::Debian, &[Role::EtcdProxy, Role::Compute]),
    ("compute-2", OsFamily::RedHat, &[Role::Compute]),
    ("compute-3", OsFamily::RedHat, &[Role::Compute]),
    ("control-1", OsFamily::Debian, &[Role::Control]),
    ("deploy-1", OsFamily::Debian, &[]),
    ("etcd-1", OsFamily::Debian, &[Role::EtcdMember]),
];

fn planned_nodes() -> BTreeMap<NodeId, PlannedNode> {
    let planned = |roles: &[Role], family| PlannedNode {
        versions: BTreeMap::new(),
        roles: roles.iter().copied().collect(),
        platform: platform(family),
        release: (!roles.is_empty()).then(|| "kilo".parse().expect("a release")),
        etcd: None,
        observed_at: at(0),
    };
    FLEET.iter().map(|(name, family, roles)| (node(name), planned(roles, *family))).collect()
}

fn stage(stage: Stage, limits: (u32, u32, u32), waves: &[&[&str]], steps: &[PlannedStep]) -> StagePlan {
    let waves: Vec<Vec<NodeId>> =
        waves.iter().map(|wave| wave.iter().map(|name| node(name)).collect()).collect();
    let (canary, max_unavailable, errors_allowed) = limits;
    StagePlan {
        stage,
        limits: Limits { canary, max_unavailable, errors_allowed, soak_s: 0, start: Mode::Auto },
        groups: BTreeMap::new(),
        tasks: waves.iter().flatten().map(|node| (node.clone(), steps.to_vec().into())).collect(),
        waves,
    }
}

fn previews() -> BTreeMap<Stage, BTreeMap<NodeId, Vec<StepPreview>>> {
    let etcd = vec![
        would("install-etcd", vec![package("etcd", Some("2.3.7"), "2.3.8")]),
        preview("etcd-is-healthy", Preview::WouldCheck),
    ];
    let unchanged =
        vec![so("install-etcd", "etcd 2.3.8 is installed"), preview("etcd-is-healthy", Preview::WouldCheck)];
    let control = vec![
        would("install-packages", vec![package("calico-control", Some("1.4.5~trusty"), "1.4.6~trusty")]),
        so("restart-neutron", "neutron-server is newer than its packages"),
    ];
    BTreeMap::from([
        (Stage::Etcd, BTreeMap::from([(node("etcd-1"), etcd), (node("compute-1"), unchanged)])),
        (
            Stage::Compute,
            ["compute-1", "compute-2", "compute-3"].map(|n| (node(n), compute_previews())).into(),
        ),
        (Stage::Control, BTreeMap::from([(node("control-1"), control)])),
    ])
}

/// A plan that can be started.
pub fn plan() -> Plan {
    let control = [
        step("install-packages", "Install Calico's control packages", install(&["calico-control"])),
        step("restart-neutron", "Restart neutron-server", restart("neutron-server")),
    ];
    let body = PlanBody {
        format: FORMAT,
        procedure: "calico-openstack".into(),
        procedure_version: "1".into(),
        procedure_digest: "0".repeat(64),
        parameters: BTreeMap::from([
            ("dist_upgrade".into(), Value::Flag(false)),
            ("etcd_packages".into(), Value::List(vec!["etcd=2.3.8".into()])),
        ]),
        created_at: at(0),
        created_by: Actor("alice".into()),
        nodes: planned_nodes(),
        stages: vec![
            stage(Stage::Etcd, (1, 1, 0), &[&["etcd-1"], &["compute-1"]], &etcd_steps()),
            stage(
                Stage::Compute,
                (1, 2, 0),
                &[&["compute-1"], &["compute-2", "compute-3"]],
                &compute_steps(),
            ),
            stage(Stage::Control, (1, 1, 0), &[&["control-1"]], &control),
        ],
        previews: previews(),
        problems: Vec::new(),
        warnings: Vec::new(),
        version_differences: Vec::new(),
        undeclared: BTreeSet::new(),
    };
    let mut plan = Plan::seal(body).expect("a plan");
    plan.id = PlanId::new("0a1b2c3d4e5f").expect("a plan id");
    plan
}

/// [`plan`] with nobody's approval, where none is asked for.
pub fn plan_view() -> PlanView {
    PlanView { plan: plan(), approval: Approvals::default() }
}

/// Warnings of a plan, two of one kind among them.
pub fn warnings() -> Vec<Warning> {
    let in_memory = |name: &str| Warning {
        id: "etcd-data-in-memory".into(),
        node: Some(node(name)),
        stage: Some(Stage::Etcd),
        what: format!("etcd's data on {name} are in memory: a reboot loses them"),
        next: "keep a backup on another host".into(),
    };
    let no_spare = Warning {
        id: "etcd-no-spare-member".into(),
        node: None,
        stage: Some(Stage::Etcd),
        what: "the etcd cluster has two members and needs both: each time one restarts, etcd answers nobody"
            .into(),
        next: "do it in a window".into(),
    };
    vec![no_spare, in_memory("etcd-1"), in_memory("etcd-2")]
}

/// A plan that can't be started.
pub fn plan_with_problems() -> Plan {
    let mut plan = plan();
    plan.body.problems = vec![
        Problem {
            node: Some(node("compute-2")),
            stage: Some(Stage::Compute),
            step: Some(id("install-packages")),
            error: StepError {
                what: "yum cannot find calico-compute".into(),
                output: vec!["No package calico-compute available.".into()],
                next: "add the repository that has it (yum repolist), then plan again".into(),
            },
        },
        Problem {
            node: None,
            stage: None,
            step: None,
            error: StepError {
                what: "control-2 is offline".into(),
                output: Vec::new(),
                next: "start its agent, or remove it from the fleet".into(),
            },
        },
    ];
    plan
}

/// A rollout of [`plan`] while it is played.
pub struct Play {
    rollout: Rollout,
    pub log: Vec<Entry>,
    links: BTreeMap<NodeId, Link>,
    working_on: BTreeMap<NodeId, StepId>,
}

impl Play {
    pub fn new() -> Self {
        let rollout = Rollout::new(RolloutId::new("r-20261122-1").expect("a rollout id"), Arc::new(plan()));
        let links = FLEET.iter().map(|(name, ..)| (node(name), Link::Online { since: at(0) })).collect();
        Self { rollout, log: Vec::new(), links, working_on: BTreeMap::new() }
    }

    pub fn event(&mut self, seconds: u64, event: Event) {
        let entry =
            Entry { seq: self.log.len() as u64 + 1, at: at(seconds), generation: Generation(3), event };
        self.rollout.apply(&entry).expect("a legal event");
        self.log.push(entry);
    }

    pub fn start(mut self, seconds: u64) -> Self {
        self.event(
            seconds,
            Event::Started {
                mode: Mode::Auto,
                by: Actor("alice".into()),
                approved_by: vec![],
                acknowledged: vec![],
            },
        );
        self
    }

    /// A task that begins and has these steps behind it.
    pub fn work(&mut self, seconds: u64, stage: Stage, name: &str, steps: &[(&str, Outcome)]) {
        let task = TaskRef { stage, node: node(name), attempt: 1 };
        self.event(seconds, Event::TaskStarted { task: task.clone() });
        self.event(seconds, Event::TaskAccepted { task: task.clone() });
        for (nth, (step, outcome)) in steps.iter().enumerate() {
            let ended = seconds + 5 * (nth as u64 + 1);
            let (task, step, outcome) = (task.clone(), id(step), outcome.clone());
            self.event(ended, Event::StepEnded { task, step, ended_at: at(ended), outcome });
        }
    }

    pub fn end(&mut self, seconds: u64, stage: Stage, name: &str, result: TaskResult) {
        self.event(
            seconds,
            Event::TaskEnded { task: TaskRef { stage, node: node(name), attempt: 1 }, result },
        );
    }

    /// A node that alice waives for so many seconds.
    pub fn waive(&mut self, seconds: u64, name: &str, reason: &str, for_s: u64) {
        let (reason, until, by) = (reason.to_owned(), at(seconds + for_s), Actor("alice".into()));
        self.event(seconds, Event::NodeWaived { node: node(name), reason, until, by });
    }

    pub fn end_waiver(&mut self, seconds: u64, name: &str, by: Option<&str>) {
        let by = by.map(|by| Actor(by.to_owned()));
        self.event(seconds, Event::WaiverEnded { node: node(name), by });
    }

    pub fn working_on(&mut self, name: &str, step: &str) {
        self.working_on.insert(node(name), id(step));
    }

    pub fn offline(&mut self, seconds: u64, name: &str) {
        self.links.insert(node(name), Link::Offline { since: at(seconds) });
    }

    pub fn status(&self, seconds: u64) -> RolloutStatus {
        let observed = Observed { now: at(seconds), links: &self.links, lost_after_ms: 60_000 };
        rollout_status(&self.rollout, observed, Generation(3), &self.working_on, Detail::Full)
    }
}

/// The same rollout with so many more nodes in stage compute, each like one of those that it has.
pub fn with_more(mut status: RolloutStatus, nodes: usize) -> RolloutStatus {
    for stage in status.stages.iter_mut().filter(|stage| stage.stage == Stage::Compute) {
        let like = stage.tasks.clone();
        for (number, task) in (100..100 + nodes).zip(like.iter().cycle()) {
            stage.tasks.push(TaskStatus { node: node(&format!("compute-{number}")), ..task.clone() });
            *stage.counts.part(task.state) += 1;
        }
    }
    status
}

fn unchanged() -> Outcome {
    Outcome::AlreadySo { evidence: "it is so".into() }
}

fn changed(changes: Vec<Change>) -> Outcome {
    Outcome::Changed { changes, evidence: "verified".into() }
}

fn skipped() -> Outcome {
    Outcome::Skipped { reason: "the node's OpenStack release kilo is before liberty".into() }
}

/// etcd is done, compute-1 is done.
fn play_to_second_wave() -> Play {
    let mut play = Play::new().start(10);
    let etcd = changed(vec![package("etcd", Some("2.3.7"), "2.3.8")]);
    play.work(10, Stage::Etcd, "etcd-1", &[("install-etcd", etcd), ("etcd-is-healthy", unchanged())]);
    play.end(22, Stage::Etcd, "etcd-1", TaskResult::Finished);
    play.work(
        23,
        Stage::Etcd,
        "compute-1",
        &[("install-etcd", unchanged()), ("etcd-is-healthy", unchanged())],
    );
    play.end(35, Stage::Etcd, "compute-1", TaskResult::Finished);
    play
}

fn compute_outcomes() -> [(&'static str, Outcome); 5] {
    let felix =
        Change::Service { unit: "calico-felix".into(), what: "restarted, process 812 -> 2044".into() };
    let packages = changed(vec![
        package("calico-felix", Some("1.4.5~trusty"), "1.4.6~trusty"),
        package("calico-common", None, "1.4.6~trusty"),
    ]);
    [
        ("install-packages", packages),
        ("restart-felix", changed(vec![felix])),
        ("neutron-dhcp-agent-stays-down", unchanged()),
        ("install-dhcp-agent", skipped()),
        ("felix-is-new", unchanged()),
    ]
}

/// Wave 2 of stage compute is worked on; compute-3 went offline in it.
pub fn running() -> Play {
    let mut play = play_to_second_wave();
    let outcomes = compute_outcomes();
    play.work(40, Stage::Compute, "compute-1", &outcomes);
    play.end(70, Stage::Compute, "compute-1", TaskResult::Finished);
    play.work(71, Stage::Compute, "compute-2", &outcomes[..1]);
    play.working_on("compute-2", "restart-felix");
    play.work(77, Stage::Compute, "compute-3", &[]);
    play.working_on("compute-3", "install-packages");
    play.offline(80, "compute-3");
    play
}

/// The canary of stage compute failed.
pub fn halted() -> Play {
    let mut play = play_to_second_wave();
    let error = StepError {
        what: "apt-get ended with code 100: calico-felix depends on python-etcd (>= 0.4.3)".into(),
        output: vec!["E: Unmet dependencies. Try using -f.".into()],
        next: "add the repository that has python-etcd 0.4.3, then retry".into(),
    };
    play.work(40, Stage::Compute, "compute-1", &[("install-packages", Outcome::Failed { error })]);
    play.end(46, Stage::Compute, "compute-1", TaskResult::Failed);
    let reason = PauseReason::ErrorThreshold { stage: Stage::Compute, failed: 1, allowed: 0 };
    play.event(46, Event::Paused { reason });
    play
}

/// The canary of stage compute failed, and is waived for eight hours.
pub fn waived() -> Play {
    let mut play = halted();
    play.waive(60, "compute-1", "the disk is being replaced", 8 * 3600);
    play
}

/// Every node was as it should be.
pub fn finished_unchanged() -> Play {
    let mut play = Play::new().start(10);
    let mut seconds = 10;
    for stage in plan().body.stages {
        for name in stage.waves.iter().flatten() {
            let skips = |step: &PlannedStep| matches!(step.work, Work::Skip { .. });
            let outcome = |step: &PlannedStep| if skips(step) { skipped() } else { unchanged() };
            let outcomes: Vec<_> = stage.tasks[name].iter().map(|s| (s.id.as_str(), outcome(s))).collect();
            play.work(seconds, stage.stage, name.as_str(), &outcomes);
            seconds += 30;
            play.end(seconds, stage.stage, name.as_str(), TaskResult::Finished);
        }
    }
    play.event(seconds, Event::Finished);
    play
}

/// Everything went well; some was already so.
pub fn finished() -> Play {
    let mut play = play_to_second_wave();
    let outcomes = compute_outcomes();
    for (seconds, name) in [(40, "compute-1"), (71, "compute-2"), (101, "compute-3")] {
        play.work(seconds, Stage::Compute, name, &outcomes);
        play.end(seconds + 30, Stage::Compute, name, TaskResult::Finished);
    }
    let control = package("calico-control", Some("1.4.5~trusty"), "1.4.6~trusty");
    let control = [("install-packages", changed(vec![control])), ("restart-neutron", unchanged())];
    play.work(140, Stage::Control, "control-1", &control);
    play.end(160, Stage::Control, "control-1", TaskResult::Finished);
    play.event(160, Event::Finished);
    play
}

/// A member of a cluster of one, its data in memory.
fn only_member() -> EtcdFacts {
    let (id, version) = (MemberId(0x8e9e), EtcdVersion::new(2, 3, 8));
    let status = MemberStatus {
        version,
        term: 2,
        index: 5000,
        applied: None,
        leader: Some(id),
        db_bytes: 0,
        healthy: true,
        errors: Vec::new(),
    };
    let member = MemberView {
        id,
        name: "etcd-1".into(),
        peer_urls: vec!["http://10.0.0.1:2380".into()],
        client_urls: vec!["http://10.0.0.1:2379".into()],
        learner: false,
        state: MemberState::Up(status),
    };
    let cluster = ClusterView {
        id: ClusterId(0xcdf8),
        version: Some(EtcdVersion::new(2, 3, 0)),
        members: vec![member],
        alarms: Vec::new(),
        auth: Some(false),
        v2_keys: Some(true),
        v3_keys: None,
    };
    EtcdFacts {
        version: Some(version),
        cluster_id: Some(cluster.id),
        member: Some(id),
        data_dir: Some("/var/lib/etcd".into()),
        data_filesystem: Some("tmpfs".into()),
        cluster: Some(cluster),
        ..EtcdFacts::of(Part::Member)
    }
}

/// The fleet as `wavegate nodes` shows it.
pub fn nodes() -> Vec<NodeStatus<'static>> {
    let known = |(name, family, roles): &(&str, OsFamily, &[Role])| NodeStatus {
        node: node(name),
        link: if *name == "compute-3" {
            Link::Offline { since: at(80) }
        } else {
            Link::Online { since: at(0) }
        },
        roles: Cow::Owned(roles.iter().copied().collect()),
        platform: Some(Cow::Owned(platform(*family))),
        versions: Cow::Owned(if roles.contains(&Role::Compute) {
            let versions = [(Component::Felix, "1.4.5~trusty"), (Component::Dnsmasq, "2.68-1ubuntu0.1")];
            versions.map(|(component, version)| (component, version.to_owned())).into()
        } else {
            BTreeMap::new()
        }),
        release: (!roles.is_empty()).then(|| "kilo".parse().expect("a release")),
        dhcp_agent: roles.contains(&Role::Compute).then_some(DhcpAgent::Neutron),
        etcd: roles.contains(&Role::EtcdMember).then(|| Cow::Owned(only_member())),
        agent_version: Some("0.1.0".into()),
        trouble: None,
        observed_at: Some(at(60)),
        enrolled_at: Some(at(0)),
        declared: None,
        labels: Cow::default(),
    };
    let mut nodes: Vec<NodeStatus<'_>> = FLEET.iter().map(known).collect();
    nodes.push(NodeStatus {
        node: node("compute-4"),
        link: Link::Offline { since: at(0) },
        roles: Cow::default(),
        platform: None,
        versions: Cow::default(),
        release: None,
        dhcp_agent: None,
        etcd: None,
        agent_version: None,
        trouble: None,
        observed_at: None,
        enrolled_at: Some(at(0)),
        declared: None,
        labels: Cow::default(),
    });
    nodes
}

/// The fleet as it is declared: control-2 has not enrolled, compute-4 is not in it.
pub fn inventory() -> InventoryRecord {
    let text = "[nodes.etcd-1]\n[nodes.deploy-1]\nroles = []\n[nodes.control-1]\n[nodes.control-2]\nroles = [\"control\"]\n\
                [nodes.compute-1]\nroles = [\"compute\", \"etcd-proxy\"]\nlabels = { rack = \"r1\", zone = \"a\" }\n\
                [nodes.compute-2]\nlabels = { rack = \"r2\" }\n[nodes.compute-3]\nlabels = { rack = \"r2\" }\n";
    InventoryRecord {
        file: "fleet.toml".into(),
        text: text.into(),
        inventory: Inventory::parse("fleet.toml", text).expect("an inventory"),
        set_at: at(0),
        set_by: Actor("alice".into()),
    }
}

/// [`nodes`] beside [`inventory`].
pub fn declared_nodes() -> Vec<NodeStatus<'static>> {
    let declared = inventory().inventory.nodes;
    let mut nodes = nodes();
    let missing = NodeStatus { node: node("control-2"), enrolled_at: None, ..nodes[6].clone() };
    nodes.push(missing);
    for status in &mut nodes {
        status.declared = Some(declared.contains_key(&status.node));
        let labels = declared.get(&status.node).map(|known| known.labels.clone());
        status.labels = Cow::Owned(labels.unwrap_or_default());
    }
    nodes
}
